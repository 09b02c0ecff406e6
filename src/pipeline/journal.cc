// Fixed-size records over zeroed space. The disk takes unsynced pages in any order, so what a power cut leaves behind
// the last sync may have holes; a mark in the records tells such a tail from damage.
#include "pipeline/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::pipeline {
namespace {

enum Kind : std::uint32_t { kOpened = 1, kEvents = 2, kTime = 3, kForget = 4, kClosed = 5 };
// In a record's kind: everything before this record had been synced when it was appended.
constexpr std::uint32_t kMark = std::uint32_t{1} << 31;

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

constexpr std::uint64_t kReserveBytes = std::uint64_t{1} << 20;

bool is_blank(const Record& record) {
  const Record zeros{0, 0, 0, 0, 0, 0, 0, 0};
  return std::memcmp(&record, &zeros, sizeof record) == 0;
}

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(const std::string& path, const std::string& identity,
                                               std::int64_t now_ms) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return error(ErrorCode::kIo, fmt::format("{}: cannot open the journal: {}", path, std::strerror(errno)));
  std::unique_ptr<Journal> journal(new Journal(path, fd));
  struct stat info{};
  if (::fstat(fd, &info) != 0) return error(ErrorCode::kIo, fmt::format("{}: {}", path, std::strerror(errno)));
  const auto whole = static_cast<std::size_t>(info.st_size) / sizeof(Record);
  std::size_t good = 0;
  const auto read_at = [&](std::size_t at, Record& to) {
    return ::pread(fd, &to, sizeof to, static_cast<off_t>(at * sizeof to)) == sizeof to;
  };
  Record record;
  const std::uint64_t who = hash64(identity);
  for (; good < whole; ++good) {
    if (!read_at(good, record)) {
      return error(ErrorCode::kIo, fmt::format("{}: cannot read the journal: {}", path, std::strerror(errno)));
    }
    if (is_blank(record) || record.check != checksum(record)) break;
    record.kind &= ~kMark;
    if (good == 0 && (record.kind != kOpened || record.a != who)) {
      std::string shown = identity.substr(0, identity.find_last_not_of('\n') + 1);
      std::ranges::replace(shown, '\n', ' ');
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format(
              "{}: written for another pipeline, source or warm-up than '{}'; name those it began with, or give this "
              "one a --data directory of its own",
              path, shown));
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
    if (record.kind == kForget) journal->drop_from(record.a, record.c);
  }
  bool tail_blank = static_cast<std::uint64_t>(info.st_size) == whole * sizeof record;
  for (std::size_t at = good; at < whole; ++at) {
    if (!read_at(at, record)) {
      return error(ErrorCode::kIo, fmt::format("{}: cannot read the journal: {}", path, std::strerror(errno)));
    }
    if (is_blank(record)) continue;
    tail_blank = false;
    if (at > good && record.check == checksum(record) && (record.kind & kMark) != 0) {
      return error(
          ErrorCode::kCorrupt,
          fmt::format(
              "{}: record {} does not match its checksum, and what stands behind it says that it was safely written; "
              "the order of inputs is lost. Move the data directory away to start anew, or restore the file",
              path, good));
    }
  }
  // What a crash left half-written behind the last good record must not look like one later.
  if (::ftruncate(fd, static_cast<off_t>(good * sizeof record)) != 0) {
    return error(ErrorCode::kIo, fmt::format("{}: cannot cut the torn tail: {}", path, std::strerror(errno)));
  }
  journal->end_bytes_ = journal->reserved_bytes_ = good * sizeof record;
  journal->taken_ = true;
  if (auto r = journal->reserve(kReserveBytes); !r) return std::unexpected(r.error());
  journal->records_ = good;
  if (good == 0) {
    journal->opened_ms_ = now_ms;
    if (auto r = journal->write_record(kOpened, who, 0, now_ms, 0, 0); !r) return std::unexpected(r.error());
  }
  // A tail that was cut has to be gone before records are written over it: after another power cut, parts of both would
  // pass for one.
  if (good == 0 || !tail_blank) {
    if (auto r = journal->sync(); !r) return std::unexpected(r.error());
  }
  return journal;
}

