// Tells the two kinds of files apart.
#include "models/boosted_import.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

namespace alcedo::models {
namespace {

constexpr std::uint64_t kFileBytesMax = 1ULL << 30;

}  // namespace

float float_bound(double threshold) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  if (threshold >= kLargest) return std::numeric_limits<float>::infinity();
  // Only -infinity is below, and that is <= every threshold.
  if (threshold < -static_cast<double>(kLargest)) return -kLargest;
  const auto nearest = static_cast<float>(threshold);
  return static_cast<double>(nearest) > threshold ? nearest
                                                  : std::nextafter(nearest, std::numeric_limits<float>::infinity());
}

Result<BoostedModel> import_boosted(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) {
    const int fault = errno;
    return error(fault == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                 fmt::format("{}: {}", path, std::strerror(fault)));
  }
  const std::streamoff size = in.tellg();
  if (size < 0 || static_cast<std::uint64_t>(size) > kFileBytesMax) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: {} bytes; a model has at most {}", path,
                                                          static_cast<std::int64_t>(size), kFileBytesMax));
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  in.seekg(0);
  if (!in.read(bytes.data(), size)) return error(ErrorCode::kIo, fmt::format("{}: cannot be read", path));
  if (bytes.starts_with('{')) return import_xgboost(bytes, path);
  if (bytes.starts_with("tree")) return import_lightgbm(bytes, path);
  return error(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: neither XGBoost's JSON (begins with '{{') nor LightGBM's text (begins with 'tree')", path));
}

}  // namespace alcedo::models
