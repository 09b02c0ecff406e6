// Laid out as a reader asks: is it good, against what, on which kinds, where does it fail.
#include "evaluate/report_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/time.h"
#include "evaluate/svg_chart.h"

namespace alcedo::evaluate {
namespace {

constexpr std::string_view kStyle = R"css(
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#5b6672;--line:#d9dee4;--card:#f6f8fa;--warn:#fff4d6;
--c0:#0b62b8;--c1:#d97a00;--c2:#00875f;--c3:#b0488f;--c4:#6b5bd2;--c5:#a33b20;--c6:#3d7f94;--c7:#777f88;--bad:#c62f3c}
@media (prefers-color-scheme:dark){:root{--bg:#12161b;--fg:#e4e8ec;--dim:#98a3ae;--line:#303740;--card:#1a2027;--warn:#3a3012;
--c0:#5aa9f5;--c1:#f0a33c;--c2:#3ec79a;--c3:#e08ac4;--c4:#a99cf5;--c5:#e88a6f;--c6:#7fc3d6;--c7:#9aa3ad;--bad:#ff7b86}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:28px 24px 60px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:38px 0 8px}p{margin:6px 0;max-width:78ch}
.dim,caption,.about{color:var(--dim)}.about{font-size:13.5px;overflow-wrap:anywhere}.about b{font-weight:600}
.note{background:var(--warn);border-radius:6px;padding:8px 12px;margin:10px 0;max-width:none}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(195px,1fr));gap:12px;margin:20px 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.tile .name{color:var(--dim);font-size:13px}.tile .number{font-size:27px;font-weight:650;line-height:1.25}
.tile .more{color:var(--dim);font-size:12.5px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}
th{color:var(--dim);font-weight:600;font-size:13px;vertical-align:bottom}th.l,td.l{text-align:left}td.wrap{white-space:normal;
overflow-wrap:anywhere;min-width:180px}tr.ours td{background:color-mix(in srgb,var(--c0) 12%,transparent);font-weight:600}
.range{color:var(--dim);font-size:12px;display:block;font-weight:400}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:18px}
.small{display:grid;grid-template-columns:repeat(auto-fill,minmax(290px,1fr));gap:14px}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:11.5px}
svg .chart-title{fill:var(--fg);font-size:13.5px;font-weight:600}svg .axis-title{font-size:12px}svg .mark-text{font-size:10.5px}
.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--dim);stroke-width:1}
.mark{stroke:var(--dim);stroke-width:1;stroke-dasharray:4 4}
.curve{fill:none;stroke-width:1.7;stroke-linejoin:round}.curve.strong{stroke-width:3}
.hist-normal{fill:var(--c7);fill-opacity:.4;stroke:var(--c7)}.hist-anomalous{fill:var(--bad);fill-opacity:.28;stroke:var(--bad)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0;font-size:13.5px}
.legend i{display:inline-block;width:18px;height:4px;border-radius:2px;margin-right:7px;vertical-align:middle}
.bar{display:block;background:var(--line);border-radius:3px;height:8px;width:100%;min-width:90px;margin-top:7px}
.bar span{display:block;height:8px;border-radius:3px}td.barcell{width:26%;min-width:120px}
.tight th,.tight td{padding:4px 7px;font-size:13px}details{margin:10px 0}summary{cursor:pointer;color:var(--dim)}code{font-size:13px}
)css";

constexpr int kColours = 8;
constexpr std::size_t kLinesMax = 7;
static_assert(kLinesMax <= kColours);
constexpr std::uint64_t kNabWindows = 116;  // of NAB 1.1's combined_windows.json, which the scoreboard is of

std::string percent(double share, int decimals = 1) {
  return std::isfinite(share) ? fmt::format("{:.{}f}\u00A0%", share * 100, decimals) : "–";
}
std::string number(double value, int decimals) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, decimals) : "–";
}
// 1234567 -> "1,234,567"
std::string count(double value) {
  if (!std::isfinite(value)) return "–";
  std::string digits = fmt::format("{:.0f}", value);
  for (std::size_t at = digits.size(); at > 3;) {
    at -= 3;
    if (digits[at - 1] != '-') digits.insert(at, ",");
  }
  return digits;
}
std::string count(std::uint64_t value) { return count(static_cast<double>(value)); }