Journal::~Journal() {
  if (!taken_) {  // refused: not a byte of it is this one's to change
    ::close(fd_);
    return;
  }
  auto done = sync();
  // Says that all of it was synced, so that damage to what this process wrote last does not pass for a torn tail.
  if (done && appended_) {
    const std::scoped_lock lock(mutex_);
    done = write_record(kClosed, 0, 0, 0, 0, 0);
    if (done) done = flush();
  }
  if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
  if (::ftruncate(fd_, static_cast<off_t>(end_bytes_)) != 0) std::perror(path_.c_str());
  ::close(fd_);
}

Result<> Journal::write_record(std::uint32_t kind, std::uint64_t a, std::uint64_t b, std::int64_t c, std::int64_t d,
                               std::int32_t e) {
  Record record{0, kind | (synced_records_ == records_ ? kMark : 0), a, b, c, d, e};
  ++records_;
  record.check = checksum(record);
  buffer_.append(reinterpret_cast<const char*>(&record), sizeof record);
  return buffer_.size() >= 64 * sizeof record ? flush() : Result<>{};
}

Result<> Journal::flush_run() {
  if (pending_.count == 0) return {};
  const Run run = std::exchange(pending_, Run{});
  return write_record(kEvents, run.sequence, run.count, run.offset_first, run.offset_last, run.partition);
}

Result<> Journal::write_at(const char* bytes, std::size_t size, std::uint64_t at) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = ::pwrite(fd_, bytes + done, size - done, static_cast<off_t>(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return error(errno == ENOSPC ? ErrorCode::kUnavailable : ErrorCode::kIo,
                   fmt::format("{}: cannot write the journal: {}", path_, std::strerror(errno)));
    }
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Result<> Journal::reserve(std::uint64_t bytes) {
  const std::string zeros(bytes, '\0');
  if (auto r = write_at(zeros.data(), zeros.size(), reserved_bytes_); !r) return r;
  reserved_bytes_ += bytes;
  dirty_ = true;
  return {};
}

Result<> Journal::flush() {
  // A write that fails half-way is written again from its beginning.
  if (auto r = write_at(buffer_.data(), buffer_.size(), end_bytes_); !r) return r;
  end_bytes_ += buffer_.size();
  reserved_bytes_ = std::max(reserved_bytes_, end_bytes_);
  dirty_ = dirty_ || !buffer_.empty();
  buffer_.clear();
  return reserved_bytes_ - end_bytes_ < kReserveBytes / 4 ? reserve(kReserveBytes) : Result<>{};
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
  appended_ = true;
  return {};
}

Result<> Journal::append_time(std::uint64_t sequence, std::int64_t time_ms) {
  const std::scoped_lock lock(mutex_);
  if (sequence <= last_sequence_) return {};
  if (auto r = flush_run(); !r) return r;
  appended_ = true;
  return write_record(kTime, sequence, 0, time_ms, 0, 0);
}

void Journal::drop_from(std::uint64_t sequence, std::int64_t offset) {
  while (!runs_.empty() && runs_.back().sequence >= sequence) runs_.pop_back();
  if (!runs_.empty() && runs_.back().sequence + runs_.back().count > sequence) {
    runs_.back().count = sequence - runs_.back().sequence;
    runs_.back().offset_last = std::min(runs_.back().offset_last, offset - 1);
  }
  while (!time_inputs_.empty() && time_inputs_.back().sequence >= sequence) time_inputs_.pop_back();
  last_sequence_ = sequence - 1;
}

Result<> Journal::forget_from(std::uint64_t sequence, std::int64_t offset) {
  const std::scoped_lock lock(mutex_);
  CHECK(pending_.count == 0);  // what this process appended cannot be lost to it
  if (sequence > last_sequence_) return {};
  drop_from(sequence, offset);
  appended_ = true;
  return write_record(kForget, sequence, 0, offset, 0, 0);
}

Result<> Journal::sync() {
  const std::scoped_lock one_at_a_time(sync_mutex_);
  std::uint64_t records = 0;
  {
    const std::scoped_lock lock(mutex_);
    if (auto r = flush_run(); !r) return r;
    if (auto r = flush(); !r) return r;
    records = records_;
    if (!std::exchange(dirty_, false)) return {};
  }
  // Without the lock on the buffer: the engine must not wait for the disk.
  if (::fdatasync(fd_) != 0) {
    // After a failed fsync nobody knows what is on disk; going on would page from an order that may be lost.
    std::fprintf(stderr, "%s: fdatasync failed: %s\n", path_.c_str(), std::strerror(errno));
    std::abort();
  }
  const std::scoped_lock lock(mutex_);
  synced_records_ = records;
  return {};
}

}  // namespace alcedo::pipeline
