// What stands behind a row: how much history its entity has, how late the event is, how many of its numbers are
// missing.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns history (the entity's events before this one), late_s (seconds behind the entity's clock, 0 in order),
/// missing (numbers that the event lacks, of those that the pipeline reads). Cost: a few ns; 8 bytes an entity.
std::string context_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> context_columns(const FeatureSpec& spec);
std::size_t context_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_context_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
