// Which entities a recent event was of, by its id: how a label that comes days later finds them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/label_input.h"
#include "core/result.h"
#include "core/state_stream.h"
#include "features/key_table.h"
#include "features/record_pool.h"

namespace alcedo::pipeline {

/// Remembers events for `keep_ms` of event time, at most `events_max` of them; beyond, the oldest go first. A function
/// of the inputs alone.
///
/// Memory   40 bytes an event and 8 for each of its keys, plus 24 to 48 of a table.
/// Threads  One at a time. Cost: two or three memory accesses an event.
class LabelIndex {
 public:
  struct Options {
    std::int64_t keep_ms = 0;
    std::uint64_t events_max = 20'000'000;
    std::vector<std::string> keys;     // names, by key slot of the events
    std::vector<std::uint32_t> slots;  // those that labels must reach, at most kSlotsMax
  };
  static constexpr std::size_t kSlotsMax = 8;
  explicit LabelIndex(Options options);

  /// An admitted event with an id. One with the same id takes the place of an earlier one.
  void add(const EventHeader& event, std::span<const Key> keys);
  /// The watermark: what is older than it by more than keep_ms is forgotten.
  void forget_before(std::int64_t watermark_ms);

  enum class Answer : std::uint8_t { kUnknown, kRepeated, kFirst };
  /// The event of a label that says "anomalous", once: fills event_ms and entities of `label`. `sequence` is the
  /// label's.
  Answer take(std::uint64_t id_hash, std::uint64_t sequence, LabelInput& label);

  std::size_t events() const { return events_; }
  std::size_t state_bytes() const { return table_.reserved_bytes() + records_.reserved_bytes(); }

  /// Whether what happens is recorded for take_log(), from now on.
  void keep_log(bool keep) { logs_ = keep; }
  /// What happened since the last call: events and labels taken, in order, behind what their keys mean. Empty: nothing.
  std::string take_log();
  /// The sequence of the first of them; of the oldest event that is remembered, or `next_sequence` if there is none.
  std::uint64_t log_begins() const { return log_begins_; }
  std::uint64_t oldest(std::uint64_t next_sequence) const;
  /// Logs that take_log() gave, in their order; then forget_before(). Those of other keys are passed over.
  /// Errors: kCorrupt. Returns whether all were of these keys.
  Result<bool> load_logs(std::span<const std::pair<std::uint64_t, std::string>> logs);

 private:
  struct Entry;
  Entry& at(std::uint32_t handle) const { return *reinterpret_cast<Entry*>(records_.at(handle)); }
  Entry& append(std::uint64_t id, std::uint64_t sequence, std::int64_t time_ms);
  void forget_oldest();
  void log_begin(std::uint64_t sequence);

  Options options_;
  std::uint64_t meaning_;  // of the keys
  features::KeyTable table_;
  features::RecordPool records_;
  std::uint32_t oldest_ = features::RecordPool::kNone;
  std::uint32_t newest_ = features::RecordPool::kNone;
  std::size_t events_ = 0;
  bool logs_ = false;
  std::string log_;
  std::uint64_t log_begins_ = 0;
};

}  // namespace alcedo::pipeline
