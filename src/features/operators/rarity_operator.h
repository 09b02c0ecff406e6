// How unusual a value is for its entity: this merchant for this card, this template for this host.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns count (of the value), of (of all values), novel (1: never seen, or forgotten), rarity = log10((of + 1) /
/// (count + 1)). FeatureSpec: other_key is the key whose values are counted.
///
/// Each entity counts its own values, exactly while it knows at most 32; beyond, the rarest known (of equals the one
/// known longest) is forgotten for a new one. When `of` reaches 256 all counts are halved: old habits fade.
///
/// Cost    a scan of up to 32 tags of 8 bytes, prefetched; 8 bytes in the record and 8 a known value, in slabs of 4
/// to 32. Errors  values are told apart by 32 bits of their hash: two of one entity's 32 are taken for one in 1 of 10^7
/// entities.
std::string rarity_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> rarity_columns(const FeatureSpec& spec);
std::size_t rarity_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_rarity_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
