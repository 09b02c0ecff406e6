// The level against a recompute from all values, the surprise against a count of all earlier distances from it.
#include "features/operators/unusual_operator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "features/operators/naive_level.h"
#include "features/operators/naive_past.h"

namespace alcedo::features {
namespace {

using testing::NaiveLevel;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

FeatureSpec unusual(std::int64_t half_life_ms, std::uint32_t min_history, std::int64_t accept_ms = 0) {
  FeatureSpec spec = testing::baseline("rare", 1, 1, half_life_ms, min_history);
  spec.kind = FeatureKind::kUnusual;
  spec.accept_ms = accept_ms;
  return spec;
}

std::vector<testing::ExpectedColumn> answer(NaiveLevel& level, const FeatureSpec& spec, double x, double step,
                                            std::int64_t now_ms, bool in_order) {
  level.half_life_ms = spec.half_life_ms;
  level.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : spec.half_life_ms / 8;
  level.min_history = 20;
  if (in_order) level.forget(now_ms);
  double expected = kMissing, spread = kMissing, z = kMissing, off = 0;
  if (!level.values.empty()) {
    expected = level.mean(now_ms);
    spread = std::sqrt(level.variance(now_ms) * (1 + 1 / level.weight(now_ms)) + testing::naive_floor(expected, step));
    off = 1e-5 * (1 + std::fabs(expected) / spread);
    if (level.history >= 20 && !std::isnan(x)) z = std::clamp((x - expected) / spread, -1e6, 1e6);
  }
  if (in_order && !std::isnan(x)) level.learn(x, std::fabs(z) > 4, now_ms);
  return {{"seen", x}, {"expected", expected, 1e-5}, {"spread", spread, 1e-5 * spread}, {"z", z, off}};
}

TEST(UnusualOperatorTest, TheLevelAgreesWithARecomputeFromAllValues) {
  testing::ColumnTally tally;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const FeatureSpec spec = seed % 2 == 0 ? unusual(2 * kDayMs, 30, 20 * kHourMs) : unusual(14 * kDayMs, 100);
    testing::compare_columns<NaiveLevel>(
        testing::plan_of(spec), testing::make_hourly_stream(seed, 3000),
        [&](NaiveLevel& level, const TestEvent&, double x, double step, std::int64_t now_ms, bool in_order) {
          return answer(level, spec, x, step, now_ms, in_order);
        },
        tally);
  }
  EXPECT_GT(tally.present, 30'000U);
  EXPECT_EQ(tally.wrong, 0U);
}

TEST(UnusualOperatorTest, TheSurpriseAgreesWithACountOfAllDistances) {
  std::size_t present = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed)
    present += testing::compare_surprises(unusual(2 * kDayMs, 30), "z", testing::make_hourly_stream(seed, 3000));
  EXPECT_GT(present, 8000U);
}

TEST(UnusualOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(unusual(kDayMs, 10)), testing::make_hourly_stream(7, 2000)), 0U);
}

// What is usual for one entity is not for another: the same distance from the level, other pasts.
TEST(UnusualOperatorTest, FarIsNotStrangeWhereFarIsUsual) {
  Prng random(3);
  std::vector<TestEvent> events;
  for (int i = 0; i < 2000; ++i) {
    const std::int64_t time_ms = kBegin + i * kMinuteMs;
    const double wild = i % 25 == 24 ? 6 : 0;
    events.push_back({time_ms, {0, 50 + random.normal() + wild}, {"", "wild"}, 0});
    events.push_back({time_ms, {0, 50 + random.normal()}, {"", "calm"}, 0});
  }
  for (const char* who : {"wild", "calm"}) events.push_back({kBegin + 2000 * kMinuteMs, {0, 56}, {"", who}, 0});
  const FeaturePlan plan = testing::plan_of(unusual(7 * kDayMs, 100));
  const auto rows = testing::run(plan, events, {}).rows;
  const auto surprise = static_cast<std::size_t>(plan.find_column("rare.surprise"));
  EXPECT_LT(rows[rows.size() - 2][surprise], 2);
  EXPECT_GT(rows[rows.size() - 1][surprise], 3);
}

}  // namespace
}  // namespace alcedo::features
