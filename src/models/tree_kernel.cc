// The inner loops over trees, compiled once for each instruction set and chosen at run time.
#include <cstdint>

#include "models/tree_plan.h"
#include "models/tree_step.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/tree_kernel.cc"
// clang-format off
#include <hwy/foreach_target.h>  // first: it includes this file again for each target
// clang-format on
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace alcedo::models::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Words = hn::RebindToUnsigned<Floats>;
using Integers = hn::RebindToSigned<Floats>;
using FloatVector = hn::Vec<Floats>;
using WordVector = hn::Vec<Words>;

// What a tail of a block has no row for must still be a number.
void fill_slots_of_target(const TreePlan& plan, const float* rows, std::size_t columns, std::size_t count,
                          std::uint32_t* slots) {
  const Floats d;
  const Integers di;
  const Words du;
  alignas(64) float values[kBlockRows];
  for (std::size_t r = count; r < kBlockRows; ++r) values[r] = 0;
  const auto lowest = hn::Set(di, INT32_MIN);
  const auto missing_left = hn::Set(du, kMissingLeft), missing_right = hn::Set(du, kMissingRight);
  const auto zero_max = hn::Set(d, 1e-35F);
  for (const TreeColumn& column : plan.columns) {
    const float* from = rows + column.column;
    for (std::size_t r = 0; r < count; ++r) values[r] = from[r * columns];
    std::uint32_t* to = slots + column.first_slot * kBlockRows;
    for (std::size_t r = 0; r < kBlockRows; r += hn::Lanes(d)) {
      const auto x = hn::Load(d, values + r);
      auto missing = hn::IsNaN(x);
      if (column.zero_is_missing) missing = hn::Or(missing, hn::Le(hn::Abs(x), zero_max));
      // As order_key().
      const auto bits = hn::BitCast(di, hn::Add(x, hn::Zero(d)));
      const auto key = hn::BitCast(du, hn::Xor(bits, hn::Or(hn::ShiftRight<31>(bits), lowest)));
      const auto gone = hn::RebindMask(du, missing);
      if (column.left) hn::Store(hn::IfThenElse(gone, missing_left, key), du, to + r);
      if (column.right)
        hn::Store(hn::IfThenElse(gone, missing_right, key), du, to + (column.left ? kBlockRows : 0) + r);
    }
  }
}

// Row r of the group ends at exits[r]. Each mask node is read once for kVectors vectors of rows.
template <std::size_t kVectors>
HWY_INLINE void find_exits(const MaskNode* node, std::size_t nodes, const std::uint32_t* slots, std::uint32_t* exits) {
  const Floats d;
  const Words du;
  const Integers di;
  WordVector closed[kVectors];
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) closed[v] = hn::Zero(du);
  for (const MaskNode* const end = node + nodes; node != end; ++node) {
    const WordVector bound = hn::Set(du, node->bound);
    const WordVector left = hn::Set(du, node->left);
    const std::uint32_t* x = slots + node->slot * kBlockRows;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
#if HWY_TARGET <= HWY_AVX3
      // Two instructions and no copy; of the same in Highway's words the compiler makes five.
      const __mmask16 goes_right = _mm512_cmplt_epu32_mask(bound.raw, _mm512_load_si512(x + v * hn::Lanes(du)));
      asm("vpord %1, %0, %0 %{%2%}" : "+v"(closed[v].raw) : "v"(left.raw), "Yk"(goes_right));
#else
      const auto goes_right = hn::VecFromMask(du, hn::Gt(hn::Load(du, x + v * hn::Lanes(du)), bound));
      closed[v] = hn::Or(closed[v], hn::And(goes_right, left));
#endif
    }
  }
  // The index of the lowest open bit is the exponent of that bit as a float; bit 31 is -2^31, of the same exponent.
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) {
    const WordVector lowest = hn::AndNot(closed[v], hn::Add(closed[v], hn::Set(du, 1)));
    const WordVector bits = hn::BitCast(du, hn::ConvertTo(d, hn::BitCast(di, lowest)));
    const WordVector exit = hn::Sub(hn::And(hn::ShiftRight<23>(bits), hn::Set(du, 255)), hn::Set(du, 127));
    hn::Store(exit, du, exits + v * hn::Lanes(du));
  }
}

