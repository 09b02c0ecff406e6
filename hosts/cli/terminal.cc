// Progress and prompts go to stderr, results to stdout, so that a pipe gets only results.
#include "terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/time.h"
#include "pipeline/pipeline_bundle.h"

namespace alcedo::cli {

void complain(const std::string& message) { fmt::print(stderr, "alcedo: {}\n", printable(message, true)); }

std::string printable(std::string_view text, bool lines) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t size = lead < 0x80               ? 1
                             : (lead & 0xE0U) == 0xC0U ? 2
                             : (lead & 0xF0U) == 0xE0U ? 3
                             : (lead & 0xF8U) == 0xF0U ? 4
                                                       : 0;
    bool good = size != 0 && i + size <= text.size() && lead != 0xC0U && lead != 0xC1U;
    for (std::size_t k = 1; good && k < size; ++k) good = (static_cast<unsigned char>(text[i + k]) & 0xC0U) == 0x80U;
    // C0, DEL, and C1 (which some terminals obey even as UTF-8).
    if (good && size == 1) good = (lead >= 0x20 && lead != 0x7F) || (lines && lead == '\n');
    if (good && lead == 0xC2U) good = static_cast<unsigned char>(text[i + 1]) >= 0xA0U;
    if (good) {
      out += text.substr(i, size);
      i += size;
    } else {
      out += '?';
      ++i;
    }
  }
  return out;
}

std::string counted(std::uint64_t n, std::string_view one, std::string_view many) {
  if (n == 1 || many.empty()) return fmt::format("{} {}{}", with_commas(n), one, n == 1 ? "" : "s");
  return fmt::format("{} {}", with_commas(n), many);
}

std::string figure(double value, int decimals) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, decimals) : "-";
}

bool flush_stdout() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return true;
  if (errno != EPIPE) complain(fmt::format("cannot write the result to stdout: {}", std::strerror(errno)));
  return false;
}

std::optional<pipeline::Pipeline> load_untrained_or_report(const std::string& path) {
  auto loaded = pipeline::load_pipeline(path);
  if (!loaded) {
    complain(loaded.error().message);
    return std::nullopt;
  }
  if (!loaded->mistakes.empty()) {
    std::ifstream file(loaded->pipeline.path.empty() ? path : loaded->pipeline.path);
    std::stringstream text;
    text << file.rdbuf();
    fmt::print(stderr, "{}",
               printable(pipeline::format_mistakes(loaded->pipeline.path, text.str(), loaded->mistakes), true));
    complain(fmt::format("{} in {}; nothing was started", counted(loaded->mistakes.size(), "mistake"),
                         loaded->pipeline.path.empty() ? path : loaded->pipeline.path));
    return std::nullopt;
  }
  return std::move(loaded->pipeline);
}

std::optional<pipeline::Pipeline> load_or_report(const std::string& path, const std::string& bundle) {
  auto pipeline = load_untrained_or_report(path);
  if (!pipeline) return std::nullopt;
  if (auto attached = pipeline::attach_bundle(*pipeline, bundle); !attached) {
    complain(attached.error().message);
    return std::nullopt;
  }
  for (const std::string& note : pipeline::bundle_notes(*pipeline)) complain(note);
  return pipeline;
}

std::size_t cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
  return std::max(1U, std::thread::hardware_concurrency());
}

std::string with_commas(std::uint64_t n) {
  std::string digits = std::to_string(n);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), ",");
  return digits;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

StopOnSignal::StopOnSignal(std::function<void()> stop) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // Blocked here, before other threads start, so that only the waiting thread gets them.
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this, set, stop = std::move(stop)] {
    const timespec patience{0, 100'000'000};
    while (!end_.load()) {
      if (sigtimedwait(&set, nullptr, &patience) < 0) continue;
      if (stopped_.exchange(true)) ::_exit(128 + SIGTERM);
      stop();
    }
  });
}

StopOnSignal::~StopOnSignal() {
  end_.store(true);
  thread_.join();
}

ProgressLine::ProgressLine(std::string what, bool quiet)
    : what_(std::move(what)),
      on_(!quiet && ::isatty(STDERR_FILENO) != 0),
      began_(std::chrono::steady_clock::now()),
      shown_(began_) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::clear() {
  if (on_) fmt::print(stderr, "\r\033[K");
}

void ProgressLine::say(std::string_view doing, double share) {
  if (!on_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - shown_ < std::chrono::milliseconds(200)) return;
  shown_ = now;
  fmt::print(stderr, "\r\033[K{}: {}, {:.0f} %", what_, doing, 100 * std::min(1.0, share));
  std::fflush(stderr);
}

void ProgressLine::update(std::uint64_t events, ingest::Source::Progress progress) {
  if (!on_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - shown_ < std::chrono::milliseconds(200)) return;
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - began_).count();
  std::string line = fmt::format("\r\033[K{}: {} events, {}/s", what_, with_commas(events),
                                 with_commas(static_cast<std::uint64_t>(static_cast<double>(events) / seconds)));
  if (progress.total > 0 && progress.done > 0) {
    const double share = std::min(1.0, static_cast<double>(progress.done) / static_cast<double>(progress.total));
    line += fmt::format(", {:.0f} %, {:.0f} s left", 100 * share, seconds * (1 - share) / share);
  }
  fmt::print(stderr, "{}", line);
  std::fflush(stderr);
}

std::optional<std::vector<std::string>> source_uris(const SourceArguments& arguments) {
  if (arguments.source.empty() == arguments.events.empty()) {
    complain(arguments.source.empty()
                 ? "no events: name files with --events FILE..., or another source with --source URI (see --help)"
                 : "--events and --source exclude each other: --events FILE is short for --source file:FILE");
    return std::nullopt;
  }
  if (!arguments.source.empty()) return std::vector{arguments.source};
  std::vector<std::string> uris;
  for (const auto& file : arguments.events) uris.push_back("file:" + file);
  return uris;
}

void add_state_options(CLI::App& command, StateArguments& arguments) {
  command
      .add_option("--checkpoint-every", arguments.checkpoint_every,
                  "how often state is written, from where a restart goes on; 0s: never, a restart reads all again")
      ->capture_default_str();
  command
      .add_option("--state-memory", arguments.bytes_max,
                  "memory for the state of entities, such as 2GB; beyond it, those not used lately stay on disk")
      ->transform(CLI::AsSizeValue(false));
}

std::optional<std::int64_t> checkpoint_interval_ms(const StateArguments& arguments) {
  const auto interval_ms = parse_duration_ms(arguments.checkpoint_every);
  if (!interval_ms) {
    complain(fmt::format("--checkpoint-every {}: expected a duration such as 20s or 5m; 0s: never",
                         arguments.checkpoint_every));
    return std::nullopt;
  }
  if (*interval_ms == 0 && arguments.bytes_max != 0) {
    complain("--state-memory needs checkpoints, which hold what does not fit: leave out --checkpoint-every 0s");
    return std::nullopt;
  }
  return *interval_ms;
}

}  // namespace alcedo::cli
