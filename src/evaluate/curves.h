// How well a score ranks anomalies above normal rows: areas, rates at fixed false-positive rates, intervals, points to
// plot.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace alcedo::evaluate {

/// The false-positive rates at which true-positive rates are reported.
inline constexpr std::array<double, 3> kFprMax{0.001, 0.003, 0.01};
inline constexpr std::size_t kMainFpr = 1;  // 0.3 %, the rate that comparisons use

/// A bootstrap interval, 95 %; NaN where there is none.
struct Interval {
  double low = 0;
  double high = 0;
};

/// Flagging every row whose score is at least `threshold`.
struct OperatingPoint {
  double threshold =
      0;           // +infinity: already the highest score is shared by too many normal rows, nothing may be flagged
  double tpr = 0;  // share of the anomalies that are flagged (recall)
  double fpr = 0;  // share of the normal rows that are flagged
  double precision = 0;  // NaN when nothing is flagged
};

struct CurveOptions {
  std::size_t resamples = 200;  // 0: no intervals
  std::uint64_t seed = 1;
  std::size_t points_max = 400;  // of `points`
};

struct Curves {
  std::uint64_t positives = 0;
  std::uint64_t negatives = 0;
  std::uint64_t abstained = 0;  // rows with a NaN score: ranked below every number
  double pr_auc = 0;            // average precision; NaN without a positive
  double roc_auc = 0;           // NaN without a positive or without a negative; half a tie counts
  Interval pr_auc_interval;
  Interval roc_auc_interval;
  std::array<OperatingPoint, kFprMax.size()> at_fpr;
  std::array<Interval, kFprMax.size()> tpr_interval;
  std::vector<OperatingPoint> points;  // from nothing flagged to everything flagged, thinned
};

/// Ranks rows by score, higher is stranger.
///
/// Definitions  Rows of equal score are one threshold: they are flagged together or not at all. pr_auc = sum over
/// thresholds of
///              (recall step) x (precision there), no interpolation. at_fpr[i] is the threshold with the largest TPR
///              whose FPR is at most kFprMax[i]: a threshold that exceeds the rate does not count and nothing is
///              interpolated between thresholds, so the number is attained by a rule that can be deployed. Of
///              thresholds with that TPR it is the highest.
/// Intervals    Percentile bootstrap, stratified: anomalies and normal rows are resampled apart. Resampling happens on
/// bins of
///              equal score (exact draws up to 20,000 rows of a class, Poisson counts above; above about 20,000 bins
///              neighbours within 0.05 % of their rank are merged and the interval is shifted by what the merging alone
///              changed).
/// Shapes       scores.size() == positive.size(); positive is 0 or 1.
/// Cost         One sort: 1 M rows about 0.3 s with 200 resamples. 16 bytes a row.
/// Repeats      The same input and seed give the same bits. Threads: pure.
Curves compute_curves(std::span<const float> scores, std::span<const std::uint8_t> positive,
                      const CurveOptions& options);

/// Interval of (share of anomalies that `a` flags) / (share that `b` flags) - 1, resampling anomalies in pairs with
/// both thresholds fixed. Inputs are counts of anomalies: flagged by both, by a alone, by b alone, by neither. NaN if b
/// flags none.
Interval ratio_interval(std::uint64_t both, std::uint64_t a_only, std::uint64_t b_only, std::uint64_t neither,
                        const CurveOptions& options);

}  // namespace alcedo::evaluate
