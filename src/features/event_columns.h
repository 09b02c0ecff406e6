// What an event says by itself, without any history: its own numbers and its place in the week, for models to see.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/event.h"
#include "features/plan.h"

namespace alcedo::features {

/// Whether features of this kind are of the event alone: no entity, no state, no stage.
constexpr bool is_of_event(FeatureKind kind) { return kind == FeatureKind::kValue || kind == FeatureKind::kCalendar; }

/// Names of such a feature's columns, without the feature's: its numbers' names, or "hour" and "weekday".
std::vector<std::string> event_column_names(const FeatureSpec& spec, const EventLayout& layout);

/// Fills the columns of all features that are of the event alone.
///
///   value     the number as the event has it; money in whole minor units; NaN: missing
///   calendar  hour: of the day in UTC, [0, 24); weekday: whole days since Monday, 0 to 6
///
/// Threads  const, any. Cost: a few ns a column.
class EventColumns {
 public:
  explicit EventColumns(const FeaturePlan& plan);

  bool empty() const { return numbers_.empty() && calendars_.empty(); }
  void write(const EventBatch& batch, std::uint32_t row, std::span<float> out) const;

 private:
  struct Number {
    std::uint32_t column = 0;
    std::uint32_t slot = 0;
  };
  std::vector<Number> numbers_;
  std::vector<std::uint32_t> calendars_;  // the hour's column; the weekday's follows
};

}  // namespace alcedo::features
