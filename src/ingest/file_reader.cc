// Keeps the inflate state apart from the descriptor, so that thousands of files can be merged with a few hundred open.
#include "ingest/file_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/check.h"
#include "core/nearest_name.h"

namespace alcedo::ingest {
namespace {

constexpr std::size_t kChunkBytes = 64 * 1024;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr unsigned char kGzipMagic[] = {0x1f, 0x8b};
constexpr int kGzipWindowBits = 15 + 16;  // zlib: the largest window, gzip framing only

std::string neighbour_of(const std::string& path) {
  namespace fs = std::filesystem;
  constexpr std::size_t kNamesMax = 2000;
  std::error_code failure;
  const fs::path parent = fs::path(path).parent_path();
  std::vector<std::string> names;
  for (fs::directory_iterator it(parent.empty() ? fs::path(".") : parent, failure), end;
       !failure && it != end && names.size() < kNamesMax; it.increment(failure)) {
    names.push_back(it->path().filename().string());
  }
  std::ranges::sort(names);
  const std::string nearest = nearest_name(fs::path(path).filename().string(), names);
  return nearest.empty() ? "" : (parent / nearest).string();
}

}  // namespace

Error file_error(const std::string& path, int code) {
  const std::string cause = std::generic_category().message(code);
  switch (code) {
    case ENOENT:
    case ENOTDIR: {
      const std::string nearest = neighbour_of(path);
      return {ErrorCode::kNotFound,
              fmt::format("{}: {}; {}", path, cause,
                          nearest.empty() ? "check the path" : fmt::format("did you mean {}?", nearest))};
    }
    case EACCES:
    case EPERM:
      return {ErrorCode::kIo,
              fmt::format("{}: {}; make it readable for this user (chmod, chown) or run as its owner", path, cause)};
    case EISDIR:
      return {ErrorCode::kInvalidArgument,
              fmt::format("{}: is a directory; name its files, or a pattern such as {}/*.csv", path,
                          path.ends_with('/') ? path.substr(0, path.size() - 1) : path)};
    case EMFILE:
    case ENFILE:
      return {ErrorCode::kUnavailable, fmt::format("{}: {}; raise the limit (ulimit -n)", path, cause)};
    default:
      return {ErrorCode::kIo, fmt::format("{}: {}", path, cause)};
  }
}

Result<std::unique_ptr<FileReader>> FileReader::open(std::string path, bool grows) {
  std::unique_ptr<FileReader> reader(new FileReader(std::move(path), grows));
  // Without O_NONBLOCK the opening of a pipe waits for its writer, and no stop() would reach it.
  reader->fd_ = ::open(reader->path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (reader->fd_ < 0) return std::unexpected(file_error(reader->path_, errno));
  struct stat info{};
  if (::fstat(reader->fd_, &info) != 0) return std::unexpected(file_error(reader->path_, errno));
  if (S_ISDIR(info.st_mode)) return std::unexpected(file_error(reader->path_, EISDIR));
  reader->regular_ = S_ISREG(info.st_mode);
  reader->identity_ = {static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino)};
  reader->size_bytes_ = reader->regular_ ? static_cast<std::uint64_t>(info.st_size) : 0;
  return reader;
}

FileReader::~FileReader() {
  if (fd_ >= 0) ::close(fd_);
  if (kind_ == Kind::kGzip) ::inflateEnd(&zlib_);
}

void FileReader::park() {
  CHECK(regular_ && !grows_);
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  // Stored bytes that were read ahead are read again later: position_bytes_ stands before them.
  in_begin_ = in_end_ = 0;
  in_ = {};
  out_ = {};
}

Result<> FileReader::reopen() {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) return std::unexpected(file_error(path_, errno));
  struct stat info{};
  if (::fstat(fd_, &info) != 0) return std::unexpected(file_error(path_, errno));
  const Identity now{static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino)};
  if (!(now == identity_) || static_cast<std::uint64_t>(info.st_size) < position_bytes_) {
    return error(ErrorCode::kIo, fmt::format("{}: was replaced or cut while it was read", path_));
  }
  if (::lseek(fd_, static_cast<off_t>(position_bytes_), SEEK_SET) < 0) return std::unexpected(file_error(path_, errno));
  return {};
}

bool FileReader::truncated() const {
  struct stat info{};
  if (!regular_ || fd_ < 0 || ::fstat(fd_, &info) != 0) return false;
  return static_cast<std::uint64_t>(info.st_size) < position_bytes_ + (in_end_ - in_begin_);
}

std::unexpected<Error> FileReader::fail(Error failure) {
  failure_ = std::move(failure);
  return std::unexpected(*failure_);
}

// Appends stored bytes behind what is not decoded yet.
Result<FileReader::State> FileReader::fill() {
  if (fd_ < 0) {
    if (auto opened = reopen(); !opened) return fail(opened.error());
  }
  if (in_.empty()) in_.resize(kChunkBytes);
  if (in_begin_ > 0) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
    in_end_ -= in_begin_;
    in_begin_ = 0;
  }
  if (!regular_) {
    // A pipe that no writer has opened yet reads as ended; poll() knows the difference.
    pollfd waiting{fd_, POLLIN, 0};
    if (::poll(&waiting, 1, 0) <= 0) return State::kWait;
  }
  while (true) {
    const auto got = ::read(fd_, in_.data() + in_end_, in_.size() - in_end_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return State::kWait;
    if (got < 0) return fail(file_error(path_, errno));
    if (got == 0) return grows_ && regular_ ? State::kWait : State::kEnd;
    in_end_ += static_cast<std::size_t>(got);
    return State::kData;
  }
}

