// Times and durations: how people write them and how the engine counts them (milliseconds since the Unix epoch).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace alcedo {

inline constexpr std::int64_t kSecondMs = 1000;
inline constexpr std::int64_t kMinuteMs = 60 * kSecondMs;
inline constexpr std::int64_t kHourMs = 60 * kMinuteMs;
inline constexpr std::int64_t kDayMs = 24 * kHourMs;

/// "250ms", "30s", "5m", "1h", "14d"; one unit, whole or decimal. Errors: kInvalidArgument, naming what was expected.
Result<std::int64_t> parse_duration_ms(std::string_view text);

/// The shortest exact form: 60000 -> "1m", 90000 -> "90s".
std::string format_duration(std::int64_t duration_ms);

/// ISO 8601 date and time: 'T' or a space between, fraction of any length, 'Z', an offset, or none (then UTC). nullopt
/// if it is not one. No allocation, no locale.
std::optional<std::int64_t> parse_iso_time_ms(std::string_view text);

/// "2026-11-23T17:37:00.000Z"
std::string format_iso_time(std::int64_t time_ms);

/// Unix milliseconds now. Only hosts and sources ask for it: the engine has no clock.
std::int64_t wall_clock_ms();

/// Steady nanoseconds, for latencies.
std::int64_t steady_ns();

}  // namespace alcedo
