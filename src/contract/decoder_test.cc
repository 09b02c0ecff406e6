// The decoder's promises beside what a record becomes (tests/golden/contract): copies, threads, order, limits, and no
// crash ever.
#include "contract/decoder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "contract/decoder_invariants.h"
#include "contract/record_splitter.h"
#include "core/prng.h"

namespace alcedo::contract {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

const std::filesystem::path kGolden = std::filesystem::path(ALCEDO_SOURCE_DIR) / "tests/golden/contract";

KeyPart field(std::string name) { return {KeyPart::Kind::kField, std::move(name)}; }

EventsSpec card_events() {
  EventsSpec spec;
  spec.id_field = "id";
  spec.time.field = "t";
  spec.keys = {{"card", {field("card")}}, {"pair", {field("card"), field("shop")}}};
  spec.numbers = {{"amount", false}, {"lat", false}};
  return spec;
}

Decoder opened(const EventsSpec& spec, const PartitionInfo& info = {}) {
  auto decoder = Decoder::create(spec, {7});
  EXPECT_TRUE(decoder) << decoder.error().message;
  const auto partition = decoder->open_partition(0, info);
  EXPECT_TRUE(partition) << partition.error().message;
  return std::move(*decoder);
}

struct One {
  Decoded decoded;
  EventBatch batch;
};

One decode_one(const Decoder& decoder, std::string_view bytes, RawRecord record = {}) {
  One one{{}, EventBatch(decoder.layout())};
  RawBatch raw;
  raw.append(bytes, record);
  raw.pad();
  Decoder::Scratch scratch;
  one.batch.reset(decoder.events_per_record_max(), 1);
  one.decoded = decoder.decode(raw, 0, one.batch, 0, 0, scratch);
  return one;
}

TEST(DecoderTest, CopiesWhatTheRecordCarriesBesideItsBytes) {
  const Decoder decoder = opened(card_events());
  RawRecord record;
  record.offset = 41;
  record.arrival_ms = 1'700'000'000'500;
  record.due_ns = 77;
  record.label = 5;
  const One one = decode_one(decoder, R"({"id":"x","t":1700000000,"card":"c"})", record);
  ASSERT_EQ(one.decoded.events, 1U);
  const EventHeader& header = one.batch.header(0);
  EXPECT_EQ(header.offset, 41);
  EXPECT_EQ(header.arrival_ms, 1'700'000'000'500);
  EXPECT_EQ(header.due_ns, 77);
  EXPECT_EQ(header.label, 5);
  EXPECT_EQ(header.partition, 0);
  EXPECT_EQ(header.id_hash, hash64("x"));
  EXPECT_EQ(header.flags, 0);
}

TEST(DecoderTest, EventsOutliveTheirBytes) {
  // One of each kind of text: plain, escaped, a number, private, the file's name, a composed key.
  EventsSpec spec = card_events();
  spec.private_fields = {"shop"};
  spec.keys.push_back({"file", {{KeyPart::Kind::kFileName, ""}}});
  spec.keys.push_back({"number", {field("n")}});
  PartitionInfo info;
  info.file = "payments";
  const Decoder decoder = opened(spec, info);
  EventBatch batch(decoder.layout());
  batch.reset(2, 1);
  {
    RawBatch raw;
    raw.append(R"({"id":"a\u0041","t":1700000000,"card":"c1","shop":"s1","n":12})", {});
    raw.append(R"({"id":"b","t":1700000000,"card":"c2","shop":"s2","n":13.50})", {});
    raw.pad();
    Decoder::Scratch scratch;
    ASSERT_EQ(decoder.decode(raw, 0, batch, 0, 0, scratch).events, 1U);
    ASSERT_EQ(decoder.decode(raw, 1, batch, 1, 0, scratch).events, 1U);
  }
  EXPECT_EQ(batch.header(0).id, "aA");
  EXPECT_EQ(batch.key(0, 0).text, "c1");
  EXPECT_EQ(batch.key(0, 1).text.substr(0, 5), "c1|h:");
  EXPECT_EQ(batch.key(0, 2).text, "payments");
  EXPECT_EQ(batch.key(0, 3).text, "12");
  EXPECT_EQ(batch.key(1, 3).text, "13.5");
  EXPECT_NE(batch.key(0, 1).text, batch.key(1, 1).text);
}

TEST(DecoderTest, PrivateValuesNeverAppear) {
  EventsSpec spec = card_events();
  spec.private_fields = {"card", "id"};
  const auto text_of = [&](std::uint8_t secret) {
    auto decoder = Decoder::create(spec, {secret});
    EXPECT_TRUE(decoder && decoder->open_partition(0, {}));
    const One one = decode_one(*decoder, R"({"id":"4111111111111111","t":1,"card":"4111111111111111","shop":"s"})");
    EXPECT_EQ(one.batch.header(0).id, one.batch.key(0, 0).text);  // the same value joins as id and as key
    return std::string(one.batch.key(0, 1).text);
  };
  EXPECT_NE(text_of(1), text_of(2));
  EXPECT_EQ(text_of(1), text_of(1));
  EXPECT_THAT(text_of(1), ::testing::MatchesRegex("h:[0-9a-f]{32}\\|s"));
  const Decoder decoder = opened(spec);
  EXPECT_THAT(decode_one(decoder, R"({"id":["4111111111111111"],"t":1,"card":"c"})").decoded.message,
              Not(HasSubstr("4111")));
}

TEST(DecoderTest, OrderOfFieldsDoesNotMatter) {
  const std::vector<std::string> fields{R"("id":"e\"1")",         R"("t":1700000000.25)", R"("card":"c1")",
                                        R"("shop":77)",           R"("amount":0.1)",      R"("lat":-1.5e1)",
                                        R"("extra":{"id":"no"})", R"("more":["t",1])"};
  const Decoder decoder = opened(card_events());
  Decoder::Scratch scratch;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Prng random(seed);
    auto shuffled = fields;
    for (std::size_t i = shuffled.size(); i > 1; --i) std::swap(shuffled[i - 1], shuffled[random.below(i)]);
    const std::string gap(random.below(3), ' ');
    RawBatch raw;
    raw.append(fmt::format("{{{}{}{}}}", gap, fmt::join(shuffled, "," + gap), gap), {});
    raw.pad();
    EventBatch batch(decoder.layout());
    batch.reset(1, 1);
    const Decoded decoded = decoder.decode(raw, 0, batch, 0, 0, scratch);
    ASSERT_EQ(decoded.events, 1U) << raw.bytes(0) << ": " << decoded.message;
    ASSERT_EQ(batch.header(0).id, "e\"1");
    ASSERT_EQ(batch.header(0).time_ms, 1'700'000'000'250);
    ASSERT_EQ(batch.key(0, 1).text, "c1|77");
    ASSERT_EQ(batch.number(0, 0), 0.1);
    ASSERT_EQ(batch.number(0, 1), -15.0);
  }
}

