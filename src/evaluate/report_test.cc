// A report is read by programs and by people who decide on it: its fields are a promise, its sums must be right, its
// page safe.
#include "evaluate/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/prng.h"
#include "evaluate/report_html.h"
#include "evaluate/windowed_gaussian.h"

namespace alcedo::evaluate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr Label kTakeover = kFirstLabelType;
constexpr Label kTesting = kFirstLabelType + 1;

ReportOptions two_detectors() {
  ReportOptions options;
  options.title = "payments";
  options.detectors = {{"spend_z", "zscore"}, {"spend_iqr", "iqr"}};
  options.score_types = {"takeover"};
  options.label_types = {"takeover", "testing"};
  return options;
}

ReportBuilder builder_of(ReportOptions options) {
  auto builder = ReportBuilder::create(std::move(options));
  EXPECT_TRUE(builder) << builder.error().message;
  return std::move(*builder);
}

// One row, with what differs from row to row.
struct Fact {
  std::int64_t offset = 0;
  Label label = kNormal;
  float z = 0, iqr = 0, ensemble = 0, takeover = 0;
  bool fired = false;
  std::int64_t time_ms = 0;
  std::string entity = "card-1";
  std::int32_t window = -1;
  std::string file;
  bool opened = false;
  double value = kMissing;
  std::string id;
  std::string text;
};

void add(ReportBuilder& builder, const Fact& fact) {
  const float scores[] = {fact.z, fact.iqr};
  ReportRow row;
  row.id = fact.id;
  row.text = fact.text;
  row.entity = fact.entity;
  row.file = fact.file;
  row.time_ms = fact.time_ms;
  row.offset = fact.offset;
  row.label = {fact.label, fact.window};
  row.scores = scores;
  row.ensemble = fact.ensemble;
  row.type_scores = std::span(&fact.takeover, 1);
  row.fired = fact.fired;
  row.opened = fact.opened;
  row.value = fact.value;
  const auto good = builder.add(row);
  EXPECT_TRUE(good) << good.error().message;
}

// 1000 normal rows over ten days; 4 takeovers and 2 testings. The ensemble finds 5 of 6, z 4, iqr 2 at 0.3 %.
Report small_report() {
  ReportBuilder builder = builder_of(two_detectors());
  std::int64_t offset = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto noise = static_cast<float>(i) / 1000.0F;
    add(builder, {.offset = offset++,
                  .z = noise,
                  .iqr = noise,
                  .ensemble = noise,
                  .takeover = noise,
                  .fired = i == 7,
                  .time_ms = i * 864'864,
                  .entity = "card-" + std::to_string(i % 10),
                  .id = "n" + std::to_string(i)});
  }
  for (int i = 0; i < 6; ++i) {
    add(builder, {.offset = offset++,
                  .label = i < 4 ? kTakeover : kTesting,
                  .z = i < 4 ? 9.0F : 0.2F,
                  .iqr = i < 2 ? 9.0F : 0.2F,
                  .ensemble = i < 5 ? 9.0F : 0.3F,
                  .takeover = i < 4 ? 5.0F : 0.0F,
                  .fired = i == 1,
                  .time_ms = 500'000'000 + i * 60'000,
                  .entity = "card-77",
                  .id = "a" + std::to_string(i)});
  }
  builder.set_incidents(5);
  builder.set_throughput(1006, 2.0);
  auto report = builder.finish();
  EXPECT_TRUE(report);
  return std::move(*report);
}

const DetectorResult& named(const Report& report, std::string_view name) {
  for (const DetectorResult& result : report.detectors) {
    if (result.name == name) return result;
  }
  ADD_FAILURE() << "no detector " << name;
  return report.detectors.front();
}

