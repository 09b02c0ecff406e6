// The inner loops over trees, compiled once for each instruction set and chosen at run time.
#include <cstdint>

#include "models/tree_plan.h"

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
using IntegerVector = hn::Vec<Integers>;
using WordVector = hn::Vec<Words>;

// What a tail of a block has no row for must still be a number.
void fill_slots_of_target(const TreePlan& plan, const float* rows, std::size_t columns, std::size_t count,
                          std::int32_t* slots) {
  const Floats d;
  const Integers di;
  alignas(64) float values[kBlockRows];
  for (std::size_t r = count; r < kBlockRows; ++r) values[r] = 0;
  const auto highest = hn::Set(di, INT32_MAX);
  const auto missing_left = hn::Set(di, kMissingLeft), missing_right = hn::Set(di, kMissingRight);
  const auto zero_max = hn::Set(d, 1e-35F);
  for (const TreeColumn& column : plan.columns) {
    const float* from = rows + column.column;
    for (std::size_t r = 0; r < count; ++r) values[r] = from[r * columns];
    std::int32_t* to = slots + column.first_slot * kBlockRows;
    for (std::size_t r = 0; r < kBlockRows; r += hn::Lanes(d)) {
      const auto x = hn::Load(d, values + r);
      auto missing = hn::IsNaN(x);
      if (column.zero_is_missing) missing = hn::Or(missing, hn::Le(hn::Abs(x), zero_max));
      // As order_key().
      const auto bits = hn::BitCast(di, hn::Add(x, hn::Zero(d)));
      const auto key = hn::Xor(bits, hn::And(hn::ShiftRight<31>(bits), highest));
      const auto gone = hn::RebindMask(di, missing);
      if (column.left) hn::Store(hn::IfThenElse(gone, missing_left, key), di, to + r);
      if (column.right)
        hn::Store(hn::IfThenElse(gone, missing_right, key), di, to + (column.left ? kBlockRows : 0) + r);
    }
  }
}

// Row r of the group ends at exits[r]. Each mask node is read once for kVectors vectors of rows.
template <std::size_t kVectors>
HWY_INLINE void find_exits(const MaskNode* node, std::size_t nodes, const std::int32_t* slots,
                           WordVector (&exits)[kVectors]) {
  const Floats d;
  const Words du;
  const Integers di;
  WordVector open[kVectors];
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) open[v] = hn::Set(du, ~0U);
  for (const MaskNode* const end = node + nodes; node != end; ++node) {
    const IntegerVector bound = hn::Set(di, node->bound);
    const WordVector mask = hn::Set(du, node->mask);
    const std::int32_t* x = slots + node->slot * kBlockRows;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      const IntegerVector value = hn::Load(di, x + v * hn::Lanes(di));
#if HWY_TARGET <= HWY_AVX3
      open[v] = hn::IfThenElse(hn::RebindMask(du, hn::Gt(value, bound)), hn::And(open[v], mask), open[v]);
#else
      open[v] = hn::AndNot(hn::AndNot(mask, hn::BitCast(du, hn::VecFromMask(di, hn::Gt(value, bound)))), open[v]);
#endif
    }
  }
  // The index of the lowest bit is the exponent of that bit as a float; bit 31 is -2^31, of the same exponent.
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) {
    const WordVector lowest = hn::And(open[v], hn::Sub(hn::Zero(du), open[v]));
    const WordVector bits = hn::BitCast(du, hn::ConvertTo(d, hn::BitCast(di, lowest)));
    exits[v] = hn::Sub(hn::And(hn::ShiftRight<23>(bits), hn::Set(du, 255)), hn::Set(du, 127));
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

// Eight rows at a time: each waits for its own loads, so the processor overlaps them.
HWY_INLINE void walk_rows(const TreePlan& plan, const PlannedTree& tree, const std::int32_t* slots,
                          const std::uint32_t* exits, std::size_t first_row, std::size_t rows, double* sums) {
  constexpr std::size_t kTogether = 8;
  const std::uint32_t* starts = plan.exit_node.data() + tree.exits;
  const WalkNode* nodes = plan.walk.data();
  for (std::size_t r = 0; r < rows; r += kTogether) {
    std::uint32_t at[kTogether];
    const std::int32_t* x = slots + first_row + r;
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) at[i] = starts[exits[r + i]];
    for (std::uint32_t level = 0; level < tree.rest_depth; ++level) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kTogether; ++i) {
        const WalkNode& node = nodes[at[i]];
        at[i] += node.step + static_cast<std::uint32_t>(x[node.slot * kBlockRows + i] > node.bound);
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) sums[first_row + r + i] += plan.walk_value[at[i]];
  }
}

