// How rare a number's distance from its level is, by the entity's own past: far is not strange where far is usual.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// How much longer than its level an entity remembers how far it was from it: in half-lives of the level.
inline constexpr double kOwnPastHalfLives = 4;

/// Columns seen, expected, spread, z, surprise; their definitions: docs/features.md, "unusual". FeatureSpec: number,
/// half_life_ms of the level, accept_ms (0: half_life / 8), min_history (deviations before one is judged).
///
/// Cost     two exp2, a logarithm and up to 400 additions; 88 bytes in the record, 160 a decade of deviations met.
std::string unusual_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> unusual_columns(const FeatureSpec& spec);
std::size_t unusual_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_unusual_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
