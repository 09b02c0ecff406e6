// Turns an ever-growing counter into a rate, resets understood.
#pragma once

#include <cstdint>

#include "core/event.h"

namespace alcedo::features {

/// An entity's last reading of a counter. All zero: none yet.
struct CounterReading {
  double value;
  std::int64_t time_ms;
  std::uint64_t known;
};

/// The rate a second since the last reading, which `value` becomes. A smaller value means that the counter restarted
/// from 0 in between. Missing for the first reading, for a second one at the same time, and for one older than the last
/// (which stays).
inline double counter_rate(CounterReading& last, double value, std::int64_t time_ms) {
  if (value != value || (last.known != 0 && time_ms < last.time_ms)) return kMissing;
  double rate = kMissing;
  if (last.known != 0 && time_ms > last.time_ms) {
    const double grown = value < last.value ? value : value - last.value;
    rate = grown * 1000.0 / static_cast<double>(time_ms - last.time_ms);
  }
  last = {value, time_ms, 1};
  return rate;
}

}  // namespace alcedo::features
