// Quantiles of any numbers in a fixed 32 KB, by counting in cells that grow with the value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/state_stream.h"

namespace alcedo::features {

/// Counts of values in 32 cells an octave, from 2^-64 to 2^64 on both sides of zero; smaller ones count as 0, larger
/// ones in the last cell. A quantile is off by at most 1/32 of its value. At 2^20 values all counts are halved, so that
/// old values fade.
///
/// Repeats  Integer counts: the order of the values between two halvings does not matter.
/// Cost     add(): one cache line. quantile(): 8,193 cells.
class LogHistogram {
 public:
  LogHistogram();
  void add(double x);
  /// All counts become half of themselves, rounded down.
  void halve();
  std::uint64_t count() const { return count_; }
  /// 0 < p < 1; count() must not be 0.
  double quantile(double p) const;

  void save(StateWriter& writer) const;
  /// Replaces the counts by saved ones; refuses cells that do not exist and counts that add() could not have left.
  void load(StateReader& reader);

 private:
  std::vector<std::uint32_t> cells_;  // ascending in value; zero in the middle
  std::uint64_t count_ = 0;
};

}  // namespace alcedo::features
