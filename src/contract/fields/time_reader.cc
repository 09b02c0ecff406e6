// Parses by hand: strptime reads the locale, and an event's time may not depend on the machine that reads it.
#include "contract/fields/time_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>

#include "core/time.h"

namespace alcedo::contract {
namespace {

constexpr std::int64_t kTimeMsMin = -62'135'596'800'000;  // 0001-01-01T00:00:00.000Z
constexpr std::int64_t kTimeMsMax = 253'402'300'799'999;  // 9999-12-31T23:59:59.999Z
constexpr std::string_view kDirectives = "YmdHMSfzbypIj";
constexpr std::array<std::string_view, 12> kMonths{"jan", "feb", "mar", "apr", "may", "jun",
                                                   "jul", "aug", "sep", "oct", "nov", "dec"};

std::optional<std::int64_t> checked(std::int64_t time_ms) {
  if (time_ms < kTimeMsMin || time_ms > kTimeMsMax) return std::nullopt;
  return time_ms;
}

// How many decimals of `unit` make a millisecond, negated: seconds 3, nanoseconds -6.
int power_of(TimeUnit unit) {
  switch (unit) {
    case TimeUnit::kSeconds:
      return 3;
    case TimeUnit::kMicroseconds:
      return -3;
    case TimeUnit::kNanoseconds:
      return -6;
    default:
      return 0;
  }
}

// Text of one time, read from the left.
struct Cursor {
  std::string_view left;

  bool take(char c) {
    if (left.empty() || left.front() != c) return false;
    left.remove_prefix(1);
    return true;
  }
  bool number(std::size_t digits_max, int& value) {
    std::size_t count = 0;
    value = 0;
    while (count < digits_max && count < left.size() && left[count] >= '0' && left[count] <= '9') {
      value = value * 10 + (left[count++] - '0');
    }
    left.remove_prefix(count);
    return count > 0;
  }
  // Milliseconds of a decimal fraction; digits beyond the third only have to be digits.
  bool fraction(int& ms) {
    int scale = 100;
    std::size_t count = 0;
    ms = 0;
    for (; count < left.size() && left[count] >= '0' && left[count] <= '9'; ++count, scale /= 10)
      ms += (left[count] - '0') * scale;
    left.remove_prefix(count);
    return count > 0;
  }
  bool month(int& value) {
    if (left.size() < 3) return false;
    for (std::size_t m = 0; m < kMonths.size(); ++m) {
      bool same = true;
      for (std::size_t i = 0; i < 3; ++i) same = same && (left[i] | 0x20) == kMonths[m][i];
      if (!same) continue;
      left.remove_prefix(3);
      value = static_cast<int>(m) + 1;
      return true;
    }
    return false;
  }
  bool half_day(bool& afternoon) {
    if (left.size() < 2 || (left[1] | 0x20) != 'm') return false;
    const char c = static_cast<char>(left[0] | 0x20);
    if (c != 'a' && c != 'p') return false;
    afternoon = c == 'p';
    left.remove_prefix(2);
    return true;
  }
  bool zone(std::int64_t& offset_ms) {
    if (take('Z') || take('z')) return true;
    if (left.empty() || (left.front() != '+' && left.front() != '-')) return false;
    const bool west = left.front() == '-';
    left.remove_prefix(1);
    int hours = 0, minutes = 0;
    if (!number(2, hours) || hours > 23) return false;
    if (take(':') || (!left.empty() && left.front() >= '0' && left.front() <= '9')) {
      if (!number(2, minutes) || minutes > 59) return false;
    }
    offset_ms = hours * kHourMs + minutes * kMinuteMs;
    if (west) offset_ms = -offset_ms;
    return true;
  }
};

}  // namespace

Result<TimeReader> TimeReader::create(const TimeSpec& spec, AvroLogical logical) {
  TimeReader reader;
  reader.spec_ = spec;
  reader.logical_ = logical;
  if (spec.unit == TimeUnit::kRow && spec.step_ms <= 0) {
    return error(ErrorCode::kInvalidArgument, "time: rows need a step greater than 0, such as 1m");
  }
  if (spec.unit != TimeUnit::kFormat) return reader;
  std::string seen;
  for (std::size_t i = 0; i < spec.format.size(); ++i) {
    const char c = spec.format[i];
    if (c != '%') {
      reader.format_.push_back({0, c == '\t' ? ' ' : c});
      continue;
    }
    const char letter = ++i < spec.format.size() ? spec.format[i] : '\0';
    if (letter == '%') {
      reader.format_.push_back({0, '%'});
      continue;
    }
    if (letter == '\0' || kDirectives.find(letter) == std::string_view::npos) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("time: the format '{}' has '%{}', which is not known; known are %Y %m %d %H %M %S %f %z %b %y %p "
                      "%I %j and %%",
                      spec.format, letter == '\0' ? std::string_view() : std::string_view(&letter, 1)));
    }
    reader.format_.push_back({letter, 0});
    seen.push_back(letter);
  }
  const auto has = [&](char c) { return seen.find(c) != std::string::npos; };
  if ((!has('Y') && !has('y')) || !(has('j') || (has('d') && (has('m') || has('b'))))) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "time: the format '{}' gives no full date; it needs a year (%Y or %y) and a day (%m or %b with %d, or %j)",
            spec.format));
  }
  if (has('I') != has('p')) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("time: the format '{}' needs %I and %p together", spec.format));
  }
  return reader;
}

