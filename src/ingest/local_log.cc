// Writes a batch as one write() and undoes it by truncation when the disk is full, so that the file always ends with
// whole records.
#include "ingest/local_log.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/directory_sync.h"

namespace alcedo::ingest {
namespace {

constexpr std::string_view kMagic = "ALCLOG1\n";
constexpr std::size_t kSegmentHeaderBytes = 16;
constexpr std::size_t kRecordHeaderBytes = 16;
constexpr std::uint32_t kMark = 1U << 31;
constexpr std::size_t kReadBytes = 256 * 1024;

template <typename T>
void store(char* to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
}

template <typename T>
T load(const char* from) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{static_cast<unsigned char>(from[i])} << (8 * i);
  return static_cast<T>(value);
}

std::uint32_t record_crc(std::uint64_t salt, const char* record, std::size_t length) {
  char salt_bytes[8];
  store(salt_bytes, salt);
  auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(salt_bytes), 8);
  crc = ::crc32(crc, reinterpret_cast<const Bytef*>(record), 4);
  crc = ::crc32(crc, reinterpret_cast<const Bytef*>(record + 8), static_cast<uInt>(8 + length));
  return static_cast<std::uint32_t>(crc);
}

struct Parsed {
  enum class State { kWhole, kShort, kBad } state = State::kBad;
  std::size_t size_bytes = 0;  // kWhole: of the record; kShort: how many bytes are needed to know more
  bool mark = false;
  std::int64_t arrival_ms = 0;
  std::string_view bytes;  // empty: a mark alone
};

Parsed parse_record(std::uint64_t salt, std::string_view at) {
  if (at.size() < kRecordHeaderBytes) return {Parsed::State::kShort, kRecordHeaderBytes, false, 0, {}};
  const auto word = load<std::uint32_t>(at.data());
  const std::size_t length = word & ~kMark;
  const bool mark = (word & kMark) != 0;
  if (length > LocalLog::kRecordBytesMax || (length == 0 && !mark)) return {};
  if (at.size() < kRecordHeaderBytes + length) return {Parsed::State::kShort, kRecordHeaderBytes + length, mark, 0, {}};
  if (load<std::uint32_t>(at.data() + 4) != record_crc(salt, at.data(), length)) return {};
  return {Parsed::State::kWhole, kRecordHeaderBytes + length, mark, load<std::int64_t>(at.data() + 8),
          at.substr(kRecordHeaderBytes, length)};
}

void append_record(std::uint64_t salt, std::string& block, std::string_view bytes, std::int64_t arrival_ms, bool mark) {
  const std::size_t at = block.size();
  block.resize(at + kRecordHeaderBytes);
  block.append(bytes);
  char* record = block.data() + at;
  store(record, static_cast<std::uint32_t>(bytes.size()) | (mark ? kMark : 0));
  store(record + 8, arrival_ms);
  store(record + 4, record_crc(salt, record, bytes.size()));
}

std::string why() { return std::generic_category().message(errno); }

bool disk_full(int code) { return code == ENOSPC || code == EDQUOT || code == EFBIG; }

std::unexpected<Error> io_error(const std::string& path, std::string_view doing) {
  const int code = errno;
  if (disk_full(code)) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("{}: disk full while {}; free space and it goes on", path, doing));
  }
  return error(ErrorCode::kIo, fmt::format("{}: {} failed: {}", path, doing, std::generic_category().message(code)));
}

Result<std::string> read_whole(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return io_error(path, "opening");
  std::string bytes;
  struct stat info{};
  if (::fstat(fd, &info) == 0 && info.st_size > 0) bytes.reserve(static_cast<std::size_t>(info.st_size));
  std::vector<char> chunk(kReadBytes);
  while (true) {
    const auto got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      auto failed = io_error(path, "reading");
      ::close(fd);
      return failed;
    }
    if (got == 0) break;
    bytes.append(chunk.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  return bytes;
}

}  // namespace

