// What an update of a card and of the payments plan costs, beside a bare loop that waits for the same cache lines on
// the same machine.
#include "features/stage.h"

#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/prng.h"
#include "core/time.h"
#include "features/card_bench.h"
#include "features/huge_pages.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::kCard;
using testing::kDevice;
using testing::kMerchant;

// What `pipelines/payments` keeps of its three entities, but for places.
FeatureOptions payments_options() {
  const std::vector<std::int64_t> windows{kMinuteMs, 5 * kMinuteMs, kHourMs};
  FeatureOptions options;
  options.layout = testing::payments_layout();
  options.features = {
      testing::rolling("spend", 0, kCard, windows),           testing::baseline("habit", 0, kCard, 14 * kDayMs, 20),
      testing::velocity("pace", 0, kCard, windows),           testing::velocity("merchant_pace", 0, kMerchant, windows),
      testing::velocity("device_pace", -1, kDevice, windows),
  };
  options.deviations = {{2, "", DeviationMethod::kEwma}, {1, "", DeviationMethod::kQuartiles}};
  return options;
}

// A card's distinct merchants, quartiles and season besides.
FeatureOptions rich_card_options() {
  FeatureOptions options = testing::card_options();
  FeatureSpec spec;
  spec.number = 0;
  spec.key = kCard;
  spec.other_key = kMerchant;
  spec.windows_ms = {kMinuteMs, 5 * kMinuteMs, kHourMs};
  spec.name = "merchants";
  spec.kind = FeatureKind::kDistinct;
  options.features.push_back(spec);
  spec.name = "quartiles";
  spec.kind = FeatureKind::kQuantiles;
  options.features.push_back(spec);
  spec.name = "week";
  spec.kind = FeatureKind::kSeason;
  spec.windows_ms.clear();
  spec.half_life_ms = 28 * kDayMs;
  options.features.push_back(spec);
  return options;
}

// Every kind of feature of one card: what the memory of an entity comes to at most. Merchants stand for the members of
// a group.
FeatureOptions everything_options() {
  FeatureOptions options = rich_card_options();
  const std::vector<std::int64_t> windows{kMinuteMs, 5 * kMinuteMs, kHourMs};
  options.features.push_back(testing::velocity("pace", 0, kCard, windows));
  const auto add = [&](const char* name, FeatureKind kind) -> FeatureSpec& {
    FeatureSpec spec = testing::baseline(name, 0, kCard, 14 * kDayMs, 20);
    spec.kind = kind;
    return options.features.emplace_back(spec);
  };
  add("shop", FeatureKind::kRarity).other_key = kMerchant;
  FeatureSpec& pair = add("pair", FeatureKind::kCorrelation);
  pair.number_2 = 1;
  pair.windows_ms = {kHourMs};
  add("about", FeatureKind::kContext);
  add("middle", FeatureKind::kRobust);
  add("drift", FeatureKind::kCusum);
  add("peers", FeatureKind::kPeers).member_key = kMerchant;
  FeatureSpec& twins = add("twins", FeatureKind::kTwins);
  twins.member_key = kMerchant;
  twins.windows_ms = {kHourMs};
  add("common", FeatureKind::kGlobalRarity);
  add("order", FeatureKind::kTransition).other_key = kMerchant;
  return options;
}

// Time that this thread ran, so that neighbours on the machine count less.
double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Nanoseconds to wait for one of `lines` cache lines in `bytes` of memory in huge pages, 32 in flight: what no keyed
// state can beat.
double bare_ns_per_line(std::size_t bytes) {
  const std::size_t mapped = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const std::size_t words = bytes / sizeof(std::uint64_t);
  auto* const memory = reinterpret_cast<std::uint64_t*>(map_huge_pages(mapped));
  std::fill_n(memory, words, 1);
  constexpr std::size_t kAccesses = 4'000'000;
  constexpr std::size_t kGroup = 32;
  Prng random(3);
  std::uint64_t places[kGroup];
  const double begin_ns = thread_ns();
  for (std::size_t i = 0; i < kAccesses; i += kGroup) {
    for (std::uint64_t& place : places) {
      place = random.below(words);
      __builtin_prefetch(&memory[place], 1);
    }
    for (const std::uint64_t place : places) memory[place] += place;
  }
  const double taken_ns = thread_ns() - begin_ns;
  benchmark::DoNotOptimize(*memory);
  unmap_huge_pages(reinterpret_cast<std::byte*>(memory), mapped);
  return taken_ns / kAccesses;
}

