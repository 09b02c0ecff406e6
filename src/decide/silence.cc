// An entity's deadline is moved only when it falls due or a silence ends: an event costs no queue operation.
#include "decide/silence.h"

#include <algorithm>
#include <utility>

namespace alcedo::decide {

void SilenceWatch::expect(Entity& entity, std::uint64_t key, std::int64_t deadline_ms) {
  entity.deadline_ms = deadline_ms;
  deadlines_.emplace(deadline_ms, key);
}

std::int64_t SilenceWatch::due_ms(const Entity& entity) const {
  const std::int64_t alarm_ms = entity.last_ms + absent_ms_;
  return entity.silent ? std::max(entity.last_ms + forget_ms_, alarm_ms + 1) : alarm_ms;
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

// Deadlines are not saved: a queue of exact ones raises the same alarms in the same order as one of deadlines that lag
// behind, since those are moved on before they raise anything.
void SilenceWatch::save(StateWriter& writer) const {
  std::vector<std::pair<std::uint64_t, const Entity*>> sorted;
  sorted.reserve(entities_.size());
  for (const auto& [key, entity] : entities_) sorted.emplace_back(key, &entity);
  std::ranges::sort(sorted);
  writer.varint(sorted.size());
  for (const auto& [key, entity] : sorted) {
    writer.u64(key);
    writer.text(entity->text);
    writer.text(entity->group);
    writer.i64(entity->last_ms);
    writer.u8(entity->silent ? 1 : 0);
  }
}

void SilenceWatch::load(StateReader& reader) {
  std::vector<std::pair<std::uint64_t, Entity>> loaded;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    const std::uint64_t key = reader.u64();
    if (!loaded.empty() && reader.ok() && key <= loaded.back().first)
      reader.refuse("has watched entities that are not in ascending order");
    Entity entity;
    entity.text = reader.text();
    entity.group = reader.text();
    entity.last_ms = reader.time_ms();
    const std::uint8_t silent = reader.u8();
    if (silent > 1) reader.refuse("has an entity that is neither silent nor not");
    entity.silent = silent != 0;
    loaded.emplace_back(key, std::move(entity));
  }
  if (!reader.ok()) return;
  entities_.clear();
  deadlines_ = {};
  for (auto& [key, entity] : loaded) {
    const std::int64_t deadline_ms = due_ms(entity);
    expect(entities_.emplace(key, std::move(entity)).first->second, key, deadline_ms);
  }
}

}  // namespace alcedo::decide
