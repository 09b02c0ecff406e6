// Quartiles of windows against a recompute from all events: equal up to 64 values, within the sketch's error beyond.
#include "features/operators/quantile_operator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "features/operators/quantile_sketch.h"
#include "features/oracle_tally.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using ::testing::HasSubstr;
using testing::make_stream;
using testing::same_bits;
using testing::TestEvent;

FeatureSpec quantiles(std::string name, int number, std::vector<std::int64_t> windows, bool including = false) {
  FeatureSpec spec;
  spec.name = std::move(name);
  spec.kind = FeatureKind::kQuantiles;
  spec.number = number;
  spec.key = 0;
  spec.windows_ms = std::move(windows);
  spec.including = including;
  return spec;
}

FeaturePlan compiled(std::vector<FeatureSpec> features) {
  auto plan = FeaturePlan::compile({testing::test_layout(false), std::move(features), {}});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

std::vector<TestEvent> stream(std::uint64_t seed, const testing::StreamOptions& options) {
  auto events = make_stream(seed, options);
  Prng random(seed + 1000);
  for (TestEvent& event : events) {
    if (random.uniform() < 0.03) event.numbers[0] = 0;
    // A third of the levels repeat, so that equal values stand at the quartiles too.
    if (random.uniform() < 0.33 && !std::isnan(event.numbers[1])) event.numbers[1] = std::round(event.numbers[1]);
  }
  return events;
}

// How often cells must have been joined in pairs for all values to fit, from the definition of a cell.
int level_of(const std::vector<std::pair<std::int64_t, double>>& values) {
  for (int level = 0;; ++level) {
    std::set<std::pair<int, double>> cells;
    for (const auto& [time_ms, x] : values) {
      const double power = x == 0 ? 0 : std::ceil(std::log(std::fabs(x)) / std::log(1.02));
      cells.insert({x < 0 ? -1 : x > 0 ? 1 : 0, std::ceil(power / std::pow(2.0, level))});
    }
    if (cells.size() <= kSketchCells) return level;
  }
}

struct Tally {
  std::size_t compared = 0;
  std::size_t present = 0;
  std::size_t estimated = 0;
  std::size_t wrong = 0;
  double worst = 0;           // of the estimated ones, in shares of what is allowed
  std::map<int, int> levels;  // estimated values by level
};

struct Quartile {
  double value = kMissing;
  double magnitude = 0;  // what the order statistics weigh without their signs: errors are shares of it
};

Quartile quartile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return {};
  const double place = share * static_cast<double>(sorted.size() - 1);
  const double low = sorted[static_cast<std::size_t>(std::floor(place))];
  const double high = sorted[static_cast<std::size_t>(std::ceil(place))];
  const double above = place - std::floor(place);
  return {low + above * (high - low), (1 - above) * std::fabs(low) + above * std::fabs(high)};
}

void compare(const FeaturePlan& plan, const std::vector<TestEvent>& events, Tally& tally) {
  const auto result = testing::run(plan, events, {.batch_size = 257});
  struct Entity {
    bool started = false;
    std::int64_t clock_ms = 0;
    std::map<int, std::vector<std::pair<std::int64_t, double>>> seen;  // by number
  };
  std::map<std::string, Entity> entities;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const TestEvent& event = events[i];
    if (event.keys[0].empty()) continue;
    Entity& entity = entities[event.keys[0]];
    entity.clock_ms = entity.started ? std::max(entity.clock_ms, event.time_ms) : event.time_ms;
    entity.started = true;
    for (const bool including : {false, true}) {
      for (const FeatureSpec& spec : plan.options().features) {
        if (spec.including != including) continue;
        const auto& seen = entity.seen[spec.number];
        for (const std::int64_t window : spec.windows_ms) {
          const auto grain = static_cast<double>(window / 60);
          const double first = std::floor(static_cast<double>(entity.clock_ms) / grain) - 59;
          std::vector<double> in;
          std::vector<double> in_panes;
          for (const auto& [time_ms, x] : seen) {
            const double bucket = std::floor(static_cast<double>(time_ms) / grain);
            if (bucket >= first) in.push_back(x);
            if (std::floor(bucket / 10) >= std::floor(first / 10)) in_panes.push_back(x);
          }
          const bool exact = in.size() <= kQuantileExact;
          const int level = exact ? 0 : level_of(seen);
          std::vector<double>& sorted = exact ? in : in_panes;
          std::sort(sorted.begin(), sorted.end());
          std::vector<Quartile> want;
          for (const double share : {0.25, 0.5, 0.75}) want.push_back(quartile(sorted, share));
          want.push_back({want[2].value - want[0].value, want[2].magnitude + want[0].magnitude});
          const char* const stats[] = {"p25", "p50", "p75", "iqr"};
          for (std::size_t s = 0; s < want.size(); ++s) {
            const std::string name = spec.name + "." + stats[s] + "_" + format_duration(window);
            const double got = result.rows[i][static_cast<std::size_t>(plan.find_column(name))];
            ++tally.compared;
            if (std::isnan(got) && std::isnan(want[s].value)) continue;
            ++tally.present;
            double allowed = 0;
            if (!exact) {
              ++tally.estimated;
              ++tally.levels[level];
              allowed = sketch_error(level) * want[s].magnitude + 1e-6 * want[s].magnitude;
              if (allowed > 0) tally.worst = std::max(tally.worst, std::fabs(got - want[s].value) / allowed);
            }
            const bool agrees =
                exact ? got == static_cast<float>(want[s].value) : std::fabs(got - want[s].value) <= allowed;
            if (!testing::OracleTally::count(agrees) && tally.wrong++ < 10)
              ADD_FAILURE() << "event " << i << " column " << name << ": got " << got << ", expected " << want[s].value
                            << " +- " << allowed;
          }
        }
      }
      for (const int number : {0, 1}) {
        const double x = event.numbers[static_cast<std::size_t>(number)];
        if (!including && !std::isnan(x)) entity.seen[number].emplace_back(event.time_ms, x);
      }
    }
  }
}

