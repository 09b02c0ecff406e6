// How many different values of another key an entity shows in each window: merchants of a card, accounts of a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

inline constexpr std::uint32_t kDistinctExact = 16;  // values known one by one

/// Columns distinct_5m, one a window. FeatureSpec: other_key is the key whose values are told apart, windows_ms,
/// including.
///
/// Each value is kept with the newest time at which it was seen. The newest kDistinctExact of an entity stand in a
/// list, which is exact for each window that holds no more; once one is forgotten, all go into a sketch too, which
/// answers for the windows that reach back to what was forgotten, and is given up when none does.
///
/// Sketch  64 rows of 16 ranks; each cell keeps the newest time at which a value fell into it, so one sketch serves
/// every window and values leave it by the clock. The number is that under which a window's cells are most likely
/// (Poisson), to within 0.1 %, rounded, at least kDistinctExact + 1. Standard error 0.69 / sqrt(64) = 8.7 %, up to 10^6
/// values. Source  cells: Flajolet and Martin, "Probabilistic counting", 1985; their times: Chabchoub and Hebrail,
/// "Sliding HyperLogLog", 2010; the error of the likeliest number: Lang, "Back to the future", 2017. Errors  values are
/// told apart by 32 bits of their hash: two of one entity's 16 are taken for one in 1 of 3 * 10^7 entities. Memory  16
/// bytes in the record, 8 a listed value in slabs of 4, 8 or 16, 4112 and 1064 a window a sketch: at most 4256 and 1064
/// a window an entity. An idle entity keeps its own until its next event. Cost    of up to 16 values four at once are
/// compared, for each window. With a sketch, a cell and its bucket in each window, the buckets that leave, and for each
/// window that it answers for and whose rows changed a dozen sums of 15.
std::string distinct_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> distinct_columns(const FeatureSpec& spec);
std::size_t distinct_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_distinct_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
