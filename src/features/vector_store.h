// The online half of the feature store: the newest vector of every entity, readable while the engine writes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/event.h"
#include "features/plan.h"

namespace alcedo::features {

/// For each keyed stage: entity -> the columns that the stage wrote for the entity's newest event, and that event's
/// time. A copy of what detectors saw, so a read neither touches rolling state nor waits for it.
///
/// Newest   by event time; of equal times the later in input order. A late event never replaces a newer vector.
/// Whole    a read returns all columns of one event, never a mixture of two.
/// Bounds   `entities_max` of each stage, spread evenly over the kKeyGroups key groups (rounded up to whole groups). In
///          a full group the entity whose vector was written longest ago makes room, and is counted. Groups fill
///          unevenly, so the first eviction comes some percent before the stage as a whole is full.
/// Memory   4 bytes a column and about 60 an entity, taken as entities appear, given back only at the end.
/// Threads  write() for rows of different key groups, or of different stages, may run together, as the engine's workers
///          do; read() and counters() from any thread at any time. Readers never make a writer wait (a sequence lock a
///          group): a read that met a write of its group is repeated.
/// Cost     write() about 200 ns a row of 60 columns, half of it waiting for memory; read() about as much; neither
/// allocates, but for write()'s first rows of new
///          entities.
/// Keys     are identified by their 64-bit hash, as in the stages (core/hash.h says how rarely two share one).
class VectorStore {
 public:
  struct Options {
    std::size_t entities_max = 1'000'000;  // of each stage; at least 1
  };
  struct Counters {
    std::uint64_t entities = 0;  // held now, over all stages
    std::uint64_t written = 0;   // vectors taken
    std::uint64_t late = 0;      // vectors refused, being older than what is held
    std::uint64_t evicted = 0;   // entities that made room for others
  };

  /// `plan` must outlive the store.
  explicit VectorStore(const FeaturePlan& plan) : VectorStore(plan, Options{}) {}
  VectorStore(const FeaturePlan& plan, Options options);
  ~VectorStore();

  /// The columns of plan.stages()[stage], as indices into plan.columns(), ascending: the order of a vector's values.
  std::span<const std::uint32_t> columns(std::size_t stage) const { return stages_[stage].columns; }
  std::size_t num_stages() const { return stages_.size(); }

  /// Takes the stage's columns of `rows`, in this order. Rows without the stage's key are skipped.
  void write(std::size_t stage, const EventBatch& batch, std::span<const std::uint32_t> rows,
             const FeatureMatrix& features);

  /// The newest vector of `key` into `values` (columns(stage).size() of them; NaN is missing) and its event's time.
  /// False, and nothing is written that counts, if the store has no vector of it.
  bool read(std::size_t stage, const Key& key, std::int64_t& time_ms, std::span<float> values) const;

  Counters counters() const;
  /// Of each stage, as rounded up.
  std::size_t entities_max() const { return group_entities_max_ * kKeyGroups; }

 private:
  class Group;
  struct Stage {
    std::uint32_t slot = 0;
    std::vector<std::uint32_t> columns;
    std::vector<std::unique_ptr<Group>> groups;
  };

  std::size_t group_entities_max_;
  std::vector<Stage> stages_;
};

}  // namespace alcedo::features
