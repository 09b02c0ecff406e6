// The stage against a recompute from all events, and against itself under every division of its work.
#include "features/stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <iostream>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "features/oracle.h"
#include "features/oracle_tally.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsNan;
using testing::make_stream;
using testing::RunOptions;
using testing::same_bits;
using testing::StreamOptions;
using testing::TestEvent;

FeaturePlan compiled(FeatureOptions options) {
  auto plan = FeaturePlan::compile(std::move(options));
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

struct Tally {
  std::size_t compared = 0;
  std::size_t present = 0;  // of these, not missing
  std::size_t wrong = 0;
  std::size_t accepted = 0;
  std::size_t slow = 0;
};

// Compares every column of every row with the oracle.
void compare(const FeaturePlan& plan, const std::vector<TestEvent>& events, std::uint64_t seed, Tally& tally) {
  const testing::RunResult result = testing::run(plan, events, {.batch_size = 257});
  testing::Oracle oracle(plan);
  for (std::size_t i = 0; i < events.size(); ++i) {
    const auto expected = oracle.add(events[i], result.rows[i], result.levels[i]);
    for (std::size_t c = 0; c < plan.columns().size(); ++c) {
      const auto at = expected.find(plan.columns()[c].name);
      const testing::Expected want = at == expected.end() ? testing::Expected{} : at->second;
      const double got = result.rows[i][c];
      ++tally.compared;
      const bool missing = std::isnan(want.value) && std::isnan(got);
      tally.present += missing ? 0 : 1;
      if (testing::OracleTally::count(missing || std::fabs(got - want.value) <= want.tolerance)) continue;
      if (tally.wrong++ < 10) {
        ADD_FAILURE() << "seed " << seed << " event " << i << " column " << plan.columns()[c].name << ": got " << got
                      << ", expected " << want.value << " +- " << want.tolerance;
      }
    }
  }
  tally.accepted += oracle.accepted;
  tally.slow += oracle.slow;
}

TEST(StageTest, AgreesWithARecomputeFromAllEvents) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    StreamOptions options;
    options.events = 2500;
    options.whole = seed % 2 == 1;
    options.late_max_ms = seed % 3 == 0 ? 3 * kHourMs : 4 * kMinuteMs;
    options.step_ms = seed <= 2 ? 300 : seed <= 4 ? 3000 : 20'000;
    options.cards = seed % 2 == 0 ? 15 : 300;
    options.gap_every = seed == 5 ? 0 : 700;
    options.counter_share = seed == 6 ? 0.5 : 0;
    compare(compiled(testing::full_options(options.whole)), make_stream(seed, options), seed, tally);
  }
  std::cout << "compared " << tally.compared << " values, " << tally.present << " of them present; " << tally.accepted
            << " new levels, " << tally.slow << " values learned slowly\n";
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GE(tally.present, 300'000U);
  EXPECT_GT(tally.accepted, 10U) << "the streams must hold new levels, or nothing was tested of them";
  EXPECT_GT(tally.slow, 100U);
}

TEST(StageTest, BatchesAreUnobservable) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  const auto events = make_stream(7, {.events = 3000, .whole = false, .counter_share = 0.1});
  const auto whole = testing::run(plan, events, {});
  for (const std::size_t size : {1U, 2U, 31U, 32U, 33U, 500U}) {
    const auto parts = testing::run(plan, events, {.batch_size = size});
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_TRUE(same_bits(whole.rows[i], parts.rows[i])) << "batch " << size << " row " << i;
  }
}

TEST(StageTest, WorkersAreUnobservable) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  const auto events = make_stream(8, {.events = 3000, .whole = false});
  const auto one = testing::run(plan, events, {.batch_size = 100});
  for (const std::size_t workers : {3U, 4U}) {
    const auto many = testing::run(plan, events, {.batch_size = 100, .workers = workers});
    EXPECT_EQ(many.entities, one.entities);
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_TRUE(same_bits(one.rows[i], many.rows[i])) << workers << " workers, row " << i;
  }
}

TEST(StageTest, OrderWithinABucketIsUnobservableInTotals) {
  FeatureSpec spend = testing::rolling("spend", 0, 0, {kMinuteMs, kHourMs});
  spend.stats = {Stat::kCount, Stat::kSum, Stat::kMin, Stat::kMax};
  const FeaturePlan plan = compiled({testing::test_layout(true), {spend}, {}});
  std::size_t compared = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    auto events = make_stream(seed, {.events = 3000, .cards = 5, .step_ms = 100, .late_share = 0, .gap_every = 900});
    for (TestEvent& event : events) event.keys[0] = "card";
    auto shuffled = events;
    Prng random(seed);
    std::vector<std::size_t> firsts;  // of each second's events, the shortest window's bucket
    for (std::size_t begin = 0; begin < events.size();) {
      std::size_t end = begin;
      while (end < events.size() && events[end].time_ms / 1000 == events[begin].time_ms / 1000) ++end;
      firsts.push_back(begin);
      for (std::size_t i = end - 1; i > begin; --i)
        std::swap(shuffled[i], shuffled[begin + random.below(i - begin + 1)]);
      begin = end;
    }
    const auto a = testing::run(plan, events, {.batch_size = 100});
    const auto b = testing::run(plan, shuffled, {.batch_size = 100});
    for (const std::size_t first : firsts) {
      ASSERT_TRUE(same_bits(a.rows[first], b.rows[first])) << "seed " << seed << " event " << first;
      ++compared;
    }
  }
  EXPECT_GT(compared, 500U);
}

