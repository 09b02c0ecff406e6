// A number against its own hour of the week: what is normal at noon is strange at night.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns seen, expected, spread, z, history; their definitions: docs/features.md, "season". All but z and history in
/// the unit of the number. FeatureSpec: number, half_life_ms, accept_ms (0: half_life / 8), min_history.
///
/// Source   hours that know little are shrunk towards the whole by an estimate of how much hours differ: B. Efron, C.
/// Morris, "Data analysis using Stein's estimator", JASA 70(350), 1975. Weights of hours that rest are kept relative to
/// a landmark: G. Cormode et al., "Forward decay", ICDE 2009.
/// Cost     one exp2 an event, three more when the hour changes.
/// Memory   168 bytes in the record; 12 a known hour, in blocks of 12 hours: at most 2,184 an entity.
/// Errors   an hour at rest is kept in floats: its mean is off by 1e-7 of itself.
std::string season_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> season_columns(const FeatureSpec& spec);
std::size_t season_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_season_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