TEST(ReportTest, CountsAndRates) {
  const Report report = small_report();
  EXPECT_EQ(report.rows, 1006U);
  EXPECT_EQ(report.anomalies, 6U);
  EXPECT_EQ(report.normal, 1000U);
  EXPECT_NEAR(named(report, "ensemble").curves.at_fpr[kMainFpr].tpr, 5.0 / 6, 1e-12);
  EXPECT_NEAR(named(report, "spend_z").curves.at_fpr[kMainFpr].tpr, 4.0 / 6, 1e-12);
  EXPECT_NEAR(named(report, "zscore").curves.at_fpr[kMainFpr].tpr, 4.0 / 6, 1e-12);
  EXPECT_EQ(named(report, "zscore").instance, "spend_z");
  EXPECT_NEAR(report.uplift, 5.0 / 4 - 1, 1e-12);
  EXPECT_EQ(report.best_baseline, "spend_z");
  EXPECT_LE(report.uplift_interval.low, report.uplift);
  EXPECT_GE(report.uplift_interval.high, report.uplift);
  EXPECT_NEAR(report.fired_tpr, 1.0 / 6, 1e-12);
  EXPECT_NEAR(report.fired_fpr, 1.0 / 1000, 1e-12);
  EXPECT_NEAR(report.fired_precision, 0.5, 1e-12);
  EXPECT_NEAR(report.days, 10.0, 1e-3);
  EXPECT_NEAR(report.alerts_per_day, 0.2, 1e-3);
  EXPECT_NEAR(report.incidents_per_day, 0.5, 1e-3);
  EXPECT_DOUBLE_EQ(report.events_per_second, 503);
}

TEST(ReportTest, ByTypeAtOneThreshold) {
  const Report report = small_report();
  ASSERT_EQ(report.types.size(), 2U);
  EXPECT_EQ(report.types[0].name, "takeover");
  EXPECT_EQ(report.types[0].rows, 4U);
  EXPECT_DOUBLE_EQ(report.types[0].tpr[0][kMainFpr], 1.0);
  EXPECT_DOUBLE_EQ((*report.types[0].own_tpr)[kMainFpr], 1.0);
  EXPECT_DOUBLE_EQ(report.types[0].fired_share, 0.25);
  EXPECT_DOUBLE_EQ(report.types[1].tpr[0][kMainFpr], 0.5);
  EXPECT_FALSE(report.types[1].own_tpr);
}

TEST(ReportTest, AttacksAreRunsOfOneEntityAndTypeAndTheDelayIsToTheFirstFiredRow) {
  const Report report = small_report();
  EXPECT_FALSE(report.episodes.windows);
  EXPECT_EQ(report.episodes.count, 2U);  // the takeovers, the testings
  EXPECT_EQ(report.episodes.fired, 1U);
  EXPECT_DOUBLE_EQ(report.episodes.delay_median_s, 60);
  EXPECT_DOUBLE_EQ(named(report, "spend_iqr").episode_recall[kMainFpr], 0.5);
  EXPECT_TRUE(report.misses.empty());  // both attacks have a row above the threshold
  ASSERT_FALSE(report.false_alarms.empty());
  EXPECT_EQ(report.false_alarms.front().id, "n999");
}

TEST(ReportTest, AGapOrAnotherEntityBeginsAnotherAttack) {
  ReportBuilder builder = builder_of(two_detectors());
  const std::int64_t hour = 3'600'000;
  add(builder, {.offset = 0, .label = kTakeover, .ensemble = 1, .time_ms = 0});
  add(builder, {.offset = 1, .label = kTakeover, .ensemble = 1, .time_ms = hour - 1});
  add(builder, {.offset = 2, .label = kTakeover, .ensemble = 1, .time_ms = 3 * hour});
  add(builder, {.offset = 3, .label = kTakeover, .ensemble = 1, .time_ms = 0, .entity = "card-2"});
  EXPECT_EQ(builder.finish()->episodes.count, 3U);
}

TEST(ReportTest, WindowsAreEpisodesAcrossEntities) {
  ReportOptions options = two_detectors();
  options.windows_total = 5;
  ReportBuilder builder = builder_of(options);
  for (int i = 0; i < 400; ++i) {
    const bool in = (i >= 100 && i < 120) || (i >= 300 && i < 310);
    add(builder, {.offset = i,
                  .label = in ? kTakeover : kNormal,
                  .ensemble = i == 110 ? 9.0F : 0.1F * static_cast<float>(i % 10),
                  .fired = i == 110,
                  .time_ms = i * 1000,
                  .window = in ? (i < 200 ? 0 : 1) : -1,
                  .file = "m"});
  }
  const Report report = *builder.finish();
  EXPECT_TRUE(report.episodes.windows);
  EXPECT_EQ(report.episodes.count, 2U);
  EXPECT_EQ(report.episodes.fired, 1U);
  EXPECT_DOUBLE_EQ(report.episodes.delay_median_s, 10);
  EXPECT_DOUBLE_EQ(report.detectors.front().episode_recall[kMainFpr], 0.5);
  EXPECT_THAT(report.notes, ::testing::Contains(HasSubstr("3 of 5 labelled windows hold no scored row")));
  ASSERT_EQ(report.misses.size(), 1U);  // one line for the missed window, not one a row
  EXPECT_EQ(report.misses[0].file, "m");
}

