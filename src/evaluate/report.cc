// Rows are kept as columns of floats: everything below is a pass or a sort over one of them.
#include "evaluate/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>

#include "core/check.h"
#include "evaluate/windowed_gaussian.h"

namespace alcedo::evaluate {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kHistogramBins = 60;
constexpr std::size_t kIdBytesMax = 120;
constexpr std::size_t kTextBytesMax = 400;
constexpr std::uint64_t kReasonsMax = 200'000;
constexpr std::uint32_t kNoEpisode = ~std::uint32_t{0};
constexpr std::string_view kEnsemble = "ensemble";

double share(double part, double whole) { return whole > 0 ? part / whole : kNan; }

float larger(float a, float b) {  // NaN is "no opinion"
  if (std::isnan(a)) return b;
  if (std::isnan(b)) return a;
  return std::max(a, b);
}

bool flags(float score, const OperatingPoint& point) { return static_cast<double>(score) >= point.threshold; }

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return kNan;
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, values.begin() + at);
  return values[static_cast<std::size_t>(at)];
}

}  // namespace

ReportBuilder::ReportBuilder(ReportOptions options)
    : options_(std::move(options)), columns_(options_.detectors.size() + 1 + options_.score_types.size()) {
  intern("");
}

Result<ReportBuilder> ReportBuilder::create(ReportOptions options) {
  std::set<std::string> seen{"ensemble", "fired", "incidents", "windowed_gaussian"};
  for (const DetectorColumn& detector : options.detectors) {
    if (!seen.insert(detector.name).second) {
      return error(ErrorCode::kInvalidArgument, fmt::format("a detector is called '{}'; expected names that differ, "
                                                            "and not ensemble, fired, incidents or windowed_gaussian, "
                                                            "which the report uses itself",
                                                            detector.name));
    }
  }
  return ReportBuilder(std::move(options));
}

std::uint32_t ReportBuilder::intern(std::string_view text) {
  const auto [at, is_new] = name_at_.emplace(text, static_cast<std::uint32_t>(names_.size()));
  if (is_new) names_.emplace_back(text);
  return at->second;
}

Result<> ReportBuilder::add(const ReportRow& row) {
  CHECK(row.scores.size() == options_.detectors.size() && row.type_scores.size() == options_.score_types.size());
  const auto score_of = [&](std::size_t column) {
    if (column < row.scores.size()) return row.scores[column];
    return column == ensemble_column() ? row.ensemble : row.type_scores[column - ensemble_column() - 1];
  };
  const auto remember_text = [&](std::string_view text) -> std::uint32_t {
    if (text.empty() || reasons_.size() >= kReasonsMax) return 0;
    reasons_.emplace_back(text.substr(0, kTextBytesMax));
    return static_cast<std::uint32_t>(reasons_.size());
  };
  const auto [last, first_of_partition] = last_of_partition_.try_emplace(row.partition);
  if (!first_of_partition && last->second.offset == row.offset) {
    const std::size_t at = last->second.row;
    Row& known = rows_[at];
    if (const float before = columns_[ensemble_column()][at]; larger(before, row.ensemble) != before) {
      known.entity = intern(row.entity);
      known.text = remember_text(row.text);
    }
    for (std::size_t i = 0; i < columns_.size(); ++i) columns_[i][at] = larger(columns_[i][at], score_of(i));
    if (row.label.label > known.label) {
      known.label = row.label.label;
      known.window = row.label.window;
    }
    known.fired |= row.fired;
    known.opened |= row.opened;
    return {};
  }
  if (rows_.size() >= options_.rows_max) {
    return error(ErrorCode::kUnavailable,
                 fmt::format("more than {} rows to judge; evaluate a shorter span or a sample", options_.rows_max));
  }
  last->second = {row.offset, static_cast<std::uint32_t>(rows_.size())};
  Row kept;
  kept.time_ms = row.time_ms;
  kept.id_at = texts_.size();
  const std::string_view id = row.id.substr(0, kIdBytesMax);
  kept.id_size = static_cast<std::uint32_t>(id.size());
  texts_.append(id);
  kept.text = remember_text(row.text);
  kept.entity = intern(row.entity);
  kept.file = intern(row.file);
  kept.window = row.label.window;
  kept.label = row.label.label;
  kept.fired = row.fired;
  kept.opened = row.opened;
  rows_.push_back(kept);
  for (std::size_t i = 0; i < columns_.size(); ++i) columns_[i].push_back(score_of(i));
  if (options_.nab != nullptr) values_.push_back(row.value);
  return {};
}

