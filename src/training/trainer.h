// Rows of a stream -> a bundle: models, the weights of votes, and calibrated thresholds.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "decide/decider.h"
#include "models/bundle.h"
#include "models/detector.h"
#include "models/learned_scorer.h"
#include "training/training_rows.h"

namespace alcedo::training {

/// What is trained for.
struct TrainingTask {
  std::string pipeline;
  std::uint64_t plan_hash = 0;
  std::vector<models::PlanColumn> columns;      // of the rows' features
  std::vector<models::DetectorSpec> detectors;  // of the rows' raw scores
  decide::Decider::Options decisions;           // of edition 0
  std::vector<std::string> label_types;         // label kFirstLabelType + index
};

struct TrainingOptions {
  double held_out = 0.2;  // share of the rows, the last in time, that only calibrate
  std::uint64_t seed = 1;
  unsigned threads = 1;
  std::size_t forest_trees = 100;
  std::size_t forest_rows = 256;  // a tree's sample
  std::uint32_t rounds_max = 400;
  std::function<void(std::string_view what, double share)> on_progress;
};

/// Trains what the labels allow, in this order: forests on rows not known to be anomalous; boosted trees on labelled
/// rows (without enough anomalies there are none, and the detector abstains); the weights of the votes of each type
/// that has labels; tail probabilities and thresholds on the held-out rows not known to be anomalous.
///
/// Order    Rows are split by their order: what is held out comes after all that models saw.
/// Labels   A row without a label is treated as normal unless there are rows labelled normal: then it is left out of
///          what is learnt from labels.
/// Repeats  The same rows, task, options and number of threads give the same bundle.
/// Errors   kInvalidArgument: fewer than 200 rows, no column with two different values.
/// Notes    `notes` gets what a person should know: detectors that could not be trained, and why.
Result<models::Bundle> train(const TrainingTask& task, TrainingRows& rows, const TrainingOptions& options,
                             std::vector<std::string>& notes);

}  // namespace alcedo::training
