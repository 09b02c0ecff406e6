// Times the simulator against merely copying the same bytes: no benchmark of the engine may wait for its load.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "core/event.h"
#include "core/time.h"
#include "ingest/simulate/payments.h"
#include "ingest/simulate/simulate_source.h"

namespace alcedo::ingest::simulate {
namespace {

Parameters with_cards(std::int64_t cards) {
  Parameters parameters;
  parameters.cards = static_cast<std::uint32_t>(cards);
  return parameters;
}

void BM_Next(benchmark::State& state) {
  Payments stream(with_cards(state.range(0)));
  Payment payment;
  for (auto _ : state) {
    stream.next(payment);
    benchmark::DoNotOptimize(payment);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Next)->Arg(100'000)->Arg(1'000'000);

void BM_NextAndRender(benchmark::State& state) {
  Payments stream(with_cards(state.range(0)));
  Payment payment;
  std::array<char, kJsonBytesMax> line;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    stream.next(payment);
    bytes += render_json(payment, line.data()) - line.data();
    benchmark::DoNotOptimize(line);
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_NextAndRender)->Arg(100'000)->Arg(1'000'000);

/// As the pipeline reads it. "per_copy" is its time over that of appending the same bytes to a batch, measured in the
/// same run.
void BM_SourceRead(benchmark::State& state) {
  SourceUri uri{"simulate", "payments", {{"cards", std::to_string(state.range(0))}}, "simulate:payments"};
  auto source = std::move(*open_simulation(uri));
  constexpr std::size_t kBatch = 1'000;
  RawBatch batch, copy;
  std::int64_t read_ns = 0, copy_ns = 0;
  for (auto _ : state) {
    batch.clear();
    const std::int64_t begin_ns = steady_ns();
    benchmark::DoNotOptimize(source->read(0, batch, kBatch, std::chrono::milliseconds(0)));
    const std::int64_t end_ns = steady_ns();
    read_ns += end_ns - begin_ns;
    state.SetIterationTime(static_cast<double>(end_ns - begin_ns) * 1e-9);
    copy.clear();
    for (std::size_t i = 0; i < batch.size(); ++i) copy.append(batch.bytes(i), batch[i]);
    benchmark::DoNotOptimize(copy);
    copy_ns += steady_ns() - end_ns;
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
  state.counters["per_copy"] = static_cast<double>(read_ns) / static_cast<double>(copy_ns);
}
BENCHMARK(BM_SourceRead)->Arg(100'000)->Arg(1'000'000)->UseManualTime();

/// The same line through fmt: what the hand-written rendering saves.
void BM_RenderByFmt(benchmark::State& state) {
  Payments stream(with_cards(10'000));
  std::vector<Payment> payments(1'024);
  for (Payment& payment : payments) stream.next(payment);
  std::size_t i = 0;
  fmt::memory_buffer line;
  for (auto _ : state) {
    const Payment& p = payments[i++ % payments.size()];
    line.clear();
    fmt::format_to(
        std::back_inserter(line),
        R"({{"payment_id":"p-{:012}","occurred_at":{},"card_id":"c-{:08}","merchant_id":"m-{:06}","device_id":"d-{:012x}",)"
        R"("merchant_category":"{}","amount":{}.{:02},"currency":"{}","latitude":{:.4f},"longitude":{:.4f},)"
        R"("channel":"{}","country":"{}"}})",
        p.number, p.time_ms, p.card, p.merchant, p.device, kCategories[p.category].name, p.amount_minor / 100,
        p.amount_minor % 100, kCurrencies[p.currency].code, p.latitude_e4 * 1e-4, p.longitude_e4 * 1e-4, "pos",
        kCountries[kCities[p.city].country].code);
    benchmark::DoNotOptimize(line.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_RenderByFmt);

void BM_Population(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Population(with_cards(state.range(0))).num_cards());
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Population)->Arg(100'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace alcedo::ingest::simulate
