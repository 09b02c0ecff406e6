// Gives every accepted event its position in the one order of inputs, and turns event time into ticks.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/event.h"
#include "core/result.h"
#include "core/state_stream.h"

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

  /// A label takes its place; time does not pass.
  std::uint64_t admit_label() { return next_sequence_++; }
  /// Whether admit() would refuse the event because of its time.
  bool is_ahead(const EventHeader& event) const {
    return options_.ahead_ms && event.time_ms > event.arrival_ms &&
           event.time_ms - event.arrival_ms > *options_.ahead_ms;
  }
  /// Time of the last tick; INT64_MIN: there was none.
  std::int64_t ticked_ms() const { return ticked_ms_; }

  std::uint64_t next_sequence() const { return next_sequence_; }
  void set_next_sequence(std::uint64_t sequence) { next_sequence_ = sequence; }
  std::int64_t watermark_ms() const { return watermark_ms_; }

  /// Watermark and next sequence; the tick of the last input must have been taken. Ids are saved apart, since they are
  /// many and little of them is new. Cost: 17 bytes.
  void save(StateWriter& writer) const;
  /// Replaces them; forgets all ids, so that load_ids() comes next. After a refusal nothing has changed.
  void load(StateReader& reader);

  /// An admitted id.
  struct Seen {
    std::uint64_t id = 0;
    std::uint64_t sequence = 0;
  };
  /// Whether admitted ids are recorded for take_recent_ids(), from now on. Memory: 16 bytes an id of the horizon,
  /// touched as they come.
  void keep_recent_ids(bool keep);
  /// Ids admitted since the last call, in order; without those that the horizon has left behind in the meantime.
  std::vector<Seen> take_recent_ids();
  /// What earlier calls of take_recent_ids() gave, one after the other: from then on duplicates are told as by the
  /// object that gave them. Those before the horizon may be left out. Call once, after load().
  /// Errors: kCorrupt if sequences are not ascending, or not before next_sequence(); then no id is known.
  Result<> load_ids(std::span<const Seen> ids);

 private:
  bool is_duplicate(std::uint64_t id_hash, std::uint64_t sequence);
  void raise(std::int64_t watermark_ms);

  // Two generations of a set: an id stays findable for at least the horizon, memory stays bounded without deletion.
  // Each is taken whole as zero pages, so no event ever pays for growth.
  struct Free {
    void operator()(Seen* slots) const { std::free(slots); }
  };
  struct Generation {
    std::unique_ptr<Seen[], Free> slots;
    Seen* find(std::uint64_t id, std::size_t mask) const;
  };
  static std::unique_ptr<Seen[], Free> zeroed(std::size_t slots);
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
  std::unique_ptr<Seen[], Free> recent_;  // a ring of `duplicates` slots; null: not recorded
  std::uint64_t recorded_ = 0;            // since take_recent_ids()
};

}  // namespace alcedo::pipeline
