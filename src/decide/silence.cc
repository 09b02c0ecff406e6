// An entity's deadline is moved only when it falls due or a silence ends: an event costs no queue operation.
#include "decide/silence.h"

#include <algorithm>

namespace alcedo::decide {

void SilenceWatch::expect(Entity& entity, std::uint64_t key, std::int64_t deadline_ms) {
  entity.deadline_ms = deadline_ms;
  deadlines_.emplace(deadline_ms, key);
}

bool SilenceWatch::seen(std::uint64_t key, std::string_view text, std::string_view group, std::int64_t time_ms) {
  const auto [it, added] = entities_.try_emplace(key);
  Entity& entity = it->second;
  if (added) {
    entity.text = text;
    entity.group = group;
    entity.last_ms = time_ms;
    expect(entity, key, time_ms + absent_ms_);
    return false;
  }
  entity.last_ms = std::max(entity.last_ms, time_ms);
  if (!entity.silent) return false;
  entity.silent = false;
  expect(entity, key, entity.last_ms + absent_ms_);
  return true;
}

void SilenceWatch::tick(std::int64_t time_ms, std::vector<Silent>& alarms, std::vector<Silent>& forgotten) {
  while (!deadlines_.empty() && deadlines_.top().first <= time_ms) {
    const auto [deadline, key] = deadlines_.top();
    deadlines_.pop();
    const auto it = entities_.find(key);
    if (it == entities_.end() || it->second.deadline_ms != deadline) continue;
    Entity& entity = it->second;
    const std::int64_t alarm_ms = entity.last_ms + absent_ms_;
    const std::int64_t forget_ms = entity.last_ms + std::max(forget_ms_, absent_ms_);
    if (!entity.silent) {
      if (alarm_ms > deadline) {
        expect(entity, key, alarm_ms);
        continue;
      }
      entity.silent = true;
      alarms.push_back({entity.text, entity.group, entity.last_ms, alarm_ms});
      expect(entity, key, std::max(forget_ms, deadline + 1));
      continue;
    }
    if (forget_ms > deadline) {
      expect(entity, key, forget_ms);
      continue;
    }
    forgotten.push_back({entity.text, entity.group, entity.last_ms, alarm_ms});
    entities_.erase(it);
  }
}

}  // namespace alcedo::decide