Histogram ReportBuilder::histogram(std::size_t column) const {
  const std::vector<float>& scores = columns_[column];
  std::vector<double> known;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].label != kUnlabelled && std::isfinite(scores[i])) known.push_back(scores[i]);
  }
  Histogram result;
  result.normal.assign(kHistogramBins, 0);
  result.anomalous.assign(kHistogramBins, 0);
  if (known.empty()) return result;
  const double low = *std::ranges::min_element(known);
  double high = quantile(known, 0.9995);
  const double middle = quantile(known, 0.5);
  result.logarithmic = low >= 0 && high > 20 * std::max(middle, 0.5);
  const auto place = [&](double score) { return result.logarithmic ? std::log1p(std::max(score, 0.0)) : score; };
  result.low = place(low);
  result.high = std::max(place(high), result.low + 1e-9);
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].label == kUnlabelled || std::isnan(scores[i])) continue;
    const double at = (place(scores[i]) - result.low) / (result.high - result.low) * kHistogramBins;
    const auto bin = static_cast<std::size_t>(std::clamp(at, 0.0, kHistogramBins - 1.0));
    ++(is_anomalous(i) ? result.anomalous : result.normal)[bin];
  }
  return result;
}

void ReportBuilder::judge_detectors(Report& report) {
  std::vector<std::uint8_t> positive;
  std::vector<std::uint32_t> judged;
  for (std::uint32_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].label == kUnlabelled) continue;
    judged.push_back(i);
    positive.push_back(is_anomalous(i) ? 1 : 0);
  }
  std::vector<float> scores(judged.size());
  const auto judge = [&](std::string name, std::string kind, std::size_t column) {
    for (std::size_t i = 0; i < judged.size(); ++i) scores[i] = columns_[column][judged[i]];
    DetectorResult result;
    result.name = std::move(name);
    result.kind = std::move(kind);
    result.curves = compute_curves(scores, positive, options_.curves);
    result.abstained_share = share(static_cast<double>(result.curves.abstained), static_cast<double>(judged.size()));
    result.histogram = histogram(column);
    return result;
  };
  report.detectors.push_back(judge(std::string(kEnsemble), std::string(kEnsemble), ensemble_column()));
  column_of_ = {ensemble_column()};
  std::vector<DetectorResult> instances;
  for (std::size_t i = 0; i < options_.detectors.size(); ++i) {
    instances.push_back(judge(options_.detectors[i].name, options_.detectors[i].kind, i));
  }
  // The best instance of a kind stands under the kind's own name.
  std::vector<std::string> kinds;
  for (const DetectorResult& instance : instances) {
    if (std::ranges::find(kinds, instance.kind) == kinds.end()) kinds.push_back(instance.kind);
  }
  for (const std::string& kind : kinds) {
    std::size_t best = instances.size();
    const auto value = [&](std::size_t i) {
      const auto or_zero = [](double v) { return std::isnan(v) ? 0.0 : v; };
      return std::pair(or_zero(instances[i].curves.at_fpr[kMainFpr].tpr), or_zero(instances[i].curves.pr_auc));
    };
    for (std::size_t i = 0; i < instances.size(); ++i) {
      if (instances[i].kind == kind && (best == instances.size() || value(i) > value(best))) best = i;
    }
    if (instances[best].name == kind) continue;  // it is there under that name already
    DetectorResult copy = instances[best];
    copy.instance = copy.name;
    copy.name = kind;
    report.detectors.push_back(std::move(copy));
    column_of_.push_back(best);
  }
  for (std::size_t i = 0; i < instances.size(); ++i) {
    const bool taken =
        std::ranges::any_of(report.detectors, [&](const auto& d) { return d.name == instances[i].name; });
    if (taken) instances[i].name += " (instance)";
    report.detectors.push_back(std::move(instances[i]));
    column_of_.push_back(i);
  }
}

