// alcedo run: pipelines as services until the source ends or somebody says stop.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <memory>

#include "commands.h"
#include "core/json.h"
#include "core/time.h"
#include "pipeline/service.h"
#include "serving.h"
#include "terminal.h"

namespace alcedo::cli {
namespace {

struct RunArguments {
  std::vector<std::string> pipelines;
  SourceArguments source;
  std::string warm_up;
  std::string data = "alcedo-data";
  std::string speed = "max";
  std::string listen;
  std::size_t served_entities_max = 1'000'000;
  std::size_t workers = cores();
  StateArguments state;
  bool follow = false;
  bool pages_to_file = false;
  bool json = false;
};

std::optional<double> parse_speed(const std::string& text) {
  if (text == "max") return 0.0;
  double value = 0;
  try {
    std::size_t end = 0;
    value = std::stod(text, &end);
    if (value > 0 && (end == text.size() || text.substr(end) == "x")) return value;
  } catch (const std::exception&) {
  }
  complain(fmt::format("--speed {}: expected 1x, 10x or another factor of event time, or max", text));
  return std::nullopt;
}

void summarize(const pipeline::Service& service, const std::string& data, bool json) {
  const auto stats = service.stats();
  const auto delivery = service.delivery_stats();
  if (json) {
    JsonWriter out;
    out.begin_object().field("pipeline", service.pipeline().name);
    out.field("records", stats.records).field("events", stats.events).field("empty", stats.empty);
    out.field("duplicates", stats.duplicates).field("late", stats.late).field("dead_letters", stats.dead_letters);
    out.key("dead_letters_by_reason").begin_object();
    for (const auto& [reason, count] : stats.dead_by_reason) out.field(reason, count);
    out.end_object();
    out.field("labels", stats.labels).field("label_misses", stats.label_misses);
    out.field("fired", stats.fired)
        .field("incidents_opened", stats.incidents_opened)
        .field("open_incidents", stats.open_incidents);
    out.field("deliveries_accepted", delivery.accepted).field("deliveries_failed", delivery.failed).end_object();
    fmt::print("{}\n", out.text());
    return;
  }
  fmt::print("{}: {}, {} opened, {} open; {} accepted, {} failed\n", service.pipeline().name,
             counted(stats.events, "event"), counted(stats.incidents_opened, "incident"),
             with_commas(stats.open_incidents), counted(delivery.accepted, "delivery", "deliveries"),
             with_commas(delivery.failed));
  if (stats.dead_letters + stats.duplicates + stats.late > 0) {
    fmt::print("{}: {}, {} dropped, {} late\n", service.pipeline().name, counted(stats.dead_letters, "dead letter"),
               counted(stats.duplicates, "duplicate"), with_commas(stats.late));
    for (const auto& [reason, count] : stats.dead_by_reason) fmt::print("  {:16} {}\n", reason, with_commas(count));
    if (stats.dead_letters > 0) fmt::print("  each is in {}/dead_letters.ndjson, with its reason\n", data);
  }
  if (stats.labels + stats.label_misses > 0) {
    fmt::print("{}: {} reached their events, {} found none within labels.keep, {} repeated one\n",
               service.pipeline().name, counted(stats.labels, "label"), with_commas(stats.label_misses),
               with_commas(stats.labels_repeated));
  }
  if (!delivery.last_error.empty())
    fmt::print("{}: last delivery error: {}\n", service.pipeline().name, printable(delivery.last_error));
}

int run(const RunArguments& arguments) {
  const auto speed = parse_speed(arguments.speed);
  if (!speed) return kUsage;
  const auto sources = source_uris(arguments.source);
  if (!sources) return kUsage;
  const auto checkpoint_every_ms = checkpoint_interval_ms(arguments.state);
  if (!checkpoint_every_ms) return kUsage;
  serve::ListenAddress listen;
  if (!arguments.listen.empty()) {
    auto parsed = serve::parse_listen_address(arguments.listen);
    if (!parsed) {
      complain(fmt::format("--listen {}", parsed.error().message));
      return kUsage;
    }
    listen = *parsed;
  }
  std::vector<std::unique_ptr<pipeline::Service>> services;
  // Before any thread starts: they inherit the blocked signals.
  StopOnSignal on_signal([&services] {
    spdlog::info("stopping");
    for (auto& service : services) service->stop();
  });
  const auto uri = ingest::SourceUri::parse(sources->front());
  if (!uri) {
    complain(uri.error().message);
    return kUsage;
  }
  for (const auto& path : arguments.pipelines) {
    auto pipeline = load_or_report(path);
    if (!pipeline) return kUsage;
    for (const auto& service : services) {
      if (service->pipeline().name != pipeline->name) continue;
      complain(
          fmt::format("two pipelines named '{}', {} and {}: names are also folders of --data, so each needs its own",
                      pipeline->name, service->pipeline().path, pipeline->path));
      return kUsage;
    }
    for (auto& route : pipeline->routes) {
      if (!arguments.pages_to_file || route.kind != alert::RouteSpec::Kind::kPagerDuty) continue;
      route.kind = alert::RouteSpec::Kind::kFile;
      route.path = route.name + ".ndjson";
    }
    pipeline::Service::Options options;
    options.data = arguments.data + "/" + pipeline->name;
    options.sources = *sources;
    if (!arguments.warm_up.empty()) options.warm_up = {arguments.warm_up};
    options.workers = arguments.workers;
    options.speed = *speed;
    options.follow = arguments.follow;
    options.checkpoint_every_ms = *checkpoint_every_ms;
    options.state_bytes_max = arguments.state.bytes_max;
    options.on_notice = [name = pipeline->name](const std::string& notice) {
      spdlog::info("{}: {}", name, printable(notice));
    };
    if (!arguments.listen.empty()) options.served_entities_max = arguments.served_entities_max;
    options.live = uri->scheme == "host" || uri->scheme == "stdin" || arguments.follow;
    options.on_problem = [name = pipeline->name, last = std::make_shared<std::int64_t>(0)](const std::string& problem) {
      if (steady_ns() - *last < 1'000'000'000) return;
      *last = steady_ns();
      spdlog::warn("{}: {}", name, printable(problem));
    };
    auto service = pipeline::Service::open(*pipeline, std::move(options));
    if (!service) {
      complain(service.error().message);
      return service.error().code == ErrorCode::kInvalidArgument || service.error().code == ErrorCode::kNotFound
                 ? kUsage
                 : kFailed;
    }
    services.push_back(std::move(*service));
  }
  std::unique_ptr<serve::HttpServer> server;  // goes before the services whose vectors it reads
  if (!arguments.listen.empty()) {
    auto started = serve_pipelines(listen, services);
    if (!started) {
      complain(started.error().message);
      return kFailed;
    }
    server = std::move(*started);
    spdlog::info("serving features on http://{}:{}", listen.host, server->port());
  }
  for (auto& service : services) {
    spdlog::info("{}: reading {} into {}", service->pipeline().name, fmt::join(*sources, " "),
                 arguments.data + "/" + service->pipeline().name);
    service->start();
  }
  {
    ProgressLine progress("run", arguments.json);
    for (bool all = false; !all && !on_signal.stopped();) {
      all = true;
      std::uint64_t events = 0;
      for (auto& service : services) {
        all = all && service->finished();
        events += service->stats().events;
      }
      progress.update(events, services.front()->source().progress());
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  int code = kDone;
  for (auto& service : services) {
    if (auto done = service->wait(); !done) {
      complain(fmt::format("{}: {}", service->pipeline().name, done.error().message));
      code = kFailed;
    }
    summarize(*service, arguments.data + "/" + service->pipeline().name, arguments.json);
  }
  return code;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "run", "Run pipelines: read events, find anomalies, deliver alerts; continues where it stopped");
  auto arguments = std::make_shared<RunArguments>();
  command->add_option("PIPELINE", arguments->pipelines, "pipeline.yaml, or the folder that holds it")->required();
  command->add_option("--source", arguments->source.source,
                      "where events come from: file:PATH, stdin:, host:, simulate:payments?rate=R&seconds=S&seed=N");
  command->add_option("--events", arguments->source.events, "files of events; short for --source file:");
  command->add_option("--data", arguments->data, "directory of the journal, checkpoints, incidents and dead letters")
      ->capture_default_str();
  command->add_option("--warm-up", arguments->warm_up, "URI of history to learn from first; nothing in it alerts");
  command->add_option("--speed", arguments->speed, "replay by event time: 1x, 10x, or max")->capture_default_str();
  command->add_option("--workers", arguments->workers, "threads that share the keys")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  add_state_options(*command, arguments->state);
  command->add_option("--listen", arguments->listen,
                      "serve the newest features over HTTP on ADDRESS:PORT of loopback; port 0: a free one, printed");
  command
      ->add_option("--served-entities", arguments->served_entities_max,
                   "with --listen, vectors kept of each kind of entity; beyond, the oldest go")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000'000));
  command->add_flag("--follow", arguments->follow, "go on when the file grows");
  command->add_flag("--pages-to-file", arguments->pages_to_file,
                    "write what PagerDuty would get to DATA/PIPELINE/ROUTE.ndjson instead; needs no key, pages nobody");
  command->add_flag("--json", arguments->json, "print the closing summary as JSON, an object a pipeline");
  command->footer(
      "Examples:\n"
      "  alcedo run pipelines/infrastructure --source host: --pages-to-file\n"
      "  PAGERDUTY_ROUTING_KEY=... alcedo run pipelines/infrastructure --source host:\n"
      "  alcedo run my-pipeline --events app.ndjson.gz --speed 10x\n"
      "  alcedo run my-pipeline --events app.ndjson --follow --listen 127.0.0.1:8787   then: alcedo features get "
      "--help\n"
      "  journalctl -fo json | alcedo run docs/examples/journal --source stdin:\n"
      "  kcat -C -b localhost:9092 -t payments -u | alcedo run pipelines/payments --source stdin:\n"
      "Alerts go where the pipeline's alerts: section says; PagerDuty's key is read from the environment\n"
      "(PAGERDUTY_ROUTING_KEY) unless the route says otherwise. Ctrl-C and SIGTERM stop cleanly, and the same command\n"
      "on the same --data goes on without paging anybody twice.");
  command->callback([=, &exit_code] { exit_code = run(*arguments); });
}

}  // namespace alcedo::cli
