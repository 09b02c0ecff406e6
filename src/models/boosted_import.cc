// Tells the two kinds of files apart.
#include "models/boosted_import.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "core/whole_file.h"

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
  const auto bytes = read_whole_file(path, kFileBytesMax);
  if (!bytes) return std::unexpected(bytes.error());
  if (bytes->starts_with('{')) return import_xgboost(*bytes, path);
  if (bytes->starts_with("tree")) return import_lightgbm(*bytes, path);
  return error(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: neither XGBoost's JSON (begins with '{{') nor LightGBM's text (begins with 'tree')", path));
}

}  // namespace alcedo::models
