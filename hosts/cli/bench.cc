// alcedo bench: an open-loop load through the whole way, from the moment an event was due to the receiver's acceptance
// of its page.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
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

struct BenchArguments {
  std::string pipeline;
  std::string rate = "max";
  double seconds = 30;
  std::uint64_t cards = 100'000;
  std::uint64_t seed = 1;
  std::uint64_t warm_up_events = 1'000'000;
  std::size_t workers = cores();
  StateArguments state;
  bool json = false;
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::uint64_t rss_bytes_max() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

/// What the disk under the data directory takes for a bare write and fdatasync: the floor under every page's latency.
LatencyRecorder::Summary probe_disk(const std::string& directory) {
  LatencyRecorder recorder;
  const std::string path = directory + "/probe";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return recorder.summary();
  const std::string block(4096, 'x');
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t began_ns = steady_ns();
    if (::pwrite(fd, block.data(), block.size(), 0) < 0 || ::fdatasync(fd) != 0) break;
    recorder.add(steady_ns() - began_ns);
  }
  ::close(fd);
  ::unlink(path.c_str());
  return recorder.summary();
}

int bench(const BenchArguments& arguments) {
  double rate = 0;
  if (arguments.rate != "max") {
    char* end = nullptr;
    rate = std::strtod(arguments.rate.c_str(), &end);
    if (!(rate > 0) || *end != '\0') {
      complain(fmt::format("--rate {}: expected events a second, or max", arguments.rate));
      return kUsage;
    }
  }
  const auto checkpoint_every_ms = checkpoint_interval_ms(arguments.state);
  if (!checkpoint_every_ms) return kUsage;
  auto pipeline = load_or_report(arguments.pipeline);
  if (!pipeline) return kUsage;

  alert::PagerDutyMock::Options mock_options;
  mock_options.rate_limited = false;
  mock_options.keep_bodies = false;
  std::atomic<pipeline::Service*> running{nullptr};
  StopOnSignal on_signal([&] {
    if (auto* service = running.load()) service->stop();
  });
  auto mock = alert::PagerDutyMock::start(mock_options);
  if (!mock) {
    complain(mock.error().message);
    return kFailed;
  }
  alert::RouteSpec route;
  route.name = "bench";
  route.kind = alert::RouteSpec::Kind::kPagerDuty;
  route.is_default = true;
  route.routing_key = std::string(32, 'b');
  route.url = (*mock)->url();
  route.rate_limited = false;
  pipeline->routes = {route};

  std::string data = (std::filesystem::temp_directory_path() / "alcedo-bench-XXXXXX").string();
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

  LatencyRecorder latencies;
  std::atomic<std::uint64_t> accepted{0};
  pipeline::Service::Options options;
  options.data = data;
  const std::string stream = fmt::format("simulate:payments?cards={}&seed={}", arguments.cards, arguments.seed);
  std::string source = stream + fmt::format("&skip={}", arguments.warm_up_events);
  if (rate > 0) source += fmt::format("&rate={}&seconds={}", rate, arguments.seconds);
  options.sources = {source};
  if (arguments.warm_up_events > 0) options.warm_up = {stream + fmt::format("&events={}", arguments.warm_up_events)};
  options.workers = arguments.workers;
  options.live = false;
  options.keep_due = true;
  options.stop_patience_ms = 30'000;
  options.checkpoint_every_ms = *checkpoint_every_ms;
  options.state_bytes_max = arguments.state.bytes_max;
  LatencyRecorder batches;
  LatencyRecorder batches_in_checkpoints;
  options.on_batch_time = [&](std::int64_t ns, bool checkpoint) {
    const auto* service = running.load(std::memory_order_relaxed);
    if (service == nullptr || !service->warmed_up()) return;
    (checkpoint ? batches_in_checkpoints : batches).add(ns);
  };
  options.on_accepted = [&](const alert::Delivery& delivery, std::int64_t accepted_ns) {
    accepted.fetch_add(1, std::memory_order_relaxed);
    if (delivery.action == IncidentChange::Kind::kOpen && delivery.due_ns > 0)
      latencies.add(accepted_ns - delivery.due_ns);
  };
  auto opened = pipeline::Service::open(*pipeline, std::move(options));
  if (!opened) {
    complain(opened.error().message);
    return kFailed;
  }
  auto& service = **opened;
  running.store(&service);
  if (on_signal.stopped()) service.stop();
  service.start();
  ProgressLine progress("bench", arguments.json);
  const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  while (!service.warmed_up() && !service.finished()) {
    progress.update(service.stats().events, {});
    pause();
  }
  const auto before = service.stats();
  const std::int64_t began_ns = steady_ns();
  const double cpu_before = cpu_seconds();
  while (!service.finished() && !service.runner().drained()) {
    progress.update(service.stats().events - before.events, {});
    if (rate == 0 && static_cast<double>(steady_ns() - began_ns) / 1e9 >= arguments.seconds) service.stop();
    pause();
  }
  const double seconds = static_cast<double>(steady_ns() - began_ns) / 1e9;
  const double cpu = cpu_seconds() - cpu_before;
  const auto after = service.stats();
  const auto outcome = service.wait();
  running.store(nullptr);
  if (!outcome) {
    complain(outcome.error().message);
    return kFailed;
  }
  if (after.events == 0 && after.dead_letters > 0) {
    complain(
        fmt::format("not one simulated payment is an event of pipeline '{}': bench needs one that reads payments, "
                    "such as pipelines/payments",
                    pipeline->name));
    return kUsage;
  }
  const std::uint64_t processed = after.events - before.events;
  const std::uint64_t handled =
      processed + (after.duplicates - before.duplicates) + (after.dead_letters - before.dead_letters);
  // Over the whole run: what was handled before the clock was first read is not lost.
  const std::uint64_t handled_in_all = after.events + after.duplicates + after.dead_letters + after.empty;
  const std::uint64_t offered_in_all =
      rate > 0 && !on_signal.stopped()
          ? arguments.warm_up_events + static_cast<std::uint64_t>(std::llround(rate * arguments.seconds))
          : handled_in_all;
  const std::uint64_t lost = offered_in_all > handled_in_all ? offered_in_all - handled_in_all : 0;
  const auto latency = latencies.summary();
  const auto disk = probe_disk(data);
  const auto ratio = [](std::uint64_t a, std::uint64_t b) {
    return a + b == 0 ? NAN : static_cast<double>(a) / static_cast<double>(a + b);
  };
  const double tpr =
      ratio(after.true_positives - before.true_positives, after.false_negatives - before.false_negatives);
  const double fpr =
      ratio(after.false_positives - before.false_positives, after.true_negatives - before.true_negatives);
  JsonWriter json;
  json.begin_object();
  json.field("offered_per_second", rate > 0 ? rate : static_cast<double>(handled) / seconds);
  json.field("processed_per_second", static_cast<double>(processed) / seconds);
  json.field("lost", lost);
  json.field("seconds", seconds).field("cores_used", cpu / seconds).field("rss_bytes_max", rss_bytes_max());
  json.key("latency_ms").begin_object();
  json.field("p50", latency.p50_ms).field("p90", latency.p90_ms).field("p99", latency.p99_ms);
  json.field("p999", latency.p999_ms).field("max", latency.max_ms).end_object();
  json.key("disk_sync_ms").begin_object();
  json.field("p50", disk.p50_ms).field("p99", disk.p99_ms).field("max", disk.max_ms).end_object();
  const auto batch = batches.summary();
  const auto in_checkpoints = batches_in_checkpoints.summary();
  const auto write_batches = [&](std::string_view name, const LatencyRecorder::Summary& summary) {
    json.key(name).begin_object().field("p50", summary.p50_ms).field("p99", summary.p99_ms);
    json.field("p999", summary.p999_ms).field("max", summary.max_ms);
    json.field("samples", static_cast<std::uint64_t>(summary.samples)).end_object();
  };
  write_batches("batch_ms", batch);
  write_batches("batch_in_checkpoint_ms", in_checkpoints);
  const auto checkpoints = service.runner().checkpoint_stats();
  json.key("checkpoints").begin_object().field("published", checkpoints.published).field("failed", checkpoints.failed);
  json.field("rows", checkpoints.rows).field("bytes", checkpoints.bytes);
  json.field("last_seconds", static_cast<double>(checkpoints.last_ms) / 1000).end_object();
  json.field("resident_entities", static_cast<std::uint64_t>(service.runner().engine().resident_entities()));
  json.field("latency_samples", static_cast<std::uint64_t>(latency.samples));
  json.field("alerts_delivered", accepted.load())
      .field("incidents_opened", after.incidents_opened - before.incidents_opened);
  json.field("true_positive_rate", tpr).field("false_positive_rate", fpr);
  json.field("entities", after.entities)
      .field("state_bytes", after.state_bytes)
      .field("workers", static_cast<std::uint64_t>(arguments.workers));
  json.end_object();
  if (arguments.json) {
    fmt::print("{}\n", json.text());
    return kDone;
  }
  fmt::print("{} events/s processed ({} offered), {} lost, {:.1f} s, {:.2f} cores, {} at most\n",
             with_commas(static_cast<std::uint64_t>(static_cast<double>(processed) / seconds)),
             rate > 0 ? with_commas(static_cast<std::uint64_t>(rate)) + "/s" : "as many as it took", with_commas(lost),
             seconds, cpu / seconds, human_bytes(rss_bytes_max()));
  if (latency.samples == 0 && rate > 0) {
    fmt::print("no page left, so there is no latency{}\n",
               after.calibrated ? ""
                                : fmt::format(": the thresholds still calibrate (calibrate_events: {}); give more "
                                              "--warm-up-events",
                                              with_commas(pipeline->calibrate_events)));
  } else if (rate > 0) {
    fmt::print("due time to acceptance of the page: p50 {:.2f} ms, p90 {:.2f}, p99 {:.2f}, max {:.2f} ({} pages)\n",
               latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms, latency.samples);
    fmt::print("a bare fdatasync on the data directory's disk: p50 {:.2f} ms, p99 {:.2f}, max {:.2f}\n", disk.p50_ms,
               disk.p99_ms, disk.max_ms);
  } else {
    fmt::print("latency is only measured at a given --rate: at max the load waits for the system\n");
  }
  if (batch.samples + in_checkpoints.samples > 0) {
    fmt::print("a batch: p50 {:.2f} ms, p99.9 {:.2f}", batch.p50_ms, batch.p999_ms);
    if (in_checkpoints.samples > 0)
      fmt::print("; while a checkpoint is made: p50 {:.2f} ms, p99.9 {:.2f} ({} checkpoints, {})",
                 in_checkpoints.p50_ms, in_checkpoints.p999_ms, checkpoints.published, human_bytes(checkpoints.bytes));
    fmt::print("\n");
  }
  fmt::print("{} entities, {} of state; {} % of anomalous events fired, {} % of normal ones\n",
             with_commas(after.entities), human_bytes(after.state_bytes), figure(100 * tpr, 1), figure(100 * fpr, 3));
  return kDone;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand(
      "bench", "Load a pipeline with simulated payments and measure rate, latency to the page, memory");
  auto arguments = std::make_shared<BenchArguments>();
  command->add_option("PIPELINE", arguments->pipeline, "pipeline.yaml, or the folder that holds it")->required();
  command->add_option("--rate", arguments->rate, "events a second, sent whether or not the system keeps up; or max")
      ->capture_default_str();
  command->add_option("--seconds", arguments->seconds, "how long")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--cards", arguments->cards, "cards of the simulation")->capture_default_str();
  command->add_option("--seed", arguments->seed, "of the simulation")->capture_default_str();
  command->add_option("--warm-up-events", arguments->warm_up_events, "history learnt before the clock starts")
      ->capture_default_str();
  command->add_option("--workers", arguments->workers, "threads that share the keys")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  add_state_options(*command, arguments->state);
  command->add_flag("--json", arguments->json, "print one JSON object");
  command->footer(
      "Alerts go to a PagerDuty mock inside this process, without rate limit. The simulator and the mock use the same "
      "cores.\n"
      "Examples:\n"
      "  alcedo bench pipelines/payments/pipeline.yaml --rate max --seconds 30\n"
      "  alcedo bench pipelines/payments --rate 50000 --seconds 60 --json");
  command->callback([=, &exit_code] { exit_code = bench(*arguments); });
}

}  // namespace alcedo::cli