std::optional<std::int64_t> TimeReader::read(const FieldValue& value) const {
  if (value.kind == ValueKind::kNumber) {
    return spec_.unit == TimeUnit::kFormat ? read_format(value.text) : read_number(value.number);
  }
  if (value.kind != ValueKind::kText && value.kind != ValueKind::kCell) return std::nullopt;
  if (spec_.unit == TimeUnit::kFormat) return read_format(value.text);
  if (spec_.unit == TimeUnit::kIso) {
    std::string_view text = value.text;
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    if (const auto time_ms = parse_iso_time_ms(text)) return checked(*time_ms);
  }
  NumberText number;
  return scan_csv_number(value.text, number) ? read_number(number) : std::nullopt;
}

std::optional<std::int64_t> TimeReader::read_number(const NumberText& number) const {
  int power = power_of(spec_.unit);
  std::int64_t start_ms = spec_.start_ms;
  if (spec_.unit == TimeUnit::kIso) {
    start_ms = 0;
    switch (logical_) {
      case AvroLogical::kTimestampMillis:
        power = 0;
        break;
      case AvroLogical::kTimestampMicros:
        power = -3;
        break;
      case AvroLogical::kDate: {
        const Scaled days = scale(number, 0);
        if (days.fault == ScaleFault::kOutOfRange || days.value > kTimeMsMax / kDayMs ||
            days.value < kTimeMsMin / kDayMs) {
          return std::nullopt;
        }
        return checked(days.value * kDayMs);
      }
      case AvroLogical::kNone: {
        const Scaled whole = scale(number, 0);
        if (whole.fault == ScaleFault::kOutOfRange) return std::nullopt;
        constexpr std::int64_t kSecondsBelow = 100'000'000'000;
        const auto below = [&](std::int64_t limit) { return whole.value > -limit && whole.value < limit; };
        power = below(kSecondsBelow) ? 3 : below(kSecondsBelow * 1000) ? 0 : below(kSecondsBelow * 1'000'000) ? -3 : -6;
        break;
      }
    }
  }
  const Scaled time_ms = scale(number, power);
  std::int64_t sum = 0;
  if (time_ms.fault == ScaleFault::kOutOfRange || __builtin_add_overflow(time_ms.value, start_ms, &sum))
    return std::nullopt;
  return checked(sum);
}

