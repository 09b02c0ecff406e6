// Whole numbers of bands and cells decide; degrees are only written.
#include "contract/fields/place_cell.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace alcedo::contract {

std::string_view place_cell(double latitude, double longitude, char (&buffer)[kCellTextBytes]) {
  if (!(std::fabs(latitude) <= 90) || !(std::fabs(longitude) <= 180)) return {};
  // Whole numbers of bands a degree: 0.1 has no exact form, and 51.5 must lie in the band that begins there.
  constexpr double kBandsPerDegree = 1 / kCellDegrees;
  // + 0.0: the equator from the south is no band of its own.
  const double band = std::min(std::floor(latitude * kBandsPerDegree), 90 * kBandsPerDegree - 1) + 0.0;
  const double middle = (band + 0.5) / kBandsPerDegree * (std::numbers::pi / 180);
  const double cells = std::max(1.0, std::round(360 * kBandsPerDegree * std::cos(middle)));
  const double turned = longitude == 180 ? 0 : longitude + 180;
  const double cell = std::min(std::floor(turned * cells / 360), cells - 1);
  const auto end =
      fmt::format_to_n(buffer, kCellTextBytes, "{:.1f},{:.2f}", band / kBandsPerDegree, cell * 360 / cells - 180);
  return {buffer, end.size};
}

}  // namespace alcedo::contract
