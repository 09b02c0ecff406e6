// One whole line a write(), undone by truncation when it does not fit, so that a reader never meets half a letter from
// a living writer.
#include "ingest/dead_letters.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <simdjson.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/directory_sync.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/time.h"
#include "ingest/base64.h"

namespace alcedo::ingest {
namespace {

constexpr std::size_t kChunkBytes = 256 * 1024;

std::string cause(int code) { return std::generic_category().message(code); }

// Calls `visit` with each line that ends in a newline and its number; returns how many bytes those lines take.
Result<std::uint64_t> for_each_line(const std::string& path, const std::function<bool(std::string_view)>& visit) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int code = errno;
    return error(code == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, fmt::format("{}: {}", path, cause(code)));
  }
  std::vector<char> chunk(kChunkBytes);
  std::string held;
  std::uint64_t whole_bytes = 0;
  bool wanted = true;
  while (wanted) {
    const auto got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const int code = errno;
      ::close(fd);
      return error(ErrorCode::kIo, fmt::format("{}: reading failed: {}", path, cause(code)));
    }
    if (got == 0) break;
    held.append(chunk.data(), static_cast<std::size_t>(got));
    std::size_t begin = 0;
    for (std::size_t end = held.find('\n'); wanted && end != std::string::npos; end = held.find('\n', begin)) {
      wanted = visit(std::string_view(held).substr(begin, end - begin));
      whole_bytes += end + 1 - begin;
      begin = end + 1;
    }
    held.erase(0, begin);
  }
  ::close(fd);
  return whole_bytes;
}

}  // namespace

std::size_t DeadLetters::PlaceHash::operator()(const Place& place) const {
  return hash_combine(place.record_hash, mix64(static_cast<std::uint64_t>(place.offset)));
}

DeadLetters::Place DeadLetters::place_of(const DeadLetter& letter) {
  // As the file spells them: a file name that is not UTF-8 reads back as another one.
  std::string source;
  std::string name;
  append_json_string(source, letter.source);
  append_json_string(name, letter.partition_name);
  // With its bytes: after a power cut, another record may stand where one stood that a source's own log lost.
  const std::uint64_t named = hash_combine(hash_combine(hash64(source), hash64(name)), hash64(letter.bytes));
  return {hash_combine(named, static_cast<std::uint64_t>(letter.partition)), letter.offset};
}

std::string format_dead_letter(const DeadLetter& letter) {
  JsonWriter json;
  json.begin_object().field("time", std::string_view(format_iso_time(letter.arrival_ms)));
  json.field("source", std::string_view(letter.source)).field("partition", static_cast<std::int64_t>(letter.partition));
  json.field("name", std::string_view(letter.partition_name)).field("offset", letter.offset);
  json.field("reason", std::string_view(letter.reason)).field("message", std::string_view(letter.message));
  json.field("bytes_base64", std::string_view(encode_base64(letter.bytes))).end_object();
  return json.take();
}

Result<DeadLetter> parse_dead_letter(std::string_view line) {
  static thread_local simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(line.data(), line.size()).get(object) != simdjson::SUCCESS) {
    return error(ErrorCode::kCorrupt, "not a JSON object");
  }
  const auto text = [&](const char* name, std::string& to) {
    std::string_view value;
    if (object[name].get(value) != simdjson::SUCCESS) return false;
    to = value;
    return true;
  };
  DeadLetter letter;
  std::string time;
  std::string encoded;
  std::int64_t partition = 0;
  if (!text("time", time) || !text("source", letter.source) || !text("name", letter.partition_name) ||
      !text("reason", letter.reason) || !text("message", letter.message) || !text("bytes_base64", encoded) ||
      object["partition"].get(partition) != simdjson::SUCCESS ||
      object["offset"].get(letter.offset) != simdjson::SUCCESS) {
    return error(
        ErrorCode::kCorrupt,
        "not a dead letter: time, source, partition, name, offset, reason, message and bytes_base64 are expected");
  }
  const auto arrival_ms = parse_iso_time_ms(time);
  auto bytes = decode_base64(encoded);
  if (!arrival_ms) return error(ErrorCode::kCorrupt, "time is not an ISO time");
  if (!bytes) return error(ErrorCode::kCorrupt, "bytes_base64 is not base64");
  letter.arrival_ms = *arrival_ms;
  letter.partition = static_cast<std::int32_t>(partition);
  letter.bytes = std::move(*bytes);
  return letter;
}

Result<std::uint64_t> read_dead_letters(const std::string& path, const std::function<bool(const DeadLetter&)>& visit) {
  std::uint64_t unreadable = 0;
  auto read = for_each_line(path, [&](std::string_view line) {
    auto letter = parse_dead_letter(line);
    if (!letter) {
      ++unreadable;
      return true;
    }
    return visit(*letter);
  });
  if (!read) return std::unexpected(read.error());
  return unreadable;
}

Result<std::unique_ptr<DeadLetters>> DeadLetters::open(std::string path, std::uint64_t bytes_max) {
  const auto parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) {
    std::error_code failure;
    std::filesystem::create_directories(parent, failure);
    if (failure)
      return error(ErrorCode::kIo, fmt::format("{}: cannot create its directory: {}", path, failure.message()));
  }
  std::unique_ptr<DeadLetters> letters(new DeadLetters(std::move(path), bytes_max));
  if (auto opened = letters->open_file(); !opened) return std::unexpected(opened.error());
  if (auto loaded = letters->load(); !loaded) return std::unexpected(loaded.error());
  return letters;
}

