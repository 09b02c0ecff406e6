// Contracts as people write them, and every mistake named at once.
#include "contract/avro_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace alcedo::contract {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string mistakes(std::string_view json) {
  const auto schema = parse_avro_schema(json, "payment.avsc");
  return schema ? "" : schema.error().message;
}

TEST(AvroSchemaTest, ReadsFieldsInOrderWithTypes) {
  const auto schema =
      parse_avro_schema(R"({"type":"record","name":"Payment","namespace":"org.example","doc":"d","fields":[
    {"name":"payment_id","type":"string","aliases":["id"]},
    {"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"day","type":{"type":"int","logicalType":"date"}},
    {"name":"amount","type":"double","doc":"in major units"},
    {"name":"channel","type":{"type":"enum","name":"Channel","symbols":["POS","WEB"]},"default":"POS"},
    {"name":"fallback_channel","type":["null","Channel"],"default":null},
    {"name":"retries","type":["int","null"]},
    {"name":"seen_us","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"mixed","type":["null","long","string"]},
    {"name":"tags","type":{"type":"array","items":"string"}},
    {"name":"place","type":{"type":"record","name":"Place","fields":[{"name":"lat","type":"double"}]}},
    {"name":"last_place","type":["null","org.example.Place","Place"]}
  ]})",
                        "payment.avsc");
  ASSERT_TRUE(schema) << schema.error().message;
  EXPECT_EQ(schema->name, "Payment");
  EXPECT_THAT(schema->field_names(),
              ElementsAre("payment_id", "occurred_at", "day", "amount", "channel", "fallback_channel", "retries",
                          "seen_us", "mixed", "tags", "place", "last_place"));
  EXPECT_EQ(schema->find("payment_id")->types, kAvroString);
  EXPECT_TRUE(schema->find("payment_id")->required());
  EXPECT_TRUE(schema->find("payment_id")->textual());
  EXPECT_EQ(schema->find("occurred_at")->logical, AvroLogical::kTimestampMillis);
  EXPECT_EQ(schema->find("day")->logical, AvroLogical::kDate);
  EXPECT_TRUE(schema->find("amount")->numeric());
  EXPECT_FALSE(schema->find("amount")->textual());
  EXPECT_FALSE(schema->find("channel")->required());
  EXPECT_FALSE(schema->find("channel")->nullable());
  EXPECT_EQ(schema->find("channel")->type_text(), "enum (POS, WEB)");
  EXPECT_THAT(schema->find("fallback_channel")->symbols, ElementsAre("POS", "WEB"));
  EXPECT_EQ(schema->find("retries")->type_text(), "int or null");
  EXPECT_TRUE(schema->find("retries")->nullable());
  EXPECT_EQ(schema->find("seen_us")->logical, AvroLogical::kTimestampMicros);
  EXPECT_EQ(schema->find("mixed")->types, kAvroNull | kAvroLong | kAvroString);
  EXPECT_FALSE(schema->find("mixed")->numeric());
  EXPECT_EQ(schema->find("tags")->types, kAvroArray);
  EXPECT_EQ(schema->find("place")->types, kAvroObject);
  EXPECT_EQ(schema->find("missing"), nullptr);
}

TEST(AvroSchemaTest, ReportsAllMistakesAtOnce) {
  EXPECT_EQ(mistakes(R"({"type":"record","name":"9lives","fields":[
    {"name":"a","type":"strng"},
    {"type":"int"},
    {"name":"b"},
    {"name":"b","type":"int"},
    {"name":"c-d","type":"int"},
    {"name":"money","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"e","type":"enum"},
    {"name":"f","type":{"type":"enum","name":"F","symbols":[]}},
    {"name":"g","type":["null","int","int"]},
    {"name":"h","type":["null",["int"]]},
    {"name":"i","type":7},
    "j"
  ]})"),
            "payment.avsc: '9lives' is not an Avro name (letters, digits and '_', not first a digit)\n"
            "payment.avsc: fields[0] 'a': unknown type 'strng'; did you mean 'string'?\n"
            "payment.avsc: fields[1]: has no name\n"
            "payment.avsc: fields[2] 'b': has no type\n"
            "payment.avsc: fields[3] 'b': this name is taken by an earlier field\n"
            "payment.avsc: fields[4] 'c-d': is not an Avro name (letters, digits and '_', not first a digit)\n"
            "payment.avsc: fields[5] 'money': decimal on bytes or fixed has no plain JSON form; declare money as "
            "double or string\n"
            "payment.avsc: fields[6] 'e': type enum needs an object: {\"type\": \"enum\", …}\n"
            "payment.avsc: fields[7] 'f': an enum needs its list of symbols\n"
            "payment.avsc: fields[8] 'g': a type twice in one union\n"
            "payment.avsc: fields[9] 'h': a union directly inside a union\n"
            "payment.avsc: fields[10] 'i': a type is a name, an object or a list (a union)\n"
            "payment.avsc: fields[11]: expected an object with name and type");
}

TEST(AvroSchemaTest, NotARecord) {
  EXPECT_THAT(mistakes("[]"), HasSubstr("expected an Avro record schema"));
  EXPECT_THAT(mistakes(R"({"type":"enum","name":"E","symbols":["A"]})"), HasSubstr("expected an Avro record schema"));
  EXPECT_THAT(mistakes(R"({"type":"record","name":"R"})"), HasSubstr("no list of fields"));
  EXPECT_THAT(mistakes(R"({"type":"record","name":"R","fields":[]})"), HasSubstr("no fields"));
}

TEST(AvroSchemaTest, SyntaxErrorsHaveALine) {
  EXPECT_THAT(
      mistakes("{\"type\": \"record\",\n \"name\": \"R\",\n \"fields\": [{\"name\": \"a\" \"type\": \"int\"}]}"),
      HasSubstr("payment.avsc:3:"));
  EXPECT_THAT(mistakes("{\"type\": tru}"), HasSubstr("payment.avsc:1:"));
  EXPECT_THAT(mistakes(""), HasSubstr("payment.avsc:1:1: not valid JSON"));
}

TEST(AvroSchemaTest, DeepNestingIsRefusedNotFollowed) {
  std::string type = "\"int\"";
  for (int i = 0; i < 100; ++i) type = "{\"type\":" + type + "}";
  EXPECT_THAT(mistakes("{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":" + type + "}]}"),
              HasSubstr("nested deeper than 32"));
}

TEST(AvroSchemaTest, FilesThatCannotBeRead) {
  const auto absent = read_avro_schema("/no/such/payment.avsc");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(absent.error().message, HasSubstr("/no/such/payment.avsc"));
  const auto folder = read_avro_schema(std::filesystem::temp_directory_path().string());
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, HasSubstr("cannot read the contract"));
}

}  // namespace
}  // namespace alcedo::contract
