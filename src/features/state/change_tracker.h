// Which entities changed since the last checkpoint, and their rows as they were when it began, while events flow on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_set>
#include <vector>

#include "core/event.h"
#include "features/record_pool.h"
#include "features/stage_program.h"
#include "features/state/captured_rows.h"
#include "features/state/entity_codec.h"

namespace alcedo::features {

/// A capture is the state at one moment, read in slices after it: an entity that changes before its row was read has
/// its row copied first. Only what changed since the last capture is read.
///
/// Rows come in ascending order of key groups, so that a store can write them in the order of their keys: what events
/// overtake waits for its group's turn.
///
/// A record's mark says where it stands. With k the interval that the newest capture began: 2k: changed since, or to be
/// captured next time; 2k + 1: its row was captured; 2(k - 1): changed before, its row is still to be captured.
///
/// Threads  One at a time.
/// Cost     note_change(): a comparison; the first time in an interval an append, and while a capture runs a row more.
class ChangeTracker {
 public:
  /// Both must outlive the tracker.
  ChangeTracker(const RecordPool& records, const EntityCodec& codec) : records_(records), codec_(codec) {}

  /// From now on changes are remembered; before the first entity.
  void start() { on_ = true; }

  void note_created(EntityHeader& header) {
    header.mark = 2 * interval_ + 1;
    if (!forgotten_[header.group].empty()) forgotten_[header.group].erase(header.hash);
  }
  /// The record is as of epoch `epoch`.
  void note_loaded(EntityHeader& header, std::uint32_t epoch) const {
    header.mark = 2 * interval_ + 1;
    header.row_epoch = epoch;
  }
  /// Call before the record changes.
  void note_change(std::uint32_t handle, std::byte* record) {
    auto& header = *reinterpret_cast<EntityHeader*>(record);
    if (!on_ || header.mark == 2 * interval_) return;
    if (capturing_ && is_pending(header)) take_row(header, record, early_[header.group]);
    header.mark = 2 * interval_;
    changed_[header.group].push_back(handle);
    ++num_changed_;
  }
  /// Call before the record goes for good.
  void note_forgotten(std::byte* record) {
    auto& header = *reinterpret_cast<EntityHeader*>(record);
    if (!on_) return;
    if (capturing_ && is_pending(header)) take_row(header, record, early_[header.group]);
    forgotten_[header.group].insert(header.hash);
  }
  /// The same for an entity that has no record here.
  void note_forgotten(std::uint64_t hash, std::uint8_t group) {
    if (on_) forgotten_[group].insert(hash);
  }
  /// Whether the record is exactly the row of its row_epoch.
  bool is_clean(const EntityHeader& header) const { return (header.mark & 1U) != 0 && header.row_epoch != 0; }

  /// The state as it is now is to become epoch `epoch`: what changed since the last begin(), or `all` entities. The
  /// last capture must be complete. Cost: constant.
  void begin(std::uint32_t epoch, bool all);
  /// Appends up to `rows_max` rows to `out`, and those that were copied early in the groups that it comes to; never of
  /// more than one group where rows_max is reached. True: the capture is complete.
  bool capture(std::size_t rows_max, CapturedRows& out);
  bool capturing() const { return capturing_; }
  /// A capture of all entities runs, which may replace what epochs had before.
  bool capturing_all() const { return capturing_ && all_; }
  /// Entities changed since the last begin().
  std::size_t changed() const { return num_changed_; }
  /// The last capture, which is complete, was lost before it became an epoch: the next one takes all entities.
  /// `is_known` says whether the key of a hash has an entity now.
  void lost(const std::function<bool(std::uint64_t)>& is_known);

 private:
  bool is_pending(const EntityHeader& header) const {
    return all_ ? header.mark / 2 != interval_ : header.mark == 2 * (interval_ - 1);
  }
  void take_row(EntityHeader& header, const std::byte* record, CapturedRows& out);
  void give_forgotten(CapturedRows& out);
  void give_early(CapturedRows& out);

  const RecordPool& records_;
  const EntityCodec& codec_;
  bool on_ = false;
  bool capturing_ = false;
  bool all_ = false;
  bool lost_ = false;
  std::uint32_t interval_ = 2;
  std::uint32_t epoch_ = 0;
  template <typename T>
  using ByGroup = std::array<T, kKeyGroups>;
  ByGroup<std::vector<std::uint32_t>> changed_;           // since begin(): handles
  ByGroup<std::unordered_set<std::uint64_t>> forgotten_;  // hashes
  std::size_t num_changed_ = 0;
  // Of the capture.
  std::uint32_t walked_ = RecordPool::kNone;  // all: the last handle looked at
  bool walking_ = false;                      // all: pending_ is not complete yet
  std::size_t group_ = 0;                     // whose turn it is
  bool begun_ = false;                        // what was forgotten in it has been said
  std::size_t next_ = 0;                      // in its pending_
  ByGroup<std::vector<std::uint32_t>> pending_;
  ByGroup<CapturedRows> early_;
  ByGroup<std::unordered_set<std::uint64_t>> forgotten_before_;  // kept until the next begin()
};

}  // namespace alcedo::features