TEST(ReportTest, PartsOfOneRecordAreOneRow) {
  ReportBuilder builder = builder_of(two_detectors());
  add(builder, {.offset = 0, .z = 1, .iqr = kNan, .ensemble = 1, .entity = "cpu", .text = "cpu is high"});
  add(builder,
      {.offset = 0, .z = kNan, .iqr = kNan, .ensemble = 3, .fired = true, .entity = "disk", .text = "disk is full"});
  add(builder, {.offset = 0, .label = kTakeover, .z = 2, .iqr = kNan, .ensemble = kNan, .entity = "net"});
  add(builder, {.offset = 1, .z = 0.5, .iqr = kNan, .ensemble = 5, .entity = "cpu"});
  const Report report = *builder.finish();
  EXPECT_EQ(report.rows, 2U);
  EXPECT_EQ(report.anomalies, 1U);
  EXPECT_DOUBLE_EQ(report.fired_tpr, 1.0);
  EXPECT_EQ(named(report, "spend_iqr").curves.abstained, 2U);
  EXPECT_DOUBLE_EQ(named(report, "spend_iqr").abstained_share, 1.0);
  EXPECT_DOUBLE_EQ(named(report, "spend_z").curves.roc_auc, 1.0);   // 2 above 0.5
  EXPECT_DOUBLE_EQ(named(report, "ensemble").curves.roc_auc, 0.0);  // 3 below 5
  ASSERT_EQ(report.misses.size(), 1U);
  EXPECT_EQ(report.misses[0].entity, "disk");
  EXPECT_EQ(report.misses[0].text, "disk is full");
}

TEST(ReportTest, UnlabelledRowsAreInNoNumberAndTheReportSaysWhatIsMissing) {
  ReportBuilder builder = builder_of(two_detectors());
  for (int i = 0; i < 50; ++i) {
    add(builder, {.offset = i, .label = i < 2 ? kTakeover : kUnlabelled, .ensemble = 1, .time_ms = i});
  }
  const Report report = *builder.finish();
  EXPECT_EQ(report.unlabelled, 48U);
  EXPECT_TRUE(std::isnan(report.detectors.front().curves.at_fpr[kMainFpr].tpr));
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_THAT(report.notes[0], HasSubstr("complete: true"));
  simdjson::dom::parser parser;
  EXPECT_EQ(parser.parse(simdjson::padded_string(report_json(report))).error(), simdjson::SUCCESS);
  EXPECT_THAT(report_html(report), HasSubstr("complete: true"));
}

TEST(ReportTest, TheBestInstanceStandsUnderItsKindsName) {
  ReportOptions options;
  options.detectors = {{"zscore", "zscore"}, {"fan_z", "zscore"}};
  ReportBuilder builder = builder_of(options);
  for (int i = 0; i < 400; ++i) {
    const float scores[] = {i % 3 == 0 ? 1.0F : 0.0F, i < 4 ? 9.0F : 0.0F};
    ReportRow row;
    row.offset = i;
    row.label = {i < 4 ? kTakeover : kNormal, -1};
    row.scores = scores;
    ASSERT_TRUE(builder.add(row));
  }
  const Report report = *builder.finish();
  EXPECT_EQ(named(report, "zscore").instance, "fan_z");
  EXPECT_DOUBLE_EQ(named(report, "zscore").curves.pr_auc, 1.0);
  EXPECT_LT(named(report, "zscore (instance)").curves.pr_auc, 0.5);
}

