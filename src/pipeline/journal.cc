// Fixed-size records: a torn write can only be the last one, and its checksum tells.
#include "pipeline/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/hash.h"

namespace alcedo::pipeline {
namespace {

enum Kind : std::uint32_t { kOpened = 1, kEvents = 2, kTime = 3 };

struct Record {
  std::uint32_t check = 0;
  std::uint32_t kind = 0;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::int64_t c = 0;
  std::int64_t d = 0;
  std::int32_t e = 0;
  std::uint32_t magic = 0x4A434C41;  // "ALCJ"
};
static_assert(sizeof(Record) == 48);

std::uint32_t checksum(Record record) {
  record.check = 0;
  std::array<char, sizeof(Record)> bytes;
  std::memcpy(bytes.data(), &record, sizeof(Record));
  return static_cast<std::uint32_t>(hash64({bytes.data(), bytes.size()}));
}

// Runs are cut at this many events, so that a crash loses little of an order that no alert depended on yet.
constexpr std::uint64_t kRunEventsMax = 65'536;

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(const std::string& path, const std::string& identity, std::int64_t now_ms) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
  if (fd < 0) return error(ErrorCode::kIo, fmt::format("{}: cannot open the journal: {}", path, std::strerror(errno)));
  std::unique_ptr<Journal> journal(new Journal(path, fd));
  struct stat info {};
  if (::fstat(fd, &info) != 0) return error(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)));
  const auto whole = static_cast<std::size_t>(info.st_size) / sizeof(Record);
  std::size_t good = 0;
  Record record;
  const std::uint64_t who = hash64(identity);
  for (; good < whole; ++good) {
    if (::pread(fd, &record, sizeof record, static_cast<off_t>(good * sizeof record)) != sizeof record) {
      return error(ErrorCode::kIo, fmt::format("{}: cannot read the journal: {}", path, std::strerror(errno)));
    }
    if (record.check != checksum(record)) {
      if (good + 1 == whole) break;
      return error(ErrorCode::kCorrupt,
                   fmt::format("{}: record {} of {} does not match its checksum; the order of inputs is lost. Move the data "
                               "directory away to start anew, or restore the file",
                               path, good, whole));
    }
    if (good == 0 && (record.kind != kOpened || record.a != who)) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: written for another pipeline or source than '{}'; give this one a --data directory of its own",
                               path, identity));
    }
    if (record.kind == kOpened) journal->opened_ms_ = record.c;
    if (record.kind == kEvents) {
      journal->runs_.push_back({record.a, record.b, record.e, record.c, record.d});
      journal->last_sequence_ = record.a + record.b - 1;
    }
    if (record.kind == kTime) {
      journal->time_inputs_.push_back({record.a, record.c});
      journal->last_sequence_ = record.a;
    }
  }
  if (static_cast<std::size_t>(info.st_size) != good * sizeof record &&
      ::ftruncate(fd, static_cast<off_t>(good * sizeof record)) != 0) {
    return error(ErrorCode::kIo, fmt::format("{}: cannot cut the torn tail: {}", path, std::strerror(errno)));
  }
  if (good == 0) {
    journal->opened_ms_ = now_ms;
    if (auto r = journal->write_record(kOpened, who, 0, now_ms, 0, 0); !r) return std::unexpected(r.error());
    if (auto r = journal->sync(); !r) return std::unexpected(r.error());
  }
  return journal;
}

Journal::~Journal() {
  if (auto r = sync(); !r) std::fprintf(stderr, "%s\n", r.error().message.c_str());
  ::close(fd_);
}

Result<> Journal::write_record(std::uint32_t kind, std::uint64_t a, std::uint64_t b, std::int64_t c, std::int64_t d,
                               std::int32_t e) {
  Record record{0, kind, a, b, c, d, e};
  record.check = checksum(record);
  buffer_.append(reinterpret_cast<const char*>(&record), sizeof record);
  return buffer_.size() >= 64 * sizeof record ? flush() : Result<>{};
}

Result<> Journal::flush_run() {
  if (pending_.count == 0) return {};
  const Run run = std::exchange(pending_, Run{});
  return write_record(kEvents, run.sequence, run.count, run.offset_first, run.offset_last, run.partition);
}

Result<> Journal::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int why = errno;
      // A half-written record must not stay in front of the next one.
      buffer_.erase(0, done / sizeof(Record) * sizeof(Record));
      if (done % sizeof(Record) != 0 && ::ftruncate(fd_, ::lseek(fd_, 0, SEEK_END) - static_cast<off_t>(done % sizeof(Record))) != 0) {
        return error(ErrorCode::kIo, fmt::format("{}: cannot undo a short write: {}", path_, std::strerror(errno)));
      }
      return error(why == ENOSPC ? ErrorCode::kUnavailable : ErrorCode::kIo,
                   fmt::format("{}: cannot write the journal: {}", path_, std::strerror(why)));
    }
    done += static_cast<std::size_t>(n);
  }
  dirty_ = dirty_ || !buffer_.empty();
  buffer_.clear();
  return {};
}

Result<> Journal::append_event(std::uint64_t sequence, std::int32_t partition, std::int64_t offset) {
  const std::scoped_lock lock(mutex_);
  if (sequence <= last_sequence_) return {};  // a restart passing through what is already here
  if (pending_.count > 0 && pending_.partition == partition && pending_.sequence + pending_.count == sequence &&
      pending_.count < kRunEventsMax) {
    ++pending_.count;
    pending_.offset_last = offset;
    return {};
  }
  if (auto r = flush_run(); !r) return r;
  pending_ = {sequence, 1, partition, offset, offset};
  return {};
}

Result<> Journal::append_time(std::uint64_t sequence, std::int64_t time_ms) {
  const std::scoped_lock lock(mutex_);
  if (sequence <= last_sequence_) return {};
  if (auto r = flush_run(); !r) return r;
  return write_record(kTime, sequence, 0, time_ms, 0, 0);
}

Result<> Journal::sync() {
  const std::scoped_lock lock(mutex_);
  if (auto r = flush_run(); !r) return r;
  if (auto r = flush(); !r) return r;
  if (!dirty_) return {};
  if (::fdatasync(fd_) != 0) {
    // After a failed fsync nobody knows what is on disk; going on would page from an order that may be lost.
    std::fprintf(stderr, "%s: fdatasync failed: %s\n", path_.c_str(), std::strerror(errno));
    std::abort();
  }
  dirty_ = false;
  return {};
}

}  // namespace alcedo::pipeline
