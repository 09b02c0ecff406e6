// Distinct values against a recompute from all events: equal up to 16, within the stated error beyond.
#include "features/operators/distinct_operator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "features/oracle_tally.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::make_stream;
using testing::same_bits;
using testing::TestEvent;

FeatureSpec distinct(std::string name, std::vector<std::int64_t> windows, bool including = false) {
  FeatureSpec spec;
  spec.name = std::move(name);
  spec.kind = FeatureKind::kDistinct;
  spec.key = 0;
  spec.other_key = 1;
  spec.windows_ms = std::move(windows);
  spec.including = including;
  return spec;
}

FeaturePlan compiled(std::vector<FeatureSpec> features) {
  auto plan = FeaturePlan::compile({testing::test_layout(true), std::move(features), {}});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

// Devices of cards: mostly few a card, for a while many, from a set that a late event may have seen before.
std::vector<TestEvent> stream(std::uint64_t seed, testing::StreamOptions options) {
  auto events = make_stream(seed, options);
  Prng random(seed + 1000);
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::uint64_t few = 1 + random.below(12);
    const std::uint64_t many = (i / 400) % 3 == 1 ? 2000 : (i / 400) % 3 == 2 ? 22 : few;
    std::string& device = events[i].keys[1];
    if (!device.empty()) device = "device" + std::to_string(random.below(many));
  }
  return events;
}

struct Tally {
  std::size_t compared = 0;
  std::size_t wrong = 0;
  std::size_t estimated = 0;
  double squared_errors = 0;
  double worst = 0;
};

void compare(const FeaturePlan& plan, const std::vector<TestEvent>& events, Tally& tally) {
  const auto result = testing::run(plan, events, {.batch_size = 257});
  struct Entity {
    std::int64_t clock_ms = 0;
    std::vector<std::pair<std::int64_t, std::string>> seen;
  };
  std::map<std::string, Entity> entities;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const TestEvent& event = events[i];
    if (event.keys[0].empty()) continue;
    Entity& entity = entities[event.keys[0]];
    entity.clock_ms = entity.seen.empty() ? event.time_ms : std::max(entity.clock_ms, event.time_ms);
    const auto past = entity.seen.size();
    entity.seen.emplace_back(event.time_ms, event.keys[1]);
    for (const FeatureSpec& spec : plan.options().features) {
      for (const std::int64_t window : spec.windows_ms) {
        const auto grain = static_cast<double>(window / 60);
        const double newest = std::floor(static_cast<double>(entity.clock_ms) / grain);
        std::set<std::string> values;
        for (std::size_t e = 0; e < (spec.including ? past + 1 : past); ++e) {
          const auto& [time_ms, value] = entity.seen[e];
          if (!value.empty() && std::floor(static_cast<double>(time_ms) / grain) > newest - 60) values.insert(value);
        }
        const auto want = static_cast<double>(values.size());
        const std::string name = spec.name + ".distinct_" + format_duration(window);
        const double got = result.rows[i][static_cast<std::size_t>(plan.find_column(name))];
        ++tally.compared;
        if (values.size() <= kDistinctExact) {
          if (!testing::OracleTally::count(got == want) && tally.wrong++ < 10)
            ADD_FAILURE() << "event " << i << " column " << name << ": got " << got << ", expected " << want;
          continue;
        }
        const double off = std::fabs(got - want) / want;
        ++tally.estimated;
        tally.squared_errors += off * off;
        tally.worst = std::max(tally.worst, off);
        EXPECT_GT(got, kDistinctExact);
      }
    }
  }
}

