// Scores -> verdicts: calibrates each detector's score, lets the detectors vote, and applies each type's one rule to
// fire.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/state_stream.h"
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

/// What became of each calibration when saved ones were loaded into a pipeline that may have changed since.
struct CalibrationReport {
  enum class Fate : std::uint8_t {
    kKept,
    kAdded,    // the saved state does not know it
    kReset,    // it was changed: its scores no longer mean the same, so it calibrates anew
    kRemoved,  // the pipeline no longer has it
  };
  struct Entry {
    std::string name;
    Fate fate = Fate::kKept;
    std::string why;  // kReset: "its votes have changed"
  };
  std::vector<Entry> detectors;  // in the pipeline's order; then the removed ones
  std::vector<Entry> anomalies;
};

/// One line: "detectors: kept habit_z, fan_z; anomalies: kept takeover; reset testing (its votes have changed)".
std::string describe(const CalibrationReport& report);

/// Takes events in input order. While it calibrates, what it learns becomes visible at ticks, so batches cannot be seen
/// in verdicts; after calibrate_events events it is frozen: an attack cannot raise its own threshold. A detector or
/// type that begins anew counts its events from there.
///
/// Detectors learn during the first half of calibrate_events, each subset of voters during all of it, what comes after
/// its voters are frozen counting most. Sketches fade, so that the scores of a cold start do not outweigh those of
/// entities with history. Until a subset has a calibration of its own, 10^-score stands for its tail: exact for one
/// voter, too cautious for several.
///
/// Threads  One at a time. Cost: about 30 ns a detector and type.
class Decider {
 public:
  struct Detector {
    std::string name;
    std::uint64_t meaning = 0;  // a fingerprint of all that its scores depend on
  };
  struct Options {
    std::vector<AnomalySpec> anomalies;  // no two of one name
    std::vector<Detector> detectors;     // no two of one name
    std::uint64_t calibrate_events = 20'000;
    double rate_max = 0;                // caps the sum of the types' rates; 0: no cap
    std::vector<std::string> entities;  // by type: the name of the entity it is about ("card"); may be left out
    std::uint64_t edition = 0;          // saved state of another edition calibrates anew; 0: of the stream alone
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
  double fire_rate(std::size_t type) const { return types_[type].rate; }
  /// Whether all detectors and types have calibrated.
  bool frozen() const;

  /// What was learnt and who is above a threshold, by the names of detectors and types. Cost: 160 bytes to 11 KB a
  /// detector and a subset of voters.
  void save(StateWriter& writer) const;
  /// Takes over what still means the same: detectors of the same name and meaning; types of the same name, entity,
  /// votes (in any order) and kind of fire rule, all of whose voters are taken over. The rest stays as it is: a new
  /// Decider's begins anew. A changed rate, budget or cap holds at once, on the calibration that is there; a changed
  /// calibrate_events for what is not frozen. With unchanged options every later verdict is that of the Decider that
  /// was saved. After a refusal nothing has changed, and the report is empty.
  CalibrationReport load(StateReader& reader) { return load(reader, options_.edition); }
  /// The same for what a Decider of this edition saved.
  CalibrationReport load(StateReader& reader, std::uint64_t edition);

 private:
  struct Subset {
    std::uint32_t voters = 0;  // bit i: i-th vote of the type is present
    TailSketch sketch;
  };
  struct Above {
    std::int64_t since_ms = 0;
    std::int64_t last_ms = 0;
  };
  struct DetectorState {
    std::uint64_t events = 0;  // until frozen
    bool frozen = false;
    TailSketch sketch;
  };
  struct TypeState {
    std::vector<Subset> subsets;  // in order of first appearance
    std::uint64_t events = 0;     // these four until frozen
    std::int64_t first_ms = 0;
    std::int64_t last_ms = 0;
    std::uint64_t scored = 0;
    std::uint64_t told_scored = 0;  // of the last tick: what the rate rests on
    std::int64_t told_ms = 0;       // last_ms - first_ms of the last tick
    double rate = 0;
    bool settled = false;  // all voters are frozen, and what was learnt before has faded
    bool frozen = false;
    std::unordered_map<std::uint64_t, Above> above;  // with `for`: entities above the threshold
  };
  struct Saved;
  void save_type(std::size_t type, StateWriter& writer) const;
  static Saved load_saved(StateReader& reader);
  std::string take_type(std::size_t type, Saved& saved, const std::vector<bool>& kept_detectors);
  bool voters_frozen(std::size_t type) const;
  double type_surprise(std::size_t type, std::uint32_t voters, float score) const;
  bool fires(std::size_t type, const TypeVerdict& verdict) const;
  void update_rates();

  Options options_;
  std::vector<DetectorState> detectors_;
  std::vector<TypeState> types_;
};

}  // namespace alcedo::decide