TEST(ReportTest, RefusesReservedAndRepeatedNamesAndBoundsItsRows) {
  ReportOptions options = two_detectors();
  options.detectors[1].name = "ensemble";
  EXPECT_THAT(ReportBuilder::create(options).error().message, HasSubstr("'ensemble'"));
  options.detectors[1].name = options.detectors[0].name;
  EXPECT_FALSE(ReportBuilder::create(options));
  options = two_detectors();
  options.rows_max = 1;
  ReportBuilder builder = builder_of(options);
  add(builder, {.offset = 0});
  const float scores[] = {0, 0, 0};
  ReportRow row;
  row.offset = 1;
  row.scores = std::span(scores, 2);
  row.type_scores = std::span(scores, 1);
  EXPECT_THAT(builder.add(row).error().message, HasSubstr("more than 1 rows"));
}

TEST(ReportJsonTest, HasThePromisedShape) {
  simdjson::dom::parser parser;
  simdjson::dom::element json;
  ASSERT_EQ(parser.parse(simdjson::padded_string(report_json(small_report()))).get(json), simdjson::SUCCESS);
  const auto number = [&](const char* pointer) {
    double value = -1;
    EXPECT_EQ(json.at_pointer(pointer).get(value), simdjson::SUCCESS) << pointer;
    return value;
  };
  EXPECT_EQ(number("/rows"), 1006);
  EXPECT_EQ(number("/anomalies"), 6);
  for (const char* name : {"ensemble", "zscore", "iqr", "spend_z", "spend_iqr"}) {
    for (const char* field : {"/pr_auc", "/roc_auc", "/tpr_at_fpr/0.001", "/tpr_at_fpr/0.003", "/tpr_at_fpr/0.01",
                              "/pr_auc_interval/0", "/tpr_at_fpr_interval/0.003/1"}) {
      number((std::string("/detectors/") + name + field).c_str());
    }
  }
  EXPECT_NEAR(number("/detectors/ensemble/tpr_at_fpr/0.003"), 5.0 / 6, 1e-9);
  EXPECT_NEAR(number("/by_type/testing/tpr_at_fpr/0.003"), 0.5, 1e-9);
  EXPECT_EQ(number("/by_type/takeover/rows"), 4);
  EXPECT_EQ(number("/by_type/takeover/detectors/zscore/tpr_at_fpr/0.003"), 1);
  EXPECT_NEAR(number("/uplift_over_best_baseline"), 0.25, 1e-9);
  EXPECT_EQ(number("/events_per_second"), 503);
  number("/alerts_per_day");
  number("/incidents_per_day");
  EXPECT_EQ(number("/detection_delay_seconds_median"), 60);
}

TEST(ReportJsonTest, RepeatsToTheByte) {
  EXPECT_EQ(report_json(small_report()), report_json(small_report()));
  EXPECT_EQ(report_html(small_report()), report_html(small_report()));
}

TEST(ReportHtmlTest, EscapesEveryText) {
  const std::string evil = "<script>alert('x')</script>\"&";
  ReportOptions options = two_detectors();
  options.title = evil;
  options.about = {{evil, evil}};
  options.notes = {evil};
  options.detectors[0].name = evil;
  options.detectors[1].kind = evil;
  options.label_types = {evil};
  ReportBuilder builder = builder_of(options);
  for (int i = 0; i < 30; ++i) {
    add(builder, {.offset = i,
                  .label = i < 3 ? kTakeover : kNormal,
                  .ensemble = static_cast<float>(i),
                  .time_ms = i,
                  .entity = evil,
                  .file = evil,
                  .id = evil + "\x01\xFF",
                  .text = evil});
  }
  const std::string html = report_html(*builder.finish());
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("alert('x')")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("\x01")));
  EXPECT_THAT(html, Not(HasSubstr("\xFF")));
}

