// alcedo demo: simulated payments and this machine's own metrics through both shipped pipelines, pages to a mock,
// watched live.
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

std::string cut(const std::string& text, std::size_t width) {
  if (text.size() <= width) return text;
  // Back to the start of a UTF-8 sequence.
  std::size_t end = width - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "~";
}

class Screen {
 public:
  Screen() { fmt::print("\033[?25l\033[2J"); }
  ~Screen() {
    fmt::print("\033[?25h");
    std::fflush(stdout);
  }
  void draw(std::vector<Stage*> stages, double elapsed, double total, const std::string& state) {
    winsize size{};
    const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20;
    const std::size_t width = known ? size.ws_col : 100;
    const std::size_t height = known ? size.ws_row : 30;
    std::vector<std::string> lines;
    lines.push_back(fmt::format("\033[1m alcedo demo\033[0m   {:.0f} of {:.0f} s   {}", elapsed, total, state));
    lines.emplace_back();
    lines.push_back(fmt::format("\033[4m {:16} {:>10} {:>12} {:>24} {:>10} {:>8}\033[0m", "pipeline", "events/s",
                                "entities", "to the page p50/p99 ms", "pages", "open"));
    for (Stage* stage : stages) {
      const auto stats = stage->service->stats();
      const auto latency = stage->latencies.summary();
      lines.push_back(fmt::format(" {:16} {:>10} {:>12} {:>24} {:>10} {:>8}", stage->service->pipeline().name,
                                  with_commas(static_cast<std::uint64_t>(stage->shown_rate)),
                                  with_commas(stats.entities),
                                  milliseconds(latency.p50_ms) + " / " + milliseconds(latency.p99_ms),
                                  stage->accepted.load(), stats.open_incidents));
    }
    lines.emplace_back();
    lines.push_back("\033[4m last alerts" + std::string(width > 13 ? width - 13 : 0, ' ') + "\033[0m");
    std::vector<alert::IncidentRow> rows;
    for (Stage* stage : stages) {
      if (auto newest = stage->service->ledger().incidents(12))
        std::move(newest->begin(), newest->end(), std::back_inserter(rows));
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const auto& a, const auto& b) { return a.changed_ms > b.changed_ms; });
    for (const auto& row : rows) {
      if (lines.size() + 1 >= height) break;
      const auto& change = row.latest;
      const char* colour = row.status == "resolved"                 ? "\033[2m"
                           : change.severity == Severity::kCritical ? "\033[31m"
                           : change.severity == Severity::kError    ? "\033[33m"
                                                                    : "";
      lines.push_back(
          colour +
          cut(fmt::format(" {} {:8} {}", format_iso_time(row.changed_ms).substr(11, 8),
                          row.status == "resolved" ? "resolved" : to_string(change.severity), change.summary),
              width) +
          "\033[0m");
    }
    std::string frame = "\033[H";
    for (const auto& line : lines) frame += line + "\033[K\n";
    frame += "\033[J";
    fmt::print("{}", frame);
    std::fflush(stdout);
  }
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
  auto mock = alert::PagerDutyMock::start({});
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
        const std::string state =
            warm ? fmt::format("pages go to a PagerDuty mock at {}", (*mock)->url())
                 : fmt::format("learning the history of {} cards: {} events", with_commas(arguments.cards),
                               with_commas(simulated.service->stats().events));
        if (screen) screen->draw(views, elapsed, arguments.seconds, state);
        if (!warm)
          progress.update(simulated.service->stats().events, {simulated.service->stats().events, arguments.history});
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  for (Stage* stage : views) stage->service->stop();
  int code = kDone;
  for (Stage* stage : views) {
    if (auto done = stage->service->wait(); !done) {
      complain(fmt::format("{}: {}", stage->service->pipeline().name, done.error().message));
      code = kFailed;
    }
  }
  screen.reset();

  const auto totals = (*mock)->totals();
  std::uint64_t triggers = 0;
  std::uint64_t resolves = 0;
  for (const auto& [key, incident] : (*mock)->incidents()) {
    triggers += incident.triggers;
    resolves += incident.resolves;
  }
  JsonWriter json;
  json.begin_object().field("seconds", elapsed).key("pipelines").begin_array();
  std::string text = fmt::format("{:.0f} s of simulated payments and of this machine's own metrics:\n", elapsed);
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
    text += fmt::format("  {:16} {} events ({} learnt from before), {} incidents, {} alerts delivered", name,
                        with_commas(events), with_commas(stage->events_before), stats.incidents_opened,
                        stage->accepted.load());
    if (latency.samples > 0)
      text += fmt::format(", p50 {} ms and p99 {} ms to the page", milliseconds(latency.p50_ms),
                          milliseconds(latency.p99_ms));
    text += "\n";
    json.key("last_alerts").begin_array();
    if (auto newest = stage->service->ledger().incidents(5)) {
      for (const auto& row : *newest) {
        json.value(row.latest.summary);
        text += "    " + cut(row.latest.summary, 160) + "\n";
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
  text += fmt::format("The PagerDuty mock took {} triggers and {} resolves for {} incidents.\n", triggers, resolves,
                      totals.opened);
  fmt::print("{}{}", arguments.json ? json.text() + "\n" : text, "");
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
      "Examples:\n  alcedo demo\n  alcedo demo --headless --seconds 20 --json\nNothing leaves this machine; nothing is "
      "kept.");
  command->callback([=, &exit_code] { exit_code = demo(*arguments); });
}

}  // namespace alcedo::cli
