// Where windows of several lengths begin, in one unit that divides all their buckets: what is kept by its newest time
// needs 32 bits for it and serves every window.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "features/window_ring.h"

namespace alcedo::features {

/// Windows of 60 aligned buckets (docs/features.md "Windows") in units: the greatest common divisor of their buckets'
/// lengths. A time lies in a window exactly if its unit is at or after first().
class WindowSpans {
 public:
  explicit WindowSpans(const std::vector<std::int64_t>& windows_ms) {
    for (const std::int64_t window : windows_ms) unit_ms_ = std::gcd(unit_ms_, window / kBuckets);
    for (const std::int64_t window : windows_ms) grains_.emplace_back(window / kBuckets / unit_ms_);
    unit_ = BucketLength(unit_ms_);
  }

  /// "" if every unit of the longest window can be told by 32 bits, with room for windows of whole panes.
  static std::string mistake(const std::vector<std::int64_t>& windows_ms) {
    if (windows_ms.empty()) return "no windows; expected one or more, such as 1m";
    for (const std::int64_t window : windows_ms) {
      if (window <= 0 || window % kBuckets != 0) return {};  // FeaturePlan says so
    }
    const WindowSpans spans(windows_ms);
    constexpr std::int64_t kUnitsMax = std::int64_t{1} << 28;
    const auto fits = [](const BucketLength& grain) { return grain.ms() * kBuckets <= kUnitsMax; };
    if (std::all_of(spans.grains_.begin(), spans.grains_.end(), fits)) return {};
    return "its windows' buckets have no common divisor near their lengths; expected windows such as 1m, 1h, 7d";
  }

  std::size_t size() const { return grains_.size(); }
  std::int64_t unit_of(std::int64_t time_ms) const { return unit_.bucket_of(time_ms); }
  std::int64_t grain(std::size_t window) const { return grains_[window].ms(); }
  /// The window's bucket of a unit; the newest one if the entity's clock is in it.
  std::int64_t bucket(std::size_t window, std::int64_t unit) const { return grains_[window].bucket_of(unit); }
  /// The first unit of the window. Longer windows need not begin earlier: 60 buckets of 1001 ms may begin after 60 of
  /// 1000 ms.
  std::int64_t first(std::size_t window, std::int64_t clock_unit) const {
    return (bucket(window, clock_unit) - (kBuckets - 1)) * grain(window);
  }

 private:
  std::int64_t unit_ms_ = 0;
  BucketLength unit_{1};
  std::vector<BucketLength> grains_;  // lengths of the buckets, units
};

/// A unit kept in 32 bits: right while it is at most 2^32 - 1 units before `clock_unit`, the entity's clock as of which
/// it is read.
inline std::int64_t unit_from(std::uint32_t kept, std::int64_t clock_unit) {
  return clock_unit - static_cast<std::int64_t>(static_cast<std::uint32_t>(clock_unit) - kept);
}

}  // namespace alcedo::features
