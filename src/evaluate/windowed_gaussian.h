// NAB's simplest published detector, kept as a yardstick: a scorer that gives it its published score can be trusted
// with ours.
#pragma once

#include <cstddef>
#include <vector>

namespace alcedo::evaluate {

/// How improbable a value is under a normal distribution fitted to the values before it.
///
/// Source   numenta/NAB nab/detectors/gaussian/windowedGaussian_detector.py with its published parameters: a window of
/// 6400 values
///          that grows one by one until full, then moves in steps of 100.
/// Cost     O(1) amortised; 51 kB.
/// Repeats  The same values give the same bits.
class WindowedGaussian {
 public:
  explicit WindowedGaussian(std::size_t window = 6400, std::size_t step = 100) : window_(window), step_(step) {}

  /// 1 - Q(|x - mean| / std), in [0.5, 1]; 0 for the first value. `value` must be finite.
  double score(double value);

  /// A score as NAB's published result files held it: rounded to 12 decimals. What lies beyond 7 deviations is then one
  /// tie at 1.0. With it NabScorer gives the published 39.65 / 20.87 / 47.41 to the last digit; without it 40.13
  /// / 23.94 / 47.73.
  static double as_published(double score);

 private:
  std::size_t window_;
  std::size_t step_;
  std::vector<double> values_;  // the fitted window, then up to step_ values that wait
  double mean_ = 0;
  double squares_ = 0;  // sum of squared deviations while the window grows
  double deviation_ = 1;
};

}  // namespace alcedo::evaluate