void ReportBuilder::judge_types(Report& report) {
  for (std::size_t t = 0; t < options_.label_types.size(); ++t) {
    const auto label = static_cast<Label>(kFirstLabelType + t);
    TypeResult result;
    result.name = options_.label_types[t];
    result.tpr.resize(report.detectors.size());
    std::uint64_t fired = 0;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (rows_[i].label != label) continue;
      ++result.rows;
      fired += rows_[i].fired;
      for (std::size_t d = 0; d < report.detectors.size(); ++d) {
        for (std::size_t k = 0; k < kFprMax.size(); ++k) {
          result.tpr[d][k] += flags(columns_[column_of_[d]][i], report.detectors[d].curves.at_fpr[k]);
        }
      }
    }
    if (result.rows == 0) continue;
    for (auto& of_detector : result.tpr) {
      for (double& tpr : of_detector) tpr = report.normal > 0 ? tpr / static_cast<double>(result.rows) : kNan;
    }
    result.fired_share = share(static_cast<double>(fired), static_cast<double>(result.rows));
    const auto own = std::ranges::find(options_.score_types, result.name);
    if (own != options_.score_types.end()) {
      const std::vector<float>& column =
          columns_[type_column(static_cast<std::size_t>(own - options_.score_types.begin()))];
      std::vector<float> scores;
      std::vector<std::uint8_t> positive;
      for (std::size_t i = 0; i < rows_.size(); ++i) {
        if (rows_[i].label != label && rows_[i].label != kNormal) continue;
        scores.push_back(column[i]);
        positive.push_back(rows_[i].label == label ? 1 : 0);
      }
      CurveOptions plain = options_.curves;
      plain.resamples = 0;
      const Curves curves = compute_curves(scores, positive, plain);
      result.own_tpr.emplace();
      for (std::size_t k = 0; k < kFprMax.size(); ++k) (*result.own_tpr)[k] = curves.at_fpr[k].tpr;
    }
    report.types.push_back(std::move(result));
  }
}

void ReportBuilder::judge_uplift(Report& report) {
  report.uplift = kNan;
  report.uplift_interval = {kNan, kNan};
  const DetectorResult& ensemble = report.detectors.front();
  std::size_t best = 0;
  const auto tpr_of = [&](std::size_t d) { return report.detectors[d].curves.at_fpr[kMainFpr].tpr; };
  for (std::size_t d = 1; d < report.detectors.size(); ++d) {
    if (std::ranges::find(options_.baseline_kinds, report.detectors[d].kind) == options_.baseline_kinds.end()) continue;
    if (best == 0 || tpr_of(d) > tpr_of(best)) best = d;
  }
  if (best == 0) return;
  report.best_baseline =
      report.detectors[best].instance.empty() ? report.detectors[best].name : report.detectors[best].instance;
  const OperatingPoint& ours = ensemble.curves.at_fpr[kMainFpr];
  const OperatingPoint& theirs = report.detectors[best].curves.at_fpr[kMainFpr];
  if (!(theirs.tpr > 0)) return;
  report.uplift = ours.tpr / theirs.tpr - 1;
  std::array<std::uint64_t, 4> cells{};  // both, ours alone, theirs alone, neither
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (!is_anomalous(i)) continue;
    const bool a = flags(columns_[ensemble_column()][i], ours), b = flags(columns_[column_of_[best]][i], theirs);
    ++cells[a ? (b ? 0 : 1) : (b ? 2 : 3)];
  }
  report.uplift_interval = ratio_interval(cells[0], cells[1], cells[2], cells[3], options_.curves);
}

