// Turns verified trees into what the kernel reads: columns with a side for missing values, masks above, a walk below.
#include "models/tree_plan.h"

#include <algorithm>

#include <utility>

namespace alcedo::models {
namespace {

constexpr std::size_t kSlotsMax = 65'536;
constexpr std::uint32_t kStepMax = 65'535;
constexpr std::size_t kExits = 32;

class Planner {
 public:
  Planner(const TreeEnsembleSpec& spec, TreePlan& plan) : spec_(spec), plan_(plan) {}

  void build() {
    number_slots();
    for (std::size_t t = 0; t < spec_.trees.size(); ++t) add(t);
    for (std::uint32_t t = 0; t < plan_.trees.size(); ++t) {
      if (!plan_.trees[t].irregular) (plan_.trees[t].heap ? plan_.heaps : plan_.by_depth).push_back(t);
    }
    const auto depth = [&](std::uint32_t t) { return plan_.trees[t].depth; };
    std::ranges::stable_sort(plan_.by_depth, {}, depth);
    std::ranges::stable_sort(plan_.heaps, {}, depth);
    group_heaps();
    // Whole groups: the last tree of walk is walked again, and gives the same.
    while (plan_.by_depth.size() % kTreesTogether != 0) plan_.by_depth.push_back(plan_.by_depth.back());
  }

 private:
  static constexpr std::uint32_t kNoSlot = UINT32_MAX;

  // Whole groups of one depth: what is missing are trees whose one leaf goes where nobody looks.
  void group_heaps() {
    std::vector<std::uint32_t> order;
    for (std::size_t i = 0; i < plan_.heaps.size(); ++i) {
      const std::uint32_t t = plan_.heaps[i], depth = plan_.trees[t].depth;
      if (plan_.heap_groups.empty() || plan_.heap_groups.back().depth != depth)
        plan_.heap_groups.push_back({depth, static_cast<std::uint32_t>(order.size()), 0});
      order.push_back(t);
      add_heap(nodes_of(t), plan_.trees[t]);
      ++plan_.heap_groups.back().trees;
      if (i + 1 < plan_.heaps.size() && plan_.trees[plan_.heaps[i + 1]].depth == depth) continue;
      for (; plan_.heap_groups.back().trees % kTreesTogether != 0; ++plan_.heap_groups.back().trees) {
        order.push_back(static_cast<std::uint32_t>(plan_.trees.size()));
        plan_.heap.resize(plan_.heap.size() + heap_stride(depth), {UINT32_MAX, 0});
        plan_.heap_leaf.resize(plan_.heap.size(), 0);
      }
    }
    plan_.heaps = std::move(order);
  }

  std::span<const TreeNode> nodes_of(std::size_t t) const {
    const std::size_t first = spec_.trees[t].first_node;
    const std::size_t end = t + 1 < spec_.trees.size() ? spec_.trees[t + 1].first_node : spec_.nodes.size();
    return std::span(spec_.nodes).subspan(first, end - first);
  }

  static bool categorical(std::span<const TreeNode> nodes) {
    return std::ranges::any_of(
        nodes, [](const TreeNode& node) { return !node.is_leaf() && node.category_set != TreeNode::kNoSet; });
  }

  void number_slots() {
    std::vector<std::uint8_t> sides(spec_.columns, 0);  // bit 0: left, bit 1: right
    for (std::size_t t = 0; t < spec_.trees.size(); ++t) {
      if (categorical(nodes_of(t))) continue;
      for (const TreeNode& node : nodes_of(t)) {
        if (!node.is_leaf()) sides[node.column] |= node.default_left ? 1U : 2U;
      }
    }
    left_slot_.assign(spec_.columns, kNoSlot);
    right_slot_.assign(spec_.columns, kNoSlot);
    for (std::uint32_t c = 0; c < spec_.columns; ++c) {
      const std::size_t wanted = (sides[c] & 1U) + (sides[c] >> 1U);
      if (wanted == 0 || plan_.slots + wanted > kSlotsMax) continue;
      TreeColumn column;
      column.column = c;
      column.first_slot = static_cast<std::uint32_t>(plan_.slots);
      column.left = (sides[c] & 1U) != 0;
      column.right = (sides[c] & 2U) != 0;
      column.zero_is_missing = !spec_.zero_is_missing.empty() && spec_.zero_is_missing[c] != 0;
      if (column.left) left_slot_[c] = static_cast<std::uint32_t>(plan_.slots++);
      if (column.right) right_slot_[c] = static_cast<std::uint32_t>(plan_.slots++);
      plan_.columns.push_back(column);
    }
  }

