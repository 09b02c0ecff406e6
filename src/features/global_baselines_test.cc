// What all entities have in common, and that neither batches nor the frequency of ticks can be seen in it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "features/log_histogram.h"
#include "features/stage.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

FeaturePlan plan_of_two() {
  return *FeaturePlan::compile(
      {testing::test_layout(true),
       {testing::velocity("pace", -1, 0, {kMinuteMs}), testing::baseline("habit", 0, 0, kDayMs, 20),
        testing::baseline("level", 1, 1, kDayMs, 20)},
       {}});
}

bool same(const GlobalBaselines::Level& a, const GlobalBaselines::Level& b) {
  const auto equal = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  return equal(a.location, b.location) && equal(a.spread, b.spread) && a.count == b.count;
}

TEST(LogHistogramTest, QuantilesWithinACellOfTheExactOnes) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Prng random(seed);
    LogHistogram histogram;
    std::vector<double> values;
    for (int i = 0; i < 20'001; ++i) {
      const double x = seed % 2 == 0 ? std::exp(3 * random.normal()) : random.normal() * 1e6 - 2e5;
      values.push_back(x);
      histogram.add(x);
    }
    std::sort(values.begin(), values.end());
    for (const double p : {0.01, 0.25, 0.5, 0.75, 0.99}) {
      const double exact = values[static_cast<std::size_t>(p * 20'000)];
      EXPECT_NEAR(histogram.quantile(p), exact, std::fabs(exact) / 31) << "seed " << seed << " p " << p;
    }
  }
}

TEST(LogHistogramTest, ZeroTinyAndHugeHaveTheirPlace) {
  LogHistogram histogram;
  for (const double x : {0.0, -0.0, 1e-300, -1e-300, 5e-324}) histogram.add(x);
  EXPECT_EQ(histogram.quantile(0.5), 0);
  for (int i = 0; i < 100; ++i) histogram.add(1e300);
  EXPECT_GT(histogram.quantile(0.9), 1e18);
  for (int i = 0; i < 1000; ++i) histogram.add(-1e300);
  EXPECT_LT(histogram.quantile(0.5), -1e18);
}

TEST(LogHistogramTest, OldValuesFade) {
  LogHistogram histogram;
  for (int i = 0; i < 1 << 20; ++i) histogram.add(10);
  EXPECT_EQ(histogram.count(), 1U << 19);
  for (int i = 0; i < 600'000; ++i) histogram.add(1000);
  EXPECT_NEAR(histogram.quantile(0.5), 1000, 1000.0 / 31);
}

TEST(GlobalBaselinesTest, NoLevelBelowAHundredValuesNorBeforeATick) {
  const FeaturePlan plan = plan_of_two();
  GlobalBaselines global(plan);
  std::vector<testing::TestEvent> events(150, {0, {10, kMissing}, {"c", "d"}, 0});
  const EventBatch batch = testing::to_batch(plan.options().layout, events);
  global.begin_batch();
  for (std::uint32_t row = 0; row < 99; ++row) EXPECT_EQ(global.add(batch, row), 0U);
  global.tick();
  EXPECT_EQ(global.add(batch, 99), 0U) << "99 values make no level";
  EXPECT_TRUE(std::isnan(global.level(0, 1).location));
  global.tick();
  EXPECT_EQ(global.add(batch, 100), 1U);
  EXPECT_NEAR(global.level(1, 1).location, 10, 0.4);
  EXPECT_LT(global.level(1, 1).spread, 0.4);
  EXPECT_EQ(global.level(1, 1).count, 100U);
  EXPECT_TRUE(std::isnan(global.level(0, 1).location)) << "older snapshots of the batch stay as they were";
  EXPECT_TRUE(std::isnan(global.level(1, 2).location)) << "missing values do not count";
  EXPECT_TRUE(std::isnan(global.level(1, 0).location)) << "velocity has no level";
  global.tick();
  EXPECT_EQ(global.add(batch, 101), 1U) << "a tick that changes little makes no snapshot";
  global.begin_batch();
  EXPECT_EQ(global.add(batch, 102), 0U);
  EXPECT_EQ(global.level(0, 1).count, 100U) << "the newest became snapshot 0";
}

TEST(GlobalBaselinesTest, BatchesAreUnobservable) {
  const FeaturePlan plan = plan_of_two();
  const auto events = testing::make_stream(5, {.events = 4000, .counter_share = 0.2});
  const auto whole = testing::run(plan, events, {.tick_every = 7});
  std::size_t levels = 0;
  for (const std::size_t size : {1U, 10U, 999U}) {
    const auto parts = testing::run(plan, events, {.batch_size = size, .tick_every = 7});
    for (std::size_t i = 0; i < events.size(); ++i) {
      for (std::size_t f = 0; f < 3; ++f) {
        ASSERT_TRUE(same(whole.levels[i][f], parts.levels[i][f])) << "batch " << size << " row " << i;
        levels += whole.levels[i][f].count > 0 ? 1 : 0;
      }
    }
  }
  EXPECT_GT(levels, 10'000U);
}

TEST(GlobalBaselinesTest, CountersCountAsRates) {
  const FeaturePlan plan = plan_of_two();
  GlobalBaselines global(plan);
  std::vector<testing::TestEvent> events;
  for (int i = 0; i < 400; ++i) {
    const int device = i % 4;
    events.push_back({1'700'000'000'000 + i * 1000,
                      {kMissing, 1e9 * device + 25.0 * i},
                      {"c", "d" + std::to_string(device)},
                      kEventCounter});
  }
  const EventBatch batch = testing::to_batch(plan.options().layout, events);
  global.begin_batch();
  for (const std::uint32_t row : batch.order) global.add(batch, row);
  global.tick();
  EXPECT_EQ(global.level(1, 2).count, 396U) << "each device's first reading is no rate";
  EXPECT_NEAR(global.level(1, 2).location, 25, 1);
}

}  // namespace
}  // namespace alcedo::features