TEST(DecoderTest, RecordsBeyondTheLimitAreRefusedByTheirSize) {
  const Decoder decoder = opened(card_events());
  const std::string head = R"({"id":"x","t":1,"card":"c","pad":")";
  const auto of_size = [&](std::size_t bytes) { return head + std::string(bytes - head.size() - 2, '.') + "\"}"; };
  EXPECT_EQ(decode_one(decoder, of_size(Decoder::kRecordBytesMax - 1)).decoded.events, 1U);
  EXPECT_EQ(decode_one(decoder, of_size(Decoder::kRecordBytesMax)).decoded.reject, Reject::kTooLong);
  EXPECT_EQ(decode_one(decoder, std::string(10 << 20, 'x')).decoded.reject, Reject::kTooLong);
}

TEST(DecoderTest, DeepNestingIsRefused) {
  const Decoder decoder = opened(card_events());
  const auto nested = [](std::size_t depth) {
    return R"({"id":"x","t":1,"deep":)" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_EQ(decode_one(decoder, nested(100)).decoded.reject, Reject::kNone);
  const One refused = decode_one(decoder, nested(100'000));
  EXPECT_EQ(refused.decoded.reject, Reject::kMalformed);
  EXPECT_THAT(refused.decoded.message, HasSubstr("nested deeper than 128"));
}

TEST(DecoderTest, PartitionsHaveTheirOwnColumns) {
  EventsSpec spec;
  spec.shape = Shape::kWide;
  spec.time.field = "t";
  spec.numbers = {{"value", false}};
  spec.keys = {{"series", {{KeyPart::Kind::kFileName, ""}, {KeyPart::Kind::kMetric, ""}}}};
  auto decoder = Decoder::create(spec, {});
  ASSERT_TRUE(decoder) << decoder.error().message;
  ASSERT_TRUE(decoder->open_partition(0, {"one", Format::kCsv, {"t", "a"}}));
  EXPECT_EQ(decoder->events_per_record_max(), 1U);
  ASSERT_TRUE(decoder->open_partition(3, {"three", Format::kCsv, {"x", "y", "t", "z"}}));
  EXPECT_EQ(decoder->events_per_record_max(), 3U);
  RawRecord record;
  record.partition = 3;
  const One one = decode_one(*decoder, "1,2,1700000000,3", record);
  ASSERT_EQ(one.decoded.events, 3U);
  EXPECT_EQ(one.batch.key(2, 0).text, "three|z");
  EXPECT_EQ(one.batch.header(2).part, 2U);
  EXPECT_EQ(one.batch.header(2).id, "three:0");
  EXPECT_EQ(decode_one(*decoder, "1700000000,3").decoded.events, 1U);
}

TEST(DecoderTest, PartsOfAWideRecordAreNotDuplicatesOfEachOther) {
  EventsSpec spec;
  spec.shape = Shape::kWide;
  spec.time.field = "t";
  spec.id_field = "id";
  const Decoder decoder = opened(spec, {"", Format::kCsv, {"id", "t", "a", "b"}});
  const One one = decode_one(decoder, "r1,1,5,6");
  ASSERT_EQ(one.decoded.events, 2U);
  EXPECT_EQ(one.batch.header(0).id, one.batch.header(1).id);
  EXPECT_NE(one.batch.header(0).id_hash, one.batch.header(1).id_hash);
}

TEST(DecoderTest, RowsBeyondTimeAreRefused) {
  EventsSpec spec;
  spec.time.unit = TimeUnit::kRow;
  spec.time.step_ms = 60'000;
  const Decoder decoder = opened(spec, {"", Format::kCsv, {"a"}});
  RawRecord record;
  record.offset = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(decode_one(decoder, "1", record).decoded.reject, Reject::kBadTime);
}

TEST(DecoderTest, ThreadsDecodeTogether) {
  EventsSpec spec = card_events();
  spec.label_field = "bad";
  spec.label_type_field = "type";
  const Decoder decoder = opened(spec);
  constexpr std::size_t kThreads = 4, kEach = 500;
  RawBatch raw;
  for (std::size_t i = 0; i < kThreads * kEach; ++i) {
    raw.append(fmt::format(R"({{"id":"e{}","t":{},"card":"c{}","bad":{},"type":"type{}"}})", i, i, i % 7, i % 3, i % 5),
               {});
  }
  raw.pad();
  EventBatch batch(decoder.layout());
  batch.reset(raw.size(), kThreads);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Decoder::Scratch scratch;
      for (std::size_t i = t; i < raw.size(); i += kThreads)
        CHECK(decoder.decode(raw, i, batch, i, t, scratch).events == 1);
    });
  }
  for (auto& thread : threads) thread.join();
  const auto types = decoder.label_types();
  EXPECT_THAT(types, UnorderedElementsAre("type0", "type1", "type2", "type3", "type4"));
  for (std::size_t i = 0; i < raw.size(); ++i) {
    ASSERT_EQ(batch.header(i).id, fmt::format("e{}", i));
    ASSERT_EQ(batch.key(i, 0).text, fmt::format("c{}", i % 7));
    if (i % 3 == 0) {
      ASSERT_EQ(batch.header(i).label, kNormal);
    } else {
      ASSERT_EQ(types.at(batch.header(i).label - kFirstLabelType), fmt::format("type{}", i % 5));
    }
  }
}

