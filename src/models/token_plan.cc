// Learns bins at quantiles, beside values that are heavy by themselves, and looks numbers up without branches.
#include "models/token_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::models {
namespace {

constexpr const char* kGapName = "(time since the last event)";

/// Edges of sorted finite values. Heavy values are cut out first, so that quantiles are spent on what is left.
std::vector<float> quantile_edges(std::span<const float> sorted, std::size_t edges_max) {
  if (sorted.empty()) return {};
  struct Run {
    float value;
    std::size_t count;
  };
  std::vector<Run> runs;
  for (const float x : sorted) {
    if (runs.empty() || runs.back().value != x) runs.push_back({x, 0});
    ++runs.back().count;
  }
  // One bin a value where there are few: flags, small counts.
  std::vector<float> edges;
  if (runs.size() <= edges_max + 1) {
    for (std::size_t i = 1; i < runs.size(); ++i) {
      if (std::isfinite(runs[i].value)) edges.push_back(runs[i].value);
    }
    return edges;
  }
  // A heavy value takes two edges: at it and just above it. At most half of the edges go to them.
  const std::size_t heavy_from = std::max<std::size_t>(2, sorted.size() / (edges_max + 1));
  std::vector<Run> heavy;
  for (const Run& run : runs) {
    if (run.count >= heavy_from) heavy.push_back(run);
  }
  std::sort(heavy.begin(), heavy.end(),
            [](const Run& a, const Run& b) { return a.count != b.count ? a.count > b.count : a.value < b.value; });
  heavy.resize(std::min(heavy.size(), edges_max / 4));
  std::sort(heavy.begin(), heavy.end(), [](const Run& a, const Run& b) { return a.value < b.value; });
  for (const Run& run : heavy) {
    edges.push_back(run.value);
    edges.push_back(std::nextafter(run.value, std::numeric_limits<float>::infinity()));
  }
  std::vector<float> rest;
  for (const Run& run : runs) {
    const bool is_heavy = std::any_of(heavy.begin(), heavy.end(), [&](const Run& h) { return h.value == run.value; });
    if (!is_heavy) rest.insert(rest.end(), run.count, run.value);
  }
  const std::size_t quantiles = edges_max - edges.size();
  for (std::size_t i = 1; i <= quantiles && !rest.empty(); ++i)
    edges.push_back(rest[i * rest.size() / (quantiles + 1)]);
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  // An edge at or below all values would cut off an empty bin, and infinity bounds nothing.
  std::erase_if(edges, [&](float e) { return !std::isfinite(e) || e <= sorted.front(); });
  return edges;
}

/// Edges evenly spaced in the logarithm, from 1 ms or the shortest gap that is no outlier to the longest such.
std::vector<float> gap_edges_of(std::span<const std::int64_t> gaps_ms, std::size_t edges_max) {
  std::vector<std::int64_t> gaps;
  for (const std::int64_t gap : gaps_ms) {
    if (gap > 0) gaps.push_back(gap);
  }
  if (gaps.empty()) return {1.0F};
  std::sort(gaps.begin(), gaps.end());
  const auto low = static_cast<double>(gaps[gaps.size() / 1000]);
  const auto high = static_cast<double>(gaps[gaps.size() - 1 - gaps.size() / 1000]);
  // Below a factor of 1.05 a bin would tell clocks' noise from clocks' noise.
  const std::size_t spaced = edges_max - 1;
  const double factor = std::max(std::pow(high / low, 1.0 / static_cast<double>(spaced - 1)), 1.05);
  std::vector<float> edges{0x1p-1F};  // not positive below, in whole milliseconds
  // The powers are of a rounded ratio and multiplied up, so that a bin's edge does not depend on a library's pow().
  const auto ratio = static_cast<double>(static_cast<float>(factor));
  double at = low;
  for (std::size_t i = 0; i < spaced; ++i, at *= ratio) {
    // Half a step below, so that the most regular gap is in the middle of its bin.
    const auto edge = static_cast<float>(at / std::sqrt(ratio));
    if (edge > edges.back()) edges.push_back(edge);
    if (at > high * ratio) break;
  }
  return edges;
}

}  // namespace

