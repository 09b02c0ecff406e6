// How many of an entity's events turned out anomalous: the confirmed frauds of a terminal, known only days later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "features/operators/operator.h"

namespace alcedo::features {

/// Windows over the time at which an event's truth became known: its own time + delay_ms. A grain is the 60th part of
/// the windows' greatest common divisor; a window is the whole grains of its length before the one that holds the
/// entity's clock, so that nothing known in the clock's own grain is seen (docs/features.md, "confirmed").
struct ConfirmedSpans {
  explicit ConfirmedSpans(const FeatureSpec& spec);

  std::int64_t grain_ms = 1;
  std::vector<std::int64_t> grains;  // of each window
  std::int64_t longest = 0;          // the largest of them
  std::int64_t grain_of(std::int64_t time_ms) const;
};

/// Whether the truth counts as confirmed for the feature.
constexpr bool confirms(const FeatureSpec& spec, Truth truth) {
  const Truth asked = spec.label_type < 0 ? kTruthAnomalous : truth_of_type(static_cast<std::size_t>(spec.label_type));
  return (truth & asked) != 0;
}

/// Columns of each window: confirmed_7d (events known to be anomalous), known_7d (events whose truth is known),
/// share_7d = (confirmed + prior * rate) / (known + prior) with everyone's rate, and how far that is from this rate:
/// share_7d.expected, .spread, .z, .history (= known). Then since_s: seconds since the newest confirmation.
/// FeatureSpec: label_type, delay_ms, windows_ms, prior, min_history.
///
/// Source   the smoothing: Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes", SIGKDD
/// Explorations 2001; the windows behind a delay: Le Borgne et al., "Reproducible machine learning for credit card
/// fraud detection", 2022, chapter 3. Memory  32 bytes and 8 a window in the record; 16 for each grain in which
/// something is or becomes known, in slabs of 4, 8, 16 ... 16384. Cost    constant while the clock stays in its grain;
/// else what enters and leaves, and a move of the list.
std::string confirmed_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> confirmed_columns(const FeatureSpec& spec);
std::size_t confirmed_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_confirmed_operator(const FeatureSpec& spec);

}  // namespace alcedo::features
