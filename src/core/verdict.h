// The words of the output side: what the engine says about events, and the incidents that verdicts fold into.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace alcedo {

/// Where in the one order of inputs something happened. `index` tells apart what one input caused.
struct Position {
  std::uint64_t sequence = 0;
  std::uint32_t index = 0;
  friend auto operator<=>(const Position&, const Position&) = default;
};

enum class Severity : std::uint8_t { kInfo, kWarning, kError, kCritical };
enum class Impact : std::uint8_t { kLow, kMedium, kHigh };

std::string_view to_string(Severity severity);  // as PagerDuty spells it: "info", "warning", "error", "critical"
std::string_view to_string(Impact impact);      // "low", "medium", "high"

/// One thing that moved a verdict, for a person: what was seen, what the entity's own history led to expect.
struct Reason {
  std::string detector;  // "habit_z"
  std::string feature;   // "habit" or "pace.events_1m"
  double seen = 0;
  double expected = 0;
  double spread = 0;
  double score = 0;    // the detector's raw score: z, or multiples of the IQR
  double history = 0;  // how many values back `expected`; fewer than min_history means the global baseline served
  std::string text;    // "amount 950.00, expected 31.20 +- 12.90 (z 71.2)"
};

/// One detector's say in a type's score.
struct VoteRecord {
  std::string detector;
  double weight = 0;
  double score = 0;     // raw
  double surprise = 0;  // -log10 of its tail probability
};

/// A step in an incident's life, in event time. The engine emits these in the order of `position`; the same input gives
/// the same.
struct IncidentChange {
  enum class Kind : std::uint8_t { kOpen, kUpdate, kResolve };
  Kind kind = Kind::kOpen;
  Position position;  // of the evidence (or the tick) that caused this step
  std::string
      incident;  // dedup key: derives from pipeline, type, key and the position of the first evidence; <= 255 bytes
  std::string pipeline;
  std::string type;
  std::string key;       // the entity, or the group where the type has one; empty: the whole stream
  std::string key_name;  // "card"
  Impact impact = Impact::kMedium;
  Severity severity = Severity::kWarning;
  std::string runbook;        // URL or empty
  std::int64_t first_ms = 0;  // event time of the first and the last evidence so far
  std::int64_t last_ms = 0;
  std::uint64_t evidence = 0;  // firing verdicts so far
  double score = 0;            // the highest type score so far
  std::uint64_t members_total = 0;
  std::vector<std::string> members;  // entities under a group, the first few
  std::string first_event;           // id of the first evidence
  std::string summary;               // one line for a person
  bool provisional = false;          // calibration was not yet frozen
  std::vector<Reason> reasons;       // of the strongest evidence so far, strongest first
  std::vector<VoteRecord> votes;
  std::int64_t due_ns = 0;  // of the first evidence, for latency; 0 unknown
};

std::string_view to_string(IncidentChange::Kind kind);  // "open", "update", "resolve"

}  // namespace alcedo
