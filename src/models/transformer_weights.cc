// Reads a trained sequence model as bytes that may be anything, and writes one.
#include "models/transformer_weights.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <utility>

#include "core/prng.h"

namespace alcedo::models {
namespace {

constexpr std::string_view kKindText = "alcedo.kind";
constexpr std::string_view kKind = "transformer 1";
constexpr std::string_view kNamesText = "plan.columns";
constexpr std::string_view kEdgeCounts = "plan.edge_counts";
constexpr std::string_view kEdges = "plan.edges";
constexpr float kMagnitudeMax = 1e6F;

std::uint64_t product(const std::vector<std::uint64_t>& shape) {
  std::uint64_t n = 1;
  for (const std::uint64_t d : shape) n *= d;
  return n;
}

std::string plain(const std::vector<std::uint64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Result<TokenPlan> plan_from(const TensorFile& file) {
  const auto names = file.text(kNamesText);
  if (!names) return std::unexpected(names.error());
  const std::uint64_t any[] = {TensorFile::kAnySize};
  const auto counts = file.get<std::int32_t>(kEdgeCounts, any);
  if (!counts) return std::unexpected(counts.error());
  const auto edges = file.get<float>(kEdges, any);
  if (!edges) return std::unexpected(edges.error());

  std::vector<TokenPlan::Field> columns;
  std::vector<float> gap_edges;
  std::string_view left = *names;
  std::size_t at = 0;
  for (std::size_t f = 0; f < counts->size(); ++f) {
    const std::int32_t count = (*counts)[f];
    if (count < 0 || static_cast<std::size_t>(count) > edges->size() - at) {
      return error(ErrorCode::kCorrupt, "the model's plan counts more edges than it has");
    }
    std::vector<float> of_field(edges->begin() + static_cast<std::ptrdiff_t>(at),
                                edges->begin() + static_cast<std::ptrdiff_t>(at) + count);
    at += static_cast<std::size_t>(count);
    if (f + 1 == counts->size()) {
      gap_edges = std::move(of_field);
    } else {
      const std::size_t end = left.find('\n');
      if (end == std::string_view::npos)
        return error(ErrorCode::kCorrupt, "the model's plan has fewer names than columns");
      columns.push_back({std::string(left.substr(0, end)), std::move(of_field)});
      left.remove_prefix(end + 1);
    }
    if (columns.size() > TokenPlan::kColumnsMax) break;  // create() says it
  }
  if (columns.size() <= TokenPlan::kColumnsMax && (!left.empty() || at != edges->size())) {
    return error(ErrorCode::kCorrupt, "the model's plan has more names or edges than columns");
  }
  auto plan = TokenPlan::create(std::move(columns), std::move(gap_edges));
  if (!plan) return error(ErrorCode::kCorrupt, "the model's plan: " + plan.error().message);
  return plan;
}

}  // namespace

Result<> TransformerWeights::verify() const {
  if (plan.fields() < 2) return error(ErrorCode::kInvalidArgument, "a transformer without a token plan");
  if (label.empty() != label_bias.empty()) return error(ErrorCode::kInvalidArgument, "half a label head");
  std::optional<std::string> wrong;
  for_each(*this,
           [&](const std::string& name, const std::vector<std::uint64_t>& shape, const std::vector<float>& values) {
             if (wrong) return;
             if (values.size() != product(shape)) {
               wrong = fmt::format("'{}' has {} numbers; its shape is {}", name, values.size(), plain(shape));
               return;
             }
             for (std::size_t i = 0; i < values.size(); ++i) {
               // Written so that NaN is refused too.
               if (!(std::fabs(values[i]) <= kMagnitudeMax)) {
                 wrong = fmt::format("'{}' holds {} at {}; weights are finite and at most {:g}", name, values[i], i,
                                     kMagnitudeMax);
                 return;
               }
             }
           });
  if (wrong) return error(ErrorCode::kInvalidArgument, *wrong);
  return {};
}

TensorFile TransformerWeights::to_file() const {
  TensorFile file;
  file.put_text(kKindText, kKind);
  std::string names;
  std::vector<std::int32_t> counts;
  std::vector<float> edges;
  for (std::size_t f = 0; f < plan.fields(); ++f) {
    const TokenPlan::Field& field = plan.field(f);
    if (f < plan.columns()) names += field.name + "\n";
    counts.push_back(static_cast<std::int32_t>(field.edges.size()));
    edges.insert(edges.end(), field.edges.begin(), field.edges.end());
  }
  file.put_text(kNamesText, names);
  file.put<std::int32_t>(kEdgeCounts, {counts.size()}, counts);
  file.put<float>(kEdges, {edges.size()}, edges);
  for_each(*this, [&](const std::string& name, const std::vector<std::uint64_t>& shape,
                      const std::vector<float>& values) { file.put<float>(name, shape, values); });
  return file;
}

Result<TransformerWeights> TransformerWeights::from_file(const TensorFile& file) {
  const auto kind = file.text(kKindText);
  if (!kind) return error(ErrorCode::kCorrupt, "no model of a transformer: " + kind.error().message);
  if (*kind != kKind)
    return error(ErrorCode::kCorrupt, fmt::format("the model is of kind '{}'; expected '{}'", *kind, kKind));
  auto plan = plan_from(file);
  if (!plan) return std::unexpected(plan.error());
  TransformerWeights weights;
  weights.plan = std::move(*plan);
  // for_each visits the label head only where there is one.
  if (file.tensors().contains("label.weight")) weights.label.resize(kWidth);
  std::optional<Error> wrong;
  for_each(weights, [&](const std::string& name, const std::vector<std::uint64_t>& shape, std::vector<float>& values) {
    if (wrong) return;
    const auto read = file.get<float>(name, shape);
    if (!read) {
      wrong = read.error();
      return;
    }
    values.assign(read->begin(), read->end());
  });
  if (wrong) return std::unexpected(*wrong);
  if (const auto fine = weights.verify(); !fine) return error(ErrorCode::kCorrupt, fine.error().message);
  return weights;
}

Result<TransformerWeights> TransformerWeights::read(const std::string& path) {
  const auto file = TensorFile::read(path);
  if (!file) return std::unexpected(file.error());
  auto weights = from_file(*file);
  if (!weights) return error(weights.error().code, path + ": " + weights.error().message);
  return weights;
}

TransformerWeights TransformerWeights::random(TokenPlan plan, std::uint64_t seed, bool with_label) {
  TransformerWeights weights;
  weights.plan = std::move(plan);
  if (with_label) weights.label.resize(kWidth);
  Prng prng(seed);
  for_each(weights, [&](const std::string& name, const std::vector<std::uint64_t>& shape, std::vector<float>& values) {
    values.assign(product(shape), 0.0F);
    if (name.ends_with("norm.weight") || name.ends_with("norm1.weight") || name.ends_with("norm2.weight")) {
      values.assign(values.size(), 1.0F);
      return;
    }
    if (name.ends_with(".bias") || name.ends_with("distance")) return;
    const bool is_map = shape.size() == 2 && name.starts_with("layers.");
    const double deviation = is_map ? 1.0 / std::sqrt(static_cast<double>(shape[1])) : name == "embedding" ? 0.3 : 0.1;
    for (float& x : values) x = static_cast<float>(deviation * prng.normal());
  });
  return weights;
}

}  // namespace alcedo::models