TEST(DistinctOperatorTest, AgreesWithARecomputeFromAllEvents) {
  const FeaturePlan plan = compiled({distinct("past", {kMinuteMs, 5 * kMinuteMs, kHourMs}),
                                     distinct("now", {30 * kSecondMs, 61'020, 2 * kHourMs}, true)});
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    testing::StreamOptions options;
    options.events = 3000;
    options.late_max_ms = seed % 3 == 0 ? 3 * kHourMs : 4 * kMinuteMs;
    options.step_ms = seed <= 2 ? 300 : seed <= 4 ? 3000 : 20'000;
    options.cards = seed % 2 == 0 ? 6 : 300;
    options.gap_every = seed == 5 ? 0 : 700;
    compare(plan, stream(seed, options), tally);
  }
  const double error = std::sqrt(tally.squared_errors / static_cast<double>(tally.estimated));
  std::cout << "compared " << tally.compared << " values; " << tally.estimated << " of them estimated, standard error "
            << error << ", worst " << tally.worst << "\n";
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GT(tally.compared - tally.estimated, 50'000U);
  EXPECT_GT(tally.estimated, 10'000U) << "the streams must fill the list, or nothing was tested of the sketch";
  EXPECT_LT(error, 0.087);
  EXPECT_LT(tally.worst, 4.5 * 0.087);
}

TEST(DistinctOperatorTest, ShortUnitsSurviveLongSilencesAndLongHistories) {
  // Units of a millisecond: 2^32 of them are 50 days, and cells are moved every 12.
  const FeaturePlan plan = compiled({distinct("past", {60, kDayMs})});
  for (const bool silent : {false, true}) {
    for (const bool steady : {false, true}) {
      auto events = stream(3, {.events = 4000, .cards = 1, .step_ms = 1.2e6, .late_max_ms = kDayMs, .gap_every = 0});
      for (std::size_t i = 0; i < events.size(); ++i) {
        events[i].keys[0] = "card";
        if (steady) events[i].keys[1] = "device" + std::to_string(i * i % 61);  // one sketch lives through it all
        if (silent) events[i].time_ms += static_cast<std::int64_t>(i / 500) * 0x1'0000'0000;
        if (!silent) events[i].time_ms -= 1'700'020'000'000;  // crosses 1970
      }
      Tally tally;
      compare(plan, events, tally);
      EXPECT_EQ(tally.wrong, 0U);
      EXPECT_GT(tally.estimated, 500U);
      EXPECT_LT(tally.worst, 4.5 * 0.087);
    }
  }
}

TEST(DistinctOperatorTest, BatchesAndWorkersAreUnobservable) {
  const FeaturePlan plan = compiled({distinct("past", {kMinuteMs, kHourMs}), distinct("now", {kMinuteMs}, true)});
  const auto events = stream(7, {.events = 3000, .cards = 10});
  const auto whole = testing::run(plan, events, {});
  for (const std::size_t size : {1U, 2U, 31U, 32U, 33U, 500U}) {
    for (const std::size_t workers : {1U, 3U}) {
      const auto parts = testing::run(plan, events, {.batch_size = size, .workers = workers});
      for (std::size_t i = 0; i < events.size(); ++i)
        ASSERT_TRUE(same_bits(whole.rows[i], parts.rows[i])) << "batch " << size << " row " << i;
    }
  }
}

TEST(DistinctOperatorTest, TheSketchKeepsItsErrorUpToManyValues) {
  const FeaturePlan plan = compiled({distinct("now", {kHourMs}, true)});
  constexpr std::size_t kEntities = 60;
  std::size_t n = 0;
  std::map<std::size_t, std::pair<double, double>> sums;  // by number: of errors, of their squares
  std::vector<KeyedStage> stages;
  stages.emplace_back(plan, 0);
  const GlobalBaselines global(plan);
  for (const std::size_t upto : {20U, 50U, 200U, 1000U, 20'000U}) {
    EventBatch batch(plan.options().layout);
    batch.reset((upto - n) * kEntities, 1);
    FeatureMatrix out;
    out.reset(batch.rows(), 1);
    for (std::uint32_t row = 0; row < batch.rows(); ++row) {
      batch.header(row) = EventHeader{};
      batch.header(row).time_ms = 1'700'000'000'000;
      batch.keys(row)[0].hash = row % kEntities + 1;
      batch.keys(row)[1].hash = (row % kEntities + 1) * 1'000'000 + n + row / kEntities;
      batch.order.push_back(row);
    }
    stages[0].process(batch, batch.order, global, std::vector<std::uint32_t>(batch.rows(), 0), out);
    n = upto;
    for (auto row = static_cast<std::uint32_t>(batch.rows() - kEntities); row < batch.rows(); ++row) {
      const double off = out.row(row)[0] / static_cast<double>(n) - 1;
      sums[n].first += off;
      sums[n].second += off * off;
    }
  }
  for (const auto& [number, sum] : sums) {
    const double bias = sum.first / kEntities;
    const double error = std::sqrt(sum.second / kEntities);
    std::cout << number << " values: bias " << bias << ", standard error " << error << "\n";
    // From 60 sketches: the error is itself known to a tenth, the bias to 1.1 %.
    EXPECT_LT(error, 0.087 * 1.3);
    EXPECT_LT(std::fabs(bias), 0.035);
  }
}

TEST(DistinctOperatorTest, MemoryIsAsStated) {
  const FeaturePlan plan = compiled({distinct("past", {kMinuteMs, kHourMs})});
  const auto bytes = [&](std::size_t cards, std::uint64_t devices, std::size_t events) {
    Prng random(5);
    KeyedStage stage(plan, 0);
    const GlobalBaselines global(plan);
    EventBatch batch(plan.options().layout);
    batch.reset(events, 1);
    for (std::uint32_t row = 0; row < events; ++row) {
      batch.header(row) = EventHeader{};
      batch.header(row).time_ms = 1'700'000'000'000 + row;
      batch.keys(row)[0].hash = mix64(row % cards + 1) | 1;
      batch.keys(row)[1].hash = random.below(devices) + 1;
      batch.order.push_back(row);
    }
    FeatureMatrix out;
    out.reset(events, plan.columns().size());
    stage.process(batch, batch.order, global, std::vector<std::uint32_t>(events, 0), out);
    EXPECT_EQ(stage.entities(), cards);
    return static_cast<double>(stage.state_bytes()) / static_cast<double>(cards);
  };
  const double cold = bytes(200'000, 3, 600'000);
  const double hot = bytes(4000, 1000, 400'000);
  std::cout << "bytes an entity, with key table and record: " << cold << " with 3 values, " << hot << " with 100\n";
  EXPECT_LT(cold, 64 + 32 + 64 + 10);  // record, list of 4, up to 4 key slots, the last chunks' rest
  EXPECT_LT(hot, (4256 + 1064 * 2) * 1.15 + 64);
  EXPECT_GT(hot, 4000);
}

TEST(DistinctOperatorTest, MistakesAreNamed) {
  const auto message = [](FeatureSpec spec) {
    const auto plan = FeaturePlan::compile({testing::test_layout(true), {std::move(spec)}, {}});
    return plan ? std::string() : plan.error().message;
  };
  FeatureSpec no_key = distinct("d", {kMinuteMs});
  no_key.other_key = 2;
  EXPECT_THAT(message(no_key), HasSubstr("key slot 2"));
  EXPECT_THAT(message(distinct("d", {})), HasSubstr("no windows"));
  EXPECT_THAT(message(distinct("d", {61})), HasSubstr("multiple of 60 ms"));
  EXPECT_THAT(message(distinct("d", {60, 60 * (kDayMs + 1)})), HasSubstr("common divisor"));
}

// The example of docs/features.md.
TEST(DistinctOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = compiled({distinct("shops", {kMinuteMs, 5 * kMinuteMs})});
  constexpr std::int64_t kNoon = 1'700'049'600'000;
  const std::vector<std::pair<std::int64_t, std::string>> given{
      {500, "a"}, {20'000, "b"}, {30'000, "a"}, {80'200, "c"}, {81'000, ""}, {45'000, "d"}, {90'000, "a"}};
  std::vector<TestEvent> events;
  for (const auto& [after_ms, shop] : given) events.push_back({kNoon + after_ms, {1, 0}, {"card", shop}, 0});
  const auto result = testing::run(plan, events, {});
  std::vector<float> minute;
  std::vector<float> five;
  for (const auto& row : result.rows) {
    minute.push_back(row[0]);
    five.push_back(row[1]);
  }
  EXPECT_THAT(minute, ElementsAre(0, 1, 2, 1, 2, 2, 2));
  EXPECT_THAT(five, ElementsAre(0, 1, 2, 2, 3, 3, 4));
}

}  // namespace
}  // namespace alcedo::features
