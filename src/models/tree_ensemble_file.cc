// Tree ensembles as tensors: one tensor a field of the nodes. What is read goes through create() like anything else.
#include <fmt/format.h>

#include <utility>

#include "models/tree_ensemble.h"

namespace alcedo::models {
namespace {

constexpr std::uint64_t kVersion = 1;
constexpr std::uint8_t kDefaultLeft = 1, kSetLeft = 2;

}  // namespace

void TreeEnsemble::save(TensorFile& file, std::string_view prefix) const {
  const auto put = [&]<typename T>(std::string_view name, const std::vector<T>& values) {
    file.put<T>(fmt::format("{}.{}", prefix, name), {values.size()}, std::span<const T>(values));
  };
  const auto field = [&]<typename T>(std::string_view name, T TreeNode::* member) {
    std::vector<T> values;
    values.reserve(spec_.nodes.size());
    for (const TreeNode& node : spec_.nodes) values.push_back(node.*member);
    put(name, values);
  };
  put("shape",
      std::vector<std::uint64_t>{kVersion, spec_.columns, spec_.outputs, static_cast<std::uint64_t>(spec_.transform)});
  put("factor", std::vector<double>{spec_.factor});
  put("base", spec_.base);
  put("zero_is_missing", spec_.zero_is_missing);
  std::vector<std::uint32_t> first_nodes, outputs, first_words, words;
  for (const TreeEnsembleSpec::Tree& tree : spec_.trees) {
    first_nodes.push_back(tree.first_node);
    outputs.push_back(tree.output);
  }
  for (const CategorySet& set : spec_.category_sets) {
    first_words.push_back(set.first_word);
    words.push_back(set.words);
  }
  put("tree.first_node", first_nodes);
  put("tree.output", outputs);
  put("category.first_word", first_words);
  put("category.words", words);
  put("category.bits", spec_.category_words);
  field("node.threshold", &TreeNode::threshold);
  field("node.column", &TreeNode::column);
  field("node.left", &TreeNode::left);
  field("node.right", &TreeNode::right);
  field("node.value", &TreeNode::value);
  field("node.cover", &TreeNode::cover);
  field("node.category_set", &TreeNode::category_set);
  std::vector<std::uint8_t> flags;
  flags.reserve(spec_.nodes.size());
  for (const TreeNode& node : spec_.nodes) {
    flags.push_back(static_cast<std::uint8_t>((node.default_left ? kDefaultLeft : 0) | (node.set_left ? kSetLeft : 0)));
  }
  put("node.flags", flags);
}

Result<TreeEnsemble> TreeEnsemble::load(const TensorFile& file, std::string_view prefix) {
  TreeEnsembleSpec spec;
  Result<> state;
  // Reads on after a mistake, with nothing in hand; the first is the answer.
  const auto get = [&]<typename T>(std::string_view name, std::uint64_t size, std::vector<T>& values,
                                   FloatPolicy policy = FloatPolicy::kFinite) {
    const std::uint64_t shape[] = {size};
    auto read = file.get<T>(fmt::format("{}.{}", prefix, name), shape, policy);
    if (read) {
      values.assign(read->begin(), read->end());
    } else if (state) {
      state = std::unexpected(std::move(read.error()));
    }
  };
  const auto refuse = [&](std::string_view what) {
    return error(ErrorCode::kCorrupt, fmt::format("tree ensemble {}: {}", prefix, what));
  };
  std::vector<std::uint64_t> shape;
  std::vector<double> factor;
  get("shape", 4, shape);
  get("factor", 1, factor);
  if (!state) return std::unexpected(std::move(state.error()));
  if (shape[0] != kVersion) return refuse(fmt::format("version {}; {} is read", shape[0], kVersion));
  if (shape[3] > static_cast<std::uint64_t>(TreeTransform::kPathLength)) return refuse("an unknown transform");
  spec.columns = shape[1];
  spec.outputs = shape[2];
  spec.transform = static_cast<TreeTransform>(shape[3]);
  spec.factor = factor[0];
  std::vector<std::uint32_t> first_nodes, outputs, first_words, words, columns, sets;
  std::vector<std::int32_t> left, right;
  std::vector<float> thresholds, values, covers;
  std::vector<std::uint8_t> flags;
  get("base", TensorFile::kAnySize, spec.base);
  get("zero_is_missing", TensorFile::kAnySize, spec.zero_is_missing);
  get("tree.first_node", TensorFile::kAnySize, first_nodes);
  get("tree.output", first_nodes.size(), outputs);
  get("category.first_word", TensorFile::kAnySize, first_words);
  get("category.words", first_words.size(), words);
  get("category.bits", TensorFile::kAnySize, spec.category_words);
  get("node.threshold", TensorFile::kAnySize, thresholds, FloatPolicy::kNotNan);
  const std::uint64_t nodes = thresholds.size();
  get("node.column", nodes, columns);
  get("node.left", nodes, left);
  get("node.right", nodes, right);
  get("node.value", nodes, values);
  get("node.cover", nodes, covers);
  get("node.category_set", nodes, sets);
  get("node.flags", nodes, flags);
  if (!state) return std::unexpected(std::move(state.error()));
  for (std::size_t i = 0; i < first_nodes.size(); ++i) spec.trees.push_back({first_nodes[i], outputs[i]});
  for (std::size_t i = 0; i < first_words.size(); ++i) spec.category_sets.push_back({first_words[i], words[i]});
  spec.nodes.resize(nodes);
  for (std::size_t i = 0; i < nodes; ++i) {
    if (flags[i] > (kDefaultLeft | kSetLeft)) return refuse(fmt::format("node {} has unknown flags", i));
    spec.nodes[i] = {thresholds[i],
                     columns[i],
                     left[i],
                     right[i],
                     values[i],
                     covers[i],
                     sets[i],
                     (flags[i] & kDefaultLeft) != 0,
                     (flags[i] & kSetLeft) != 0};
  }
  auto ensemble = create(std::move(spec));
  if (!ensemble) return refuse(ensemble.error().message);
  return ensemble;
}

}  // namespace alcedo::models
