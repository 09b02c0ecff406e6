// Hours of the week against a recompute from all values, what they take of memory, and what is strange at night.
#include "features/operators/season_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "features/operators/naive_level.h"
#include "features/record_pool.h"

namespace alcedo::features {
namespace {

using testing::NaiveLevel;
using testing::TestEvent;

constexpr std::int64_t kMonday = 1'700'438'400'000;  // 2023-11-20 00:00 UTC

FeatureSpec season(std::int64_t half_life_ms, std::uint32_t min_history, std::int64_t accept_ms = 0) {
  FeatureSpec spec = testing::baseline("hours", 1, 1, half_life_ms, min_history);
  spec.kind = FeatureKind::kSeason;
  spec.accept_ms = accept_ms;
  return spec;
}

// Everything that an entity learned, whole and by hour.
struct Entity {
  NaiveLevel level;
  struct Value {
    std::int64_t time_ms;
    double x;
    double weight;
    bool first;  // of its hour
  };
  std::array<std::vector<Value>, 168> hours;
  std::vector<std::vector<Value>> gone;  // what forgotten hours held: it still tells how values of an hour differ

  void restart() {
    for (auto& hour : hours) hour.clear();
    gone.clear();
  }
};

struct Happened {
  std::size_t accepted = 0;
  std::size_t forgotten = 0;
  std::size_t deviating = 0;
};

std::vector<testing::ExpectedColumn> answer(Entity& entity, const FeatureSpec& spec, const TestEvent& event, double x,
                                            double step, std::int64_t now_ms, bool in_order, Happened& happened) {
  NaiveLevel& level = entity.level;
  level.half_life_ms = spec.half_life_ms;
  level.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : spec.half_life_ms / 8;
  level.min_history = spec.min_history;
  if (in_order && level.forget(now_ms)) {
    ++happened.forgotten;
    entity.restart();
  }
  const double since_monday = static_cast<double>(event.time_ms - kMonday) / 3'600'000.0;
  const auto hour = static_cast<std::size_t>(since_monday - 168 * std::floor(since_monday / 168));
  struct Sums {
    double weight = 0, mean = 0, squares = 0, repeated = 0;
  };
  const auto sums = [&](const std::vector<Entity::Value>& values) {
    Sums s;
    for (const auto& v : values) s.weight += v.weight * level.decay(v.time_ms, now_ms);
    for (const auto& v : values) s.mean += v.weight * level.decay(v.time_ms, now_ms) * v.x / s.weight;
    for (const auto& v : values) {
      const double w = v.weight * level.decay(v.time_ms, now_ms);
      s.squares += w * (v.x - s.mean) * (v.x - s.mean);
      s.repeated += v.first ? 0 : w;
    }
    return s;
  };
  double expected = kMissing, spread = kMissing, z = kMissing;
  const std::uint32_t history = level.history;
  if (!level.values.empty()) {
    const double mean = level.mean(now_ms);
    const double whole = level.variance(now_ms);
    double squares = 0, repeated = 0;
    const auto add_within = [&](const std::vector<Entity::Value>& values) {
      squares += sums(values).squares;
      repeated += sums(values).repeated;
    };
    for (auto& one : entity.hours) {
      if (!one.empty() && sums(one).weight < 1e-6) {
        entity.gone.push_back(one);
        one.clear();
      }
      add_within(one);
    }
    for (const auto& one : entity.gone) add_within(one);
    const Sums own = sums(entity.hours[hour]);
    const double within = (squares + whole) / (repeated + 1);
    const double between = std::max(0.0, whole - within);
    const double b = own.weight * between / (own.weight * between + within + testing::naive_floor(mean, step));
    expected = b * own.mean + (1 - b) * mean;
    spread = std::sqrt((own.squares + 4 * within) / (own.weight + 4) + (1 - b) * between +
                       whole / level.weight(now_ms) + testing::naive_floor(expected, step));
    if (history >= spec.min_history && !std::isnan(x)) z = std::clamp((x - expected) / spread, -1e6, 1e6);
  }
  if (in_order && !std::isnan(x)) {
    const bool deviates = std::fabs(z) > 4;
    happened.deviating += deviates ? 1 : 0;
    if (level.learn(x, deviates, now_ms)) {
      ++happened.accepted;
      entity.restart();
    } else {
      entity.hours[hour].push_back({now_ms, x, deviates ? 0.1 : 1.0, entity.hours[hour].empty()});
    }
  }
  const double near = 2e-5;
  return {{"seen", x},
          {"expected", expected, near * (std::fabs(expected) + spread)},
          {"spread", spread, near * spread},
          {"z", z, near * (1 + std::fabs(z) + std::fabs(expected) / spread)},
          {"history", static_cast<double>(history)}};
}

TEST(SeasonOperatorTest, AgreesWithARecomputeFromAllValues) {
  testing::ColumnTally tally;
  Happened happened;
  const std::vector<FeatureSpec> specs{season(14 * kDayMs, 20), season(2 * kDayMs, 5, 5 * kHourMs), season(kHourMs, 3),
                                       season(kDayMs, 10), season(60 * kDayMs, 5, kDayMs)};
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const FeatureSpec& spec = specs[seed % specs.size()];
    const FeaturePlan plan = testing::plan_of(spec);
    auto events = testing::make_hourly_stream(seed, 4000);
    if (seed == 7) {
      for (TestEvent& event : events) event.time_ms -= 1'700'000'000'000 + 17 * kDayMs;  // crosses 1970
    }
    testing::compare_columns<Entity>(
        plan, events,
        [&](Entity& entity, const TestEvent& event, double x, double step, std::int64_t now_ms, bool in_order) {
          return answer(entity, spec, event, x, step, now_ms, in_order, happened);
        },
        tally);
  }
  std::cout << tally.compared << " compared, " << tally.present << " present, " << tally.wrong << " wrong; "
            << happened.accepted << " new levels, " << happened.forgotten << " forgotten, " << happened.deviating
            << " learned slowly\n";
  EXPECT_GT(tally.present, 150'000U);
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GT(happened.accepted, 10U);
  EXPECT_GT(happened.forgotten, 10U);
  EXPECT_GT(happened.deviating, 100U);
}

TEST(SeasonOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(season(2 * kDayMs, 5)), testing::make_hourly_stream(11, 3000)),
            0U);
}

