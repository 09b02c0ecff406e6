// What must not change a column: the order of events within the lateness, how full windows were before, and how the
// work is cut. All kinds of features are in one plan.
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

#include "features/stage.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::same_bits;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;
constexpr FeatureKind kLastKind = FeatureKind::kUnusual;
constexpr std::size_t kKindsOfTheEventAlone = 2;

FeatureSpec of_kind(const std::string& name, FeatureKind kind, int number, int key) {
  FeatureSpec spec = testing::baseline(name, number, key, 6 * kHourMs, 5);
  spec.kind = kind;
  return spec;
}

// Every kind of feature; cards carry amounts, devices levels.
FeatureOptions all_kinds(bool money) {
  FeatureOptions options = testing::full_options(money);
  FeatureSpec travel = of_kind("travel", FeatureKind::kGeo, 0, 0);
  travel.number_2 = 1;
  FeatureSpec shops = of_kind("shops", FeatureKind::kDistinct, -1, 1);
  shops.other_key = 0;
  shops.windows_ms = {kMinuteMs, 5 * kMinuteMs};
  FeatureSpec sizes = of_kind("sizes", FeatureKind::kQuantiles, 0, 0);
  sizes.windows_ms = {kMinuteMs, 5 * kMinuteMs};
  FeatureSpec pair = of_kind("pair", FeatureKind::kRarity, -1, 0);
  pair.other_key = 1;
  FeatureSpec together = of_kind("together", FeatureKind::kCorrelation, 0, 0);
  together.number_2 = 1;
  together.windows_ms = {kMinuteMs, 10 * kMinuteMs};
  options.features.insert(options.features.end(),
                          {travel, shops, sizes, pair, together, of_kind("about", FeatureKind::kContext, -1, 0),
                           of_kind("hours", FeatureKind::kSeason, 1, 1), of_kind("robust", FeatureKind::kRobust, 1, 1),
                           of_kind("drift", FeatureKind::kCusum, 1, 1)});
  testing::add_group_features(options);
  testing::add_own_past_features(options);
  return options;
}

