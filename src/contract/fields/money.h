// Amounts -> whole minor units: 12.50 EUR is 1250, and no cent is ever lost to a binary fraction.
#pragma once

#include <cstdint>
#include <string_view>

#include "contract/decoder.h"
#include "contract/fields/number_text.h"

namespace alcedo::contract {

/// Decimals of a currency: JPY 0, EUR 2, KWD 3; 2 for a code not in the table; -1 if it is not three capital letters.
/// Source   ISO 4217, list one, 2024.
int minor_unit_digits(std::string_view currency);

/// `units` becomes the amount in minor units, exact. kBadMoney: not a currency code, or more decimals than it has
/// (zeros are fine); kOutOfRange: 2^53 or more, where a double would no longer count every unit.
Reject read_money(const NumberText& amount, std::string_view currency, double& units);

}  // namespace alcedo::contract
