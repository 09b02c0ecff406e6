// What must hold for any bytes that come as a segment: the fuzzer, the replay of its corpus and the tests ask the same
// questions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "features/stage.h"
#include "features/state/segment.h"
#include "features/test_stream.h"

namespace alcedo::features {

/// Returns whether any stage of the plan (or its baselines) took the bytes. If so, the state works on, and can be saved
/// and loaded again with the same bytes.
inline bool check_state_invariants(const FeaturePlan& plan, std::string_view bytes) {
  bool accepted = false;
  const auto events = testing::make_stream(99, {.events = 60, .counter_share = 0.3});
  const EventBatch batch = testing::to_batch(plan.options().layout, events);
  const std::vector<std::uint32_t> snapshots(batch.rows(), 0);
  const auto work = [&](KeyedStage& stage, GlobalBaselines& global) {
    FeatureMatrix out;
    out.reset(batch.rows(), plan.columns().size());
    stage.process(batch, batch.order, global, snapshots, out);
  };
  for (std::size_t s = 0; s < plan.stages().size(); ++s) {
    KeyedStage stage(plan, s);
    GlobalBaselines global(plan);
    const auto report = stage.load(bytes);
    if (!report) {
      CHECK(stage.entities() == 0 && !report.error().message.empty());
      continue;
    }
    accepted = true;
    CHECK(stage.entities() == report->entities);
    work(stage, global);
    const std::size_t entities = stage.entities();
    KeyedStage again(plan, s);
    std::vector<std::string> saved;
    std::vector<std::uint8_t> groups;
    stage.save_groups([&](std::uint8_t group, std::string segment) {
      groups.push_back(group);
      CHECK(again.load(segment).has_value());
      saved.push_back(std::move(segment));
    });
    CHECK(again.entities() == entities);
    for (std::size_t i = 0; i < saved.size(); ++i) CHECK(again.save_group(groups[i]) == saved[i]);
    work(again, global);
  }
  GlobalBaselines global(plan);
  if (global.load(bytes)) {
    accepted = true;
    GlobalBaselines again(plan);
    CHECK(again.load(global.save()).has_value());
    CHECK(again.save() == global.save());
    global.begin_batch();
    for (const std::uint32_t row : batch.order) global.add(batch, row);
    global.tick();
  }
  return accepted;
}

}  // namespace alcedo::features
