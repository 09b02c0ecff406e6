// Drives one pipeline: source -> decoder -> sequencer -> engine -> journal and ledger, with bounded queues between the
// threads.
#pragma once

#include <array>
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
#include <thread>
#include <vector>

#include "alert/ledger.h"
#include "contract/decoder.h"
#include "core/result.h"
#include "ingest/dead_letters.h"
#include "ingest/source.h"
#include "pipeline/checkpointer.h"
#include "pipeline/engine.h"
#include "pipeline/journal.h"
#include "pipeline/label_index.h"
#include "pipeline/label_reader.h"
#include "pipeline/pipeline_file.h"
#include "pipeline/sequencer.h"
#include "pipeline/template_keys.h"
#include "pipeline/worker_pool.h"

namespace alcedo::pipeline {

/// Counts since the start. Every record ends in exactly one of events (its events, for a wide one), empty, dead letters
/// or duplicates. Rows of a file of labels are no records; those that are no labels are dead letters too.
struct RunnerStats {
  std::uint64_t records = 0;
  std::uint64_t events = 0;
  std::uint64_t empty = 0;  // records that hold nothing
  std::uint64_t duplicates = 0;
  std::uint64_t late = 0;  // accepted, below the watermark
  // Of a file of labels with times of their own: such as reached their event; whose event is not remembered; of an
  // event that had one before; such as say that nothing was wrong.
  std::uint64_t labels = 0, label_misses = 0, labels_repeated = 0, labels_normal = 0;
  std::uint64_t dead_letters = 0;
  std::map<std::string, std::uint64_t> dead_by_reason;
  std::uint64_t fired = 0;  // firing verdicts
  std::uint64_t incidents_opened = 0;
  std::uint64_t open_incidents = 0;
  std::uint64_t entities = 0;
  std::uint64_t state_bytes = 0;
  std::int64_t watermark_ms = INT64_MIN;
  bool calibrated = false;
  std::string paused;  // why the source waits; empty: it does not
  // Where records carry labels: rows by truth and by whether any type fired.
  std::uint64_t true_positives = 0, false_positives = 0, false_negatives = 0, true_negatives = 0;
};

/// Threads  run() on the caller's thread (it becomes the engine's), with one thread reading and one committing; stop()
/// and stats()
///          from any.
class Runner {
 public:
  struct BatchView {
    const EventBatch& batch;
    const EngineOutput& output;
  };
  struct Options {
    std::size_t batch_events_max = 4096;
    std::size_t workers = 1;
    double speed = 0;                             // 1: event time passes as fast as wall time; 0: as fast as possible
    bool live = false;                            // wall time also makes ticks while nothing arrives
    std::array<std::uint8_t, 16> secret{};        // of private fields
    ingest::Source* labels = nullptr;             // where reads_label_file() says that there are some: open_labels()
    std::size_t served_entities_max = 0;          // newest vectors kept of each keyed stage, for readers; 0: none
    ingest::DeadLetters* dead_letters = nullptr;  // null: counted only
    Journal* journal = nullptr;
    std::string checkpoints;  // directory of a CheckpointStore; empty: none are made
    std::int64_t checkpoint_every_ms = 20'000;
    std::size_t state_bytes_max = 0;                 // entities beyond it stay in the checkpoints; 0: all in memory
    alert::Ledger* ledger = nullptr;                 // null: changes only go to on_batch
    std::function<void()> on_commit;                 // after the ledger took changes (wakes the delivery)
    std::function<void(const BatchView&)> on_batch;  // after each batch, on the engine's thread
    // How long a batch took from its first byte to its last decision, and whether a checkpoint was under way; on the
    // engine's thread.
    std::function<void(std::int64_t ns, bool checkpoint)> on_batch_time;
    std::function<void(const std::string&)> on_problem;  // something a person should read, at most once a second each
  };

  static Result<std::unique_ptr<Runner>> create(const Pipeline& pipeline, Options options);
  ~Runner();

  /// Goes on from the newest checkpoint that is whole; before warm_up() and run(). Nothing happens without one, or
  /// without Options::checkpoints. Errors: those of CheckpointStore; kCorrupt and kInvalidArgument naming the directory
  /// and what to do, where checkpoints do not fit the journal or the pipeline.
  Result<> restore();
  /// What a person should know of restore(): features that begin anew, checkpoints that were refused.
  const std::vector<std::string>& restore_notes() const { return restore_notes_; }
  /// A checkpoint says that all history has been learnt.
  bool warmed_up() const { return warmed_up_; }

  /// History first: learnt from, nothing alerts. Errors as run().
  Result<> warm_up(ingest::Source& source);
  /// Until the source ends or stop(). Errors: what the source, the journal or the ledger says; what was accepted has
  /// been processed.
  Result<> run(ingest::Source& source);
  void stop();

  RunnerStats stats() const;
  Checkpointer::Stats checkpoint_stats() const {
    return checkpointer_ ? checkpointer_->stats() : Checkpointer::Stats{};
  }
  /// Everything of the source has been processed and committed; a last checkpoint may still be written.
  bool drained() const { return drained_.load(std::memory_order_acquire); }
  const Engine& engine() const { return *engine_; }
  const contract::Decoder& decoder() const { return decoder_; }

 private:
  struct Chunk;  // decoded records of one partition, taken row by row where partitions are merged
  class Reader;
  class Committer;

