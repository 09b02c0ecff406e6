// Lines as services write them, lines that do not fit, and lines made to cost time.
#include "contract/fields/line_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace alcedo::contract {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

LinePattern pattern(std::string_view text) {
  auto made = LinePattern::create(text);
  EXPECT_TRUE(made) << made.error().message;
  return *made;
}

std::vector<std::string> split(std::string_view text, std::string_view line) {
  const LinePattern made = pattern(text);
  std::vector<std::string_view> values(made.names().size());
  std::string why;
  if (!made.split(line, values, why)) return {"no: " + why};
  return {values.begin(), values.end()};
}

TEST(LinePatternTest, SplitsWhatServicesWrite) {
  EXPECT_THAT(split("{date:2} {pid} {level} {component}: {message}",
                    "081109 203518 143 INFO dfs.DataNode$DataXceiver: Receiving block: blk_1 src: /10.0.0.1:5"),
              ElementsAre("081109 203518", "143", "INFO", "dfs.DataNode$DataXceiver",
                          "Receiving block: blk_1 src: /10.0.0.1:5"));
  EXPECT_THAT(split("{time:3} {host} {program}[{pid}]: {message}", "Nov  5 07:01:02 web1 sshd[812]: Accepted key"),
              ElementsAre("Nov  5 07:01:02", "web1", "sshd", "812", "Accepted key"));
  EXPECT_THAT(split("{host} - {user} [{time}] \"{request}\" {status}", "10.1.1.1 -  bob [05/Nov/2025] \"GET /\" 200"),
              ElementsAre("10.1.1.1", "bob", "05/Nov/2025", "GET /", "200"));
  EXPECT_THAT(split("<{priority}>{{{x}}} {message}", "<34>{y}  "), ElementsAre("34", "y", ""));
  EXPECT_THAT(split("{a} {b};", "x y; z;"), ElementsAre("x", "y; z"));
  EXPECT_THAT(split("{message}", "all of it "), ElementsAre("all of it "));
  EXPECT_THAT(split("{a} {b}", "  x\t \ty"), ElementsAre("x", "y"));
}

TEST(LinePatternTest, SaysWhyALineDoesNotFit) {
  EXPECT_THAT(split("{a} {b}: {c}", "one two three")[0], HasSubstr("expected \": \" behind field 'b'"));
  EXPECT_THAT(split("{a} {b}", "one")[0], HasSubstr("behind field 'a'"));
  EXPECT_THAT(split("[{a}] {b}", "one] two")[0], HasSubstr("expected \"[\" before field 'a'"));
  EXPECT_THAT(split("{a}:{b}", ":x")[0], HasSubstr("behind field 'a'"));  // a field has at least a byte
  EXPECT_THAT(split("{a} {b};", "x y; z")[0], HasSubstr("behind field 'b'"));
  EXPECT_THAT(split("{a:2} {b}", "x y")[0], HasSubstr("behind field 'a'"));
  EXPECT_THAT(split("{a} {b}", "")[0], HasSubstr("behind field 'a'"));
}

TEST(LinePatternTest, RefusesPatternsThatMeanNothing) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "no field"},           {"no fields", "no field"}, {"{a}{b}", "nothing stands between \"a\" and \"b\""},
      {"{a} {a}", "twice"},       {"{} x", "no name"},       {"{a:0}", "number of words"},
      {"{a:12}", "words"},        {"{a", "without its '}'"}, {"a} {b}", "without its '{'"},
      {"{a} \x01{b}", "control"}, {"{a b} {c}", "no name"},  {std::string(70, 'x') + "{a}", "64 bytes"},
  };
  for (const auto& [text, why] : cases) {
    const auto made = LinePattern::create(text);
    ASSERT_FALSE(made) << text;
    EXPECT_THAT(made.error().message, HasSubstr(why)) << text;
  }
}

TEST(LinePatternTest, HostileLinesCostNoMoreThanTheirLength) {
  const auto began = std::chrono::steady_clock::now();
  std::string repeated;
  while (repeated.size() < 1'000'000) repeated += "a    : ";
  for (const std::string& line : {std::string(1 << 20, ' '), "x" + std::string(1 << 20, ' ') + "y",
                                  std::string(1 << 20, ':'), "x " + repeated + "z"}) {
    for (const char* text : {"{a} : {b}", "{a} : {b} ;", "{a:9} {b} :"}) split(text, line);
  }
  // Quadratic would be minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
}

}  // namespace
}  // namespace alcedo::contract
