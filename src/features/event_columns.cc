// No stage has to be visited for these, so they are written where rows are scored.
#include "features/event_columns.h"

#include "core/check.h"
#include "core/time.h"

namespace alcedo::features {
namespace {

// 1970-01-01 was a Thursday.
constexpr std::int64_t kDaysFromMonday = 3;

}  // namespace

std::vector<std::string> event_column_names(const FeatureSpec& spec, const EventLayout& layout) {
  if (spec.kind == FeatureKind::kCalendar) return {"hour", "weekday"};
  std::vector<std::string> names;
  for (const int number : spec.numbers) names.push_back(layout.numbers[static_cast<std::size_t>(number)].name);
  return names;
}

EventColumns::EventColumns(const FeaturePlan& plan) {
  for (const FeatureSpec& spec : plan.options().features) {
    if (!is_of_event(spec.kind)) continue;
    const auto names = event_column_names(spec, plan.options().layout);
    const int first = plan.find_column(spec.name + "." + names.front());
    CHECK(first >= 0);
    if (spec.kind == FeatureKind::kCalendar) {
      calendars_.push_back(static_cast<std::uint32_t>(first));
      continue;
    }
    for (std::uint32_t i = 0; i < spec.numbers.size(); ++i) {
      numbers_.push_back({static_cast<std::uint32_t>(first) + i, static_cast<std::uint32_t>(spec.numbers[i])});
    }
  }
}

void EventColumns::write(const EventBatch& batch, std::uint32_t row, std::span<float> out) const {
  for (const Number& number : numbers_) out[number.column] = static_cast<float>(batch.number(row, number.slot));
  if (calendars_.empty()) return;
  const std::int64_t time_ms = batch.header(row).time_ms;
  std::int64_t day = time_ms / kDayMs;
  if (time_ms % kDayMs < 0) --day;
  std::int64_t weekday = (day + kDaysFromMonday) % 7;
  if (weekday < 0) weekday += 7;
  for (const std::uint32_t hour : calendars_) {
    out[hour] = static_cast<float>(static_cast<double>(time_ms - day * kDayMs) / static_cast<double>(kHourMs));
    out[hour + 1] = static_cast<float>(weekday);
  }
}

}  // namespace alcedo::features
