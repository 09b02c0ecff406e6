// Verification, the reference walk, and the order of sums that all paths keep.
#include "models/tree_ensemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/check.h"
#include "models/tree_plan.h"

namespace alcedo::models {
namespace {

constexpr float kZeroMax = 1e-35F;
// A rest of a block that is smaller than this is quicker row by row.
constexpr std::size_t kBlockRowsMin = 24;

std::size_t end_of_tree(const TreeEnsembleSpec& spec, std::size_t tree) {
  return tree + 1 < spec.trees.size() ? spec.trees[tree + 1].first_node : spec.nodes.size();
}

Result<> check_totals(const TreeEnsembleSpec& spec) {
  const auto refuse = [](const std::string& what) {
    return error(ErrorCode::kInvalidArgument, "tree ensemble: " + what);
  };
  if (spec.columns == 0 || spec.columns > TreeEnsemble::kColumnsMax)
    return refuse(fmt::format("{} columns; 1 to {} are possible", spec.columns, TreeEnsemble::kColumnsMax));
  if (spec.outputs == 0 || spec.outputs > TreeEnsemble::kOutputsMax)
    return refuse(fmt::format("{} outputs; 1 to {} are possible", spec.outputs, TreeEnsemble::kOutputsMax));
  if (spec.nodes.size() > TreeEnsemble::kNodesMax)
    return refuse(fmt::format("{} nodes; at most {} are possible", spec.nodes.size(), TreeEnsemble::kNodesMax));
  if (spec.trees.empty() ? !spec.nodes.empty() : spec.trees[0].first_node != 0)
    return refuse("nodes before the first tree");
  if (spec.base.size() != spec.outputs)
    return refuse(fmt::format("{} base scores for {} outputs", spec.base.size(), spec.outputs));
  for (const double base : spec.base) {
    if (!std::isfinite(base)) return refuse("a base score that is not finite");
  }
  if (!spec.zero_is_missing.empty() && spec.zero_is_missing.size() != spec.columns)
    return refuse("zero_is_missing has not one entry a column");
  if (!std::isfinite(spec.factor)) return refuse("a factor that is not finite");
  if (spec.transform > TreeTransform::kPathLength) return refuse("an unknown transform");
  for (std::size_t i = 0; i < spec.category_sets.size(); ++i) {
    const CategorySet& set = spec.category_sets[i];
    if (set.first_word > spec.category_words.size() || set.words > spec.category_words.size() - set.first_word)
      return refuse(fmt::format("category set {} lies outside of the words", i));
  }
  return {};
}

// Every node is met once on the way from the root: then no row can walk for ever, or out of the tree.
Result<> check_tree(const TreeEnsembleSpec& spec, std::size_t t) {
  const TreeEnsembleSpec::Tree& tree = spec.trees[t];
  const std::size_t end = end_of_tree(spec, t);
  std::size_t index = 0;
  const auto refuse = [&](std::string what) {
    return error(ErrorCode::kInvalidArgument, fmt::format("tree ensemble: tree {}, node {}: {}", t, index, what));
  };
  if (tree.first_node >= end || end > spec.nodes.size()) return refuse("the tree has no nodes");
  if (tree.output >= spec.outputs) return refuse(fmt::format("adds to output {} of {}", tree.output, spec.outputs));
  const std::span<const TreeNode> nodes = std::span(spec.nodes).subspan(tree.first_node, end - tree.first_node);
  std::vector<std::uint8_t> met(nodes.size(), 0);
  met[0] = 1;
  std::size_t count = 1;
  std::vector<std::size_t> open = {0};
  while (!open.empty()) {
    index = open.back();
    open.pop_back();
    const TreeNode& node = nodes[index];
    if (!std::isfinite(node.cover) || node.cover < 0) return refuse("a cover that is negative or not finite");
    if (node.left < 0 && node.right < 0) {
      if (!std::isfinite(node.value)) return refuse("a value that is not finite");
      continue;
    }
    if (node.column >= spec.columns) return refuse(fmt::format("column {} of {}", node.column, spec.columns));
    if (node.category_set != TreeNode::kNoSet) {
      if (node.category_set >= spec.category_sets.size())
        return refuse(fmt::format("category set {} of {}", node.category_set, spec.category_sets.size()));
    } else if (std::isnan(node.threshold)) {
      return refuse("a threshold that is NaN");
    }
    for (const std::int32_t child : {node.left, node.right}) {
      if (child < 0 || static_cast<std::size_t>(child) >= nodes.size())
        return refuse(fmt::format("child {} of {} nodes", child, nodes.size()));
      if (std::exchange(met[child], 1) != 0) return refuse(fmt::format("child {} has two parents, or is one", child));
      ++count;
      open.push_back(static_cast<std::size_t>(child));
    }
  }
  if (count != nodes.size()) return refuse(fmt::format("{} of {} nodes are reached", count, nodes.size()));
  return {};
}

// What a row can expect at each node, by the weight that training saw; without any, both sides weigh the same.
std::vector<double> expectations(const TreeEnsembleSpec& spec) {
  std::vector<double> expected(spec.nodes.size(), 0);
  std::vector<std::size_t> order;
  for (std::size_t t = 0; t < spec.trees.size(); ++t) {
    const std::size_t first = spec.trees[t].first_node;
    order.assign(1, first);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const TreeNode& node = spec.nodes[order[i]];
      if (node.is_leaf()) continue;
      order.push_back(first + static_cast<std::size_t>(node.left));
      order.push_back(first + static_cast<std::size_t>(node.right));
    }
    for (std::size_t i = order.size(); i-- > 0;) {
      const TreeNode& node = spec.nodes[order[i]];
      if (node.is_leaf()) {
        expected[order[i]] = node.value;
        continue;
      }
      const std::size_t left = first + static_cast<std::size_t>(node.left);
      const std::size_t right = first + static_cast<std::size_t>(node.right);
      double left_weight = spec.nodes[left].cover, right_weight = spec.nodes[right].cover;
      if (!(left_weight + right_weight > 0)) left_weight = right_weight = 1;
      expected[order[i]] =
          (left_weight * expected[left] + right_weight * expected[right]) / (left_weight + right_weight);
    }
  }
  return expected;
}

bool goes_left(const TreeEnsembleSpec& spec, const TreeNode& node, float x) {
  if (std::isnan(x)) return node.default_left;
  if (!spec.zero_is_missing.empty() && spec.zero_is_missing[node.column] != 0 && std::fabs(x) <= kZeroMax)
    return node.default_left;
  if (node.category_set == TreeNode::kNoSet) return x < node.threshold;
  const CategorySet& set = spec.category_sets[node.category_set];
  bool in_set = false;
  // Compared as floats first: a cast of what no integer holds is undefined.
  if (x > -1 && x < static_cast<float>(static_cast<std::uint64_t>(set.words) * 32)) {
    const auto category = static_cast<std::uint32_t>(x < 0 ? 0 : x);
    in_set =
        category / 32 < set.words && (spec.category_words[set.first_word + category / 32] >> (category % 32) & 1U) != 0;
  }
  return in_set == node.set_left;
}

template <typename T>
class Buffer {
 public:
  /// At least `size` values, aligned to 64 bytes; what they were is lost.
  T* at_least(std::size_t size) {
    if (size > size_) {
      values_.reset(static_cast<T*>(::operator new[](size * sizeof(T), std::align_val_t{64})));
      size_ = size;
    }
    return values_.get();
  }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> values_;
  std::size_t size_ = 0;
};

// One a thread: scoring allocates nothing once it has met its largest model.
struct Scratch {
  Buffer<std::uint32_t> slots;
  Buffer<float> leaves;
  Buffer<double> sums;
};
Scratch& scratch() {
  thread_local Scratch of_thread;
  return of_thread;
}

}  // namespace

