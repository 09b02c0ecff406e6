// One deadline an entity stays in the queue and is moved only when it falls due: an event costs no queue operation.
#include "decide/silence.h"

#include <algorithm>

namespace alcedo::decide {

bool SilenceWatch::seen(std::uint64_t key, std::string_view text, std::string_view group, std::int64_t time_ms) {
  const auto [it, added] = entities_.try_emplace(key);
  Entity& entity = it->second;
  if (added) {
    entity.text = text;
    entity.group = group;
    entity.last_ms = time_ms;
    deadlines_.emplace(time_ms + absent_ms_, key);
    return false;
  }
  entity.last_ms = std::max(entity.last_ms, time_ms);
  const bool returned = entity.silent;
  entity.silent = false;
  return returned;
}

void SilenceWatch::tick(std::int64_t time_ms, std::vector<Silent>& alarms, std::vector<Silent>& forgotten) {
  while (!deadlines_.empty() && deadlines_.top().first <= time_ms) {
    const auto [deadline, key] = deadlines_.top();
    deadlines_.pop();
    const auto it = entities_.find(key);
    Entity& entity = it->second;
    const std::int64_t alarm_ms = entity.last_ms + absent_ms_;
    const std::int64_t forget_ms = entity.last_ms + std::max(forget_ms_, absent_ms_);
    if (!entity.silent) {
      if (alarm_ms > deadline) {
        deadlines_.emplace(alarm_ms, key);
        continue;
      }
      entity.silent = true;
      alarms.push_back({entity.text, entity.group, entity.last_ms, alarm_ms});
      deadlines_.emplace(std::max(forget_ms, deadline + 1), key);
      continue;
    }
    if (forget_ms > deadline) {
      deadlines_.emplace(forget_ms, key);
      continue;
    }
    forgotten.push_back({entity.text, entity.group, entity.last_ms, alarm_ms});
    entities_.erase(it);
  }
}

}  // namespace alcedo::decide
