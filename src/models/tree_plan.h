// The form of a tree ensemble that the fast paths read: bit masks for the upper nodes, eight bytes a node below.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/tree_ensemble.h"

namespace alcedo::models {

/// Rows are scored in blocks of this many, as columns of a matrix of slots.
inline constexpr std::size_t kBlockRows = 64;
/// Trees that walk together for a row alone, each waiting for its own loads.
inline constexpr std::size_t kTreesTogether = 8;
/// Inner nodes whose decisions fit one mask of 32 leaves.
inline constexpr std::size_t kMaskNodes = 31;

/// Integers in the order of the floats that are no NaN, 0 and -0 the same. Two numbers are free above, and below.
inline std::uint32_t order_key(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x + 0.0F);
  return static_cast<std::uint32_t>(bits ^ ((bits >> 31) | INT32_MIN));
}
inline constexpr std::uint32_t kMissingLeft = 0;
inline constexpr std::uint32_t kMissingRight = UINT32_MAX;

/// A slot is a column as order keys, its missing values at one end: they go left or right of every threshold, so that
/// no node has to ask for NaN.
struct TreeColumn {
  std::uint32_t column = 0;
  std::uint32_t first_slot = 0;
  bool left = false, right = false;  // which of the two it has, in this order
  bool zero_is_missing = false;
};

/// x[slot] > bound ? step + 1 : step nodes further. A leaf stays where it is: the highest bound, and 0.
struct WalkNode {
  std::uint32_t bound;  // order_key(threshold) - 1
  std::uint16_t slot, step;
};
static_assert(sizeof(WalkNode) == 8);

/// A tree filled up to all 2^depth leaves: x[slot] > bound leads from node n to node 2 n + 1, else to 2 n; the root is
/// 1, and node 2^depth + i is leaf i. What was filled up always leads left.
struct HeapNode {
  std::uint32_t bound;
  std::uint32_t slot;
};
/// Trees that are neither too deep nor too thin for that, and have more leaves than masks know.
inline constexpr std::uint32_t kMaskDepth = 5, kHeapDepthMax = 10;
constexpr std::size_t heap_stride(std::uint32_t depth) { return (std::size_t{1} << depth) + 8; }  // from tree to tree
inline constexpr std::size_t kHeapFillMax = 8;  // leaves of the heap for each leaf of the tree

struct PlannedTree {
  std::uint32_t output = 0;
  bool irregular = false;        // categorical, or too large for 16 bits: walked on the specification
  bool heap = false;             // below its masks, and alone, it is walked in heap, else in walk
  std::uint32_t root = 0;        // in walk, or where node 0 of its heap is; of that, leaf i is leaf i from there on
  std::uint32_t depth = 0;       // of the tree
  std::uint32_t rest_depth = 0;  // below the masks; 0: each exit is a leaf
  std::uint32_t first_mask = 0, masks = 0;
  std::uint32_t exits = 0;  // 32 of them in exit_value and exit_node from here on
};

/// Bit i is exit i, from the left. A node whose row goes right closes the exits of its left side; the lowest one that
/// stays open is the row's.
struct MaskNode {
  std::uint32_t bound;
  std::uint32_t slot;
  std::uint32_t left;
};

/// Trees of one depth in TreePlan::heaps, a multiple of kTreesTogether.
struct HeapGroup {
  std::uint32_t depth = 0, first = 0, trees = 0;
};

struct TreePlan {
  std::size_t slots = 0;
  bool irregular = false;  // whether any tree is
  std::vector<TreeColumn> columns;
  std::vector<PlannedTree> trees;
  std::vector<MaskNode> masks;
  std::vector<float> exit_value;
  std::vector<std::uint32_t> exit_node;  // in walk
  std::vector<WalkNode> walk;
  std::vector<float> walk_value;
  std::vector<HeapNode> heap;
  std::vector<float> heap_leaf;
  std::vector<std::uint32_t> by_depth;  // regular trees in walk, for a row alone: those of like depth walk together
  std::vector<std::uint32_t> heaps;     // trees in heap, as they lie there; trees.size() where a group is filled up
  std::vector<HeapGroup> heap_groups;
};

/// `spec` must be one that TreeEnsemble::create() accepts.
TreePlan plan_trees(const TreeEnsembleSpec& spec);

/// Fills slots[slot * kBlockRows + row] from `count` rows, at most kBlockRows; what is behind them is 0.
void fill_slots(const TreePlan& plan, const float* rows, std::size_t columns, std::size_t count, std::uint32_t* slots);

/// Adds the leaf of each of kBlockRows rows in a regular tree to sums.
void add_tree(const TreePlan& plan, const PlannedTree& tree, const std::uint32_t* slots, double* sums);

/// The leaf value of each regular tree for one row, whose slots lie one after the other. One place more than there are
/// trees is written.
void walk_row(const TreePlan& plan, const std::uint32_t* slots, float* leaf_by_tree);

/// Highway's names of the instruction sets that this processor and this build have, best first; use_tree_target() of
/// one of them makes all further calls take it, 0 the best. For tests and benchmarks.
std::vector<std::int64_t> tree_targets();
const char* tree_target_name(std::int64_t target);
void use_tree_target(std::int64_t target);

}  // namespace alcedo::models
