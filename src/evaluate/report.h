// Turns scored, labelled rows into the numbers by which detection is judged, for people (report.html) and programs
// (report.json).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/result.h"
#include "evaluate/curves.h"
#include "evaluate/labels.h"
#include "evaluate/nab.h"

namespace alcedo::evaluate {

struct DetectorColumn {
  std::string name;  // the instance: "spend_iqr"
  std::string kind;  // "zscore", "iqr", "absent"
};

struct ReportOptions {
  std::string title;                                       // the pipeline's name
  std::vector<std::pair<std::string, std::string>> about;  // shown as they are: pipeline file, events, labels, bundle
  std::vector<std::string> notes;                          // caveats that belong beside the numbers
  std::vector<DetectorColumn> detectors;
  std::vector<std::string> score_types;  // anomaly types whose scores come with each row; may be empty
  std::vector<std::string> label_types;  // label value kFirstLabelType + index; LabelSet::types()
  std::vector<std::string> baseline_kinds{"zscore", "iqr"};  // what the ensemble must beat
  std::int64_t attack_gap_ms = 3'600'000;  // labelled events of one entity and type closer than this are one attack
  std::uint64_t rows_max = 20'000'000;     // bounds memory: about 60 bytes a row and 4 a score
  std::size_t examples_max = 20;
  CurveOptions curves;
  std::uint64_t windows_total =
      0;  // LabelSet::size() of windows and ranges: how many hold no row is then noted; 0: not known
  const LabelSet* nab = nullptr;  // score as NAB does, with these windows; must outlive finish()
};

/// One scored event. Texts are copied.
struct ReportRow {
  std::string_view id;
  std::string_view file;  // file key, empty if the events are not of a file
  std::string_view entity;
  std::string_view text;  // why it scored as it did, for the examples; may be empty
  std::int64_t time_ms = 0;
  std::int32_t partition = 0;
  std::int64_t offset = 0;
  RowLabel label;
  std::span<const float> scores;  // by detector, higher is stranger; NaN: it abstained
  float ensemble = std::numeric_limits<float>::quiet_NaN();
  std::span<const float> type_scores;  // by score_types
  bool fired = false;
  bool opened =
      false;  // it opened an incident: what a person is told, judged by NAB as "incidents"; all false: not known
  double value = kMissing;  // of a one-value series: lets NAB's windowed Gaussian run beside
};

/// Counts of scores in equal steps between low and high (log1p of the score where `logarithmic`), normal and anomalous
/// apart. What lies outside is in the first and last bin.
struct Histogram {
  double low = 0;
  double high = 0;
  bool logarithmic = false;
  std::vector<std::uint64_t> normal;
  std::vector<std::uint64_t> anomalous;
};

struct DetectorResult {
  std::string name;      // "ensemble", an instance, or a kind
  std::string kind;      // "ensemble" for the ensemble
  std::string instance;  // of a kind: whose numbers these are; empty otherwise
  Curves curves;
  double abstained_share = 0;                           // of all labelled rows
  std::array<double, kFprMax.size()> episode_recall{};  // share of episodes with a row above at_fpr's threshold
  Histogram histogram;
};

struct TypeResult {
  std::string name;
  std::uint64_t rows = 0;
  double fired_share = 0;
  std::vector<std::array<double, kFprMax.size()>> tpr;        // by Report::detectors, at their thresholds
  std::optional<std::array<double, kFprMax.size()>> own_tpr;  // of the anomaly type with the same name
};

/// A labelled window, or an attack: a run of labelled events of one entity and type.
struct Episodes {
  bool windows = false;
  std::uint64_t count = 0;
  std::uint64_t fired = 0;    // with at least one fired row
  double delay_median_s = 0;  // first labelled row to first fired row, of those that fired; NaN if none
  double delay_p90_s = 0;
};

struct Example {
  std::string id, file, entity, text, type;
  std::int64_t time_ms = 0;
  float ensemble = 0;
  std::vector<float> scores;  // by ReportOptions::detectors
  bool fired = false;
};

struct NabResult {
  std::string name;  // a result's name, "fired" or "incidents" (what the pipeline decided), or "windowed_gaussian"
  std::array<NabScore, kNabProfiles.size()> scores;
};
struct NabReport {
  std::uint64_t series = 0;
  std::uint64_t windows = 0;
  std::uint64_t rows = 0;
  std::vector<NabResult> results;
  struct Series {  // the ensemble at its standard threshold
    std::string name;
    NabScorer::SeriesScore score;
  };
  std::vector<Series> per_series;
};

struct Report {
  std::string title;
  std::vector<std::pair<std::string, std::string>> about;
  std::vector<std::string> notes;
  std::vector<DetectorColumn> columns;
  std::uint64_t rows = 0;
  std::uint64_t anomalies = 0;
  std::uint64_t normal = 0;
  std::uint64_t unlabelled = 0;
  std::vector<DetectorResult> detectors;  // ensemble, then the best of each kind, then the instances
  std::vector<TypeResult> types;
  std::string best_baseline;  // instance; empty: there is none
  double uplift = 0;          // ensemble TPR at 0.3 % / best baseline's - 1; NaN without one or where that is 0
  Interval uplift_interval;
  double fired_tpr = 0, fired_fpr = 0, fired_precision = 0;
  double days = 0;               // of event time that the rows cover; gaps between files are not counted
  double alerts_per_day = 0;     // fired rows
  double incidents_per_day = 0;  // NaN unless set
  double events_per_second = 0;  // NaN unless set
  Episodes episodes;
  std::vector<Example> misses;        // the strongest row of each episode, weakest episode first
  std::vector<Example> false_alarms;  // normal rows, strongest first, one an entity and hour
  std::optional<NabReport> nab;
};

/// Collects rows, then computes.
///
/// Rows     Those with equal (partition, offset) that follow each other within a partition are one, by the highest
/// score of each
///          column (a wide record's parts); its entity and text are those of the part with the highest ensemble score.
/// Labels   Only rows that are known to be normal or anomalous are judged; the others count as unlabelled.
/// Threads  One at a time. Repeats: the same rows in the same order give the same report.
class ReportBuilder {
 public:
  /// Errors: kInvalidArgument: a detector with a reserved name ("ensemble", "fired", "incidents", "windowed_gaussian"),
  /// a name given twice.
  static Result<ReportBuilder> create(ReportOptions options);

