// How often something happened, where old times count less: a number that halves every half-life of event time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "features/deviation.h"

namespace alcedo::features {

/// All zero: it never happened. Trivially copyable.
struct FadedCount {
  double weight;  // at clock_ms
  std::int64_t clock_ms;

  /// What is left of it at a time; at an earlier one than its clock's what there is now. Below kForgottenWeight (20
  /// half-lives after a single time) it is 0.
  double at(std::int64_t time_ms, double half_life_ms) const {
    if (time_ms <= clock_ms) return weight;
    const double left = weight * std::exp2(-static_cast<double>(time_ms - clock_ms) / half_life_ms);
    return left < kForgottenWeight ? 0 : left;
  }
  /// Once more, at a time that may be before the clock's: it then counts as what would be left of it.
  void add(std::int64_t time_ms, double half_life_ms) {
    if (weight == 0) clock_ms = time_ms;
    weight = at(time_ms, half_life_ms) +
             (time_ms < clock_ms ? std::exp2(-static_cast<double>(clock_ms - time_ms) / half_life_ms) : 1.0);
    clock_ms = std::max(clock_ms, time_ms);
  }
};

}  // namespace alcedo::features