HWY_INLINE void add_to(double* sums, FloatVector values) {
  const hn::Half<Floats> half;
  const hn::Rebind<double, hn::Half<Floats>> dd;
  const auto low = hn::PromoteTo(dd, hn::LowerHalf(half, values));
  const auto high = hn::PromoteTo(dd, hn::UpperHalf(half, values));
  hn::Store(hn::Add(hn::Load(dd, sums), low), dd, sums);
  hn::Store(hn::Add(hn::Load(dd, sums + hn::Lanes(dd)), high), dd, sums + hn::Lanes(dd));
}

// values[exit], of 32 values.
HWY_INLINE FloatVector look_up(const float* values, std::size_t count, WordVector exit) {
  const Floats d;
  const Words du;
  const std::size_t lanes = hn::Lanes(d);
  const auto index = hn::IndicesFromVec(d, hn::And(exit, hn::Set(du, static_cast<std::uint32_t>(lanes - 1))));
  FloatVector found = hn::TableLookupLanes(hn::LoadU(d, values), index);
  for (std::size_t first = lanes; first < count; first += lanes) {
    const auto here = hn::TableLookupLanes(hn::LoadU(d, values + first), index);
    const auto beyond = hn::RebindMask(
        d, hn::Gt(hn::BitCast(Integers(), exit), hn::Set(Integers(), static_cast<std::int32_t>(first) - 1)));
    found = hn::IfThenElse(beyond, here, found);
  }
  return found;
}

// The compiler takes the pointer as it comes, instead of adding up its parts again in each step.
template <typename T>
HWY_INLINE const T* settled(const T* pointer) {
  asm("" : "+r"(pointer));
  return pointer;
}

// x[slot * kBlockRows], by bytes: one shift and one load.
HWY_INLINE std::uint32_t slot_value(const std::uint32_t* x, std::size_t slot) {
  std::uint32_t value;
  __builtin_memcpy(&value, reinterpret_cast<const char*>(x) + slot * (kBlockRows * sizeof value), sizeof value);
  return value;
}

// Eight rows at a time: each waits for its own loads, so the processor overlaps them.
HWY_INLINE void walk_rows(const TreePlan& plan, const PlannedTree& tree, const std::uint32_t* slots,
                          const std::uint32_t* exits, float* leaves) {
  constexpr std::size_t kTogether = 8;
  const std::uint32_t* starts = plan.exit_node.data() + tree.exits;
  const WalkNode* nodes = settled(plan.walk.data());
  for (std::size_t r = 0; r < kBlockRows; r += kTogether) {
    std::size_t at[kTogether];
    const std::uint32_t* x = settled(slots + r);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) at[i] = starts[exits[r + i]];
    for (std::uint32_t level = tree.rest_depth; level > 0; --level) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kTogether; ++i) {
        const WalkNode& node = nodes[at[i]];
        at[i] = walk_step(at[i], node.step, node.bound, slot_value(x + i, node.slot));
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) leaves[r + i] = plan.walk_value[at[i]];
  }
}

HWY_INLINE void walk_heap_rows(const TreePlan& plan, const PlannedTree& tree, const std::uint32_t* slots,
                               const std::uint32_t* exits, float* leaves) {
  constexpr std::size_t kTogether = 8;
  const HeapNode* nodes = settled(plan.heap.data() + tree.root);
  const float* leaf = settled(plan.heap_leaf.data() + tree.root - (std::size_t{1} << tree.depth));
  for (std::size_t r = 0; r < kBlockRows; r += kTogether) {
    std::size_t at[kTogether];
    const std::uint32_t* x = settled(slots + r);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) at[i] = exits[r + i] + (std::size_t{1} << kMaskDepth);
    for (std::uint32_t level = tree.rest_depth; level > 0; --level) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kTogether; ++i) {
        const HeapNode& node = nodes[at[i]];
        at[i] = heap_step(at[i], node.bound, slot_value(x + i, node.slot));
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) leaves[r + i] = leaf[at[i]];
  }
}