  /// Spans must have the sizes that the options say. Errors: kUnavailable past rows_max, naming the limit.
  Result<> add(const ReportRow& row);

  /// Names of the label types, where they are only known once the rows have been read.
  void set_label_types(std::vector<std::string> types) { options_.label_types = std::move(types); }
  void set_incidents(std::uint64_t incidents) { incidents_ = incidents; }
  void set_throughput(std::uint64_t events, double seconds) {
    events_per_second_ = seconds > 0 ? static_cast<double>(events) / seconds : std::numeric_limits<double>::quiet_NaN();
  }
  std::uint64_t rows() const { return rows_.size(); }

  /// Errors: kInvalidArgument where NAB's scoring was asked and its windows do not fit the rows. Cost: a sort a column;
  /// 1 M rows and 12 columns take a few seconds. The builder is spent.
  Result<Report> finish();

 private:
  struct Row {
    std::int64_t time_ms = 0;
    std::uint64_t id_at = 0;  // into texts_
    std::uint32_t id_size = 0;
    std::uint32_t text = 0;    // 1 + index into reasons_; 0: none
    std::uint32_t entity = 0;  // into names_
    std::uint32_t file = 0;
    std::int32_t window = -1;
    Label label = kUnlabelled;
    bool fired = false;
    bool opened = false;
  };
  struct LastOfPartition {
    std::int64_t offset = 0;
    std::uint32_t row = 0;
  };

  explicit ReportBuilder(ReportOptions options);
  std::uint32_t intern(std::string_view text);
  std::size_t ensemble_column() const { return options_.detectors.size(); }
  std::size_t type_column(std::size_t type) const { return options_.detectors.size() + 1 + type; }
  bool is_anomalous(std::size_t row) const { return rows_[row].label >= kFirstLabelType; }

  void judge_detectors(Report& report);
  void judge_types(Report& report);
  void judge_uplift(Report& report);
  void judge_fired(Report& report);
  std::vector<std::uint32_t> find_episodes(Report& report);
  void judge_episodes(const std::vector<std::uint32_t>& episode_of, Report& report);
  void add_notes(Report& report) const;
  void pick_examples(const std::vector<std::uint32_t>& episode_of, Report& report);
  Result<> judge_nab(Report& report);
  Example example(std::size_t row) const;
  Histogram histogram(std::size_t column) const;

  ReportOptions options_;
  std::vector<Row> rows_;
  std::vector<std::vector<float>> columns_;  // detectors, ensemble, types
  std::vector<double> values_;               // only for NAB
  std::string texts_;
  std::vector<std::string> reasons_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, std::uint32_t> name_at_;               // looked up only
  std::unordered_map<std::int32_t, LastOfPartition> last_of_partition_;  // looked up only
  std::optional<std::uint64_t> incidents_;
  double events_per_second_ = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::size_t> column_of_;  // of each result that has one; set by judge_detectors
};

/// The machine-readable form: the shape that the documentation of `alcedo evaluate` gives.
std::string report_json(const Report& report);

/// report.json and report.html in `directory`, which is made if need be. Errors: kIo with the path.
Result<> write_report(const Report& report, const std::string& directory);

}  // namespace alcedo::evaluate
