// alcedo train: history through the same engine as live events, then a bundle of what it teaches.
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "core/json.h"
#include "offline.h"
#include "pipeline/pipeline_bundle.h"
#include "training/trainer.h"
#include "truth.h"

namespace alcedo::cli {
namespace {

struct TrainArguments {
  OfflineArguments offline;
  Truth::Arguments truth;
  std::string out;
  double held_out = 0.2;
  std::uint64_t seed = 1;
  std::size_t rows_max = 2'000'000;
  std::uint32_t rounds_max = 400;
};

void print_summary(const models::Bundle& bundle, const std::vector<std::string>& notes, bool json) {
  if (json) {
    JsonWriter out;
    out.begin_object().field("bundle", bundle.directory).field("version", bundle.version);
    out.field("events", bundle.trained.events).field("labelled", bundle.trained.labelled);
    out.field("anomalous", bundle.trained.anomalous).key("models").begin_array();
    for (const auto& [name, model] : bundle.models) out.value(name);
    out.end_array().key("metrics").begin_object();
    for (const auto& [name, value] : bundle.metrics) out.field(name, value);
    out.end_object().key("notes").begin_array();
    for (const auto& note : notes) out.value(note);
    out.end_array().end_object();
    fmt::print("{}\n", out.text());
    return;
  }
  for (const auto& note : notes) complain(note);
  fmt::print("{}: version {}, {} of {}, {} anomalous\n", bundle.directory, bundle.version,
             counted(bundle.models.size(), "model"), counted(bundle.trained.events, "event"),
             with_commas(bundle.trained.anomalous));
  for (const auto& [name, model] : bundle.models) {
    fmt::print("  {:24} {}, {} trees on {} columns\n", name,
               model.kind == models::DetectorKind::kForest ? "forest" : "boosted", model.trees.trees(),
               model.columns.size());
  }
  for (const auto& [name, value] : bundle.metrics) fmt::print("  {:40} {:.4g}\n", name, value);
}

int train(TrainArguments arguments) {
  arguments.offline.untrained = true;
  if (auto place = models::Bundle::check_place(arguments.out); !place) {
    complain("--out " + place.error().message);
    return kUsage;
  }
  int exit_code = kDone;
  auto offline = Offline::open(arguments.offline, exit_code);
  if (!offline) return exit_code;
  auto truth = Truth::open(*offline, arguments.truth, exit_code);
  if (!truth) return exit_code;
  const auto& pipeline = offline->pipeline();
  const auto& engine = offline->runner().engine();
  const std::size_t detectors = pipeline.detectors.size();
  const std::size_t types = pipeline.anomalies.size();

  training::TrainingRows rows(engine.plan().columns().size(), detectors, types, arguments.rows_max);
  std::vector<std::uint8_t> keys(types);
  exit_code = offline->run([&](const pipeline::Runner::BatchView& view) {
    for (const std::uint32_t row : view.batch.order) {
      for (std::size_t t = 0; t < types; ++t) keys[t] = view.batch.key(row, pipeline.anomalies[t].by).hash != 0 ? 1 : 0;
      rows.add(view.output.features.row(row), std::span(view.output.raw).subspan(row * detectors, detectors), keys,
               truth->of(view, row).label, view.batch.header(row).time_ms);
    }
  });
  if (exit_code != kDone) return exit_code;
  if (offline->stopped()) {
    complain("stopped: no bundle was written");
    return kFailed;
  }
  training::TrainingTask task;
  task.pipeline = pipeline.name;
  task.columns = pipeline::plan_columns(engine.plan());
  task.plan_hash = pipeline::plan_hash(engine.plan());
  task.detectors = pipeline.detectors;
  task.decisions = pipeline::decider_options(pipeline);
  task.label_types = truth->types();
  training::TrainingOptions options;
  options.held_out = arguments.held_out;
  options.seed = arguments.seed;
  options.threads = static_cast<unsigned>(arguments.offline.workers);
  options.rounds_max = arguments.rounds_max;
  ProgressLine progress(pipeline.name, arguments.offline.json);
  options.on_progress = [&](std::string_view what, double share) { progress.say(what, share); };
  std::vector<std::string> notes;
  auto bundle = training::train(task, rows, options, notes);
  progress.clear();
  if (!bundle) {
    complain(bundle.error().message);
    return bundle.error().code == ErrorCode::kInvalidArgument ? kUsage : kFailed;
  }
  if (auto written = bundle->write(arguments.out); !written) {
    complain(written.error().message);
    return written.error().code == ErrorCode::kInvalidArgument ? kUsage : kFailed;
  }
  print_summary(*bundle, notes, arguments.offline.json);
  return kDone;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("train", "Train a pipeline's models on history and write a bundle");
  auto arguments = std::make_shared<TrainArguments>();
  add_offline_options(*command, arguments->offline);
  command->add_option("--labels", arguments->truth.labels,
                      "labels by event id, by entity or file and time window, or by row range; a file or a directory");
  command->add_flag("--complete", arguments->truth.complete, "what the labels do not address is normal");
  command->add_option("--out", arguments->out, "directory of the bundle")->required();
  command->add_option("--held-out", arguments->held_out, "share of the events, the last ones, that only calibrate")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 0.5));
  command->add_option("--seed", arguments->seed, "the same seed, events and workers give the same bundle")
      ->capture_default_str();
  command
      ->add_option("--rows-max", arguments->rows_max, "most events kept in memory; beyond, a sample of the normal ones")
      ->capture_default_str()
      ->check(CLI::Range(1000, 100'000'000));
  command->add_option("--rounds-max", arguments->rounds_max, "most rounds of boosting")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000));
  command->footer(
      "Examples:\n"
      "  alcedo train pipelines/payments --source 'simulate:payments?events=1000000' --out pipelines/payments/bundle\n"
      "  alcedo train my-pipeline --events 2025-*.csv --labels chargebacks.csv --complete --out my-pipeline/bundle");
  command->callback([=, &exit_code] { exit_code = train(*arguments); });
}

}  // namespace alcedo::cli