SegmentScan scan_segment(std::string_view bytes) {
  SegmentScan scan;
  const std::size_t magic_bytes = std::min(bytes.size(), kMagic.size());
  if (bytes.substr(0, magic_bytes) != kMagic.substr(0, magic_bytes)) {
    // A torn write leaves a prefix of the header, or zeros; anything else is not ours to cut.
    scan.damaged_before_mark = bytes.find_first_not_of('\0') != std::string_view::npos;
    return scan;
  }
  if (bytes.size() < kSegmentHeaderBytes) return scan;
  const auto salt = load<std::uint64_t>(bytes.data() + kMagic.size());
  std::size_t at = kSegmentHeaderBytes;
  while (at < bytes.size()) {
    const Parsed record = parse_record(salt, bytes.substr(at));
    if (record.state != Parsed::State::kWhole) break;
    if (!record.bytes.empty()) ++scan.records;
    at += record.size_bytes;
  }
  scan.valid_bytes = at;
  // Behind the fault: a record that verifies there is no accident. Once in step, from record to record.
  for (std::size_t q = at + 1; q + kRecordHeaderBytes <= bytes.size();) {
    const Parsed record = parse_record(salt, bytes.substr(q));
    if (record.state != Parsed::State::kWhole) {
      ++q;
      continue;
    }
    if (!record.bytes.empty()) ++scan.records_behind;
    scan.damaged_before_mark = scan.damaged_before_mark || record.mark;
    q += record.size_bytes;
  }
  return scan;
}

std::string LocalLog::segment_path(std::int64_t first_offset) const {
  return fmt::format("{}/{:020}.log", directory_, first_offset);
}

Result<std::unique_ptr<LocalLog>> LocalLog::open(std::string directory, const Options& options) {
  if (auto made = create_directories_durably(directory); !made) {
    return error(made.error().code, fmt::format("cannot create the log's directory: {}", made.error().message));
  }
  std::unique_ptr<LocalLog> log(new LocalLog(std::move(directory), options));
  log->directory_fd_ = ::open(log->directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (log->directory_fd_ < 0) return io_error(log->directory_, "opening");
  // What comes in may be private: nobody else reads it.
  ::fchmod(log->directory_fd_, 0700);
  if (::flock(log->directory_fd_, LOCK_EX | LOCK_NB) != 0) {
    return error(
        ErrorCode::kUnavailable,
        fmt::format("{}: another process writes this log; stop it or choose another data directory", log->directory_));
  }
  if (auto done = log->recover(); !done) return std::unexpected(done.error());
  return log;
}

LocalLog::~LocalLog() {
  if (fd_ >= 0) {
    // The mark lets the next open() tell damage from a torn tail in what this process wrote last.
    if (appended_ && !failed_ && sync()) {
      block_.clear();
      append_record(salt_, block_, {}, 0, true);
      (void)write_all(block_);
    }
    ::close(fd_);
  }
  if (directory_fd_ >= 0) ::close(directory_fd_);
}

Result<> LocalLog::recover() {
  DIR* listing = ::opendir(directory_.c_str());
  if (listing == nullptr) return io_error(directory_, "listing");
  std::vector<Segment> found;
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (name.size() != 24 || !name.ends_with(".log")) continue;
    const std::string_view digits = name.substr(0, 20);
    if (digits.find_first_not_of("0123456789") != std::string_view::npos || digits > "09223372036854775806") continue;
    struct stat info{};
    if (::fstatat(directory_fd_, entry->d_name, &info, 0) != 0 || !S_ISREG(info.st_mode)) continue;
    found.push_back({std::stoll(std::string(digits)), static_cast<std::uint64_t>(info.st_size)});
  }
  ::closedir(listing);
  std::ranges::sort(found, {}, &Segment::first_offset);
  segments_.assign(found.begin(), found.end());
  if (segments_.empty()) return start_segment();

  Segment& last = segments_.back();
  const std::string path = segment_path(last.first_offset);
  auto bytes = read_whole(path);
  if (!bytes) return std::unexpected(bytes.error());
  const SegmentScan scan = scan_segment(*bytes);
  if (scan.damaged_before_mark) {
    return error(
        ErrorCode::kCorrupt,
        fmt::format(
            "{}: damaged at byte {}, before records that were safely written; restore the file from a copy, or move "
            "the directory away to start an empty log",
            path, scan.valid_bytes));
  }
  fd_ = ::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) return io_error(path, "opening");
  recovery_.bytes_cut = bytes->size() - scan.valid_bytes;
  recovery_.records_cut = scan.records_behind;
  if (recovery_.bytes_cut > 0 && ::ftruncate(fd_, static_cast<off_t>(scan.valid_bytes)) != 0) {
    return io_error(path, "cutting the torn tail");
  }
  last.size_bytes = scan.valid_bytes;
  end_offset_ = last.first_offset + static_cast<std::int64_t>(scan.records);
  if (last.size_bytes == 0) {
    if (auto written = write_header(); !written) return written;
  } else {
    salt_ = load<std::uint64_t>(bytes->data() + kMagic.size());
  }
  // From here on nothing in the log is unsynced, and the next record says so. Nor is a name: whoever created the
  // segment may have been killed before it synced the folder.
  if (::fsync(directory_fd_) != 0) return io_error(directory_, "syncing");
  ++appends_;
  return sync();
}

