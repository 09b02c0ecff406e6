// Metric names by pattern, for `counters: ["*_total"]`.
#pragma once

#include <string_view>

namespace alcedo::contract {

/// '*' is any number of bytes, '?' is one; all else is itself. Cost: O(pattern * name) at worst, O(name) as people
/// write them.
bool matches_pattern(std::string_view pattern, std::string_view name);

}  // namespace alcedo::contract
