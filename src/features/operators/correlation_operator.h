// Whether two metrics of one entity still move together: the break of a habit that neither shows alone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns r_W (Pearson's correlation over window W) and pairs_W (buckets that back it), window by window;
/// docs/features.md, "correlation". A deviation of r_W from its own history is the break. FeatureSpec: number is the
/// metrics' value, other_key the key that holds a metric's name, metrics the two names; or, where metrics is empty,
/// number and number_2 are two numbers of one event.
///
/// Cost    a pass over the 60 buckets of each window an event (about 0.1 us); 1,440 bytes a window for entities that
/// have one of both.
std::string correlation_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> correlation_columns(const FeatureSpec& spec);
std::size_t correlation_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_correlation_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
