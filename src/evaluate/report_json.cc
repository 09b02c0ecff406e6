// The report for programs: field names are a promise to whoever reads report.json.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "core/json.h"
#include "evaluate/report.h"
#include "evaluate/report_html.h"

namespace alcedo::evaluate {
namespace {

std::string rate_name(std::size_t k) { return fmt::format("{}", kFprMax[k]); }

void interval(JsonWriter& json, std::string_view name, const Interval& value) {
  json.key(name).begin_array().value(value.low).value(value.high).end_array();
}

template <typename ValueOf>
void at_rates(JsonWriter& json, std::string_view name, ValueOf value_of) {
  json.key(name).begin_object();
  for (std::size_t k = 0; k < kFprMax.size(); ++k) json.field(rate_name(k), value_of(k));
  json.end_object();
}

void detector(JsonWriter& json, const DetectorResult& result) {
  const Curves& curves = result.curves;
  json.key(result.name).begin_object();
  json.field("pr_auc", curves.pr_auc);
  interval(json, "pr_auc_interval", curves.pr_auc_interval);
  json.field("roc_auc", curves.roc_auc);
  interval(json, "roc_auc_interval", curves.roc_auc_interval);
  at_rates(json, "tpr_at_fpr", [&](std::size_t k) { return curves.at_fpr[k].tpr; });
  json.key("tpr_at_fpr_interval").begin_object();
  for (std::size_t k = 0; k < kFprMax.size(); ++k) interval(json, rate_name(k), curves.tpr_interval[k]);
  json.end_object();
  at_rates(json, "threshold_at_fpr", [&](std::size_t k) { return curves.at_fpr[k].threshold; });
  at_rates(json, "precision_at_fpr", [&](std::size_t k) { return curves.at_fpr[k].precision; });
  at_rates(json, "episode_recall_at_fpr", [&](std::size_t k) { return result.episode_recall[k]; });
  json.field("abstained_share", result.abstained_share);
  json.field("kind", result.kind);
  if (!result.instance.empty()) json.field("instance", result.instance);
  json.end_object();
}

void nab(JsonWriter& json, const NabReport& report) {
  json.key("nab").begin_object();
  for (const NabResult& result : report.results) {
    json.key(result.name).begin_object();
    for (std::size_t p = 0; p < kNabProfiles.size(); ++p) json.field(kNabProfiles[p].name, result.scores[p].score);
    json.key("thresholds").begin_object();
    for (std::size_t p = 0; p < kNabProfiles.size(); ++p) json.field(kNabProfiles[p].name, result.scores[p].threshold);
    json.end_object();
    json.field("windows_detected", result.scores[0].windows_detected);
    json.field("false_positive_rows", result.scores[0].false_positives);
    json.end_object();
  }
  json.end_object();
  json.key("nab_corpus").begin_object();
  json.field("series", report.series).field("rows", report.rows).field("windows", report.windows);
  json.end_object();
  json.key("nab_published").begin_object();
  for (const NabPublished& row : nab_published()) {
    json.key(row.detector).begin_object();
    for (std::size_t p = 0; p < kNabProfiles.size(); ++p) json.field(kNabProfiles[p].name, row.scores[p]);
    json.end_object();
  }
  json.end_object();
}

Result<> write_file(const std::string& path, std::string_view text) {
  // Written beside and renamed, so that a reader never sees half a report.
  const std::string partial = path + ".part";
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(partial.c_str(), "wb"), std::fclose);
  bool good = file != nullptr && std::fwrite(text.data(), 1, text.size(), file.get()) == text.size();
  if (file) good = std::fclose(file.release()) == 0 && good;
  if (!good || std::rename(partial.c_str(), path.c_str()) != 0) {
    return error(ErrorCode::kIo, fmt::format("{}: cannot be written: {}", path, std::strerror(errno)));
  }
  return {};
}

}  // namespace

std::string report_json(const Report& report) {
  JsonWriter json;
  json.begin_object();
  json.field("rows", report.rows);
  json.field("anomalies", report.anomalies);
  json.field("normal", report.normal);
  json.field("unlabelled", report.unlabelled);
  json.key("detectors").begin_object();
  for (const DetectorResult& result : report.detectors) detector(json, result);
  json.end_object();
  json.key("by_type").begin_object();
  for (const TypeResult& type : report.types) {
    json.key(type.name).begin_object();
    json.field("rows", type.rows);
    at_rates(json, "tpr_at_fpr", [&](std::size_t k) { return type.tpr.front()[k]; });
    if (type.own_tpr) at_rates(json, "own_score_tpr_at_fpr", [&](std::size_t k) { return (*type.own_tpr)[k]; });
    json.field("fired_share", type.fired_share);
    json.key("detectors").begin_object();
    for (std::size_t d = 0; d < report.detectors.size(); ++d) {
      json.key(report.detectors[d].name).begin_object();
      at_rates(json, "tpr_at_fpr", [&](std::size_t k) { return type.tpr[d][k]; });
      json.end_object();
    }
    json.end_object();
    json.end_object();
  }
  json.end_object();
  json.key("best_baseline");
  if (report.best_baseline.empty()) {
    json.null();
  } else {
    json.value(report.best_baseline);
  }
  json.field("uplift_over_best_baseline", report.uplift);
  interval(json, "uplift_over_best_baseline_interval", report.uplift_interval);
  json.field("events_per_second", report.events_per_second);
  json.field("days", report.days);
  json.field("alerts_per_day", report.alerts_per_day);
  json.field("incidents_per_day", report.incidents_per_day);
  json.field("detection_delay_seconds_median", report.episodes.delay_median_s);
  json.field("detection_delay_seconds_p90", report.episodes.delay_p90_s);
  json.key("episodes").begin_object();
  json.field("kind", report.episodes.windows ? "window" : "attack");
  json.field("count", report.episodes.count);
  json.field("fired", report.episodes.fired);
  json.end_object();
  json.key("fired").begin_object();
  json.field("true_positive_rate", report.fired_tpr);
  json.field("false_positive_rate", report.fired_fpr);
  json.field("precision", report.fired_precision);
  json.end_object();
  if (report.nab) nab(json, *report.nab);
  json.key("about").begin_object();
  json.field("title", report.title);
  for (const auto& [name, text] : report.about) json.field(name, text);
  json.end_object();
  json.key("notes").begin_array();
  for (const std::string& note : report.notes) json.value(note);
  json.end_array();
  json.end_object();
  return json.take() + "\n";
}

Result<> write_report(const Report& report, const std::string& directory) {
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed) {
    return error(ErrorCode::kIo, fmt::format("{}: cannot be made: {}", directory, failed.message()));
  }
  if (auto good = write_file(directory + "/report.json", report_json(report)); !good) return good;
  return write_file(directory + "/report.html", report_html(report));
}

}  // namespace alcedo::evaluate
