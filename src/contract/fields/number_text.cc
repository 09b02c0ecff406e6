// One pass checks the grammar and gathers the digits; most numbers then become a double by one exact multiplication or
// division.
#include "contract/fields/number_text.h"

#include <array>
#include <charconv>
#include <limits>

namespace alcedo::contract {
namespace {

constexpr int kDigitsMax = 19;                                    // 10^19 - 1 fits in 64 bits
constexpr std::uint64_t kDigitsFull = 1'000'000'000'000'000'000;  // 19 digits: one more might not fit
constexpr std::int32_t kExponentMax = 100'000;  // beyond any double by far; keeps sums of exponents from overflowing
constexpr std::array<double, 23> kTens{1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

constexpr std::array<std::uint64_t, 20> kWholeTens = [] {
  std::array<std::uint64_t, 20> tens{};
  tens[0] = 1;
  for (std::size_t i = 1; i < tens.size(); ++i) tens[i] = tens[i - 1] * 10;
  return tens;
}();

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// Digits of one number, kept in registers while they are read.
struct Digits {
  std::uint64_t value = 0;
  std::int32_t exponent = 0;
  bool truncated = false;

  const char* read(const char* at, const char* end, bool fraction) {
    for (; at < end && is_digit(*at); ++at) {
      const auto digit = static_cast<unsigned>(*at - '0');
      if (value < kDigitsFull) {
        value = value * 10 + digit;
        if (fraction && exponent > -kExponentMax) --exponent;
        continue;
      }
      truncated = truncated || digit != 0;
      if (!fraction && exponent < kExponentMax) ++exponent;
    }
    return at;
  }
};

bool scan(std::string_view text, bool json, NumberText& number) {
  const char* at = text.data();
  const char* const end = at + text.size();
  number.negative = at < end && *at == '-';
  if (number.negative || (!json && at < end && *at == '+')) ++at;
  Digits digits;
  const char* const first = at;
  at = digits.read(at, end, false);
  auto count = at - first;
  if (json && (count == 0 || (*first == '0' && count > 1))) return false;
  number.whole_form = true;
  if (at < end && *at == '.') {
    number.whole_form = false;
    const char* const point = ++at;
    at = digits.read(at, end, true);
    if (json && at == point) return false;
    count += at - point;
  }
  if (count == 0) return false;
  if (at < end && (*at == 'e' || *at == 'E')) {
    number.whole_form = false;
    ++at;
    const bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) ++at;
    if (at == end || !is_digit(*at)) return false;
    std::int32_t exponent = 0;
    for (; at < end && is_digit(*at); ++at) {
      if (exponent < kExponentMax) exponent = exponent * 10 + (*at - '0');
    }
    digits.exponent += negative ? -exponent : exponent;
  }
  number.digits = digits.value;
  number.exponent = digits.exponent;
  number.truncated = digits.truncated;
  return at == end;
}

}  // namespace

bool scan_json_number(std::string_view text, NumberText& number) { return scan(text, true, number); }

bool scan_csv_number(std::string_view text, NumberText& number) { return scan(trim(text), false, number); }

bool is_not_finite_text(std::string_view text) {
  text = trim(text);
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  for (const std::string_view name : {"nan", "inf", "infinity"}) {
    if (text.size() != name.size()) continue;
    bool same = true;
    for (std::size_t i = 0; i < name.size(); ++i) same = same && (text[i] | 0x20) == name[i];
    if (same) return true;
  }
  return false;
}

double to_double(const NumberText& number, std::string_view text) {
  constexpr std::uint64_t kExactMax = 1ULL << 53U;
  if (number.digits <= kExactMax && !number.truncated && number.exponent >= -22 && number.exponent <= 22) {
    // Both operands are exact, so one correctly rounded operation gives the nearest double. Source: W. D. Clinger, PLDI
    // 1990.
    const auto digits = static_cast<double>(number.digits);
    const double value = number.exponent < 0 ? digits / kTens[static_cast<std::size_t>(-number.exponent)]
                                             : digits * kTens[static_cast<std::size_t>(number.exponent)];
    return number.negative ? -value : value;
  }
  text = trim(text);
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  double value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc::result_out_of_range) return value;
  const double magnitude = number.exponent > 0 ? std::numeric_limits<double>::infinity() : 0.0;
  return number.negative ? -magnitude : magnitude;
}

Scaled scale(const NumberText& number, int power) {
  __extension__ using Wide = __int128;
  if (number.digits == 0) return {};
  const std::int32_t exponent = number.exponent + power;
  if (exponent > kDigitsMax) return {0, ScaleFault::kOutOfRange};
  Wide value = number.digits;
  bool exact = !number.truncated;
  if (exponent >= 0) {
    value *= kWholeTens[static_cast<std::size_t>(exponent)];
  } else if (exponent < -kDigitsMax) {
    value = 0;
    exact = false;
  } else {
    const Wide divisor = kWholeTens[static_cast<std::size_t>(-exponent)];
    exact = exact && value % divisor == 0;
    value /= divisor;
  }
  if (number.negative) value = exact ? -value : -value - 1;
  constexpr Wide kMin = std::numeric_limits<std::int64_t>::min();
  constexpr Wide kMax = std::numeric_limits<std::int64_t>::max();
  if (value < kMin || value > kMax) return {0, ScaleFault::kOutOfRange};
  return {static_cast<std::int64_t>(value), exact ? ScaleFault::kNone : ScaleFault::kInexact};
}

}  // namespace alcedo::contract