constexpr std::size_t kRows = 1024;
constexpr std::size_t kBareBytesMax = std::size_t{1} << 30;
constexpr std::uint64_t kWarmUpEvents = 400'000;  // two hours and more

// range(0): cards; range(1): rows a call of process(). Before the measurement every card has been seen, and two hours
// of payments by Zipf's law has filled the windows. The stream goes on all the time; drawing it is not measured.
void BM_Update(benchmark::State& state, FeatureOptions (*options)()) {
  const auto cards = static_cast<std::uint64_t>(state.range(0));
  const auto call_rows = static_cast<std::size_t>(state.range(1));
  const auto plan = FeaturePlan::compile(options());
  std::vector<KeyedStage> stages;
  for (std::size_t s = 0; s < plan->stages().size(); ++s) stages.emplace_back(*plan, s);
  GlobalBaselines global(*plan);
  testing::PaymentStream stream(cards, true);
  EventBatch batch(testing::payments_layout());
  FeatureMatrix out;
  const std::vector<std::uint32_t> snapshots(kRows, 0);
  std::int64_t clock_ns = 0;
  const auto update_next = [&] {
    stream.next(batch, kRows);
    out.reset(kRows, plan->columns().size());
    const std::span<const std::uint32_t> rows = batch.order;
    const std::int64_t begin_clock_ns = steady_ns();
    const double begin_ns = thread_ns();
    for (std::size_t i = 0; i < kRows; i += call_rows) {
      for (KeyedStage& stage : stages) stage.process(batch, rows.subspan(i, call_rows), global, snapshots, out);
    }
    const double taken_ns = thread_ns() - begin_ns;
    clock_ns += steady_ns() - begin_clock_ns;
    return taken_ns;
  };
  for (std::uint64_t seen = 0; seen < cards + kWarmUpEvents; seen += kRows) update_next();
  double taken_ns = 0;
  std::size_t updates = 0;
  clock_ns = 0;
  for (auto _ : state) {
    const double ns = update_next();
    state.SetIterationTime(ns * 1e-9);
    taken_ns += ns;
    updates += kRows;
  }
  std::size_t bytes = 0;
  double lines = 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    bytes += stages[s].state_bytes();
    // The key's slot, the record, and a line for each of the estimate's buckets.
    lines += 1 + static_cast<double>(plan->state_bytes_per_entity(s)) / 64;
  }
  const double ns = taken_ns / static_cast<double>(updates);
  state.SetItemsProcessed(static_cast<std::int64_t>(updates));
  state.counters["ns_per_event"] = ns;
  state.counters["clock_ns_per_event"] = static_cast<double>(clock_ns) / static_cast<double>(updates);
  state.counters["state_MB"] = static_cast<double>(bytes) / 1e6;
  state.counters["bytes_per_card"] = static_cast<double>(bytes) / static_cast<double>(cards);
  state.counters["times_bare_memory"] = ns / (lines * bare_ns_per_line(std::min(bytes, kBareBytesMax)));
}
// The same events in every run, so that the work is the same.
constexpr std::size_t kUpdates = 2'000'000;
BENCHMARK_CAPTURE(BM_Update, card, testing::card_options)
    ->ArgNames({"cards", "batch"})
    ->Args({1'000, 1024})
    ->Args({1'000'000, 1024})
    ->Iterations(kUpdates / kRows)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Update, rich_card, rich_card_options)
    ->ArgNames({"cards", "batch"})
    ->Args({1'000, 1024})
    ->Args({1'000'000, 1024})
    ->Iterations(kUpdates / kRows)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Update, everything, everything_options)
    ->ArgNames({"cards", "batch"})
    ->Args({1'000'000, 1024})
    ->Iterations(kUpdates / 5 / kRows)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Update, payments, payments_options)
    ->ArgNames({"cards", "batch"})
    ->Args({1, 1024})
    ->Args({100'000, 1024})
    ->Args({100'000, 1})
    ->Args({1'000'000, 1024})
    ->Args({1'000'000, 1})
    ->Iterations(kUpdates / kRows)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
}  // namespace
}  // namespace alcedo::features