  std::uint32_t slot_of(const TreeNode& node) const {
    return node.default_left ? left_slot_[node.column] : right_slot_[node.column];
  }

  void add(std::size_t t) {
    const std::span<const TreeNode> nodes = nodes_of(t);
    PlannedTree tree;
    tree.output = spec_.trees[t].output;
    tree.irregular = categorical(nodes) || !walkable(nodes);
    if (!tree.irregular) {
      tree.depth = level_.back();
      tree.heap = nodes.size() / 2 > kMaskNodes && tree.depth <= kHeapDepthMax &&
                  (std::size_t{1} << tree.depth) <= kHeapFillMax * (nodes.size() / 2 + 1);
      if (!tree.heap) {
        tree.root = static_cast<std::uint32_t>(plan_.walk.size());
        add_walk();
        add_masks(nodes, tree);
      }
    }
    plan_.irregular = plan_.irregular || tree.irregular;
    plan_.trees.push_back(tree);
  }

  // Breadth first: siblings are neighbours, upper nodes share cache lines. False where 16 bits do not reach.
  bool walkable(std::span<const TreeNode> nodes) {
    order_.assign(1, 0);
    level_.assign(1, 0);
    step_.assign(nodes.size(), 0);
    place_.assign(nodes.size(), 0);
    slots_.assign(nodes.size(), 0);
    nodes_ = nodes;
    for (std::size_t i = 0; i < order_.size(); ++i) {
      const TreeNode& node = nodes[order_[i]];
      place_[order_[i]] = static_cast<std::uint32_t>(i);
      if (node.is_leaf()) continue;
      const std::size_t step = order_.size() - i;
      const std::uint32_t slot = slot_of(node);
      if (step > kStepMax || slot == kNoSlot) return false;
      step_[order_[i]] = static_cast<std::uint32_t>(step);
      slots_[order_[i]] = slot;
      for (const std::int32_t child : {node.left, node.right}) {
        order_.push_back(static_cast<std::uint32_t>(child));
        level_.push_back(level_[i] + 1);
      }
    }
    return true;
  }

  void add_walk() {
    for (const std::uint32_t index : order_) {
      const TreeNode& node = nodes_[index];
      WalkNode walk{UINT32_MAX, 0, 0};
      if (!node.is_leaf()) {
        walk.bound = order_key(node.threshold) - 1;
        walk.slot = static_cast<std::uint16_t>(slots_[index]);
        walk.step = static_cast<std::uint16_t>(step_[index]);
      }
      plan_.walk.push_back(walk);
      plan_.walk_value.push_back(node.is_leaf() ? node.value : 0);
    }
  }

  void add_heap(std::span<const TreeNode> nodes, PlannedTree& tree) {
    tree.root = static_cast<std::uint32_t>(plan_.heap.size());
    tree.rest_depth = tree.depth - kMaskDepth;
    const std::size_t leaves = std::size_t{1} << tree.depth;
    // Eight nodes more than there are: or the roots of all trees would want the same few lines of the cache.
    plan_.heap.resize(tree.root + heap_stride(tree.depth), {UINT32_MAX, 0});
    plan_.heap_leaf.resize(tree.root + heap_stride(tree.depth), 0);
    tree.first_mask = static_cast<std::uint32_t>(plan_.masks.size());
    struct Place {
      std::uint32_t index, level;
      std::size_t at;  // in the heap
    };
    std::vector<Place> open = {{0, 0, 1}};
    for (std::size_t i = 0; i < open.size(); ++i) {
      const Place place = open[i];
      const TreeNode& node = nodes[place.index];
      if (node.is_leaf()) {
        const std::size_t under = std::size_t{1} << (tree.depth - place.level);
        std::fill_n(plan_.heap_leaf.begin() + static_cast<std::ptrdiff_t>(tree.root + place.at * under - leaves), under,
                    node.value);
        continue;
      }
      plan_.heap[tree.root + place.at] = {order_key(node.threshold) - 1, slot_of(node)};
      if (place.level < kMaskDepth) {
        // Exits are what the heap has kMaskDepth levels down; the left half of those under this node is forbidden.
        const std::uint32_t half = kExits >> (place.level + 1);
        const auto first = static_cast<std::uint32_t>((place.at << (kMaskDepth - place.level)) - kExits);
        const std::uint64_t left = ((1ULL << half) - 1) << first;
        plan_.masks.push_back({order_key(node.threshold) - 1, slot_of(node), static_cast<std::uint32_t>(left)});
      }
      open.push_back({static_cast<std::uint32_t>(node.left), place.level + 1, 2 * place.at});
      open.push_back({static_cast<std::uint32_t>(node.right), place.level + 1, 2 * place.at + 1});
    }
    tree.masks = static_cast<std::uint32_t>(plan_.masks.size()) - tree.first_mask;
  }

