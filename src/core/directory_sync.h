// A file that is synced is not yet there after a power cut: its name is an entry of its folder, which is synced by
// itself.
#pragma once

#include <string>

#include "core/result.h"

namespace alcedo {

/// Makes the names in a folder survive a power cut: what was created, renamed or removed in it. Some file systems do so
/// when the named file is synced; POSIX promises it only of this. Threads: any. Cost: an open and an fsync, which is a
/// transaction of the file system: milliseconds, so once for each new name and never a record. Errors: kIo naming the
/// folder; kUnavailable: its disk is full.
Result<> sync_directory(const std::string& directory);

/// sync_directory() of the folder that holds `path`.
Result<> sync_parent_directory(const std::string& path);

/// Creates a folder and those above it that are missing; what was created survives a power cut. Nothing is synced where
/// nothing was missing. Threads, Errors: as above.
Result<> create_directories_durably(const std::string& directory);

}  // namespace alcedo
