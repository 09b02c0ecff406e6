// alcedo replay: events through a pipeline at any speed; alerts to a file or the terminal, and the scores of every row.
#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "alert/delivery.h"
#include "commands.h"
#include "core/json.h"
#include "core/time.h"
#include "offline.h"

namespace alcedo::cli {
namespace {

struct ReplayArguments {
  OfflineArguments offline;
  std::string out;
  std::string scores;
  std::string speed = "max";
};

/// Buffered output that remembers its first failure.
class Output {
 public:
  static std::unique_ptr<Output> open(const std::string& path) {
    std::FILE* file = path == "-" ? stdout : std::fopen(path.c_str(), "wb");
    if (file == nullptr) {
      complain(fmt::format("{}: cannot write: {}", path, std::strerror(errno)));
      return nullptr;
    }
    auto output = std::make_unique<Output>();
    output->file_ = file;
    output->path_ = path;
    return output;
  }
  ~Output() {
    if (file_ != nullptr && file_ != stdout) std::fclose(file_);
  }
  void write(std::string_view text) {
    if (why_ == 0 && std::fwrite(text.data(), 1, text.size(), file_) != text.size()) why_ = errno;
  }
  bool failed() const { return why_ != 0; }
  bool finish() {
    if (why_ == 0 && std::fflush(file_) != 0) why_ = errno;
    // Who pipes into `head` knows that it hangs up.
    if (why_ != 0 && !(why_ == EPIPE && file_ == stdout))
      complain(fmt::format("{}: cannot write: {}; what it holds is incomplete", path_ == "-" ? "stdout" : path_,
                           std::strerror(why_)));
    return why_ == 0;
  }

