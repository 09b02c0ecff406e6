// Rows a second of the tree evaluator, in batches and alone, against its own scalar walk; and of models of other
// libraries, where ALCEDO_BENCH_MODELS names a folder that bench/tree_peers.py filled.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "core/check.h"
#include "models/boosted_import.h"
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

struct ImportedModel {
  TreeEnsemble trees;
  std::vector<float> rows;
};

// NAME.safetensors (a forest of ours), NAME.json or NAME.txt beside NAME.expected.safetensors. What scores differently
// from its library is not measured.
void register_imported(const std::filesystem::path& path) {
  const std::string name = path.stem();
  const auto fail = [&](const std::string& what) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), what.c_str());
    std::exit(1);
  };
  Result<TreeEnsemble> trees = error(ErrorCode::kNotFound, "");
  if (path.extension() == ".safetensors") {
    const auto file = TensorFile::read(path);
    if (!file) fail(file.error().message);
    trees = TreeEnsemble::load(*file, "forest");
  } else {
    auto model = import_boosted(path);
    if (!model) fail(model.error().message);
    trees = std::move(model->trees);
  }
  if (!trees) fail(trees.error().message);
  const auto file = TensorFile::read(path.parent_path() / (name + ".expected.safetensors"));
  if (!file) fail(file.error().message);
  const std::uint64_t rows_shape[] = {TensorFile::kAnySize, trees->columns()};
  const auto rows = file->get<float>("rows", rows_shape, FloatPolicy::kAny);
  if (!rows) fail(rows.error().message);
  const std::size_t count = rows->size() / trees->columns();
  const std::uint64_t scores_shape[] = {count, trees->outputs()};
  const auto scores = file->get<double>("scores", scores_shape);
  if (!scores) fail(scores.error().message);
  std::vector<float> got(scores->size());
  trees->score(*rows, trees->columns(), got);
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!(std::fabs(got[i] - (*scores)[i]) <= 1e-5)) fail("scores differ from those of its library");
  }
  const auto model = std::make_shared<ImportedModel>(ImportedModel{std::move(*trees), {rows->begin(), rows->end()}});
  for (const std::size_t together : {std::size_t{1}, count}) {
    benchmark::RegisterBenchmark(
        ("imported/" + name + (together == 1 ? "/alone" : "/batch")).c_str(), [=](benchmark::State& state) {
          const std::size_t columns = model->trees.columns(), outputs = model->trees.outputs();
          std::vector<float> out(count * outputs);
          for (auto _ : state) {
            for (std::size_t row = 0; row + together <= count; row += together) {
              model->trees.score(std::span(model->rows).subspan(row * columns, together * columns), columns,
                                 std::span(out).subspan(row * outputs, together * outputs));
            }
            benchmark::DoNotOptimize(out.data());
          }
          state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(count));
        });
  }
}

const bool kImported = [] {
  const char* folder = std::getenv("ALCEDO_BENCH_MODELS");
  if (folder == nullptr) return false;
  std::vector<std::filesystem::path> models;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!entry.path().stem().string().ends_with(".expected")) models.push_back(entry.path());
  }
  std::ranges::sort(models);
  for (const auto& path : models) register_imported(path);
  return true;
}();

}  // namespace
}  // namespace alcedo::models
