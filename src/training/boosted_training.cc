// The library keeps its own model format; what leaves here is only ever a TreeEnsemble.
#include "training/boosted_training.h"

#include <fmt/format.h>
#include <xgboost/c_api.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "core/check.h"
#include "models/boosted_import.h"

namespace alcedo::training {
namespace {

class Matrix {
 public:
  ~Matrix() {
    if (handle_ != nullptr) XGDMatrixFree(handle_);
  }
  Matrix() = default;
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  // False: XGBGetLastError() says why.
  bool fill(const BoostedRows& data, std::size_t first, std::size_t last) {
    const std::size_t rows = last - first;
    std::vector<float> labels(rows);
    for (std::size_t i = 0; i < rows; ++i) labels[i] = static_cast<float>(data.labels[first + i]);
    return XGDMatrixCreateFromMat(data.rows.data() + first * data.columns, rows, data.columns,
                                  std::numeric_limits<float>::quiet_NaN(), &handle_) == 0 &&
           XGDMatrixSetFloatInfo(handle_, "label", labels.data(), rows) == 0 &&
           XGDMatrixSetFloatInfo(handle_, "weight", data.weights.data() + first, rows) == 0;
  }
  DMatrixHandle handle() const { return handle_; }

 private:
  DMatrixHandle handle_ = nullptr;
};

class Booster {
 public:
  ~Booster() {
    if (handle_ != nullptr) XGBoosterFree(handle_);
  }
  Booster() = default;
  Booster(const Booster&) = delete;
  Booster& operator=(const Booster&) = delete;
  BoosterHandle* place() { return &handle_; }
  BoosterHandle handle() const { return handle_; }

 private:
  BoosterHandle handle_ = nullptr;
};

std::unexpected<Error> library_error(std::string_view doing) {
  return error(ErrorCode::kInternal, fmt::format("XGBoost, {}: {}", doing, XGBGetLastError()));
}

// "[12]\tcheck-logloss:0.01234"
double metric_of(std::string_view line) {
  const std::size_t colon = line.rfind(':');
  double value = std::numeric_limits<double>::infinity();
  if (colon != std::string_view::npos) std::from_chars(line.data() + colon + 1, line.data() + line.size(), value);
  return value;
}

// Margins say more than probabilities: they do not saturate.
Result<models::TreeEnsemble> with_margins(models::TreeEnsemble trees) {
  models::TreeEnsembleSpec spec = trees.spec();
  spec.transform = models::TreeTransform::kIdentity;
  return models::TreeEnsemble::create(std::move(spec));
}

}  // namespace

Result<models::TreeEnsemble> train_boosted(const BoostedRows& data, const BoostedOptions& options) {
  const std::size_t rows = data.labels.size();
  CHECK(data.rows.size() == rows * data.columns && data.weights.size() == rows && data.fit_rows <= rows);
  CHECK(options.classes >= 2 && data.columns > 0);
  std::vector<double> weight_of(options.classes);
  for (std::size_t i = 0; i < data.fit_rows; ++i) weight_of[data.labels[i]] += static_cast<double>(data.weights[i]);
  double all = 0;
  for (std::size_t c = 0; c < options.classes; ++c) {
    if (!(weight_of[c] > 0))
      return error(ErrorCode::kInvalidArgument, fmt::format("no row of class {} among the rows to fit", c));
    all += weight_of[c];
  }
  Matrix fit;
  Matrix check;
  if (!fit.fill(data, 0, data.fit_rows)) return library_error("rows");
  const bool checks = data.fit_rows < rows;
  if (checks && !check.fill(data, data.fit_rows, rows)) return library_error("rows to stop by");

  Booster booster;
  const DMatrixHandle both[] = {fit.handle(), check.handle()};
  if (XGBoosterCreate(both, checks ? 2 : 1, booster.place()) != 0) return library_error("start");
  const bool binary = options.classes == 2;
  const std::pair<const char*, std::string> parameters[] = {
      {"booster", "gbtree"},
      {"tree_method", "hist"},
      {"grow_policy", "lossguide"},
      {"max_depth", "0"},
      {"max_leaves", std::to_string(options.leaves_max)},
      {"eta", fmt::format("{}", options.learning_rate)},
      {"subsample", "0.8"},
      {"colsample_bytree", "0.8"},
      {"min_child_weight", "1"},
      {"lambda", "1"},
      {"objective", binary ? "binary:logistic" : "multi:softprob"},
      {"eval_metric", binary ? "logloss" : "mlogloss"},
      {"base_score", binary ? fmt::format("{}", weight_of[1] / all) : "0.5"},
      {"seed", std::to_string(options.seed)},
      {"nthread", std::to_string(std::max(1U, options.threads))},
      {"verbosity", "0"},
  };
  for (const auto& [name, value] : parameters) {
    if (XGBoosterSetParam(booster.handle(), name, value.c_str()) != 0) return library_error(name);
  }
  if (!binary && XGBoosterSetParam(booster.handle(), "num_class", std::to_string(options.classes).c_str()) != 0)
    return library_error("num_class");

  double best = std::numeric_limits<double>::infinity();
  std::uint32_t best_rounds = options.rounds_max;
  for (std::uint32_t round = 0; round < options.rounds_max; ++round) {
    if (XGBoosterUpdateOneIter(booster.handle(), static_cast<int>(round), fit.handle()) != 0)
      return library_error("a round");
    if (options.on_round) options.on_round(round + 1);
    if (!checks) continue;
    DMatrixHandle judged[] = {check.handle()};
    const char* names[] = {"check"};
    const char* line = nullptr;
    if (XGBoosterEvalOneIter(booster.handle(), static_cast<int>(round), judged, names, 1, &line) != 0)
      return library_error("evaluation");
    const double metric = metric_of(line);
    if (metric < best) {
      best = metric;
      best_rounds = round + 1;
    } else if (round + 1 >= best_rounds + options.patience) {
      break;
    }
  }
  int rounds = 0;
  if (XGBoosterBoostedRounds(booster.handle(), &rounds) != 0) return library_error("rounds");
  Booster kept;
  const bool cut = checks && static_cast<int>(best_rounds) < rounds;
  if (cut && XGBoosterSlice(booster.handle(), 0, static_cast<int>(best_rounds), 1, kept.place()) != 0)
    return library_error("slice");
  bst_ulong size = 0;
  const char* bytes = nullptr;
  if (XGBoosterSaveModelToBuffer(cut ? kept.handle() : booster.handle(), R"({"format": "json"})", &size, &bytes) != 0)
    return library_error("export");
  auto model = models::import_xgboost({bytes, static_cast<std::size_t>(size)}, "trained model");
  if (!model) return std::unexpected(model.error());
  return with_margins(std::move(model->trees));
}

}  // namespace alcedo::training
