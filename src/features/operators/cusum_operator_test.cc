// Sums against a recompute from all values, and a shift that no single value tells of.
#include "features/operators/cusum_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "features/operators/naive_level.h"

namespace alcedo::features {
namespace {

using testing::NaiveLevel;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

FeatureSpec cusum(std::int64_t half_life_ms, std::uint32_t min_history, std::int64_t accept_ms = 0) {
  FeatureSpec spec = testing::baseline("drift", 1, 1, half_life_ms, min_history);
  spec.kind = FeatureKind::kCusum;
  spec.accept_ms = accept_ms;
  return spec;
}

struct Entity {
  NaiveLevel level;
  struct Step {
    double u;
    std::int64_t time_ms;
  };
  std::vector<Step> steps;  // since the sums began
};

struct Happened {
  std::size_t accepted = 0;
  std::size_t forgotten = 0;
  std::size_t above = 0;
};

// A one-sided sum over all steps, and since when it has been above 0.
struct Sum {
  double value = 0;
  std::int64_t since_ms = 0;
};
Sum sum_of(const std::vector<Entity::Step>& steps, double sign) {
  Sum sum;
  for (const auto& step : steps) {
    const double next = sum.value + sign * step.u - 0.5;
    if (sum.value == 0) sum.since_ms = step.time_ms;
    sum.value = next < 0 ? 0 : next > 20 ? 20 : next;
  }
  return sum;
}

std::vector<testing::ExpectedColumn> answer(Entity& entity, const FeatureSpec& spec, double x, double step,
                                            std::int64_t now_ms, bool in_order, Happened& happened) {
  NaiveLevel& level = entity.level;
  level.half_life_ms = spec.half_life_ms;
  level.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : spec.half_life_ms / 8;
  level.min_history = spec.min_history;
  if (in_order && level.forget(now_ms)) {
    ++happened.forgotten;
    entity.steps.clear();
  }
  const std::vector<testing::ExpectedColumn> missing{{"up"}, {"down"}, {"since_s"}};
  if (std::isnan(x)) return missing;
  if (level.history < spec.min_history) {
    if (in_order) level.learn(x, false, now_ms);
    return missing;
  }
  const double weight = level.weight(now_ms);
  const double mean = level.mean(now_ms);
  const double spread = std::sqrt(level.variance(now_ms) * (1 + 1 / weight) + testing::naive_floor(mean, step));
  const double u = (x - mean) / spread;
  auto steps = entity.steps;
  steps.push_back({std::clamp(u, -4.0, 4.0), now_ms});
  const Sum up = sum_of(steps, 1);
  const Sum down = sum_of(steps, -1);
  const Sum& larger = up.value >= down.value ? up : down;
  const double since_s = larger.value > 0 ? static_cast<double>(now_ms - larger.since_ms) / 1000 : 0;
  if (in_order) {
    entity.steps = steps;
    happened.above += larger.value > 5 ? 1 : 0;
    if (level.learn(x, larger.value > 5 || std::fabs(u) > 4, now_ms)) {
      ++happened.accepted;
      entity.steps.clear();
    }
  }
  // Each step may be off by its share of a mean's rounding.
  const double off = 1e-5 * (1 + std::fabs(mean) / spread);
  return {{"up", up.value, off}, {"down", down.value, off}, {"since_s", since_s}};
}

TEST(CusumOperatorTest, AgreesWithARecomputeFromAllValues) {
  testing::ColumnTally tally;
  Happened happened;
  const std::vector<FeatureSpec> specs{cusum(14 * kDayMs, 20), cusum(2 * kDayMs, 5, 20 * kHourMs), cusum(kHourMs, 3),
                                       cusum(kDayMs, 10), cusum(60 * kDayMs, 5, kDayMs)};
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const FeatureSpec& spec = specs[seed % specs.size()];
    const FeaturePlan plan = testing::plan_of(spec);
    testing::compare_columns<Entity>(
        plan, testing::make_hourly_stream(seed, 4000),
        [&](Entity& entity, const TestEvent&, double x, double step, std::int64_t now_ms, bool in_order) {
          return answer(entity, spec, x, step, now_ms, in_order, happened);
        },
        tally);
  }
  std::cout << tally.compared << " compared, " << tally.present << " present, " << tally.wrong << " wrong; "
            << happened.accepted << " new levels, " << happened.forgotten << " forgotten, " << happened.above
            << " above h\n";
  EXPECT_GT(tally.present, 80'000U);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GT(happened.accepted, 10U);
  EXPECT_GT(happened.forgotten, 10U);
  EXPECT_GT(happened.above, 1000U);
}

TEST(CusumOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(cusum(2 * kDayMs, 5)), testing::make_hourly_stream(12, 3000)), 0U);
}