TEST(StageTest, AHugeValueLeavesNothingBehind) {
  const FeaturePlan plan =
      compiled({testing::test_layout(false),
                {testing::rolling("level", 1, 0, {kMinuteMs}), testing::velocity("flow", 0, 0, {kMinuteMs})},
                {}});
  std::vector<TestEvent> events;
  for (int i = 0; i < 200; ++i) {
    const double x = i == 40 ? 1e15 : 0.1 * (i % 3);
    events.push_back({1'700'000'000'000 + i * 1000, {x, x}, {"card", ""}, 0});
  }
  const auto result = testing::run(plan, events, {});
  double sum = 0;
  // Of event 199 the window starts with event 140: the value at 40 left long ago.
  for (int i = 140; i < 199; ++i) sum += 0.1 * (i % 3);
  const auto& row = result.rows[199];
  const auto at = [&](const char* name) { return row[static_cast<std::size_t>(plan.find_column(name))]; };
  EXPECT_EQ(at("level.count_1m"), 59);
  EXPECT_NEAR(at("level.sum_1m"), sum, 1e-5);
  EXPECT_NEAR(at("flow.amount_1m"), sum, 1e-5);
  EXPECT_NEAR(at("level.std_1m"), 0.0816, 1e-3);
  EXPECT_FLOAT_EQ(at("level.max_1m"), 0.2F);
}

TEST(StageTest, SmallSpreadsOfLargeLevelsAreSeen) {
  const FeaturePlan plan =
      compiled({testing::test_layout(false), {testing::rolling("level", 1, 0, {kMinuteMs, kHourMs})}, {}});
  std::vector<TestEvent> events;
  for (int i = 0; i < 41; ++i) {
    // After a day of silence the level is another one.
    const double level = i < 20 ? -3e9 : 4e10;
    events.push_back({1'700'000'000'000 + i * 1000 + (i < 20 ? 0 : kDayMs), {0, level + i % 2}, {"card", ""}, 0});
  }
  const auto result = testing::run(plan, events, {});
  for (const std::size_t i : {18U, 40U}) {
    for (const char* name : {"level.std_1m", "level.std_1h"}) {
      EXPECT_NEAR(result.rows[i][static_cast<std::size_t>(plan.find_column(name))], 0.5, 0.01)
          << name << " of event " << i;
    }
  }
}

TEST(StageTest, IntegerSumsAreExactBeyondFloats) {
  // Each pair cancels at 2^45, where a float moves in steps of 2^22.
  const FeaturePlan plan =
      compiled({testing::test_layout(true), {testing::rolling("spend", 0, 0, {kMinuteMs, kHourMs})}, {}});
  std::vector<TestEvent> events;
  for (int i = 0; i < 30; ++i) {
    events.push_back(
        {1'700'000'000'000 + i * 1000, {i % 2 == 0 ? 0x1.0p45 + i : -0x1.0p45 + 1 - i, 0}, {"card", ""}, 0});
  }
  events.push_back({1'700'000'030'000, {1, 0}, {"card", ""}, 0});
  const auto result = testing::run(plan, events, {.batch_size = 1});
  const auto at = [&](const char* name) { return result.rows[30][static_cast<std::size_t>(plan.find_column(name))]; };
  EXPECT_EQ(at("spend.sum_1m"), 0);
  EXPECT_EQ(at("spend.count_1h"), 30);
  EXPECT_EQ(at("spend.min_1m"), static_cast<float>(-0x1.0p45));
}

TEST(StageTest, TimesBefore1970AndFarApartKeepTheirBuckets) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  Tally tally;
  auto events = make_stream(9, {.events = 800, .cards = 4, .step_ms = 5000, .gap_every = 100});
  for (TestEvent& event : events) event.time_ms -= 1'700'000'000'000 + 3 * kHourMs;          // crosses 1970
  for (std::size_t i = 700; i < events.size(); ++i) events[i].time_ms += 4'102'444'800'000;  // 2100
  compare(plan, events, 9, tally);
  EXPECT_EQ(tally.wrong, 0U);
}

TEST(StageTest, MissingKeysAreNotTouched) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  const std::vector<TestEvent> events{{1'700'000'000'000, {1, 2}, {"", ""}, 0}};
  const auto result = testing::run(plan, events, {});
  EXPECT_EQ(result.entities, 0U);
  for (const float x : result.rows[0]) EXPECT_TRUE(std::isnan(x));
}