Result<TreeEnsemble> TreeEnsemble::create(TreeEnsembleSpec spec) {
  if (auto ok = check_totals(spec); !ok) return std::unexpected(std::move(ok.error()));
  for (std::size_t t = 0; t < spec.trees.size(); ++t) {
    if (auto ok = check_tree(spec, t); !ok) return std::unexpected(std::move(ok.error()));
  }
  return TreeEnsemble(std::move(spec));
}

TreeEnsemble::TreeEnsemble(TreeEnsembleSpec spec)
    : spec_(std::move(spec)), expected_(expectations(spec_)), plan_(std::make_unique<TreePlan>(plan_trees(spec_))) {}
TreeEnsemble::TreeEnsemble(TreeEnsemble&&) noexcept = default;
TreeEnsemble& TreeEnsemble::operator=(TreeEnsemble&&) noexcept = default;
TreeEnsemble::~TreeEnsemble() = default;

std::uint32_t TreeEnsemble::leaf_of(std::size_t tree, const float* row) const {
  const std::uint32_t first = spec_.trees[tree].first_node;
  std::uint32_t at = first;
  while (!spec_.nodes[at].is_leaf()) {
    const TreeNode& node = spec_.nodes[at];
    at = first + static_cast<std::uint32_t>(goes_left(spec_, node, row[node.column]) ? node.left : node.right);
  }
  return at;
}

