// Keeps checkpoints of a pipeline's state on disk: what changed is written, and damage costs the newest, not all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::pipeline {

/// Names one row of state. Stages are numbers that the caller gives out, also for state that is no stage's.
struct RowKey {
  std::uint32_t stage = 0;
  std::uint8_t group = 0;  // key group
  std::uint64_t entity = 0;
  bool operator==(const RowKey&) const = default;
};

/// Checkpoints in a RocksDB directory. Each has an epoch, counted from 1; it is full (all rows) or holds what changed
/// since the one before, back to the newest full one (its base). The rows of an epoch stand together, and its manifest,
/// written last and synced, makes it a checkpoint: with the caller's record (positions, watermark, schemas), and the
/// count and sum of its rows, so that a row that is missing is seen as well as one that was changed.
///
/// Kept are all checkpoints since the base before the newest base. A damaged block costs the checkpoints from its epoch
/// on: an older one serves, at worst the last of the chain before. Damage that reaches further (RocksDB may have put
/// several epochs into one table, and then lost it) is an error, never an empty store.
///
/// Errors   kIo, kUnavailable (disk full; try again later) and kCorrupt, naming directory and epoch.
/// Threads  One at a time; RocksDB has background threads of its own.
/// Cost     put(): a copy into a batch that is written each megabyte. publish(): one sync. restore(): reads everything
/// twice; 40 bytes of memory a row meanwhile.
class CheckpointStore {
 public:
  /// Creates the directory if there is none. What a crash left of an unpublished checkpoint is removed. A directory
  /// that RocksDB cannot open because of damage is repaired as far as it goes; restore() then finds what is whole.
  static Result<CheckpointStore> open(const std::string& directory);
  CheckpointStore(CheckpointStore&&) noexcept;
  ~CheckpointStore();

  struct Restored {
    std::uint64_t epoch = 0;
    std::string record;  // the caller's, as given to publish()
    // Newer checkpoints that are damaged, the newest first, each with why; and what else of the store is damaged. One
    // that RocksDB's own log lost altogether is not among them: the caller knows from its journal how far it had come.
    std::vector<std::string> refused;
  };
  /// Finds the newest checkpoint that is whole, calls `row` for each of its rows (in no order), and forgets the newer
  /// ones: the next checkpoint continues from it. Nothing if there is none yet. `row` is called only after all was
  /// verified; its error ends the restore. Errors: kCorrupt if there are checkpoints and none is whole.
  Result<std::optional<Restored>> restore(const std::function<Result<>(const RowKey&, std::string_view)>& row);

  /// Begins a checkpoint; one that was begun and not published is dropped. restore() must have been called. Returns
  /// whether it is full, so that all rows must be put: the first is, one that follows as many changes as its base has
  /// rows, and whichever the caller wants to be (after a change of schema).
  Result<bool> begin(bool full = false);
  /// Each row once a checkpoint.
  Result<> put(const RowKey& key, std::string_view row);
  /// The row is no longer part of the state.
  Result<> forget(const RowKey& key);
  /// From here on it is the newest checkpoint, also after a power cut.
  Result<> publish(std::string_view record);

  /// Epoch of the newest published checkpoint; 0: none.
  std::uint64_t newest() const;

 private:
  struct Impl;
  explicit CheckpointStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::pipeline
