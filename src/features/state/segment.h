// The portable form of state: who wrote it, of which features it is, and whether it is whole.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/state_stream.h"
#include "features/plan.h"

namespace alcedo::features {

inline constexpr std::uint32_t kSegmentVersion = 1;

enum class SegmentContent : std::uint32_t {
  kKeyGroup = 1,   // the entities of one key group of one stage
  kBaselines = 2,  // what all entities have in common
};

/// Puts magic, version, content, size and checksum before `body`: 32 bytes.
std::string seal_segment(SegmentContent content, std::string_view body);

/// The body of a sealed segment, of bytes that may be anything. Whatever single byte is changed, and wherever the bytes
/// end early, it is refused. Errors: kCorrupt, saying what is wrong and what was expected; kInvalidArgument if another
/// version wrote it, or it holds something else.
Result<std::string_view> open_segment(SegmentContent content, std::string_view bytes);

/// The features and parts of state that a segment's rows hold, in their order.
struct StateSchema {
  struct Feature {
    std::string name;
    std::uint64_t fingerprint = 0;  // of kind and all parameters
  };
  /// State that is kept or begun anew as a whole: a window of a number, a history, an operator's state.
  struct Part {
    std::string name;               // for people: "amount over 1h", "pace.events_1m"
    std::uint64_t fingerprint = 0;  // of what the state means, not of who reads it
    std::uint8_t encoding = 0;      // windows: RingKind, else 0
  };
  std::string key;  // of the stage
  std::uint64_t layout_hash = 0;
  std::uint64_t plan_hash = 0;  // of all below
  std::vector<Feature> features;
  std::vector<Part> parts;

  void save(StateWriter& writer) const;
  static StateSchema load(StateReader& reader);
  /// Sets plan_hash; call when all else is there.
  void finish();
};

/// What became of each feature when state was loaded into a plan.
struct StateReport {
  enum class Fate : std::uint8_t {
    kKept,     // all its state was there, but for histories that detectors newly ask for
    kAdded,    // the segment does not know it; windows that it shares with a known feature are filled
    kReset,    // it was changed: what no longer means the same begins anew
    kRemoved,  // the plan no longer has it
  };
  struct Feature {
    std::string name;
    Fate fate = Fate::kKept;
    std::vector<std::string> anew;  // parts of its state that begin empty
  };
  std::vector<Feature> features;  // of the stage, in the plan's order; then the removed ones
  std::uint64_t entities = 0;
  bool same_plan = false;    // bit by bit the state that was saved
  bool same_layout = false;  // for people only: parts name their numbers, so a layout may grow
};

/// One line, with entities where some were loaded: "120 entities; kept habit, pace; added fan; reset spend (amount over
/// 2h)".
std::string describe(const StateReport& report);

std::string_view to_string(StateReport::Fate fate);

/// Where a plan's parts stand in a segment's rows.
struct PartSources {
  std::vector<int> of;                  // by the plan's part: index into the segment's parts, or -1
  std::vector<std::uint8_t> encodings;  // by the segment's part
  StateReport report;
};

/// Matches parts by fingerprint. `readers[p]` are the features (indices into plan.features) that read part p.
PartSources match_parts(const StateSchema& plan, std::span<const std::vector<std::uint32_t>> readers,
                        const StateSchema& segment);

/// Of kind and every parameter; numbers and keys by name, so that another order of the contract's fields is no change.
std::uint64_t feature_fingerprint(const FeatureSpec& spec, const EventLayout& layout);
std::uint64_t layout_hash(const EventLayout& layout);
/// "amount (money)", or "" for slot -1.
std::string number_name(const EventLayout& layout, int slot);

}  // namespace alcedo::features
