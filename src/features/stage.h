// One keyed stage: the rolling state of the entities that one worker owns, and the columns it writes for their events.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/event.h"
#include "core/label_input.h"
#include "core/result.h"
#include "features/plan.h"
#include "features/state/captured_rows.h"
#include "features/state/segment.h"

namespace alcedo::features {

/// What all entities have in common: location and spread of each baseline's number, which a cold entity is compared
/// with; how many values each rarity by everyone has seen, and how rare they were; everyone's share of confirmed
/// events; all as of the last tick. Kept by one thread in input order, so neither workers nor batches can be seen in
/// it.
class GlobalBaselines {
 public:
  explicit GlobalBaselines(const FeaturePlan& plan);
  GlobalBaselines(GlobalBaselines&&) noexcept;
  ~GlobalBaselines();

  /// Forgets the snapshots of the previous batch except the newest, which becomes snapshot 0.
  void begin_batch();
  /// Takes one accepted event, in order. Returns the snapshot it is to be compared with (which does not include it).
  std::uint32_t add(const EventBatch& batch, std::uint32_t row);
  /// A label between two events, in order.
  void learn_label(const LabelInput& label);
  /// An event-time tick: what was added so far becomes visible to later events.
  void tick();
  struct Level {
    double location = 0;
    double spread = 0;  // IQR / 1.349
    std::uint64_t count = 0;
  };
  Level level(std::uint32_t snapshot, std::size_t feature) const;
  /// How many values the feature has seen of all entities, faded to `time_ms`; 0 before the first tick, and for
  /// features of another kind than kGlobalRarity.
  double total(std::uint32_t snapshot, std::size_t feature, std::int64_t time_ms) const;

  /// All that later levels depend on, between two batches, as a segment (docs/features.md, "State").
  std::string save() const;
  /// Replaces all state by a saved one; later levels are bit by bit those of who saved it. A baseline that the segment
  /// does not know begins anew. Errors: as of KeyedStage::load(); nothing has changed then.
  Result<StateReport> load(std::string_view segment);

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
  /// key is missing keep NaN. `snapshots[row]` is GlobalBaselines::add()'s answer for that row. `labels`: ascending in
  /// sequence, of entities that this worker owns; each comes before the events with a higher one.
  void process(const EventBatch& batch, std::span<const std::uint32_t> rows, const GlobalBaselines& global,
               std::span<const std::uint32_t> snapshots, FeatureMatrix& out,
               std::span<const LabelInput* const> labels = {});

  /// What rows and segments of this stage hold.
  const StateSchema& schema() const;
  /// What would become of state of another schema here, without loading any.
  StateReport compare(const StateSchema& saved) const;
  /// The state of the entities of key group `group`, without cold ones, between two batches, as a segment. The same
  /// state gives the same bytes, whatever workers, batches and checkpoints it went through. Cost: looks at all
  /// entities.
  std::string save_group(std::uint8_t group) const;
  /// The same for every key group that has entities, in ascending order, with one look at all entities.
  void save_groups(const std::function<void(std::uint8_t group, std::string segment)>& write) const;
  /// Adds a segment's entities; later columns are bit by bit those of who saved it. Parts of its plan that this plan
  /// does not have are dropped, parts that it does not know begin anew; the answer says which, by feature.
  /// Errors: kCorrupt (damaged, cut), kInvalidArgument (of another format version or another key, or one of the
  /// entities is here already); no entity has been added then. Bytes may be anything.
  Result<StateReport> load(std::string_view segment);

  /// The key group of an entity that is here.
  std::optional<std::uint8_t> group_of(std::uint64_t key_hash) const;
  /// Appends an entity's row, without schema or checksum: for a store that keeps both by itself. False: it is not here.
  bool save_entity(std::uint64_t key_hash, std::string& row) const;
  /// Adds an entity of `schema`'s plan (the same plan_hash as schema()'s is fastest). `epoch`: of the store's that
  /// holds this row; 0: the next capture is to take it. Errors: as of load(); the entity has not been added then.
  Result<> load_entity(const StateSchema& schema, std::uint64_t key_hash, std::uint8_t group, std::string_view row,
                       std::uint32_t epoch = 0);
  /// Gives back all memory of an entity. Its next event begins anew, unless its row is loaded before. False: it is not
  /// here.
  bool forget(std::uint64_t key_hash);

  /// From now on it is known what changed since the last capture; before the first entity.
  void track_changes();
  /// The state as it is now is to become the store's epoch `epoch`: the rows that changed since the last capture, or of
  /// all entities. Cost: constant; nothing is copied yet. The last capture must be complete.
  void begin_capture(std::uint32_t epoch, bool all);
  /// Appends up to `rows_max` rows of that state to `out`, whatever events came meanwhile. True: there are no more.
  bool capture(std::size_t rows_max, CapturedRows& out);
  /// The last capture will not become an epoch after all: the next one is of all entities.
  void capture_lost();
  std::size_t changed() const;

  /// Reads the row of an entity that was evicted. Errors end up in fault().
  using ColdReader =
      std::function<Result<std::string>(std::uint64_t key_hash, std::uint8_t group, std::uint32_t epoch)>;
  /// Entities may be left to a store, and come back when they are next needed. `read` is called in process(), by its
  /// thread.
  void keep_cold(ColdReader read);
  /// An entity whose row is in epoch `epoch` of the store, and not here. Errors: kInvalidArgument, it is here already.
  Result<> add_cold(std::uint64_t key_hash, std::uint8_t group, std::uint32_t epoch);
  /// Gives back the memory of up to `entities_max` entities that were not used lately and that epoch `published` or one
  /// before it holds as they are. Cost: looks at up to 8 times as many. Returns how many. Not while all are captured.
  std::size_t evict(std::size_t entities_max, std::uint32_t published);
  /// Gives back the memory of entities that are forgotten as of `tick_ms`, the time of the last tick before all later
  /// events: looks at up to `looks` entities, going on where the last call ended. Nobody can tell whether it is called.
  /// Cold entities stay until they are next needed.
  void expire(std::int64_t tick_ms, std::size_t looks);
  /// Entities whose memory is here; the others are cold.
  std::size_t resident() const;
  /// Records that new or returning entities can have without more memory from the system.
  std::size_t free_records() const;
  /// A cold row could not be read: what process() wrote since is of no use.
  const std::optional<Error>& fault() const;

  std::size_t entities() const;
  std::size_t state_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::features
