// Whatever was taken from the pipe is in the log before the next read(): a crash loses at most an unfinished line.
#include "ingest/stdin_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include "core/directory_sync.h"
#include "core/time.h"
#include "ingest/csv_header.h"

namespace alcedo::ingest {
namespace {

constexpr std::size_t kChunkBytes = 64 * 1024;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::chrono::milliseconds kStoppingPoll{100};

std::string header_path(const std::string& log_directory) { return log_directory + "/header.csv"; }

Result<> keep_header(const std::string& log_directory, std::string_view line) {
  const std::string path = header_path(log_directory);
  const std::string temporary = path + ".new";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const bool written =
      fd >= 0 && ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && ::fsync(fd) == 0;
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    return error(ErrorCode::kIo, fmt::format("{}: cannot keep the CSV header: {}", path,
                                             std::generic_category().message(written ? errno : code)));
  }
  // Before any record is: a log whose header is gone would take the next line of its pipe for one.
  return sync_directory(log_directory);
}

}  // namespace

StdinSource::StdinSource(int fd, Options options, std::unique_ptr<LocalLog> log, contract::PartitionInfo info)
    : LoggedSource(std::move(log), std::move(info)),
      fd_(fd),
      options_(std::move(options)),
      splitter_(options_.format, options_.delimiter),
      chunk_(kChunkBytes) {}

Result<std::unique_ptr<StdinSource>> StdinSource::create(int fd, Options options) {
  if (!options.now_ms) options.now_ms = wall_clock_ms;
  auto log = LocalLog::open(options.log_directory, options.log);
  if (!log) return std::unexpected(log.error());
  contract::PartitionInfo info;
  info.format = options.format;
  const bool is_csv = options.format == contract::Format::kCsv;
  if (is_csv) info.header = options.columns;
  std::unique_ptr<StdinSource> source(new StdinSource(fd, std::move(options), std::move(*log), std::move(info)));
  if (is_csv && source->info_.header.empty()) {
    source->header_due_ = true;
    std::ifstream kept(header_path(source->options_.log_directory), std::ios::binary);
    if (kept) {
      const std::string line{std::istreambuf_iterator<char>(kept), {}};
      source->info_.header = contract::split_csv_header(line, source->options_.delimiter);
    } else if (auto learned = source->learn_header(); !learned) {
      return std::unexpected(learned.error());
    }
  }
  return source;
}

Result<> StdinSource::learn_header() {
  while (info_.header.empty()) {
    std::string_view record;
    bool too_long = false;
    if (splitter_.next(record, too_long)) {
      if (too_long)
        return error(ErrorCode::kInvalidArgument,
                     "stdin: the first line is over 1 MB and cannot be a header; is it CSV?");
      info_.header = contract::split_csv_header(record, options_.delimiter);
      header_due_ = false;
      return keep_header(options_.log_directory, record);
    }
    if (input_ended_) {
      return error(ErrorCode::kNotFound, "stdin: ended before its CSV header line; name the columns if it has none");
    }
    if (options_.stopping != nullptr && options_.stopping->load()) {
      return error(ErrorCode::kUnavailable, "stdin: stopped while waiting for its CSV header line");
    }
    if (auto state = read_input(kStoppingPoll); !state) return std::unexpected(state.error());
  }
  return {};
}

// kMore: bytes were fed or the input ended; kIdle; kEnd: stopped.
Result<ReadState> StdinSource::read_input(std::chrono::milliseconds wait) {
  const auto woke = interrupt_.wait_readable(fd_, wait);
  if (interrupt_.raised()) return ReadState::kEnd;
  if (woke == Interrupt::Woke::kTimeout) return ReadState::kIdle;
  const auto got = ::read(fd_, chunk_.data(), chunk_.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return ReadState::kIdle;
  if (got < 0) {
    return error(ErrorCode::kIo, fmt::format("stdin: reading failed: {}", std::generic_category().message(errno)));
  }
  std::string_view bytes(chunk_.data(), static_cast<std::size_t>(got));
  input_ended_ = got == 0;
  if (!head_done_) {
    head_.append(bytes);
    if (!input_ended_ && head_.size() < kByteOrderMark.size() && kByteOrderMark.starts_with(head_))
      return ReadState::kMore;
    head_done_ = true;
    if (head_.starts_with(kByteOrderMark)) head_.erase(0, kByteOrderMark.size());
    bytes = head_;
  }
  splitter_.feed(bytes);
  if (input_ended_) splitter_.finish();
  return ReadState::kMore;
}

void StdinSource::split_pending() {
  std::string_view record;
  bool too_long = false;
  while (!failure_ && splitter_.next(record, too_long)) {
    if (std::exchange(header_due_, false)) {
      const HeaderMatch match = match_header(record, options_.delimiter, info_.header);
      if (match == HeaderMatch::kSame) continue;
      if (match == HeaderMatch::kOther) {
        failure_ =
            Error{ErrorCode::kInvalidArgument,
                  fmt::format(
                      "stdin: its header is not the one of the records that are kept ({}); use another data directory "
                      "for another stream",
                      fmt::join(info_.header, ","))};
        return;
      }
    }
    pending_.append(record);
    pending_ends_.push_back(pending_.size());
  }
}

Result<> StdinSource::append_pending() {
  std::vector<std::string_view> records;
  records.reserve(pending_ends_.size());
  std::size_t begin = 0;
  for (const std::size_t end : pending_ends_) {
    records.push_back(std::string_view(pending_).substr(begin, end - begin));
    begin = end;
  }
  if (auto appended = log_->append(records, options_.now_ms()); !appended) return std::unexpected(appended.error());
  pending_.clear();
  pending_ends_.clear();
  return {};
}

Result<ReadState> StdinSource::take(std::chrono::milliseconds wait) {
  if (pending_ends_.empty()) {
    split_pending();  // what learn_header() left
    if (pending_ends_.empty()) {
      if (failure_) return std::unexpected(*failure_);
      if (input_ended_) return ReadState::kEnd;
      auto state = read_input(wait);
      if (!state || *state != ReadState::kMore) return state;
      split_pending();
    }
  }
  if (pending_ends_.empty()) return ReadState::kMore;
  if (auto appended = append_pending(); !appended) {
    if (interrupt_.raised()) return ReadState::kEnd;
    interrupt_.wait(wait);  // so that a caller who tries again does not spin
    return std::unexpected(appended.error());
  }
  return ReadState::kMore;
}

}  // namespace alcedo::ingest
