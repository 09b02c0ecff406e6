// Detectors by name: what each looks at, and the raw score that it gives a row of features.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace alcedo::models {

enum class DetectorKind : std::uint8_t {
  kZscore,  // how many of its own standard deviations from its own mean
  kIqr,     // how far beyond its own quartiles
  kAbsent,  // silence: no event of the entity for a stated time
  // Trained, and kept in a bundle (learned_model.h):
  kForest,   // isolation forest
  kBoosted,  // boosted trees on labels
  // Of columns as they are:
  kSum,  // how much several measures say together
};

/// As the pipeline language writes it: "zscore".
std::string_view to_string(DetectorKind kind);

constexpr bool is_learned(DetectorKind kind) { return kind == DetectorKind::kForest || kind == DetectorKind::kBoosted; }

enum class Side : std::uint8_t { kBoth, kAbove, kBelow };

struct DetectorSpec {
  std::string name;
  DetectorKind kind = DetectorKind::kZscore;
  // "habit", "pace.events_1m"; empty for kAbsent, and for learned ones: all; kSum: columns, such as "shape.surprise"
  std::vector<std::string> features;
  Side side = Side::kBoth;
  double min_change = 0;                // share of the expected value by which the seen one must differ, 0.2 for 20 %
  std::int64_t absent_ms = 0;           // kAbsent
  std::vector<std::uint32_t> requests;  // indices of its wishes in FeatureOptions::deviations
  bool by_type = false;                 // kBoosted: one score a labelled type
  // A score of another detector's model: "fraud.card_testing" is what the model of "fraud" says of "card_testing".
  std::string model;   // empty: its own
  std::string output;  // a labelled type; empty: all of them together
};

/// Where one deviation stands in a row of features. Columns as in features::Deviation.
struct DeviationColumns {
  std::string name;
  std::uint32_t seen = 0, expected = 0, spread = 0, z = 0, history = 0;
  std::uint32_t min_history = 0;
};

/// What a detector says about a row. score NaN: it abstains. `which` is the deviation that decided it; of a sum the
/// largest summand.
struct RawScore {
  float score = std::numeric_limits<float>::quiet_NaN();
  std::uint32_t which = 0;
};

/// zscore and iqr: the largest deviation on the watched side, 0 where the change is below min_change. Abstains when
/// every deviation is missing. sum: the sum of the columns that are not missing, at least 0; abstains when all are.
///
/// Cost     a few ns a deviation, no allocation. Threads: const, any.
class DeviationDetector {
 public:
  /// `columns`: of a sum, in the order of its features.
  DeviationDetector(DetectorSpec spec, std::vector<DeviationColumns> deviations,
                    std::vector<std::uint32_t> columns = {})
      : spec_(std::move(spec)), deviations_(std::move(deviations)), columns_(std::move(columns)) {}

  RawScore score(std::span<const float> features) const;
  const DetectorSpec& spec() const { return spec_; }
  const std::vector<DeviationColumns>& deviations() const { return deviations_; }
  const std::vector<std::uint32_t>& columns() const { return columns_; }

 private:
  RawScore sum(std::span<const float> features) const;

  DetectorSpec spec_;
  std::vector<DeviationColumns> deviations_;
  std::vector<std::uint32_t> columns_;
};

}  // namespace alcedo::models
