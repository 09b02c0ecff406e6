// A number against the median of its last values: a baseline that a fifth of wild values does not move.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns seen, median, mad, spread, z, history; their definitions: docs/features.md, "robust". All but z and history
/// in the unit of the number. FeatureSpec: number, min_history.
///
/// Source   F. R. Hampel, "The influence curve and its role in robust estimation", JASA 69(346), 1974.
/// Cost     reading walks over half of the 64 values, learning moves up to 64 of them; 16 bytes in the record, and a
/// slab of 72 to 576 bytes.
std::string robust_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> robust_columns(const FeatureSpec& spec);
std::size_t robust_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_robust_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
