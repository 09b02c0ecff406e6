// Rows a second of the tree evaluator, in batches and alone, against its own scalar walk.
#include <benchmark/benchmark.h>

#include <string>

#include "core/check.h"
#include "models/isolation_forest.h"
#include "models/random_trees.h"
#include "models/tree_ensemble.h"
#include "models/tree_plan.h"

namespace alcedo::models {
namespace {

constexpr std::size_t kColumns = 40;
constexpr std::size_t kRows = 4096;

TreeEnsemble make_model(std::size_t trees, std::size_t leaves, std::uint32_t depth_max) {
  RandomTreeOptions options;
  options.columns = kColumns;
  options.trees = trees;
  options.leaves = leaves;
  options.depth_max = depth_max;
  auto model = TreeEnsemble::create(random_trees(options, 1));
  CHECK(model.has_value());
  return std::move(*model);
}
// 100 isolation trees of 256 rows, and what boosting by leaves gives.
const TreeEnsemble& forest() {
  static const TreeEnsemble kModel = [] {
    const auto training = random_rows({.columns = kColumns, .special_values = false}, 10'000, 3);
    auto model = IsolationForest::train(training, kColumns, {.trees = 100, .sample_rows = 256, .seed = 1});
    CHECK(model.has_value());
    return std::move(*model);
  }();
  return kModel;
}
const TreeEnsemble& boosted() {
  static const TreeEnsemble kModel = make_model(300, 31, 100);
  return kModel;
}
const std::vector<float>& rows() {
  static const std::vector<float> kValues = random_rows({.columns = kColumns, .special_values = false}, kRows, 2);
  return kValues;
}

void measure(benchmark::State& state, const TreeEnsemble& model, std::size_t together) {
  std::vector<float> out(kRows);
  for (auto _ : state) {
    for (std::size_t row = 0; row + together <= kRows; row += together) {
      model.score(std::span(rows()).subspan(row * kColumns, together * kColumns), kColumns,
                  std::span(out).subspan(row, together));
    }
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kRows));
  state.SetLabel(tree_target_name(tree_targets().front()));
}

void BM_ForestBatch(benchmark::State& state) { measure(state, forest(), static_cast<std::size_t>(state.range(0))); }
void BM_BoostedBatch(benchmark::State& state) { measure(state, boosted(), static_cast<std::size_t>(state.range(0))); }
BENCHMARK(BM_ForestBatch)->Arg(1)->Arg(16)->Arg(64)->Arg(4096);
BENCHMARK(BM_BoostedBatch)->Arg(1)->Arg(16)->Arg(64)->Arg(4096);

void measure_scalar(benchmark::State& state, const TreeEnsemble& model) {
  std::vector<float> out(kRows);
  for (auto _ : state) {
    model.score_scalar(rows(), kColumns, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kRows));
}
void BM_ForestScalar(benchmark::State& state) { measure_scalar(state, forest()); }
void BM_BoostedScalar(benchmark::State& state) { measure_scalar(state, boosted()); }
BENCHMARK(BM_ForestScalar);
BENCHMARK(BM_BoostedScalar);

// The same in each instruction set that this processor has.
void BM_BoostedTarget(benchmark::State& state) {
  const auto targets = tree_targets();
  const auto index = static_cast<std::size_t>(state.range(0));
  if (index >= targets.size()) {
    state.SkipWithError("this processor has no more instruction sets");
    return;
  }
  use_tree_target(targets[index]);
  measure(state, boosted(), kRows);
  use_tree_target(0);
}
BENCHMARK(BM_BoostedTarget)->DenseRange(0, 2);
void BM_ForestTarget(benchmark::State& state) {
  const auto targets = tree_targets();
  const auto index = static_cast<std::size_t>(state.range(0));
  if (index >= targets.size()) {
    state.SkipWithError("this processor has no more instruction sets");
    return;
  }
  use_tree_target(targets[index]);
  measure(state, forest(), kRows);
  use_tree_target(0);
}
BENCHMARK(BM_ForestTarget)->DenseRange(0, 2);

void BM_Contributions(benchmark::State& state) {
  std::vector<float> by_column(kColumns);
  std::size_t row = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        boosted().contributions(std::span(rows()).subspan(row * kColumns, kColumns), 0, by_column));
    row = (row + 1) % kRows;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Contributions);

}  // namespace
}  // namespace alcedo::models
