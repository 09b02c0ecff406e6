// Notices entities that stop speaking: one alarm a silence, in event time.
#pragma once

#include <cstdint>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/state_stream.h"

namespace alcedo::decide {

/// Watches the entities of one key. Events in input order; ticks tell how far time has come.
///
/// Threads  One at a time. Cost: one hash lookup an event; memory: the entities seen within forget_ms.
class SilenceWatch {
 public:
  /// An entity silent for absent_ms raises an alarm; after forget_ms of silence it is no longer expected.
  SilenceWatch(std::int64_t absent_ms, std::int64_t forget_ms) : absent_ms_(absent_ms), forget_ms_(forget_ms) {}

  struct Silent {
    std::string key;
    std::string group;
    std::int64_t last_ms = 0;   // its last event
    std::int64_t since_ms = 0;  // last_ms + absent_ms: when the silence became an alarm
  };
  /// An event. Returns whether this ends a silence that had been alarmed.
  bool seen(std::uint64_t key, std::string_view text, std::string_view group, std::int64_t time_ms);
  /// Alarms that fall due by `time_ms`, ordered by when they did, then by key. Entities silent for forget_ms end up in
  /// `forgotten`.
  void tick(std::int64_t time_ms, std::vector<Silent>& alarms, std::vector<Silent>& forgotten);

  std::size_t entities() const { return entities_.size(); }

  /// Every entity, in the order of its hash. Cost: a sort of the entities.
  void save(StateWriter& writer) const;
  /// Replaces the entities; what follows is as if they had been seen by this object, also where its absent_ms is
  /// another one (who is silent stays so until the next event). After a refusal nothing has changed.
  void load(StateReader& reader);

 private:
  struct Entity {
    std::string text;
    std::string group;
    std::int64_t last_ms = 0;
    std::int64_t deadline_ms = 0;  // its valid entry in the queue; others are stale
    bool silent = false;
  };
  /// When the entity, as it is now, turns silent or is forgotten.
  std::int64_t due_ms(const Entity& entity) const;
  void expect(Entity& entity, std::uint64_t key, std::int64_t deadline_ms);
  using Deadline = std::pair<std::int64_t, std::uint64_t>;
  std::int64_t absent_ms_;
  std::int64_t forget_ms_;
  std::unordered_map<std::uint64_t, Entity> entities_;
  std::priority_queue<Deadline, std::vector<Deadline>, std::greater<>> deadlines_;
};

}  // namespace alcedo::decide