// raw[o * stride] is output o of the row.
void TreeEnsemble::transform(const double* raw, std::size_t stride, float* out) const {
  switch (spec_.transform) {
    case TreeTransform::kIdentity:
      for (std::size_t o = 0; o < spec_.outputs; ++o) out[o] = static_cast<float>(raw[o * stride]);
      break;
    case TreeTransform::kLogistic:
      for (std::size_t o = 0; o < spec_.outputs; ++o)
        out[o] = static_cast<float>(1 / (1 + std::exp(-raw[o * stride] * spec_.factor)));
      break;
    case TreeTransform::kExponential:
      for (std::size_t o = 0; o < spec_.outputs; ++o) out[o] = static_cast<float>(std::exp(raw[o * stride]));
      break;
    case TreeTransform::kPathLength:
      for (std::size_t o = 0; o < spec_.outputs; ++o)
        out[o] = static_cast<float>(std::exp2(-raw[o * stride] * spec_.factor));
      break;
    case TreeTransform::kSoftmax: {
      double largest = raw[0];
      for (std::size_t o = 1; o < spec_.outputs; ++o) largest = std::max(largest, raw[o * stride]);
      double sum = 0;
      for (std::size_t o = 0; o < spec_.outputs; ++o) sum += std::exp(raw[o * stride] - largest);
      for (std::size_t o = 0; o < spec_.outputs; ++o)
        out[o] = static_cast<float>(std::exp(raw[o * stride] - largest) / sum);
      break;
    }
  }
}

void TreeEnsemble::score(std::span<const float> rows, std::size_t columns, std::span<float> out) const {
  CHECK(columns == spec_.columns && rows.size() % columns == 0);
  const std::size_t count = rows.size() / columns;
  CHECK(out.size() == count * spec_.outputs);
  std::size_t row = 0;
  while (count - row >= kBlockRowsMin) {
    const std::size_t block = std::min(kBlockRows, count - row);
    score_block(rows.data() + row * columns, block, out.data() + row * spec_.outputs);
    row += block;
  }
  for (; row < count; ++row) score_row(rows.data() + row * columns, out.data() + row * spec_.outputs);
}

void TreeEnsemble::score_block(const float* rows, std::size_t count, float* out) const {
  std::uint32_t* slots = scratch().slots.at_least((plan_->slots + 1) * kBlockRows);
  double* sums = scratch().sums.at_least(spec_.outputs * kBlockRows);
  fill_slots(*plan_, rows, spec_.columns, count, slots);
  for (std::size_t o = 0; o < spec_.outputs; ++o) std::fill_n(sums + o * kBlockRows, kBlockRows, spec_.base[o]);
  for (std::size_t t = 0; t < plan_->trees.size(); ++t) {
    const PlannedTree& tree = plan_->trees[t];
    double* to = sums + tree.output * kBlockRows;
    if (!tree.irregular) {
      add_tree(*plan_, tree, slots, to);
    } else {
      for (std::size_t r = 0; r < count; ++r) to[r] += spec_.nodes[leaf_of(t, rows + r * spec_.columns)].value;
    }
  }
  for (std::size_t r = 0; r < count; ++r) transform(sums + r, kBlockRows, out + r * spec_.outputs);
}

