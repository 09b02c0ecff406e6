// Lists of handles instead of a walk over all entities: a checkpoint costs what changed, not what there is.
#include "features/state/change_tracker.h"

#include <utility>

#include "core/check.h"

namespace alcedo::features {
namespace {

// Records that need no row are passed over quickly, but each is a cache miss.
constexpr std::size_t kLooksPerRow = 4;

}  // namespace

void ChangeTracker::begin(std::uint32_t epoch, bool all) {
  CHECK(on_ && !capturing_);
  ++interval_;
  epoch_ = epoch;
  all_ = all || lost_;
  capturing_ = true;
  for (std::size_t group = 0; group < kKeyGroups; ++group) {
    std::swap(changed_[group], pending_[group]);
    changed_[group].clear();
    forgotten_before_[group] = std::exchange(forgotten_[group], {});
    // Then the list of all is made anew, of all records.
    if (all_) pending_[group].clear();
  }
  num_changed_ = 0;
  walking_ = all_;
  walked_ = RecordPool::kNone;
  group_ = 0;
  next_ = 0;
  begun_ = false;
  lost_ = false;
}

void ChangeTracker::take_row(EntityHeader& header, const std::byte* record, CapturedRows& out) {
  CapturedRows::Row row;
  row.entity = header.hash;
  row.group = header.group;
  row.begin = out.bytes.size();
  codec_.save(record, out.bytes);
  row.size = static_cast<std::uint32_t>(out.bytes.size() - row.begin);
  out.rows.push_back(row);
  header.mark = 2 * interval_ + 1;
  header.row_epoch = epoch_;
}

bool ChangeTracker::capture(std::size_t rows_max, CapturedRows& out) {
  if (!capturing_) return true;
  std::size_t looks = rows_max * kLooksPerRow;
  for (; walking_ && looks > 0; --looks) {
    const std::uint32_t handle = records_.after(walked_);
    if (handle == RecordPool::kNone) {
      walking_ = false;
      break;
    }
    walked_ = handle;
    const auto& header = *reinterpret_cast<const EntityHeader*>(records_.at(handle));
    if (header.hash != 0 && is_pending(header)) pending_[header.group].push_back(handle);
  }
  if (walking_) return false;
  std::size_t rows = 0;
  while (group_ < kKeyGroups && rows < rows_max && looks > 0) {
    if (!std::exchange(begun_, true)) give_forgotten(out);
    const auto& pending = pending_[group_];
    for (; next_ < pending.size() && rows < rows_max && looks > 0; --looks) {
      std::byte* record = records_.at(pending[next_++]);
      auto& header = *reinterpret_cast<EntityHeader*>(record);
      if (header.hash == 0 || header.group != group_ || !is_pending(header)) continue;
      take_row(header, record, out);
      ++rows;
    }
    if (next_ < pending.size()) break;
    give_early(out);
    pending_[group_] = {};
    ++group_;
    next_ = 0;
    begun_ = false;
    --looks;
  }
  capturing_ = group_ < kKeyGroups;
  return !capturing_;
}

void ChangeTracker::give_forgotten(CapturedRows& out) {
  for (const std::uint64_t hash : forgotten_before_[group_]) {
    CapturedRows::Row row;
    row.entity = hash;
    row.group = static_cast<std::uint8_t>(group_);
    row.begin = out.bytes.size();
    row.live = false;
    out.rows.push_back(row);
  }
}

void ChangeTracker::give_early(CapturedRows& out) {
  CapturedRows& early = early_[group_];
  for (CapturedRows::Row row : early.rows) {
    const std::string_view bytes = early.bytes_of(row);
    row.begin = out.bytes.size();
    out.bytes.append(bytes);
    out.rows.push_back(row);
  }
  early = {};
}

void ChangeTracker::lost(const std::function<bool(std::uint64_t)>& is_known) {
  CHECK(!capturing_);
  lost_ = true;
  for (std::size_t group = 0; group < kKeyGroups; ++group) {
    for (const std::uint64_t hash : forgotten_before_[group]) {
      if (!is_known(hash)) forgotten_[group].insert(hash);
    }
  }
}

}  // namespace alcedo::features
