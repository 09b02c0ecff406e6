// What leaves must be acceptable whatever came in: PagerDuty refuses a whole page for one byte too many.
#include "alert/alert_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cmath>

#include "alert/test_incidents.h"

namespace alcedo::alert {
namespace {

using testing::HasSubstr;
using namespace testing_incidents;

simdjson::dom::element parse(simdjson::dom::parser& parser, const std::string& text) {
  simdjson::dom::element document;
  EXPECT_EQ(parser.parse(text).get(document), simdjson::SUCCESS) << text.substr(0, 300);
  return document;
}

std::string text_at(simdjson::dom::element document, std::string_view pointer) {
  std::string_view text;
  EXPECT_EQ(document.at_pointer(pointer).get(text), simdjson::SUCCESS) << pointer;
  return std::string(text);
}

TEST(PagerDutyBodyTest, MapsAnIncidentToATrigger) {
  simdjson::dom::parser parser;
  const auto body = parse(parser, pagerduty_body(open_of("inc-1", 5), kRoutingKey));
  EXPECT_EQ(text_at(body, "/routing_key"), kRoutingKey);
  EXPECT_EQ(text_at(body, "/event_action"), "trigger");
  EXPECT_EQ(text_at(body, "/dedup_key"), "inc-1");
  EXPECT_EQ(text_at(body, "/payload/summary"), "card_testing on card-inc-1");
  EXPECT_EQ(text_at(body, "/payload/source"), "card-inc-1");
  EXPECT_EQ(text_at(body, "/payload/severity"), "critical");
  EXPECT_EQ(text_at(body, "/payload/timestamp"), "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(text_at(body, "/payload/component"), "payments");
  EXPECT_EQ(text_at(body, "/payload/group"), "card");
  EXPECT_EQ(text_at(body, "/payload/class"), "card_testing");
  EXPECT_EQ(text_at(body, "/payload/custom_details/reasons/0/text"), "amount 950.00, expected 31.20 +- 12.90 (z 71.2)");
  EXPECT_EQ(text_at(body, "/payload/custom_details/votes/0/detector"), "habit_z");
  EXPECT_EQ(text_at(body, "/links/0/href"), "https://example.org/runbook");
  EXPECT_NE(body.at_pointer("/payload/custom_details/cut").error(), simdjson::SUCCESS) << "nothing was cut";
}

TEST(PagerDutyBodyTest, AnUpdateIsATriggerAndAResolveAResolveOfTheSameKey) {
  simdjson::dom::parser parser;
  const auto update = parse(parser, pagerduty_body(update_of("inc-1", 6), kRoutingKey));
  EXPECT_EQ(text_at(update, "/event_action"), "trigger");
  EXPECT_EQ(text_at(update, "/dedup_key"), "inc-1");
  const auto resolve = parse(parser, pagerduty_body(resolve_of("inc-1", 7), kRoutingKey));
  EXPECT_EQ(text_at(resolve, "/event_action"), "resolve");
  EXPECT_EQ(text_at(resolve, "/dedup_key"), "inc-1");
}

TEST(PagerDutyBodyTest, TheKeyIsAddedOnTheWire) {
  const auto change = open_of("inc-1", 5);
  EXPECT_THAT(pagerduty_body(change, ""), testing::Not(HasSubstr("routing_key")));
  EXPECT_EQ(with_routing_key(pagerduty_body(change, ""), kRoutingKey), pagerduty_body(change, kRoutingKey));
}

TEST(PagerDutyBodyTest, CutsAreAtCharactersAndSaid) {
  auto change = open_of("inc-1", 5);
  change.summary.clear();
  for (int i = 0; i < 600; ++i) change.summary += "\xC3\xA9";  // 1200 bytes of é
  simdjson::dom::parser parser;
  const auto body = parse(parser, pagerduty_body(change, kRoutingKey));
  const std::string summary = text_at(body, "/payload/summary");
  EXPECT_LE(summary.size(), 1024U);
  EXPECT_GT(summary.size(), 1000U);
  EXPECT_TRUE(summary.ends_with("... [cut]"));
  EXPECT_THAT(summary, testing::Not(HasSubstr("\xEF\xBF\xBD"))) << "no half character";
  EXPECT_THAT(text_at(body, "/payload/custom_details/cut/0"), HasSubstr("summary (1200 bytes)"));
}

TEST(PagerDutyBodyTest, LongDedupKeysStayDifferent) {
  auto one = open_of(std::string(300, 'k') + "1", 1);
  auto two = open_of(std::string(300, 'k') + "2", 1);
  simdjson::dom::parser parser;
  const std::string first = text_at(parse(parser, pagerduty_body(one, kRoutingKey)), "/dedup_key");
  const std::string second = text_at(parse(parser, pagerduty_body(two, kRoutingKey)), "/dedup_key");
  EXPECT_EQ(first.size(), 255U);
  EXPECT_NE(first, second);
  one.kind = IncidentChange::Kind::kResolve;
  EXPECT_EQ(text_at(parse(parser, pagerduty_body(one, kRoutingKey)), "/dedup_key"), first)
      << "the resolve finds its trigger";
}

// Every way of being too large, alone and together.
TEST(PagerDutyBodyTest, FitsWhateverComesAndSaysWhatWasCut) {
  const std::string huge(600 * 1024, 'd');
  std::vector<std::pair<std::string, IncidentChange>> cases;
  auto one_text = open_of("a", 1);
  one_text.reasons[0].text = huge;
  cases.emplace_back("one text of 600 KB", one_text);
  auto many_reasons = open_of("a", 1);
  many_reasons.reasons.assign(20'000, many_reasons.reasons[0]);
  cases.emplace_back("20,000 reasons", many_reasons);
  auto control = open_of("a", 1);
  control.reasons.assign(300, {.detector = std::string(2000, '\x01'), .feature = {}, .text = std::string(1000, '"')});
  cases.emplace_back("escapes", control);
  auto members = open_of("a", 1);
  members.members_total = 100'000;
  members.members.assign(100'000, "member-of-the-group");
  cases.emplace_back("100,000 members", members);
  auto invalid = open_of("a", 1);
  invalid.key = std::string(256, '\xFF');
  invalid.summary = std::string(2000, '\xFE');
  cases.emplace_back("invalid UTF-8", invalid);
  auto everything = open_of(std::string(5000, 'i'), 1);
  for (std::string* field : {&everything.pipeline, &everything.type, &everything.key, &everything.key_name,
                             &everything.runbook, &everything.first_event, &everything.summary}) {
    *field = huge;
  }
  everything.reasons.assign(50, {.detector = huge, .feature = huge, .text = huge});
  everything.votes.assign(50, {.detector = huge});
  cases.emplace_back("everything", everything);

  for (const auto& [name, change] : cases) {
    const std::string text = pagerduty_body(change, kRoutingKey);
    EXPECT_LE(text.size(), kPagerDutyBodyBytesMax) << name;
    simdjson::dom::parser parser;
    const auto body = parse(parser, text);
    EXPECT_LE(text_at(body, "/payload/summary").size(), 1024U) << name;
    EXPECT_LE(text_at(body, "/payload/source").size(), 255U) << name;
    EXPECT_LE(text_at(body, "/dedup_key").size(), 255U) << name;
    EXPECT_FALSE(text_at(body, "/payload/custom_details/cut/0").empty()) << name;
  }
}

TEST(PagerDutyBodyTest, EmptyFieldsDoNotMakeAPageUnacceptable) {
  IncidentChange bare;
  bare.incident = "i";
  simdjson::dom::parser parser;
  const auto body = parse(parser, pagerduty_body(bare, kRoutingKey));
  EXPECT_FALSE(text_at(body, "/payload/summary").empty());
  EXPECT_FALSE(text_at(body, "/payload/source").empty());
}

TEST(AlertJsonTest, ComesBackAsItWas) {
  IncidentChange change = update_of("inc-1", 77, 12);
  change.position.index = 3;
  change.members_total = 9;
  change.members = {"m1", "m\"2\n"};
  change.provisional = true;
  change.reasons[0].spread = std::nan("");
  change.score = 0.1 + 0.2;
  const std::string line = alert_json(change);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto back = change_from_json(line);
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(alert_json(*back), line);
  EXPECT_EQ(back->kind, change.kind);
  EXPECT_EQ(back->position, change.position);
  EXPECT_EQ(back->score, change.score);
  EXPECT_EQ(back->last_ms, change.last_ms);
  EXPECT_EQ(back->members, change.members);
  EXPECT_TRUE(std::isnan(back->reasons[0].spread));
  EXPECT_FALSE(change_from_json("{\"step\":").has_value());
}

}  // namespace
}  // namespace alcedo::alert
