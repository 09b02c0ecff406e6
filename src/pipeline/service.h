// One pipeline as a running service on a data directory: its source, engine, journal, ledger, dead letters and
// deliveries.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "alert/delivery.h"
#include "alert/ledger.h"
#include "core/result.h"
#include "ingest/dead_letters.h"
#include "ingest/open_source.h"
#include "ingest/source.h"
#include "pipeline/journal.h"
#include "pipeline/pipeline_file.h"
#include "pipeline/runner.h"

namespace alcedo::pipeline {

/// Threads  start(), wait() and the destructor by the owner; stop() and the stats from any.
class Service {
 public:
  struct Options {
    std::string data;                  // directory; created with mode 0700
    std::vector<std::string> sources;  // URIs; several only of files
    std::vector<std::string> warm_up;  // URIs; empty: none
    std::size_t workers = 1;
    double speed = 0;
    bool follow = false;                        // a file that grows
    bool live = true;                           // wall time makes ticks while nothing arrives
    std::int64_t checkpoint_every_ms = 20'000;  // 0: no checkpoints; a restart reads the source from its beginning
    std::size_t state_bytes_max = 0;            // of entities in memory; beyond, cold ones stay on disk; 0: no bound
    std::size_t served_entities_max = 0;        // newest vectors kept of each keyed stage, for readers; 0: none
    bool keep_due = false;                      // remember due times, for latency measurements
    std::int64_t stop_patience_ms = 3000;       // how long the outbox may take to empty at the end
    std::uint64_t dead_letter_bytes_max = 64 << 20;
    std::function<void(const Runner::BatchView&)> on_batch;
    std::function<void(const alert::Delivery&, std::int64_t accepted_ns)> on_accepted;
    std::function<void(std::int64_t ns, bool checkpoint)> on_batch_time;  // Runner::Options
    std::function<void(const std::string&)> on_problem;
    std::function<void(const std::string&)> on_notice;  // each once, while opening: what became of earlier state
  };

  /// Opens everything; nothing is read yet. Errors name what could not be opened and what to do; a data directory that
  /// another process uses is refused with its pid.
  static Result<std::unique_ptr<Service>> open(const Pipeline& pipeline, Options options);
  ~Service();

  /// Begins reading, on a thread of its own.
  void start();
  /// Until the source has ended or stop() has taken effect, everything is committed and deliveries had their patience.
  Result<> wait();
  void stop();
  /// History has been learnt and the source itself is being read.
  bool warmed_up() const { return warmed_up_.load(std::memory_order_acquire); }
  bool finished() const { return finished_.load(std::memory_order_acquire); }

  const Pipeline& pipeline() const { return pipeline_; }
  const Runner& runner() const { return *runner_; }
  RunnerStats stats() const { return runner_->stats(); }
  alert::Deliverer::Stats delivery_stats() const { return deliverer_->stats(); }
  alert::Ledger& ledger() { return *ledger_; }
  ingest::Source& source() { return *source_; }
  /// How a private field's value appears in keys: "h:" and 32 hex digits.
  std::string private_text(std::string_view value) const;

 private:
  Service(const Pipeline& pipeline, Options options) : pipeline_(pipeline), options_(std::move(options)) {}
  Result<> set_up();

  Pipeline pipeline_;
  Options options_;
  int lock_fd_ = -1;
  std::array<std::uint8_t, 16> secret_{};
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<ingest::DeadLetters> dead_letters_;
  std::unique_ptr<alert::Ledger> ledger_;
  std::unique_ptr<alert::Deliverer> deliverer_;
  std::unique_ptr<ingest::Source> warm_up_;
  std::unique_ptr<ingest::Source> source_;
  std::unique_ptr<ingest::Source> labels_;  // null: none are read
  std::unique_ptr<Runner> runner_;
  std::thread thread_;
  Result<> outcome_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> warmed_up_{false};
  std::atomic<bool> finished_{false};
};

/// Opens one URI, or several of files as one source that is merged by event time. `how` gets the pipeline's format.
Result<std::unique_ptr<ingest::Source>> open_sources(const std::vector<std::string>& uris,
                                                     const contract::EventsSpec& events, ingest::OpenOptions how);

/// The secret of private fields: DATA/private.key (16 random bytes as hex, mode 0600), made at first use. With an empty
/// `directory`: the environment's ALCEDO_PRIVATE_KEY (32 hex digits), else a key that everybody knows, for offline work
/// on data the caller holds.
Result<std::array<std::uint8_t, 16>> private_key(const std::string& directory);

}  // namespace alcedo::pipeline
