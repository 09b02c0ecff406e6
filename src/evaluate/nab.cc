// Rewards and charges depend on the series alone, so each row's is computed once; a sweep from the highest score down
// then visits every threshold of all series together.
#include "evaluate/nab.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace alcedo::evaluate {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr std::array<NabPublished, 15> kPublished{{{"Perfect", {100.0, 100.0, 100.0}},
                                                   {"ARTime", {74.9, 65.1, 80.4}},
                                                   {"Numenta HTM", {70.1, 63.1, 74.3}},
                                                   {"CAD OSE", {69.9, 67.0, 73.2}},
                                                   {"Numenta HTM (Java)", {65.5, 53.3, 70.4}},
                                                   {"earthgecko Skyline", {58.2, 46.2, 63.9}},
                                                   {"KNN CAD", {58.0, 43.4, 64.8}},
                                                   {"Relative Entropy", {54.6, 47.6, 58.8}},
                                                   {"Random Cut Forest", {51.7, 38.4, 59.7}},
                                                   {"Twitter ADVec", {47.1, 33.6, 53.5}},
                                                   {"Windowed Gaussian", {39.6, 20.9, 47.4}},
                                                   {"Etsy Skyline", {35.7, 27.1, 44.5}},
                                                   {"Bayesian Changepoint", {17.7, 3.2, 32.2}},
                                                   {"EXPoSE", {16.4, 3.2, 26.9}},
                                                   {"Random", {11.0, 1.2, 19.5}}}};

struct Ranked {
  double score;
  double weight;
  std::int32_t window;
};

}  // namespace

std::span<const NabPublished> nab_published() { return kPublished; }

double nab_sigmoid(double relative_position) {
  if (relative_position >= 3.0) return -1.0;
  return 2.0 / (1.0 + std::exp(5.0 * relative_position)) - 1.0;
}

std::size_t NabScorer::probation_rows(std::size_t rows) {
  // 0.15 as NAB computes it, in doubles: 0.15 x 5000 is 750.
  return static_cast<std::size_t>(std::min(std::floor(0.15 * static_cast<double>(rows)), 750.0));
}

std::uint64_t NabScorer::rows() const {
  std::uint64_t rows = 0;
  for (const Prepared& series : series_) rows += series.rows.size();
  return rows;
}

Result<> NabScorer::add(const NabSeries& series) {
  Prepared prepared;
  prepared.name = series.name;
  prepared.probation = probation_rows(series.times_ms.size());
  const std::size_t rows = series.times_ms.size();
  // A window reaches from the first row at its start to the first row at its end, so that a repeated hour (clocks set
  // back) opens and closes it where NAB does.
  struct Edges {
    std::size_t first, last;
  };
  std::vector<Edges> edges;
  std::size_t from = 0;
  for (const NabSeries::Window& window : series.windows) {
    std::size_t first = from;
    while (first < rows && series.times_ms[first] < window.first_ms) ++first;
    std::size_t last = first;
    while (last < rows && series.times_ms[last] != window.last_ms &&
           (last + 1 < rows && series.times_ms[last + 1] <= window.last_ms)) {
      ++last;
    }
    if (first == rows || series.times_ms[first] > window.last_ms) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: window {} ({} to {}) has no row of its own; expected windows in order that do not overlap",
                      series.name, edges.size() + 1, window.first_ms, window.last_ms));
    }
    edges.push_back({first, last});
    from = last + 1;
  }
  const double reward_max = nab_sigmoid(-1.0);
  prepared.rows.resize(rows);
  std::size_t next = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    while (next < edges.size() && i > edges[next].last) ++next;
    Row& row = prepared.rows[i];
    if (next < edges.size() && i >= edges[next].first) {
      const auto width = static_cast<double>(edges[next].last - edges[next].first + 1);
      row.weight = nab_sigmoid(-static_cast<double>(edges[next].last - i + 1) / width) / reward_max;
      row.window = windows_all_ + static_cast<std::int32_t>(next);
      continue;
    }
    double past = 3.0;
    if (next > 0 && edges[next - 1].last > edges[next - 1].first) {
      const Edges& before = edges[next - 1];
      past = static_cast<double>(i - before.last) / static_cast<double>(before.last - before.first);
    }
    row.weight = nab_sigmoid(past);
  }
  for (const Edges& window : edges) prepared.windows += window.last >= prepared.probation;
  windows_counted_ += prepared.windows;
  windows_all_ += static_cast<std::int32_t>(edges.size());
  series_.push_back(std::move(prepared));
  return {};
}