DeadLetters::~DeadLetters() {
  if (fd_ >= 0) ::close(fd_);
}

Result<> DeadLetters::open_file() {
  const int fd = ::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return error(ErrorCode::kIo, fmt::format("{}: cannot open the dead letters: {}", path_, cause(errno)));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    return error(ErrorCode::kUnavailable, fmt::format("{}: another process writes these dead letters", path_));
  }
  struct stat info{};
  // Whole events stand in it: a file made by somebody else's umask is closed to others, too.
  if (::fchmod(fd, 0600) != 0 || ::fstat(fd, &info) != 0) {
    const int code = errno;
    ::close(fd);
    return error(ErrorCode::kIo,
                 fmt::format("{}: cannot restrict the dead letters to their owner: {}", path_, cause(code)));
  }
  {
    const std::scoped_lock no_sync(sync_mutex_);
    if (fd_ >= 0 && unsynced_.exchange(false) && ::fdatasync(fd_) != 0) sync_failed_ = true;
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }
  // Moved away and begun anew: what sync() promises needs the name as well.
  if (auto named = sync_parent_directory(path_); !named) return named;
  size_bytes_ = static_cast<std::uint64_t>(info.st_size);
  return {};
}

Result<> DeadLetters::load() {
  counts_.clear();
  unreadable_ = 0;
  auto whole_bytes = for_each_line(path_, [&](std::string_view line) {
    if (auto letter = parse_dead_letter(line)) {
      known_.insert(place_of(*letter));
      ++counts_[letter->reason];
    } else {
      ++unreadable_;
    }
    return true;
  });
  if (!whole_bytes) return std::unexpected(whole_bytes.error());
  if (*whole_bytes < size_bytes_) {
    torn_bytes_ += size_bytes_ - *whole_bytes;
    if (::ftruncate(fd_, static_cast<off_t>(*whole_bytes)) != 0) {
      return error(ErrorCode::kIo, fmt::format("{}: cannot cut the torn last line: {}", path_, cause(errno)));
    }
    size_bytes_ = *whole_bytes;
  }
  return {};
}

// Writes go where the path leads now: an operator who moved the full file away made room.
Result<> DeadLetters::follow_path() {
  struct stat at_path{};
  struct stat open_file_info{};
  if (::fstat(fd_, &open_file_info) != 0) return error(ErrorCode::kIo, fmt::format("{}: {}", path_, cause(errno)));
  const bool there = ::stat(path_.c_str(), &at_path) == 0;
  if (there && at_path.st_ino == open_file_info.st_ino && at_path.st_dev == open_file_info.st_dev) {
    const auto size = static_cast<std::uint64_t>(open_file_info.st_size);
    if (size < size_bytes_) {
      size_bytes_ = size;
      return load();
    }
    return {};
  }
  if (auto opened = open_file(); !opened) return opened;
  return load();
}

Result<bool> DeadLetters::append(const DeadLetter& letter) {
  const Place place = place_of(letter);
  if (known_.contains(place)) {
    ++repeated_;
    return false;
  }
  const std::string line = format_dead_letter(letter) + "\n";
  const auto fits = [&] { return size_bytes_ == 0 || size_bytes_ + line.size() <= bytes_max_; };
  if (!fits()) {
    if (auto followed = follow_path(); !followed) return std::unexpected(followed.error());
  }
  full_ = !fits();
  if (full_) {
    return error(
        ErrorCode::kUnavailable,
        fmt::format(
            "{}: the dead letters are full ({} of {} bytes), so reading pauses; look at them, then move the file away "
            "and reading goes on",
            path_, size_bytes_, bytes_max_));
  }
  std::size_t done = 0;
  while (done < line.size()) {
    const auto n = ::write(fd_, line.data() + done, line.size() - done);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    const int code = n == 0 ? ENOSPC : errno;
    const bool undone = done == 0 || ::ftruncate(fd_, static_cast<off_t>(size_bytes_)) == 0;
    if (undone && (code == ENOSPC || code == EDQUOT || code == EFBIG)) {
      return error(ErrorCode::kUnavailable, fmt::format("{}: disk full; free space and reading goes on", path_));
    }
    return error(ErrorCode::kIo, fmt::format("{}: writing failed: {}", path_, cause(code)));
  }
  size_bytes_ += line.size();
  unsynced_ = true;
  known_.insert(place);
  ++counts_[letter.reason];
  ++written_;
  return true;
}

Result<> DeadLetters::sync() {
  const std::scoped_lock one_at_a_time(sync_mutex_);
  if (!sync_failed_ && !unsynced_.exchange(false)) return {};
  // After a failed sync nobody knows what the disk holds, whatever a second one says.
  if (sync_failed_ || ::fdatasync(fd_) != 0) {
    sync_failed_ = true;
    return error(ErrorCode::kIo, fmt::format("{}: sync failed: {}", path_, cause(errno)));
  }
  return {};
}

}  // namespace alcedo::ingest
