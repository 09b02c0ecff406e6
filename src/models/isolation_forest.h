// An anomaly score without labels: what few random cuts set apart is strange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/prng.h"
#include "core/result.h"
#include "models/tree_ensemble.h"

namespace alcedo::models {

/// c(n): the mean path length of an unsuccessful search in a binary tree of n rows, by which path lengths are compared.
/// 0 for n <= 1, 1 for n = 2.
double mean_path_length(std::uint64_t n);

/// Trains a TreeEnsemble whose leaves are path lengths, depth + c(rows in the leaf), and whose transform is
/// 2^(-mean path / c(sample)): near 1 is strange, 0.5 and below is normal.
///
/// Source   Liu, Ting, Zhou, "Isolation Forest", ICDM 2008, algorithms 1 and 2; as in scikit-learn, a column that is
///          constant in a node is not drawn there.
/// Missing  A missing value (NaN) is a value of its own kind, one range beyond the present ones at an end that is
/// drawn. So
///          a cut of a column that has both sets the missing apart with probability 1/2, and otherwise cuts the present
///          ones and leaves the missing with the part at their end. Few missing rows are soon alone, many are not.
///          Where training saw no missing value, NaN follows the larger part: it makes no row strange.
/// Infinite Infinities count as the largest floats.
/// Repeats  The same rows, options and seed give the same forest.
/// Cost     About trees * sample_rows * 10 steps; trees * 2 * sample_rows nodes. Rows are not copied.
class IsolationForest {
 public:
  struct Options {
    std::size_t trees = 100;
    std::size_t sample_rows = 256;  // a tree's, drawn without replacement; all rows if there are fewer
    std::uint64_t seed = 0;
  };

  /// rows: row-major. Where no column has two kinds of values, every tree is one leaf and every score 0.5.
  /// Errors: kInvalidArgument: fewer than 2 rows, no columns, rows that are no multiple of columns, options out of
  /// range (1 to 10,000 trees, 2 to 65,536 sample rows).
  static Result<TreeEnsemble> train(std::span<const float> rows, std::size_t columns, const Options& options);
};

/// Which rows of a stream training sees: a sample that is uniform over all rows so far, however long the stream is.
///
/// Source   Vitter, "Random Sampling with a Reservoir", 1985, algorithm R.
/// Repeats  The same seed and stream keep the same rows, in the same places.
/// Memory   capacity * columns floats, taken as they fill.
class RowReservoir {
 public:
  /// capacity and columns at least 1 (a bug of the caller otherwise).
  RowReservoir(std::size_t capacity, std::size_t columns, std::uint64_t seed);

  /// Cost: a random number; a copy of the row if it is kept.
  void add(std::span<const float> row);

  /// Row-major, in no order that means anything.
  std::span<const float> rows() const { return rows_; }
  std::uint64_t seen() const { return seen_; }

 private:
  std::size_t capacity_, columns_;
  Prng random_;
  std::uint64_t seen_ = 0;
  std::vector<float> rows_;
};

}  // namespace alcedo::models
