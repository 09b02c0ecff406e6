// alcedo demo: simulated payments and this machine's own metrics through both shipped pipelines, pages to a mock,
// watched live.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "alert/pagerduty_mock.h"
#include "commands.h"
#include "core/json.h"
#include "core/time.h"
#include "latency.h"
#include "pipeline/service.h"
#include "terminal.h"

namespace alcedo::cli {
namespace {

struct DemoArguments {
  double seconds = 60;
  double rate = 2000;
  std::uint64_t seed = 1;
  std::uint64_t cards = 100'000;
  std::uint64_t history = 2'000'000;
  std::string pipelines;
  bool headless = false;
  bool json = false;
};

/// One pipeline of the demo and what is measured of it.
struct Stage {
  std::unique_ptr<pipeline::Service> service;
  LatencyRecorder latencies;
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::int64_t> engine_ns{0};  // of the newest batch
  std::uint64_t events_before = 0;         // of the warm-up
  bool counting = false;
  std::uint64_t shown_events = 0;
  double shown_rate = 0;
};

std::string find_pipelines() {
  std::error_code ignored;
  const auto exe = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const auto& candidate :
       {std::filesystem::path("pipelines"), exe / "../../pipelines", exe / "../share/alcedo/pipelines"}) {
    if (std::filesystem::exists(candidate / "payments/pipeline.yaml", ignored))
      return candidate.lexically_normal().string();
  }
  return {};
}

std::string milliseconds(double ms) { return std::isnan(ms) ? "-" : fmt::format("{:.1f}", ms); }

/// At most `columns` characters of printable text; "…" where something is missing.
std::string cut(const std::string& text, std::size_t columns) {
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; };
  if (static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins)) <= columns) return text;
  std::size_t end = 0;
  for (std::size_t seen = 0; end < text.size(); ++end) {
    if (begins(text[end]) && ++seen == columns) break;
  }
  return text.substr(0, end) + "…";
}

/// "card h:6223c569": all digits of a hashed key tell nobody more.
std::string about(const IncidentChange& change) {
  if (change.key.empty()) return "the whole stream";
  const bool hashed = change.key.starts_with("h:") && change.key.size() == 34;
  return change.key_name + " " + printable(hashed ? change.key.substr(0, 10) : change.key);
}

std::string why(const IncidentChange& change) {
  return printable(change.reasons.empty() ? change.summary : change.reasons.front().text);
}

/// The incidents of all stages that changed last.
std::vector<alert::IncidentRow> newest_incidents(const std::vector<Stage*>& stages, std::size_t limit) {
  std::vector<alert::IncidentRow> rows;
  for (Stage* stage : stages) {
    if (auto newest = stage->service->ledger().incidents(limit))
      std::move(newest->begin(), newest->end(), std::back_inserter(rows));
  }
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.changed_ms > b.changed_ms; });
  return rows;
}

std::size_t terminal_columns() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 160;
}

class Screen {
 public:
  // The alternate screen: what stood in the terminal before is there again afterwards.
  Screen() { fmt::print("\033[?1049h\033[?25l\033[2J"); }
  ~Screen() {
    fmt::print("\033[?25h\033[?1049l");
    std::fflush(stdout);
  }

  void draw(const std::vector<Stage*>& stages, const std::string& head, const std::string& state) {
    winsize size{};
    const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 && size.ws_row > 8;
    width_ = known ? size.ws_col : 100;
    height_ = known ? size.ws_row : 30;
    lines_.clear();
    add("\033[1m", " alcedo demo   " + head);
    add("\033[2m", " " + state);
    add("", "");
    add("\033[4m", fmt::format(" {:15} {:>9} {:>9} {:>13} {:>8} {:>7} {:>5} {:>{}}", "", "events/s", "entities",
                               "alert ms: p50", "p99", "alerts", "open", "", width_));
    for (Stage* stage : stages) {
      const auto stats = stage->service->stats();
      const auto latency = stage->latencies.summary();
      add("", fmt::format(" {:15} {:>9} {:>9} {:>13} {:>8} {:>7} {:>5}", stage->service->pipeline().name,
                          with_commas(static_cast<std::uint64_t>(stage->shown_rate)), with_commas(stats.entities),
                          milliseconds(latency.p50_ms), milliseconds(latency.p99_ms),
                          with_commas(stage->accepted.load()), with_commas(stats.open_incidents)));
    }
    add("", "");
    add("\033[4m", fmt::format("{:{}}", " last incidents, and why", width_));
    const auto rows = newest_incidents(stages, height_);
    if (rows.empty()) add("\033[2m", " none yet");
    for (const auto& row : rows) {
      if (lines_.size() + 2 >= height_) break;  // two lines each, and the last one stays free
      const auto& change = row.latest;
      const bool over = row.status == "resolved";
      const char* colour = over                                     ? "\033[2m"
                           : change.severity == Severity::kCritical ? "\033[31m"
                           : change.severity == Severity::kError    ? "\033[33m"
                                                                    : "";
      add(colour, fmt::format(" {}  {:8} {}, {}", format_iso_time(row.changed_ms).substr(11, 8),
                              over ? "over" : to_string(change.severity), change.type, about(change)));
      add(colour, "           " + why(change));
    }
    std::string frame = "\033[H";
    for (const auto& line : lines_) frame += line + "\033[K\n";
    frame += "\033[J";
    fmt::print("{}", frame);
    std::fflush(stdout);
  }

