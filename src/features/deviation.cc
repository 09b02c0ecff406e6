// The recursions behind deviations. Each is the plain formula, in a fixed order of operations, so that a naive
// recompute agrees.
#include "features/deviation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/event.h"

namespace alcedo::features {
namespace {

double clamp_score(double z) { return std::clamp(z, -kScoreMax, kScoreMax); }

}  // namespace

double floor_squared(double level, double step) {
  const double share = kRelativeFloor * level;
  // The last term only keeps the division finite where level and step are 0.
  return share * share + step * step * (1.0 / 12.0) + 1e-24;
}

void decay_ewma(EwmaState& state, double factor, RecordPool& pending) {
  state.weight *= factor;
  state.squares *= factor;
  if (state.weight >= kForgottenWeight) return;
  if (state.pending != 0) pending.release(state.pending - 1);
  state = EwmaState{};
}

DeviationReading read_ewma(const EwmaState& state, double x, double step, std::uint32_t min_history) {
  if (!(state.weight > 0)) return {kMissing, kMissing, kMissing};
  const double variance = state.squares / state.weight;
  const double spread = std::sqrt(variance * (1 + 1 / state.weight) + floor_squared(state.mean, step));
  const double z = state.history < min_history ? kMissing : clamp_score((x - state.mean) / spread);
  return {state.mean, spread, std::isnan(x) ? kMissing : z};
}

DeviationReading read_level(double location, double spread, double x, double step) {
  const double floored = std::sqrt(spread * spread + floor_squared(location, step));
  return {location, floored, std::isnan(x) ? kMissing : clamp_score((x - location) / floored)};
}

void learn_ewma(EwmaState& state, double x, double z, std::int64_t time_ms, const EwmaRules& rules,
                RecordPool& pending) {
  const bool deviates = std::fabs(z) > kDeviates;  // NaN, below min_history, does not
  if (deviates) {
    if (state.pending == 0) {
      state.pending = pending.allocate() + 1;
      const PendingLevel begins{0, 0, time_ms, 0, 0};
      std::memcpy(pending.at(state.pending - 1), &begins, sizeof begins);
    }
    auto& level = *reinterpret_cast<PendingLevel*>(pending.at(state.pending - 1));
    ++level.count;
    const double distance = x - level.mean;
    level.mean += distance / level.count;
    level.squares += distance * (x - level.mean);
    if (level.count > 1 && time_ms - level.since_ms >= rules.accept_ms) {
      // The old spread counts as one value, because two or three values of the new level say little about its own.
      state.squares = level.squares + state.squares / state.weight;
      state.weight = level.count;
      state.mean = level.mean;
      state.history = std::max(rules.min_history, level.count);
      pending.release(state.pending - 1);
      state.pending = 0;
      return;
    }
  } else if (state.pending != 0) {
    pending.release(state.pending - 1);
    state.pending = 0;
  }
  const double w = deviates ? kSlowWeight : 1;
  const double before = state.weight;
  state.weight += w;
  const double distance = x - state.mean;
  const double share = w / state.weight;
  state.mean += distance * share;
  // Not distance * (x - mean): after a long silence the new mean is the new value, and that difference is mere
  // rounding.
  state.squares += distance * distance * (before * share);
  if (state.history != 0xFFFFFFFF) ++state.history;
}

void save_ewma(const EwmaState& state, const RecordPool& pending, StateWriter& writer) {
  writer.f64(state.weight);
  writer.f64(state.mean);
  writer.f64(state.squares);
  writer.u32(state.history);
  if (state.pending == 0) return;
  PendingLevel level;
  std::memcpy(&level, pending.at(state.pending - 1), sizeof level);
  writer.f64(level.mean);
  writer.f64(level.squares);
  writer.i64(level.since_ms);
  writer.u32(level.count);
}

void load_ewma(EwmaState& state, RecordPool& pending, StateReader& reader) {
  state.weight = reader.f64();
  state.mean = reader.f64();
  state.squares = reader.f64();
  state.history = reader.u32();
  if (reader.left() == 0) return;
  PendingLevel level{};
  level.mean = reader.f64();
  level.squares = reader.f64();
  level.since_ms = reader.time_ms();
  level.count = reader.u32();
  if (!reader.ok()) return;
  state.pending = pending.allocate() + 1;
  std::memcpy(pending.at(state.pending - 1), &level, sizeof level);
}

void clear_ewma(EwmaState& state, RecordPool& pending) {
  if (state.pending != 0) pending.release(state.pending - 1);
  state = EwmaState{};
}

DeviationReading read_quartiles(double q1, double median, double q3, double x, double step) {
  const double iqr = q3 - q1;
  const double spread = std::sqrt(iqr * iqr + floor_squared(median, step));
  double z = 0;
  if (x > q3) z = (x - q3) / spread;
  if (x < q1) z = (x - q1) / spread;
  return {median, spread, std::isnan(x) ? kMissing : clamp_score(z)};
}

DeviationReading QuartileStore::read(const QuartileState& state, double x, double step,
                                     std::uint32_t min_history) const {
  if (state.size == 0) return {kMissing, kMissing, kMissing};
  const auto* sorted = reinterpret_cast<const double*>(at(state.slab));
  const auto quantile = [&](double p) {
    const double place = p * (state.size - 1);
    const auto below = static_cast<std::uint32_t>(place);
    const std::uint32_t above = std::min<std::uint32_t>(below + 1, state.size - 1U);
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  };
  DeviationReading reading = read_quartiles(quantile(0.25), quantile(0.5), quantile(0.75), x, step);
  if (state.history < min_history) reading.z = kMissing;
  return reading;
}

QuartileStore::MedianReading QuartileStore::median_and_mad(const QuartileState& state) const {
  if (state.size == 0) return {kMissing, kMissing};
  const auto* sorted = reinterpret_cast<const double*>(at(state.slab));
  const int size = state.size;
  const int middle = size / 2;
  const bool even = size % 2 == 0;
  const double median = even ? 0.5 * (sorted[middle - 1] + sorted[middle]) : sorted[middle];
  // From the middle outwards the distances ascend on either side: they are merged up to their own middle.
  int below = middle - 1;
  int above = middle;
  double nearer = 0;
  double distance = 0;
  for (int taken = 0; taken <= middle; ++taken) {
    nearer = distance;
    const double down = below >= 0 ? median - sorted[below] : std::numeric_limits<double>::infinity();
    const double up = above < size ? sorted[above] - median : std::numeric_limits<double>::infinity();
    distance = std::min(down, up);
    if (down < up) {
      --below;
    } else {
      ++above;
    }
  }
  return {median, even ? 0.5 * (nearer + distance) : distance};
}

void QuartileStore::grow(QuartileState& state) {
  const std::uint32_t old = state.slab;
  const std::uint32_t next_class = (old >> kClassShift) + 1;
  state.slab = next_class << kClassShift | pools_[next_class - 1].allocate();
  if (old == 0) return;
  const std::byte* from = at(old);
  std::byte* to = at(state.slab);
  std::memcpy(to, from, state.size * sizeof(double));
  std::memcpy(to + capacity(state.slab) * sizeof(double), from + capacity(old) * sizeof(double), state.size);
  pools_[(old >> kClassShift) - 1].release(old & kPlaceMask);
}

void QuartileStore::learn(QuartileState& state, double x) {
  if (state.history != 0xFFFFFFFF) ++state.history;
  if (state.slab == 0 || (state.size == capacity(state.slab) && state.size < kQuartileValues)) grow(state);
  std::byte* slab = at(state.slab);
  auto* sorted = reinterpret_cast<double*>(slab);
  auto* ranks = reinterpret_cast<std::uint8_t*>(slab + capacity(state.slab) * sizeof(double));
  std::uint32_t size = state.size;
  std::uint32_t place = size;
  if (size == kQuartileValues) {  // the oldest leaves, and its place in the ring is the newest's
    place = state.oldest;
    const std::uint8_t gone = ranks[place];
    std::memmove(sorted + gone, sorted + gone + 1, (size - gone - 1) * sizeof(double));
    for (std::uint32_t i = 0; i < kQuartileValues; ++i)
      ranks[i] = static_cast<std::uint8_t>(ranks[i] - (ranks[i] > gone));
    state.oldest = static_cast<std::uint8_t>((place + 1) % kQuartileValues);
    --size;
  } else {
    state.size = static_cast<std::uint8_t>(size + 1);
  }
  const auto rank = static_cast<std::uint32_t>(std::upper_bound(sorted, sorted + size, x) - sorted);
  std::memmove(sorted + rank + 1, sorted + rank, (size - rank) * sizeof(double));
  sorted[rank] = x;
  for (std::uint32_t i = 0; i < state.size; ++i) ranks[i] = static_cast<std::uint8_t>(ranks[i] + (ranks[i] >= rank));
  ranks[place] = static_cast<std::uint8_t>(rank);
}

std::uint32_t QuartileStore::values(const QuartileState& state, double (&out)[kQuartileValues]) const {
  if (state.slab == 0) return 0;
  const std::byte* slab = at(state.slab);
  const auto* sorted = reinterpret_cast<const double*>(slab);
  const auto* ranks = reinterpret_cast<const std::uint8_t*>(slab + capacity(state.slab) * sizeof(double));
  for (std::uint32_t i = 0; i < state.size; ++i) out[i] = sorted[ranks[(state.oldest + i) % kQuartileValues]];
  return state.size;
}

void QuartileStore::save(const QuartileState& state, StateWriter& writer) const {
  double known[kQuartileValues];
  const std::uint32_t size = values(state, known);
  if (size == 0) return;
  writer.u32(state.history);
  writer.bytes(known, size * sizeof(double));
}

void QuartileStore::load(QuartileState& state, StateReader& reader) {
  const std::uint32_t history = reader.u32();
  const std::size_t size = reader.left() / sizeof(double);
  if (size == 0 || size > kQuartileValues)
    return reader.refuse(fmt::format("has {} values; expected 1 to {}", size, kQuartileValues));
  for (std::size_t i = 0; i < size; ++i) {
    const double x = reader.f64();
    if (std::isnan(x)) return reader.refuse("has a missing value among those learned");
    learn(state, x);
  }
  state.history = history;
}

void QuartileStore::clear(QuartileState& state) {
  if (state.slab != 0) pools_[(state.slab >> kClassShift) - 1].release(state.slab & kPlaceMask);
  state = QuartileState{};
}

void QuartileStore::prefetch(const QuartileState& state) const {
  if (state.slab == 0) return;
  const std::byte* slab = at(state.slab);
  const std::uint32_t values = capacity(state.slab);
  for (std::uint32_t byte = 0; byte < values * 9; byte += 64) __builtin_prefetch(slab + byte, 1);
}

std::size_t QuartileStore::reserved_bytes() const {
  std::size_t bytes = 0;
  for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
  return bytes;
}

}  // namespace alcedo::features
