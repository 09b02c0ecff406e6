// Which entities changed since the last checkpoint, and their rows as they were when it began, while events flow on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "features/record_pool.h"
#include "features/stage_program.h"
#include "features/state/captured_rows.h"
#include "features/state/entity_codec.h"

namespace alcedo::features {

/// A capture is the state at one moment, read in slices after it: an entity that changes before its row was read has
/// its row copied first. Only what changed since the last capture is read.
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
  bool on() const { return on_; }

  void note_created(EntityHeader& header) {
    header.mark = 2 * interval_ + 1;
    if (!forgotten_.empty()) forgotten_.erase(header.hash);
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
    if (capturing_ && is_pending(header)) take_row(header, record, early_);
    header.mark = 2 * interval_;
    changed_.push_back(handle);
  }
  /// Call before the record goes for good.
  void note_forgotten(std::byte* record) {
    auto& header = *reinterpret_cast<EntityHeader*>(record);
    if (!on_) return;
    if (capturing_ && is_pending(header)) take_row(header, record, early_);
    forgotten_.emplace(header.hash, header.group);
  }
  /// The same for an entity that has no record here.
  void note_forgotten(std::uint64_t hash, std::uint8_t group) {
    if (on_) forgotten_.emplace(hash, group);
  }
  /// Whether the record is exactly the row of its row_epoch.
  bool is_clean(const EntityHeader& header) const { return (header.mark & 1U) != 0 && header.row_epoch != 0; }

  /// The state as it is now is to become epoch `epoch`: what changed since the last begin(), or `all` entities. The
  /// last capture must be complete. Cost: constant.
  void begin(std::uint32_t epoch, bool all);
  /// Appends up to `rows_max` rows to `out`, and those that were copied early. True: the capture is complete.
  bool capture(std::size_t rows_max, CapturedRows& out);
  bool capturing() const { return capturing_; }
  /// A capture of all entities runs, which may replace what epochs had before.
  bool capturing_all() const { return capturing_ && all_; }
  /// Entities changed since the last begin().
  std::size_t changed() const { return changed_.size(); }
  /// The last capture, which is complete, was lost before it became an epoch: the next one takes all entities.
  /// `is_known` says whether the key of a hash has an entity now.
  void lost(const std::function<bool(std::uint64_t)>& is_known);

 private:
  bool is_pending(const EntityHeader& header) const {
    return all_ ? header.mark / 2 != interval_ : header.mark == 2 * (interval_ - 1);
  }
  void take_row(EntityHeader& header, const std::byte* record, CapturedRows& out);

  const RecordPool& records_;
  const EntityCodec& codec_;
  bool on_ = false;
  bool capturing_ = false;
  bool all_ = false;
  bool lost_ = false;
  std::uint32_t interval_ = 2;
  std::uint32_t epoch_ = 0;
  std::vector<std::uint32_t> changed_;  // since begin()
  std::vector<std::uint32_t> pending_;  // before it
  std::size_t next_pending_ = 0;
  std::uint32_t walked_ = RecordPool::kNone;  // all: the last handle looked at
  std::unordered_map<std::uint64_t, std::uint8_t> forgotten_;         // hash -> group; since begin()
  std::unordered_map<std::uint64_t, std::uint8_t> forgotten_before_;  // before it
  bool forgotten_given_ = true;
  CapturedRows early_;
};

}  // namespace alcedo::features
