// What a pipeline would do with the state that an earlier one left, before it is run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "features/state/segment.h"
#include "pipeline/pipeline_file.h"

namespace alcedo::pipeline {

struct StateCheck {
  std::string directory;    // of the checkpoints
  std::uint64_t epoch = 0;  // of the newest whole checkpoint; 0: there is none yet
  std::uint64_t events = 0;
  std::vector<std::string> refused;  // newer checkpoints that are damaged, with why
  struct Stage {
    std::string key;
    bool dropped = false;  // the pipeline has no feature of this entity
    features::StateReport report;
  };
  std::vector<Stage> stages;          // of the checkpoint
  std::vector<std::string> new_keys;  // stages of the pipeline that the checkpoint does not know
};

/// Looks at `data`, the --data directory of `alcedo run` or a pipeline's folder in it, and changes nothing; also while
/// the pipeline runs. Calibrations are compared when they are loaded. Errors: kNotFound if there is no state of this
/// pipeline; those of CheckpointStore and CheckpointRecord, naming the directory. Cost: reads and verifies all rows.
Result<StateCheck> check_state(const Pipeline& pipeline, const std::string& data);

}  // namespace alcedo::pipeline
