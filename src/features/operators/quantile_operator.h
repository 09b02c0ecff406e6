// Quartiles of a number in each window, where a mean would follow its outliers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

inline constexpr std::uint32_t kQuantileExact = 64;  // values known one by one

/// Columns p25_5m, p50_5m, p75_5m, iqr_5m: stat by stat, windows within; NaN where the window is empty. FeatureSpec:
/// number, windows_ms, including.
///
/// The newest 64 values of an entity stand in a list with their times. A window that holds at most 64 is read from it,
/// exactly (type 7 of Hyndman and Fan). A window that holds more is read from its own sketch (quantile_sketch.h),
/// which holds the values of whole panes of 10 buckets: of 60 to 69 buckets, those of the window and what else is in
/// the pane of its first bucket. A sketch lives while its panes reach back to a value that the list forgot.
///
/// Memory  16 bytes and 4 a window in the record; 12 a listed value in slabs of 4 to 64; at most 9232 a window with
/// more than 64 values: at most 784 + 9236 windows an entity, and what slabs left for larger ones wait for others. An
/// idle entity keeps its own until its next event.
/// Cost    a pass over up to 64 values a window, or over up to 256 cells.
std::string quantile_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> quantile_columns(const FeatureSpec& spec);
std::size_t quantile_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_quantile_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
