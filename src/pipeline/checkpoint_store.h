// Keeps checkpoints of a pipeline's state on disk: what changed is written, and damage costs the newest, not all.
#pragma once

#include <compare>
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
  auto operator<=>(const RowKey&) const = default;
};

/// Checkpoints in a RocksDB directory. Each has an epoch, counted from 1; it is full (all rows) or holds what changed
/// since the one before, back to the newest full one (its base). An epoch has tables of its own, and its manifest,
/// which becomes durable last, makes it a checkpoint: with the caller's record (positions, watermark, schemas), and the
/// count and sum of its rows, so that a row that is missing is seen as well as one that was changed.
///
/// The caller writes changes; full checkpoints are made of them here, by compact(). A row that the caller has put needs
/// no memory: get() reads it back.
///
/// Kept are all checkpoints since the base before the newest base. Damage to a table costs the checkpoints from its
/// epoch on: an older one serves, at worst the last of the chain before. Damage that reaches further (to what says
/// which tables there are) is an error, never an empty store.
///
/// Errors   kIo, kUnavailable (disk full: once there is space, the same call may succeed, or for put(), forget() and
///          publish() a new begin()), kCorrupt, naming directory and epoch, and kInvalidArgument for a database of
///          something else. What kIo ends is over: open it anew.
/// Threads  One thread writes: restore(), begin(), put(), forget(), publish() and compact(), one at a time. From the
///          return of restore() on, any number of threads may call get() and newest() beside it, until the store is
///          moved or destroyed. RocksDB has two background threads of its own.
/// Memory   About 110 MB however many rows: 32 MB of cached blocks (rows, indexes and filters), three write buffers of
///          16 MB, 1 MB of unwritten rows, 256 open tables of some KB each; restore() and compact() add at most 1 MB an
///          epoch of the chain.
/// Disk     Two bases and the changes to each: two to four times the rows, one more while compact() runs.
class CheckpointStore {
 public:
  /// Creates the directory if there is none. What a crash left of an unpublished checkpoint is removed by restore(). A
  /// directory that RocksDB cannot open because of damage is repaired as far as it goes; restore() then finds what is
  /// whole. Errors: kInvalidArgument if it holds another program's database.
  static Result<CheckpointStore> open(const std::string& directory);
  CheckpointStore(CheckpointStore&&) noexcept;
  ~CheckpointStore();

  struct Restored {
    std::uint64_t epoch = 0;
    std::string record;  // the caller's, as given to publish()
    // Newer checkpoints that are damaged, the newest first, each with why; and what else of the store is damaged. One
    // that RocksDB's list of tables lost altogether is not among them: the caller knows from its journal how far it had
    // come.
    std::vector<std::string> refused;
  };
  /// Takes a row, and the epoch that holds it, for a get() later on.
  using TakeRow = std::function<Result<>(const RowKey& key, std::string_view row, std::uint64_t epoch)>;
  /// Finds the newest checkpoint that is whole, calls `take` for each of its rows in ascending order of their keys, and
  /// forgets the newer ones: the next checkpoint continues from it. Nothing if there is none yet. `take` is called only
  /// after all was verified; its error ends the restore. Reads everything twice.
  /// Errors: kCorrupt if there are checkpoints and none is whole.
  /// `record`, if there is one, is called before the rows, with the checkpoint's record; its error ends the restore
  /// too.
  using TakeRecord = std::function<Result<>(std::uint64_t epoch, std::string_view record)>;
  Result<std::optional<Restored>> restore(const TakeRow& take, const TakeRecord& record = nullptr);

  /// Begins a checkpoint; one that was begun and not published is dropped. restore() must have been called. Returns
  /// whether it is full, so that all rows must be put: the very first is, and one that the caller wants to be (`full`:
  /// after a change of schema, when every row is written differently). Any other holds changes only: compact() sees to
  /// it that they do not grow without limit.
  Result<bool> begin(bool full = false);
  /// Each row once a checkpoint. A copy into a batch that is written each megabyte. Beyond 16 MB a checkpoint costs
  /// least when its rows come in ascending order of their keys; in any other order RocksDB has tables to merge.
  Result<> put(const RowKey& key, std::string_view row);
  /// The row is no longer part of the state.
  Result<> forget(const RowKey& key);
  /// From here on it is the newest checkpoint, also after a power cut: what is not in a table yet (16 MB at most) is
  /// written and synced. After an error it is not, and begin() drops it. kCorrupt, when RocksDB has met damage while it
  /// compacted: no more can be published until the store is opened anew.
  Result<> publish(std::string_view record);

  /// To be called after publish(). Once the newest base has more than 16 epochs behind it, or as many changed rows as
  /// it has rows, merges them into a new base: a checkpoint of the next epoch with the same rows and the same record. A
  /// checkpoint that was begun and not published is dropped. Returns whether there is a new base; not if none is due
  /// yet, or if `stop` asked to leave it: `stop` is called every 64 KB and every 10 ms while waiting; what was begun is
  /// dropped then, and a later call begins anew. `bytes_per_second_max` bounds what is read, and so what is written,
  /// which is no more (0: no bound; RocksDB's own compaction of its tables comes on top).
  /// Errors: kCorrupt, when a row that it reads is damaged; the checkpoints stay as they are, and restore() of the
  /// store opened anew leaves the damage behind.
  Result<bool> compact(const std::function<bool()>& stop = nullptr, std::uint64_t bytes_per_second_max = 0);

  /// The row as of the newest published checkpoint, where the caller knows from put() or restore() that it was last put
  /// in `epoch`: it is read there, or from the newest base if that is newer. Nothing if there is no such row, or it was
  /// forgotten there. Where it was put again since, either row may come. Never waits for the writing thread, and finds
  /// the row also while old epochs leave. Cost: one point read; with 10 M rows of 1 KB three blocks of 4 KB from disk,
  /// less what is cached; a filter of 10 bits a row keeps tables that do not hold it out of it. Errors: kCorrupt;
  /// kInvalidArgument for an epoch that is not published.
  Result<std::optional<std::string>> get(const RowKey& key, std::uint64_t epoch) const;

  /// Epoch of the newest published checkpoint; 0: none.
  std::uint64_t newest() const;

 private:
  struct Impl;
  explicit CheckpointStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::pipeline