FeaturePlan compiled(FeatureOptions options) {
  auto plan = FeaturePlan::compile(std::move(options));
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

TEST(MetamorphicTest, EveryKindIsInThePlan) {
  std::set<FeatureKind> kinds;
  for (const FeatureSpec& spec : all_kinds(true).features) kinds.insert(spec.kind);
  EXPECT_EQ(kinds.size(), static_cast<std::size_t>(kLastKind) + 1 - kKindsOfTheEventAlone);
}

TEST(MetamorphicTest, BatchesOfAnySizeAreOne) {
  for (const bool money : {true, false}) {
    const FeaturePlan plan = compiled(all_kinds(money));
    const auto events = testing::make_stream(21, {.events = 2000, .whole = money, .counter_share = money ? 0 : 0.1});
    const auto one = testing::run(plan, events, {.batch_size = 1});
    std::size_t compared = 0;
    for (const std::size_t size : {std::size_t{32}, std::size_t{7}, std::size_t{100}, events.size()}) {
      const auto other = testing::run(plan, events, {.batch_size = size});
      for (std::size_t i = 0; i < events.size(); ++i)
        ASSERT_TRUE(same_bits(one.rows[i], other.rows[i])) << "batch " << size << " event " << i;
      compared += events.size() * plan.columns().size();
    }
    std::cout << compared << " values of " << plan.columns().size() << " columns\n";
  }
}

TEST(MetamorphicTest, WorkersOfAnyNumberAreOne) {
  const FeaturePlan plan = compiled(all_kinds(false));
  const auto events = testing::make_stream(22, {.events = 2500, .whole = false, .counter_share = 0.1});
  const auto one = testing::Driver(plan, 1).run(events);
  for (const std::size_t workers : {4U, 3U}) {
    const auto many = testing::Driver(plan, workers).run(events);
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_TRUE(same_bits(one[i], many[i])) << workers << " workers, event " << i;
  }
}

/// What the order of events within the lateness leaves as it was.
enum class Order : std::uint8_t {
  kExact,    // counts, sums of whole numbers, extremes, exact distinct counts and quartiles, newest levels of members
  kRounded,  // floating sums, and what is computed from them
  kMatters,  // see order_of()
};

// Order-dependent by definition, and why:
//   gap_s, geo, baseline, season, robust, cusum, transition, and all deviations of columns (.expected, .spread, .z,
//   .history): they learn in-order events only, so which events are late decides;
//   rarity: forgetting and halving depend on when a value became known;
//   rarity by everyone: `of` is as of the last tick (its count is Order::kRounded);
//   context: late_s and missing are of the event itself;
//   confirmed: its share leans on everyone's as of the last tick, and what is confirmed outlives the windows in
//   since_s.
Order order_of(const FeatureSpec& spec, const std::string& column) {
  const bool of_deviation = column.find('.') != std::string::npos;
  const auto is = [&](const char* what) { return column.starts_with(what); };
  switch (spec.kind) {
    case FeatureKind::kRolling:
      if (of_deviation) return Order::kMatters;
      return is("mean") || is("std") ? Order::kRounded : Order::kExact;
    case FeatureKind::kVelocity:
      return of_deviation || is("gap") ? Order::kMatters : Order::kExact;
    case FeatureKind::kDistinct:
    case FeatureKind::kQuantiles:
      return of_deviation ? Order::kMatters : Order::kExact;
    case FeatureKind::kPeers:
      return Order::kExact;
    case FeatureKind::kCorrelation:
    case FeatureKind::kTwins:
      return of_deviation ? Order::kMatters : is("pairs") ? Order::kExact : Order::kRounded;
    case FeatureKind::kContext:
      return is("history") ? Order::kExact : Order::kMatters;
    case FeatureKind::kGlobalRarity:
      return column == "count" ? Order::kRounded : Order::kMatters;
    case FeatureKind::kConfirmed:
      return !of_deviation && (is("confirmed") || is("known")) ? Order::kExact : Order::kMatters;
    case FeatureKind::kValue:
    case FeatureKind::kCalendar:
      return Order::kExact;
    case FeatureKind::kBaseline:
    case FeatureKind::kGeo:
    case FeatureKind::kRarity:
    case FeatureKind::kSeason:
    case FeatureKind::kRobust:
    case FeatureKind::kCusum:
    case FeatureKind::kTransition:
    case FeatureKind::kDiscord:
    case FeatureKind::kUnusual:
      return Order::kMatters;
  }
  return Order::kMatters;
}

// Stretches of a stream, each followed by an event of every entity that carries nothing, which reads all windows.
std::vector<TestEvent> with_probes(const std::vector<std::vector<TestEvent>>& stretches,
                                   const std::vector<TestEvent>& probes, std::vector<std::size_t>& places) {
  std::vector<TestEvent> all;
  std::int64_t newest = 0;
  places.clear();
  for (const auto& stretch : stretches) {
    for (const TestEvent& event : stretch) newest = std::max(newest, event.time_ms);
    all.insert(all.end(), stretch.begin(), stretch.end());
    for (TestEvent probe : probes) {
      probe.time_ms = newest;
      places.push_back(all.size());
      all.push_back(std::move(probe));
    }
  }
  return all;
}

TEST(MetamorphicTest, OrderWithinTheLatenessIsUnobservableInWindows) {
  constexpr std::int64_t kLatenessMs = 30 * kSecondMs;
  std::map<Order, std::size_t> compared;
  std::map<Order, std::size_t> present;
  std::size_t moved = 0;
  std::size_t wrong = 0;
  std::size_t order_seen = 0;  // order-dependent columns that did differ: were there none, nothing had been reordered
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const bool whole = seed % 2 == 1;
    const FeaturePlan plan = compiled(all_kinds(whole));
    auto events = testing::make_stream(seed, {.events = 2400,
                                              .cards = 14,
                                              .devices = 4,
                                              .whole = whole,
                                              .step_ms = 1800,
                                              .late_share = 0,
                                              .missing_share = 0.03,
                                              .gap_every = 900});
    // No two at the same time: which is newer is then said by the times alone.
    for (std::size_t i = 1; i < events.size(); ++i)
      events[i].time_ms = std::max(events[i].time_ms, events[i - 1].time_ms + 1);
    std::vector<TestEvent> probes;
    for (int card = 0; card < 14; ++card)
      probes.push_back({0, {kMissing, kMissing}, {"card" + std::to_string(card), ""}});
    for (int device = 0; device < 4; ++device)
      probes.push_back({0, {kMissing, kMissing}, {"nobody", "device" + std::to_string(device)}});
    Prng random(seed);
    std::vector<std::vector<TestEvent>> straight;
    std::vector<std::vector<TestEvent>> permuted;
    for (std::size_t begin = 0; begin < events.size(); begin += 150) {
      straight.emplace_back(events.begin() + static_cast<std::ptrdiff_t>(begin),
                            events.begin() + static_cast<std::ptrdiff_t>(std::min(events.size(), begin + 150)));
      // Each event arrives up to the lateness after its time.
      std::vector<std::pair<std::int64_t, TestEvent>> arrivals;
      for (const TestEvent& event : straight.back())
        arrivals.emplace_back(event.time_ms + static_cast<std::int64_t>(random.below(kLatenessMs)), event);
      std::ranges::stable_sort(arrivals, {}, [](const auto& arrival) { return arrival.first; });
      auto& stretch = permuted.emplace_back();
      for (auto& [arrival, event] : arrivals) stretch.push_back(event);
      for (std::size_t i = 0; i < stretch.size(); ++i)
        moved += stretch[i].time_ms != straight.back()[i].time_ms ? 1 : 0;
    }
    std::vector<std::size_t> places;
    const auto expected = testing::run(plan, with_probes(straight, probes, places), {}).rows;
    const auto got = testing::run(plan, with_probes(permuted, probes, places), {}).rows;
    for (const std::size_t place : places) {
      for (std::size_t c = 0; c < plan.columns().size(); ++c) {
        const Column& column = plan.columns()[c];
        const FeatureSpec& spec = plan.options().features[column.feature];
        Order order = order_of(spec, column.name.substr(spec.name.size() + 1));
        const bool is_sum =
            column.name.find(".sum_") != std::string::npos || column.name.find(".amount_") != std::string::npos;
        const bool whole_number = whole && spec.number == 0;
        if (order == Order::kExact && is_sum && !whole_number) order = Order::kRounded;
        const float a = expected[place][c];
        const float b = got[place][c];
        if (order == Order::kMatters) {
          order_seen += same_bits({a}, {b}) ? 0 : 1;
          continue;
        }
        ++compared[order];
        present[order] += std::isnan(a) ? 0 : 1;
        // Sums of the stream are below 1e9, and 64-bit sums of at most a few thousand values are off by less than 1e-12
        // of the largest; a correlation or a deviation, a difference of such sums, is good to 1e-5.
        const bool right = order == Order::kExact
                               ? same_bits({a}, {b})
                               : same_bits({a}, {b}) || std::fabs(a - b) <= 1e-5F * std::max(1.0F, std::fabs(a));
        if (!right && ++wrong <= 10)
          ADD_FAILURE() << "seed " << seed << " row " << place << " " << column.name << ": " << b << " instead of "
                        << a;
      }
    }
  }
  std::cout << moved << " events moved; " << compared[Order::kExact] << " exact and " << compared[Order::kRounded]
            << " rounded values compared, of which " << present[Order::kExact] << " and " << present[Order::kRounded]
            << " present; " << order_seen << " order-dependent ones differed\n";
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(moved, 5000U);
  EXPECT_GT(present[Order::kExact], 50'000U);
  EXPECT_GT(present[Order::kRounded], 8'000U);
  EXPECT_GT(order_seen, 1000U);
}

// A window that was dense, and sketches that were full, against those that never were: once what filled them has left,
// all that windows say is the same.
TEST(MetamorphicTest, AWindowThatWasDenseSaysWhatASparseOneDoes) {
  FeatureOptions options = all_kinds(true);
  for (FeatureSpec& spec : options.features) {
    std::vector<std::int64_t> kept;
    for (const std::int64_t window_ms : spec.windows_ms) {
      if (window_ms <= 5 * kMinuteMs) kept.push_back(window_ms);
    }
    if (!kept.empty()) spec.windows_ms = kept;
  }
  options.deviations.clear();
  const FeaturePlan plan = compiled(options);
  Prng random(31);
  std::vector<TestEvent> filler;
  for (int second = 0; second < 300; ++second) {
    for (int copy = 0; copy < 3; ++copy) {
      filler.push_back({kBegin + second * 1000 + copy * 300,
                        {static_cast<double>(random.below(100'000)), random.normal()},
                        {"card" + std::to_string(copy == 0 ? 0 : random.below(200)), "device0"}});
    }
    filler.push_back(
        {kBegin + second * 1000 + 999, {static_cast<double>(random.below(1000)), 0}, {"card0", "device1"}});
  }
  const std::int64_t filled_ms = filler.back().time_ms;
  std::vector<TestEvent> sparse;
  for (int i = 0; i < 400; ++i) {
    sparse.push_back({filled_ms + 1 + i * 2500 + static_cast<std::int64_t>(random.below(2000)),
                      {static_cast<double>(random.below(50'000)), random.normal()},
                      {"card" + std::to_string(random.below(3)), "device" + std::to_string(random.below(2))}});
  }
  std::vector<TestEvent> dense = filler;
  dense.insert(dense.end(), sparse.begin(), sparse.end());
  const auto expected = testing::run(plan, sparse, {}).rows;
  const auto got = testing::run(plan, dense, {}).rows;
  std::size_t compared = 0;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < sparse.size(); ++i) {
    // The longest pane of a quantile reaches 69 buckets back.
    if (sparse[i].time_ms <= filled_ms + 70 * 5 * kMinuteMs / 60) continue;
    for (std::size_t c = 0; c < plan.columns().size(); ++c) {
      const Column& column = plan.columns()[c];
      const FeatureSpec& spec = plan.options().features[column.feature];
      if (spec.windows_ms.empty() || spec.windows_ms.back() > 5 * kMinuteMs || spec.kind == FeatureKind::kTwins)
        continue;
      const std::string name = column.name.substr(spec.name.size() + 1);
      const Order order = order_of(spec, name);
      if (order == Order::kMatters) continue;
      const float a = expected[i][c];
      const float b = got[filler.size() + i][c];
      ++compared;
      const bool floats = order == Order::kRounded || spec.number == 1;
      const bool right = same_bits({a}, {b}) || (floats && std::fabs(a - b) <= 1e-5F * std::max(1.0F, std::fabs(a)));
      if (!right && ++wrong <= 10)
        ADD_FAILURE() << "event " << i << " " << column.name << ": " << b << " instead of " << a;
    }
  }
  std::cout << compared << " values compared\n";
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(compared, 5'000U);
}

}  // namespace
}  // namespace alcedo::features
