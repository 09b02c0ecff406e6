// The exceptions to "two decimals" are few; a linear search over them is made only for codes that need one.
#include "contract/fields/money.h"

#include <algorithm>

namespace alcedo::contract {
namespace {

constexpr std::string_view kNoDecimals[] = {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG",
                                            "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"};
constexpr std::string_view kThreeDecimals[] = {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"};
constexpr std::string_view kFourDecimals[] = {"CLF", "UYW"};
constexpr std::int64_t kUnitsMax = (1LL << 53) - 1;

}  // namespace

int minor_unit_digits(std::string_view currency) {
  if (currency.size() != 3 || !std::ranges::all_of(currency, [](char c) { return c >= 'A' && c <= 'Z'; })) return -1;
  if (currency == "EUR" || currency == "USD") return 2;
  if (std::ranges::find(kNoDecimals, currency) != std::end(kNoDecimals)) return 0;
  if (std::ranges::find(kThreeDecimals, currency) != std::end(kThreeDecimals)) return 3;
  if (std::ranges::find(kFourDecimals, currency) != std::end(kFourDecimals)) return 4;
  return 2;
}

Reject read_money(const NumberText& amount, std::string_view currency, double& units) {
  const int digits = minor_unit_digits(currency);
  if (digits < 0) return Reject::kBadMoney;
  const Scaled scaled = scale(amount, digits);
  if (scaled.fault == ScaleFault::kOutOfRange || scaled.value > kUnitsMax || scaled.value < -kUnitsMax) {
    return Reject::kOutOfRange;
  }
  if (scaled.fault == ScaleFault::kInexact) return Reject::kBadMoney;
  units = static_cast<double>(scaled.value);
  return Reject::kNone;
}

}  // namespace alcedo::contract