 private:
  std::FILE* file_ = nullptr;
  std::string path_;
  int why_ = 0;
};

void append_cell(std::string& line, std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) {
    line += text;
    return;
  }
  line += '"';
  for (const char c : text) line.append(c == '"' ? 2 : 1, c);
  line += '"';
}

void append_number(std::string& line, float value) {
  line += ',';
  if (!std::isnan(value)) fmt::format_to(std::back_inserter(line), "{}", value);
}

std::string scores_header(const pipeline::Pipeline& pipeline, const pipeline::Engine& engine) {
  std::string line = "id,time";
  for (const auto& name : pipeline.entities) append_cell(line += ',', name);
  for (const auto& column : engine.plan().columns()) append_cell(line += ',', column.name);
  for (const auto& detector : pipeline.detectors) append_cell(line += ',', detector.name + ".score");
  for (const auto& detector : pipeline.detectors) append_cell(line += ',', detector.name + ".surprise");
  for (const auto& anomaly : pipeline.anomalies) append_cell(line += ',', anomaly.name + ".score");
  for (const auto& anomaly : pipeline.anomalies) append_cell(line += ',', anomaly.name + ".fired");
  return line + "\n";
}

void append_row(std::string& text, const pipeline::Pipeline& pipeline, const pipeline::Runner::BatchView& view,
                std::uint32_t row) {
  const auto& event = view.batch.header(row);
  append_cell(text, event.id);
  text += ',';
  text += format_iso_time(event.time_ms);
  for (std::size_t k = 0; k < pipeline.entities.size(); ++k) append_cell(text += ',', view.batch.key(row, k).text);
  for (const float value : view.output.features.row(row)) append_number(text, value);
  const std::size_t detectors = pipeline.detectors.size();
  for (std::size_t d = 0; d < detectors; ++d) append_number(text, view.output.raw[row * detectors + d]);
  for (std::size_t d = 0; d < detectors; ++d) append_number(text, view.output.surprises[row * detectors + d]);
  const std::size_t types = pipeline.anomalies.size();
  for (std::size_t t = 0; t < types; ++t) append_number(text, view.output.verdicts[row * types + t].surprise);
  for (std::size_t t = 0; t < types; ++t) text += view.output.verdicts[row * types + t].fired ? ",1" : ",0";
  text += '\n';
}

int replay(ReplayArguments arguments) {
  if (arguments.speed != "max") {
    char* end = nullptr;
    arguments.offline.speed = std::strtod(arguments.speed.c_str(), &end);
    if (!(arguments.offline.speed > 0) || (*end != '\0' && std::strcmp(end, "x") != 0)) {
      complain(fmt::format("--speed {}: expected 1x, 10x or another factor of event time, or max", arguments.speed));
      return kUsage;
    }
  }
  int exit_code = kDone;
  auto offline = Offline::open(arguments.offline, exit_code);
  if (!offline) return exit_code;
  std::unique_ptr<Output> out;
  std::unique_ptr<Output> scores;
  const bool shown = arguments.out.empty() && !arguments.offline.json;  // to a person, as lines
  if ((shown || !arguments.out.empty()) && !(out = Output::open(shown ? "-" : arguments.out))) return kFailed;
  if (!arguments.scores.empty() && !(scores = Output::open(arguments.scores))) return kFailed;
  const auto& pipeline = offline->pipeline();
  if (scores) scores->write(scores_header(pipeline, offline->runner().engine()));
  std::string text;
  exit_code = offline->run([&](const pipeline::Runner::BatchView& view) {
    for (const auto& change : view.output.changes) {
      if (!out) break;
      out->write(shown ? fmt::format("{}  {:7} {:8} {}\n", format_iso_time(change.last_ms), to_string(change.kind),
                                     to_string(change.severity), printable(change.summary))
                       : alert::alert_json(change) + "\n");
    }
    // Nobody takes the results any more: a full disk, or `| head`.
    if ((out && out->failed()) || (scores && scores->failed())) offline->stop();
    if (!scores) return;
    text.clear();
    for (const std::uint32_t row : view.batch.order) append_row(text, pipeline, view, row);
    scores->write(text);
  });
  if ((out && !out->finish()) || (scores && !scores->finish())) exit_code = kFailed;
  const auto stats = offline->runner().stats();
  if (arguments.offline.json) {
    JsonWriter json;
    json.begin_object().field("pipeline", pipeline.name).field("records", stats.records).field("events", stats.events);
    json.field("empty", stats.empty).field("duplicates", stats.duplicates).field("late", stats.late);
    json.field("labels", stats.labels).field("label_misses", stats.label_misses);
    json.field("dead_letters", stats.dead_letters).key("dead_letters_by_reason").begin_object();
    for (const auto& [reason, count] : stats.dead_by_reason) json.field(reason, count);
    json.end_object().field("fired", stats.fired).field("incidents_opened", stats.incidents_opened);
    json.field("stopped_early", offline->stopped()).field("seconds", offline->seconds()).end_object();
    fmt::print("{}\n", json.text());
  } else {
    std::string dead;
    for (const auto& [reason, count] : stats.dead_by_reason)
      dead += fmt::format("{}{} {}", dead.empty() ? ": " : ", ", count, reason);
    fmt::print(stderr, "{}: {}, {}, {} fired, {}; {}{}, {}, {} late; {:.1f} s{}\n", pipeline.name,
               counted(stats.records, "record"), counted(stats.events, "event"), with_commas(stats.fired),
               counted(stats.incidents_opened, "incident"), counted(stats.dead_letters, "dead letter"), dead,
               counted(stats.duplicates, "duplicate"), with_commas(stats.late), offline->seconds(),
               offline->stopped() ? ", stopped early" : "");
    if (exit_code == kDone) offline->say_what_is_odd();
  }
  return exit_code;
}

}  // namespace

void add_replay(CLI::App& app, int& exit_code) {
  auto* command =
      app.add_subcommand("replay", "Run recorded or simulated events through a pipeline and see its alerts and scores");
  auto arguments = std::make_shared<ReplayArguments>();
  add_offline_options(*command, arguments->offline);
  command->add_option("--bundle", arguments->offline.bundle, "trained bundle; without it the pipeline's own");
  command->add_option("--out", arguments->out, "alerts as NDJSON ('-': stdout); without it they are shown as lines");
  command->add_option("--scores", arguments->scores, "CSV with id, features, scores and votes of every row");
  command->add_option("--speed", arguments->speed, "by event time: 1x, 10x; or max")->capture_default_str();
  command->footer(
      "Examples:\n"
      "  alcedo replay docs/examples/nab --events nyc_taxi.csv --out alerts.ndjson --scores scores.csv\n"
      "  alcedo replay pipelines/payments --source 'simulate:payments?events=1000000&seed=7'\n"
      "  zcat old.ndjson.gz | alcedo replay my-pipeline --source stdin:");
  command->callback([=, &exit_code] { exit_code = replay(*arguments); });
}

}  // namespace alcedo::cli
