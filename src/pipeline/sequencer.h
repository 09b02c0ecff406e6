// Gives every accepted event its position in the one order of inputs, and turns event time into ticks.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>

#include "core/event.h"

namespace alcedo::pipeline {

/// A tick of event time among the events of a batch: it happens before order[before].
struct Tick {
  std::size_t before = 0;
  std::uint64_t sequence = 0;  // of the input that caused it
  std::int64_t time_ms = 0;    // the watermark, rounded down to a whole tick
};

enum class Admission : std::uint8_t { kAccepted, kAhead, kDuplicate };

/// A function of the inputs alone: the same events in the same order get the same sequence numbers, flags and ticks.
///
/// Threads  One at a time. Cost: one memory access an event where ids are checked.
class Sequencer {
 public:
  struct Options {
    std::int64_t lateness_ms = 0;
    std::optional<std::int64_t> ahead_ms;  // an event later than its arrival by more is refused; unset: any is taken
    std::uint64_t duplicates = 0;          // an id seen again within this many events is dropped; 0: off
    std::int64_t tick_ms = 1000;
  };
  explicit Sequencer(Options options);

  /// Admits the event or says why not; sets sequence and the late flag. Follow with take_tick().
  Admission admit(EventHeader& event);
  /// A hint that this id comes soon.
  void prefetch(std::uint64_t id_hash) const;
  /// The tick that the last input caused, if the watermark crossed a tick boundary.
  std::optional<Tick> take_tick();

  /// Time passes without events (a journaled input): the watermark becomes at least `time_ms`. Takes a sequence number.
  std::uint64_t advance(std::int64_t time_ms);

  std::uint64_t next_sequence() const { return next_sequence_; }
  void set_next_sequence(std::uint64_t sequence) { next_sequence_ = sequence; }
  std::int64_t watermark_ms() const { return watermark_ms_; }

 private:
  bool is_duplicate(std::uint64_t id_hash, std::uint64_t sequence);
  void raise(std::int64_t watermark_ms);

  struct Seen {
    std::uint64_t id = 0;
    std::uint64_t sequence = 0;
  };
  // Two generations of a set: an id stays findable for at least the horizon, memory stays bounded without deletion.
  // Each is taken whole as zero pages, so no event ever pays for growth.
  struct Free {
    void operator()(Seen* slots) const { std::free(slots); }
  };
  struct Generation {
    std::unique_ptr<Seen[], Free> slots;
    Seen* find(std::uint64_t id, std::size_t mask) const;
  };
  void put(std::uint64_t id, std::uint64_t sequence);

  Options options_;
  std::uint64_t next_sequence_ = 1;
  std::int64_t watermark_ms_ = INT64_MIN;
  std::int64_t ticked_ms_ = INT64_MIN;
  std::optional<Tick> tick_;
  std::size_t mask_ = 0;  // slots of a generation - 1
  Generation current_;
  Generation previous_;
  std::uint64_t generation_began_ = 0;
};

}  // namespace alcedo::pipeline
