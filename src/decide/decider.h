// Scores -> verdicts: calibrates each detector's score, lets the detectors vote, and applies each type's one rule to
// fire.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <vector>

#include "decide/anomaly.h"
#include "decide/tail_sketch.h"

namespace alcedo::decide {

/// What one event is to one anomaly type.
struct TypeVerdict {
  float score =
      std::numeric_limits<float>::quiet_NaN();  // weighted mean of the present voters' surprises; NaN: all abstained
  float surprise = 0;                           // -log10 of the share of normal events with such a score
  bool fired = false;
  bool provisional = false;  // calibration was not frozen yet
};

/// Takes events in input order. While it calibrates, what it learns becomes visible at ticks, so batches cannot be seen
/// in verdicts; after calibrate_events events it is frozen: an attack cannot raise its own threshold.
///
/// Detectors learn during the first half of calibrate_events, each subset of voters during all of it, the second half
/// counting most. Sketches fade, so that the scores of a cold start do not outweigh those of entities with history.
/// Until a subset has a calibration of its own, 10^-score stands for its tail: exact for one voter, too cautious for
/// several.
///
/// Threads  One at a time. Cost: about 30 ns a detector and type.
class Decider {
 public:
  struct Options {
    std::vector<AnomalySpec> anomalies;
    std::size_t num_detectors = 0;
    std::uint64_t calibrate_events = 20'000;
    double rate_max = 0;  // caps the sum of the types' rates; 0: no cap
  };
  explicit Decider(Options options);

  /// raw: one score a detector, NaN where it abstains. keys: the hash of each type's entity, 0 where the event has none
  /// (then the type has no verdict). surprises (a detector each) and verdicts (a type each) are overwritten.
  void decide(std::int64_t time_ms, std::span<const float> raw, std::span<const std::uint64_t> keys,
              std::span<float> surprises, std::span<TypeVerdict> verdicts);

  /// A tick of event time: what was learnt becomes visible.
  void tick(std::int64_t time_ms);

  /// Share of events at which a type fires now; 0 while it is not known (budget before a minute of event time), 1 for
  /// always.
  double fire_rate(std::size_t type) const { return rates_[type]; }
  bool frozen() const { return frozen_; }

 private:
  struct Subset {
    std::uint32_t voters = 0;  // bit i: i-th vote of the type is present
    TailSketch sketch;
  };
  struct Above {
    std::int64_t since_ms = 0;
    std::int64_t last_ms = 0;
  };
  double type_surprise(std::size_t type, std::uint32_t voters, float score) const;
  bool fires(std::size_t type, const TypeVerdict& verdict) const;
  void update_rates();

  Options options_;
  std::vector<TailSketch> detectors_;
  std::vector<std::vector<Subset>> subsets_;  // per type, in order of first appearance
  std::vector<double> rates_;
  std::vector<std::unordered_map<std::uint64_t, Above>> above_;  // per type with `for`: entities above the threshold
  std::vector<std::uint64_t> scored_;                            // per type, until frozen
  std::uint64_t events_ = 0;
  std::int64_t first_ms_ = 0;
  std::int64_t last_ms_ = 0;
  bool detectors_frozen_ = false;
  bool frozen_ = false;
};

}  // namespace alcedo::decide