Result<TokenPlan> TokenPlan::create(std::vector<Field> columns, std::vector<float> gap_edges) {
  if (columns.empty() || columns.size() > kColumnsMax) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("a token plan has 1 to {} columns, not {}", kColumnsMax, columns.size()));
  }
  TokenPlan plan;
  plan.fields_ = std::move(columns);
  for (std::size_t f = 0; f < plan.fields_.size(); ++f) {
    const std::string& name = plan.fields_[f].name;
    const bool taken = std::any_of(plan.fields_.begin(), plan.fields_.begin() + static_cast<std::ptrdiff_t>(f),
                                   [&](const Field& other) { return other.name == name; });
    if (name.empty() || name.size() > 1000 || name.find('\n') != std::string::npos ||
        name.find('\0') != std::string::npos || taken) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("column {} of a token plan needs a name of its own, of one line", f));
    }
  }
  plan.fields_.push_back({kGapName, std::move(gap_edges)});
  plan.first_bin_.push_back(0);
  std::uint64_t fingerprint = hash64("token plan 1");
  for (const Field& field : plan.fields_) {
    if (field.edges.size() > kEdgesMax) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("'{}' has {} edges; a field has at most {}", field.name, field.edges.size(), kEdgesMax));
    }
    Edges padded;
    padded.at.fill(std::numeric_limits<float>::quiet_NaN());
    fingerprint = hash_combine(fingerprint, hash64(field.name));
    for (std::size_t i = 0; i < field.edges.size(); ++i) {
      const float edge = field.edges[i];
      if (!std::isfinite(edge) || (i > 0 && !(edge > field.edges[i - 1]))) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("edges of '{}' must be finite and ascend: see edge {}", field.name, i));
      }
      padded.at[i] = edge;
      fingerprint = hash_combine(fingerprint, std::bit_cast<std::uint32_t>(edge == 0 ? 0.0F : edge));
    }
    plan.edges_.push_back(padded);
    plan.first_bin_.push_back(plan.first_bin_.back() + field.edges.size() + 2);
  }
  plan.fingerprint_ = fingerprint;
  return plan;
}

Result<TokenPlan> TokenPlan::learn(std::span<const std::string> names, std::span<const float> rows,
                                   std::span<const std::int64_t> gaps_ms, std::size_t bins_max) {
  if (bins_max < 4 || bins_max > kBinsMax) {
    return error(ErrorCode::kInvalidArgument, fmt::format("a field has 4 to {} bins, not {}", kBinsMax, bins_max));
  }
  if (names.empty() || rows.empty() || rows.size() % names.size() != 0) {
    return error(ErrorCode::kInvalidArgument, "bins are learnt from at least one row of at least one column");
  }
  std::vector<Field> columns;
  std::vector<float> values;
  for (std::size_t column = 0; column < names.size(); ++column) {
    values.clear();
    for (std::size_t i = column; i < rows.size(); i += names.size()) {
      if (!std::isnan(rows[i])) values.push_back(rows[i]);
    }
    std::sort(values.begin(), values.end());
    columns.push_back({names[column], quantile_edges(values, bins_max - 2)});
  }
  return create(std::move(columns), gap_edges_of(gaps_ms, bins_max - 2));
}

std::uint8_t TokenPlan::bin(std::size_t f, float x) const {
  if (std::isnan(x)) return 0;
  unsigned count = 1;
  for (const float edge : edges_[f].at) count += edge <= x ? 1U : 0U;
  return static_cast<std::uint8_t>(count);
}

void TokenPlan::tokenize(std::span<const float> columns, std::int64_t gap_ms, std::span<std::uint8_t> token) const {
  const std::size_t gap = fields_.size() - 1;
  CHECK(columns.size() == gap && token.size() == fields_.size());
  for (std::size_t f = 0; f < gap; ++f) token[f] = bin(f, columns[f]);
  token[gap] = gap_ms == kNoGap ? 0 : bin(gap, static_cast<float>(gap_ms));
}

std::string TokenPlan::describe(std::size_t field, std::size_t bin) const {
  const std::vector<float>& edges = fields_[field].edges;
  if (bin == 0) return field + 1 == fields_.size() ? "first event" : "missing";
  if (edges.empty()) return "any";
  if (bin == 1) return fmt::format("< {}", edges.front());
  if (bin > edges.size()) return fmt::format(">= {}", edges.back());
  if (edges[bin - 1] == std::nextafter(edges[bin - 2], std::numeric_limits<float>::infinity()))
    return fmt::format("{}", edges[bin - 2]);
  return fmt::format("{} to {}", edges[bin - 2], edges[bin - 1]);
}

}  // namespace alcedo::models
