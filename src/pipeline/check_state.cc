// Plans are compared by their schemas, so no entity has to be loaded.
#include "pipeline/check_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "pipeline/checkpoint_store.h"
#include "pipeline/checkpointer.h"
#include "pipeline/engine.h"
#include "pipeline/worker_pool.h"

namespace alcedo::pipeline {

Result<StateCheck> check_state(const Pipeline& pipeline, const std::string& data) {
  StateCheck check;
  for (const std::string& candidate : {data + "/" + pipeline.name + "/checkpoints", data + "/checkpoints", data}) {
    std::error_code unknown;
    if (!std::filesystem::exists(candidate + "/CURRENT", unknown)) continue;
    check.directory = candidate;
    break;
  }
  if (check.directory.empty()) {
    return error(
        ErrorCode::kNotFound,
        fmt::format("{}: no checkpoints of pipeline '{}'; expected them in {}/{}/checkpoints, where `alcedo run "
                    "--data {}` keeps them",
                    data, pipeline.name, data, pipeline.name, data));
  }
  auto store = CheckpointStore::open_to_read(check.directory);
  if (!store) return std::unexpected(store.error());
  const auto newest = store->newest_whole();
  if (!newest) return std::unexpected(newest.error());
  if (!*newest) return check;
  check.epoch = (*newest)->epoch;
  check.refused = (*newest)->refused;
  const auto record = CheckpointRecord::load((*newest)->record);
  if (!record) {
    return error(record.error().code,
                 fmt::format("checkpoint {} in {}: {}", check.epoch, check.directory, record.error().message));
  }
  if (record->pipeline != pipeline.name) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("checkpoint {} in {} is of pipeline '{}', not of '{}'", check.epoch, check.directory,
                             record->pipeline, pipeline.name));
  }
  if (const auto events = record->counts.find("events"); events != record->counts.end()) check.events = events->second;
  WorkerPool pool(1);
  const auto engine = Engine::create(pipeline, pool);
  if (!engine) return std::unexpected(engine.error());
  const std::size_t stages = (*engine)->plan().stages().size();
  for (const auto& schema : record->schemas) {
    StateCheck::Stage stage{schema.key, true, {}};
    for (std::size_t s = 0; s < stages; ++s) {
      if ((*engine)->schema(s).key != schema.key) continue;
      stage.dropped = false;
      stage.report = (*engine)->compare(s, schema);
    }
    check.stages.push_back(std::move(stage));
  }
  for (std::size_t s = 0; s < stages; ++s) {
    const std::string& key = (*engine)->schema(s).key;
    if (std::ranges::find(check.stages, key, &StateCheck::Stage::key) == check.stages.end())
      check.new_keys.push_back(key);
  }
  return check;
}

}  // namespace alcedo::pipeline
