// Rarity over all entities against a recompute from every event, and that no number of workers can be seen in its
// total.
#include "features/operators/global_rarity_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "features/oracle_tally.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::OracleTally;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;
constexpr std::size_t kTickEvery = 64;

FeatureSpec rarity(std::int64_t half_life_ms, int key = 0) {
  FeatureSpec spec;
  spec.name = "device";
  spec.kind = FeatureKind::kGlobalRarity;
  spec.key = key;
  spec.half_life_ms = half_life_ms;
  return spec;
}

FeaturePlan plan_of(std::vector<FeatureSpec> features) {
  auto plan = FeaturePlan::compile({testing::test_layout(false), std::move(features), {}});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

// What is left of all these times at the last of them, or at `time_ms` if that is later.
struct Times {
  std::vector<std::int64_t> all;
  std::int64_t clock_ms = INT64_MIN;
  void add(std::int64_t time_ms) {
    all.push_back(time_ms);
    clock_ms = std::max(clock_ms, time_ms);
  }
  double left(std::int64_t time_ms, double half_life_ms) const {
    double sum = 0;
    for (const std::int64_t one : all)
      sum += std::exp2(-static_cast<double>(std::max(time_ms, clock_ms) - one) / half_life_ms);
    return sum < 1e-6 ? 0 : sum;
  }
};

double quantile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(p * static_cast<double>(values.size() - 1))];
}