TEST(DecoderTest, RandomCsvReadsBack) {
  const Decoder decoder = opened(card_events(), {"", Format::kCsv, {"t", "lat", "shop", "id", "amount", "card"}});
  constexpr std::string_view kAlphabet = "ab ,;\"\n\xC3\xA9|\\";
  Decoder::Scratch scratch;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    Prng random(seed);
    const auto text = [&] {
      std::string made;
      for (std::uint64_t i = 1 + random.below(6); i > 0; --i) {
        const std::size_t at = random.below(kAlphabet.size() - 1);
        made += kAlphabet[at] == '\xC3' || kAlphabet[at] == '\xA9' ? "\xC3\xA9" : std::string(1, kAlphabet[at]);
      }
      return made;
    };
    const auto quoted = [](const std::string& plain) {
      std::string cell = "\"";
      for (const char c : plain) cell += c == '"' ? "\"\"" : std::string(1, c);
      return cell + "\"";
    };
    const std::string id = text(), card = text(), shop = text();
    const double amount = random.normal() * std::pow(10.0, static_cast<double>(random.below(40)) - 20.0);
    RawBatch raw;
    raw.append(fmt::format("1700000000,,{},{},{},{}", quoted(shop), quoted(id), amount, quoted(card)), {});
    raw.pad();
    EventBatch batch(decoder.layout());
    batch.reset(1, 1);
    const Decoded decoded = decoder.decode(raw, 0, batch, 0, 0, scratch);
    ASSERT_EQ(decoded.events, 1U) << raw.bytes(0) << ": " << decoded.message;
    ASSERT_EQ(batch.header(0).id, id);
    ASSERT_EQ(batch.key(0, 0).text, card);
    ASSERT_EQ(batch.number(0, 0), amount) << raw.bytes(0);
    ASSERT_TRUE(std::isnan(batch.number(0, 1)));
  }
}

