// What training leaves of one detector: its trees, the columns that they read, and what is usual for each of those.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "models/detector.h"
#include "models/tensor_file.h"
#include "models/tree_ensemble.h"

namespace alcedo::models {

/// A trained isolation forest or boosted trees.
///
/// Scores   Never below 0, never NaN; higher is stranger.
///          forest    2^(-path length / expected path length), in (0, 1]
///          boosted   ln(1 + odds of the type / odds of its base rate): 0.69 where the trees say nothing
/// Threads  const calls may run together.
struct LearnedModel {
  DetectorKind kind = DetectorKind::kForest;  // kForest or kBoosted
  std::vector<std::string> columns;           // of the feature plan, in the order of the trees' columns
  std::vector<std::uint64_t> meanings;        // by column: PlanColumn::meaning
  std::vector<float> usual;                   // by column: the median in training; NaN: it was never there
  std::vector<std::string> types;             // kBoosted with several outputs: what output i + 1 is about; else empty
  std::vector<double> base_rates;             // kBoosted: by type, or of all: share of the training rows
  TreeEnsemble trees;                         // kBoosted: margins, of "normal" first where there are several

  /// Scores of one row: of all types together, then one a type.
  std::size_t scores() const { return 1 + types.size(); }
  /// rows: row-major, columns.size() floats each; out: rows x scores(). Cost: no allocation after a thread's first
  /// call.
  void score(std::span<const float> rows, std::span<float> out) const;
  /// How far each column moved score `which` of a row, in nats of odds (boosted) or bits of the score (forest); what is
  /// strange is positive. Returns what is left without any column. Cost: microseconds, allocates.
  double contributions(std::span<const float> row, std::size_t which, std::span<float> by_column) const;

  TensorFile to_file() const;
  /// Errors: kCorrupt, kNotFound: what to_file() would not have written.
  static Result<LearnedModel> from_file(const TensorFile& file);
};

}  // namespace alcedo::models