TEST(GlobalRarityOperatorTest, AgreesWithARecomputeFromAllEvents) {
  std::size_t wrong = 0;
  std::size_t forgotten = 0;
  std::size_t stale = 0;
  std::size_t judged = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const std::int64_t half_life_ms = seed % 2 == 0 ? kHourMs : 40 * kDayMs;
    const FeaturePlan plan = plan_of({rarity(half_life_ms)});
    const auto events = testing::make_stream(
        seed, {.events = 3000, .cards = seed <= 2 ? 12U : 700U, .step_ms = 20'000, .gap_every = 900});
    const auto rows = testing::run(plan, events, {.batch_size = 100, .tick_every = kTickEvery}).rows;
    std::map<std::string, Times> values;
    Times all;
    Times at_tick;
    std::size_t added = 0;
    std::vector<double> rarities;  // since the first tick
    std::vector<double> usual;     // as of the last one
    for (std::size_t i = 0; i < events.size(); ++i) {
      const std::string& value = events[i].keys[0];
      const std::int64_t time_ms = events[i].time_ms;
      const auto half_life = static_cast<double>(half_life_ms);
      double expected[] = {kMissing, kMissing, kMissing, kMissing};
      double middle = kMissing, spread = kMissing;
      const auto history = static_cast<double>(usual.size());
      if (!value.empty()) {
        Times& own = values[value];
        const double count = own.left(time_ms, half_life);
        const double of = std::max(count, at_tick.left(time_ms, half_life));
        forgotten += count == 0 && !own.all.empty() ? 1 : 0;
        stale += added != 0 ? 1 : 0;
        expected[0] = count;
        expected[1] = of;
        expected[2] = count == 0 ? 1 : 0;
        expected[3] = std::log10((of + 1) / (count + 1));
        if (!at_tick.all.empty()) rarities.push_back(expected[3]);
        if (usual.size() >= 100) {
          middle = quantile(usual, 0.5);
          const double quartiles = (quantile(usual, 0.75) - quantile(usual, 0.25)) / 1.349;
          spread = std::sqrt(quartiles * quartiles + 1e-6 * middle * middle + 0.3 * 0.3 / 12);
        }
        own.add(time_ms);
        all.add(time_ms);
        ++added;
      }
      if ((i + 1) % kTickEvery == 0 && added != 0 &&
          static_cast<double>(20 * added) >= all.left(all.clock_ms, half_life)) {
        at_tick = all;
        if (rarities.size() >= 100) usual = rarities;
        added = 0;
      }
      // The level comes from cells of 1/32 of themselves; z is exact, given the level.
      const auto near = [&](const char* column, double want, double tolerance) {
        const double got = rows[i][static_cast<std::size_t>(plan.find_column(column))];
        const bool right = std::isnan(want) ? std::isnan(got) : std::fabs(got - want) <= tolerance;
        judged += std::isnan(want) ? 0 : 1;
        if (!OracleTally::count(right) && ++wrong <= 5)
          ADD_FAILURE() << "seed " << seed << " event " << i << " " << column << ": " << got << ", expected " << want;
      };
      near("device.rarity.expected", middle, 0.02 + 0.05 * middle);
      near("device.rarity.spread", spread, 0.02 + 0.1 * (std::fabs(middle) + spread));
      const double z = (rows[i][3] - rows[i][4]) / rows[i][5];
      near("device.rarity.z", std::isnan(middle) ? kMissing : z, 1e-4 * (1 + std::fabs(z)));
      if (!value.empty()) near("device.rarity.history", history, 0);
      for (std::size_t c = 0; c < 4; ++c) {
        const double got = rows[i][c];
        const bool right = std::isnan(expected[c])
                               ? std::isnan(got)
                               : std::fabs(got - expected[c]) <= 1e-5 * (1 + std::fabs(expected[c]));
        if (!OracleTally::count(right) && ++wrong <= 5)
          ADD_FAILURE() << "seed " << seed << " event " << i << " " << plan.columns()[c].name << ": " << got
                        << ", expected " << expected[c];
      }
    }
  }
  std::cout << forgotten << " values forgotten, " << stale << " totals behind\n";
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(forgotten, 50U);
  EXPECT_GT(stale, 1000U);
  EXPECT_GT(judged, 20'000U);
}

TEST(GlobalRarityOperatorTest, NeitherWorkersNorBatchesCanBeSeen) {
  const FeaturePlan plan = plan_of({rarity(kDayMs), testing::baseline("level", 1, 1, kHourMs, 5)});
  const auto events = testing::make_stream(8, {.events = 3000, .cards = 200});
  const auto whole = testing::Driver(plan, 1).run(events);
  for (const std::size_t workers : {1U, 2U, 3U, 4U}) {
    for (const std::size_t batch : {1U, 32U, 777U}) {
      const auto rows = testing::Driver(plan, workers).run(events, batch);
      for (std::size_t i = 0; i < events.size(); ++i)
        ASSERT_TRUE(testing::same_bits(whole[i], rows[i])) << workers << " workers, batches of " << batch << ", " << i;
    }
  }
}

TEST(GlobalRarityOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = plan_of({rarity(1'000'000 * kDayMs)});
  std::vector<TestEvent> events;
  for (int i = 0; i < 999; ++i) events.push_back({kBegin + i, {0, 0}, {i % 100 == 0 ? "rare" : "usual", "d"}});
  events.push_back({kBegin + 999, {0, 0}, {"new", "d"}});
  events.push_back({kBegin + 1000, {0, 0}, {"rare", "d"}});
  const auto rows = testing::run(plan, events, {.tick_every = 999}).rows;
  EXPECT_EQ(rows[999][0], 0);
  EXPECT_NEAR(rows[999][1], 999, 1e-3);
  EXPECT_EQ(rows[999][2], 1);
  EXPECT_NEAR(rows[999][3], 3, 1e-6);
  EXPECT_NEAR(rows[1000][0], 10, 1e-5);
  EXPECT_EQ(rows[1000][2], 0);
  EXPECT_NEAR(rows[1000][3], 1.9586, 1e-4);
}

TEST(GlobalRarityOperatorTest, ANewValueIsJudgedByWhatIsUsualForAll) {
  auto plan = FeaturePlan::compile(
      {testing::test_layout(false), {rarity(1000 * kDayMs)}, {{0, "rarity", DeviationMethod::kEwma}}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->columns().size(), 8U) << "the operator's columns serve";
  const Deviation& d = plan->deviations()[plan->deviations_of(0)[0]];
  EXPECT_EQ(d.name, "device.rarity");
  std::vector<TestEvent> events;
  for (int i = 0; i < 2000; ++i) events.push_back({kBegin + i, {0, 0}, {"usual" + std::to_string(i % 20), "d"}});
  events.push_back({kBegin + 3000, {0, 0}, {"new", "d"}});
  events.push_back({kBegin + 3001, {0, 0}, {"usual7", "d"}});
  const auto rows = testing::run(*plan, events, {}).rows;
  EXPECT_GT(rows[2000][d.z], 10) << "a value that nobody showed before, where all show one of twenty";
  EXPECT_LT(std::fabs(rows[2001][d.z]), 1);
  EXPECT_NEAR(rows[2001][d.expected], std::log10(20), 0.1);
}

// `usual` values share so many of ten events; the others come from so many that few come twice, or once only.
std::vector<TestEvent> mixture(std::uint64_t seed, std::size_t events, std::uint64_t of_ten, std::uint64_t usual,
                               std::uint64_t others) {
  Prng random(seed);
  std::vector<TestEvent> stream;
  for (std::size_t i = 0; i < events; ++i) {
    const std::string value = random.below(10) < of_ten ? "usual" + std::to_string(random.below(usual))
                              : others == 0             ? "once" + std::to_string(i)
                                                        : "other" + std::to_string(random.below(others));
    stream.push_back({kBegin + static_cast<std::int64_t>(i) * 100, {0, 0}, {std::to_string(seed) + value, "d"}});
  }
  return stream;
}

TEST(GlobalRarityOperatorTest, WhatIsUsualComesFromAFairSampleOfBoundedSize) {
  const FeaturePlan plan = plan_of({rarity(1000 * kDayMs)});
  struct Case {
    std::uint64_t of_ten, usual, others;
  };
  for (const Case& one : {Case{7, 1, 0}, Case{7, 20, 0}, Case{3, 20, 12'000}, Case{0, 1, 12'000}}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      testing::Driver driver(plan, 1);
      const auto rows = driver.run(mixture(seed, 60'000, one.of_ten, one.usual, one.others), 1000);
      const std::string saved = driver.snapshot().baselines;
      EXPECT_LT(saved.size(), 4096U * 24 + 8000);
      // The level is of all events since the beginning.
      std::vector<double> all;
      for (const auto& row : rows) all.push_back(static_cast<double>(row[3]));
      EXPECT_NEAR(rows.back()[4], quantile(all, 0.5), 0.12) << one.of_ten << " " << one.usual << " " << one.others;
      std::cout << one.usual << " usual values in " << one.of_ten << " of ten events: expected " << rows.back()[4]
                << ", median " << quantile(all, 0.5) << ", " << saved.size() << " bytes\n";
    }
  }
}

TEST(GlobalRarityOperatorTest, ARestoredSampleGoesOnWhereItWas) {
  const FeaturePlan plan = plan_of({rarity(1000 * kDayMs)});
  const auto events = mixture(4, 40'000, 5, 20, 0);
  testing::Driver driver(plan, 1);
  driver.run({events.begin(), events.begin() + 30'000}, 1000);
  testing::Driver again(plan, 2);
  again.restore(driver.snapshot());
  EXPECT_EQ(again.snapshot().baselines, driver.snapshot().baselines);
  const auto straight = driver.run({events.begin() + 30'000, events.end()}, 1000);
  const auto restored = again.run({events.begin() + 30'000, events.end()}, 7);
  for (std::size_t i = 0; i < straight.size(); ++i) ASSERT_TRUE(testing::same_bits(straight[i], restored[i])) << i;
  EXPECT_EQ(again.snapshot().baselines, driver.snapshot().baselines);
}

TEST(GlobalRarityOperatorTest, TheTotalIsSavedWithTheBaselines) {
  const FeaturePlan plan = plan_of({rarity(kDayMs), testing::baseline("level", 1, 1, kHourMs, 5)});
  const auto events = testing::make_stream(9, {.events = 2000});
  const auto whole = testing::Driver(plan, 1).run(events);
  testing::Driver before(plan, 1);
  before.run({events.begin(), events.begin() + 1000});
  const auto saved = before.snapshot();
  testing::Driver after(plan, 2);
  after.restore(saved);
  EXPECT_EQ(after.snapshot().baselines, saved.baselines);
  const auto rows = after.run({events.begin() + 1000, events.end()});
  for (std::size_t i = 0; i < rows.size(); ++i) ASSERT_TRUE(testing::same_bits(whole[1000 + i], rows[i])) << i;
  // Another half-life is another total; the baseline beside it stays.
  const FeaturePlan other = plan_of({rarity(2 * kDayMs), testing::baseline("level", 1, 1, kHourMs, 5)});
  GlobalBaselines global(other);
  const auto report = global.load(saved.baselines);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(describe(*report), "kept level; reset device (anew: device)");
}

}  // namespace
}  // namespace alcedo::features
