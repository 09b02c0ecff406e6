// Everything follows from one sorted pass: bins of equal score with their counts of anomalies and normal rows. The
// bootstrap resamples those counts instead of rows, which is the same experiment at a fraction of the work.
#include "evaluate/curves.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/check.h"
#include "core/prng.h"

namespace alcedo::evaluate {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kExactDraws = 20'000;
constexpr std::size_t kBinsExact = 20'000;

struct Bin {
  float score = 0;
  std::uint64_t positives = 0;
  std::uint64_t negatives = 0;
};

// Unsigned order of the result is the order of the scores; NaN comes first, -0 equals 0.
std::uint32_t sort_key(float score) {
  if (std::isnan(score)) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(score == 0 ? 0.0F : score);
  return (bits & 0x8000'0000U) != 0 ? ~bits : bits | 0x8000'0000U;
}

float score_of_key(std::uint32_t key) {
  if (key == 0) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>((key & 0x8000'0000U) != 0 ? key & 0x7FFF'FFFFU : ~key);
}

// Highest score first.
std::vector<Bin> make_bins(std::span<const float> scores, std::span<const std::uint8_t> positive) {
  std::vector<std::uint64_t> rows(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    rows[i] = (std::uint64_t{sort_key(scores[i])} << 1) | (positive[i] != 0 ? 1U : 0U);
  }
  std::ranges::sort(rows, std::greater<>());
  std::vector<Bin> bins;
  std::uint64_t last = ~std::uint64_t{0};
  for (const std::uint64_t row : rows) {
    if (row >> 1 != last) {
      last = row >> 1;
      bins.push_back({score_of_key(static_cast<std::uint32_t>(last)), 0, 0});
    }
    ((row & 1) != 0 ? bins.back().positives : bins.back().negatives) += 1;
  }
  return bins;
}

struct Summary {
  double pr_auc = 0;
  double roc_auc = 0;
  std::array<double, kFprMax.size()> tpr{};
};

// positives and negatives by bin, highest score first. Without a class: NaN where it is needed.
template <typename PositivesOf, typename NegativesOf>
Summary summarise(std::size_t bins, PositivesOf positives_of, NegativesOf negatives_of) {
  double positives_all = 0, negatives_all = 0;
  for (std::size_t i = 0; i < bins; ++i) {
    positives_all += positives_of(i);
    negatives_all += negatives_of(i);
  }
  Summary result;
  double tp = 0, fp = 0, average_precision = 0, area = 0;
  for (std::size_t i = 0; i < bins; ++i) {
    const double p = positives_of(i), n = negatives_of(i);
    area += n * (tp + p / 2);
    tp += p;
    fp += n;
    if (p > 0) average_precision += p * tp / (tp + fp);
    for (std::size_t k = 0; k < kFprMax.size(); ++k) {
      if (fp <= kFprMax[k] * negatives_all) result.tpr[k] = tp / positives_all;
    }
  }
  result.pr_auc = positives_all > 0 ? average_precision / positives_all : kNan;
  result.roc_auc = positives_all > 0 && negatives_all > 0 ? area / (positives_all * negatives_all) : kNan;
  if (positives_all == 0 || negatives_all == 0) result.tpr.fill(kNan);
  return result;
}

// Runs of bins without a positive are one bin to every number that is reported: recall does not change inside them.
std::vector<Bin> merge_for_bootstrap(const std::vector<Bin>& bins, bool& approximate) {
  std::vector<Bin> merged;
  for (const Bin& bin : bins) {
    if (bin.positives == 0 && !merged.empty() && merged.back().positives == 0) {
      merged.back().negatives += bin.negatives;
    } else {
      merged.push_back(bin);
    }
  }
  approximate = merged.size() > kBinsExact;
  if (!approximate) return merged;
  std::vector<Bin> coarse;
  std::uint64_t rank = 0, limit = 0;
  for (const Bin& bin : merged) {
    if (coarse.empty() || rank >= limit) {
      coarse.push_back({bin.score, 0, 0});
      limit = rank + std::max<std::uint64_t>(1, rank / 2000);
    }
    coarse.back().positives += bin.positives;
    coarse.back().negatives += bin.negatives;
    rank += bin.positives + bin.negatives;
  }
  return coarse;
}

double draw_poisson(Prng& prng, double mean) {
  if (mean <= 0) return 0;
  if (mean > 64) return std::max(0.0, std::round(mean + std::sqrt(mean) * prng.normal()));
  double probability = std::exp(-mean), left = prng.uniform();
  double count = 0;
  while (left >= probability && count < 400) {
    left -= probability;
    count += 1;
    probability *= mean / count;
  }
  return count;
}

// One class's resampled count in each bin.
class Resampler {
 public:
  explicit Resampler(std::vector<std::uint64_t> counts) : counts_(std::move(counts)), drawn_(counts_.size()) {
    for (const std::uint64_t count : counts_) total_ += count;
    if (total_ > kExactDraws) return;
    bin_of_.reserve(total_);
    for (std::size_t i = 0; i < counts_.size(); ++i)
      bin_of_.insert(bin_of_.end(), counts_[i], static_cast<std::uint32_t>(i));
  }

  void draw(Prng& prng) {
    std::ranges::fill(drawn_, 0.0);
    if (total_ <= kExactDraws) {
      for (std::uint64_t i = 0; i < total_; ++i) drawn_[bin_of_[prng.below(total_)]] += 1;
      return;
    }
    for (std::size_t i = 0; i < counts_.size(); ++i) drawn_[i] = draw_poisson(prng, static_cast<double>(counts_[i]));
  }
  double operator[](std::size_t bin) const { return drawn_[bin]; }

 private:
  std::vector<std::uint64_t> counts_;
  std::vector<std::uint32_t> bin_of_;
  std::vector<double> drawn_;
  std::uint64_t total_ = 0;
};

double quantile(std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Interval percentiles(std::vector<double>& values, double shift, double low, double high) {
  std::ranges::sort(values);
  return {std::clamp(quantile(values, 0.025) + shift, low, high),
          std::clamp(quantile(values, 0.975) + shift, low, high)};
}

void add_intervals(const std::vector<Bin>& bins, const CurveOptions& options, Curves& curves) {
  curves.pr_auc_interval = curves.roc_auc_interval = {kNan, kNan};
  curves.tpr_interval.fill({kNan, kNan});
  if (options.resamples == 0 || curves.positives == 0 || curves.negatives == 0) return;
  bool approximate = false;
  const std::vector<Bin> merged = merge_for_bootstrap(bins, approximate);
  std::vector<std::uint64_t> positives, negatives;
  for (const Bin& bin : merged) {
    positives.push_back(bin.positives);
    negatives.push_back(bin.negatives);
  }
  const auto as_double = [](const std::vector<std::uint64_t>& counts) {
    return [&counts](std::size_t i) { return static_cast<double>(counts[i]); };
  };
  const Summary centre = summarise(merged.size(), as_double(positives), as_double(negatives));
  Resampler positive(positives), negative(negatives);
  Prng prng(options.seed);
  std::vector<double> pr, roc;
  std::array<std::vector<double>, kFprMax.size()> tpr;
  for (std::size_t r = 0; r < options.resamples; ++r) {
    positive.draw(prng);
    negative.draw(prng);
    const Summary one = summarise(
        merged.size(), [&](std::size_t i) { return positive[i]; }, [&](std::size_t i) { return negative[i]; });
    pr.push_back(one.pr_auc);
    roc.push_back(one.roc_auc);
    for (std::size_t k = 0; k < tpr.size(); ++k) tpr[k].push_back(one.tpr[k]);
  }
  const double scale = approximate ? 1 : 0;
  curves.pr_auc_interval = percentiles(pr, scale * (curves.pr_auc - centre.pr_auc), 0, 1);
  curves.roc_auc_interval = percentiles(roc, scale * (curves.roc_auc - centre.roc_auc), 0, 1);
  for (std::size_t k = 0; k < tpr.size(); ++k) {
    curves.tpr_interval[k] = percentiles(tpr[k], scale * (curves.at_fpr[k].tpr - centre.tpr[k]), 0, 1);
  }
}

// A plot shows steps of half a percent of recall and of a thirtieth of a decade of FPR; nothing finer is kept.
void add_points(const std::vector<Bin>& bins, const CurveOptions& options, Curves& curves) {
  const auto positives = static_cast<double>(curves.positives), negatives = static_cast<double>(curves.negatives);
  const double recall_step = 1.0 / (static_cast<double>(options.points_max) / 2);
  const double decade_step = 6.0 / (static_cast<double>(options.points_max) / 2);
  curves.points.push_back({kInfinity, 0, 0, kNan});
  double tp = 0, fp = 0, kept_tpr = 0, kept_decade = -6;
  for (std::size_t i = 0; i < bins.size(); ++i) {
    tp += static_cast<double>(bins[i].positives);
    fp += static_cast<double>(bins[i].negatives);
    const double tpr = positives > 0 ? tp / positives : 0, fpr = negatives > 0 ? fp / negatives : 0;
    const double decade = fpr > 1e-6 ? std::log10(fpr) : -6;
    if (i > 0 && i + 1 < bins.size() && tpr - kept_tpr < recall_step && decade - kept_decade < decade_step) continue;
    kept_tpr = tpr;
    kept_decade = decade;
    const double threshold = std::isnan(bins[i].score) ? -kInfinity : bins[i].score;
    curves.points.push_back({threshold, tpr, fpr, tp / (tp + fp)});
  }
}

}  // namespace

Curves compute_curves(std::span<const float> scores, std::span<const std::uint8_t> positive,
                      const CurveOptions& options) {
  CHECK(scores.size() == positive.size());
  const std::vector<Bin> bins = make_bins(scores, positive);
  Curves curves;
  for (const Bin& bin : bins) {
    curves.positives += bin.positives;
    curves.negatives += bin.negatives;
    if (std::isnan(bin.score)) curves.abstained += bin.positives + bin.negatives;
  }
  const Summary whole = summarise(
      bins.size(), [&](std::size_t i) { return static_cast<double>(bins[i].positives); },
      [&](std::size_t i) { return static_cast<double>(bins[i].negatives); });
  curves.pr_auc = whole.pr_auc;
  curves.roc_auc = whole.roc_auc;
  const auto positives = static_cast<double>(curves.positives), negatives = static_cast<double>(curves.negatives);
  for (std::size_t k = 0; k < kFprMax.size(); ++k) {
    OperatingPoint& best = curves.at_fpr[k] = {kInfinity, 0, 0, kNan};
    if (curves.positives == 0 || curves.negatives == 0) {
      best.tpr = best.fpr = kNan;
      continue;
    }
    double tp = 0, fp = 0;
    for (const Bin& bin : bins) {
      tp += static_cast<double>(bin.positives);
      fp += static_cast<double>(bin.negatives);
      if (fp > kFprMax[k] * negatives) break;
      // An abstention is not evidence: it is never flagged, whatever the rate would allow.
      if (std::isnan(bin.score)) break;
      if (tp / positives > best.tpr) best = {bin.score, tp / positives, fp / negatives, tp / (tp + fp)};
    }
  }
  add_intervals(bins, options, curves);
  add_points(bins, options, curves);
  return curves;
}

Interval ratio_interval(std::uint64_t both, std::uint64_t a_only, std::uint64_t b_only, std::uint64_t neither,
                        const CurveOptions& options) {
  if (options.resamples == 0 || both + b_only == 0) return {kNan, kNan};
  Resampler cells({both, a_only, b_only, neither});
  Prng prng(options.seed);
  std::vector<double> ratios;
  for (std::size_t r = 0; r < options.resamples; ++r) {
    cells.draw(prng);
    const double b = cells[0] + cells[2];
    ratios.push_back(b > 0 ? (cells[0] + cells[1]) / b - 1 : kInfinity);
  }
  std::ranges::sort(ratios);
  const auto at = [&](double share) {
    return ratios[static_cast<std::size_t>(std::lround(share * static_cast<double>(ratios.size() - 1)))];
  };
  return {at(0.025), at(0.975)};
}

}  // namespace alcedo::evaluate
