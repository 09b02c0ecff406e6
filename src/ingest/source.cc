// How to go on in a source that can only be read from its beginning.
#include "ingest/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/hash.h"

namespace alcedo::ingest {

std::uint64_t fingerprint(std::uint64_t before, std::string_view record) {
  std::array<std::uint64_t, 4> ends{};
  const std::size_t some = std::min<std::size_t>(16, record.size());
  if (some > 0) {
    std::memcpy(&ends[0], record.data(), some);
    std::memcpy(&ends[2], record.data() + record.size() - some, some);
  }
  std::uint64_t hash = before ^ mix64(record.size());
  for (const std::uint64_t part : ends) hash = mix64(hash + part);
  return hash;
}

Result<> Source::skip_to(std::int32_t partition, std::int64_t offset, std::uint64_t expected,
                         const std::atomic<bool>& stopping) {
  constexpr std::int64_t kRecords = 4096;
  const std::string& file = this->partition(partition).file;
  const std::string name = file.empty() ? fmt::format("partition {}", partition) : file;
  std::uint64_t seen = 0;
  RawBatch dropped;
  for (std::int64_t at = 0; at < offset && !stopping.load(std::memory_order_relaxed);) {
    dropped.clear();
    const auto wanted = static_cast<std::size_t>(std::min(kRecords, offset - at));
    const auto state = read(partition, dropped, wanted, std::chrono::milliseconds(100));
    if (!state) return std::unexpected(state.error());
    for (std::size_t i = 0; i < dropped.size(); ++i) seen = fingerprint(seen, dropped.bytes(i));
    if (!dropped.empty()) at = dropped[dropped.size() - 1].offset + 1;
    if (*state != ReadState::kMore && at < offset && !stopping.load(std::memory_order_relaxed)) {
      return error(
          ErrorCode::kCorrupt,
          fmt::format("{}: has {} records, but {} had been read from it before: it has changed since. Give the "
                      "changed source a --data directory of its own",
                      name, at, offset));
    }
  }
  if (expected != 0 && expected != seen && !stopping.load(std::memory_order_relaxed)) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("{}: its first {} records are not those that had been read from it before: it has changed "
                             "since. Give the changed source a --data directory of its own",
                             name, offset));
  }
  return {};
}

}  // namespace alcedo::ingest