Result<> LocalLog::start_segment() {
  if (fd_ >= 0) {
    if (auto done = sync(); !done) return done;
  }
  const std::scoped_lock no_sync(sync_mutex_);  // which would work on a descriptor that is no longer this log's
  const std::string path = segment_path(end_offset_);
  const int fd = ::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return io_error(path, "creating");
  const int old_fd = std::exchange(fd_, fd);
  segments_.push_back({end_offset_, 0});
  const std::uint64_t old_salt = salt_;
  auto written = write_header();
  // The header before any record: the disk takes unsynced pages in any order, and records without a header would be
  // damage.
  if (written && (::fdatasync(fd_) != 0 || ::fsync(directory_fd_) != 0)) {
    written = io_error(directory_, "syncing");
    failed_ = true;
  }
  if (!written) {
    // As if it had not begun: the old segment goes on taking what fits.
    segments_.pop_back();
    salt_ = old_salt;
    ::close(std::exchange(fd_, old_fd));
    ::unlink(path.c_str());
    return written;
  }
  if (old_fd >= 0) ::close(old_fd);
  return {};
}

Result<> LocalLog::write_header() {
  if (::getrandom(&salt_, sizeof salt_, 0) != sizeof salt_) return io_error(directory_, "drawing a segment's salt");
  char header[kSegmentHeaderBytes];
  std::memcpy(header, kMagic.data(), kMagic.size());
  store(header + kMagic.size(), salt_);
  return write_all({header, sizeof header});
}

Result<> LocalLog::write_all(std::string_view bytes) {
  Segment& segment = segments_.back();
  std::size_t written = 0;
  while (written < bytes.size()) {
    const auto n = ::write(fd_, bytes.data() + written, bytes.size() - written);
    if (n > 0) {
      written += static_cast<std::size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = ENOSPC;
    auto failed = io_error(segment_path(segment.first_offset), "writing");
    if (written > 0 && ::ftruncate(fd_, static_cast<off_t>(segment.size_bytes)) != 0) failed_ = true;
    if (failed.error().code != ErrorCode::kUnavailable) failed_ = true;
    return failed;
  }
  segment.size_bytes += bytes.size();
  return {};
}

Result<std::int64_t> LocalLog::append(std::span<const std::string_view> records, std::int64_t arrival_ms) {
  if (failed_) {
    return error(ErrorCode::kIo,
                 fmt::format("{}: an earlier write or sync failed; restart to recover the log", directory_));
  }
  if (segments_.back().size_bytes >= options_.segment_bytes && segments_.back().first_offset < end_offset_) {
    if (auto started = start_segment(); !started) return std::unexpected(started.error());
  }
  block_.clear();
  bool mark = synced_appends_ == appends_;
  for (const std::string_view record : records) {
    CHECK(!record.empty() && record.size() <= kRecordBytesMax);
    append_record(salt_, block_, record, arrival_ms, std::exchange(mark, false));
  }
  if (block_.empty()) return end_offset_;
  if (auto written = write_all(block_); !written) return std::unexpected(written.error());
  ++appends_;
  appended_ = true;
  const std::int64_t first = end_offset_;
  end_offset_ += static_cast<std::int64_t>(records.size());
  drop_old_segments();
  return first;
}

Result<> LocalLog::sync() {
  const std::scoped_lock one_at_a_time(sync_mutex_);
  if (failed_) {
    return error(ErrorCode::kIo,
                 fmt::format("{}: an earlier write or sync failed; restart to recover the log", directory_));
  }
  // What is appended while the disk works may not be part of it: the next sync is about that.
  const std::uint64_t appends = appends_;
  if (synced_appends_ == appends) return {};
  if (::fdatasync(fd_) != 0) {
    failed_ = true;
    return error(ErrorCode::kIo,
                 fmt::format("{}: sync failed: {}; what the disk holds is unknown, restart to recover the log",
                             directory_, why()));
  }
  synced_appends_ = appends;
  return {};
}

std::uint64_t LocalLog::size_bytes() const {
  std::uint64_t total = 0;
  for (const Segment& segment : segments_) total += segment.size_bytes;
  return total;
}

void LocalLog::drop_old_segments() {
  std::uint64_t total = size_bytes();
  while (segments_.size() > 1 && total > options_.retention_bytes) {
    // A segment that cannot be removed now is tried again with the next append.
    if (::unlink(segment_path(segments_.front().first_offset).c_str()) != 0 && errno != ENOENT) return;
    total -= segments_.front().size_bytes;
    segments_.pop_front();
  }
}

LocalLog::Reader::Reader(Reader&& other) noexcept
    : log_(other.log_),
      next_offset_(other.next_offset_),
      segment_first_(other.segment_first_),
      position_offset_(other.position_offset_),
      fd_(std::exchange(other.fd_, -1)),
      salt_(other.salt_),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      file_position_(other.file_position_) {}

LocalLog::Reader::~Reader() {
  if (fd_ >= 0) ::close(fd_);
}

Result<> LocalLog::Reader::open_segment(std::size_t index) {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  const std::string path = log_->segment_path(log_->segments_[index].first_offset);
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) return io_error(path, "opening");
  segment_first_ = position_offset_ = log_->segments_[index].first_offset;
  buffer_.clear();
  begin_ = 0;
  file_position_ = 0;
  if (auto filled = fill(kSegmentHeaderBytes, log_->segments_[index].size_bytes); !filled)
    return std::unexpected(filled.error());
  if (buffer_.size() < kSegmentHeaderBytes || !buffer_.starts_with(kMagic)) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: does not begin as a log segment of this version", path));
  }
  salt_ = load<std::uint64_t>(buffer_.data() + kMagic.size());
  begin_ = kSegmentHeaderBytes;
  return {};
}