std::optional<std::int64_t> TimeReader::read_row(std::int64_t row) const {
  std::int64_t time_ms = 0;
  if (__builtin_mul_overflow(row, spec_.step_ms, &time_ms) ||
      __builtin_add_overflow(time_ms, spec_.start_ms, &time_ms)) {
    return std::nullopt;
  }
  return checked(time_ms);
}

std::optional<std::int64_t> TimeReader::read_format(std::string_view text) const {
  Cursor cursor{text};
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0, ms = 0, day_of_year = 0;
  bool afternoon = false, half_days = false;
  std::int64_t zone_ms = 0;
  while (cursor.take(' ')) {
  }
  for (const Directive directive : format_) {
    bool good = true;
    switch (directive.letter) {
      case 0:
        good = cursor.take(directive.literal) || (directive.literal == ' ' && cursor.take('\t'));
        while (directive.literal == ' ' && (cursor.take(' ') || cursor.take('\t'))) {
        }
        break;
      case 'Y':
        good = cursor.number(4, year);
        break;
      case 'y':
        good = cursor.number(2, year);
        year += year < 69 ? 2000 : 1900;  // as POSIX has it
        break;
      case 'm':
        good = cursor.number(2, month);
        break;
      case 'b':
        good = cursor.month(month);
        break;
      case 'd':
        good = cursor.number(2, day);
        break;
      case 'j':
        good = cursor.number(3, day_of_year) && day_of_year > 0;
        break;
      case 'H':
        good = cursor.number(2, hour) && hour < 24;
        break;
      case 'I':
        good = cursor.number(2, hour) && hour >= 1 && hour <= 12;
        half_days = true;
        break;
      case 'p':
        good = cursor.half_day(afternoon);
        break;
      case 'M':
        good = cursor.number(2, minute) && minute < 60;
        break;
      case 'S':
        good = cursor.number(2, second) && second <= 60;
        break;
      case 'f':
        good = cursor.fraction(ms);
        break;
      default:
        good = cursor.zone(zone_ms);
        break;
    }
    if (!good) return std::nullopt;
  }
  while (cursor.take(' ')) {
  }
  if (!cursor.left.empty() || month < 1 || month > 12 || day < 1) return std::nullopt;
  if (half_days) hour = hour % 12 + (afternoon ? 12 : 0);
  using namespace std::chrono;
  std::int64_t days = 0;
  if (day_of_year > 0) {
    if (day_of_year > (std::chrono::year{year}.is_leap() ? 366 : 365)) return std::nullopt;
    days = sys_days{std::chrono::year{year} / January / 1}.time_since_epoch().count() + day_of_year - 1;
  } else {
    const year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                              std::chrono::day{static_cast<unsigned>(day)}};
    if (!date.ok()) return std::nullopt;
    days = sys_days{date}.time_since_epoch().count();
  }
  return checked(days * kDayMs + hour * kHourMs + minute * kMinuteMs + second * kSecondMs + ms - zone_ms);
}

std::string TimeReader::expected() const {
  switch (spec_.unit) {
    case TimeUnit::kIso:
      return logical_ == AvroLogical::kTimestampMillis   ? "Unix milliseconds or an ISO 8601 time"
             : logical_ == AvroLogical::kTimestampMicros ? "Unix microseconds or an ISO 8601 time"
             : logical_ == AvroLogical::kDate            ? "days since 1970-01-01 or an ISO 8601 date"
                                              : "an ISO 8601 time or Unix time, between the years 1 and 9999";
    case TimeUnit::kSeconds:
      return "seconds, between the years 1 and 9999";
    case TimeUnit::kMilliseconds:
      return "milliseconds, between the years 1 and 9999";
    case TimeUnit::kMicroseconds:
      return "microseconds, between the years 1 and 9999";
    case TimeUnit::kNanoseconds:
      return "nanoseconds, between the years 1 and 9999";
    case TimeUnit::kFormat:
      return fmt::format("a time written as {}", spec_.format);
    case TimeUnit::kRow:
      break;
  }
  return "a row number whose time lies between the years 1 and 9999";
}

}  // namespace alcedo::contract