  // The first inner nodes in breadth-first order get masks; what hangs below them are the exits, numbered from the
  // left.
  void add_masks(std::span<const TreeNode> nodes, PlannedTree& tree) {
    std::vector<std::uint8_t> masked(nodes.size(), 0);
    std::vector<std::uint32_t> chosen;
    for (const std::uint32_t index : order_) {
      if (nodes[index].is_leaf() || chosen.size() == kMaskNodes) continue;
      masked[index] = 1;
      chosen.push_back(index);
    }
    std::vector<std::uint32_t> mask_of(nodes.size(), 0);
    tree.exits = static_cast<std::uint32_t>(plan_.exit_value.size());
    plan_.exit_value.resize(tree.exits + kExits, 0);
    plan_.exit_node.resize(tree.exits + kExits, tree.root);
    std::uint32_t exits = 0, deepest = 0;
    // Depth first, from the left; a node is met again behind its left side, when it knows which exits that had.
    std::vector<std::pair<std::uint32_t, bool>> open = {{0, false}};
    std::vector<std::uint32_t> first_exit(nodes.size(), 0);
    while (!open.empty()) {
      const auto [index, again] = open.back();
      open.pop_back();
      const TreeNode& node = nodes[index];
      if (masked[index] == 0) {
        plan_.exit_value[tree.exits + exits] = node.value;
        plan_.exit_node[tree.exits + exits] = tree.root + place_[index];
        deepest = std::max(deepest, height(index));
        ++exits;
      } else if (!again) {
        first_exit[index] = exits;
        open.emplace_back(node.right, false);
        open.emplace_back(index, true);
        open.emplace_back(node.left, false);
      } else {
        const std::uint64_t left = (1ULL << exits) - (1ULL << first_exit[index]);
        mask_of[index] = static_cast<std::uint32_t>(left);
      }
    }
    tree.rest_depth = deepest;
    tree.first_mask = static_cast<std::uint32_t>(plan_.masks.size());
    tree.masks = static_cast<std::uint32_t>(chosen.size());
    for (const std::uint32_t index : chosen)
      plan_.masks.push_back({order_key(nodes[index].threshold) - 1, slots_[index], mask_of[index]});
  }

  // Levels below a node.
  std::uint32_t height(std::uint32_t index) const {
    std::uint32_t deepest = 0;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> open = {{index, 0}};
    while (!open.empty()) {
      const auto [at, level] = open.back();
      open.pop_back();
      deepest = std::max(deepest, level);
      if (nodes_[at].is_leaf()) continue;
      open.emplace_back(nodes_[at].left, level + 1);
      open.emplace_back(nodes_[at].right, level + 1);
    }
    return deepest;
  }

  const TreeEnsembleSpec& spec_;
  TreePlan& plan_;
  std::vector<std::uint32_t> left_slot_, right_slot_;  // by column
  std::span<const TreeNode> nodes_;                    // of the tree that is being added, and by its nodes:
  std::vector<std::uint32_t> step_, place_, slots_;
  std::vector<std::uint32_t> order_, level_;  // breadth first
};

}  // namespace

TreePlan plan_trees(const TreeEnsembleSpec& spec) {
  TreePlan plan;
  Planner(spec, plan).build();
  return plan;
}

}  // namespace alcedo::models
