// What the commands share in talking to a person: pipelines with their mistakes, signals, progress on a terminal.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "ingest/source.h"
#include "pipeline/pipeline_file.h"

namespace alcedo::cli {

/// Reads a pipeline and its bundle, or that at `bundle`; prints mistakes, or why something cannot be read, to stderr,
/// and which detectors abstain for want of a model.
std::optional<pipeline::Pipeline> load_or_report(const std::string& path, const std::string& bundle = {});
/// The same without a bundle: for training, which makes one.
std::optional<pipeline::Pipeline> load_untrained_or_report(const std::string& path);

/// Prints "alcedo: MESSAGE" to stderr, made printable.
void complain(const std::string& message);

/// Data that goes to a terminal: control characters, and what is not UTF-8, become '?', so that no event can move the
/// cursor or hide text. Newlines stay where `lines` says so.
std::string printable(std::string_view text, bool lines = false);

/// "1 incident", "2,000 incidents"; `many` where it is not `one` and an s.
std::string counted(std::uint64_t n, std::string_view one, std::string_view many = {});

/// "0.123", or "-" for what is not known.
std::string figure(double value, int decimals);

/// How stdout took what was printed. False after having complained: the disk is full, the reader has gone.
bool flush_stdout();

/// The cores this process may use.
std::size_t cores();

/// "12,345,678"; "1.2 GB".
std::string with_commas(std::uint64_t n);
std::string human_bytes(std::uint64_t bytes);

/// While it lives, the first SIGTERM or SIGINT calls `stop` (on a thread of its own); a second one ends the process at
/// once. Make it before anything that starts threads: a thread that was there already would take the signal and die of
/// it.
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

/// One line on stderr, redrawn a few times a second, with rate, share done and time left; nothing unless stderr is a
/// terminal.
class ProgressLine {
 public:
  ProgressLine(std::string what, bool quiet);
  ~ProgressLine();
  void update(std::uint64_t events, ingest::Source::Progress progress);
  /// What is being done, and which share of it; not more often than update() draws.
  void say(std::string_view doing, double share);
  void clear();

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

/// How a command keeps state: --checkpoint-every and --state-memory.
struct StateArguments {
  std::string checkpoint_every = "20s";
  std::uint64_t bytes_max = 0;
};
void add_state_options(CLI::App& command, StateArguments& arguments);
/// In milliseconds, 0: never; nullopt after having complained. Cold entities are left to checkpoints, so a bound of
/// memory needs them.
std::optional<std::int64_t> checkpoint_interval_ms(const StateArguments& arguments);

}  // namespace alcedo::cli
