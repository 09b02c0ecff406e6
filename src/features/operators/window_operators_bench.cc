// What distinct values and quartiles by window cost an event, and take of memory, at Zipf-distributed cards.
#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/prng.h"
#include "core/time.h"
#include "features/plan.h"
#include "features/stage.h"

namespace alcedo::features {
namespace {

constexpr std::size_t kBatch = 1024;

FeatureOptions one_feature(FeatureKind kind) {
  FeatureSpec spec;
  spec.name = "f";
  spec.kind = kind;
  spec.number = 0;
  spec.key = 0;
  spec.other_key = 1;
  spec.windows_ms = {kMinuteMs, 5 * kMinuteMs, kHourMs};
  return {{{{"amount", true}}, {"card", "merchant"}}, {spec}, {}};
}

// Ranks by Zipf's law with exponent 1, by inverting the integral of 1/x.
std::uint64_t zipf(Prng& random, std::uint64_t n) {
  const auto rank = static_cast<std::uint64_t>(std::exp(random.uniform() * std::log(static_cast<double>(n) + 1)) - 1);
  return std::min(rank, n - 1);
}

// 50 events a second, one in 32 late; 50'000 merchants.
std::vector<EventBatch> payments(const EventLayout& layout, std::uint64_t cards, std::size_t events,
                                 bool each_card_first) {
  Prng random(11);
  std::vector<EventBatch> batches;
  double now = 1.7e12;
  for (std::size_t begin = 0; begin < events; begin += kBatch) {
    EventBatch& batch = batches.emplace_back(layout);
    batch.reset(std::min(kBatch, events - begin), 1);
    for (std::uint32_t row = 0; row < batch.rows(); ++row) {
      now += 20 * random.exponential();
      const std::uint64_t card = each_card_first && begin + row < cards ? begin + row : zipf(random, cards);
      batch.header(row) = EventHeader{};
      batch.header(row).time_ms = static_cast<std::int64_t>(now) -
                                  (random.below(32) == 0 ? static_cast<std::int64_t>(random.below(30'000)) : 0);
      batch.numbers(row)[0] = std::floor(std::exp(7 + 1.2 * random.normal()));
      batch.keys(row)[0].hash = mix64(card + 1) | 1;
      batch.keys(row)[1].hash = mix64(zipf(random, 50'000) + (1ULL << 40)) | 1;
      batch.order.push_back(row);
    }
  }
  return batches;
}

// Time that this thread ran, so that neighbours on the machine count less.
double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// range(0): cards. Every card has been seen before the measurement, which begins when an hour has filled the windows.
void update_operator(benchmark::State& state, FeatureKind kind) {
  const auto cards = static_cast<std::uint64_t>(state.range(0));
  const auto plan = FeaturePlan::compile(one_feature(kind));
  KeyedStage stage(*plan, 0);
  const GlobalBaselines global(*plan);
  const std::vector<std::uint32_t> snapshots(kBatch, 0);
  FeatureMatrix out;
  std::vector<EventBatch> batches =
      payments(plan->options().layout, cards, std::max<std::size_t>(cards, 200'000), true);
  for (const EventBatch& batch : batches) {
    out.reset(batch.rows(), plan->columns().size());
    stage.process(batch, batch.order, global, snapshots, out);
  }
  const std::int64_t warm_end_ms = batches.back().header(0).time_ms;
  batches = payments(plan->options().layout, cards, 200'000, false);
  for (EventBatch& batch : batches) {
    for (const std::uint32_t row : batch.order) batch.header(row).time_ms += warm_end_ms - 1'700'000'000'000;
  }
  const std::int64_t span_ms = batches.back().header(0).time_ms - batches.front().header(0).time_ms + kMinuteMs;
  out.reset(kBatch, plan->columns().size());
  std::size_t at = 0;
  std::size_t updates = 0;
  double taken_ns = 0;
  for (auto _ : state) {
    EventBatch& batch = batches[at];
    at = (at + 1) % batches.size();
    const double begin_ns = thread_ns();
    stage.process(batch, batch.order, global, snapshots, out);
    taken_ns += thread_ns() - begin_ns;
    // The next round comes later, not again.
    for (const std::uint32_t row : batch.order) batch.header(row).time_ms += span_ms;
    updates += batch.rows();
  }
  state.counters["ns_per_event"] = taken_ns / static_cast<double>(updates);
  state.counters["state_MB"] = static_cast<double>(stage.state_bytes()) / 1e6;
  state.counters["bytes_per_card"] = static_cast<double>(stage.state_bytes()) / static_cast<double>(stage.entities());
}

void BM_DistinctUpdate(benchmark::State& state) { update_operator(state, FeatureKind::kDistinct); }
void BM_QuantileUpdate(benchmark::State& state) { update_operator(state, FeatureKind::kQuantiles); }
BENCHMARK(BM_DistinctUpdate)->ArgName("cards")->Arg(1)->Arg(1'000'000)->MinTime(1)->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_QuantileUpdate)->ArgName("cards")->Arg(1)->Arg(1'000'000)->MinTime(1)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace alcedo::features
