// How rare a deviation is among those that the entity itself showed before: what one threshold for all entities rests
// on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/state_stream.h"
#include "features/record_pool.h"

namespace alcedo::features {

/// Decayed counts of one entity's deviations. Trivially copyable; all zero is empty.
struct OwnPastState {
  static constexpr std::uint32_t kDecades = 10;
  std::int64_t landmark_ms;
  std::uint32_t history;           // deviations learned
  std::uint32_t blocks[kDecades];  // 1 + handle of the cells of a decade; 0: none was in it
  std::uint32_t reserved;
};

/// The cells of all entities of one feature: 40 a decade, from 10^-4 to 10^6; what lies beyond counts in the outermost.
///
/// Repeats  Sums run over the cells in their order: not on where memory lies.
/// Cost     surprise(): up to 400 additions. learn(): one cell; 160 bytes a decade that was met.
class OwnPast {
 public:
  explicit OwnPast(double half_life_ms) : half_life_ms_(half_life_ms) {}

  /// -log10 of the share of the entity's own values that deviated as much, the one at hand among them: 0 for what all
  /// of them did, log10(1 + values) at most. NaN below `min_history` values, and for a missing one.
  double surprise(const OwnPastState& state, double deviation, std::int64_t now_ms, std::uint32_t min_history) const;
  /// `deviation` >= 0; a missing one teaches nothing. `now_ms` never goes back.
  void learn(OwnPastState& state, double deviation, std::int64_t now_ms);

  /// History, landmark and the cells that hold something; nothing for an empty state.
  void save(const OwnPastState& state, StateWriter& writer) const;
  /// Reads what save() wrote of a state that is not empty, into an empty one. If the reader says no afterwards, clear()
  /// frees what was taken.
  void load(OwnPastState& state, StateReader& reader);
  /// Empties the state and gives its memory back.
  void clear(OwnPastState& state);
  std::size_t reserved_bytes() const { return blocks_.reserved_bytes(); }

 private:
  static constexpr std::uint32_t kCells = 40;  // a decade
  float* cells(const OwnPastState& state, std::uint32_t decade) const {
    return reinterpret_cast<float*>(blocks_.at(state.blocks[decade] - 1));
  }
  float* taken_cells(OwnPastState& state, std::uint32_t decade);
  void move_landmark(OwnPastState& state, std::int64_t now_ms);

  double half_life_ms_;
  RecordPool blocks_{kCells * sizeof(float)};
};

}  // namespace alcedo::features
