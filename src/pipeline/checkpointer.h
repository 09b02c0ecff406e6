// Checkpoints of a running pipeline: begun between two batches, read in slices between others, written by a thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/state_stream.h"
#include "features/state/captured_rows.h"
#include "features/state/segment.h"
#include "pipeline/checkpoint_store.h"

namespace alcedo::pipeline {

class Engine;

/// What a checkpoint says beside its rows: how far the inputs had come, and what the rows mean.
struct CheckpointRecord {
  /// The next record of a partition, and how many of its events were taken (of a wide one).
  struct Place {
    std::int64_t offset = 0;
    std::uint32_t part = 0;
    std::uint64_t fingerprint = 0;  // of all records before `offset`
  };
  std::string pipeline;
  std::uint64_t sequence = 0;  // of the last input it includes
  bool warmed_up = false;
  std::map<std::int32_t, Place> places;           // by partition
  std::map<std::string, std::int64_t> file_rows;  // of the sources before this one, by file key
  std::map<std::string, std::uint64_t> counts;    // since the data directory began
  std::vector<features::StateSchema> schemas;     // by stage

  std::string save() const;
  /// Errors: kCorrupt; kInvalidArgument if another version wrote it.
  static Result<CheckpointRecord> load(std::string_view bytes);
};

/// State that is no entity's, by a number that stays: its row in a checkpoint.
struct StatePart {
  std::uint64_t id = 0;
  std::string bytes;
};

/// Stages of rows beyond those of the plan.
inline constexpr std::uint32_t kPartStage = 0x10000;   // StatePart::id
inline constexpr std::uint32_t kIdStage = 0x10001;     // recent ids, by the sequence of the first
inline constexpr std::uint32_t kLabelStage = 0x10002;  // events kept for labels, by the sequence of the first

/// State that only grows at its end and goes at its beginning: written as it comes, a row a checkpoint.
struct LogRow {
  std::uint32_t stage = kIdStage;
  std::optional<StatePart> row;  // since the last one, by the sequence of its first input
  std::uint64_t from = 0;        // rows all of whose inputs are before it go
};

/// Threads  All calls by the engine's thread; a thread of its own writes.
/// Cost     begin() copies the parts; step() the rows it takes. No call waits for the disk but finish() and wait().
class Checkpointer {
 public:
  struct Options {
    std::int64_t interval_ms = 20'000;
    // The store holds rows of another plan: until one checkpoint of all rows is published, none may build on them.
    bool full_first = false;
    // Everything that the checkpoint includes is on disk: inputs, journal, and what the ledger had to take. Called by
    // the writing thread before a checkpoint is published.
    std::function<Result<>(std::uint64_t ticket)> make_durable;
    std::function<void(const std::string&)> on_problem;
  };
  Checkpointer(CheckpointStore store, Options options);
  ~Checkpointer();

  CheckpointStore& store() { return store_; }

  /// A LogRow's that restore() gave, by stage and the sequence of its first; before the first checkpoint, ascending.
  void add_restored_log(std::uint32_t stage, std::uint64_t first, std::string bytes);
  /// Whether the next checkpoint needs all parts, not only those that changed since the last one was begun.
  bool needs_all_parts() const { return full_due_ || !last_outcome_ || part_hashes_.empty(); }

  /// Whether it is time for another one.
  bool due() const;
  /// The next one is due at once: memory is short.
  void hurry() { hurried_ = true; }
  /// None may be under way. `ticket` comes back in make_durable(). A part that is left out stays as it is in the store:
  /// see needs_all_parts().
  void begin(Engine& engine, CheckpointRecord record, std::vector<StatePart> parts, std::vector<LogRow> logs,
             std::uint64_t ticket);
  /// Takes up to `rows_max` rows from the engine, unless much is waiting to be written. What came of the last one is
  /// told to the engine here.
  void step(Engine& engine, std::size_t rows_max);
  /// A checkpoint is being read or written.
  bool under_way() const { return state_ != State::kIdle; }
  /// Its rows are still being read.
  bool reading() const { return state_ == State::kReading; }
  /// Reads the rest of one under way and returns when it is written and nothing else is. Errors: why the last one was
  /// not.
  Result<> finish(Engine& engine);
  /// Waits at most `milliseconds` for the writing thread to get on.
  void wait(std::int64_t milliseconds);
  /// Epoch of the newest published checkpoint.
  std::uint32_t published() const { return published_; }

  struct Stats {
    std::uint64_t published = 0;
    std::uint64_t failed = 0;
    std::uint64_t rows = 0;  // of all published
    std::uint64_t bytes = 0;
    std::int64_t last_ms = 0;  // how long the last one took, begin to publish
  };
  Stats stats() const;

 private:
  enum class State : std::uint8_t { kIdle, kReading, kWriting };
  // Null: the row goes.
  using Others = std::vector<std::pair<RowKey, std::shared_ptr<const std::string>>>;
  struct Job {
    bool begins = false;
    bool full = false;
    features::CapturedRows rows;
    std::optional<std::string> record;  // publishes, after `others`
    Others others;
    std::uint64_t ticket = 0;
  };
  void serve();
  Result<> write(Job& job);
  Result<> write_group();
  void put(Job job);
  void settle(Engine& engine);

  CheckpointStore store_;
  Options options_;
  bool full_due_;  // Options::full_first, until it is published
  State state_ = State::kIdle;
  Result<> last_outcome_;  // of the last one that ended
  bool hurried_ = false;
  std::int64_t next_ns_ = 0;
  std::int64_t began_ns_ = 0;
  std::uint32_t published_ = 0;
  std::uint64_t ticket_ = 0;
  std::string record_;
  Others others_;
  std::map<std::uint64_t, std::uint64_t> part_hashes_;  // of what is in the store, by part
  std::map<std::uint64_t, std::uint64_t> next_part_hashes_;
  struct Log {
    std::map<std::uint64_t, std::shared_ptr<const std::string>>
        rows;                           // given to a checkpoint that is not published yet
    std::vector<std::uint64_t> firsts;  // rows in the store, ascending
    std::uint64_t gone_before = 0;
  };
  std::map<std::uint32_t, Log> logs_;  // by stage
  std::uint64_t rows_written_ = 0;
  std::uint64_t bytes_written_ = 0;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::size_t queued_bytes_ = 0;
  bool busy_ = false;
  bool compacting_ = false;
  bool stop_ = false;
  std::optional<Result<>> outcome_;  // of the checkpoint under way
  Stats stats_;
  std::atomic<bool> compact_stop_{false};
  features::CapturedRows group_;  // the writing thread's: rows of one stage and key group, until all are there
  std::thread thread_;
};

}  // namespace alcedo::pipeline
