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
  std::swap(changed_, pending_);
  changed_.clear();
  next_pending_ = 0;
  walked_ = RecordPool::kNone;
  forgotten_before_ = std::exchange(forgotten_, {});
  forgotten_given_ = forgotten_before_.empty();
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
  // First what is gone: the same key may have come again, and then its row follows in a later epoch.
  if (!forgotten_given_) {
    for (const auto& [hash, group] : forgotten_before_) {
      CapturedRows::Row row;
      row.entity = hash;
      row.group = group;
      row.begin = out.bytes.size();
      row.live = false;
      out.rows.push_back(row);
    }
    forgotten_given_ = true;
  }
  for (CapturedRows::Row row : early_.rows) {
    const std::string_view bytes = early_.bytes_of(row);
    row.begin = out.bytes.size();
    out.bytes.append(bytes);
    out.rows.push_back(row);
  }
  early_.clear();
  std::size_t rows = 0;
  for (std::size_t looks = 0; rows < rows_max && looks < rows_max * kLooksPerRow; ++looks) {
    std::uint32_t handle = 0;
    if (all_) {
      handle = records_.after(walked_);
      if (handle == RecordPool::kNone) break;
      walked_ = handle;
    } else {
      if (next_pending_ == pending_.size()) break;
      handle = pending_[next_pending_++];
    }
    std::byte* record = records_.at(handle);
    auto& header = *reinterpret_cast<EntityHeader*>(record);
    if (header.hash == 0 || !is_pending(header)) continue;
    take_row(header, record, out);
    ++rows;
  }
  const bool done = all_ ? records_.after(walked_) == RecordPool::kNone : next_pending_ == pending_.size();
  if (!done) return false;
  capturing_ = false;
  return true;
}

void ChangeTracker::lost(const std::function<bool(std::uint64_t)>& is_known) {
  CHECK(!capturing_);
  lost_ = true;
  for (const auto& [hash, group] : forgotten_before_) {
    if (!is_known(hash)) forgotten_.emplace(hash, group);
  }
}

}  // namespace alcedo::features