void add_tree_of_target(const TreePlan& plan, const PlannedTree& tree, const std::int32_t* slots, double* sums) {
  const Floats d;
  constexpr std::size_t kLanes = HWY_MAX_BYTES >= 64 ? 16 : HWY_MAX_BYTES / 4;
  constexpr std::size_t kVectors = kLanes == 16 ? 4 : kLanes == 8 ? 8 : 4;
  constexpr std::size_t kGroup = kVectors * kLanes;
  static_assert(kBlockRows % kGroup == 0);
  const MaskNode* masks = plan.masks.data() + tree.first_mask;
  for (std::size_t row = 0; row < kBlockRows; row += kGroup) {
    WordVector exits[kVectors];
    find_exits<kVectors>(masks, tree.masks, slots + row, exits);
    if (tree.rest_depth == 0) {
      const float* values = plan.exit_value.data() + tree.exits;
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v)
        add_to(sums + row + v * kLanes, look_up(values, tree.masks + 1, exits[v]));
    } else {
      alignas(64) std::uint32_t stored[kGroup];
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) hn::Store(exits[v], Words(), stored + v * kLanes);
      walk_rows(plan, tree, slots, stored, row, kGroup, sums);
    }
  }
  static_cast<void>(d);
}

}  // namespace alcedo::models::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace alcedo::models {
namespace {
HWY_EXPORT(fill_slots_of_target);
HWY_EXPORT(add_tree_of_target);
}  // namespace

void fill_slots(const TreePlan& plan, const float* rows, std::size_t columns, std::size_t count, std::int32_t* slots) {
  HWY_DYNAMIC_DISPATCH(fill_slots_of_target)(plan, rows, columns, count, slots);
}

void add_tree(const TreePlan& plan, const PlannedTree& tree, const std::int32_t* slots, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_tree_of_target)(plan, tree, slots, sums);
}

void walk_row(const TreePlan& plan, const std::int32_t* slots, float* leaf_by_tree) {
  constexpr std::size_t kTogether = 8;
  const WalkNode* nodes = plan.walk.data();
  const std::size_t trees = plan.by_depth.size();
  std::size_t t = 0;
  for (; t + kTogether <= trees; t += kTogether) {
    const std::uint32_t* order = plan.by_depth.data() + t;
    std::uint32_t at[kTogether];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) at[i] = plan.trees[order[i]].root;
    // The last of the group is the deepest.
    for (std::uint32_t level = plan.trees[order[kTogether - 1]].depth; level > 0; --level) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kTogether; ++i) {
        const WalkNode& node = nodes[at[i]];
        at[i] += node.step + static_cast<std::uint32_t>(slots[node.slot] > node.bound);
      }
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) leaf_by_tree[order[i]] = plan.walk_value[at[i]];
  }
  for (; t < trees; ++t) {
    const PlannedTree& tree = plan.trees[plan.by_depth[t]];
    std::uint32_t at = tree.root;
    for (std::uint32_t level = tree.depth; level > 0; --level) {
      const WalkNode& node = nodes[at];
      at += node.step + static_cast<std::uint32_t>(slots[node.slot] > node.bound);
    }
    leaf_by_tree[plan.by_depth[t]] = plan.walk_value[at];
  }
}

std::vector<std::int64_t> tree_targets() { return hwy::SupportedAndGeneratedTargets(); }
const char* tree_target_name(std::int64_t target) { return hwy::TargetName(target); }
void use_tree_target(std::int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace alcedo::models
#endif
