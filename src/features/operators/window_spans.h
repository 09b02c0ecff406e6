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
    for (const std::int64_t window : windows_ms) grains_.push_back(window / kBuckets / unit_ms_);
  }

  /// "" if every unit of the longest window can be told by 32 bits, with room for windows of whole panes.
  static std::string mistake(const std::vector<std::int64_t>& windows_ms) {
    if (windows_ms.empty()) return "no windows; expected one or more, such as 1m";
    for (const std::int64_t window : windows_ms) {
      if (window <= 0 || window % kBuckets != 0) return {};  // FeaturePlan says so
    }
    const WindowSpans spans(windows_ms);
    constexpr std::int64_t kUnitsMax = std::int64_t{1} << 28;
    if (*std::max_element(spans.grains_.begin(), spans.grains_.end()) * kBuckets <= kUnitsMax) return {};
    return "its windows' buckets have no common divisor near their lengths; expected windows such as 1m, 1h, 7d";
  }

  std::size_t size() const { return grains_.size(); }
  std::int64_t unit_of(std::int64_t time_ms) const { return bucket_of(time_ms, unit_ms_); }
  std::int64_t grain(std::size_t window) const { return grains_[window]; }
  /// The newest bucket of the window when the entity's clock is in `clock_unit`.
  std::int64_t newest_bucket(std::size_t window, std::int64_t clock_unit) const {
    return bucket_of(clock_unit, grains_[window]);
  }
  /// The first unit of the window. Longer windows need not begin earlier: 60 buckets of 1001 ms may begin after 60 of
  /// 1000 ms.
  std::int64_t first(std::size_t window, std::int64_t clock_unit) const {
    return (newest_bucket(window, clock_unit) - (kBuckets - 1)) * grains_[window];
  }

 private:
  std::int64_t unit_ms_ = 0;
  std::vector<std::int64_t> grains_;  // length of a bucket, units
};

/// A unit kept in 32 bits: right while it is at most 2^32 - 1 units before `clock_unit`, the entity's clock as of which
/// it is read.
inline std::int64_t unit_from(std::uint32_t kept, std::int64_t clock_unit) {
  return clock_unit - static_cast<std::int64_t>(static_cast<std::uint32_t>(clock_unit) - kept);
}

}  // namespace alcedo::features