// Whether that many bytes stand in the buffer from begin_ on.
Result<bool> LocalLog::Reader::fill(std::size_t bytes_wanted, std::uint64_t segment_size) {
  if (buffer_.size() - begin_ >= bytes_wanted) return true;
  buffer_.erase(0, begin_);
  begin_ = 0;
  while (buffer_.size() < bytes_wanted && file_position_ < segment_size) {
    const std::size_t have = buffer_.size();
    const std::size_t want = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::max(bytes_wanted - have, kReadBytes), segment_size - file_position_));
    buffer_.resize(have + want);
    const auto got = ::pread(fd_, buffer_.data() + have, want, static_cast<off_t>(file_position_));
    const int code = errno;
    buffer_.resize(have + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    errno = code;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(log_->segment_path(segment_first_), "reading");
    if (got == 0) break;
    file_position_ += static_cast<std::uint64_t>(got);
  }
  return buffer_.size() >= bytes_wanted;
}

Result<bool> LocalLog::Reader::next(LogEntry& entry) {
  const auto& segments = log_->segments_;
  next_offset_ = std::max(next_offset_, segments.front().first_offset);
  while (next_offset_ < log_->end_offset_) {
    // The segment that holds next_offset_: the last one that begins at or before it.
    const auto after = std::ranges::upper_bound(segments, next_offset_, {}, &Segment::first_offset);
    const auto index = static_cast<std::size_t>(after - segments.begin()) - 1;
    const bool newest = index + 1 == segments.size();
    if (fd_ < 0 || segment_first_ != segments[index].first_offset) {
      if (auto opened = open_segment(index); !opened) return std::unexpected(opened.error());
    }
    const std::uint64_t size = segments[index].size_bytes;
    Parsed record = parse_record(salt_, std::string_view(buffer_).substr(begin_));
    while (record.state == Parsed::State::kShort) {
      auto filled = fill(record.size_bytes, size);
      if (!filled) return std::unexpected(filled.error());
      if (!*filled) break;
      record = parse_record(salt_, std::string_view(buffer_).substr(begin_));
    }
    const bool beyond = !newest && position_offset_ >= segments[index + 1].first_offset;
    if (record.state != Parsed::State::kWhole || beyond) {
      return error(
          ErrorCode::kCorrupt,
          fmt::format(
              "{}: damaged at byte {} (record {}); restore the file from a copy, or move the directory away to start "
              "an empty log",
              log_->segment_path(segment_first_), file_position_ - (buffer_.size() - begin_), position_offset_));
    }
    begin_ += record.size_bytes;
    if (record.bytes.empty()) continue;
    const std::int64_t offset = position_offset_++;
    if (offset < next_offset_) continue;
    next_offset_ = offset + 1;
    entry = {offset, record.arrival_ms, record.bytes};
    return true;
  }
  return false;
}

}  // namespace alcedo::ingest
