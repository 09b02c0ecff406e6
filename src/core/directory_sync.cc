// Through a descriptor of the folder itself, the one way that POSIX gives.
#include "core/directory_sync.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

namespace alcedo {
namespace {

std::string parent_of(const std::filesystem::path& path) {
  const auto parent = path.parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

Result<> sync_directory(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // EINVAL: a file system that has nothing to sync in a folder.
  const bool synced = fd >= 0 && (::fsync(fd) == 0 || errno == EINVAL);
  const int why = errno;
  if (fd >= 0) ::close(fd);
  if (synced) return {};
  return error(why == ENOSPC || why == EDQUOT ? ErrorCode::kUnavailable : ErrorCode::kIo,
               directory + ": the folder cannot be synced: " + std::strerror(why));
}

Result<> sync_parent_directory(const std::string& path) { return sync_directory(parent_of(path)); }

Result<> create_directories_durably(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code failed;
  // "a/b/" names the same folder as "a/b".
  fs::path at = fs::path(directory).lexically_normal();
  if (!at.has_filename()) at = at.parent_path();
  std::vector<fs::path> missing;  // the deepest first
  for (; !at.empty() && !fs::exists(at, failed) && !failed; at = at.parent_path()) missing.push_back(at);
  if (!failed) fs::create_directories(directory, failed);
  if (failed) return error(ErrorCode::kIo, directory + ": cannot create the folder: " + failed.message());
  for (const auto& made : missing) {
    if (auto synced = sync_directory(parent_of(made)); !synced) return synced;
  }
  return {};
}

}  // namespace alcedo
