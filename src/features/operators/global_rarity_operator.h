// How unusual a value is over all entities: a device that nobody used before, a cell of the globe where nobody pays.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns count (of the value, faded), of (of all values, faded, as of the last tick), novel (1: never seen, or
/// forgotten), rarity = log10((of + 1) / (count + 1)), and how far that is from what is usual for all values:
/// rarity.expected, .spread, .z, .history; docs/features.md, "rarity by everyone". FeatureSpec: key is the value's
/// slot, so each value is an entity of its own stage; half_life_ms, min_history.
///
/// The total of all, and what is usual, are GlobalBaselines': one thread, input order, seen at ticks (EventView::total,
/// usual), so neither workers nor batches can be seen in them. A value's own history would be silent where it matters:
/// a new value has none.
///
/// Cost    an exp2 an event here and three there; 16 bytes a value here, there 24 for each of at most 4096.
std::string global_rarity_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> global_rarity_columns(const FeatureSpec& spec);
std::size_t global_rarity_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_global_rarity_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
