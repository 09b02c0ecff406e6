// Slow shifts of a level: many values a little too high say together what none of them says alone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns up, down (in standard deviations), since_s (seconds); their definitions: docs/features.md, "cusum". They
/// include the event. FeatureSpec: number, half_life_ms of the level, accept_ms (0: half_life / 8), min_history.
///
/// Source   E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954; slack and winsorised values: D. M.
/// Hawkins, D. H. Olwell, "Cumulative Sum Charts and Charting for Quality Improvement", 1998.
/// Cost     one exp2 and one square root; 64 bytes an entity, 32 more while it is off its level.
std::string cusum_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> cusum_columns(const FeatureSpec& spec);
std::size_t cusum_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_cusum_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
