// Pearson's correlation of pairs that are walked over twice, shared by what correlates two series of buckets.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/event.h"

namespace alcedo::features {

/// Below this a correlation is chance: with 8 pairs |r| > 0.7 has a probability of 5 %.
inline constexpr std::uint32_t kPairsMin = 8;

struct PairCorrelation {
  double r = kMissing;  // NaN: fewer than kPairsMin pairs, or one side stands still
  std::uint32_t pairs = 0;
};

/// `each_pair(visit)` calls visit(a, b) for every pair, the same ones in the same order each time.
///
/// Cost  Two passes about the means: one pass of squares loses small variances of large numbers.
template <typename EachPair>
PairCorrelation correlate_pairs(EachPair&& each_pair) {
  PairCorrelation result;
  double mean[2] = {0, 0};
  each_pair([&](double a, double b) {
    mean[0] += a;
    mean[1] += b;
    ++result.pairs;
  });
  if (result.pairs < kPairsMin) return result;
  mean[0] /= result.pairs;
  mean[1] /= result.pairs;
  double aa = 0, bb = 0, ab = 0;
  each_pair([&](double a, double b) {
    aa += (a - mean[0]) * (a - mean[0]);
    bb += (b - mean[1]) * (b - mean[1]);
    ab += (a - mean[0]) * (b - mean[1]);
  });
  // A side that stands still correlates with nothing; what rounding leaves of its variance is no movement.
  const auto still = [](double squares, double m) { return squares <= 1e-18 * m * m + 1e-300; };
  if (!still(aa, mean[0]) && !still(bb, mean[1])) result.r = std::clamp(ab / std::sqrt(aa * bb), -1.0, 1.0);
  return result;
}

}  // namespace alcedo::features
