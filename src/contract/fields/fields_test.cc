// Tables of single values: numbers, money, times, metric patterns, labels, key parts.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "contract/fields/key_composer.h"
#include "contract/fields/label_types.h"
#include "contract/fields/money.h"
#include "contract/fields/name_pattern.h"
#include "contract/fields/name_table.h"
#include "contract/fields/number_text.h"
#include "contract/fields/place_cell.h"
#include "contract/fields/time_reader.h"
#include "core/prng.h"
#include "core/time.h"

namespace alcedo::contract {
namespace {

using ::testing::HasSubstr;

TEST(NumberTextTest, JsonGrammar) {
  NumberText number;
  for (const char* good : {"0", "-0", "1", "10", "0.5", "-1.25e-3", "1E+5", "1e05", "123456789012345678901234567890"}) {
    EXPECT_TRUE(scan_json_number(good, number)) << good;
  }
  for (const char* bad : {"",   "-",  "+1",   "01",    "-01", ".5",       "5.",  "1.e5", "1e",    "1e+",
                          "1 ", " 1", "0x10", "1_000", "NaN", "Infinity", "1,5", "--1",  "1.2.3", "1e5.5"}) {
    EXPECT_FALSE(scan_json_number(bad, number)) << bad;
  }
}

TEST(NumberTextTest, CsvIsMoreLenient) {
  const std::pair<const char*, double> good[] = {{"+5", 5}, {"007", 7},       {".5", 0.5},
                                                 {"5.", 5}, {" 1e3\t", 1000}, {"-.5e-1", -0.05}};
  NumberText number;
  for (const auto& [text, value] : good) {
    ASSERT_TRUE(scan_csv_number(text, number)) << text;
    EXPECT_EQ(to_double(number, text), value) << text;
  }
  for (const char* bad : {"", " ", ".", "+", "1,5", "1 000", "nan", "inf", "0x1p3", "e5", "1e"}) {
    EXPECT_FALSE(scan_csv_number(bad, number)) << bad;
  }
}

TEST(NumberTextTest, NotFiniteTexts) {
  for (const char* text : {"nan", "NaN", " inf", "-Infinity", "+INF"}) EXPECT_TRUE(is_not_finite_text(text)) << text;
  for (const char* text : {"", "none", "infinite", "na", "-"}) EXPECT_FALSE(is_not_finite_text(text)) << text;
}

TEST(NumberTextTest, DoublesAreThoseOfTheStandardLibrary) {
  NumberText number;
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    Prng random(seed);
    std::string text = random.below(2) == 0 ? "-" : "";
    text += fmt::format("{}", 1 + random.below(9));
    for (std::uint64_t i = random.below(random.below(4) == 0 ? 30 : 15); i > 0; --i)
      text += static_cast<char>('0' + random.below(10));
    if (random.below(2) == 0) {
      text += '.';
      for (std::uint64_t i = 1 + random.below(20); i > 0; --i) text += static_cast<char>('0' + random.below(10));
    }
    if (random.below(3) == 0) text += fmt::format("e{}", static_cast<int>(random.below(700)) - 350);
    ASSERT_TRUE(scan_json_number(text, number)) << text;
    ASSERT_EQ(to_double(number, text), std::strtod(text.c_str(), nullptr)) << text;
  }
  const std::pair<const char*, double> edges[] = {{"1e999", HUGE_VAL},
                                                  {"-1e999", -HUGE_VAL},
                                                  {"1e-999", 0},
                                                  {"0e999", 0},
                                                  {"1e99999999999", HUGE_VAL},
                                                  {"4.9e-324", 4.9e-324},
                                                  {"1.7976931348623157e308", std::numeric_limits<double>::max()},
                                                  {"9007199254740993", 9007199254740992.0},
                                                  {"0.1", 0.1}};
  for (const auto& [text, value] : edges) {
    ASSERT_TRUE(scan_json_number(text, number));
    EXPECT_EQ(to_double(number, text), value) << text;
  }
}

TEST(NumberTextTest, ScalesExactly) {
  struct Case {
    const char* text;
    int power;
    std::int64_t value;
    ScaleFault fault;
  };
  const Case cases[] = {{"12.50", 2, 1250, ScaleFault::kNone},
                        {"12.505", 2, 1250, ScaleFault::kInexact},
                        {"-12.505", 2, -1251, ScaleFault::kInexact},
                        {"1e3", 0, 1000, ScaleFault::kNone},
                        {"1.000000000000000000000000", 0, 1, ScaleFault::kNone},
                        {"1.000000000000000000000001", 0, 1, ScaleFault::kInexact},
                        {"9223372036854775807", 0, 9223372036854775807, ScaleFault::kNone},
                        {"-9223372036854775808", 0, std::numeric_limits<std::int64_t>::min(), ScaleFault::kNone},
                        {"9223372036854775808", 0, 0, ScaleFault::kOutOfRange},
                        {"1e30", 0, 0, ScaleFault::kOutOfRange},
                        {"0e30", 5, 0, ScaleFault::kNone},
                        {"-1e-30", 0, -1, ScaleFault::kInexact},
                        {"1e-30", 0, 0, ScaleFault::kInexact},
                        {"1e-30", 30, 1, ScaleFault::kNone},
                        {"10000000000000000000000", -22, 1, ScaleFault::kNone}};
  for (const Case& c : cases) {
    NumberText number;
    ASSERT_TRUE(scan_json_number(c.text, number)) << c.text;
    const Scaled scaled = scale(number, c.power);
    EXPECT_EQ(scaled.value, c.value) << c.text;
    EXPECT_EQ(scaled.fault, c.fault) << c.text;
  }
}

TEST(MoneyTest, MinorUnitsByCurrency) {
  struct Case {
    const char* amount;
    const char* currency;
    Reject reject;
    double units;
  };
  const Case cases[] = {{"12.5", "EUR", Reject::kNone, 1250},
                        {"0.29", "USD", Reject::kNone, 29},  // 0.29 * 100 in doubles is 28.999999999999996
                        {"1.15", "USD", Reject::kNone, 115},
                        {"100", "JPY", Reject::kNone, 100},
                        {"100.00", "JPY", Reject::kNone, 100},
                        {"100.5", "JPY", Reject::kBadMoney, 0},
                        {"1.234", "KWD", Reject::kNone, 1234},
                        {"1.2345", "KWD", Reject::kBadMoney, 0},
                        {"1.2345", "CLF", Reject::kNone, 12345},
                        {"-7.01", "CHF", Reject::kNone, -701},
                        {"1.239", "XYZ", Reject::kBadMoney, 0},
                        {"1", "eur", Reject::kBadMoney, 0},
                        {"1", "", Reject::kBadMoney, 0},
                        {"1", "EURO", Reject::kBadMoney, 0},
                        {"90071992547409.91", "EUR", Reject::kNone, 9007199254740991},
                        {"90071992547409.92", "EUR", Reject::kOutOfRange, 0},
                        {"-1e300", "EUR", Reject::kOutOfRange, 0}};
  for (const Case& c : cases) {
    NumberText amount;
    ASSERT_TRUE(scan_json_number(c.amount, amount));
    double units = 0;
    EXPECT_EQ(read_money(amount, c.currency, units), c.reject) << c.amount << " " << c.currency;
    EXPECT_EQ(units, c.units) << c.amount << " " << c.currency;
  }
}

TEST(MoneyTest, EveryCentSurvives) {
  for (std::int64_t cents = 0; cents < 200'000; cents += 7) {
    NumberText amount;
    ASSERT_TRUE(scan_json_number(fmt::format("{}.{:02}", cents / 100, cents % 100), amount));
    double units = 0;
    ASSERT_EQ(read_money(amount, "EUR", units), Reject::kNone);
    ASSERT_EQ(units, static_cast<double>(cents));
  }
}

FieldValue text_value(std::string_view text) { return {ValueKind::kText, text, {}}; }
FieldValue number_value(std::string_view text) {
  FieldValue value{ValueKind::kNumber, text, {}};
  EXPECT_TRUE(scan_json_number(text, value.number)) << text;
  return value;
}

std::string time_text(const TimeSpec& spec, const FieldValue& value, AvroLogical logical = AvroLogical::kNone) {
  const auto reader = TimeReader::create(spec, logical);
  if (!reader) return reader.error().message;
  const auto time_ms = reader->read(value);
  return time_ms ? format_iso_time(*time_ms) : "refused";
}

TEST(TimeReaderTest, IsoAndMagnitudes) {
  const TimeSpec iso;
  const std::pair<const char*, const char*> texts[] = {{"2023-11-14T22:13:20.123456Z", "2023-11-14T22:13:20.123Z"},
                                                       {"2023-11-14 22:13:20", "2023-11-14T22:13:20.000Z"},
                                                       {"2023-11-14T22:13+02:00", "2023-11-14T20:13:00.000Z"},
                                                       {" 2023-11-14 ", "2023-11-14T00:00:00.000Z"},
                                                       {"1700000000", "2023-11-14T22:13:20.000Z"},
                                                       {"0001-01-01", "0001-01-01T00:00:00.000Z"},
                                                       {"0000-12-31", "refused"},
                                                       {"9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"},
                                                       {"9999-12-31T23:59:59-01:00", "refused"},
                                                       {"2023-11-31", "refused"},
                                                       {"14/11/2023", "refused"},
                                                       {"soon", "refused"},
                                                       {"", "refused"}};
  for (const auto& [text, expected] : texts) EXPECT_EQ(time_text(iso, text_value(text)), expected) << text;
  const std::pair<const char*, const char*> numbers[] = {{"0", "1970-01-01T00:00:00.000Z"},
                                                         {"-1", "1969-12-31T23:59:59.000Z"},
                                                         {"4102444800", "2100-01-01T00:00:00.000Z"},
                                                         {"1700000000.9999", "2023-11-14T22:13:20.999Z"},
                                                         {"1.7e9", "2023-11-14T22:13:20.000Z"},
                                                         {"99999999999", "5138-11-16T09:46:39.000Z"},
                                                         {"100000000000", "1973-03-03T09:46:40.000Z"},
                                                         {"1700000000123", "2023-11-14T22:13:20.123Z"},
                                                         {"1700000000123456", "2023-11-14T22:13:20.123Z"},
                                                         {"1700000000123456789", "2023-11-14T22:13:20.123Z"},
                                                         {"1e30", "refused"}};
  for (const auto& [text, expected] : numbers) EXPECT_EQ(time_text(iso, number_value(text)), expected) << text;
  EXPECT_EQ(time_text(iso, {ValueKind::kTrue, {}, {}}), "refused");
}

TEST(TimeReaderTest, UnitsEpochsAndLogicalTypes) {
  EXPECT_EQ(time_text({"t", TimeUnit::kSeconds, "", 0, 0}, number_value("1700000000123")),
            "refused");  // the year 55841
  EXPECT_EQ(time_text({"t", TimeUnit::kSeconds, "", 0, 0}, number_value("1700000000")), "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(time_text({"t", TimeUnit::kMilliseconds, "", 0, 0}, number_value("1700000000")),
            "1970-01-20T16:13:20.000Z");
  EXPECT_EQ(time_text({"t", TimeUnit::kMicroseconds, "", 0, 0}, text_value("1700000000123456")),
            "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(time_text({"t", TimeUnit::kNanoseconds, "", 0, 0}, number_value("1700000000123456789")),
            "2023-11-14T22:13:20.123Z");
  // Seconds since another epoch, such as the first day of a data set.
  EXPECT_EQ(time_text({"t", TimeUnit::kSeconds, "", 1'522'540'800'000, 0}, number_value("90.5")),
            "2018-04-01T00:01:30.500Z");
  EXPECT_EQ(time_text({}, number_value("1700000000"), AvroLogical::kTimestampMillis), "1970-01-20T16:13:20.000Z");
  EXPECT_EQ(time_text({}, number_value("1700000000123456"), AvroLogical::kTimestampMicros), "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(time_text({}, number_value("19675"), AvroLogical::kDate), "2023-11-14T00:00:00.000Z");
  EXPECT_EQ(time_text({}, number_value("99999999"), AvroLogical::kDate), "refused");
}

TEST(TimeReaderTest, Formats) {
  struct Case {
    const char* format;
    const char* text;
    const char* expected;
  };
  const Case cases[] = {{"%y%m%d %H%M%S", "081109 203615", "2008-11-09T20:36:15.000Z"},
                        {"%y%m%d", "690101", "1969-01-01T00:00:00.000Z"},
                        {"%Y%m%d%H%M%S%f", "20231114221320123", "2023-11-14T22:13:20.123Z"},
                        {"%b %d %Y %H:%M:%S", "Nov  4 2023 22:13:20", "2023-11-04T22:13:20.000Z"},
                        {"%m/%d/%Y %I:%M %p", "2/29/2024 12:05 am", "2024-02-29T00:05:00.000Z"},
                        {"%m/%d/%Y %I:%M %p", "2/29/2023 12:05 am", "refused"},
                        {"%m/%d/%Y %I:%M %p", "2/28/2023 12:05 PM", "2023-02-28T12:05:00.000Z"},
                        {"%Y-%j", "2024-366", "2024-12-31T00:00:00.000Z"},
                        {"%Y-%j", "2023-366", "refused"},
                        {"%Y-%m-%dT%H:%M:%S%z", "2023-11-14T22:13:20-0530", "2023-11-15T03:43:20.000Z"},
                        {"%Y-%m-%dT%H:%M:%S%z", "2023-11-14T22:13:20+02", "2023-11-14T20:13:20.000Z"},
                        {"%Y-%m-%dT%H:%M:%S%z", "2023-11-14T22:13:20", "refused"},
                        {"%d.%m.%Y 100%%", "14.11.2023 100%", "2023-11-14T00:00:00.000Z"},
                        {"%d.%m.%Y", "14.11.2023x", "refused"},
                        {"%d.%m.%Y", "0.11.2023", "refused"},
                        {"%d.%m.%Y", "14.13.2023", "refused"}};
  for (const Case& c : cases) {
    EXPECT_EQ(time_text({"t", TimeUnit::kFormat, c.format, 0, 0}, text_value(c.text)), c.expected)
        << c.format << " " << c.text;
  }
  EXPECT_EQ(time_text({"t", TimeUnit::kFormat, "%Y%m%d", 0, 0}, number_value("20231114")), "2023-11-14T00:00:00.000Z");
  EXPECT_THAT(time_text({"t", TimeUnit::kFormat, "%Y-%m-%d %Q", 0, 0}, text_value("")),
              HasSubstr("'%Q', which is not known"));
  EXPECT_THAT(time_text({"t", TimeUnit::kFormat, "%b %d %H:%M:%S", 0, 0}, text_value("")),
              HasSubstr("gives no full date"));
  EXPECT_THAT(time_text({"t", TimeUnit::kFormat, "%Y-%m-%d %I", 0, 0}, text_value("")),
              HasSubstr("%I and %p together"));
  EXPECT_THAT(time_text({"t", TimeUnit::kFormat, "%Y-%m-%", 0, 0}, text_value("")), HasSubstr("not known"));
}

TEST(TimeReaderTest, WhatItWritesItReads) {
  const auto reader = TimeReader::create({});
  const auto formatted = TimeReader::create({"t", TimeUnit::kFormat, "%Y-%m-%dT%H:%M:%S.%f%z", 0, 0});
  ASSERT_TRUE(reader && formatted);
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    Prng random(seed);
    const std::int64_t time_ms = static_cast<std::int64_t>(random.below(315'537'897'599'999)) - 62'135'596'800'000;
    const std::string text = format_iso_time(time_ms);
    ASSERT_EQ(reader->read(text_value(text)), time_ms) << text;
    ASSERT_EQ(formatted->read(text_value(text)), time_ms) << text;
  }
}

TEST(TimeReaderTest, Rows) {
  const auto reader = TimeReader::create({"", TimeUnit::kRow, "", 1'000, 60'000});
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->read_row(0), 1'000);
  EXPECT_EQ(reader->read_row(3), 181'000);
  EXPECT_EQ(reader->read_row(std::numeric_limits<std::int64_t>::max()), std::nullopt);
  EXPECT_FALSE(TimeReader::create({"", TimeUnit::kRow, "", 0, 0}));
}

TEST(NamePatternTest, StarsAndQuestionMarks) {
  const std::pair<const char*, const char*> matches[] = {
      {"*_total", "node_cpu_total"}, {"*", ""}, {"*", "x"},   {"a?c", "abc"},
      {"a*b*c", "aXbXbXc"},          {"", ""},  {"**x", "x"}, {"*a*", "banana"}};
  const std::pair<const char*, const char*> others[] = {
      {"*_total", "node_total_cpu"}, {"", "x"}, {"a?c", "ac"}, {"abc", "ab"}, {"a*b", "aXbX"}, {"?", ""}};
  for (const auto& [pattern, name] : matches) EXPECT_TRUE(matches_pattern(pattern, name)) << pattern << " " << name;
  for (const auto& [pattern, name] : others) EXPECT_FALSE(matches_pattern(pattern, name)) << pattern << " " << name;
}

TEST(LabelTypesTest, NumbersNamesOnceAndFoldsTooMany) {
  LabelTypes types;
  EXPECT_EQ(types.label_of("a"), kFirstLabelType);
  EXPECT_EQ(types.label_of("b"), kFirstLabelType + 1);
  EXPECT_EQ(types.label_of("a"), kFirstLabelType);
  for (int i = 0; i < 5000; ++i) types.label_of(fmt::format("type {}", i));
  EXPECT_EQ(types.names().size(), LabelTypes::kTypesMax);
  EXPECT_EQ(types.names().back(), "other");
  EXPECT_EQ(types.label_of("one more"), types.label_of("other"));
  EXPECT_EQ(types.label_of("b"), kFirstLabelType + 1);
}

TEST(LabelTypesTest, WhatSaysNormal) {
  for (const char* value : {"", "0", "0.0", "false", "FALSE", "No", "normal", "-0"})
    EXPECT_TRUE(says_normal(value)) << value;
  for (const char* value : {"1", "true", "yes", "attack", "0x", "none", "nan"})
    EXPECT_FALSE(says_normal(value)) << value;
}

TEST(KeyComposerTest, DifferentPartsNeverMakeTheSameKey) {
  const ComposedKey key{
      {{ComposedKey::From::kField, 0, ""}, {ComposedKey::From::kField, 1, ""}, {ComposedKey::From::kField, 2, ""}}};
  std::vector<std::string> all{""};
  for (std::size_t from = 0, size = 0; size < 3; ++size) {
    const std::size_t to = all.size();
    for (; from < to; ++from) {
      for (const char c : {'a', '|', '\\'}) all.push_back(all[from] + c);
    }
  }
  std::vector<std::string> made;
  TextArena arena;
  for (const auto& a : all) {
    for (const auto& b : {all[0], all[1], all[2], all[3], all[7]}) {
      for (const auto& c : all) {
        const PartText fields[] = {{a, true}, {b, true}, {c, true}};
        Key composed;
        compose_key(key, {fields, {}, {}}, arena, composed);
        made.emplace_back(composed.text);
      }
    }
  }
  std::sort(made.begin(), made.end());
  EXPECT_EQ(std::adjacent_find(made.begin(), made.end()), made.end());
}

TEST(KeyComposerTest, APartIsFoundAndReadBackInAComposedKey) {
  const std::vector<std::string> parts{"a", "", "b|c", "\\", "x\\|", "last"};
  std::string key;
  for (const std::string& part : parts) key += (&part == parts.data() ? "" : "|") + escape_key_part(part);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto [begin, end] = find_key_part(key, i);
    std::string part;
    unescape_key_part(std::string_view(key).substr(begin, end - begin), part);
    EXPECT_EQ(part, parts[i]) << i << " in " << key;
  }
}

TEST(KeyComposerTest, MissingPartsAndEmptyParts) {
  const ComposedKey key{
      {{ComposedKey::From::kField, 0, ""}, {ComposedKey::From::kFile, 0, ""}, {ComposedKey::From::kConstant, 0, "x"}}};
  TextArena arena;
  const auto compose = [&](PartText field, PartText file) {
    Key composed{1, "old", 1};
    compose_key(key, {{&field, 1}, file, {}}, arena, composed);
    return composed;
  };
  EXPECT_EQ(compose({"", true}, {"f", true}).text, "|f|x");
  EXPECT_EQ(compose({}, {"f", true}).hash, 0U);
  EXPECT_EQ(compose({"a", true}, {}).hash, 0U);
  EXPECT_EQ(compose({"a", true}, {}).text, "");
}

std::string cell(double latitude, double longitude) {
  char buffer[kCellTextBytes];
  return std::string(place_cell(latitude, longitude, buffer));
}

TEST(PlaceCellTest, IsNamedByItsSouthWestCorner) {
  EXPECT_EQ(cell(51.5074, -0.1278), "51.5,-0.24");
  EXPECT_EQ(cell(40.7128, -74.0060), "40.7,-74.13");
  EXPECT_EQ(cell(0, 0), "0.0,0.00");
  EXPECT_EQ(cell(-0.0, 0), cell(0, 0));
  EXPECT_EQ(cell(-0.05, 0), "-0.1,0.00");
  EXPECT_EQ(cell(90, 12), cell(89.95, 12));
  EXPECT_EQ(cell(10, 180), cell(10, -180));
  for (const double off : {90.001, -91.0, std::numeric_limits<double>::quiet_NaN()}) EXPECT_EQ(cell(off, 0), "");
  EXPECT_EQ(cell(0, 180.5), "");
}

// Every place lies in the cell that its name begins, and no two cells of a band share a name.
TEST(PlaceCellTest, CellsAreOfTheStatedSize) {
  Prng random(5);
  for (int i = 0; i < 100'000; ++i) {
    const double latitude = 180 * random.uniform() - 90;
    const double longitude = 360 * random.uniform() - 180;
    const std::string name = cell(latitude, longitude);
    const double south = std::strtod(name.c_str(), nullptr);
    const double west = std::strtod(name.c_str() + name.find(',') + 1, nullptr);
    const double middle = std::cos((south + 0.05) * std::acos(-1.0) / 180);
    const double width = 360 / std::fmax(1, std::round(3600 * middle));
    ASSERT_GE(latitude, south - 1e-9) << name;
    ASSERT_LE(latitude, south + 0.1 + 1e-9) << name;
    ASSERT_GE(longitude, west - 0.005 - 1e-9) << name;
    ASSERT_LE(longitude, west + width + 0.005 + 1e-9) << name;
  }
}

TEST(NameTableTest, FindsEveryNameAndNoOther) {
  std::vector<std::string> names{""};
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Prng random(seed);
    std::string name;
    for (std::uint64_t i = random.below(40); i > 0; --i) name += static_cast<char>('a' + random.below(2));
    names.push_back(name);
  }
  const NameTable table(names);
  for (const std::string& name : names) {
    const int index = table.find(name);
    ASSERT_GE(index, 0);
    EXPECT_EQ(names[static_cast<std::size_t>(index)], name);
    EXPECT_EQ(table.find(name + "c"), -1);
    const std::string quoted = name + "\"" + std::string(64, ' ');
    EXPECT_TRUE(table.is_quoted_name(index, quoted.data()));
    EXPECT_FALSE(table.is_quoted_name(static_cast<int>(names.size()), quoted.data()));
  }
  EXPECT_EQ(NameTable().find("a"), -1);
}

}  // namespace
}  // namespace alcedo::contract