void TreeEnsemble::score_row(const float* row, float* out) const {
  std::uint32_t* slots = scratch().slots.at_least((plan_->slots + 1) * kBlockRows);
  float* leaves = scratch().leaves.at_least(plan_->trees.size() + 1);
  double* sums = scratch().sums.at_least(spec_.outputs * kBlockRows);
  slots[0] = 0;  // a leaf without a column reads it
  for (const TreeColumn& column : plan_->columns) {
    const float x = row[column.column];
    const bool missing = std::isnan(x) || (column.zero_is_missing && std::fabs(x) <= kZeroMax);
    std::uint32_t* to = slots + column.first_slot;
    if (column.left) *to++ = missing ? kMissingLeft : order_key(x);
    if (column.right) *to = missing ? kMissingRight : order_key(x);
  }
  walk_row(*plan_, slots, leaves);
  if (spec_.outputs == 1 && !plan_->irregular) {
    // Summed in a register: through memory each addition would wait for the one before to be stored.
    double sum = spec_.base[0];
    for (std::size_t t = 0; t < plan_->trees.size(); ++t) sum += leaves[t];
    transform(&sum, 1, out);
    return;
  }
  std::copy(spec_.base.begin(), spec_.base.end(), sums);
  for (std::size_t t = 0; t < plan_->trees.size(); ++t) {
    const PlannedTree& tree = plan_->trees[t];
    sums[tree.output] += tree.irregular ? spec_.nodes[leaf_of(t, row)].value : leaves[t];
  }
  transform(sums, 1, out);
}

void TreeEnsemble::score_scalar(std::span<const float> rows, std::size_t columns, std::span<float> out) const {
  CHECK(columns == spec_.columns && rows.size() % columns == 0);
  CHECK(out.size() == rows.size() / columns * spec_.outputs);
  std::vector<double> sums(spec_.outputs);
  for (std::size_t row = 0; row * columns < rows.size(); ++row) {
    sums = spec_.base;
    for (std::size_t t = 0; t < spec_.trees.size(); ++t)
      sums[spec_.trees[t].output] += spec_.nodes[leaf_of(t, rows.data() + row * columns)].value;
    transform(sums.data(), 1, out.data() + row * spec_.outputs);
  }
}

double TreeEnsemble::raw_score(std::span<const float> row, std::size_t output) const {
  CHECK(row.size() == spec_.columns && output < spec_.outputs);
  double sum = spec_.base[output];
  for (std::size_t t = 0; t < spec_.trees.size(); ++t) {
    if (spec_.trees[t].output == output) sum += spec_.nodes[leaf_of(t, row.data())].value;
  }
  return sum;
}

float TreeEnsemble::contributions(std::span<const float> row, std::size_t output, std::span<float> by_column) const {
  CHECK(row.size() == spec_.columns && by_column.size() == spec_.columns && output < spec_.outputs);
  double* sums = scratch().sums.at_least(spec_.columns);
  std::fill_n(sums, spec_.columns, 0.0);
  double bias = spec_.base[output];
  for (const TreeEnsembleSpec::Tree& tree : spec_.trees) {
    if (tree.output != output) continue;
    std::uint32_t at = tree.first_node;
    bias += expected_[at];
    while (!spec_.nodes[at].is_leaf()) {
      const TreeNode& node = spec_.nodes[at];
      const bool left = goes_left(spec_, node, row[node.column]);
      const std::uint32_t next = tree.first_node + static_cast<std::uint32_t>(left ? node.left : node.right);
      sums[node.column] += expected_[next] - expected_[at];
      at = next;
    }
  }
  for (std::size_t c = 0; c < spec_.columns; ++c) by_column[c] = static_cast<float>(sums[c]);
  return static_cast<float>(bias);
}

}  // namespace alcedo::models
