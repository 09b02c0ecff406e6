// Quantiles of more values than can be kept one by one, of a window whose oldest values leave pane by pane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/state_stream.h"
#include "features/record_pool.h"

namespace alcedo::features {

inline constexpr std::int64_t kSketchPanes = 7;     // of 10 buckets each: together they cover 60 buckets at any time
inline constexpr std::uint32_t kSketchCells = 256;  // most cells of one sketch
inline constexpr double kSketchGamma = 1.02;        // a cell's upper end by its lower one, before any collapse
/// Largest relative distance of a value from what its cell says, when cells have been joined in pairs `level` times:
/// 0.99 %, 1.98 %, 3.96 %, 7.9 % ...
double sketch_error(int level);

/// Where a value belongs in sketches of any level: one logarithm for all of them.
class SketchCode {
 public:
  /// `x` must not be NaN.
  explicit SketchCode(double x);
  /// Codes order cells as their values are.
  std::int32_t at(std::uint32_t level) const;

 private:
  std::int32_t power_;  // of gamma, rounded up
  std::int8_t sign_;    // 0: the cell of zero
};

/// DDSketches of the windows of a stage: logarithmic cells that count what fell into them, pane by pane; negative
/// values have cells of their own, those below 1e-300 share one with zero.
///
/// Bounds   A cell exists while a value of the panes is in it. Where a 257th is needed, all cells are joined in pairs
/// (the relative error roughly doubles, for all quantiles alike) until they fit; they stay so until the sketch is
/// released. So the error is sketch_error(0) while the largest magnitude is at most 150 times the smallest,
/// sketch_error(1) up to 2 * 10^4 times, sketch_error(2) up to 6 * 10^8 times (values of both signs: the roots of
/// these). Source   Masson, Rim, Lee, "DDSketch", VLDB 2019; joining in pairs: Epicoco et al., "UDDSketch", 2020.
/// Repeats  Content depends on the sketch's own calls only.
/// Memory   16 bytes and 36 a cell, in slabs of 32, 64, 128 or 256 cells: at most 9232.
/// Cost     add(): a binary search; a shift of the cells behind where a cell is new. quantiles(): a pass over totals.
class QuantileSketchStore {
 public:
  /// A handle; never 0.
  std::uint32_t create(std::int64_t newest_pane);
  void release(std::uint32_t handle);
  /// Forgets what lies before the 7 panes that end with `newest_pane`, at or after the last one given.
  void advance(std::uint32_t handle, std::int64_t newest_pane);
  /// Counts `x` in one of the 7 panes; beyond 2^32 - 1 values nothing. The handle may change.
  void add(std::uint32_t& handle, const SketchCode& x, std::int64_t pane);
  /// Quantiles of `shares` (ascending, in [0, 1]) by linear interpolation between order statistics (type 7 of Hyndman
  /// and Fan), each of which is off by sketch_error() of itself at most. NaN where the sketch is empty.
  void quantiles(std::uint32_t handle, std::span<const double> shares, std::span<double> out) const;

  /// Appends the cells by their codes, each with its counts from the oldest pane to the newest.
  void save(std::uint32_t handle, StateWriter& writer) const;
  /// Makes a sketch of what save() wrote. `needed_pane`: one of the 7 panes; a value must lie in it or a later one, so
  /// that the sketch is not empty before this pane leaves. 0 if the reader was told why not; then nothing is taken.
  std::uint32_t load(std::int64_t newest_pane, std::int64_t needed_pane, StateReader& reader);

  void prefetch(std::uint32_t handle) const;
  std::size_t reserved_bytes() const;

 private:
  struct Header {
    std::int64_t newest_pane;
    std::uint32_t values;  // sum of the totals
    std::uint16_t cells;
    std::uint16_t level;
  };
  struct View {
    Header* header;
    std::int32_t* codes;     // ascending, as the values are
    std::uint32_t* totals;   // of the cell, over all panes
    std::uint32_t* counts;   // pane's slot by pane's slot, cells within
    std::uint32_t capacity;  // cells
  };
  static constexpr int kClassShift = 29;
  static constexpr std::uint32_t kPlaceMask = (1U << kClassShift) - 1;
  static constexpr std::uint32_t kFirstCells = 32;
  static constexpr std::size_t slab_bytes(std::uint32_t cells) {
    return sizeof(Header) + cells * (sizeof(std::int32_t) + (1 + kSketchPanes) * sizeof(std::uint32_t));
  }

  View view(std::uint32_t handle) const;
  void grow(std::uint32_t& handle);
  static void join_pairs(const View& sketch);

  RecordPool pools_[4] = {RecordPool(slab_bytes(32)), RecordPool(slab_bytes(64)), RecordPool(slab_bytes(128)),
                          RecordPool(slab_bytes(256))};
};

}  // namespace alcedo::features
