// One place for the loops around read() and write(), which each may stop half way.
#include "core/whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/directory_sync.h"

namespace alcedo {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Result<std::string> read_whole_file(const std::string& path, std::uint64_t bytes_max, Links links) {
  // Without waiting: a pipe in a file's place would wait for a writer.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::kRefuse ? O_NOFOLLOW : 0);
  const Descriptor file(::open(path.c_str(), flags));
  if (file.get() < 0) {
    const int fault = errno;
    if (fault == ELOOP) return error(ErrorCode::kCorrupt, path + ": is a link; expected a file");
    return error(fault == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, path + ": " + std::strerror(fault));
  }
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return error(ErrorCode::kIo, path + ": " + std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return error(ErrorCode::kCorrupt, path + ": is no regular file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > bytes_max) {
    return error(ErrorCode::kCorrupt,
                 path + ": " + std::to_string(size) + " bytes; at most " + std::to_string(bytes_max) + " are expected");
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return error(ErrorCode::kIo, path + ": " + (n < 0 ? std::strerror(errno) : "became shorter while it was read"));
    }
    done += static_cast<std::size_t>(n);
  }
  return bytes;
}

Result<> write_whole_file(const std::string& path, std::string_view bytes) {
  const std::string beside = path + ".tmp";
  const auto fail = [&](const char* doing) {
    const int fault = errno;
    ::unlink(beside.c_str());
    return error(ErrorCode::kIo, path + ": cannot be " + doing + ": " + std::strerror(fault));
  };
  {
    const Descriptor file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (file.get() < 0) return fail("made");
    while (!bytes.empty()) {
      const ssize_t n = ::write(file.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return fail("written");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    if (::fsync(file.get()) != 0) return fail("synced");
  }
  if (::rename(beside.c_str(), path.c_str()) != 0) return fail("renamed");
  return sync_parent_directory(path);
}

}  // namespace alcedo
