// Appends alerts to a file that other programs read while it grows: whole lines only, private, and safe to rotate.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <thread>
#include <utility>

#include "alert/route_worker.h"
#include "core/directory_sync.h"
#include "core/time.h"

namespace alcedo::alert {
namespace {

constexpr std::size_t kBatch = 256;
constexpr std::int64_t kRetryMaxMs = 5000;  // a disk that has room again is noticed soon
constexpr std::int64_t kIdleMs = 1000;      // rows whose retry time a restart forgot

// Another pipeline's worker, or process, may append to the same file: what one of them cuts off must be its own.
class FileLock {
 public:
  explicit FileLock(int fd) : fd_(fd) {
    while (::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() { ::flock(fd_, LOCK_UN); }

 private:
  int fd_;
};

// The file, open for appending.
class AppendedFile {
 public:
  explicit AppendedFile(std::string path) : path_(std::move(path)) {}
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;
  ~AppendedFile() { close(); }

  Result<> open() {
    close();
    torn_ = false;
    fd_ = ::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    // A pipe or a terminal may be write-only.
    if (fd_ < 0) fd_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd_ < 0) return failure("cannot be opened");
    const FileLock lock(fd_);
    struct stat status{};
    if (::fstat(fd_, &status) != 0) return failure("cannot be examined");
    regular_ = S_ISREG(status.st_mode);
    if (!regular_) return {};
    // Lines that the ledger will call delivered must not go with a name that no sync of the file has to keep. Every
    // time, since whoever created the file may have been killed before this.
    if (auto named = sync_parent_directory(path_); !named) return named;
    return end_torn_line(status.st_size);
  }

  // All of `lines` or nothing.
  Result<> append(std::string_view lines) {
    if (fd_ < 0 || torn_ || rotated()) {
      if (auto opened = open(); !opened) return opened;
    }
    const FileLock lock(fd_);
    struct stat before{};
    if (::fstat(fd_, &before) != 0) return failure("cannot be examined");
    std::size_t done = 0;
    while (done < lines.size()) {
      const ssize_t n = ::write(fd_, lines.data() + done, lines.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        auto failed = failure("cannot be written");
        // Half a line would spoil the next one.
        torn_ = regular_ && done > 0 && ::ftruncate(fd_, before.st_size) != 0;
        return failed;
      }
      done += static_cast<std::size_t>(n);
    }
    if (regular_ && ::fdatasync(fd_) != 0) {
      // What the kernel did with the pages is unknown: the lines are written again, through a new descriptor.
      torn_ = true;
      return failure("cannot be synced");
    }
    return {};
  }

 private:
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool rotated() const {
    struct stat ours{}, named{};
    if (!regular_) return false;
    return ::fstat(fd_, &ours) != 0 || ::stat(path_.c_str(), &named) != 0 || ours.st_ino != named.st_ino ||
           ours.st_dev != named.st_dev;
  }
  // A crash in the middle of a write leaves the beginning of a line. Its delivery was not recorded and comes again
  // whole.
  Result<> end_torn_line(off_t size) {
    off_t line_start = 0;
    std::array<char, 4096> block{};
    for (off_t end = size; end > 0 && line_start == 0;) {
      const off_t start = std::max<off_t>(0, end - static_cast<off_t>(block.size()));
      const ssize_t n = ::pread(fd_, block.data(), static_cast<std::size_t>(end - start), start);
      if (n != end - start) return failure("cannot be read");
      const std::string_view text(block.data(), static_cast<std::size_t>(n));
      if (end == size && text.back() == '\n') return {};
      const std::size_t newline = text.rfind('\n');
      if (newline != std::string_view::npos) line_start = start + static_cast<off_t>(newline) + 1;
      end = start;
    }
    if (line_start == size) return {};  // empty
    // Only what is surely ours is cut; any other last line just gets its end.
    std::array<char, 9> head{};
    const ssize_t n = ::pread(fd_, head.data(), head.size(), line_start);
    constexpr std::string_view kOurs = "{\"step\":\"";
    const std::string_view begun(head.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
    const bool ours = !begun.empty() && kOurs.starts_with(begun);
    if (ours ? ::ftruncate(fd_, line_start) != 0 : ::write(fd_, "\n", 1) != 1) return failure("cannot be written");
    return {};
  }
  std::unexpected<Error> failure(std::string_view what) const {
    const ErrorCode code = errno == ENOSPC || errno == EDQUOT ? ErrorCode::kUnavailable : ErrorCode::kIo;
    return error(code, fmt::format("{} {} ({})", path_, what, std::strerror(errno)));
  }

  const std::string path_;
  int fd_ = -1;
  bool regular_ = true;
  bool torn_ = false;  // open it anew, which looks at its end
};

class FileWorker final : public RouteWorker {
 public:
  FileWorker(const WorkerContext& context, const RouteSpec& route, std::uint64_t seed)
      : context_(context),
        route_(route.name),
        file_(route.path),
        delay_(context.options.retry_first_ms, kRetryMaxMs, seed) {}
  ~FileWorker() override {
    finish(0);
    join();
  }

  Result<> start() {
    if (auto opened = file_.open(); !opened) return opened;
    thread_ = std::thread([this] { run(); });
    return {};
  }
  void wake() override {
    {
      const std::scoped_lock lock(mutex_);
      woken_ = true;
    }
    changed_.notify_one();
  }
  void finish(std::int64_t deadline_ms) override {
    {
      const std::scoped_lock lock(mutex_);
      finishing_ = true;
      deadline_ms_ = deadline_ms;
    }
    changed_.notify_one();
  }
  void join() override {
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    int failures = 0;
    while (true) {
      const Result<std::size_t> moved = move_batch();
      const std::int64_t now_ms = context_.clock.now_ms();
      std::int64_t pause_ms = 0;
      if (!moved) {
        context_.log.retried(fmt::format("route '{}': {}", route_, moved.error().message));
        pause_ms = delay_.after_ms(++failures);
      } else {
        failures = 0;
        pause_ms = *moved > 0 ? 0 : kIdleMs;
      }
      std::unique_lock lock(mutex_);
      if (finishing_ && (now_ms >= deadline_ms_ || (moved && *moved == 0))) return;
      // After a failure only the end of the pause or of the patience counts: new alerts do not make room on a disk.
      const auto until = std::chrono::steady_clock::now() +
                         std::chrono::milliseconds(finishing_ ? std::min(pause_ms, deadline_ms_ - now_ms) : pause_ms);
      const bool failed = !moved;
      const bool was_finishing = finishing_;
      if (pause_ms > 0) {
        changed_.wait_until(lock, until, [&] { return (woken_ && !failed) || finishing_ != was_finishing; });
      }
      woken_ = false;
    }
  }

  // Returns how many were delivered.
  Result<std::size_t> move_batch() {
    if (!unrecorded_.empty()) {
      if (auto ok = record(); !ok) return std::unexpected(ok.error());
    }
    auto due = context_.ledger.due(route_, context_.clock.now_ms(), kBatch);
    if (!due) return std::unexpected(due.error());
    if (due->empty()) return 0;
    std::string lines;
    for (const Delivery& delivery : *due) lines.append(delivery.body).push_back('\n');
    if (auto ok = file_.append(lines); !ok) return std::unexpected(ok.error());
    const std::int64_t accepted_ns = steady_ns();
    for (const Delivery& delivery : *due) {
      context_.log.accepted();
      if (context_.options.on_accepted) context_.options.on_accepted(delivery, accepted_ns);
    }
    unrecorded_ = std::move(*due);
    const std::size_t count = unrecorded_.size();
    if (auto ok = record(); !ok) return std::unexpected(ok.error());
    return count;
  }

  Result<> record() {
    if (auto ok = context_.ledger.mark_all_sent(unrecorded_, context_.clock.now_ms()); !ok) return ok;
    unrecorded_.clear();
    return {};
  }

  const WorkerContext context_;
  const std::string route_;
  AppendedFile file_;
  RetryDelay delay_;
  std::vector<Delivery> unrecorded_;  // written, but the ledger could not be: not to be written again
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool finishing_ = false;
  std::int64_t deadline_ms_ = 0;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<RouteWorker>> start_file_worker(const WorkerContext& context, const RouteSpec& route,
                                                       std::uint64_t seed) {
  if (route.path.empty()) {
    return error(ErrorCode::kInvalidArgument, fmt::format("route '{}': a file route needs a path", route.name));
  }
  auto worker = std::make_unique<FileWorker>(context, route, seed);
  if (auto ok = worker->start(); !ok) {
    return error(ok.error().code, fmt::format("route '{}': {}", route.name, ok.error().message));
  }
  return worker;
}

}  // namespace alcedo::alert