// Six readings an hour by one device, for days from a Monday: 100 by day, 10 by night, each +-1.
std::vector<TestEvent> days_and_nights(int days) {
  Prng random(3);
  std::vector<TestEvent> events;
  for (int i = 0; i < days * 144; ++i) {
    const int hour = i / 6 % 24;
    const double x = (hour >= 8 && hour < 20 ? 100 : 10) + random.normal();
    events.push_back({kMonday + i * 10 * kMinuteMs, {0, x}, {"", "a"}, 0});
  }
  return events;
}

TEST(SeasonOperatorTest, WhatIsNormalAtNoonIsStrangeAtNight) {
  const FeaturePlan plan = testing::plan_of(season(14 * kDayMs, 20));
  auto events = days_and_nights(28);
  const std::int64_t next_monday = kMonday + 28 * kDayMs;
  for (const std::int64_t hour : {3, 12}) {
    events.push_back({next_monday + hour * kHourMs, {0, 100}, {"", "a"}, 0});
  }
  const auto rows = testing::run(plan, events, {}).rows;
  const auto& night = rows[rows.size() - 2];
  const auto& noon = rows.back();
  EXPECT_NEAR(night[1], 10, 3);
  EXPECT_GT(night[3], 10);
  EXPECT_NEAR(noon[1], 100, 3);
  EXPECT_LT(std::fabs(noon[3]), 1.5);
  // In a week that was as the others nothing is strange.
  std::size_t strange = 0;
  for (std::size_t i = 21 * 144; i < 28 * 144; ++i) strange += std::fabs(rows[i][3]) > 4 ? 1 : 0;
  EXPECT_EQ(strange, 0U);
  // The plain mean, beside it, sees nothing strange in 100 at night.
  const auto plain = testing::run(testing::plan_of(testing::baseline("mean", 1, 1, 14 * kDayMs, 20)), events, {});
  EXPECT_LT(std::fabs(plain.rows[rows.size() - 2][3]), 2);
}

TEST(SeasonOperatorTest, HoursThatDoNotDifferAreOneLevel) {
  Prng random(4);
  std::vector<TestEvent> events;
  for (int i = 0; i < 21 * 48; ++i)
    events.push_back({kMonday + i * 30 * kMinuteMs, {0, 50 + random.normal()}, {"", "a"}, 0});
  const auto rows = testing::run(testing::plan_of(season(14 * kDayMs, 20)), events, {}).rows;
  double squares = 0;
  for (std::size_t i = 14 * 48; i < rows.size(); ++i) squares += std::pow(static_cast<double>(rows[i][1]) - 50, 2);
  // Means of an hour's own four values would be off by half a sigma.
  EXPECT_LT(std::sqrt(squares / (7 * 48)), 0.25);
}

