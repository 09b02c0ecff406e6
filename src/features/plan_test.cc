// What a plan names and refuses.
#include "features/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/time.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::baseline;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::rolling;
using testing::test_layout;
using testing::velocity;

std::vector<std::string> names(const FeaturePlan& plan) {
  std::vector<std::string> all;
  for (const Column& column : plan.columns()) all.push_back(column.name);
  return all;
}

FeatureOptions one(FeatureSpec spec) { return {test_layout(true), {std::move(spec)}, {}}; }

TEST(FeaturePlanTest, NamesColumnsByFeatureStatAndWindow) {
  FeatureSpec spend = rolling("spend", 0, 0, {kMinuteMs, kHourMs});
  spend.stats = {Stat::kCount, Stat::kMax};
  FeatureOptions options{test_layout(true),
                         {spend, velocity("pace", 0, 0, {kMinuteMs, 5 * kMinuteMs, kHourMs}),
                          velocity("fan", -1, 1, {90'000}), baseline("habit", 0, 0, kDayMs, 20)},
                         {}};
  const auto plan = FeaturePlan::compile(options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(names(*plan),
              ElementsAre("spend.count_1m", "spend.count_1h", "spend.max_1m", "spend.max_1h", "pace.events_1m",
                          "pace.events_5m", "pace.events_1h", "pace.amount_1m", "pace.amount_5m", "pace.amount_1h",
                          "pace.ratio_1m_5m", "pace.ratio_5m_1h", "pace.ratio_1m_1h", "pace.gap_s", "fan.events_90s",
                          "fan.gap_s", "habit.seen", "habit.expected", "habit.spread", "habit.z", "habit.history"));
  EXPECT_THAT(plan->stages(), ElementsAre(0U, 1U));
  EXPECT_EQ(plan->find_column("habit.z"), 19);
  EXPECT_EQ(plan->find_column("habit.zz"), -1);
  ASSERT_EQ(plan->deviations().size(), 1U) << "a baseline has its deviation unasked";
  EXPECT_EQ(plan->deviations()[0].request, kNoRequest);
}

TEST(FeaturePlanTest, EqualRequestsShareADeviation) {
  FeatureOptions options{test_layout(true),
                         {velocity("pace", -1, 0, {kMinuteMs, kHourMs}), baseline("habit", 0, 0, kDayMs, 20)},
                         {{1, "", DeviationMethod::kEwma},
                          {0, "", DeviationMethod::kEwma},
                          {0, "events_1h", DeviationMethod::kEwma},
                          {0, "events_1h", DeviationMethod::kQuartiles},
                          {1, "", DeviationMethod::kQuartiles}}};
  const auto plan = FeaturePlan::compile(options);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(plan->deviations_of(0), ElementsAre(0U)) << "the baseline's own";
  EXPECT_EQ(plan->deviations()[0].request, 0U);
  EXPECT_THAT(plan->deviations_of(1), ElementsAre(1U, 2U, 3U, 4U));
  EXPECT_THAT(plan->deviations_of(2), ElementsAre(2U));
  EXPECT_THAT(plan->deviations_of(3), ElementsAre(5U));
  const Deviation& shared = plan->deviations()[2];
  EXPECT_EQ(shared.name, "pace.events_1h");
  EXPECT_EQ(plan->columns()[shared.seen].name, "pace.events_1h");
  EXPECT_EQ(plan->columns()[shared.z].name, "pace.events_1h.z");
  EXPECT_EQ(plan->columns()[plan->deviations()[5].spread].name, "pace.events_1h.iqr.spread");
  const Deviation& quartiles = plan->deviations()[6];
  EXPECT_EQ(quartiles.name, "habit");
  EXPECT_EQ(plan->columns()[quartiles.seen].name, "habit.seen");
  EXPECT_EQ(plan->columns()[quartiles.expected].name, "habit.iqr.expected");
  EXPECT_EQ(quartiles.min_history, 20U);
}

TEST(FeaturePlanTest, MistakesNameTheFeatureAndWhatIsWrong) {
  const auto message = [](FeatureOptions options) {
    const auto plan = FeaturePlan::compile(std::move(options));
    if (plan) return std::string("accepted");
    EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument);
    return plan.error().message;
  };
  EXPECT_THAT(message(one(rolling("spend", 2, 0, {kMinuteMs}))), HasSubstr("'spend': number slot 2 does not exist"));
  EXPECT_THAT(message(one(rolling("spend", -1, 0, {kMinuteMs}))), HasSubstr("number slot -1"));
  EXPECT_THAT(message(one(rolling("spend", 0, 2, {kMinuteMs}))), HasSubstr("key slot 2 does not exist"));
  EXPECT_THAT(message(one(rolling("spend", 0, 0, {}))), HasSubstr("no windows"));
  EXPECT_THAT(message(one(rolling("spend", 0, 0, {kMinuteMs, kMinuteMs}))), HasSubstr("windows must ascend"));
  EXPECT_THAT(message(one(rolling("spend", 0, 0, {1000}))), HasSubstr("multiple of 60 ms"));
  EXPECT_THAT(message(one(rolling("a.b", 0, 0, {kMinuteMs}))), HasSubstr("'.'"));
  EXPECT_THAT(message(one(baseline("habit", 0, 0, 0, 20))), HasSubstr("half_life"));
  EXPECT_THAT(message(one(baseline("habit", 0, 0, 1, 0))), HasSubstr("min_history"));
  FeatureSpec twice = rolling("spend", 0, 0, {kMinuteMs});
  twice.stats = {Stat::kMin, Stat::kMin};
  EXPECT_THAT(message(one(twice)), HasSubstr("listed twice"));
  twice.stats.clear();
  EXPECT_THAT(message(one(twice)), HasSubstr("no stats"));
  FeatureOptions same = one(baseline("habit", 0, 0, 1, 1));
  same.features.push_back(same.features[0]);
  EXPECT_THAT(message(same), HasSubstr("'habit': the name is used twice"));
  FeatureOptions unknown = one(velocity("pace", -1, 0, {kMinuteMs}));
  unknown.deviations = {{0, "amount_1m", DeviationMethod::kEwma}};
  EXPECT_THAT(message(unknown), HasSubstr("no column 'amount_1m'; it has events_1m, gap_s"));
  unknown.deviations = {{1, "", DeviationMethod::kEwma}};
  EXPECT_THAT(message(unknown), HasSubstr("feature 1"));
}

TEST(FeaturePlanTest, StateGrowsWithWhatIsAsked) {
  const auto bytes = [](FeatureOptions options) {
    return FeaturePlan::compile(std::move(options))->state_bytes_per_entity(0);
  };
  const std::size_t counts = bytes(one(velocity("fan", -1, 0, {kMinuteMs, kHourMs})));
  const std::size_t sums = bytes(one(velocity("pace", 0, 0, {kMinuteMs, kHourMs})));
  const std::size_t moments = bytes(one(rolling("spend", 0, 0, {kMinuteMs, kHourMs})));
  EXPECT_LT(counts, sums);
  EXPECT_LT(sums, moments);
}

}  // namespace
}  // namespace alcedo::features
