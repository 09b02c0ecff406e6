// Boosted trees from labelled rows, by XGBoost's library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/result.h"
#include "models/tree_ensemble.h"

namespace alcedo::training {

struct BoostedRows {
  std::span<const float> rows;  // row-major; NaN: missing
  std::size_t columns = 0;
  std::size_t fit_rows = 0;           // the first ones; the others only tell when to stop
  std::vector<std::uint32_t> labels;  // class of each row, from 0
  std::vector<float> weights;         // of each row
};

struct BoostedOptions {
  std::size_t classes = 2;
  std::uint32_t rounds_max = 400;
  std::uint32_t patience = 40;  // rounds without a better fit of the rows that were not fitted
  std::uint32_t leaves_max = 31;
  double learning_rate = 0.08;
  std::uint64_t seed = 1;
  unsigned threads = 1;
  std::function<void(std::uint32_t round)> on_round;
};

/// Histogram trees, grown leaf by leaf, 80 % of rows and columns a tree. With two classes one output: the log odds of
/// class 1; with more one output a class, whose softmax is its probability.
///
/// Source   Chen, Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016. The library is the system's.
/// Repeats  The same rows, options and threads give the same trees. Memory: about 2 bytes a value besides the rows.
/// Threads  Any; it starts `threads` of its own.
/// Errors   kInvalidArgument: no rows to fit, a class that no fitted row has; kInternal: what the library says.
Result<models::TreeEnsemble> train_boosted(const BoostedRows& data, const BoostedOptions& options);

}  // namespace alcedo::training
