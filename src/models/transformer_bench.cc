// What one event costs a sequence model: hot, over many entities, and where a ring has to be rebuilt.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/prng.h"
#include "models/transformer.h"
#include "models/transformer_cache.h"

namespace alcedo::models {
namespace {

constexpr std::size_t kColumns = 7;
constexpr std::size_t kBins = 16;
constexpr std::size_t kEvents = 1 << 15;

TokenPlan make_plan() {
  std::vector<TokenPlan::Field> columns;
  std::vector<float> edges;
  for (std::size_t i = 0; i < kBins - 2; ++i) edges.push_back(static_cast<float>(i));
  for (std::size_t f = 0; f < kColumns; ++f) columns.push_back({"c" + std::to_string(f), edges});
  return *TokenPlan::create(columns, edges);
}

// 7 columns and the gap, 16 bins each: range(0) entities at random, range(1) events a call, bfloat16 if range(2),
// memory for range(3) rings.
void BM_TransformerStep(benchmark::State& state) {
  const auto entities = static_cast<std::size_t>(state.range(0));
  const auto batch = static_cast<std::size_t>(state.range(1));
  const auto storage = state.range(2) == 0 ? Transformer::Storage::kFloat : Transformer::Storage::kBfloat16;
  const auto weights = TransformerWeights::random(make_plan(), 1, true);
  const auto model = *Transformer::create(weights, {.storage = storage});
  const auto rings = static_cast<std::size_t>(state.range(3));
  auto cache = *TransformerCache::create(model, rings * (model.ring_bytes() + 128));
  const std::size_t fields = model.plan().fields(), history_bytes = TokenHistory::bytes(fields);
  std::vector<std::byte> histories(entities * history_bytes);
  Prng prng(7);
  std::vector<std::uint8_t> tokens(kEvents * fields);
  for (auto& bin : tokens) bin = static_cast<std::uint8_t>(prng.below(kBins));
  const auto visit = [&](std::size_t entity, std::size_t event) {
    return TransformerCache::Visit{
        entity, TokenHistory(std::span(histories).subspan(entity * history_bytes, history_bytes), fields),
        std::span(tokens).subspan(event % kEvents * fields, fields), static_cast<std::int64_t>(event)};
  };
  // Every ring is full before the clock runs: the steady state.
  std::vector<TransformerCache::Visit> visits;
  for (std::size_t e = 0; e < entities; ++e) {
    for (std::size_t i = 0; i < 40; ++i) visits.push_back(visit(e, e + i));
    cache.step(visits);
    visits.clear();
  }
  const TransformerCache::Counters before = cache.counters();
  std::size_t event = 0;
  double sum = 0;
  for (auto _ : state) {
    visits.clear();
    for (std::size_t i = 0; i < batch; ++i) visits.push_back(visit(prng.below(entities), event++));
    cache.step(visits);
    sum += static_cast<double>(visits.back().score.surprise);
  }
  benchmark::DoNotOptimize(sum);
  const auto& after = cache.counters();
  const double events = static_cast<double>(event);
  state.SetItemsProcessed(static_cast<std::int64_t>(event));
  state.counters["hit_share"] = static_cast<double>(after.hits - before.hits) / events;
  state.SetLabel(model.path());
}
BENCHMARK(BM_TransformerStep)
    ->ArgNames({"entities", "batch", "bf16", "rings"})
    ->Args({1, 1, 1, 64})
    ->Args({64, 1, 1, 64})
    ->Args({64, 256, 1, 64})
    ->Args({64, 256, 0, 64})
    ->Args({60'000, 1, 1, 60'000})
    ->Args({60'000, 256, 1, 60'000})
    ->Args({60'000, 256, 0, 60'000})
    ->Args({2'000, 256, 1, 64});

}  // namespace
}  // namespace alcedo::models