TEST(StageTest, AFewEntitiesTakeFewBytes) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  KeyedStage stage(plan, 0);
  GlobalBaselines global(plan);
  const auto events = make_stream(3, {.events = 500});
  const EventBatch batch = testing::to_batch(plan.options().layout, events);
  FeatureMatrix out;
  out.reset(batch.rows(), plan.columns().size());
  const std::vector<std::uint32_t> snapshots(batch.rows(), 0);
  EXPECT_LT(stage.state_bytes(), 1024U);
  stage.process(batch, batch.order, global, snapshots, out);
  EXPECT_GT(stage.entities(), 30U);
  EXPECT_LT(stage.state_bytes(), 250'000U);
}

// The examples of docs/features.md.
TEST(StageTest, RollingExampleOfTheDocs) {
  const FeaturePlan plan = compiled({testing::test_layout(true), {testing::rolling("spend", 0, 0, {kMinuteMs})}, {}});
  constexpr std::int64_t kNoon = 1'700'049'600'000;
  const std::vector<std::pair<std::int64_t, double>> given{
      {500, 10}, {30'000, 30}, {59'900, 5}, {60'200, 7}, {45'000, 1}};
  std::vector<TestEvent> events;
  for (const auto& [after_ms, amount] : given) events.push_back({kNoon + after_ms, {amount, 0}, {"card", ""}, 0});
  const auto result = testing::run(plan, events, {});
  const auto row = [&](std::size_t i) { return std::vector<double>(result.rows[i].begin(), result.rows[i].end()); };
  EXPECT_THAT(row(0), ElementsAre(0, 0, IsNan(), IsNan(), IsNan(), IsNan()));
  EXPECT_THAT(row(1), ElementsAre(1, 10, 10, 0, 10, 10));
  EXPECT_THAT(row(2), ElementsAre(2, 40, 20, 10, 10, 30));
  EXPECT_THAT(row(3), ElementsAre(2, 35, 17.5, 12.5, 5, 30));
  EXPECT_THAT(row(4), ElementsAre(3, 42, 14, DoubleNear(11.3431, 1e-4), 5, 30));
}

TEST(StageTest, VelocityExampleOfTheDocs) {
  const FeaturePlan plan =
      compiled({testing::test_layout(true), {testing::velocity("pace", -1, 0, {kMinuteMs, kHourMs})}, {}});
  std::vector<TestEvent> events;
  for (int i = 0; i < 5; ++i) events.push_back({1'700'049'600'000 + i * 5 * kMinuteMs, {0, 0}, {"card", ""}, 0});
  for (int i = 0; i < 5; ++i)
    events.push_back({1'700'049'600'000 + 30 * kMinuteMs + i * 2500, {0, 0}, {"card", ""}, 0});
  const auto result = testing::run(plan, events, {});
  const auto at = [&](const char* name) { return result.rows[9][static_cast<std::size_t>(plan.find_column(name))]; };
  EXPECT_EQ(at("pace.events_1m"), 4);
  EXPECT_EQ(at("pace.events_1h"), 9);
  EXPECT_FLOAT_EQ(at("pace.ratio_1m_1h"), 24);
  EXPECT_FLOAT_EQ(at("pace.gap_s"), 2.5);
}

TEST(StageTest, BaselineExampleOfTheDocs) {
  FeatureSpec level = testing::baseline("level", 1, 0, 1'000'000 * kDayMs, 4);
  const FeaturePlan plan = compiled({testing::test_layout(true), {level}, {{0, "", DeviationMethod::kQuartiles}}});
  std::vector<TestEvent> events;
  for (const double x : {8.0, 12.0, 8.0, 12.0, 20.0, 20.0}) {
    events.push_back({1'700'049'600'000 + static_cast<std::int64_t>(events.size()), {0, x}, {"card", ""}, 0});
  }
  for (const double x : {1.0, 2.0, 3.0, 4.0, 5.0, 9.0}) {
    events.push_back({1'700'049'700'000 + static_cast<std::int64_t>(events.size()), {0, x}, {"other", ""}, 0});
  }
  const auto result = testing::run(plan, events, {});
  const auto at = [&](std::size_t i, const char* name) {
    return result.rows[i][static_cast<std::size_t>(plan.find_column(name))];
  };
  EXPECT_NEAR(at(4, "level.expected"), 10, 1e-6);
  EXPECT_NEAR(at(4, "level.spread"), 2.236, 1e-3);
  EXPECT_NEAR(at(4, "level.z"), 4.472, 1e-3);
  EXPECT_NEAR(at(5, "level.expected"), 10.244, 1e-3);
  EXPECT_NEAR(at(5, "level.spread"), std::sqrt(25.756 / 4.1 * (1 + 1 / 4.1)), 1e-3);
  EXPECT_NEAR(at(11, "level.iqr.expected"), 3, 1e-6);
  EXPECT_NEAR(at(11, "level.iqr.z"), 2.5, 1e-3);
}

}  // namespace
}  // namespace alcedo::features
