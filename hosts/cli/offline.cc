// Offline work keeps nothing: the caller writes what it wants to keep.
#include "offline.h"

#include <fmt/format.h>

#include "commands.h"
#include "core/time.h"
#include "pipeline/service.h"

namespace alcedo::cli {

void add_offline_options(CLI::App& command, OfflineArguments& arguments) {
  command.add_option("PIPELINE", arguments.pipeline, "pipeline.yaml, or the folder that holds it")->required();
  command.add_option("--events", arguments.source.events,
                     "files of events (.gz too); several are merged by event time");
  command.add_option("--source", arguments.source.source,
                     "events by URI: file:, stdin:, simulate:payments?events=N&seed=N");
  command.add_option("--warm-up", arguments.warm_up,
                     "history to learn from first (a file or a URI); nothing in it alerts");
  command.add_option("--workers", arguments.workers, "threads that share the keys")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  command.add_option("--batch", arguments.batch, "most events a batch; changes nothing but speed")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  command.add_option("--dead-letters", arguments.dead_letters,
                     "file for events that do not fit; without it they are only counted");
  command.add_flag("--json", arguments.json, "print one JSON object");
}

std::unique_ptr<Offline> Offline::open(const OfflineArguments& arguments, int& exit_code) {
  exit_code = kUsage;
  auto pipeline = arguments.untrained ? load_untrained_or_report(arguments.pipeline)
                                      : load_or_report(arguments.pipeline, arguments.bundle);
  const auto sources = source_uris(arguments.source);
  if (!pipeline || !sources) return nullptr;
  auto offline = std::make_unique<Offline>();
  offline->arguments_ = arguments;
  offline->pipeline_ = std::move(*pipeline);
  auto* self = offline.get();
  offline->on_signal_ = std::make_unique<StopOnSignal>([self] {
    self->stopping_.store(true);
    if (auto* runner = self->ready_.load()) runner->stop();
  });
  ingest::OpenOptions how;
  how.opened_ms = wall_clock_ms();
  how.stopping = &offline->stopping_;
  const std::vector<std::string> warm_up =
      arguments.warm_up.empty() ? std::vector<std::string>{} : std::vector{arguments.warm_up};
  std::pair<std::vector<std::string>, std::unique_ptr<ingest::Source>*> plan[] = {{warm_up, &offline->warm_up_},
                                                                                  {*sources, &offline->source_}};
  for (auto& [uris, to] : plan) {
    if (uris.empty()) continue;
    if (uris.front().starts_with("host:")) {
      complain(
          "host: has no end and needs a data directory: use alcedo run, or --source simulate:payments or a file here");
      return nullptr;
    }
    // Nothing is kept here, so stdin: needs no log of what it brought.
    if (uris.size() == 1 && uris.front().starts_with("stdin:")) uris.front().replace(0, 6, "file:/dev/stdin");
    auto source = pipeline::open_sources(uris, offline->pipeline_.events, how);
    if (!source) {
      complain(source.error().message);
      return nullptr;
    }
    *to = std::move(*source);
  }
  auto labels = pipeline::open_labels(offline->pipeline_, false, how.opened_ms);
  if (!labels) {
    complain(labels.error().message);
    return nullptr;
  }
  offline->labels_ = std::move(*labels);
  auto secret = pipeline::private_key("");
  if (!secret) {
    complain(secret.error().message);
    return nullptr;
  }
  pipeline::Runner::Options options;
  options.workers = arguments.workers;
  options.batch_events_max = arguments.batch;
  options.speed = arguments.speed;
  options.secret = *secret;
  options.labels = offline->labels_.get();
  if (!arguments.dead_letters.empty()) {
    auto dead_letters = ingest::DeadLetters::open(arguments.dead_letters, 1 << 30);
    if (!dead_letters) {
      complain(dead_letters.error().message);
      return nullptr;
    }
    offline->dead_letters_ = std::move(*dead_letters);
    options.dead_letters = offline->dead_letters_.get();
  }
  options.on_problem = [](const std::string& problem) { complain(problem); };
  options.on_batch = [self](const pipeline::Runner::BatchView& view) {
    if (self->progress_) self->progress_->update(self->runner_->stats().events, self->source_->progress());
    if (self->each_) self->each_(view);
  };
  auto runner = pipeline::Runner::create(offline->pipeline_, std::move(options));
  if (!runner) {
    complain(runner.error().message);
    return nullptr;
  }
  offline->runner_ = std::move(*runner);
  offline->ready_.store(offline->runner_.get());
  if (offline->stopping_.load()) offline->runner_->stop();
  exit_code = kDone;
  return offline;
}

int Offline::run(const std::function<void(const pipeline::Runner::BatchView&)>& each) {
  progress_ = std::make_unique<ProgressLine>(pipeline_.name, arguments_.json);
  Result<> done = warm_up_ ? runner_->warm_up(*warm_up_) : Result<>{};
  each_ = each;
  const std::int64_t began_ns = steady_ns();
  if (done) done = runner_->run(*source_);
  seconds_ = static_cast<double>(steady_ns() - began_ns) / 1e9;
  progress_.reset();
  if (done) return kDone;
  complain(done.error().message);
  return kFailed;
}

void Offline::say_what_is_odd() const {
  const auto stats = runner_->stats();
  if (stats.label_misses > 0) {
    complain(fmt::format("{} of {} found no event: it was not there yet, or longer ago than labels.keep ({})",
                         with_commas(stats.label_misses), counted(stats.labels + stats.label_misses, "label"),
                         format_duration(pipeline_.labels.keep_ms)));
  }
  if (stats.records == 0 && !stopped()) {
    complain("there was nothing to read");
  } else if (stats.events == 0 && stats.dead_letters > 0) {
    complain(fmt::format("not one of {} is an event of this pipeline, read as {}. {}", counted(stats.records, "record"),
                         pipeline_.events.format == contract::Format::kCsv ? "CSV"
                         : pipeline_.events.format == contract::Format::kText
                             ? "lines of text"
                             : "JSON lines (CSV: a file named .csv or .tsv, or format: csv under events:)",
                         arguments_.dead_letters.empty() ? "--dead-letters FILE keeps each of them with its reason"
                                                         : arguments_.dead_letters + " says why, record by record"));
  } else if (stats.events > 0 && !stats.calibrated && !stopped()) {
    complain(
        fmt::format("after {} the thresholds were still calibrating (calibrate_events: {}): what fired is provisional",
                    counted(stats.events, "event"), pipeline_.calibrate_events));
  }
}

}  // namespace alcedo::cli
