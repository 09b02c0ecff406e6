// Decimal numbers kept exact until somebody knows what they are: money, time and keys must not pass through a double.
#pragma once

#include <cstdint>
#include <string_view>

namespace alcedo::contract {

/// A decimal as written: (-1)^negative * digits * 10^exponent.
struct NumberText {
  std::uint64_t digits = 0;  // the first 19 significant digits
  std::int32_t exponent = 0;
  bool negative = false;
  bool truncated = false;   // digits other than 0 were left out
  bool whole_form = false;  // written without point and exponent
};

/// A JSON number and nothing else (RFC 8259). False: `text` is none, and `number` is unspecified.
bool scan_json_number(std::string_view text, NumberText& number);

/// A number as CSV writers leave it: also "+5", "007", ".5", "5." and spaces around.
bool scan_csv_number(std::string_view text, NumberText& number);

/// "nan", "inf", "-Infinity" and their like: what programs write for a number that is none.
bool is_not_finite_text(std::string_view text);

/// The nearest double; `text` is what `number` was scanned from. Infinite if it is too large.
double to_double(const NumberText& number, std::string_view text);

enum class ScaleFault : std::uint8_t { kNone, kInexact, kOutOfRange };
struct Scaled {
  std::int64_t value = 0;  // rounded toward minus infinity
  ScaleFault fault = ScaleFault::kNone;
};
/// number * 10^power as a whole number.
Scaled scale(const NumberText& number, int power);

}  // namespace alcedo::contract
