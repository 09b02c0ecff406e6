// The name a person probably meant: every "unknown X" message ends with it.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace alcedo {

/// The name in `known` nearest to `given`: the fewest insertions, deletions, changes and swaps of neighbours, ignoring
/// the case of ASCII letters; at most a third of given's length and at least one; failing that, one that begins with
/// `given` or that `given` begins with (3 bytes or more). The first of equals. Empty if none is that near, or if
/// `given` is longer than 256 bytes.
///
/// Cost  O(length of given * length of all names).
std::string nearest_name(std::string_view given, std::span<const std::string> known);

}  // namespace alcedo
