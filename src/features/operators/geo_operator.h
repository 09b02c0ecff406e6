// Where an entity is and how it got there: speed from its last place, distance from its learnt home.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns speed_kmh, distance_km, home_km, home_spread_km, home_z, places; their definitions: docs/features.md, "geo".
/// FeatureSpec: number and number_2 are latitude and longitude in degrees; half_life_ms ages the home.
///
/// Cost  two distances on the sphere and one conversion to a unit vector (six trigonometric functions); 72 bytes an
/// entity.
std::string geo_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> geo_columns(const FeatureSpec& spec);
std::size_t geo_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_geo_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
