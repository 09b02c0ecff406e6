// Verdicts -> incidents, in event time: one incident an entity (or group) and type, open until it has been quiet.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/state_stream.h"
#include "core/verdict.h"
#include "decide/anomaly.h"

namespace alcedo::decide {

/// One firing verdict, or one silence.
struct Evidence {
  Position position;
  std::int64_t time_ms = 0;
  std::uint32_t type = 0;
  std::string_view key;     // what the incident is about: the group where the type has one, else the entity
  std::string_view member;  // the entity, where it is not the key
  std::string_view event_id;
  double score = 0;
  bool provisional = false;
  bool pins = false;  // a lasting condition: the incident stays open until release()
  std::int64_t due_ns = 0;
};

/// What a person is told of an evidence; asked for only when a change leaves.
struct Explanation {
  std::vector<Reason> reasons;
  std::vector<VoteRecord> votes;
};

/// Emits a change when an incident opens, when its evidence has doubled, has become ten times rarer than what was told,
/// or its severity has grown, and when it resolves.
///
/// Threads  One at a time, in input order. Cost: a hash lookup a firing verdict.
class IncidentFolder {
 public:
  static constexpr std::size_t kMembersShown = 20;

  struct Names {
    std::string pipeline;
    std::vector<std::string> keys;  // by type: the name of what an incident is about ("card")
  };
  IncidentFolder(Names names, std::vector<AnomalySpec> anomalies);

  void add(const Evidence& evidence, const std::function<Explanation()>& explain, std::vector<IncidentChange>& out);
  /// One lasting condition has ended; the incident resolves when its last one does.
  void release(std::uint32_t type, std::string_view key, Position position, std::int64_t time_ms,
               std::vector<IncidentChange>& out);
  /// Resolves what has been quiet. Ticks that follow one input share its sequence; indices go on.
  void tick(Position position, std::int64_t time_ms, std::vector<IncidentChange>& out);

  std::size_t open() const { return open_.size(); }

  /// Every open incident, in the order of type name and key. Cost: a sort of the open incidents.
  void save(StateWriter& writer) const;
  struct Loaded {
    std::size_t open = 0;
    std::size_t ending = 0;  // of these: their type is gone, or is now about something else
  };
  /// Replaces the open incidents. Those of a type of the same name and kind of key go on as if they had been opened
  /// here; the others, which nothing can add to, resolve with the first tick after their last evidence. After a refusal
  /// nothing has changed.
  Loaded load(StateReader& reader);
  /// Nobody watches this type's lasting conditions any more: its incidents resolve when they have been quiet.
  void unpin(std::uint32_t type);

 private:
  static constexpr std::uint32_t kGone = UINT32_MAX;  // the type of incidents that are ending
  struct Incident {
    IncidentChange state;
    int pins = 0;
    std::uint32_t type = 0;
  };
  void resolve(const std::string& id, Incident& incident, Position position, std::vector<IncidentChange>& out);
  std::int64_t quiet_at_ms(const Incident& incident) const;
  static Incident load_incident(StateReader& reader);
  static Severity severity_of(Impact impact, double score);

  Names names_;
  std::vector<AnomalySpec> anomalies_;
  std::unordered_map<std::string, Incident> open_;  // by type index and key; no order of it can be seen
  using Deadline = std::pair<std::int64_t, std::string>;
  std::priority_queue<Deadline, std::vector<Deadline>, std::greater<>> deadlines_;  // one an open incident without pins
};

}  // namespace alcedo::decide
