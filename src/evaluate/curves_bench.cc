// Evaluating a million rows with a dozen columns must stay a matter of seconds, intervals included.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "core/prng.h"
#include "evaluate/curves.h"

namespace alcedo::evaluate {
namespace {

void BM_Curves(benchmark::State& state) {
  Prng prng(1);
  const double share = static_cast<double>(state.range(1)) / 1000.0;
  std::vector<float> scores;
  std::vector<std::uint8_t> positive;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    const bool anomalous = prng.uniform() < share;
    positive.push_back(anomalous ? 1 : 0);
    scores.push_back(static_cast<float>(prng.normal() + (anomalous ? 2 : 0)));
  }
  for (auto _ : state) benchmark::DoNotOptimize(compute_curves(scores, positive, {}));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Curves)
    ->ArgNames({"rows", "anomalous_permille"})
    ->Args({100'000, 10})
    ->Args({1'000'000, 3})
    ->Args({1'000'000, 300})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace alcedo::evaluate
