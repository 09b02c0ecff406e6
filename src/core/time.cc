// Parsing by hand: the C library's functions read the locale and the time zone, and neither may influence a verdict.
#include "core/time.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <utility>

namespace alcedo {
namespace {

constexpr std::array<std::pair<std::string_view, std::int64_t>, 6> kUnits{
    {{"ms", 1}, {"s", kSecondMs}, {"m", kMinuteMs}, {"h", kHourMs}, {"d", kDayMs}, {"w", 7 * kDayMs}}};

// Days since 1970-01-01 of a proleptic Gregorian date. Source: H. Hinnant, "chrono-Compatible Low-Level Date
// Algorithms".
constexpr std::int64_t days_from_civil(std::int64_t y, unsigned m, unsigned d) {
  y -= m <= 2;
  const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
  const auto yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + static_cast<std::int64_t>(doe) - 719468;
}

bool digits(std::string_view text, std::size_t at, std::size_t count, unsigned& value) {
  if (at + count > text.size()) return false;
  value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + static_cast<unsigned>(text[i] - '0');
  }
  return true;
}

}  // namespace

Result<std::int64_t> parse_duration_ms(std::string_view text) {
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc()) {
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    for (const auto& [name, ms] : kUnits) {
      const double total = value * static_cast<double>(ms);
      if (unit == name && total >= 0 && total < 9e15) return static_cast<std::int64_t>(std::llround(total));
    }
  }
  return error(
      ErrorCode::kInvalidArgument,
      fmt::format("'{}' is not a duration; expected a number and a unit (ms, s, m, h, d, w), such as 30s", text));
}

std::string format_duration(std::int64_t duration_ms) {
  if (duration_ms == 0) return "0s";
  for (std::size_t i = kUnits.size() - 1; i-- > 0;) {
    if (duration_ms % kUnits[i].second == 0)
      return fmt::format("{}{}", duration_ms / kUnits[i].second, kUnits[i].first);
  }
  return fmt::format("{}ms", duration_ms);
}

std::optional<std::int64_t> parse_iso_time_ms(std::string_view text) {
  unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!digits(text, 0, 4, year) || text.size() < 10 || text[4] != '-' || !digits(text, 5, 2, month) || text[7] != '-' ||
      !digits(text, 8, 2, day)) {
    return std::nullopt;
  }
  constexpr std::array<unsigned, 12> kDays{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  if (month < 1 || month > 12 || day < 1 || day > kDays[month - 1] + (leap && month == 2 ? 1 : 0)) return std::nullopt;
  std::int64_t ms = days_from_civil(year, month, day) * kDayMs;
  if (text.size() == 10) return ms;
  if ((text[10] != 'T' && text[10] != ' ' && text[10] != 't') || !digits(text, 11, 2, hour) || text.size() < 16 ||
      text[13] != ':' || !digits(text, 14, 2, minute) || hour > 24 || minute > 59) {
    return std::nullopt;
  }
  std::size_t at = 16;
  if (at < text.size() && text[at] == ':') {
    if (!digits(text, 17, 2, second) || second > 60) return std::nullopt;
    at = 19;
    if (at < text.size() && (text[at] == '.' || text[at] == ',')) {
      std::int64_t scale = 100;
      std::size_t count = 0;
      for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, ++count) {
        ms += (text[at] - '0') * scale;
        scale /= 10;
      }
      if (count == 0) return std::nullopt;
    }
  }
  ms += hour * kHourMs + minute * kMinuteMs + second * kSecondMs;
  if (at == text.size()) return ms;
  if ((text[at] == 'Z' || text[at] == 'z') && at + 1 == text.size()) return ms;
  if (text[at] == '+' || text[at] == '-') {
    unsigned oh = 0, om = 0;
    const std::size_t rest = text.size() - at;
    const bool good = rest == 6   ? text[at + 3] == ':' && digits(text, at + 1, 2, oh) && digits(text, at + 4, 2, om)
                      : rest == 5 ? digits(text, at + 1, 2, oh) && digits(text, at + 3, 2, om)
                      : rest == 3 ? digits(text, at + 1, 2, oh)
                                  : false;
    if (!good || oh > 23 || om > 59) return std::nullopt;
    const std::int64_t offset = oh * kHourMs + om * kMinuteMs;
    return text[at] == '+' ? ms - offset : ms + offset;
  }
  return std::nullopt;
}

std::string format_iso_time(std::int64_t time_ms) {
  using namespace std::chrono;
  const sys_time<milliseconds> t{milliseconds{time_ms}};
  const auto day = floor<days>(t);
  const year_month_day ymd{day};
  const auto ms = (t - day).count();
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(ymd.year()),
                     static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()), ms / kHourMs,
                     ms / kMinuteMs % 60, ms / kSecondMs % 60, ms % 1000);
}

std::int64_t wall_clock_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace alcedo
