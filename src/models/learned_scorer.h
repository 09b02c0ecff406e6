// The learned detectors of a pipeline at work: a bundle's models on the columns of its feature plan.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/result.h"
#include "models/bundle.h"
#include "models/detector.h"
#include "models/learned_model.h"

namespace alcedo::models {

/// A column that a plan has, and what it means: two plans' columns of one name and meaning hold the same numbers.
struct PlanColumn {
  std::string name;
  std::uint64_t meaning = 0;
};

/// Positions of the columns that a learned detector looks at: those of its features, or all. A forest leaves out what
/// grows with the stream or drifts (`.history`, `.of`, `.expected`, `.spread`) unless the column itself is named: it
/// cannot tell that from strangeness.
std::vector<std::uint32_t> columns_of(const DetectorSpec& spec, std::span<const PlanColumn> columns);

/// "" if each of a learned detector's features is a column or has some, else what is wrong.
std::string columns_mistake(const DetectorSpec& spec, std::span<const PlanColumn> columns);

/// What one column did for a score.
struct Contribution {
  std::uint32_t column = 0;  // of the plan
  float moved = 0;           // see LearnedModel::contributions()
  float usual = 0;           // the column's median in training; NaN: never seen
};

/// Threads  const calls may run together.
class LearnedScorer {
 public:
  /// No models: every learned detector abstains.
  LearnedScorer() = default;

  /// `bundle` must outlive this. Detectors whose model it lacks, and scores of types that it never saw, abstain.
  /// Errors: kInvalidArgument naming the model and the column that the plan lacks, or that means something else now.
  static Result<LearnedScorer> create(const Bundle& bundle, std::span<const DetectorSpec> detectors,
                                      std::span<const PlanColumn> columns);

  /// Whether the detector has a score to give.
  bool has(std::size_t detector) const { return detector < slots_.size() && slots_[detector].model != nullptr; }

  /// Overwrites raw[row * detectors + d] for every learned detector d and each row. Cost: see TreeEnsemble; no
  /// allocation after a thread's first call.
  void score(const FeatureMatrix& features, std::span<const std::uint32_t> rows, std::size_t detectors,
             std::span<float> raw) const;

  /// What moved a detector's score of a row, most first; together with the returned rest they sum to the score (of a
  /// forest: to the log2 of it; of boosted trees: to the log odds against the base rate).
  double explain(std::size_t detector, std::span<const float> row, std::vector<Contribution>& most,
                 std::size_t most_max) const;

 private:
  struct Slot {
    const LearnedModel* model = nullptr;
    std::size_t which = 0;
  };
  struct Used {
    const LearnedModel* model = nullptr;
    std::vector<std::uint32_t> columns;                            // of the plan, in the model's order
    std::vector<std::pair<std::uint32_t, std::size_t>> detectors;  // and which of the model's scores each takes
  };
  const Used& used_by(const LearnedModel* model) const;

  std::vector<Slot> slots_;  // by detector
  std::vector<Used> used_;
};

}  // namespace alcedo::models