// Bytes that an entity takes of the system, with record and key.
std::size_t bytes_of(const std::vector<int>& hours, int entities) {
  const FeaturePlan plan = testing::plan_of(season(14 * kDayMs, 20));
  std::vector<TestEvent> events;
  for (const int hour : hours) {
    for (int e = 0; e < entities; ++e)
      events.push_back({kMonday + hour * kHourMs, {0, 5.0 + hour}, {"", "d" + std::to_string(e)}, 0});
  }
  const EventBatch batch = testing::to_batch(plan.options().layout, events);
  KeyedStage stage(plan, 0);
  GlobalBaselines global(plan);
  FeatureMatrix out;
  out.reset(batch.rows(), plan.columns().size());
  const std::vector<std::uint32_t> snapshots(batch.rows(), 0);
  stage.process(batch, batch.order, global, snapshots, out);
  return stage.state_bytes();
}

TEST(SeasonOperatorTest, AnEntityPaysForTheHoursItWasSeenIn) {
  std::vector<int> all(169);
  for (int i = 0; i < 169; ++i) all[static_cast<std::size_t>(i)] = i;
  constexpr int kEntities = 20'000;
  const double three = static_cast<double>(bytes_of({1, 2, 3, 4}, kEntities)) / kEntities;
  const double full = static_cast<double>(bytes_of(all, kEntities)) / kEntities;
  std::cout << three << " bytes an entity with 3 hours at rest, " << full << " with all 168\n";
  // Pools come in chunks of 2 MB: up to 4 of them are not full.
  const double chunks = 4.0 * RecordPool::kChunkBytes / kEntities;
  EXPECT_LT(three, 192 + 12 * 12 + 32 + chunks);
  EXPECT_LT(full, 2300 + chunks);
  EXPECT_GT(full, 168 * 12);
  EXPECT_EQ(season_state_bytes(season(kDayMs, 1)) + 168 * 12, 2184U);
}

TEST(SeasonOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = testing::plan_of(season(1'000'000 * kDayMs, 6));
  std::vector<TestEvent> events;
  for (int week = 0; week < 3; ++week) {
    events.push_back({kMonday + week * 7 * kDayMs + 9 * kHourMs, {0, 9.0 + week}, {"", "a"}, 0});
    events.push_back({kMonday + week * 7 * kDayMs + 21 * kHourMs, {0, 29.0 + week}, {"", "a"}, 0});
  }
  events.push_back({kMonday + 21 * kDayMs + 9 * kHourMs, {0, 30}, {"", "a"}, 0});
  const auto row = testing::run(plan, events, {}).rows.back();
  EXPECT_EQ(row[0], 30);
  EXPECT_NEAR(row[1], 10.805, 0.001);
  EXPECT_NEAR(row[2], 5.953, 0.001);
  EXPECT_NEAR(row[3], 3.224, 0.001);
  EXPECT_EQ(row[4], 6);
}

TEST(SeasonOperatorTest, CountersAreJudgedByTheirRate) {
  FeatureSpec rate = testing::baseline("rate", 1, 1, kDayMs, 5);
  auto plan = FeaturePlan::compile({testing::test_layout(false), {rate, season(kDayMs, 5)}, {}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  std::vector<TestEvent> events;
  for (int i = 0; i < 20; ++i) events.push_back({kMonday + i * kMinuteMs, {0, 600.0 * i}, {"", "a"}, kEventCounter});
  const auto rows = testing::run(*plan, events, {}).rows;
  const auto seen = static_cast<std::size_t>(plan->find_column("hours.seen"));
  EXPECT_TRUE(std::isnan(rows[0][seen]));
  EXPECT_EQ(rows[19][seen], 10);
  EXPECT_EQ(rows[19][seen], rows[19][static_cast<std::size_t>(plan->find_column("rate.seen"))]);
}

TEST(SeasonOperatorTest, IsADeviationThatDetectorsCanName) {
  auto plan =
      FeaturePlan::compile({testing::test_layout(false), {season(kDayMs, 5)}, {{0, "", DeviationMethod::kEwma}}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->deviations().size(), 1U);
  EXPECT_EQ(plan->columns().size(), 5U) << "the operator's columns serve";
  EXPECT_EQ(plan->deviations_of(0), std::vector<std::uint32_t>{0});
  EXPECT_EQ(plan->deviations()[0].request, 0U);
  EXPECT_EQ(plan->columns()[plan->deviations()[0].z].name, "hours.z");
  const auto refused =
      FeaturePlan::compile({testing::test_layout(false), {season(kDayMs, 5)}, {{0, "z", DeviationMethod::kEwma}}});
  EXPECT_FALSE(refused.has_value());
}

}  // namespace
}  // namespace alcedo::features
