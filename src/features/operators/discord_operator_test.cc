// Distances against a search through all stretches of the past, and what a shape says that no single value does.
#include "features/operators/discord_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "features/operators/naive_level.h"
#include "features/operators/naive_past.h"

namespace alcedo::features {
namespace {

using testing::NaiveLevel;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

FeatureSpec discord(std::uint32_t length, std::uint32_t past, std::int64_t half_life_ms = 2 * kDayMs,
                    std::uint32_t min_history = 30) {
  FeatureSpec spec = testing::baseline("shape", 1, 1, half_life_ms, min_history);
  spec.kind = FeatureKind::kDiscord;
  spec.shape_values = length;
  spec.past_values = past;
  return spec;
}

struct Entity {
  NaiveLevel level;
  std::vector<double> values;
};

std::vector<testing::ExpectedColumn> answer(Entity& entity, const FeatureSpec& spec, double x, double step,
                                            std::int64_t now_ms, bool in_order) {
  entity.level.half_life_ms = spec.half_life_ms;
  if (in_order) entity.level.forget(now_ms);
  if (!in_order || std::isnan(x)) return {{"distance"}, {"surprise"}};
  const std::size_t length = spec.shape_values;
  const std::size_t count = std::min<std::size_t>(entity.values.size(), spec.past_values);
  double distance = kMissing;
  if (!entity.level.values.empty() && count + 2 >= 3 * length) {
    std::vector<double> all(entity.values.end() - static_cast<std::ptrdiff_t>(count), entity.values.end());
    all.push_back(x);
    const std::size_t newest = all.size() - length;
    double least = INFINITY;
    for (std::size_t start = 0; start + length <= newest; ++start) {
      double sum = 0;
      for (std::size_t i = 0; i < length; ++i) sum += std::pow(all[start + i] - all[newest + i], 2);
      least = std::min(least, sum);
    }
    const double variance = entity.level.variance(now_ms) + testing::naive_floor(entity.level.mean(now_ms), step);
    distance = std::min(1e6, std::sqrt(least / static_cast<double>(length) / variance));
  }
  entity.values.push_back(x);
  entity.level.learn(x, false, now_ms);
  return {{"distance", distance, 1e-5 + 1e-4 * distance}};
}

TEST(DiscordOperatorTest, AgreesWithASearchThroughAllStretches) {
  testing::ColumnTally tally;
  const std::vector<FeatureSpec> specs{discord(2, 8), discord(8, 300), discord(5, 40), discord(24, 1000),
                                       discord(17, 150, 40 * kDayMs)};
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const FeatureSpec& spec = specs[seed % specs.size()];
    testing::compare_columns<Entity>(
        testing::plan_of(spec), testing::make_hourly_stream(seed, 3000),
        [&](Entity& entity, const TestEvent&, double x, double step, std::int64_t now_ms, bool in_order) {
          return answer(entity, spec, x, step, now_ms, in_order);
        },
        tally);
  }
  EXPECT_GT(tally.present, 10'000U);
  EXPECT_EQ(tally.wrong, 0U);
}

TEST(DiscordOperatorTest, TheSurpriseAgreesWithACountOfAllDistances) {
  std::size_t present = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed)
    present += testing::compare_surprises(discord(6, 200), "distance", testing::make_hourly_stream(seed, 3000));
  EXPECT_GT(present, 5000U);
}

TEST(DiscordOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(discord(8, 100)), testing::make_hourly_stream(7, 2000)), 0U);
}

std::vector<std::vector<float>> rows_of(const FeaturePlan& plan, const std::vector<double>& values) {
  std::vector<TestEvent> events;
  for (const double x : values)
    events.push_back({kBegin + static_cast<std::int64_t>(events.size()) * kMinuteMs, {0, x}, {"", "a"}, 0});
  return testing::run(plan, events, {}).rows;
}

TEST(DiscordOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = testing::plan_of(discord(2, 8, 100'000 * kDayMs));
  EXPECT_NEAR(rows_of(plan, {0, 1, 0, 1, 0, 1, 5}).back()[0], 5.831, 1e-3);
  EXPECT_EQ(rows_of(plan, {0, 1, 0, 1, 0, 1, 0}).back()[0], 0);
  EXPECT_TRUE(std::isnan(rows_of(plan, {0, 1, 0, 1}).back()[0])) << "fewer than two shapes to compare with";
}

// A pulse that is left out: each value is a usual one, what is strange is that they follow each other.
TEST(DiscordOperatorTest, AMissedBeatIsAShapeThatWasNeverThere) {
  Prng random(11);
  std::vector<double> values;
  for (int i = 0; i < 1200; ++i) {
    const bool missed = i >= 1000 && i < 1020;
    const double wave = std::sin(2 * std::numbers::pi * i / 20);
    values.push_back((missed ? 0 : wave) + 0.05 * random.normal());
  }
  const auto rows = rows_of(testing::plan_of(discord(16, 900, 7 * kDayMs, 100)), values);
  float before = 0;
  for (std::size_t i = 600; i < 1000; ++i) before = std::max(before, rows[i][0]);
  float during = 0;
  for (std::size_t i = 1000; i < 1020; ++i) during = std::max(during, rows[i][0]);
  EXPECT_LT(before, 0.25F);
  EXPECT_GT(during, 0.5F);
  EXPECT_GT(rows[1016][1], 2.5F) << "it never deviated as much in a thousand values";
}

}  // namespace
}  // namespace alcedo::features
