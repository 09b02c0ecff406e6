// What replay and evaluate share: a source run through a pipeline without data directory, ledger or deliveries.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "core/result.h"
#include "ingest/source.h"
#include "pipeline/runner.h"
#include "terminal.h"

namespace alcedo::cli {

struct OfflineArguments {
  std::string pipeline;
  SourceArguments source;
  std::string warm_up;
  std::string bundle;      // empty: the pipeline's own
  bool untrained = false;  // no bundle: this run is to train one
  std::size_t workers = cores();
  std::size_t batch = 4096;
  double speed = 0;
  std::string dead_letters;  // file; empty: counted only
  bool json = false;
};

/// Adds the options that both commands have.
void add_offline_options(CLI::App& command, OfflineArguments& arguments);

class Offline {
 public:
  ~Offline() { on_signal_.reset(); }  // it may be calling the runner

  /// nullptr after having complained; `exit_code` is then set.
  static std::unique_ptr<Offline> open(const OfflineArguments& arguments, int& exit_code);

  /// Runs everything; `each` sees every batch after the warm-up. Shows progress, stops on SIGTERM. kDone or kFailed.
  int run(const std::function<void(const pipeline::Runner::BatchView&)>& each);
  /// Ends run() after the batch at hand; for `each`, where nobody takes its results any more.
  void stop() { runner_->stop(); }

  /// To stderr: what a person should know of a run that ended well and still cannot be what they wanted.
  void say_what_is_odd() const;

  const pipeline::Pipeline& pipeline() const { return pipeline_; }
  const pipeline::Runner& runner() const { return *runner_; }
  const ingest::Source& source() const { return *source_; }
  double seconds() const { return seconds_; }  // of the run after the warm-up
  bool stopped() const { return on_signal_->stopped(); }

 private:
  OfflineArguments arguments_;
  pipeline::Pipeline pipeline_;
  std::unique_ptr<ingest::DeadLetters> dead_letters_;
  std::unique_ptr<ingest::Source> warm_up_;
  std::unique_ptr<ingest::Source> source_;
  std::unique_ptr<ingest::Source> labels_;
  std::function<void(const pipeline::Runner::BatchView&)> each_;
  std::unique_ptr<StopOnSignal> on_signal_;  // before the runner, whose threads must not take the signal
  std::atomic<bool> stopping_{false};
  std::atomic<pipeline::Runner*> ready_{nullptr};  // once it can be stopped
  std::unique_ptr<pipeline::Runner> runner_;
  std::unique_ptr<ProgressLine> progress_;
  double seconds_ = 0;
};

}  // namespace alcedo::cli
