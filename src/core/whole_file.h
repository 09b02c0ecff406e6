// Files that are read or written whole: models, bundles.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace alcedo {

enum class Links : std::uint8_t { kFollow, kRefuse };

/// The bytes of a regular file. Threads: any. Errors: kNotFound; kCorrupt: no regular file, larger than bytes_max, or a
/// link that is refused; kIo. All name the path.
Result<std::string> read_whole_file(const std::string& path, std::uint64_t bytes_max, Links links = Links::kFollow);

/// Writes beside `path`, syncs, renames, and syncs the folder: a reader, also one after a power cut, sees the old file
/// or the new one, whole. A link at `path` is replaced, not followed. Threads: any, one a path. Cost: two syncs.
/// Errors: kIo naming the path.
Result<> write_whole_file(const std::string& path, std::string_view bytes);

}  // namespace alcedo
