// Grows each tree over an index of its sample, which every cut parts in place.
#include "models/isolation_forest.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "core/check.h"

namespace alcedo::models {
namespace {

constexpr std::size_t kTreesMax = 10'000;
constexpr std::size_t kSampleRowsMax = 65'536;
constexpr double kEulerGamma = 0.57721566490153286061;

float clamp_infinite(float x) {
  return std::clamp(x, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
}

struct Cut {
  std::uint32_t column = 0;
  float threshold = 0;
  bool missing_left = false;
  bool missing_seen = false;
};

class TreeGrower {
 public:
  TreeGrower(std::span<const float> rows, std::size_t columns, std::uint32_t depth_max, TreeEnsembleSpec& spec)
      : rows_(rows), columns_(columns), depth_max_(depth_max), spec_(spec), order_(columns) {}

  void grow(std::vector<std::size_t> sample, Prng& random) {
    sample_ = std::move(sample);
    const std::size_t first = spec_.nodes.size();
    spec_.trees.push_back({static_cast<std::uint32_t>(first), 0});
    spec_.nodes.emplace_back();
    std::iota(order_.begin(), order_.end(), 0U);
    std::vector<Part> open = {{0, 0, sample_.size(), 0}};
    while (!open.empty()) {
      const Part part = open.back();
      open.pop_back();
      const std::size_t count = part.end - part.begin;
      spec_.nodes[first + part.node].cover = static_cast<float>(count);
      Cut cut;
      if (count < 2 || part.depth == depth_max_ || !draw_cut(part, random, cut)) {
        spec_.nodes[first + part.node].value =
            static_cast<float>(static_cast<double>(part.depth) + mean_path_length(count));
        continue;
      }
      const auto begin = sample_.begin() + static_cast<std::ptrdiff_t>(part.begin);
      const auto end = sample_.begin() + static_cast<std::ptrdiff_t>(part.end);
      const auto middle = std::stable_partition(begin, end, [&](std::size_t row) {
        const float x = value(row, cut.column);
        return std::isnan(x) ? cut.missing_left : x < cut.threshold;
      });
      const std::size_t at = part.begin + static_cast<std::size_t>(middle - begin);
      CHECK(at > part.begin && at < part.end);
      const auto child = static_cast<std::int32_t>(spec_.nodes.size() - first);
      TreeNode& node = spec_.nodes[first + part.node];
      node.threshold = cut.threshold;
      node.column = cut.column;
      node.left = child;
      node.right = child + 1;
      node.default_left = cut.missing_seen ? cut.missing_left : at - part.begin >= part.end - at;
      spec_.nodes.resize(spec_.nodes.size() + 2);
      open.push_back({static_cast<std::uint32_t>(child) + 1, at, part.end, part.depth + 1});
      open.push_back({static_cast<std::uint32_t>(child), part.begin, at, part.depth + 1});
    }
  }

 private:
  struct Part {
    std::uint32_t node;
    std::size_t begin, end;
    std::uint32_t depth;
  };

  float value(std::size_t row, std::uint32_t column) const { return clamp_infinite(rows_[row * columns_ + column]); }

  // Draws columns until one can be cut: each draw takes one out of those that are left.
  bool draw_cut(const Part& part, Prng& random, Cut& cut) {
    for (std::size_t left = columns_; left > 0; --left) {
      const std::size_t pick = random.below(left);
      std::swap(order_[pick], order_[left - 1]);
      const std::uint32_t column = order_[left - 1];
      float low = std::numeric_limits<float>::infinity(), high = -low;
      std::size_t missing = 0;
      for (std::size_t i = part.begin; i < part.end; ++i) {
        const float x = value(sample_[i], column);
        if (std::isnan(x)) {
          ++missing;
        } else {
          low = std::min(low, x);
          high = std::max(high, x);
        }
      }
      const bool present = missing < part.end - part.begin;
      if (!(missing > 0 && present) && !(low < high)) continue;
      cut.column = column;
      cut.missing_seen = missing > 0;
      if (missing > 0 && (!(low < high) || random.below(2) == 0)) {
        // All that is present goes right, the missing are alone on the left.
        cut.threshold = std::numeric_limits<float>::lowest();
        cut.missing_left = true;
        return true;
      }
      cut.missing_left = missing > 0 && random.below(2) == 0;
      cut.threshold = draw_threshold(low, high, random);
      return true;
    }
    return false;
  }

  // In (low, high], so that both sides have a row.
  static float draw_threshold(float low, float high, Prng& random) {
    const double range = static_cast<double>(high) - low;
    const auto drawn = static_cast<float>(low + random.uniform() * range);
    return std::clamp(drawn, std::nextafter(low, high), high);
  }

  std::span<const float> rows_;
  std::size_t columns_;
  std::uint32_t depth_max_;
  TreeEnsembleSpec& spec_;
  std::vector<std::uint32_t> order_;
  std::vector<std::size_t> sample_;
};

// Floyd's algorithm: `count` different rows below `rows`, in the order in which they were drawn.
std::vector<std::size_t> draw_rows(std::size_t rows, std::size_t count, Prng& random) {
  std::vector<std::size_t> drawn;
  std::unordered_set<std::size_t> taken;  // asked for members only: its order is not seen
  for (std::size_t last = rows - count; last < rows; ++last) {
    const std::size_t pick = random.below(last + 1);
    drawn.push_back(taken.insert(pick).second ? pick : last);
    if (drawn.back() == last) taken.insert(last);
  }
  return drawn;
}

}  // namespace

double mean_path_length(std::uint64_t n) {
  if (n <= 1) return 0;
  if (n == 2) return 1;
  const auto rows = static_cast<double>(n);
  return 2 * (std::log(rows - 1) + kEulerGamma) - 2 * (rows - 1) / rows;
}

Result<TreeEnsemble> IsolationForest::train(std::span<const float> rows, std::size_t columns, const Options& options) {
  const auto refuse = [](const std::string& what) {
    return error(ErrorCode::kInvalidArgument, "isolation forest: " + what);
  };
  if (columns == 0 || columns > TreeEnsemble::kColumnsMax) return refuse(fmt::format("{} columns", columns));
  if (rows.size() % columns != 0)
    return refuse(fmt::format("{} values are no rows of {} columns", rows.size(), columns));
  const std::size_t count = rows.size() / columns;
  if (count < 2) return refuse(fmt::format("{} rows; at least 2 are needed, 256 are better", count));
  if (options.trees == 0 || options.trees > kTreesMax)
    return refuse(fmt::format("{} trees; 1 to {} are possible", options.trees, kTreesMax));
  if (options.sample_rows < 2 || options.sample_rows > kSampleRowsMax)
    return refuse(fmt::format("samples of {} rows; 2 to {} are possible", options.sample_rows, kSampleRowsMax));
  const std::size_t sample = std::min(options.sample_rows, count);
  TreeEnsembleSpec spec;
  spec.columns = columns;
  spec.base = {0};
  spec.transform = TreeTransform::kPathLength;
  spec.factor = 1 / (static_cast<double>(options.trees) * mean_path_length(sample));
  // The mean depth of a full tree: below it nothing is strange.
  const auto depth_max = static_cast<std::uint32_t>(std::bit_width(sample - 1));
  TreeGrower grower(rows, columns, depth_max, spec);
  for (std::size_t t = 0; t < options.trees; ++t) {
    // A stream of its own, so that tree 7 is the same whatever the trees before it needed.
    Prng random(hash_combine(options.seed, t));
    grower.grow(draw_rows(count, sample, random), random);
  }
  return TreeEnsemble::create(std::move(spec));
}

RowReservoir::RowReservoir(std::size_t capacity, std::size_t columns, std::uint64_t seed)
    : capacity_(capacity), columns_(columns), random_(seed) {
  CHECK(capacity > 0 && columns > 0);
}

void RowReservoir::add(std::span<const float> row) {
  CHECK(row.size() == columns_);
  ++seen_;
  if (seen_ <= capacity_) {
    rows_.insert(rows_.end(), row.begin(), row.end());
    return;
  }
  const std::uint64_t place = random_.below(seen_);
  if (place < capacity_) std::ranges::copy(row, rows_.begin() + static_cast<std::ptrdiff_t>(place * columns_));
}

}  // namespace alcedo::models
