// The largest deviation decides: it is the one a person can be shown.
#include "models/detector.h"

#include <cmath>

namespace alcedo::models {

std::string_view to_string(DetectorKind kind) {
  switch (kind) {
    case DetectorKind::kZscore:
      return "zscore";
    case DetectorKind::kIqr:
      return "iqr";
    case DetectorKind::kAbsent:
      return "absent";
    case DetectorKind::kForest:
      return "forest";
    case DetectorKind::kBoosted:
      return "boosted";
    case DetectorKind::kSum:
      return "sum";
  }
  return "";
}

RawScore DeviationDetector::sum(std::span<const float> features) const {
  RawScore all;
  float largest = 0;
  for (std::uint32_t i = 0; i < columns_.size(); ++i) {
    const float x = features[columns_[i]];
    if (std::isnan(x)) continue;
    const bool first = std::isnan(all.score);
    all.score = first ? x : all.score + x;
    if (!first && !(x > largest)) continue;
    largest = x;
    all.which = i;
  }
  if (all.score < 0) all.score = 0;
  return all;
}

RawScore DeviationDetector::score(std::span<const float> features) const {
  if (spec_.kind == DetectorKind::kSum) return sum(features);
  RawScore best;
  for (std::uint32_t i = 0; i < deviations_.size(); ++i) {
    const DeviationColumns& d = deviations_[i];
    const float z = features[d.z];
    if (std::isnan(z)) continue;
    float score = spec_.side == Side::kAbove ? z : spec_.side == Side::kBelow ? -z : std::fabs(z);
    if (spec_.min_change > 0) {
      const double expected = features[d.expected];
      const double change = std::fabs(features[d.seen] - expected);
      if (!(change >= spec_.min_change * std::fabs(expected))) score = 0;
    }
    if (!(score > 0)) score = 0;
    if (std::isnan(best.score) || score > best.score) best = {score, i};
  }
  return best;
}

}  // namespace alcedo::models
