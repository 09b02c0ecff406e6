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
  double value = 0;           // the feature's number, a counter's as a rate; NaN: missing, or the feature reads none
  double step = 0;            // that number's least step: 1 for money, or the event's own; 0: none is known
};

/// A column of an operator, in its order.
struct OperatorColumn {
  std::string name;  // without the feature's: "distinct_5m"
  double step = 0;   // it moves in multiples of this (1 for counts); 0: none is known
};

/// One feature's work at its stage: reads its columns from the state before the event, then adds the event.
///
/// State    A fixed part of the entity's record, all zero at first, trivially copyable. Handles in it point into memory
/// that the
///          operator owns (RecordPool), so an operator belongs to one stage of one worker.
/// Repeats  Columns depend on the entity's own events in their order only: not on batches, workers, or handles.
/// Threads  One at a time.
/// Cost     update() is called for every event of every entity: no allocation but from pools.
class Operator {
 public:
  virtual ~Operator() = default;
  /// Starts the cache misses of update().
  virtual void prefetch(const std::byte* /*state*/, std::int64_t /*time_ms*/) const {}
  /// `out` is the operator's columns in the event's row, in the order of operator_columns().
  virtual void update(std::byte* state, const EventView& event, std::span<float> out) = 0;
  /// Memory outside of the record, taken from the system.
  virtual std::size_t reserved_bytes() const { return 0; }
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