  Runner(const Pipeline& pipeline, Options options, contract::Decoder decoder);
  Result<> drive(ingest::Source& source, std::int32_t partition_base);
  Result<> drive_one(ingest::Source& source, std::int32_t partition_base);
  Result<> drive_merged(ingest::Source& source, std::int32_t partition_base);
  /// Moves to the next record that has an event, or to the chunk's end. What it passes is counted and set aside.
  Result<> settle(Chunk& chunk);
  Result<> process_raw(const RawBatch& raw, EventBatch& batch, std::vector<std::uint32_t>& counts);
  void decode(const RawBatch& raw, EventBatch& batch, std::vector<std::uint32_t>& counts);
  Result<> set_aside(const RawBatch& raw, std::size_t i, std::string_view reason, std::string_view message);
  /// Admits row `row`; rejected ones are counted. Journaled time inputs that belong before it come first.
  Result<> admit(EventBatch& batch, std::uint32_t row, const RawBatch& raw, std::size_t record);
  /// What features will learn of the event.
  Truth truth_of(const EventHeader& event);
  Truth truth_of_label(Label label);
  /// Labels that became known before an event of `time_ms`, or that the journal says came here, take their places.
  Result<> take_labels(std::int64_t time_ms, std::size_t before);
  Result<> take_label(const LabelReader::Row& row, std::size_t before);
  void replay_time_inputs(std::size_t before);
  void take_tick(std::size_t before);
  Result<> process(EventBatch& batch);
  Result<> process_paced(EventBatch& batch);
  Result<> process_now(EventBatch& batch, std::size_t first, std::size_t last);
  /// Wall time as an input of its own while nothing arrives, so that silence is seen.
  Result<> time_passes();
  Result<> check_replay(std::uint64_t sequence, std::int32_t partition, std::int64_t offset);
  bool is_replaying() const {
    return options_.journal != nullptr && sequencer_.next_sequence() <= options_.journal->last_sequence();
  }
  /// While replaying: the partition that the next input came from, or -1 if it was none of a source.
  std::int32_t replayed_partition();
  Result<> forget_lost(std::uint64_t sequence);
  /// Where retention has dropped the oldest records of a log, sequence numbers go on from the first run that is still
  /// there whole. Returns the first record of `raw` to take.
  std::size_t resume_after_retention(const RawBatch& raw);
  void count_truth(const EventBatch& batch);
  /// Between two batches: makes checkpoints and leaves cold entities to them.
  Result<> keep_state(std::size_t rows);
  void begin_checkpoint();
  void gather_ids();
  /// Everything so far into one more checkpoint, on the way out.
  void last_checkpoint();
  Result<> make_durable(std::uint64_t ticket);
  CheckpointRecord make_record() const;
  Result<> restore_labels();
  Result<> take_record(std::uint64_t epoch, std::string_view bytes);
  Result<> take_row(const RowKey& key, std::string_view row, std::uint64_t epoch);
  Result<> take_part(std::uint64_t id, std::string_view bytes);
  std::uint64_t processed_sequence() const { return sequencer_.next_sequence() - 1; }
  bool stopping() const { return stop_.load(std::memory_order_relaxed); }

  Pipeline pipeline_;
  Options options_;
  WorkerPool pool_;
  contract::Decoder decoder_;
  std::vector<contract::Decoder::Scratch> scratch_;
  std::unique_ptr<Engine> engine_;
  Sequencer sequencer_;
  TemplateKeys templates_;
  std::unique_ptr<Committer> committer_;
  std::vector<Tick> ticks_;
  EngineOutput output_;
  std::vector<std::vector<std::pair<std::uint32_t, contract::Decoded>>> rejected_;  // [worker]
  std::map<std::string, std::int64_t> rows_of_file_;  // row clock: rows so far of each file key
  std::map<std::int32_t, std::int64_t> rows_of_partition_;
  std::vector<Truth> truths_;                  // by label, of the source that is driven
  std::unique_ptr<LabelReader> label_reader_;  // null: labels come in the events, or not at all
  std::unique_ptr<LabelIndex> label_index_;    // where they have times of their own
  std::vector<LabelInput> labels_;             // as ticks_
  std::optional<StatePart> label_log_;         // since the newest checkpoint was begun
  std::vector<std::pair<std::uint64_t, std::string>> restored_label_logs_;
  bool resumed_ = false;
  std::size_t replay_run_ = 0;
  std::size_t replay_time_ = 0;
  std::int64_t fresh_offset_ = INT64_MAX;  // of the source that is driven
  std::unique_ptr<Checkpointer> checkpointer_;
  std::optional<CheckpointRecord> restored_;  // while restore() loads rows
  std::vector<int> restored_stages_;          // by the checkpoint's stage: the plan's, or -1
  bool same_plan_ = true;                     // as the checkpoint's
  std::vector<std::pair<std::uint64_t, std::uint64_t>> restored_ids_;
  std::vector<std::pair<std::uint64_t, std::string>> restored_id_rows_;
  std::uint64_t checkpointed_templates_ = 0;  // TemplateKeys::version() in the newest checkpoint begun
  std::optional<StatePart> ids_;              // admitted since the newest checkpoint was begun
  std::vector<std::string> restore_notes_;
  std::uint64_t checkpointed_sequence_ = 0;  // of the newest checkpoint begun
  bool warmed_up_ = false;
  std::map<std::int32_t, CheckpointRecord::Place> places_;  // by partition: what comes next
  bool torn_ = false;  // more has been admitted than processed: no checkpoint can be made
  std::int64_t paced_from_ms_ = INT64_MIN;
  std::int64_t paced_from_ns_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<bool> drained_{false};
  ingest::Source* source_ = nullptr;
  mutable std::mutex mutex_;
  RunnerStats stats_;
};

}  // namespace alcedo::pipeline
