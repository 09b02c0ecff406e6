// Scores detectors on labelled windows as the Numenta Anomaly Benchmark does, so that ours can stand beside its
// published scoreboard.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::evaluate {

/// What a profile pays for a true positive and charges for a miss and for a false positive.
struct NabProfile {
  std::string_view name;
  double tp_weight = 1;
  double fn_weight = 1;
  double fp_weight = 0.11;
};
inline constexpr std::array<NabProfile, 3> kNabProfiles{
    {{"standard", 1, 1, 0.11}, {"reward_low_fp", 1, 1, 0.22}, {"reward_low_fn", 1, 2, 0.11}}};

/// A row of NAB's public scoreboard, scores in the order of kNabProfiles. Source: numenta/NAB README at ea702d75.
struct NabPublished {
  std::string_view detector;
  std::array<double, 3> scores;
};
std::span<const NabPublished> nab_published();  // best first

/// 2 / (1 + e^(5y)) - 1: 0.98661 at the left edge of a window (y = -1), 0 at its right edge, -1 from three widths past
/// it.
double nab_sigmoid(double relative_position);

/// One series and its truth.
struct NabSeries {
  std::string name;
  std::vector<std::int64_t> times_ms;
  struct Window {
    std::int64_t first_ms = 0;
    std::int64_t last_ms = 0;  // included
  };
  std::vector<Window> windows;  // by time, not overlapping
};

struct NabScore {
  double score =
      0;  // 0: what a detector that never fires gets; 100: every window detected in its first row, no false positive
  double threshold = 0;  // rows with at least this score are detections; +infinity: never fire
  double raw = 0;        // before normalisation
  std::uint64_t windows_detected = 0;
  std::uint64_t false_positives = 0;  // rows
};

/// NAB's definition:
///   - The first min(floor(15 % of the rows), 750) rows of a series are probation: neither rewarded nor charged.
///   - A detected window earns tp_weight x sigmoid(y) / sigmoid(-1) of its best (that is, earliest) detection,
///     y = -(rows from it to the window's right edge, both counted) / (rows of the window). Later detections in it are
///     free.
///   - A window that has rows outside probation and no detection costs fn_weight.
///   - A false positive costs fp_weight x |sigmoid(d / (width - 1))|, d rows after the right edge of the preceding
///   window of that
///     width; the full fp_weight before the first window, from three widths on, and after a window of one row.
///   - One threshold for all series together, the best for each profile.
///   - Normalised: 100 x (raw - null) / (perfect - null), null = -fn_weight x windows, perfect = tp_weight x windows.
/// Source   Lavin, Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA 2015, and numenta/NAB
/// nab/sweeper.py. Differs  A window's edges that fall between two rows take the rows inside; NAB demands that a row
/// has exactly that time. Threads  const calls may run together.
class NabScorer {
 public:
  /// Errors: kInvalidArgument, naming the series: windows that overlap or are not in order, a window without a row.
  Result<> add(const NabSeries& series);

  std::size_t series() const { return series_.size(); }
  std::uint64_t rows() const;
  /// Windows with at least one row outside probation: those that count.
  std::uint64_t windows() const { return windows_counted_; }

  /// scores[i] belongs to the i-th series added and has one number a row; NaN is never a detection.
  /// Errors: kInvalidArgument: a number of series or rows that does not fit.
  /// Cost: one sort of all rows.
  Result<std::array<NabScore, kNabProfiles.size()>> score(std::span<const std::vector<double>> scores) const;

  /// What one series adds at a threshold, for finding out where a detector is weak.
  struct SeriesScore {
    double raw = 0;
    std::uint64_t windows = 0;
    std::uint64_t windows_detected = 0;
    std::uint64_t false_positives = 0;
  };
  SeriesScore score_series(std::size_t series, std::span<const double> scores, double threshold,
                           const NabProfile& profile) const;

  static std::size_t probation_rows(std::size_t rows);

 private:
  struct Row {
    double weight = 0;         // reward within a window (for tp_weight 1), else charge (negative, for fp_weight 1)
    std::int32_t window = -1;  // over all series
  };
  struct Prepared {
    std::string name;
    std::vector<Row> rows;
    std::size_t probation = 0;
    std::uint64_t windows = 0;
  };
  std::vector<Prepared> series_;
  std::int32_t windows_all_ = 0;
  std::uint64_t windows_counted_ = 0;
};

}  // namespace alcedo::evaluate