std::string rate(double value) {
  if (!std::isfinite(value)) return "–";
  return value >= 100 ? count(value) : fmt::format("{:.3g}", value);
}
std::string seconds(double value) {
  if (!std::isfinite(value)) return "–";
  if (value < 120) return fmt::format("{:.3g} s", value);
  if (value < 7200) return fmt::format("{:.3g} min", value / 60);
  if (value < 172'800) return fmt::format("{:.3g} h", value / 3600);
  return fmt::format("{:.3g} d", value / 86'400);
}
std::string range(const Interval& interval, bool as_percent) {
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return {};
  return as_percent
             ? fmt::format("<span class=\"range\">{:.1f} – {:.1f}</span>", interval.low * 100, interval.high * 100)
             : fmt::format("<span class=\"range\">{:.3f} – {:.3f}</span>", interval.low, interval.high);
}

std::string label_of(const DetectorResult& result) {
  return result.instance.empty() ? result.name : fmt::format("{} (best: {})", result.name, result.instance);
}

void tile(std::string& out, std::string_view name, std::string_view value, std::string_view more) {
  out += fmt::format(
      "<div class=\"tile\"><div class=\"name\">{}</div><div class=\"number\">{}</div><div "
      "class=\"more\">{}</div></div>",
      escape_html(name), value, escape_html(more));
}

// An instance whose numbers already stand under its kind's name is not shown again.
bool is_shown_as_kind(const Report& report, std::string_view name) {
  return std::ranges::any_of(report.detectors, [&](const DetectorResult& other) { return other.instance == name; });
}

void headline(std::string& out, const Report& report) {
  const DetectorResult& ensemble = report.detectors.front();
  const Curves& curves = ensemble.curves;
  const auto between = [](const Interval& interval, double scale, std::string_view unit) {
    if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return std::string();
    return fmt::format("95 %: {:.1f} to {:.1f}{}", interval.low * scale, interval.high * scale, unit);
  };
  out += "<div class=\"tiles\">";
  tile(out, "found at 0.3 % false positives", percent(curves.at_fpr[kMainFpr].tpr),
       between(curves.tpr_interval[kMainFpr], 100, " %"));
  tile(out, "against the best baseline",
       std::isfinite(report.uplift) ? fmt::format("{:+.1f} %", report.uplift * 100) : "–",
       report.best_baseline.empty()
           ? "no baseline detector"
           : fmt::format("{}: {}", report.best_baseline, between(report.uplift_interval, 100, " %")));
  tile(out, "PR-AUC", number(curves.pr_auc, 3),
       fmt::format("by chance {}", number(static_cast<double>(report.anomalies) /
                                              std::max(1.0, static_cast<double>(report.anomalies + report.normal)),
                                          3)));
  tile(out, "anomalous of judged rows", fmt::format("{}", count(report.anomalies)),
       fmt::format("of {}; {} unlabelled", count(report.anomalies + report.normal), count(report.unlabelled)));
  tile(out, report.episodes.windows ? "labelled windows in which it fired" : "attacks in which it fired",
       fmt::format("{} / {}", count(report.episodes.fired), count(report.episodes.count)),
       fmt::format("delay: median {}, p90 {}", seconds(report.episodes.delay_median_s),
                   seconds(report.episodes.delay_p90_s)));
  tile(out, "fired rows a day", rate(report.alerts_per_day),
       fmt::format("incidents a day: {}; {:.3g} days", rate(report.incidents_per_day), report.days));
  tile(out, "as configured, fires on", percent(report.fired_tpr),
       fmt::format("of anomalies, {} of normal rows; precision {}", percent(report.fired_fpr, 3),
                   percent(report.fired_precision)));
  if (std::isfinite(report.events_per_second))
    tile(out, "events a second", count(report.events_per_second), "while evaluating");
  if (report.nab && !report.nab->results.empty()) {
    tile(out, "NAB score, standard profile", number(report.nab->results.front().scores[0].score, 1),
         fmt::format("{} series, {} windows", report.nab->series, report.nab->windows));
  }
  out += "</div>";
}

void detector_table(std::string& out, const Report& report) {
  out +=
      "<h2>Detectors on the same rows</h2><p class=\"dim\"><b>Found at x %</b>: the share of anomalous rows above a "
      "threshold that flags at most x % of the normal ones. Small figures are 95 % bootstrap intervals. A threshold "
      "that shares its score "
      "with too many normal rows does not count, so each rate is one that can be deployed.</p>";
  out += "<div class=\"wide\"><table><thead><tr><th class=\"l\">detector</th><th>PR-AUC</th><th>ROC-AUC</th>";
  for (const double fpr : kFprMax) out += fmt::format("<th>found at {:.3g} %</th>", fpr * 100);
  out += fmt::format("<th>{} at 0.3 %</th><th>abstained</th></tr></thead><tbody>",
                     report.episodes.windows ? "windows" : "attacks");
  for (const DetectorResult& result : report.detectors) {
    if (is_shown_as_kind(report, result.name)) continue;
    out += fmt::format("<tr{}><td class=\"l\">{}</td>", result.kind == "ensemble" ? " class=\"ours\"" : "",
                       escape_html(label_of(result)));
    out += fmt::format("<td>{}{}</td><td>{}{}</td>", number(result.curves.pr_auc, 3),
                       range(result.curves.pr_auc_interval, false), number(result.curves.roc_auc, 3),
                       range(result.curves.roc_auc_interval, false));
    for (std::size_t k = 0; k < kFprMax.size(); ++k) {
      out += fmt::format("<td>{}{}</td>", percent(result.curves.at_fpr[k].tpr),
                         range(result.curves.tpr_interval[k], true));
    }
    out += fmt::format("<td>{}</td><td>{}</td></tr>", percent(result.episode_recall[kMainFpr]),
                       percent(result.abstained_share));
  }
  out += "</tbody></table></div>";
}

// The ensemble and the best of each kind first, then instances, as many as a chart can show.
std::vector<const DetectorResult*> charted(const Report& report) {
  std::vector<const DetectorResult*> chosen;
  for (const DetectorResult& result : report.detectors) {
    if (chosen.size() >= kLinesMax) break;
    if (!is_shown_as_kind(report, result.name)) chosen.push_back(&result);
  }
  return chosen;
}

void curve_charts(std::string& out, const Report& report) {
  LineChart pr{.title = "Precision and recall", .x_title = "recall: share of anomalies found", .y_title = "precision"};
  LineChart roc{.title = "ROC, logarithmic",
                .x_title = "false positives: share of normal rows flagged",
                .y_title = "share of anomalies found",
                .x_low = 1e-5,
                .x_high = 1,
                .x_log = true,
                .steps = true,
                .x_marks = {kFprMax[kMainFpr]}};
  std::string legend = "<div class=\"legend\">";
  int colour = 0;
  for (const DetectorResult* result : charted(report)) {
    ChartLine of_pr{label_of(*result), colour, colour == 0, {}}, of_roc = of_pr;
    for (const OperatingPoint& point : result->curves.points) {
      of_pr.points.emplace_back(point.tpr, point.precision);
      of_roc.points.emplace_back(point.fpr, point.tpr);
    }
    pr.lines.push_back(std::move(of_pr));
    roc.lines.push_back(std::move(of_roc));
    legend += fmt::format("<span><i class=\"b{}\"></i>{}</span>", colour, escape_html(label_of(*result)));
    ++colour;
  }
  const auto drawn = static_cast<std::size_t>(colour);
  const auto all = static_cast<std::size_t>(std::ranges::count_if(
      report.detectors, [&](const DetectorResult& result) { return !is_shown_as_kind(report, result.name); }));
  if (all > drawn) legend += fmt::format("<span class=\"dim\">and {} more, not drawn</span>", all - drawn);
  out +=
      fmt::format("<h2>Curves</h2>{}</div><div class=\"charts\">{}{}</div>", legend, line_chart(pr), line_chart(roc));
}

void type_table(std::string& out, const Report& report) {
  if (report.types.empty()) return;
  out +=
      "<h2>By kind of anomaly</h2><p class=\"dim\">Share of each kind's rows found at 0.3 % false positives, all with "
      "one "
      "threshold a detector.</p>";
  std::vector<std::size_t> shown;
  for (std::size_t d = 0; d < report.detectors.size(); ++d) {
    if (d == 0 || report.detectors[d].kind == report.detectors[d].name || !report.detectors[d].instance.empty())
      shown.push_back(d);
  }
  const bool own = std::ranges::any_of(report.types, [](const TypeResult& type) { return type.own_tpr.has_value(); });
  out += "<div class=\"wide\"><table><thead><tr><th class=\"l\">kind</th><th>rows</th><th class=\"l\"></th>";
  for (const std::size_t d : shown) out += fmt::format("<th>{}</th>", escape_html(report.detectors[d].name));
  if (own) out += "<th>its own score</th>";
  out += "<th>fired as configured</th></tr></thead><tbody>";
  for (const TypeResult& type : report.types) {
    out += fmt::format("<tr><td class=\"l\">{}</td><td>{}</td><td class=\"barcell\">{}</td>", escape_html(type.name),
                       count(type.rows), share_bar(type.tpr.front()[kMainFpr], 0));
    for (const std::size_t d : shown) out += fmt::format("<td>{}</td>", percent(type.tpr[d][kMainFpr]));
    if (own) out += fmt::format("<td>{}</td>", type.own_tpr ? percent((*type.own_tpr)[kMainFpr]) : "–");
    out += fmt::format("<td>{}</td></tr>", percent(type.fired_share));
  }
  out += "</tbody></table></div>";
}

void histograms(std::string& out, const Report& report) {
  out +=
      "<h2>Scores of normal and anomalous rows</h2><div class=\"legend\"><span><i "
      "class=\"b7\"></i>normal</span><span><i "
      "class=\"bad\"></i>anomalous</span><span class=\"dim\">share of each class, logarithmic</span></div><div "
      "class=\"small\">";
  std::size_t drawn = 0;
  for (const DetectorResult& result : report.detectors) {
    if (!result.instance.empty()) continue;  // the same scores as the instance's
    out += histogram_chart(result.name, result.histogram);
    if (++drawn == 9) break;
  }
  out += "</div>";
}

void nab_section(std::string& out, const Report& report) {
  const NabReport& nab = *report.nab;
  out += fmt::format(
      "<h2>Numenta Anomaly Benchmark</h2><p class=\"dim\">NAB's own scoring over {} series, {} rows and {} windows: 0 "
      "is a detector that "
      "never fires, 100 a perfect one. One threshold for all series, the best for each profile. Grey rows are NAB's "
      "published "
      "scoreboard.</p>",
      nab.series, count(nab.rows), nab.windows);
  if (nab.windows != kNabWindows) {
    out += fmt::format(
        "<p class=\"note\">The published scores are of all {} windows of the corpus, these of {}: they cannot be "
        "compared.</p>",
        kNabWindows, nab.windows);
  }
  struct Line {
    std::string name;
    std::array<double, 3> scores;
    int ours;  // 0 published, 1 ours, 2 the reference that we ran
    std::size_t order = 0;
  };
  std::vector<Line> lines;
  for (const NabPublished& row : nab_published()) lines.push_back({std::string(row.detector), row.scores, 0, 0});
  for (const NabResult& result : nab.results) {
    const bool is_kind = std::ranges::any_of(report.detectors, [&](const DetectorResult& detector) {
      return detector.name == result.name && !detector.instance.empty();
    });
    if (is_kind) continue;  // its instance is listed
    Line line{result.name, {}, result.name == "windowed_gaussian" ? 2 : 1, 0};
    if (line.ours == 2) line.name = "Windowed Gaussian, run here (checks the scorer)";
    if (result.name == "fired") line.name = "rows that fired, as configured";
    if (result.name == "incidents") line.name = "incidents opened, as configured";
    for (std::size_t p = 0; p < kNabProfiles.size(); ++p) line.scores[p] = result.scores[p].score;
    lines.push_back(std::move(line));
  }
  for (std::size_t i = 0; i < lines.size(); ++i) lines[i].order = i;
  std::ranges::sort(lines, {}, [](const Line& line) { return std::pair(-line.scores[0], line.order); });
  out +=
      "<div class=\"wide\"><table><thead><tr><th class=\"l\">detector</th><th "
      "class=\"l\"></th><th>standard</th><th>reward low "
      "FP</th><th>reward low FN</th></tr></thead><tbody>";
  for (const Line& line : lines) {
    out += fmt::format("<tr{}><td class=\"l{}\">{}</td><td class=\"barcell\">{}</td>",
                       line.ours == 1 ? " class=\"ours\"" : "", line.ours == 0 ? " dim" : "", escape_html(line.name),
                       share_bar(line.scores[0] / 100, line.ours == 0   ? 7
                                                       : line.ours == 1 ? 0
                                                                        : 1));
    for (const double score : line.scores) out += fmt::format("<td>{}</td>", number(score, 1));
    out += "</tr>";
  }
  out +=
      "</tbody></table></div><details><summary>Series by series: the ensemble at its standard threshold</summary><div "
      "class=\"wide\"><table><thead><tr><th class=\"l\">series</th><th>windows</th><th>found</th><th>false-positive "
      "rows</th><th>score</th></tr></thead><tbody>";
  for (const NabReport::Series& series : nab.per_series) {
    out += fmt::format("<tr><td class=\"l\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2f}</td></tr>",
                       escape_html(series.name), series.score.windows, series.score.windows_detected,
                       series.score.false_positives, series.score.raw);
  }
  out += "</tbody></table></div></details>";
}

void examples(std::string& out, const Report& report, std::string_view title, std::string_view what,
              const std::vector<Example>& list) {
  out += fmt::format("<h2>{}</h2><p class=\"dim\">{}</p>", title, what);
  if (list.empty()) {
    out += "<p>None.</p>";
    return;
  }
  const auto any = [&](auto member) {
    return std::ranges::any_of(list, [&](const Example& one) { return !(one.*member).empty(); });
  };
  const bool id = any(&Example::id), entity = any(&Example::entity), file = any(&Example::file),
             type = any(&Example::type), why = any(&Example::text);
  out += "<div class=\"wide tight\"><table><thead><tr><th class=\"l\">time</th>";
  if (id) out += "<th class=\"l\">id</th>";
  if (file) out += "<th class=\"l\">file</th>";
  if (entity) out += "<th class=\"l\">entity</th>";
  if (type) out += "<th class=\"l\">kind</th>";
  out += "<th>fired</th><th>ensemble</th>";
  for (const DetectorColumn& column : report.columns) out += fmt::format("<th>{}</th>", escape_html(column.name));
  if (why) out += "<th class=\"l\">why</th>";
  out += "</tr></thead><tbody>";
  for (const Example& one : list) {
    std::string time = format_iso_time(one.time_ms);
    if (time.size() > 19) time.resize(19);
    std::ranges::replace(time, 'T', ' ');
    out += fmt::format("<tr><td class=\"l\">{}</td>", time);
    if (id) out += fmt::format("<td class=\"l\">{}</td>", escape_html(one.id));
    if (file) out += fmt::format("<td class=\"l\">{}</td>", escape_html(one.file));
    if (entity) out += fmt::format("<td class=\"l\">{}</td>", escape_html(one.entity));
    if (type) out += fmt::format("<td class=\"l\">{}</td>", escape_html(one.type));
    out += fmt::format("<td>{}</td><td>{}</td>", one.fired ? "yes" : "", number(one.ensemble, 2));
    for (const float score : one.scores) out += fmt::format("<td>{}</td>", number(score, 2));
    if (why) out += fmt::format("<td class=\"l wrap\">{}</td>", escape_html(one.text));
    out += "</tr>";
  }
  out += "</tbody></table></div>";
}

}  // namespace

std::string report_html(const Report& report) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>{} – evaluation</title><style>{}",
      escape_html(report.title), kStyle);
  for (int i = 0; i < kColours; ++i) {
    out += fmt::format(".c{0}{{stroke:var(--c{0})}}.b{0}{{background:var(--c{0})}}", i);
  }
  out += ".bad{background:var(--bad)}</style></head><body>";
  out += fmt::format("<h1>{}</h1><div class=\"about\">", escape_html(report.title));
  bool first = true;
  for (const auto& [name, text] : report.about) {
    out += fmt::format("{}<b>{}</b> {}", first ? "" : " · ", escape_html(name), escape_html(text));
    first = false;
  }
  out += fmt::format("{}<b>rows</b> {}</div>", first ? "" : " · ", count(report.rows));
  for (const std::string& note : report.notes) out += fmt::format("<p class=\"note\">{}</p>", escape_html(note));
  headline(out, report);
  detector_table(out, report);
  curve_charts(out, report);
  type_table(out, report);
  if (report.nab) nab_section(out, report);
  histograms(out, report);
  examples(out, report, "Worst misses",
           report.episodes.windows ? "Labelled windows of which no row reaches the ensemble's threshold at 0.3 %: the "
                                     "strongest row of each, weakest window first."
                                   : "Attacks of which no event reaches the ensemble's threshold at 0.3 %: the "
                                     "strongest event of each, weakest attack first.",
           report.misses);
  examples(out, report, "Loudest false alarms",
           "Rows labelled normal with the highest ensemble score, one an entity and hour.", report.false_alarms);
  out +=
      "<h2>How to read this</h2><p class=\"dim\">Higher scores are stranger. Rows without a label are in no number. "
      "<b>PR-AUC</b> is average "
      "precision, <b>found at x %</b> the largest share of anomalous rows above any threshold that flags at most x % "
      "of the normal rows. "
      "A detector that abstains ranks a row below every score. <b>Windows</b> and <b>attacks</b> count as found when "
      "one of their rows "
      "is. <b>Announced</b> is the ensemble as a person hears of it: a row that only goes on with what its entity "
      "already did within the quiet period ranks below all others. The delay runs from their first labelled row to the "
      "first row that fired as configured.</p></body></html>\n";
  return out;
}

}  // namespace alcedo::evaluate
