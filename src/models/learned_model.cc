// Odds against the base rate, because a probability alone says little where anomalies are rare.
#include "models/learned_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/check.h"

namespace alcedo::models {
namespace {

constexpr std::string_view kTreesPrefix = "trees";
constexpr std::size_t kNamesMax = 100'000;

double softplus(double x) { return x > 30 ? x : std::log1p(std::exp(x)); }
double log_odds(double rate) { return std::log(rate / (1 - rate)); }

double log_sum_exp(std::span<const float> margins, std::size_t without) {
  double most = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < margins.size(); ++i) {
    if (i != without) most = std::max(most, static_cast<double>(margins[i]));
  }
  double sum = 0;
  for (std::size_t i = 0; i < margins.size(); ++i) {
    if (i != without) sum += std::exp(static_cast<double>(margins[i]) - most);
  }
  return most + std::log(sum);
}

// Names hold no line ends: the pipeline language allows letters, digits and a few signs.
std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += name + "\n";
  return text;
}

Result<std::vector<std::string>> split(std::string_view text, std::string_view what) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos || end == 0 || names.size() == kNamesMax)
      return error(ErrorCode::kCorrupt, fmt::format("the names of its {} are not a line each", what));
    names.emplace_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return names;
}

}  // namespace

void LearnedModel::score(std::span<const float> rows, std::span<float> out) const {
  const std::size_t count = out.size() / scores();
  if (kind == DetectorKind::kForest) return trees.score(rows, columns.size(), out);
  if (types.empty()) {
    trees.score(rows, columns.size(), out);
    const double base = log_odds(base_rates[0]);
    for (float& margin : out) margin = static_cast<float>(softplus(static_cast<double>(margin) - base));
    return;
  }
  // As many margins as scores: "normal" gives its place to all types together.
  trees.score(rows, columns.size(), out);
  thread_local std::vector<double> bases;
  thread_local std::vector<float> row;
  bases.clear();
  double all = 0;
  for (const double rate : base_rates) {
    bases.push_back(log_odds(rate));
    all += rate;
  }
  const double base = log_odds(all);
  row.resize(scores());
  for (std::size_t i = 0; i < count; ++i) {
    float* scored = out.data() + i * scores();
    std::copy_n(scored, scores(), row.begin());
    scored[0] = static_cast<float>(softplus(log_sum_exp(row, 0) - static_cast<double>(row[0]) - base));
    for (std::size_t t = 0; t < types.size(); ++t) {
      scored[t + 1] =
          static_cast<float>(softplus(static_cast<double>(row[t + 1]) - log_sum_exp(row, t + 1) - bases[t]));
    }
  }
}

double LearnedModel::contributions(std::span<const float> row, std::size_t which, std::span<float> by_column) const {
  CHECK(by_column.size() == columns.size() && which < scores());
  if (kind == DetectorKind::kForest) {
    const double bias = static_cast<double>(trees.contributions(row, 0, by_column));
    const double factor = trees.spec().factor;
    for (float& moved : by_column) moved = static_cast<float>(-static_cast<double>(moved) * factor);
    return -bias * factor;
  }
  if (types.empty()) return static_cast<double>(trees.contributions(row, 0, by_column)) - log_odds(base_rates[0]);
  // Of all types together: the type with the highest margin speaks.
  if (which == 0) {
    which = 1;
    for (std::size_t t = 2; t < scores(); ++t) {
      if (trees.raw_score(row, t) > trees.raw_score(row, which)) which = t;
    }
  }
  std::vector<float> normal(columns.size());
  double bias = static_cast<double>(trees.contributions(row, which, by_column));
  bias -= static_cast<double>(trees.contributions(row, 0, normal));
  for (std::size_t c = 0; c < normal.size(); ++c) by_column[c] -= normal[c];
  return bias - log_odds(base_rates[which - 1]);
}

TensorFile LearnedModel::to_file() const {
  TensorFile file;
  file.put_text("kind", kind == DetectorKind::kForest ? "forest" : "boosted");
  file.put_text("columns", joined(columns));
  file.put_text("types", joined(types));
  file.put<std::uint64_t>("meanings", {meanings.size()}, meanings);
  file.put<float>("usual", {usual.size()}, usual);
  file.put<double>("base_rates", {base_rates.size()}, base_rates);
  trees.save(file, kTreesPrefix);
  return file;
}

Result<LearnedModel> LearnedModel::from_file(const TensorFile& file) {
  const auto kind = file.text("kind");
  if (!kind) return std::unexpected(kind.error());
  if (*kind != "forest" && *kind != "boosted")
    return error(ErrorCode::kCorrupt, fmt::format("it is a '{}'; expected a forest or boosted", kind->substr(0, 40)));
  auto trees = TreeEnsemble::load(file, kTreesPrefix);
  if (!trees) return std::unexpected(trees.error());
  LearnedModel model{
      *kind == "forest" ? DetectorKind::kForest : DetectorKind::kBoosted, {}, {}, {}, {}, {}, std::move(*trees)};
  for (const auto& [text, names] : {std::pair("columns", &model.columns), std::pair("types", &model.types)}) {
    const auto found = file.text(text);
    if (!found) return std::unexpected(found.error());
    auto read = split(*found, text);
    if (!read) return std::unexpected(read.error());
    *names = std::move(*read);
  }
  if (model.columns.size() != model.trees.columns())
    return error(ErrorCode::kCorrupt, fmt::format("it names {} columns, but its trees read {}", model.columns.size(),
                                                  model.trees.columns()));
  const bool forest = model.kind == DetectorKind::kForest;
  const std::size_t outputs = forest || model.types.empty() ? 1 : 1 + model.types.size();
  if (model.trees.outputs() != outputs || (forest && !model.types.empty()))
    return error(ErrorCode::kCorrupt,
                 fmt::format("its trees have {} outputs for {} types", model.trees.outputs(), model.types.size()));
  const TreeTransform expected = forest ? TreeTransform::kPathLength : TreeTransform::kIdentity;
  if (model.trees.spec().transform != expected)
    return error(ErrorCode::kCorrupt, "its trees' sums are not what its kind reads");
  const std::uint64_t columns = model.columns.size();
  const auto meanings = file.get<std::uint64_t>("meanings", std::span(&columns, 1));
  if (!meanings) return std::unexpected(meanings.error());
  model.meanings.assign(meanings->begin(), meanings->end());
  const auto usual = file.get<float>("usual", std::span(&columns, 1), FloatPolicy::kAny);
  if (!usual) return std::unexpected(usual.error());
  model.usual.assign(usual->begin(), usual->end());
  const std::uint64_t rates = forest ? 0 : outputs > 1 ? outputs - 1 : 1;
  const auto base_rates = file.get<double>("base_rates", std::span(&rates, 1));
  if (!base_rates) return std::unexpected(base_rates.error());
  double sum = 0;
  for (const double rate : *base_rates) {
    if (!(rate > 0)) return error(ErrorCode::kCorrupt, fmt::format("a base rate of {}; expected above 0", rate));
    sum += rate;
  }
  if (!(sum < 1)) return error(ErrorCode::kCorrupt, fmt::format("base rates of {} together; expected below 1", sum));
  model.base_rates.assign(base_rates->begin(), base_rates->end());
  return model;
}

}  // namespace alcedo::models