void ReportBuilder::judge_fired(Report& report) {
  std::uint64_t fired = 0, true_positives = 0, false_positives = 0;
  struct Span {
    std::int64_t first_ms, last_ms;
  };
  std::vector<Span> spans(names_.size(), Span{std::numeric_limits<std::int64_t>::max(), 0});
  std::vector<bool> seen(names_.size(), false);
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    fired += row.fired;
    true_positives += row.fired && is_anomalous(i);
    false_positives += row.fired && row.label == kNormal;
    Span& span = spans[row.file];
    span = seen[row.file] ? Span{std::min(span.first_ms, row.time_ms), std::max(span.last_ms, row.time_ms)}
                          : Span{row.time_ms, row.time_ms};
    seen[row.file] = true;
  }
  report.fired_tpr = share(static_cast<double>(true_positives), static_cast<double>(report.anomalies));
  report.fired_fpr = share(static_cast<double>(false_positives), static_cast<double>(report.normal));
  report.fired_precision =
      share(static_cast<double>(true_positives), static_cast<double>(true_positives + false_positives));
  std::vector<Span> known;
  for (std::size_t f = 0; f < spans.size(); ++f) {
    if (seen[f]) known.push_back(spans[f]);
  }
  std::ranges::sort(known, {}, &Span::first_ms);
  double covered_ms = 0;
  std::int64_t until_ms = std::numeric_limits<std::int64_t>::min();
  for (const Span& span : known) {
    const std::int64_t from_ms = std::max(span.first_ms, until_ms);
    if (span.last_ms > from_ms) covered_ms += static_cast<double>(span.last_ms - from_ms);
    until_ms = std::max(until_ms, span.last_ms);
  }
  report.days = covered_ms / 86'400'000.0;
  report.alerts_per_day = share(static_cast<double>(fired), report.days);
  report.incidents_per_day = incidents_ ? share(static_cast<double>(*incidents_), report.days) : kNan;
  report.events_per_second = events_per_second_;
}

// Numbers the episodes from 0 in the order of their first labelled row; kNoEpisode for rows outside.
std::vector<std::uint32_t> ReportBuilder::find_episodes(Report& report) {
  std::vector<std::uint32_t> episode_of(rows_.size(), kNoEpisode);
  std::vector<std::uint32_t> anomalous;
  for (std::uint32_t i = 0; i < rows_.size(); ++i) {
    if (is_anomalous(i)) anomalous.push_back(i);
    report.episodes.windows |= rows_[i].window >= 0;
  }
  const auto group = [&](std::uint32_t i) {
    const Row& row = rows_[i];
    return row.window >= 0 ? std::tuple(0, static_cast<std::uint32_t>(row.window), std::uint32_t{0})
                           : std::tuple(1, row.entity, static_cast<std::uint32_t>(row.label));
  };
  std::ranges::sort(anomalous, [&](std::uint32_t a, std::uint32_t b) {
    return std::tuple(group(a), rows_[a].time_ms, a) < std::tuple(group(b), rows_[b].time_ms, b);
  });
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < anomalous.size(); ++i) {
    const bool continues = i > 0 && group(anomalous[i - 1]) == group(anomalous[i]) &&
                           (rows_[anomalous[i]].window >= 0 ||
                            rows_[anomalous[i]].time_ms - rows_[anomalous[i - 1]].time_ms < options_.attack_gap_ms);
    if (!continues) ++count;
    episode_of[anomalous[i]] = count - 1;
  }
  report.episodes.count = count;
  return episode_of;
}

void ReportBuilder::judge_episodes(const std::vector<std::uint32_t>& episode_of, Report& report) {
  struct Times {
    std::int64_t first_ms = std::numeric_limits<std::int64_t>::max();
    std::int64_t fired_ms = std::numeric_limits<std::int64_t>::max();
  };
  std::vector<Times> times(report.episodes.count);
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (episode_of[i] == kNoEpisode) continue;
    Times& of = times[episode_of[i]];
    of.first_ms = std::min(of.first_ms, rows_[i].time_ms);
    if (rows_[i].fired) of.fired_ms = std::min(of.fired_ms, rows_[i].time_ms);
  }
  std::vector<double> delays_s;
  for (const Times& of : times) {
    if (of.fired_ms == std::numeric_limits<std::int64_t>::max()) continue;
    delays_s.push_back(static_cast<double>(of.fired_ms - of.first_ms) / 1000.0);
  }
  report.episodes.fired = delays_s.size();
  report.episodes.delay_median_s = quantile(delays_s, 0.5);
  report.episodes.delay_p90_s = quantile(delays_s, 0.9);
  for (std::size_t d = 0; d < report.detectors.size(); ++d) {
    for (std::size_t k = 0; k < kFprMax.size(); ++k) {
      std::vector<bool> found(report.episodes.count, false);
      for (std::size_t i = 0; i < rows_.size(); ++i) {
        if (episode_of[i] != kNoEpisode && flags(columns_[column_of_[d]][i], report.detectors[d].curves.at_fpr[k])) {
          found[episode_of[i]] = true;
        }
      }
      const auto hits = static_cast<double>(std::ranges::count(found, true));
      report.detectors[d].episode_recall[k] =
          report.normal > 0 ? share(hits, static_cast<double>(report.episodes.count)) : kNan;
    }
  }
}

