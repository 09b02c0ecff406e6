// Whether a member of a group still moves with the others: one host of a cluster that goes its own way.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns r_W (Pearson's correlation over window W of the member's bucket means with the mean of the other members'),
/// pairs_W (buckets that back it), and the break from what was learnt of this member: r_W.expected, r_W.spread, r_W.z,
/// r_W.history; window by window. Definitions: docs/features.md, "twins". FeatureSpec: number; key is the group's slot,
/// member_key that of its members; where metrics has a name, only events of which other_key is that name count.
///
/// A group knows at most 32 members, each with 60 buckets a window; beyond, the one silent longest makes room. A
/// counter's rate is taken member by member.
///
/// Cost    a pass over the 60 buckets of every member an event of the number and window. 8
/// bytes in the record, 128 a group, 48 and 992 a window for a member.
std::string twin_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> twin_columns(const FeatureSpec& spec);
std::size_t twin_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_twin_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
