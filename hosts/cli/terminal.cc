// Progress and prompts go to stderr, results to stdout, so that a pipe gets only results.
#include "terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace alcedo::cli {

void complain(const std::string& message) { fmt::print(stderr, "alcedo: {}\n", message); }

std::optional<pipeline::Pipeline> load_or_report(const std::string& path) {
  auto loaded = pipeline::load_pipeline(path);
  if (!loaded) {
    complain(loaded.error().message);
    return std::nullopt;
  }
  if (!loaded->mistakes.empty()) {
    std::ifstream file(loaded->pipeline.path.empty() ? path : loaded->pipeline.path);
    std::stringstream text;
    text << file.rdbuf();
    fmt::print(stderr, "{}", pipeline::format_mistakes(loaded->pipeline.path, text.str(), loaded->mistakes));
    complain(fmt::format("{} mistake{} in the pipeline; nothing was started", loaded->mistakes.size(),
                         loaded->mistakes.size() == 1 ? "" : "s"));
    return std::nullopt;
  }
  return std::move(loaded->pipeline);
}

std::size_t cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
  return std::max(1U, std::thread::hardware_concurrency());
}

std::string with_commas(std::uint64_t n) {
  std::string digits = std::to_string(n);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3) digits.insert(static_cast<std::size_t>(i), ",");
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
    : what_(std::move(what)), on_(!quiet && ::isatty(STDERR_FILENO) != 0), began_(std::chrono::steady_clock::now()), shown_(began_) {}

ProgressLine::~ProgressLine() {
  if (on_) fmt::print(stderr, "\r\033[K");
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
    complain("give the events either as --events FILE... or as --source URI");
    return std::nullopt;
  }
  if (!arguments.source.empty()) return std::vector{arguments.source};
  std::vector<std::string> uris;
  for (const auto& file : arguments.events) uris.push_back("file:" + file);
  return uris;
}

}  // namespace alcedo::cli