TEST(QuantileOperatorTest, AgreesWithARecomputeFromAllEvents) {
  const FeaturePlan plan =
      compiled({quantiles("past", 0, {kMinuteMs, 5 * kMinuteMs, kHourMs}), quantiles("level", 1, {kMinuteMs, kHourMs}),
                quantiles("now", 0, {30 * kSecondMs, 61'020, 2 * kHourMs}, true)});
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    testing::StreamOptions options;
    options.events = 2500;
    options.whole = seed % 2 == 1;
    options.late_max_ms = seed % 3 == 0 ? 3 * kHourMs : 4 * kMinuteMs;
    options.step_ms = seed <= 2 ? 100 : seed <= 4 ? 1500 : 8000;
    options.cards = seed % 2 == 0 ? 4 : 100;
    options.gap_every = seed == 5 ? 0 : 700;
    compare(plan, stream(seed, options), tally);
  }
  std::cout << "compared " << tally.compared << " values, " << tally.present << " of them present, " << tally.estimated
            << " estimated, the worst at " << tally.worst << " of the bound;";
  for (const auto& [level, values] : tally.levels) std::cout << " level " << level << ": " << values;
  std::cout << "\n";
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GT(tally.present - tally.estimated, 100'000U);
  EXPECT_GT(tally.estimated, 30'000U) << "the streams must fill the list, or nothing was tested of the sketch";
  EXPECT_GT(tally.worst, 0.8) << "a bound that is never approached tests nothing";
  EXPECT_GT(tally.levels[0], 1000);
  EXPECT_GT(tally.levels[2], 1000);
}

TEST(QuantileOperatorTest, ShortUnitsSurviveLongSilencesAndLongHistories) {
  const FeaturePlan plan = compiled({quantiles("past", 1, {60, kDayMs})});
  for (const bool silent : {false, true}) {
    auto events = stream(3, {.events = 3000, .step_ms = 4e5, .late_max_ms = kDayMs, .gap_every = 0});
    for (std::size_t i = 0; i < events.size(); ++i) {
      events[i].keys[0] = "card";
      if (silent) events[i].time_ms += static_cast<std::int64_t>(i / 500) * 0x1'0000'0000;
      if (!silent) events[i].time_ms -= 1'700'000'500'000;  // crosses 1970
    }
    Tally tally;
    compare(plan, events, tally);
    EXPECT_EQ(tally.wrong, 0U);
    EXPECT_GT(tally.estimated, 5000U);
  }
}

TEST(QuantileOperatorTest, BatchesAndWorkersAreUnobservable) {
  const FeaturePlan plan = compiled({quantiles("past", 0, {kMinuteMs, kHourMs}), quantiles("now", 1, {kHourMs}, true)});
  const auto events = stream(7, {.events = 3000, .cards = 10, .counter_share = 0.1});
  const auto whole = testing::run(plan, events, {});
  for (const std::size_t size : {1U, 2U, 31U, 32U, 33U, 500U}) {
    for (const std::size_t workers : {1U, 3U}) {
      const auto parts = testing::run(plan, events, {.batch_size = size, .workers = workers});
      for (std::size_t i = 0; i < events.size(); ++i)
        ASSERT_TRUE(same_bits(whole.rows[i], parts.rows[i])) << "batch " << size << " row " << i;
    }
  }
}

TEST(QuantileOperatorTest, EveryMagnitudeHasACell) {
  QuantileSketchStore store;
  std::uint32_t sketch = store.create(0);
  const std::vector<double> values{-1e308, -1.0, -1e-299, -0.0, 1e-310, 1e-299, 1.0, 3.0, 1.7e308};
  for (const double x : values) store.add(sketch, SketchCode(x), 0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double share[] = {static_cast<double>(i) / static_cast<double>(values.size() - 1)};
    double got[] = {kMissing};
    store.quantiles(sketch, share, got);
    const double want = std::fabs(values[i]) < 1e-300 ? 0 : values[i];
    EXPECT_NEAR(got[0] / (want == 0 ? 1 : want), want == 0 ? 0 : 1, sketch_error(0) + 1e-9) << values[i];
  }
}

TEST(QuantileOperatorTest, TheErrorGrowsByTheRatioOfMagnitudesOnly) {
  for (const auto& [ratio, level] : std::vector<std::pair<double, int>>{{150, 0}, {2e4, 1}, {6e8, 2}, {1e17, 3}}) {
    QuantileSketchStore store;
    std::uint32_t sketch = store.create(0);
    std::vector<double> values;
    for (int i = 0; i <= 5000; ++i) values.push_back(0.37 * std::pow(ratio, i / 5000.0));
    for (const double x : values) store.add(sketch, SketchCode(x), 0);
    double worst = 0;
    for (std::size_t i = 0; i < values.size(); i += 7) {
      const double share[] = {static_cast<double>(i) / 5000};
      double got[] = {kMissing};
      store.quantiles(sketch, share, got);
      worst = std::max(worst, std::fabs(got[0] / values[i] - 1));
    }
    EXPECT_LE(worst, sketch_error(level) * 1.01) << ratio;
    EXPECT_GT(worst, sketch_error(level) * 0.9) << ratio;
  }
}

TEST(QuantileOperatorTest, MemoryIsAsStated) {
  const FeaturePlan plan = compiled({quantiles("past", 0, {kMinuteMs, kHourMs})});
  const auto bytes = [&](std::size_t cards, std::size_t events, double spread) {
    Prng random(5);
    KeyedStage stage(plan, 0);
    const GlobalBaselines global(plan);
    EventBatch batch(plan.options().layout);
    batch.reset(events, 1);
    for (std::uint32_t row = 0; row < events; ++row) {
      batch.header(row) = EventHeader{};
      batch.header(row).time_ms = 1'700'000'000'000 + row / 32;
      batch.numbers(row)[0] = std::exp(spread * random.normal());
      batch.keys(row)[0].hash = mix64(row % cards + 1) | 1;
      batch.order.push_back(row);
    }
    FeatureMatrix out;
    out.reset(events, plan.columns().size());
    stage.process(batch, batch.order, global, std::vector<std::uint32_t>(events, 0), out);
    EXPECT_EQ(stage.entities(), cards);
    return static_cast<double>(stage.state_bytes()) / static_cast<double>(cards);
  };
  const double cold = bytes(200'000, 600'000, 1);
  const double narrow = bytes(4000, 400'000, 0.05);
  const double wide = bytes(1000, 400'000, 3);
  std::cout << "bytes an entity, with key table and record: " << cold << " with 3 values, " << narrow
            << " with 100 within a fifth of each other, " << wide << " with 400 of all magnitudes\n";
  EXPECT_LT(cold, 64 + 48 + 64 + 10);
  // All grow at the same time here, so that the smaller slabs they leave wait for others.
  EXPECT_LT(narrow, 2 * (768 + 2 * 1168) + 200);
  EXPECT_LT(wide, 2 * (768 + 2 * 9232) + 200);
  EXPECT_GT(wide, 2 * 9232);
}

TEST(QuantileOperatorTest, CountersAreSeenAsRates) {
  const FeaturePlan plan = compiled({quantiles("rate", 0, {kMinuteMs}, true)});
  std::vector<TestEvent> events;
  for (const double x : {100.0, 160.0, 20.0}) {
    events.push_back(
        {1'700'049'600'000 + static_cast<std::int64_t>(events.size()) * 2000, {x, 0}, {"host", ""}, kEventCounter});
  }
  const auto result = testing::run(plan, events, {});
  const auto p50 = static_cast<std::size_t>(plan.find_column("rate.p50_1m"));
  EXPECT_TRUE(std::isnan(result.rows[0][p50]));
  EXPECT_EQ(result.rows[1][p50], 30);
  EXPECT_EQ(result.rows[2][p50], 20);
}

TEST(QuantileOperatorTest, DeviationsTakeTheStepOfTheMetric) {
  FeatureSpec sizes = quantiles("sizes", 0, {kMinuteMs}, true);
  sizes.half_life_ms = 1'000'000 * kDayMs;
  const auto plan =
      FeaturePlan::compile({testing::test_layout(false), {sizes}, {{0, "p50_1m", DeviationMethod::kEwma}}});
  ASSERT_TRUE(plan.has_value());
  std::vector<TestEvent> events;
  for (int i = 0; i < 26; ++i) {
    events.push_back({1'700'049'600'000 + i * 2 * kMinuteMs, {i < 25 ? 100.0 : 110.0, 0}, {"card", ""}, 0, 12});
  }
  const auto result = testing::run(*plan, events, {});
  const auto at = [&](const char* name) { return result.rows[25][static_cast<std::size_t>(plan->find_column(name))]; };
  EXPECT_EQ(at("sizes.p50_1m"), 110);
  EXPECT_NEAR(at("sizes.p50_1m.expected"), 100, 1e-4);
  EXPECT_NEAR(at("sizes.p50_1m.spread"), std::sqrt(0.01 + 12), 1e-4);
  EXPECT_NEAR(at("sizes.p50_1m.z"), 10 / std::sqrt(12.01), 1e-4);
}

TEST(QuantileOperatorTest, MistakesAreNamed) {
  const auto message = [](FeatureSpec spec) {
    const auto plan = FeaturePlan::compile({testing::test_layout(true), {std::move(spec)}, {}});
    return plan ? std::string() : plan.error().message;
  };
  EXPECT_THAT(message(quantiles("q", 2, {kMinuteMs})), HasSubstr("number slot 2"));
  EXPECT_THAT(message(quantiles("q", 0, {})), HasSubstr("no windows"));
}

// The examples of docs/features.md.
TEST(QuantileOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = compiled({quantiles("sizes", 0, {kMinuteMs})});
  constexpr std::int64_t kNoon = 1'700'049'600'000;
  const std::vector<std::pair<std::int64_t, double>> given{{500, 10},    {20'000, 50}, {30'000, 20},
                                                           {40'000, 40}, {50'000, 30}, {60'200, 1000}};
  std::vector<TestEvent> events;
  for (const auto& [after_ms, x] : given) events.push_back({kNoon + after_ms, {x, 0}, {"card", ""}, 0});
  events.push_back({kNoon + 61'000, {kMissing, 0}, {"card", ""}, 0});
  const auto result = testing::run(plan, events, {});
  const auto row = [&](std::size_t i) { return result.rows[i]; };
  EXPECT_TRUE(std::isnan(row(0)[0]) && std::isnan(row(0)[3]));
  EXPECT_EQ(row(1), (std::vector<float>{10, 10, 10, 0}));
  EXPECT_EQ(row(5), (std::vector<float>{27.5, 35, 42.5, 15}));
  EXPECT_EQ(row(6), (std::vector<float>{30, 40, 50, 20}));
}

TEST(QuantileOperatorTest, SketchExampleOfTheDocs) {
  const FeaturePlan plan = compiled({quantiles("sizes", 0, {kMinuteMs})});
  std::vector<TestEvent> events;
  // 100, 101, ... one every half a second from 12:00:00, to 12:01:14.5.
  for (int i = 0; i < 150; ++i) events.push_back({1'700'049'600'000 + i * 500, {100.0 + i, 0}, {"card", ""}, 0});
  const auto result = testing::run(plan, events, {});
  // At 12:01:14.5 the window begins at 12:00:15, the pane of its first bucket at 12:00:10: 120 ... 248.
  EXPECT_NEAR(result.rows[149][0], 152, 152 * 0.01);
  EXPECT_NEAR(result.rows[149][1], 184, 184 * 0.01);
  EXPECT_NEAR(result.rows[149][2], 216, 216 * 0.01);
  EXPECT_NEAR(result.rows[149][3], 64, (152 + 216) * 0.01);
}

}  // namespace
}  // namespace alcedo::features
