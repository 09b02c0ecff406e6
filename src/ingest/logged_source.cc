// Delivers only what stands in the log: what a verdict was made of can then be read again after a crash.
#include "ingest/logged_source.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "core/time.h"

namespace alcedo::ingest {
namespace {
constexpr std::size_t kBatchBytesMax = 8 << 20;  // one read() adds no more than this and a record
}  // namespace

const contract::PartitionInfo& LoggedSource::partition(std::int32_t partition) const {
  CHECK(partition == 0);
  return info_;
}

Result<ReadState> LoggedSource::read(std::int32_t partition, RawBatch& out, std::size_t records_max,
                                     std::chrono::milliseconds wait) {
  CHECK(partition == 0);
  const std::int64_t until_ns = steady_ns() + wait.count() * 1'000'000;
  if (records_max == 0) return ReadState::kMore;
  while (true) {
    const std::size_t records_before = out.size();
    const std::size_t bytes_before = out.size_bytes();
    LogEntry entry;
    while (out.size() - records_before < records_max && out.size_bytes() - bytes_before < kBatchBytesMax) {
      auto has = reader_->next(entry);
      if (!has && out.size() == records_before) return std::unexpected(has.error());
      if (!has || !*has) break;  // an error comes again with the next call, after what was read before it
      RawRecord record;
      record.offset = entry.offset;
      record.arrival_ms = entry.arrival_ms;
      out.append(entry.bytes, record);
    }
    if (out.size() > records_before) {
      delivered_ += out.size() - records_before;
      out.pad();
      return ReadState::kMore;
    }
    if (ended_) return ReadState::kEnd;
    const std::int64_t left_ms = std::max<std::int64_t>(0, (until_ns - steady_ns() + 999'999) / 1'000'000);
    auto taken = take(std::chrono::milliseconds(left_ms));
    if (!taken) return taken;
    if (*taken == ReadState::kEnd) ended_ = true;
    if (*taken == ReadState::kIdle) return ReadState::kIdle;
  }
}

// The log's own checksums tell what has changed.
Result<> LoggedSource::skip_to(std::int32_t partition, std::int64_t offset, std::uint64_t /*fingerprint*/,
                               const std::atomic<bool>& /*stopping*/) {
  CHECK(partition == 0);
  if (offset > log_->end_offset()) {
    return error(
        ErrorCode::kCorrupt,
        fmt::format("{}: the log of this source ends at record {}, but {} had been read from it before: records "
                    "that were durable are gone. Restore the directory, or give a --data directory of its own",
                    log_->directory(), log_->end_offset(), offset));
  }
  reader_ = std::make_unique<LocalLog::Reader>(log_->reader(offset));
  return {};
}

}  // namespace alcedo::ingest
