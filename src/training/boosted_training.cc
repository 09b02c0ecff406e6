// Drives XGBoost round by round, so that the loss of the validation part is ours: in double, with weights, repeatable.
#include "training/boosted_training.h"

#include <fmt/format.h>
#include <xgboost/c_api.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/boosted_import.h"

namespace alcedo::training {
namespace {

struct FreeMatrix {
  void operator()(void* handle) const { XGDMatrixFree(handle); }
};
struct FreeBooster {
  void operator()(void* handle) const { XGBoosterFree(handle); }
};
using Matrix = std::unique_ptr<void, FreeMatrix>;
using Booster = std::unique_ptr<void, FreeBooster>;

std::unexpected<Error> invalid(std::string what) {
  return error(ErrorCode::kInvalidArgument, "boosted training: " + std::move(what));
}

// XGBoost's messages go on with a stack trace.
Result<> asked(int status) {
  if (status == 0) return {};
  const std::string_view message = XGBGetLastError();
  return error(ErrorCode::kInternal, fmt::format("boosted training: XGBoost says: {}",
                                                 message.substr(0, std::min<std::size_t>(message.find('\n'), 300))));
}

Result<> check(std::span<const float> rows, std::size_t columns, std::span<const std::uint32_t> labels,
               std::span<const float> weights, const BoostedOptions& options) {
  if (columns == 0 || rows.size() % columns != 0)
    return invalid(fmt::format("{} values are no rows of {} columns", rows.size(), columns));
  const std::size_t count = rows.size() / columns;
  if (labels.size() != count) return invalid(fmt::format("{} labels for {} rows", labels.size(), count));
  if (!weights.empty() && weights.size() != count)
    return invalid(fmt::format("{} weights for {} rows", weights.size(), count));
  if (options.classes == 1 || options.classes > models::TreeEnsemble::kOutputsMax)
    return invalid(fmt::format("{} classes; 0 (binary) or 2 to {} are possible", options.classes,
                               models::TreeEnsemble::kOutputsMax));
  const std::uint32_t end = options.classes == 0 ? 2 : options.classes;
  for (std::size_t i = 0; i < count; ++i) {
    if (labels[i] >= end) return invalid(fmt::format("row {} has the label {} of {}", i, labels[i], end));
    if (!weights.empty() && !(weights[i] >= 0 && std::isfinite(weights[i])))
      return invalid(fmt::format("row {} has the weight {}", i, weights[i]));
  }
  const auto share = [](double x) { return x > 0 && x <= 1; };
  if (options.rounds_max == 0 || options.rounds_max > 10'000)
    return invalid(fmt::format("{} rounds; 1 to 10,000 are possible", options.rounds_max));
  if (options.leaves_max < 2 || options.leaves_max > 4096)
    return invalid(fmt::format("{} leaves; 2 to 4,096 are possible", options.leaves_max));
  if (!share(options.learning_rate)) return invalid("the learning rate is not within (0, 1]");
  if (!share(options.row_share) || !share(options.column_share)) return invalid("a share is not within (0, 1]");
  if (!(options.l2 >= 0 && std::isfinite(options.l2)) ||
      !(options.child_weight_min >= 0 && std::isfinite(options.child_weight_min)))
    return invalid("l2 or child_weight_min is negative or not finite");
  if (!(options.validation_share >= 0 && options.validation_share < 1))
    return invalid("validation_share is not within [0, 1)");
  if (options.threads == 0 || options.threads > 1024) return invalid(fmt::format("{} threads", options.threads));
  return {};
}

Result<Matrix> make_matrix(std::span<const float> rows, std::size_t columns, std::span<const std::uint32_t> labels,
                           std::span<const float> weights, std::uint32_t threads) {
  // Quantiles of infinities are none: the largest floats stand for them.
  std::vector<float> finite;
  if (std::ranges::any_of(rows, [](float x) { return std::isinf(x); })) {
    constexpr float kLargest = std::numeric_limits<float>::max();
    finite.assign(rows.begin(), rows.end());
    for (float& x : finite) x = std::isinf(x) ? std::copysign(kLargest, x) : x;
    rows = finite;
  }
  DMatrixHandle handle = nullptr;
  if (auto ok =
          asked(XGDMatrixCreateFromMat_omp(rows.data(), labels.size(), columns, std::numeric_limits<float>::quiet_NaN(),
                                           &handle, static_cast<int>(threads)));
      !ok)
    return std::unexpected(std::move(ok.error()));
  Matrix matrix(handle);
  const std::vector<float> targets(labels.begin(), labels.end());
  if (auto ok = asked(XGDMatrixSetFloatInfo(handle, "label", targets.data(), targets.size())); !ok)
    return std::unexpected(std::move(ok.error()));
  if (!weights.empty()) {
    if (auto ok = asked(XGDMatrixSetFloatInfo(handle, "weight", weights.data(), weights.size())); !ok)
      return std::unexpected(std::move(ok.error()));
  }
  return matrix;
}

Result<> set_options(BoosterHandle booster, const BoostedOptions& options, double base_rate) {
  std::vector<std::pair<const char*, std::string>> parameters = {
      {"booster", "gbtree"},
      {"tree_method", "hist"},
      {"grow_policy", "lossguide"},
      {"max_depth", "0"},
      {"max_leaves", std::to_string(options.leaves_max)},
      {"eta", fmt::format("{}", options.learning_rate)},
      {"lambda", fmt::format("{}", options.l2)},
      {"min_child_weight", fmt::format("{}", options.child_weight_min)},
      {"subsample", fmt::format("{}", options.row_share)},
      {"colsample_bytree", fmt::format("{}", options.column_share)},
      {"seed", std::to_string(options.seed)},
      {"nthread", std::to_string(options.threads)},
      {"objective", options.classes == 0 ? "binary:logistic" : "multi:softprob"},
      {"disable_default_eval_metric", "1"},
      {"verbosity", "0"},
  };
  // From the base rate on, so that no round is spent on finding it.
  if (options.classes == 0) parameters.emplace_back("base_score", fmt::format("{}", base_rate));
  if (options.classes != 0) parameters.emplace_back("num_class", std::to_string(options.classes));
  for (const auto& [name, value] : parameters) {
    if (auto ok = asked(XGBoosterSetParam(booster, name, value.c_str())); !ok) return ok;
  }
  return {};
}

Result<double> loss_of(BoosterHandle booster, DMatrixHandle matrix, std::span<const std::uint32_t> labels,
                       std::span<const float> weights, std::uint32_t classes) {
  bst_ulong const* shape = nullptr;
  bst_ulong dimensions = 0;
  const float* scores = nullptr;
  constexpr const char* kConfig =
      R"({"type":0,"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":true})";
  if (auto ok = asked(XGBoosterPredictFromDMatrix(booster, matrix, kConfig, &shape, &dimensions, &scores)); !ok)
    return std::unexpected(std::move(ok.error()));
  const std::size_t outputs = classes == 0 ? 1 : classes;
  if (dimensions != 2 || shape[0] != labels.size() || shape[1] != outputs)
    return error(ErrorCode::kInternal, "boosted training: XGBoost's predictions have an unexpected shape");
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double weight = weights.empty() ? 1 : weights[i];
    const double score = classes == 0 ? scores[i] : scores[i * outputs + labels[i]];
    const double likelihood = classes == 0 && labels[i] == 0 ? 1 - score : score;
    sum -= weight * std::log(std::max(likelihood, 1e-15));
    total += weight;
  }
  return total > 0 ? sum / total : 0;
}

Result<models::BoostedModel> export_trees(BoosterHandle booster, std::size_t rounds) {
  BoosterHandle handle = nullptr;
  if (auto ok = asked(XGBoosterSlice(booster, 0, static_cast<int>(rounds), 1, &handle)); !ok)
    return std::unexpected(std::move(ok.error()));
  const Booster kept(handle);
  bst_ulong size = 0;
  char const* bytes = nullptr;
  if (auto ok = asked(XGBoosterSaveModelToBuffer(kept.get(), R"({"format":"json"})", &size, &bytes)); !ok)
    return std::unexpected(std::move(ok.error()));
  return models::import_xgboost({bytes, size}, "trained by XGBoost");
}

}  // namespace

Result<BoostedTraining> train_boosted(std::span<const float> rows, std::size_t columns,
                                      std::span<const std::uint32_t> labels, std::span<const float> weights,
                                      const BoostedOptions& options) {
  if (auto ok = check(rows, columns, labels, weights, options); !ok) return std::unexpected(std::move(ok.error()));
  const auto validation_rows =
      static_cast<std::size_t>(std::floor(static_cast<double>(labels.size()) * options.validation_share));
  const std::size_t training_rows = labels.size() - validation_rows;
  const auto seen = labels.first(training_rows);
  if (std::ranges::adjacent_find(seen, std::not_equal_to<>()) == seen.end()) {
    return invalid(seen.empty() ? "no rows"
                                : fmt::format("all {} rows for training have the label {}", training_rows, seen[0]));
  }
  double positive = 0, total = 0;
  for (std::size_t i = 0; i < training_rows; ++i) {
    const double weight = weights.empty() ? 1 : static_cast<double>(weights[i]);
    total += weight;
    positive += seen[i] == 1 ? weight : 0;
  }
  const double base_rate = total > 0 ? std::clamp(positive / total, 1e-6, 1 - 1e-6) : 0.5;
  const auto part = [&](std::size_t first, std::size_t count) {
    return make_matrix(rows.subspan(first * columns, count * columns), columns, labels.subspan(first, count),
                       weights.empty() ? weights : weights.subspan(first, count), options.threads);
  };
  auto training = part(0, training_rows);
  if (!training) return std::unexpected(std::move(training.error()));
  Matrix validation;
  std::vector<DMatrixHandle> known = {training->get()};
  const auto validation_labels = labels.subspan(training_rows);
  const auto validation_weights = weights.empty() ? weights : weights.subspan(training_rows);
  if (validation_rows > 0) {
    auto made = part(training_rows, validation_rows);
    if (!made) return std::unexpected(std::move(made.error()));
    validation = std::move(*made);
    known.push_back(validation.get());  // known matrices keep their sums: a round costs its own trees only
  }
  BoosterHandle handle = nullptr;
  if (auto ok = asked(XGBoosterCreate(known.data(), known.size(), &handle)); !ok)
    return std::unexpected(std::move(ok.error()));
  const Booster booster(handle);
  if (auto ok = set_options(handle, options, base_rate); !ok) return std::unexpected(std::move(ok.error()));

  BoostedProgress progress;
  progress.rounds_max = options.rounds_max;
  double best_loss = std::numeric_limits<double>::infinity();
  for (std::size_t round = 0; round < options.rounds_max; ++round) {
    if (auto ok = asked(XGBoosterUpdateOneIter(handle, static_cast<int>(round), training->get())); !ok)
      return std::unexpected(std::move(ok.error()));
    progress.round = round + 1;
    if (validation) {
      auto loss = loss_of(handle, validation.get(), validation_labels, validation_weights, options.classes);
      if (!loss) return std::unexpected(std::move(loss.error()));
      progress.validation_loss = *loss;
    }
    if (!validation || progress.validation_loss < best_loss) {
      best_loss = progress.validation_loss;
      progress.best_round = progress.round;
    }
    if (options.progress && !options.progress(progress)) break;
    if (options.patience_rounds > 0 && progress.round - progress.best_round >= options.patience_rounds) break;
  }
  auto model = export_trees(handle, progress.best_round);
  if (!model) return std::unexpected(std::move(model.error()));
  return BoostedTraining{std::move(model->trees), progress.best_round, training_rows, validation_rows, best_loss};
}

}  // namespace alcedo::training
