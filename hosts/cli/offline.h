// What replay and evaluate share: a source run through a pipeline without data directory, ledger or deliveries.
#pragma once

#include <CLI/CLI.hpp>
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
  /// nullptr after having complained; `exit_code` is then set.
  static std::unique_ptr<Offline> open(const OfflineArguments& arguments, int& exit_code);

  /// Runs everything; `each` sees every batch after the warm-up. Shows progress, stops on SIGTERM. kDone or kFailed.
  int run(const std::function<void(const pipeline::Runner::BatchView&)>& each);

  const pipeline::Pipeline& pipeline() const { return pipeline_; }
  const pipeline::Runner& runner() const { return *runner_; }
  const ingest::Source& source() const { return *source_; }
  double seconds() const { return seconds_; }  // of the run after the warm-up
  bool stopped() const { return stopped_; }

 private:
  OfflineArguments arguments_;
  pipeline::Pipeline pipeline_;
  std::unique_ptr<ingest::DeadLetters> dead_letters_;
  std::unique_ptr<ingest::Source> warm_up_;
  std::unique_ptr<ingest::Source> source_;
  std::function<void(const pipeline::Runner::BatchView&)> each_;
  std::unique_ptr<pipeline::Runner> runner_;
  std::unique_ptr<ProgressLine> progress_;
  double seconds_ = 0;
  bool stopped_ = false;
};

}  // namespace alcedo::cli