// A reading a minute, `before` of mean 50, then of 50 + shift, sigma 1.
std::vector<TestEvent> shifted(std::uint64_t seed, int before, int after, double shift) {
  Prng random(seed);
  std::vector<TestEvent> events;
  for (int i = 0; i < before + after; ++i) {
    events.push_back({kBegin + i * kMinuteMs, {0, 50 + random.normal() + (i < before ? 0 : shift)}, {"", "a"}, 0});
  }
  return events;
}

TEST(CusumOperatorTest, AShiftOfOneSigmaIsNoticedThoughNoValueIsStrange) {
  const FeaturePlan plan = testing::plan_of(cusum(14 * kDayMs, 20));
  const FeaturePlan mean = testing::plan_of(testing::baseline("mean", 1, 1, 14 * kDayMs, 20));
  int worst = 0;
  double total = 0;
  std::size_t strange = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const auto events = shifted(seed, 500, 60, seed % 2 == 0 ? 1.0 : -1.0);
    const auto rows = testing::run(plan, events, {}).rows;
    const auto plain = testing::run(mean, events, {}).rows;
    int noticed = 60;
    for (int i = 59; i >= 0; --i) {
      const auto& row = rows[static_cast<std::size_t>(500 + i)];
      strange += std::fabs(plain[static_cast<std::size_t>(500 + i)][3]) > 4.5F ? 1 : 0;
      if (row[seed % 2 == 0 ? 0 : 1] > 5) noticed = i;
    }
    worst = std::max(worst, noticed);
    total += noticed;
  }
  std::cout << "a shift of one sigma was noticed after " << total / 50 << " values, at worst " << worst << "\n";
  EXPECT_LT(total / 50, 13) << "the theory says 10.4 for a known level";
  EXPECT_LT(worst, 50);
  EXPECT_EQ(strange, 0U);
}

TEST(CusumOperatorTest, OneWildValueIsNoShift) {
  auto events = shifted(3, 200, 1, 1000);
  const auto rows = testing::run(testing::plan_of(cusum(14 * kDayMs, 20)), events, {}).rows;
  EXPECT_LE(rows.back()[0], rows[rows.size() - 2][0] + 3.5F);
}

TEST(CusumOperatorTest, ANewLevelIsAcceptedAndTheSumsRestart) {
  const FeaturePlan plan = testing::plan_of(cusum(14 * kDayMs, 20, 2 * kHourMs));
  const auto rows = testing::run(plan, shifted(9, 500, 400, 3), {}).rows;
  EXPECT_GT(rows[500 + 100][0], 10) << "still off its level";
  EXPECT_NEAR(rows[500 + 100][2], 100 * 60, 600) << "for as long as it has shifted";
  std::size_t above = 0;
  for (std::size_t i = 500 + 140; i < rows.size(); ++i) above += rows[i][0] > 5 ? 1 : 0;
  EXPECT_LT(above, 20U);
}

TEST(CusumOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = testing::plan_of(cusum(1'000'000 * kDayMs, 4));
  std::vector<TestEvent> events;
  for (const double x : {8.0, 12.0, 8.0, 12.0, 13.0, 13.0}) {
    events.push_back({kBegin + static_cast<std::int64_t>(events.size()) * kMinuteMs, {0, x}, {"", "a"}, 0});
  }
  const auto rows = testing::run(plan, events, {}).rows;
  EXPECT_TRUE(std::isnan(rows[3][0]));
  EXPECT_NEAR(rows[4][0], 0.842, 1e-3);
  EXPECT_EQ(rows[4][1], 0);
  EXPECT_EQ(rows[4][2], 0);
  EXPECT_NEAR(rows[5][0], 1.359, 1e-3);
  EXPECT_EQ(rows[5][2], 60);
}

}  // namespace
}  // namespace alcedo::features
