// One keyed stage: the rolling state of the entities that one worker owns, and the columns it writes for their events.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/event.h"
#include "core/result.h"
#include "features/plan.h"

namespace alcedo::features {

/// What a cold entity is compared with: location and spread of each baseline's number over all entities, as of the last
/// tick. Kept by one thread in input order from integer histograms, so neither workers nor batches can be seen in it.
class GlobalBaselines {
 public:
  explicit GlobalBaselines(const FeaturePlan& plan);
  GlobalBaselines(GlobalBaselines&&) noexcept;
  ~GlobalBaselines();

  /// Forgets the snapshots of the previous batch except the newest, which becomes snapshot 0.
  void begin_batch();
  /// Takes one accepted event, in order. Returns the snapshot it is to be compared with (which does not include it).
  std::uint32_t add(const EventBatch& batch, std::uint32_t row);
  /// An event-time tick: what was added so far becomes visible to later events.
  void tick();
  struct Level {
    double location = 0;
    double spread = 0;  // IQR / 1.349
    std::uint64_t count = 0;
  };
  Level level(std::uint32_t snapshot, std::size_t feature) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Rolling state of one key slot for the keys that one worker owns.
///
/// Source   shared semantics: docs/features.md. A window is the 60 aligned buckets that end at the entity's newest
/// accepted event. Threads  One at a time. Different stages, and the same stage of different workers, may run together.
/// Cost     docs/performance.md; memory grows with the entities seen.
class KeyedStage {
 public:
  /// `plan` must outlive the stage. `stage` indexes plan.stages().
  KeyedStage(const FeaturePlan& plan, std::size_t stage);
  KeyedStage(KeyedStage&&) noexcept;
  ~KeyedStage();

  /// Updates state with the events of `rows` (ascending in order) and writes this stage's columns of `out`. Rows whose
  /// key is missing keep NaN. `snapshots[row]` is GlobalBaselines::add()'s answer for that row.
  void process(const EventBatch& batch, std::span<const std::uint32_t> rows, const GlobalBaselines& global,
               std::span<const std::uint32_t> snapshots, FeatureMatrix& out);

  std::size_t entities() const;
  std::size_t state_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::features