 private:
  void add(const char* style, const std::string& text) {
    if (lines_.size() + 1 >= height_) return;
    // The rule of an underlined line ends where the screen does; no mark of something missing there.
    const bool rule = std::string_view(style) == "\033[4m";
    lines_.push_back(style + (rule ? text.substr(0, width_) : cut(text, width_)) + "\033[0m");
  }

  std::size_t width_ = 100;
  std::size_t height_ = 30;
  std::vector<std::string> lines_;
};

int demo(DemoArguments arguments) {
  if (arguments.pipelines.empty()) arguments.pipelines = find_pipelines();
  if (arguments.pipelines.empty()) {
    complain("the shipped pipelines were not found; run the demo in the repository or give --pipelines DIR");
    return kUsage;
  }
  std::string data = (std::filesystem::temp_directory_path() / "alcedo-demo-XXXXXX").string();
  if (::mkdtemp(data.data()) == nullptr) {
    complain(fmt::format("{}: cannot make a directory", data));
    return kFailed;
  }
  struct Remove {
    std::string path;
    ~Remove() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  } remove{data};

  std::vector<std::unique_ptr<Stage>> stages;
  std::atomic<bool> stop{false};
  StopOnSignal on_signal([&] { stop.store(true); });
  // PagerDuty takes 120 events a minute; the queue for that would be all that the latency shows here.
  alert::PagerDutyMock::Options mock_options;
  mock_options.rate_limited = false;
  auto mock = alert::PagerDutyMock::start(mock_options);
  if (!mock) {
    complain(mock.error().message);
    return kFailed;
  }
  const std::string payments = fmt::format("simulate:payments?cards={}&seed={}", arguments.cards, arguments.seed);
  struct Plan {
    std::string name;
    std::string source;
    std::string warm_up;
  };
  const std::vector<Plan> plans{
      {"payments",
       payments + fmt::format("&skip={}&rate={}&seconds={}", arguments.history, arguments.rate, arguments.seconds),
       payments + fmt::format("&events={}", arguments.history)},
      {"infrastructure", "host:", ""}};
  for (const auto& plan : plans) {
    auto pipeline = load_or_report(arguments.pipelines + "/" + plan.name);
    if (!pipeline) return kUsage;
    char key = 'a';
    for (auto& route : pipeline->routes) {
      if (route.kind != alert::RouteSpec::Kind::kPagerDuty) continue;
      route.url = (*mock)->url();
      route.rate_limited = false;
      route.routing_key = std::string(31, key++) + plan.name.front();
    }
    stages.push_back(std::make_unique<Stage>());
    Stage& stage = *stages.back();
    pipeline::Service::Options options;
    options.data = data + "/" + plan.name;
    options.sources = {plan.source};
    if (!plan.warm_up.empty()) options.warm_up = {plan.warm_up};
    options.workers = 1;
    options.live = plan.source == "host:";
    options.keep_due = true;
    options.on_accepted = [&stage](const alert::Delivery& delivery, std::int64_t accepted_ns) {
      stage.accepted.fetch_add(1);
      if (delivery.action == IncidentChange::Kind::kOpen && delivery.due_ns > 0)
        stage.latencies.add(accepted_ns - delivery.due_ns);
    };
    auto service = pipeline::Service::open(*pipeline, std::move(options));
    if (!service) {
      complain(service.error().message);
      return kFailed;
    }
    stage.service = std::move(*service);
  }
  for (auto& stage : stages) stage->service->start();

  const bool live = !arguments.headless && !arguments.json && ::isatty(STDOUT_FILENO) != 0;
  std::unique_ptr<Screen> screen = live ? std::make_unique<Screen>() : nullptr;
  std::vector<Stage*> views;
  for (auto& stage : stages) views.push_back(stage.get());
  Stage& simulated = *stages.front();
  std::int64_t began_ns = 0;
  std::int64_t drawn_ns = steady_ns();
  double elapsed = 0;
  {
    ProgressLine progress("learning the cards' history", live || arguments.json);
    while (!stop.load()) {
      const std::int64_t now_ns = steady_ns();
      const bool warm = simulated.service->warmed_up();
      if (warm && began_ns == 0) {
        began_ns = now_ns;
        for (Stage* stage : views) stage->shown_events = stage->events_before = stage->service->stats().events;
        simulated.counting = true;
      }
      elapsed = began_ns == 0 ? 0 : static_cast<double>(now_ns - began_ns) / 1e9;
      if (elapsed >= arguments.seconds) break;
      bool failed = false;
      for (Stage* stage : views) failed = failed || (stage->service->finished() && stage != &simulated);
      if (failed || (simulated.service->finished() && elapsed + 1 < arguments.seconds)) break;
      if (now_ns - drawn_ns >= 250'000'000) {
        const double seconds = static_cast<double>(now_ns - drawn_ns) / 1e9;
        drawn_ns = now_ns;
        for (Stage* stage : views) {
          const auto events = stage->service->stats().events;
          const double rate = static_cast<double>(events - std::min(events, stage->shown_events)) / seconds;
          stage->shown_rate = stage->shown_rate == 0 ? rate : 0.7 * stage->shown_rate + 0.3 * rate;
          stage->shown_events = events;
        }
        const auto learnt = simulated.service->stats().events;
        const std::string head =
            warm ? fmt::format("{:.0f} of {:.0f} s", elapsed, arguments.seconds)
                 : fmt::format("learning {} cards' habits: {} of {} payments", with_commas(arguments.cards),
                               with_commas(learnt), with_commas(arguments.history));
        if (screen) screen->draw(views, head, "pages go to a PagerDuty stand-in in this process; Ctrl-C ends");
        if (!warm) progress.update(learnt, {learnt, arguments.history});
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  screen.reset();
  for (Stage* stage : views) stage->service->stop();
  int code = kDone;
  for (Stage* stage : views) {
    if (auto done = stage->service->wait(); !done) {
      complain(fmt::format("{}: {}", stage->service->pipeline().name, done.error().message));
      code = kFailed;
    }
  }
  const auto totals = (*mock)->totals();
  std::uint64_t triggers = 0;
  std::uint64_t resolves = 0;
  for (const auto& [key, incident] : (*mock)->incidents()) {
    triggers += incident.triggers;
    resolves += incident.resolves;
  }
  JsonWriter json;
  json.begin_object().field("seconds", elapsed).key("pipelines").begin_array();
  const std::size_t columns = terminal_columns();
  std::string text = fmt::format("{:.0f} s of simulated payments and of this machine's own metrics\n", elapsed);
  for (Stage* stage : views) {
    const auto stats = stage->service->stats();
    const auto latency = stage->latencies.summary();
    const std::uint64_t events = stats.events - stage->events_before;
    const std::string& name = stage->service->pipeline().name;
    json.begin_object().field("pipeline", name).field("events", events).field("history_events", stage->events_before);
    json.field("events_per_second", elapsed > 0 ? static_cast<double>(events) / elapsed : 0.0);
    json.field("entities", stats.entities)
        .field("incidents_opened", stats.incidents_opened)
        .field("open_incidents", stats.open_incidents);
    json.field("alerts_delivered", stage->accepted.load());
    json.key("latency_ms").begin_object().field("p50", latency.p50_ms).field("p99", latency.p99_ms).end_object();
    text += fmt::format("\n{}: {}, after {} to learn from\n  {}, {} delivered", name, counted(events, "event"),
                        with_commas(stage->events_before), counted(stats.incidents_opened, "incident"),
                        counted(stage->accepted.load(), "alert"));
    if (latency.samples > 0) {
      text += fmt::format("; from an event to its alert p50 {} ms, p99 {} ms", milliseconds(latency.p50_ms),
                          milliseconds(latency.p99_ms));
    }
    text += "\n";
    json.key("last_alerts").begin_array();
    if (auto newest = stage->service->ledger().incidents(5)) {
      for (const auto& row : *newest) {
        json.value(row.latest.summary);
        text += cut(fmt::format("  - {} {}: {}", row.latest.type, about(row.latest), why(row.latest)), columns) + "\n";
      }
    }
    json.end_array().end_object();
  }
  json.end_array().key("pagerduty_mock").begin_object();
  json.field("incidents", totals.opened)
      .field("triggers", triggers)
      .field("resolves", resolves)
      .end_object()
      .end_object();
  text += fmt::format("\nThe PagerDuty stand-in took {} and {} for {}; the other alerts went to files.\n",
                      counted(triggers, "trigger"), counted(resolves, "resolve"), counted(totals.opened, "incident"));
  fmt::print("{}", arguments.json ? json.text() + "\n" : text);
  return code;
}

}  // namespace

void add_demo(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "demo", "See it work: simulated payments and this machine's own metrics, live in the terminal");
  auto arguments = std::make_shared<DemoArguments>();
  command->add_option("--seconds", arguments->seconds, "how long, after the history has been learnt")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--rate", arguments->rate, "simulated payments a second")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--cards", arguments->cards, "cards of the simulation")->capture_default_str();
  command->add_option("--history", arguments->history, "payments learnt from first")->capture_default_str();
  command->add_option("--seed", arguments->seed, "of the simulation")->capture_default_str();
  command->add_option("--pipelines", arguments->pipelines, "folder with payments/ and infrastructure/");
  command->add_flag("--headless", arguments->headless, "no live view, only the summary");
  command->add_flag("--json", arguments->json, "print the summary as JSON");
  command->footer(
      "Examples:\n  alcedo demo\n  alcedo demo --headless --seconds 20 --json\nAlerts go to a PagerDuty stand-in "
      "inside this "
      "process, without PagerDuty's limit of 120 a minute, and to files. Nothing leaves this machine; nothing is "
      "kept.");
  command->callback([=, &exit_code] { exit_code = demo(*arguments); });
}

}  // namespace alcedo::cli