void add_tree_of_target(const TreePlan& plan, const PlannedTree& tree, const std::uint32_t* slots, double* sums) {
  const Floats d;
  constexpr std::size_t kVectors = HWY_MAX_BYTES == 32 ? 8 : 4;
  constexpr std::size_t kGroup = kVectors * (HWY_MAX_BYTES < 64 ? HWY_MAX_BYTES / 4 : 16);
  static_assert(kBlockRows % kGroup == 0);
  alignas(64) std::uint32_t exits[kBlockRows];
  for (std::size_t row = 0; row < kBlockRows; row += kGroup)
    find_exits<kVectors>(plan.masks.data() + tree.first_mask, tree.masks, slots + row, exits + row);
  if (tree.rest_depth == 0) {
    const float* values = plan.exit_value.data() + tree.exits;
    for (std::size_t row = 0; row < kBlockRows; row += hn::Lanes(d))
      add_to(sums + row, look_up(values, tree.masks + 1, hn::Load(Words(), exits + row)));
    return;
  }
  alignas(64) float leaves[kBlockRows];
  if (tree.heap) {
    walk_heap_rows(plan, tree, slots, exits, leaves);
  } else {
    walk_rows(plan, tree, slots, exits, leaves);
  }
  for (std::size_t row = 0; row < kBlockRows; row += hn::Lanes(d)) add_to(sums + row, hn::Load(d, leaves + row));
}

}  // namespace alcedo::models::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace alcedo::models {
namespace {
HWY_EXPORT(fill_slots_of_target);
HWY_EXPORT(add_tree_of_target);
}  // namespace

void fill_slots(const TreePlan& plan, const float* rows, std::size_t columns, std::size_t count, std::uint32_t* slots) {
  HWY_DYNAMIC_DISPATCH(fill_slots_of_target)(plan, rows, columns, count, slots);
}

void add_tree(const TreePlan& plan, const PlannedTree& tree, const std::uint32_t* slots, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_tree_of_target)(plan, tree, slots, sums);
}

namespace {

// Trees of one depth lie one after the other, so that with the depth known all their addresses are constants apart.
template <std::uint32_t kDepth>
void walk_heaps(const TreePlan& plan, const HeapGroup& group, const std::uint32_t* slots, float* leaf_by_tree) {
  constexpr std::size_t kStride = heap_stride(kDepth);
  const std::uint32_t* trees = plan.heaps.data() + group.first;
  const std::size_t root = plan.trees[trees[0]].root;
  const HeapNode* nodes = plan.heap.data() + root;
  const float* leaves = plan.heap_leaf.data() + root - (std::size_t{1} << kDepth);
  for (const std::uint32_t* const end = trees + group.trees; trees != end; trees += kTreesTogether) {
    std::size_t at[kTreesTogether];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTreesTogether; ++i) at[i] = 1;
    for (std::uint32_t level = 0; level < kDepth; ++level) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kTreesTogether; ++i) {
        const HeapNode& node = nodes[i * kStride + at[i]];
        at[i] = heap_step(at[i], node.bound, slots[node.slot]);
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTreesTogether; ++i) leaf_by_tree[trees[i]] = leaves[i * kStride + at[i]];
    nodes += kTreesTogether * kStride;
    leaves += kTreesTogether * kStride;
  }
}

void walk_trees(const TreePlan& plan, const std::uint32_t* slots, float* leaf_by_tree) {
  const WalkNode* nodes = plan.walk.data();
  for (std::size_t t = 0; t < plan.by_depth.size(); t += kTreesTogether) {
    const std::uint32_t* trees = plan.by_depth.data() + t;
    std::size_t at[kTreesTogether];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTreesTogether; ++i) at[i] = plan.trees[trees[i]].root;
    // The last of the group is the deepest.
    for (std::uint32_t level = plan.trees[trees[kTreesTogether - 1]].depth; level > 0; --level) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kTreesTogether; ++i) {
        const WalkNode& node = nodes[at[i]];
        at[i] = walk_step(at[i], node.step, node.bound, slots[node.slot]);
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTreesTogether; ++i) leaf_by_tree[trees[i]] = plan.walk_value[at[i]];
  }
}

}  // namespace

void walk_row(const TreePlan& plan, const std::uint32_t* slots, float* leaf_by_tree) {
  static_assert(kMaskDepth == 5 && kHeapDepthMax == 10);
  using Walk = void (*)(const TreePlan&, const HeapGroup&, const std::uint32_t*, float*);
  constexpr Walk kWalks[] = {walk_heaps<6>, walk_heaps<7>, walk_heaps<8>, walk_heaps<9>, walk_heaps<10>};
  for (const HeapGroup& group : plan.heap_groups)
    kWalks[group.depth - kMaskDepth - 1](plan, group, slots, leaf_by_tree);
  walk_trees(plan, slots, leaf_by_tree);
}

std::vector<std::int64_t> tree_targets() { return hwy::SupportedAndGeneratedTargets(); }
const char* tree_target_name(std::int64_t target) { return hwy::TargetName(target); }
void use_tree_target(std::int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace alcedo::models
#endif
