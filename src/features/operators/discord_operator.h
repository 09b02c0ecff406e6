// A shape that was never there before: the newest values against the most alike stretch of the entity's own past.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

inline constexpr std::uint32_t kShapeValuesMin = 2;
inline constexpr std::uint32_t kShapeValuesMax = 64;
inline constexpr std::uint32_t kPastValuesMax = 20'000;

/// Columns distance (in standard deviations of the number) and surprise (of that distance, by the entity's own past);
/// their definitions: docs/features.md, "discord". They include the event. FeatureSpec: number, shape_values,
/// past_values (at least four shapes), half_life_ms of the standard deviation, min_history of the surprise.
///
/// Source   E. Keogh, J. Lin, A. Fu, "HOT SAX: efficiently finding the most unusual time series subsequence", ICDM
/// 2005. Cost     a distance from each earlier shape, given up where it exceeds the least so far: up to past_values *
///          shape_values multiplications, 16 at once. 4 to 5 bytes a value of the past, 160 a decade of distances met.
std::string discord_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> discord_columns(const FeatureSpec& spec);
std::size_t discord_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_discord_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
