// A queue in the order of events, so that what is too old goes without a search, and a table into it by id.
#include "pipeline/label_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::pipeline {

// Followed by a hash a slot.
struct LabelIndex::Entry {
  std::uint64_t id;
  std::uint64_t sequence;
  std::int64_t time_ms;
  std::uint32_t next;
  std::uint8_t taken;
  std::uint8_t spare[3];
  std::uint8_t groups[kSlotsMax];
  std::uint64_t* hashes() { return reinterpret_cast<std::uint64_t*>(this + 1); }
};

namespace {

// Kinds of a log's lines.
constexpr std::uint8_t kEvent = 1;
constexpr std::uint8_t kTaken = 2;

}  // namespace

LabelIndex::LabelIndex(Options options)
    : options_(std::move(options)),
      meaning_(hash64("labels")),
      records_(sizeof(Entry) + options_.slots.size() * sizeof(std::uint64_t)) {
  CHECK(options_.slots.size() <= kSlotsMax);
  for (const std::uint32_t slot : options_.slots) meaning_ = hash_combine(meaning_, hash64(options_.keys[slot]));
}

void LabelIndex::log_begin(std::uint64_t sequence) {
  if (!log_.empty()) return;
  log_begins_ = sequence;
  StateWriter(log_).u64(meaning_);
}

LabelIndex::Entry& LabelIndex::append(std::uint64_t id, std::uint64_t sequence, std::int64_t time_ms) {
  if (events_ == options_.events_max) forget_oldest();
  const std::uint32_t handle = records_.allocate();
  Entry& entry = at(handle);
  std::memset(&entry, 0, sizeof entry);
  entry.id = id;
  entry.sequence = sequence;
  entry.time_ms = time_ms;
  entry.next = features::RecordPool::kNone;
  if (newest_ != features::RecordPool::kNone) at(newest_).next = handle;
  newest_ = handle;
  if (oldest_ == features::RecordPool::kNone) oldest_ = handle;
  bool added = false;
  table_.find_or_add(id, [&] { return handle; }, added);
  if (!added) table_.replace(id, handle);
  ++events_;
  return entry;
}

void LabelIndex::add(const EventHeader& event, std::span<const Key> keys) {
  if (event.id_hash == 0) return;
  Entry& entry = append(event.id_hash, event.sequence, event.time_ms);
  for (std::size_t i = 0; i < options_.slots.size(); ++i) {
    entry.groups[i] = keys[options_.slots[i]].group;
    entry.hashes()[i] = keys[options_.slots[i]].hash;
  }
  if (!logs_) return;
  log_begin(event.sequence);
  StateWriter writer(log_);
  writer.u8(kEvent);
  writer.u64(entry.id);
  writer.u64(entry.sequence);
  writer.i64(entry.time_ms);
  for (std::size_t i = 0; i < options_.slots.size(); ++i) {
    writer.u8(entry.groups[i]);
    writer.u64(entry.hashes()[i]);
  }
}

void LabelIndex::forget_oldest() {
  const std::uint32_t handle = oldest_;
  const Entry& entry = at(handle);
  oldest_ = entry.next;
  if (oldest_ == features::RecordPool::kNone) newest_ = oldest_;
  // A later event may have the same id.
  if (table_.find(entry.id) == handle) table_.erase(entry.id);
  records_.release(handle);
  --events_;
}

void LabelIndex::forget_before(std::int64_t watermark_ms) {
  if (watermark_ms == INT64_MIN) return;
  while (oldest_ != features::RecordPool::kNone && at(oldest_).time_ms < watermark_ms - options_.keep_ms)
    forget_oldest();
}

LabelIndex::Answer LabelIndex::take(std::uint64_t id_hash, std::uint64_t sequence, LabelInput& label) {
  const std::uint32_t handle = id_hash == 0 ? features::KeyTable::kNone : table_.find(id_hash);
  if (handle == features::KeyTable::kNone) return Answer::kUnknown;
  Entry& entry = at(handle);
  if (entry.taken != 0) return Answer::kRepeated;
  entry.taken = 1;
  label.event_ms = entry.time_ms;
  label.entities.assign(options_.keys.size(), {});
  for (std::size_t i = 0; i < options_.slots.size(); ++i)
    label.entities[options_.slots[i]] = {entry.hashes()[i], entry.groups[i]};
  if (logs_) {
    log_begin(sequence);
    StateWriter writer(log_);
    writer.u8(kTaken);
    writer.u64(id_hash);
  }
  return Answer::kFirst;
}

std::string LabelIndex::take_log() {
  std::string taken = std::move(log_);
  log_.clear();
  return taken;
}

std::uint64_t LabelIndex::oldest(std::uint64_t next_sequence) const {
  return oldest_ == features::RecordPool::kNone ? next_sequence : at(oldest_).sequence;
}

Result<bool> LabelIndex::load_logs(std::span<const std::pair<std::uint64_t, std::string>> logs) {
  bool all = true;
  std::uint64_t before = 0;
  for (const auto& [first, bytes] : logs) {
    StateReader reader(bytes);
    if (reader.u64() != meaning_) {
      if (!reader.ok()) return error(ErrorCode::kCorrupt, fmt::format("events kept for labels, from {}: cut", first));
      all = false;
      continue;
    }
    while (reader.ok() && reader.left() > 0) {
      const std::uint8_t kind = reader.u8();
      const std::uint64_t id = reader.u64();
      if (kind == kTaken) {
        const std::uint32_t handle = id == 0 ? features::KeyTable::kNone : table_.find(id);
        if (handle != features::KeyTable::kNone) at(handle).taken = 1;
        continue;
      }
      if (kind != kEvent) reader.refuse(fmt::format("has a line of kind {}", kind));
      const std::uint64_t sequence = reader.u64();
      const std::int64_t time_ms = reader.time_ms();
      LabelInput::Entity entities[kSlotsMax];
      for (std::size_t i = 0; i < options_.slots.size(); ++i) {
        entities[i].group = reader.u8();
        entities[i].hash = reader.u64();
        if (entities[i].group >= kKeyGroups) reader.refuse("has a key group that does not exist");
      }
      if (reader.ok() && (id == 0 || sequence <= before)) reader.refuse("has events that are not in their order");
      if (!reader.ok()) break;
      before = sequence;
      Entry& entry = append(id, sequence, time_ms);
      for (std::size_t i = 0; i < options_.slots.size(); ++i) {
        entry.groups[i] = entities[i].group;
        entry.hashes()[i] = entities[i].hash;
      }
    }
    if (!reader.ok()) {
      return error(ErrorCode::kCorrupt,
                   fmt::format("events kept for labels, from {}: the row {}", first, reader.mistake()));
    }
  }
  return all;
}

}  // namespace alcedo::pipeline
