// Columns of the event alone are what its numbers and its time say, whatever stands around it.
#include "features/event_columns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace alcedo::features {
namespace {

FeatureOptions options() {
  FeatureOptions options;
  options.layout = {{{"amount", true}, {"size", false}}, {"card"}};
  FeatureSpec raw;
  raw.name = "raw";
  raw.kind = FeatureKind::kValue;
  raw.numbers = {1, 0};
  FeatureSpec when;
  when.name = "when";
  when.kind = FeatureKind::kCalendar;
  options.features = {raw, when};
  return options;
}

std::vector<float> written(const FeaturePlan& plan, double amount, double size, std::int64_t time_ms) {
  EventBatch batch(plan.options().layout);
  batch.reset(1, 1);
  batch.header(0).time_ms = time_ms;
  batch.numbers(0)[0] = amount;
  batch.numbers(0)[1] = size;
  std::vector<float> row(plan.columns().size(), std::numeric_limits<float>::quiet_NaN());
  EventColumns(plan).write(batch, 0, row);
  return row;
}

TEST(EventColumnsTest, ShowsNumbersAndTheTimeOfTheWeek) {
  const auto plan = FeaturePlan::compile(options());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE(plan->stages().empty());
  ASSERT_EQ(plan->find_column("raw.size"), 0);
  ASSERT_EQ(plan->find_column("raw.amount"), 1);
  ASSERT_EQ(plan->find_column("when.hour"), 2);
  ASSERT_EQ(plan->find_column("when.weekday"), 3);
  // 2026-11-25 was a Wednesday.
  EXPECT_EQ(written(*plan, 1250, 7.5, 1'795'613'400'000), (std::vector<float>{7.5F, 1250, 13.5F, 2}));
  // Half an hour before 1970 it was Wednesday, too.
  EXPECT_EQ(written(*plan, 1, 2, -1'800'000), (std::vector<float>{2, 1, 23.5F, 2}));
  EXPECT_EQ(written(*plan, 1, 2, 4 * 86'400'000LL), (std::vector<float>{2, 1, 0, 0}));
  EXPECT_TRUE(std::isnan(written(*plan, kMissing, 2, 0)[1]));
}

TEST(EventColumnsTest, HasNoHistoryToDeviateFrom) {
  auto deviating = options();
  deviating.deviations = {{0, "size", DeviationMethod::kEwma}};
  const auto plan = FeaturePlan::compile(deviating);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().message, "feature 'raw': it is of each event alone and has no history to deviate from");
  auto twice = options();
  twice.features[0].numbers = {1, 1};
  EXPECT_FALSE(FeaturePlan::compile(twice));
  auto none = options();
  none.features[0].numbers = {2};
  EXPECT_FALSE(FeaturePlan::compile(none));
}

}  // namespace
}  // namespace alcedo::features