Result<FileReader::State> FileReader::read(std::string_view& bytes) {
  bytes = {};
  if (failure_) return std::unexpected(*failure_);
  while (true) {
    auto state = decode(bytes);
    if (!state || head_done_) return state;
    // The first bytes: a byte order mark may come in pieces.
    head_.append(bytes);
    bytes = {};
    const bool may_be_mark = head_.size() < kByteOrderMark.size() && kByteOrderMark.starts_with(head_);
    if (*state == State::kData && (may_be_mark || head_.empty())) continue;
    if (*state == State::kWait && may_be_mark) return state;
    head_done_ = true;
    if (head_.starts_with(kByteOrderMark)) head_.erase(0, kByteOrderMark.size());
    if (head_.empty()) return state;
    bytes = head_;
    return State::kData;  // kEnd comes again with the next call
  }
}

Result<FileReader::State> FileReader::decode(std::string_view& bytes) {
  if (kind_ == Kind::kUnknown) {
    while (in_end_ - in_begin_ < sizeof kGzipMagic) {
      // One first byte that is not the magic's is enough; waiting for a second could hold back a one-byte file that
      // grows.
      if (in_end_ > in_begin_ && static_cast<unsigned char>(in_[in_begin_]) != kGzipMagic[0]) break;
      auto state = fill();
      if (!state || *state == State::kWait) return state;
      if (*state == State::kEnd) break;
    }
    if (in_end_ - in_begin_ >= sizeof kGzipMagic &&
        std::memcmp(in_.data() + in_begin_, kGzipMagic, sizeof kGzipMagic) == 0) {
      CHECK(::inflateInit2(&zlib_, kGzipWindowBits) == Z_OK);
      kind_ = Kind::kGzip;
      in_member_ = true;
    } else {
      kind_ = Kind::kPlain;
    }
  }
  if (kind_ == Kind::kGzip) return inflate_some(bytes);
  if (in_begin_ == in_end_) {
    auto state = fill();
    if (!state || *state != State::kData) return state;
  }
  bytes = {in_.data() + in_begin_, in_end_ - in_begin_};
  position_bytes_ += bytes.size();
  in_begin_ = in_end_ = 0;
  return State::kData;
}

Result<FileReader::State> FileReader::inflate_some(std::string_view& bytes) {
  if (out_.empty()) out_.resize(kChunkBytes);
  while (true) {
    if (in_begin_ == in_end_ && !out_was_full_) {
      auto state = fill();
      if (!state || *state == State::kWait) return state;
      if (*state == State::kEnd) {
        if (!in_member_) return state;
        return fail({ErrorCode::kCorrupt, fmt::format("{}: the gzip data ends too early, at byte {}; the file is "
                                                      "truncated, fetch it again (all whole records "
                                                      "before that were read)",
                                                      path_, position_bytes_)});
      }
    }
    if (!in_member_) {
      while (in_begin_ < in_end_ && in_[in_begin_] == '\0') ++in_begin_, ++position_bytes_;
      if (in_begin_ == in_end_) continue;
      if (static_cast<unsigned char>(in_[in_begin_]) != kGzipMagic[0]) {
        return fail(
            {ErrorCode::kCorrupt,
             fmt::format(
                 "{}: bytes that are not gzip follow the compressed data at byte {}; all records before that were read",
                 path_, position_bytes_)});
      }
      CHECK(::inflateReset(&zlib_) == Z_OK);
      in_member_ = true;
    }
    zlib_.next_in = reinterpret_cast<Bytef*>(in_.data() + in_begin_);
    zlib_.avail_in = static_cast<uInt>(in_end_ - in_begin_);
    zlib_.next_out = reinterpret_cast<Bytef*>(out_.data());
    zlib_.avail_out = static_cast<uInt>(out_.size());
    const int code = ::inflate(&zlib_, Z_NO_FLUSH);
    const std::size_t consumed = (in_end_ - in_begin_) - zlib_.avail_in;
    in_begin_ += consumed;
    position_bytes_ += consumed;
    bytes = {out_.data(), out_.size() - zlib_.avail_out};
    out_was_full_ = zlib_.avail_out == 0 && code == Z_OK;
    if (code == Z_STREAM_END) in_member_ = false;
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      Error damaged{
          ErrorCode::kCorrupt,
          fmt::format(
              "{}: damaged gzip data at byte {} ({}); fetch the file again (all whole records before that were read)",
              path_, position_bytes_, zlib_.msg != nullptr ? zlib_.msg : "unreadable")};
      if (bytes.empty()) return fail(std::move(damaged));
      failure_ = std::move(damaged);
    }
    if (!bytes.empty()) return State::kData;
  }
}

}  // namespace alcedo::ingest