Result<std::array<NabScore, kNabProfiles.size()>> NabScorer::score(std::span<const std::vector<double>> scores) const {
  if (scores.size() != series_.size()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("scores of {} series, expected {}", scores.size(), series_.size()));
  }
  std::vector<Ranked> ranked;
  ranked.reserve(rows());
  for (std::size_t s = 0; s < series_.size(); ++s) {
    const Prepared& series = series_[s];
    if (scores[s].size() != series.rows.size()) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: {} scores, expected {}", series.name, scores[s].size(), series.rows.size()));
    }
    for (std::size_t i = series.probation; i < series.rows.size(); ++i) {
      if (!std::isnan(scores[s][i])) ranked.push_back({scores[s][i], series.rows[i].weight, series.rows[i].window});
    }
  }
  // Ties have an order too: it cannot matter to the result, but it does to the last bit of a floating sum.
  std::ranges::sort(ranked, {}, [](const Ranked& row) { return std::tuple(-row.score, row.window, row.weight); });

  std::array<NabScore, kNabProfiles.size()> results;
  const auto windows = static_cast<double>(windows_counted_);
  for (std::size_t p = 0; p < kNabProfiles.size(); ++p) {
    const NabProfile& profile = kNabProfiles[p];
    std::vector<double> earned(static_cast<std::size_t>(windows_all_), -profile.fn_weight);
    double raw = -profile.fn_weight * windows;
    std::uint64_t detected = 0, false_positives = 0;
    NabScore& best = results[p] = {0, kInfinity, raw, 0, 0};
    for (std::size_t i = 0; i < ranked.size(); ++i) {
      const Ranked& row = ranked[i];
      if (row.window < 0) {
        raw += row.weight * profile.fp_weight;
        ++false_positives;
      } else {
        double& so_far = earned[static_cast<std::size_t>(row.window)];
        const double reward = row.weight * profile.tp_weight;
        if (so_far == -profile.fn_weight) ++detected;
        if (reward > so_far) {
          raw += reward - so_far;
          so_far = reward;
        }
      }
      const bool ends_threshold = i + 1 == ranked.size() || ranked[i + 1].score != row.score;
      if (ends_threshold && raw > best.raw) best = {0, row.score, raw, detected, false_positives};
    }
    const double null = -profile.fn_weight * windows, perfect = profile.tp_weight * windows;
    best.score = windows > 0 ? 100.0 * (best.raw - null) / (perfect - null) : 0;
  }
  return results;
}

NabScorer::SeriesScore NabScorer::score_series(std::size_t index, std::span<const double> scores, double threshold,
                                               const NabProfile& profile) const {
  const Prepared& series = series_[index];
  SeriesScore result;
  result.windows = series.windows;
  result.raw = -profile.fn_weight * static_cast<double>(series.windows);
  std::int32_t last_window = -1;
  for (std::size_t i = series.probation; i < series.rows.size() && i < scores.size(); ++i) {
    if (!(scores[i] >= threshold)) continue;
    const Row& row = series.rows[i];
    if (row.window < 0) {
      result.raw += row.weight * profile.fp_weight;
      ++result.false_positives;
    } else if (row.window != last_window) {  // rows come in order: the first detection is the best paid
      last_window = row.window;
      result.raw += profile.fn_weight + row.weight * profile.tp_weight;
      ++result.windows_detected;
    }
  }
  return result;
}

}  // namespace alcedo::evaluate