Example ReportBuilder::example(std::size_t at) const {
  const Row& row = rows_[at];
  Example result;
  result.id = texts_.substr(row.id_at, row.id_size);
  result.file = names_[row.file];
  result.entity = names_[row.entity];
  if (row.text > 0) result.text = reasons_[row.text - 1];
  if (row.label >= kFirstLabelType && row.label - kFirstLabelType < static_cast<int>(options_.label_types.size())) {
    result.type = options_.label_types[row.label - kFirstLabelType];
  }
  result.time_ms = row.time_ms;
  result.ensemble = columns_[ensemble_column()][at];
  for (std::size_t d = 0; d < options_.detectors.size(); ++d) result.scores.push_back(columns_[d][at]);
  result.fired = row.fired;
  return result;
}

void ReportBuilder::pick_examples(const std::vector<std::uint32_t>& episode_of, Report& report) {
  const std::vector<float>& ensemble = columns_[ensemble_column()];
  const auto rank = [&](std::uint32_t i) {
    return std::isnan(ensemble[i]) ? -std::numeric_limits<float>::infinity() : ensemble[i];
  };
  constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::vector<std::uint32_t> strongest(report.episodes.count, kNone);
  std::vector<std::uint32_t> normal;
  for (std::uint32_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].label == kNormal && !std::isnan(ensemble[i])) normal.push_back(i);
    if (episode_of[i] == kNoEpisode) continue;
    std::uint32_t& best = strongest[episode_of[i]];
    if (best == kNone || rank(i) > rank(best)) best = i;
  }
  const auto weaker = [&](std::uint32_t a, std::uint32_t b) { return std::pair(rank(a), a) < std::pair(rank(b), b); };
  std::ranges::sort(strongest, weaker);
  const double threshold = report.detectors.front().curves.at_fpr[kMainFpr].threshold;
  for (const std::uint32_t i : strongest) {
    if (report.misses.size() >= options_.examples_max || rank(i) >= threshold) break;
    report.misses.push_back(example(i));
  }
  const auto stronger = [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(-rank(a), a) < std::pair(-rank(b), b);
  };
  const std::size_t considered = std::min(normal.size(), options_.examples_max * 50);
  std::ranges::partial_sort(normal, normal.begin() + static_cast<std::ptrdiff_t>(considered), stronger);
  std::vector<std::uint32_t> picked;
  for (std::size_t n = 0; n < considered && picked.size() < options_.examples_max; ++n) {
    const Row& row = rows_[normal[n]];
    const bool told = std::ranges::any_of(picked, [&](std::uint32_t p) {
      return rows_[p].entity == row.entity && rows_[p].file == row.file &&
             std::llabs(rows_[p].time_ms - row.time_ms) < options_.attack_gap_ms;
    });
    if (!told) picked.push_back(normal[n]);
  }
  for (const std::uint32_t i : picked) report.false_alarms.push_back(example(i));
}

