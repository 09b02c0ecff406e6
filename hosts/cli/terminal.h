// What the commands share in talking to a person: pipelines with their mistakes, signals, progress on a terminal.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ingest/source.h"
#include "pipeline/pipeline_file.h"

namespace alcedo::cli {

/// Reads a pipeline; prints its mistakes, or why it cannot be read, to stderr.
std::optional<pipeline::Pipeline> load_or_report(const std::string& path);

/// Prints "alcedo: MESSAGE" to stderr.
void complain(const std::string& message);

/// The cores this process may use.
std::size_t cores();

/// "12,345,678"; "1.2 GB".
std::string with_commas(std::uint64_t n);
std::string human_bytes(std::uint64_t bytes);

/// While it lives, the first SIGTERM or SIGINT calls `stop` (on a thread of its own); a second one ends the process at once.
class StopOnSignal {
 public:
  explicit StopOnSignal(std::function<void()> stop);
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;
  bool stopped() const { return stopped_.load(); }

 private:
  std::atomic<bool> end_{false};
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

/// One line on stderr, redrawn a few times a second, with rate, share done and time left; nothing unless stderr is a terminal.
class ProgressLine {
 public:
  ProgressLine(std::string what, bool quiet);
  ~ProgressLine();
  void update(std::uint64_t events, ingest::Source::Progress progress);

 private:
  std::string what_;
  bool on_;
  std::chrono::steady_clock::time_point began_;
  std::chrono::steady_clock::time_point shown_;
};

/// Sources of a command: --source URI, or --events FILE... (the same as file:). nullopt after having complained.
struct SourceArguments {
  std::string source;
  std::vector<std::string> events;
};
std::optional<std::vector<std::string>> source_uris(const SourceArguments& arguments);

}  // namespace alcedo::cli