TEST(DecoderTest, ContractThatIsNotThere) {
  EventsSpec spec = card_events();
  spec.contract_path = "/no/such/contract.avsc";
  const auto decoder = Decoder::create(spec, {});
  ASSERT_FALSE(decoder);
  EXPECT_EQ(decoder.error().code, ErrorCode::kNotFound);
}

TEST(DecoderTest, CorpusOfTheFuzzer) {
  DecoderInvariants invariants;
  std::size_t inputs = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(ALCEDO_SOURCE_DIR) / "tests/fuzz_corpus/decoder")) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::stringstream bytes;
    bytes << file.rdbuf();
    invariants.check(bytes.str());
    ++inputs;
  }
  EXPECT_GT(inputs, 10U);
}

TEST(DecoderTest, MutatedRecordsNeverBreakIt) {
  const std::vector<std::string> good{
      R"({"id":"e1","t":1700000000123,"a":12.50,"c":"EUR","k":"key|\\","v":-1.5e3,"m":"y_total","b":true,"label":0})",
      R"({"id":"caf\u00e9","t":"2023-11-14T22:13:20Z","k":77,"v":0,"x":{"y":[1,"]",null]},"b":null})",
      "e1 [1700000000123] 12.50 EUR/key|-1.5 true 0: took 7 ms at 10.0.0.1",
      "e1,1700000000123,12.50,EUR,\"a \"\"key\"\"\",-1.5e3,y_total,true,0\n\"e2\",1700000000,,,\"k\nk\",1,x,,1"};
  constexpr std::string_view kBytes = "{}[]\",:\\0123456789.-+eEtfnu \t\n\r\xC3\xA9\xFF\x00x|";
  DecoderInvariants invariants;
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    Prng random(seed);
    std::string bytes = good[random.below(good.size())];
    for (std::uint64_t edits = random.below(4); edits > 0; --edits) {
      const std::size_t at = random.below(bytes.size() + 1);
      switch (random.below(4)) {
        case 0:
          bytes.insert(at, 1, kBytes[random.below(kBytes.size())]);
          break;
        case 1:
          bytes.erase(at, 1 + random.below(3));
          break;
        case 2:
          bytes.insert(at, bytes.substr(random.below(bytes.size() + 1), random.below(20)));
          break;
        default:
          if (at < bytes.size()) bytes[at] = static_cast<char>(random.below(256));
      }
    }
    const bool text = bytes.find(" [") != std::string::npos;
    invariants.check(
        (text ? DecoderInvariants::kTextFirst : static_cast<char>(random.below(DecoderInvariants::kChoices))) + bytes);
  }
}

}  // namespace
}  // namespace alcedo::contract
