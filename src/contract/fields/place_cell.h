// A place on the globe as a value that can be counted: the cell that it lies in.
#pragma once

#include <cstddef>
#include <string_view>

namespace alcedo::contract {

/// Bands of 0.1 degrees of latitude (11.1 km), each cut into equal cells about as wide: 3600 times the cosine of the
/// band's middle, rounded, at least one.
inline constexpr double kCellDegrees = 0.1;
inline constexpr std::size_t kCellTextBytes = 32;

/// The cell's name, its south-west corner in degrees such as "51.5,-0.24", written to `buffer`. Cells hold their
/// southern and western edges; the north pole belongs to the last band, and 180 degrees of longitude are -180. "" if a
/// number is missing (NaN) or beyond 90 or 180 degrees.
std::string_view place_cell(double latitude, double longitude, char (&buffer)[kCellTextBytes]);

}  // namespace alcedo::contract
