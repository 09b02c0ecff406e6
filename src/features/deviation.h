// How far a value is from an entity's own history of it: the decayed mean and the quartiles of the last 64, with what
// they learn.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/state_stream.h"
#include "features/record_pool.h"

namespace alcedo::features {

/// |z| beyond this is a deviation by the baseline's own measure.
inline constexpr double kDeviates = 4;
/// What a deviating value weighs when it is learned; a normal one weighs 1.
inline constexpr double kSlowWeight = 0.1;
/// A spread is never taken as less than this share of the level.
inline constexpr double kRelativeFloor = 1e-3;
/// Scores end here: beyond, only "constant until now" can be said.
inline constexpr double kScoreMax = 1e6;
/// A history whose decayed weight falls below this is forgotten: 20 half-lives of silence after a single value.
inline constexpr double kForgottenWeight = 1e-6;
/// Values that quartiles are taken of.
inline constexpr std::uint32_t kQuartileValues = 64;

/// The smallest spread that a level can have: a share of it and, for numbers in whole steps, a step's rounding (step^2
/// / 12).
double floor_squared(double level, double step);

/// What a history says of a value. `spread` is what z divides by. NaN: nothing to say.
struct DeviationReading {
  double expected;
  double spread;
  double z;
};

/// Decayed mean and variance of one column of one entity. Trivially copyable; all zero is empty.
struct EwmaState {
  double weight;  // of the values learned, decayed to the entity's clock
  double mean;
  double squares;         // weighted, of the distances from the mean (Welford)
  std::uint32_t history;  // values learned
  std::uint32_t pending;  // 1 + handle of the pending level while the column deviates; 0: it does not
};

/// A level that may become the new one: the values since the column began to deviate.
struct PendingLevel {
  double mean;
  double squares;
  std::int64_t since_ms;
  std::uint32_t count;
  std::uint32_t reserved;
};

/// Lets time pass: `factor` is 2^(-elapsed / half-life). What has no weight left begins anew, with no history.
void decay_ewma(EwmaState& state, double factor, RecordPool& pending);
/// The value against the state as it is. Everything is NaN for an empty state, z below `min_history` and for a missing
/// value too.
DeviationReading read_ewma(const EwmaState& state, double x, double step, std::uint32_t min_history);
/// The value against a level of other entities.
DeviationReading read_level(double location, double spread, double x, double step);

struct EwmaRules {
  double step = 0;
  std::uint32_t min_history = 0;
  std::int64_t accept_ms = 0;
};

/// Learns `x`, given read_ewma()'s z of it. The state must be decayed to `time_ms` before.
///
/// Source   weighted Welford: D. H. D. West, "Updating mean and variance estimates", CACM 22(9), 1979.
void learn_ewma(EwmaState& state, double x, double z, std::int64_t time_ms, const EwmaRules& rules,
                RecordPool& pending);

/// Weight, mean, squares, history and, while the column deviates, the pending level.
void save_ewma(const EwmaState& state, const RecordPool& pending, StateWriter& writer);
/// Reads what save_ewma() wrote, to the last byte, into an empty state. If the reader says no afterwards, clear_ewma()
/// frees what was taken.
void load_ewma(EwmaState& state, RecordPool& pending, StateReader& reader);
/// Empties the state and gives its memory back.
void clear_ewma(EwmaState& state, RecordPool& pending);

/// The last 64 values of one column of one entity, sorted. Trivially copyable; all zero is empty.
struct QuartileState {
  std::uint32_t history;  // values learned
  std::uint32_t slab;     // 0: none
  std::uint8_t size;
  std::uint8_t oldest;  // place in the ring of ranks
  std::uint16_t reserved;
  std::uint32_t reserved2;
};

/// Memory of the sorted values: slabs of 8, 16, 32, 64 values, so that a rare entity takes few bytes.
///
/// Cost     read: three interpolations. learn: moves up to 64 values in cache.
class QuartileStore {
 public:
  DeviationReading read(const QuartileState& state, double x, double step, std::uint32_t min_history) const;
  /// Median and the median distance from it (MAD), exact; of an even number of values the mean of the middle two. Cost:
  /// half the values are walked over. NaN for an empty state.
  struct MedianReading {
    double median;
    double mad;
  };
  MedianReading median_and_mad(const QuartileState& state) const;
  void learn(QuartileState& state, double x);
  void prefetch(const QuartileState& state) const;
  /// The values known, the oldest first. Learning them in this order in an empty state gives the same state, but for
  /// its history.
  std::uint32_t values(const QuartileState& state, double (&out)[kQuartileValues]) const;
  /// The history and the values, the oldest first; nothing for an empty state.
  void save(const QuartileState& state, StateWriter& writer) const;
  /// Reads what save() wrote of a state that is not empty, to the last byte, into an empty one. If the reader says no
  /// afterwards, clear() frees what was taken.
  void load(QuartileState& state, StateReader& reader);
  /// Empties the state and gives its memory back.
  void clear(QuartileState& state);
  std::size_t reserved_bytes() const;

 private:
  // A slab: `values` sorted doubles, then one byte a place of the ring: the rank of the value that came at that place.
  static constexpr std::uint32_t kFirstValues = 8;
  static constexpr int kClassShift = 29;
  static constexpr std::uint32_t kPlaceMask = (1U << kClassShift) - 1;
  static std::uint32_t capacity(std::uint32_t slab) { return kFirstValues << ((slab >> kClassShift) - 1); }
  std::byte* at(std::uint32_t slab) const { return pools_[(slab >> kClassShift) - 1].at(slab & kPlaceMask); }
  void grow(QuartileState& state);

  RecordPool pools_[4] = {RecordPool(9 * 8), RecordPool(9 * 16), RecordPool(9 * 32), RecordPool(9 * 64)};
};

/// Quartiles of other entities, as location and IQR around it.
DeviationReading read_quartiles(double q1, double median, double q3, double x, double step);

}  // namespace alcedo::features
