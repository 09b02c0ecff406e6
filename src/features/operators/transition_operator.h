// How usual a value is after the one before: this log template after that one, this merchant after that one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns count (how often this value followed the entity's previous one), of (how often any did), novel (1: never, or
/// forgotten), rarity = log10((of + 1) / (count + 1)); docs/features.md, "transition". FeatureSpec: other_key is the
/// key whose values are followed.
///
/// Each entity counts its own pairs, exactly while it knows at most 128 of them; beyond, the rarest known (of equals
/// the one known longest) is forgotten for a new one. When its pairs count 4096 in all, each is halved: old habits
/// fade. Only events in order count, as only they say what came before.
///
/// Cost    a scan of up to 128 pairs of 12 bytes, prefetched; 16 bytes in the record and 12 a known pair, in slabs of 4
/// to 128. Errors  values are told apart by 32 bits of their hash.
std::string transition_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> transition_columns(const FeatureSpec& spec);
std::size_t transition_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_transition_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
