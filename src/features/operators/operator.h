// A kind of feature beyond windows and baselines: its columns, its part of an entity's record, and what an event does
// to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/state_stream.h"
#include "features/plan.h"

namespace alcedo::features {

/// One event as the operators of its entity's stage see it. Times are those before the event is added.
struct EventView {
  const EventBatch& batch;
  std::uint32_t row = 0;
  std::int64_t time_ms = 0;   // of the event
  std::int64_t clock_ms = 0;  // the entity's before this event; time_ms at its first
  bool first = false;         // the entity's first event
  bool in_order = false;      // at or after the clock; only such events teach what depends on order
  std::size_t prepared = 0;   // its index in the rows of the last prepare()
  double value = 0;           // the feature's number, a counter's as a rate; NaN: missing, or the feature reads none
  double step = 0;            // that number's least step: 1 for money, or the event's own; 0: none is known
  // Of GlobalBaselines, for features that read it: how many values all entities had, and what is usual for all of them
  // (NaN: not known yet), with the number of values behind it; for kConfirmed everyone's share of confirmed events.
  double total = 0;
  double usual = kMissing;
  double usual_spread = kMissing;
  double usual_of = 0;
};

/// What became known of an earlier event of the entity.
struct LabelView {
  std::int64_t event_ms = 0;
  std::int64_t known_ms = 0;
  std::int64_t clock_ms = 0;  // the entity's, which a label does not move
  Truth truth = 0;
};

/// A column of an operator, in its order.
struct OperatorColumn {
  std::string name;  // without the feature's: "distinct_5m"
  double step = 0;   // it moves in multiples of this (1 for counts); 0: none is known
};

/// One feature's work at its stage: reads its columns from the state before the event, then adds the event.
///
/// State    A fixed part of the entity's record, all zero at first, trivially copyable. Handles in it point into memory
///          that the operator owns (RecordPool), so an operator belongs to one stage of one worker.
/// Repeats  Columns depend on the entity's own events in their order only: not on batches, workers, or handles.
/// Portable  save() and load() move an entity's state between workers, processes and releases. An operator whose state
///          holds handles, or places that update() indexes by, defines all of save(), load() and release(); for the
///          others the defaults copy the fixed part.
/// Threads  One at a time.
/// Cost     update() is called for every event of every entity: no allocation but from pools.
class Operator {
 public:
  virtual ~Operator() = default;
  /// Starts the cache misses of update() for this row. The state may be a few events old by then.
  virtual void prefetch(const std::byte* /*state*/, const EventBatch& /*batch*/, std::uint32_t /*row*/) const {}
  /// What update() of these rows needs of their events alone: calculated for many at once, nothing waits for anything.
  /// Their update()s follow before the next prepare().
  virtual void prepare(const EventBatch& /*batch*/, std::span<const std::uint32_t> /*rows*/) {}
  /// `out` is the operator's columns in the event's row, in the order of operator_columns().
  virtual void update(std::byte* state, const EventView& event, std::span<float> out) = 0;
  /// A label between two events of the entity. Only kConfirmed learns from it.
  virtual void learn_label(std::byte* /*state*/, const LabelView& /*label*/) {}
  /// The version of what save() writes. A change of the bytes, or of what they mean, is a new version: state saved by
  /// another one starts anew, and the user is told so by the feature's name.
  virtual std::uint32_t state_version() const { return 1; }
  /// Writes the state by its meaning: little-endian, no handles, no spare bytes, nothing that depends on where or in
  /// what order memory was taken. Equal state (all later columns are equal) gives equal bytes; all zero gives none.
  /// `clock_ms` is the entity's: what is kept relative to it is written as its age, and what has left every window by
  /// then is not written. The default writes the fixed part as it is, or nothing if it is all zero: right only without
  /// padding and handles.
  virtual void save(const std::byte* state, std::int64_t clock_ms, StateWriter& writer) const;
  /// Reads what save() wrote at the same clock, to the last byte, into a state that is all zero. The bytes may be
  /// anything: whatever update() relies on (a size, an index, an order, a finite time: StateReader::time_ms()) is
  /// checked here, and refused by reader.refuse("has 40 values; at most 32 fit"). What was allocated by then must be
  /// such that release(state) frees it. Floats may be NaN or infinite. At most 100 bytes may be allocated for each byte
  /// read.
  virtual void load(std::byte* state, std::int64_t clock_ms, StateReader& reader);
  /// Gives back the memory outside of the record that the state's handles own; the record is then forgotten.
  virtual void release(std::byte* state);
  /// Memory outside of the record, taken from the system.
  virtual std::size_t reserved_bytes() const { return 0; }

 private:
  friend std::unique_ptr<Operator> make_operator(const FeatureSpec& spec);
  std::size_t state_bytes_ = 0;  // of the fixed part
};

/// Whether a feature of this kind is worked by an operator.
bool has_operator(FeatureKind kind);
/// "" if the feature is sound, else what is wrong and what was expected.
std::string operator_mistake(const FeatureSpec& spec, const EventLayout& layout);
std::vector<OperatorColumn> operator_columns(const FeatureSpec& spec);
/// Bytes in the entity's record, a multiple of 8.
std::size_t operator_state_bytes(const FeatureSpec& spec);
std::unique_ptr<Operator> make_operator(const FeatureSpec& spec);

/// "" if `slot` is one of `slots`, else a message for operator_mistake(). `what` is "number" or "key".
std::string slot_mistake(std::string_view what, int slot, std::size_t slots);

}  // namespace alcedo::features