Result<> ReportBuilder::judge_nab(Report& report) {
  // A series is a file, or an entity where the events are of no file; in the order of names, so that no other order
  // shows.
  std::vector<std::vector<std::uint32_t>> rows_of(names_.size());
  for (std::uint32_t i = 0; i < rows_.size(); ++i) {
    rows_of[rows_[i].file != 0 ? rows_[i].file : rows_[i].entity].push_back(i);
  }
  std::vector<std::uint32_t> order;
  for (std::uint32_t n = 0; n < names_.size(); ++n) {
    if (!rows_of[n].empty() && options_.nab->names_scope(names_[n])) order.push_back(n);
  }
  std::ranges::sort(order, {}, [&](std::uint32_t n) -> const std::string& { return names_[n]; });
  if (order.empty()) {
    return error(ErrorCode::kInvalidArgument,
                 "NAB's scoring was asked, but its windows name none of the files that were read");
  }
  NabScorer scorer;
  for (const std::uint32_t n : order) {
    NabSeries series;
    series.name = names_[n];
    for (const std::uint32_t i : rows_of[n]) series.times_ms.push_back(rows_[i].time_ms);
    for (const LabelSet::Window& window : options_.nab->windows()) {
      if (window.scope == names_[n]) series.windows.push_back({window.first, window.last});
    }
    std::ranges::sort(series.windows, {}, &NabSeries::Window::first_ms);
    if (auto good = scorer.add(series); !good) return good;
  }
  NabReport& nab = report.nab.emplace();
  nab.series = scorer.series();
  nab.windows = scorer.windows();
  nab.rows = scorer.rows();
  const auto score = [&](const std::string& name, auto score_of_row) -> Result<std::vector<std::vector<double>>> {
    std::vector<std::vector<double>> scores;
    for (const std::uint32_t n : order) {
      std::vector<double>& of_series = scores.emplace_back();
      for (const std::uint32_t i : rows_of[n]) of_series.push_back(score_of_row(i));
    }
    const auto result = scorer.score(scores);
    if (!result) return std::unexpected(result.error());
    nab.results.push_back({name, *result});
    return scores;
  };
  for (std::size_t d = 0; d < report.detectors.size(); ++d) {
    const std::vector<float>& column = columns_[column_of_[d]];
    const auto scores =
        score(report.detectors[d].name, [&](std::uint32_t i) { return static_cast<double>(column[i]); });
    if (!scores) return std::unexpected(scores.error());
    if (d > 0) continue;
    for (std::size_t s = 0; s < scores->size(); ++s) {
      nab.per_series.push_back(
          {names_[order[s]],
           scorer.score_series(s, (*scores)[s], nab.results.front().scores[0].threshold, kNabProfiles[0])});
    }
  }
  const auto decided = [&](const std::string& name, bool Row::* flag) {
    return score(name, [&, flag](std::uint32_t i) { return rows_[i].*flag ? 1.0 : kNan; });
  };
  if (auto good = decided("fired", &Row::fired); !good) return std::unexpected(good.error());
  if (std::ranges::any_of(rows_, &Row::opened)) {
    if (auto good = decided("incidents", &Row::opened); !good) return std::unexpected(good.error());
  }
  if (std::ranges::any_of(values_, [](double v) { return !std::isnan(v); })) {
    std::vector<double> gaussian(rows_.size(), kNan);
    for (const std::uint32_t n : order) {
      WindowedGaussian detector;
      for (const std::uint32_t i : rows_of[n]) {
        if (!std::isnan(values_[i])) gaussian[i] = WindowedGaussian::as_published(detector.score(values_[i]));
      }
    }
    if (auto good = score("windowed_gaussian", [&](std::uint32_t i) { return gaussian[i]; }); !good) {
      return std::unexpected(good.error());
    }
  }
  return {};
}

// What a reader must know before believing the numbers.
void ReportBuilder::add_notes(Report& report) const {
  if (report.rows == 0) {
    report.notes.emplace_back("No row was scored.");
  } else if (report.anomalies == 0) {
    report.notes.emplace_back(
        "No row is labelled anomalous: nothing can be said about recall. Do the labels name these events?");
  } else if (report.normal == 0) {
    report.notes.emplace_back(
        "No row is known to be normal, so there is no false-positive rate. If whatever the labels do not address is "
        "normal, say "
        "complete: true.");
  }
  std::set<std::int32_t> windows;
  for (const Row& row : rows_) {
    if (row.window >= 0) windows.insert(row.window);
  }
  if (options_.windows_total > windows.size()) {
    report.notes.push_back(fmt::format("{} of {} labelled windows hold no scored row; they are in no number.",
                                       options_.windows_total - windows.size(), options_.windows_total));
  }
}

Result<Report> ReportBuilder::finish() {
  Report report;
  report.title = options_.title;
  report.about = options_.about;
  report.notes = options_.notes;
  report.columns = options_.detectors;
  report.rows = rows_.size();
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    ++(is_anomalous(i) ? report.anomalies : rows_[i].label == kNormal ? report.normal : report.unlabelled);
  }
  judge_detectors(report);
  judge_types(report);
  judge_uplift(report);
  judge_fired(report);
  const std::vector<std::uint32_t> episode_of = find_episodes(report);
  judge_episodes(episode_of, report);
  pick_examples(episode_of, report);
  if (options_.nab != nullptr) {
    if (auto good = judge_nab(report); !good) return std::unexpected(good.error());
  }
  add_notes(report);
  return report;
}

}  // namespace alcedo::evaluate
