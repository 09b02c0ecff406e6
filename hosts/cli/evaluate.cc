// alcedo evaluate: how well a pipeline detects, judged by labels; report.json for programs, report.html for people.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <set>

#include "commands.h"
#include "core/time.h"
#include "evaluate/announcement.h"
#include "evaluate/report.h"
#include "offline.h"
#include "truth.h"

namespace alcedo::cli {
namespace {

struct EvaluateArguments {
  OfflineArguments offline;
  std::string labels;
  std::string report = "report";
  std::string scoring = "rows";
  bool complete = false;
};

// How long a person remembers what an entity was announced for: as long as histories do by default.
constexpr std::int64_t kAnnouncedHalfLifeMs = 14 * kDayMs;
constexpr double kExplainFrom = 2.5;  // surprise: rows below are no example of anything

void print_summary(const evaluate::Report& report, const std::string& directory) {
  fmt::print(
      "{} rows, {} anomalous, {} normal, {} without a label; {} events/s\n", with_commas(report.rows),
      with_commas(report.anomalies), with_commas(report.normal), with_commas(report.unlabelled),
      with_commas(static_cast<std::uint64_t>(std::isnan(report.events_per_second) ? 0 : report.events_per_second)));
  if (report.anomalies > 0) {
    fmt::print("{:20} {:>8} {:>8} {:>10} {:>10} {:>10}\n", "detector", "PR-AUC", "ROC-AUC", "TPR@0.1%", "TPR@0.3%",
               "TPR@1%");
    for (const auto& detector : report.detectors) {
      fmt::print("{:20} {:>8} {:>8}", detector.name, figure(detector.curves.pr_auc, 3),
                 figure(detector.curves.roc_auc, 3));
      for (const auto& at : detector.curves.at_fpr) fmt::print(" {:>10}", figure(at.tpr, 3));
      fmt::print("\n");
    }
    fmt::print(
        "as configured: {} % of anomalous rows fired, {} % of normal ones; {} fired rows and {} incidents a day\n",
        figure(100 * report.fired_tpr, 1), figure(100 * report.fired_fpr, 3), figure(report.alerts_per_day, 1),
        figure(report.incidents_per_day, 1));
  }
  if (report.nab) {
    fmt::print("NAB ({} series, {} windows) {:>10} {:>14} {:>14}\n", report.nab->series, report.nab->windows,
               "standard", "reward low FP", "reward low FN");
    for (const auto& result : report.nab->results) {
      fmt::print("  {:28} {:10.1f} {:14.1f} {:14.1f}\n", result.name, result.scores[0].score, result.scores[1].score,
                 result.scores[2].score);
    }
    for (const auto& published : evaluate::nab_published()) {
      fmt::print("  {:28} {:10.1f} {:14.1f} {:14.1f}  (published)\n", published.detector, published.scores[0],
                 published.scores[1], published.scores[2]);
    }
  }
  for (const auto& note : report.notes) fmt::print("note: {}\n", note);
  fmt::print("{}/report.json and {}/report.html written\n", directory, directory);
}

int evaluate(const EvaluateArguments& arguments) {
  int exit_code = kDone;
  auto offline = Offline::open(arguments.offline, exit_code);
  if (!offline) return exit_code;
  const auto& pipeline = offline->pipeline();

  auto truth = Truth::open(*offline, {arguments.labels, arguments.complete, true}, exit_code);
  if (!truth) return exit_code;
  const evaluate::LabelSet* labels = truth->file();

  evaluate::ReportOptions options;
  options.title = pipeline.name;
  options.about = {
      {"pipeline", pipeline.path},
      {"events", arguments.offline.source.source.empty() ? counted(arguments.offline.source.events.size(), "file")
                                                         : arguments.offline.source.source},
      {"labels", truth->origin()},
      {"bundle", pipeline.bundle ? fmt::format("{} (version {})", pipeline.bundle->directory, pipeline.bundle->version)
                                 : "none"}};
  for (const auto& detector : pipeline.detectors)
    options.detectors.push_back({detector.name, std::string(to_string(detector.kind))});
  // The ensemble as a person hears of it, beside the ensemble of every row.
  options.detectors.push_back({"announced", "announced"});
  options.detectors.push_back({"announced_discounted", "announced_discounted"});
  std::int64_t quiet_ms = 0;
  for (const auto& anomaly : pipeline.anomalies) {
    options.score_types.push_back(anomaly.name);
    quiet_ms = std::max(quiet_ms, anomaly.quiet_ms);
  }
  evaluate::Announcement announcement(quiet_ms);
  evaluate::Discount discount(kAnnouncedHalfLifeMs);
  if (labels && labels->form() != evaluate::LabelSet::Form::kIds) options.windows_total = labels->size();
  if (!truth->from_field()) options.label_types = truth->types();
  if (arguments.scoring == "nab") {
    if (!labels || labels->form() != evaluate::LabelSet::Form::kWindows) {
      complain("--scoring nab needs --labels with windows, such as NAB's combined_windows.json");
      return kUsage;
    }
    options.nab = labels;
  }
  auto builder = evaluate::ReportBuilder::create(std::move(options));
  if (!builder) {
    complain(builder.error().message);
    return kUsage;
  }

  const std::size_t detectors = pipeline.detectors.size();
  const std::size_t types = pipeline.anomalies.size();
  Result<> added;
  std::vector<float> type_scores(types);
  std::vector<float> scores(detectors + 2);
  std::uint64_t incidents = 0;
  std::set<std::uint64_t> opened;  // sequence numbers of the batch's events that opened one
  exit_code = offline->run([&](const pipeline::Runner::BatchView& view) {
    opened.clear();
    for (const auto& change : view.output.changes) {
      if (change.kind != IncidentChange::Kind::kOpen) continue;
      ++incidents;
      opened.insert(change.position.sequence);
    }
    for (const std::uint32_t row : view.batch.order) {
      if (!added) return;
      const auto& event = view.batch.header(row);
      evaluate::ReportRow out;
      out.id = event.id;
      out.file = offline->source().partition(event.partition).file;
      out.entity = view.batch.key(row, pipeline.score.by).text;
      out.time_ms = event.time_ms;
      out.partition = event.partition;
      out.offset = event.offset;
      out.label = truth->of(view, row);
      std::copy_n(view.output.raw.begin() + static_cast<std::ptrdiff_t>(row * detectors), detectors, scores.begin());
      std::size_t strongest = 0;
      for (std::size_t t = 0; t < types; ++t) {
        const auto& verdict = view.output.verdicts[row * types + t];
        const bool scored = !std::isnan(verdict.score);
        type_scores[t] = scored ? verdict.surprise : std::numeric_limits<float>::quiet_NaN();
        out.fired = out.fired || verdict.fired;
        if (scored && !(out.ensemble >= verdict.surprise)) {
          out.ensemble = verdict.surprise;
          strongest = t;
        }
      }
      out.type_scores = type_scores;
      out.opened = opened.contains(event.sequence);
      const std::uint64_t entity = view.batch.key(row, pipeline.score.by).hash;
      scores[detectors] = announcement.keep(entity, event.time_ms, out.ensemble);
      scores[detectors + 1] = discount.of(entity, event.time_ms, scores[detectors]);
      out.scores = scores;
      out.value = view.batch.num_numbers() > 0 ? view.batch.number(row, 0) : kMissing;
      std::string text;
      if (out.ensemble > kExplainFrom) {
        const auto why = offline->runner().engine().explain(view.batch, row, strongest, view.output);
        if (!why.reasons.empty()) text = why.reasons.front().text;
      }
      out.text = text;
      added = builder->add(out);
    }
  });
  if (exit_code != kDone) return exit_code;
  if (!added) {
    complain(added.error().message);
    return kFailed;
  }
  if (truth->from_field()) builder->set_label_types(truth->types());
  builder->set_incidents(incidents);
  builder->set_throughput(offline->runner().stats().events, offline->seconds());
  auto report = builder->finish();
  if (!report) {
    complain(report.error().message);
    return kFailed;
  }
  if (!offline->runner().stats().calibrated) {
    report->notes.push_back(fmt::format(
        "The thresholds were still calibrating when the events ended (calibrate_events: {}): what fired as configured "
        "is provisional.",
        with_commas(pipeline.calibrate_events)));
  }
  if (const auto stats = offline->runner().stats(); stats.label_misses > 0) {
    report->notes.push_back(
        fmt::format("Features missed {} of {}: their events were not there yet, or longer ago than "
                    "labels.keep.",
                    with_commas(stats.label_misses), counted(stats.labels + stats.label_misses, "label")));
  }
  if (offline->stopped()) report->notes.emplace_back("Stopped early: only the rows until then were judged.");
  if (auto written = evaluate::write_report(*report, arguments.report); !written) {
    complain(written.error().message);
    return kFailed;
  }
  if (arguments.offline.json) {
    fmt::print("{}\n", evaluate::report_json(*report));
  } else {
    print_summary(*report, arguments.report);
  }
  return kDone;
}

}  // namespace

void add_evaluate(CLI::App& app, int& exit_code) {
  auto* command =
      app.add_subcommand("evaluate", "Judge a pipeline's detection by labels; writes report.json and report.html");
  auto arguments = std::make_shared<EvaluateArguments>();
  add_offline_options(*command, arguments->offline);
  command->add_option("--labels", arguments->labels,
                      "labels by event id, by entity or file and time window, or by row range; a file or a directory");
  command->add_option("--bundle", arguments->offline.bundle, "trained bundle; without it the pipeline's own");
  command->add_flag("--complete", arguments->complete, "what the labels do not address is normal");
  command->add_option("--report", arguments->report, "directory for report.json and report.html")
      ->capture_default_str();
  command
      ->add_option("--scoring", arguments->scoring,
                   "rows, or nab for the Numenta Anomaly Benchmark's own scoring besides")
      ->capture_default_str()
      ->check(CLI::IsMember({"rows", "nab"}));
  command->footer(
      "Examples:\n"
      "  alcedo evaluate pipelines/payments --source 'simulate:payments?events=2000000'\n"
      "  alcedo evaluate my-pipeline --events 2025-*.csv --labels chargebacks.csv --complete\n"
      "  alcedo evaluate docs/examples/nab --events nab/data/*/*.csv --labels nab/labels/combined_windows.json "
      "--scoring nab");
  command->callback([=, &exit_code] { exit_code = evaluate(*arguments); });
}

}  // namespace alcedo::cli
