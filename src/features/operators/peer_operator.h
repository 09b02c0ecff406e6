// A member's number against its group: this card's amount among those of the others in the same kind of shop, this
// host's load among those of its cluster.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Columns seen, expected, spread, z, members, iqr.spread, iqr.z; their definitions: docs/features.md, "peers". All but
/// z, iqr.z and members in the unit of the number. FeatureSpec: number; key is the group's slot, member_key that of its
/// members; min_history, how many other members a z needs.
///
/// A group remembers the newest number of at most 64 members; beyond, the one silent longest makes room. A member's
/// number is the newest by event time of that member, so members that arrive interleaved, each in its own order, lose
/// nothing. A counter's rate is taken member by member.
///
/// Source   F. R. Hampel, "The influence curve and its role in robust estimation", JASA 69(346), 1974.
/// Cost     a scan of up to 64 members of 32 bytes, and a walk over half of them; 8 bytes in the record, 32 a member in
/// slabs of 4 to 64.
std::string peer_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> peer_columns(const FeatureSpec& spec);
std::size_t peer_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_peer_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
