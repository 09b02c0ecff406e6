// Boosted trees from labelled rows. A library of its own: only what trains needs XGBoost on the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>

#include "core/result.h"
#include "models/tree_ensemble.h"

namespace alcedo::training {

struct BoostedProgress {
  std::size_t round = 0, rounds_max = 0;  // rounds done
  /// Mean negative log-likelihood of the validation part, by weight; NaN without one.
  double validation_loss = std::numeric_limits<double>::quiet_NaN();
  std::size_t best_round = 0;  // of the lowest so far
};

struct BoostedOptions {
  /// 0: labels are 0 (normal) and 1, one output, binary:logistic. Otherwise labels are below it, one output a class,
  /// multi:softprob.
  std::uint32_t classes = 0;
  std::size_t rounds_max = 300;
  std::uint32_t leaves_max = 31;
  double learning_rate = 0.1;
  double l2 = 1;                // on leaves
  double child_weight_min = 1;  // sum of second derivatives that a leaf needs
  double row_share = 1;         // drawn anew for each tree
  double column_share = 1;      // likewise
  /// The last rows, which no tree sees; their loss says when to stop. 0: none, and no early end.
  double validation_share = 0.2;
  std::size_t patience_rounds = 30;  // without a lower loss; 0: all rounds are done, and the best of them kept
  std::uint32_t seed = 0;
  std::uint32_t threads = 1;
  /// After each round, on the calling thread. False ends the training with what is best so far.
  std::function<bool(const BoostedProgress&)> progress;
};

struct BoostedTraining {
  models::TreeEnsemble trees;
  std::size_t rounds = 0;  // that were kept
  std::size_t training_rows = 0, validation_rows = 0;
  double validation_loss = std::numeric_limits<double>::quiet_NaN();  // of what was kept
};

/// Trains by XGBoost (hist, lossguide), through its JSON into a TreeEnsemble.
///
/// Source   Chen, Guestrin, "XGBoost", KDD 2016; Debian's libxgboost by its C interface.
/// Shapes   rows: row-major, in the order of time, NaN where a value is missing (each split learns a side for it);
///          infinities count as the largest floats. labels: one a row. weights: one a row, at least 0, or none.
/// Repeats  The same rows and options give the same trees on the same library.
/// Threads  One training at a time takes options.threads threads. Memory: about 6 bytes a value while it runs.
/// Errors   kInvalidArgument: sizes that do not fit, a label out of range, a weight that is negative or not finite,
/// rows
///          for training with one class only, options out of range; kInternal: what XGBoost says.
Result<BoostedTraining> train_boosted(std::span<const float> rows, std::size_t columns,
                                      std::span<const std::uint32_t> labels, std::span<const float> weights,
                                      const BoostedOptions& options);

}  // namespace alcedo::training