TEST(ReportHtmlTest, NeedsNoNetwork) {
  const std::string html = report_html(small_report());
  for (const char* reference : {"http:", "https:", "src=", "href=", "url(", "@import"}) {
    EXPECT_THAT(html, Not(HasSubstr(reference)));
  }
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_LT(html.size(), 300'000U);
}

TEST(ReportHtmlTest, AnEmptyReportIsStillAPage) {
  ReportOptions options;
  options.title = "empty";
  const Report report = *builder_of(options).finish();
  EXPECT_THAT(report_html(report), HasSubstr("No row was scored."));
  simdjson::dom::parser parser;
  EXPECT_EQ(parser.parse(simdjson::padded_string(report_json(report))).error(), simdjson::SUCCESS);
}

TEST(ReportNabTest, ScoresFilesAsSeriesAndRunsTheReference) {
  const auto labels = LabelSet::parse(
      R"({"x/a.csv": [["1970-01-01 00:01:40", "1970-01-01 00:01:59"]], "x/b.csv": [], "x/missing.csv": []})", "w.json",
      {});
  ASSERT_TRUE(labels);
  ReportOptions options = two_detectors();
  options.label_types = labels->types();
  options.nab = &*labels;
  ReportBuilder builder = builder_of(options);
  Prng prng(1);
  std::int64_t offset = 0;
  for (int i = 0; i < 200; ++i) {
    for (const char* file : {"b", "a", "other"}) {  // interleaved, and one that the windows do not name
      const bool jump = *file == 'a' && i >= 100 && i < 120;
      const RowLabel label = labels->by_time(file, i * 1000);
      add(builder, {.offset = offset++,
                    .label = label.label,
                    .z = static_cast<float>(prng.uniform()),
                    .ensemble = jump ? 9.0F : 0.0F,
                    .fired = jump,
                    .time_ms = i * 1000,
                    .entity = "e",
                    .window = label.window,
                    .file = file,
                    .opened = jump && i == 100,
                    .value = prng.normal() + (jump ? 50 : 0)});
    }
  }
  const auto report = builder.finish();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->unlabelled, 200U);
  ASSERT_TRUE(report->nab);
  EXPECT_EQ(report->nab->series, 2U);
  EXPECT_EQ(report->nab->windows, 1U);
  double ensemble = 0, fired = 0, incidents = 0, gaussian = 0, z = 100;
  for (const NabResult& result : report->nab->results) {
    if (result.name == "ensemble") ensemble = result.scores[0].score;
    if (result.name == "incidents") incidents = result.scores[0].score;
    if (result.name == "fired") fired = result.scores[0].score;
    if (result.name == "windowed_gaussian") gaussian = result.scores[0].score;
    if (result.name == "spend_z") z = result.scores[0].score;
  }
  EXPECT_DOUBLE_EQ(ensemble, 100);
  EXPECT_DOUBLE_EQ(fired, 100);
  EXPECT_DOUBLE_EQ(incidents, 100);
  EXPECT_GT(gaussian, 90);
  EXPECT_LT(z, 90);
  // One window is not the corpus that the scoreboard is of, and the page says so beside it.
  EXPECT_THAT(report_html(*report), HasSubstr("of all 116 windows of the corpus, these of 1: they cannot be compared"));
  const std::string json = report_json(*report);
  EXPECT_THAT(json, HasSubstr("\"nab\":{\"ensemble\":{\"standard\":100,\"reward_low_fp\":100,\"reward_low_fn\":100"));
  EXPECT_THAT(json,
              HasSubstr("\"Windowed Gaussian\":{\"standard\":39.6,\"reward_low_fp\":20.9,\"reward_low_fn\":47.4}"));
}

TEST(ReportNabTest, SaysWhenNoFileIsNamed) {
  const auto labels = LabelSet::parse(R"({"x/a.csv": []})", "w.json", {});
  ReportOptions options = two_detectors();
  options.nab = &*labels;
  ReportBuilder builder = builder_of(options);
  add(builder, {.file = "b"});
  EXPECT_THAT(builder.finish().error().message, HasSubstr("name none of the files"));
}

TEST(WriteReportTest, WritesBothFilesAndSaysWhenItCannot) {
  std::string pattern = ::testing::TempDir() + "/report_XXXXXX";
  const std::string folder = mkdtemp(pattern.data());
  const Report report = small_report();
  ASSERT_TRUE(write_report(report, folder + "/new/deep"));
  EXPECT_TRUE(std::filesystem::exists(folder + "/new/deep/report.html"));
  std::ifstream json(folder + "/new/deep/report.json");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(json), {}), report_json(report));
  std::ofstream(folder + "/file") << "x";
  const auto failed = write_report(report, folder + "/file");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_THAT(failed.error().message, HasSubstr(folder + "/file"));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace alcedo::evaluate
