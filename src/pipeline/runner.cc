// One loop a shape of source: a single partition is read ahead by a thread, several are merged by event time.
#include "pipeline/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/time.h"
#include "pipeline/runner_threads.h"

namespace alcedo::pipeline {
namespace {

// The warm-up's partitions are told from the main source's in the journal.
constexpr std::int32_t kWarmUpPartitions = 1 << 16;
constexpr std::size_t kMergeRecords = 512;
constexpr std::size_t kPrefetchAhead = 8;
// A paced batch lasts as long as its events' time: small ones leave room for checkpoints between them.
constexpr std::size_t kPacedRecords = 256;
constexpr std::size_t kPacedRows = 256;

LabelIndex::Options index_options(const Pipeline& pipeline) {
  LabelIndex::Options options;
  options.keep_ms = pipeline.labels.keep_ms;
  options.keys = pipeline.features.layout.keys;
  for (const auto& feature : pipeline.features.features) {
    const auto slot = static_cast<std::uint32_t>(feature.key);
    const bool known = std::ranges::find(options.slots, slot) != options.slots.end();
    if (feature.kind == features::FeatureKind::kConfirmed && !known) options.slots.push_back(slot);
  }
  std::ranges::sort(options.slots);
  return options;
}

}  // namespace

Result<std::unique_ptr<Runner>> Runner::create(const Pipeline& pipeline, Options options) {
  auto decoder = contract::Decoder::create(pipeline.events, options.secret);
  if (!decoder) return std::unexpected(decoder.error());
  std::unique_ptr<Runner> runner(new Runner(pipeline, std::move(options), std::move(*decoder)));
  auto engine = Engine::create(pipeline, runner->pool_);
  if (!engine) return std::unexpected(engine.error());
  runner->engine_ = std::move(*engine);
  if (runner->options_.labels != nullptr) {
    auto* self = runner.get();
    auto reader = LabelReader::create(pipeline, self->options_.secret, *self->options_.labels,
                                      [self](const RawBatch& raw, std::size_t i, const contract::Decoded& why) {
                                        return self->set_aside(raw, i, to_string(why.reject), "label: " + why.message);
                                      });
    if (!reader) return std::unexpected(reader.error());
    self->label_reader_ = std::move(*reader);
    if (self->label_reader_->has_times()) {
      self->label_index_ = std::make_unique<LabelIndex>(index_options(pipeline));
    } else if (auto loaded = self->label_reader_->load(); !loaded) {
      return std::unexpected(loaded.error());
    }
  }
  if (runner->options_.served_entities_max > 0) {
    runner->engine_->keep_vectors({.entities_max = runner->options_.served_entities_max});
  }
  return runner;
}

Runner::Runner(const Pipeline& pipeline, Options options, contract::Decoder decoder)
    : pipeline_(pipeline),
      options_(std::move(options)),
      pool_(std::max<std::size_t>(1, options_.workers)),
      decoder_(std::move(decoder)),
      scratch_(pool_.workers()),
      sequencer_({pipeline.events.lateness_ms, pipeline.events.ahead_ms, pipeline.duplicates, kSecondMs}),
      templates_(pipeline.events),
      rejected_(pool_.workers()) {
  if (options_.ledger != nullptr) committer_ = std::make_unique<Committer>(options_, options_.on_problem);
}

Runner::~Runner() = default;

void Runner::stop() {
  stop_.store(true, std::memory_order_relaxed);
  const std::scoped_lock lock(mutex_);
  if (source_ != nullptr) source_->stop();
  if (committer_) committer_->give_up_waiting();
}

RunnerStats Runner::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

Result<> Runner::warm_up(ingest::Source& source) {
  engine_->set_alerting(false);
  auto done = drive(source, kWarmUpPartitions);
  warmed_up_ = !stopping();
  engine_->set_alerting(true);
  paced_from_ms_ = INT64_MIN;
  return done;
}

Result<> Runner::run(ingest::Source& source) { return drive(source, 0); }

Result<> Runner::drive(ingest::Source& source, std::int32_t partition_base) {
  for (std::size_t p = 0; p < source.num_partitions(); ++p) {
    const auto& info = source.partition(static_cast<std::int32_t>(p));
    auto opened =
        decoder_.open_partition(partition_base + static_cast<std::int32_t>(p), info, rows_of_file_[info.file]);
    if (!opened) return opened;
  }
  {
    const std::scoped_lock lock(mutex_);
    source_ = &source;
  }
  truths_.clear();
  fresh_offset_ = source.fresh_offset();
  for (std::int32_t p = 0; p < static_cast<std::int32_t>(source.num_partitions()); ++p) {
    const auto place = places_.find(partition_base + p);
    if (place == places_.end()) continue;
    if (auto r = source.skip_to(p, place->second.offset, place->second.fingerprint, stop_); !r) return r;
    rows_of_partition_[partition_base + p] = place->second.offset;
  }
  auto done = source.merge_by_time() && source.num_partitions() > 1 ? drive_merged(source, partition_base)
                                                                    : drive_one(source, partition_base);
  Result<> drained = committer_ ? committer_->drain() : Result<>{};
  const bool warming = partition_base == kWarmUpPartitions;
  if (!warming) drained_.store(true, std::memory_order_release);
  if (checkpointer_ && done && drained && !(warming && !stopping())) last_checkpoint();
  {
    const std::scoped_lock lock(mutex_);
    source_ = nullptr;
  }
  for (const auto& [partition, rows] : rows_of_partition_) {
    rows_of_file_[source.partition(partition - partition_base).file] += rows;
  }
  rows_of_partition_.clear();
  places_.clear();
  if (!drained) return drained;
  return done;
}

void Runner::decode(const RawBatch& raw, EventBatch& batch, std::vector<std::uint32_t>& counts) {
  const std::size_t fanout = decoder_.events_per_record_max();
  const std::size_t n = raw.size();
  batch.reset(n * fanout, pool_.workers());
  counts.resize(n);
  const std::size_t workers = n < 256 ? 1 : pool_.workers();
  for (auto& rejected : rejected_) rejected.clear();
  const auto part = [&](std::size_t w) {
    if (w >= workers) return;
    for (std::size_t i = n * w / workers; i < n * (w + 1) / workers; ++i) {
      auto decoded = decoder_.decode(raw, i, batch, i * fanout, w, scratch_[w]);
      counts[i] = decoded.events;
      if (decoded.reject != contract::Reject::kNone) {
        rejected_[w].emplace_back(static_cast<std::uint32_t>(i), std::move(decoded));
      }
    }
  };
  if (workers == 1) {
    part(0);
  } else {
    pool_.run(part);
  }
}

Result<> Runner::set_aside(const RawBatch& raw, std::size_t i, std::string_view reason, std::string_view message) {
  {
    const std::scoped_lock lock(mutex_);
    ++stats_.dead_letters;
    ++stats_.dead_by_reason[std::string(reason)];
  }
  if (options_.dead_letters == nullptr) return {};
  for (;;) {
    const RawRecord& record = raw[i];
    ingest::DeadLetter letter;
    letter.bytes = raw.bytes(i);
    letter.source = pipeline_.name;
    letter.partition = record.partition;
    letter.offset = record.offset;
    letter.reason = reason;
    letter.message = message;
    letter.arrival_ms = record.arrival_ms;
    auto done = options_.dead_letters->append(letter);
    if (done) return {};
    if (done.error().code != ErrorCode::kUnavailable) return std::unexpected(done.error());
    // Nothing accepted is lost: with no room to set an event aside, reading waits until a person makes some.
    {
      const std::scoped_lock lock(mutex_);
      stats_.paused = done.error().message;
    }
    if (options_.on_problem) options_.on_problem("paused: " + done.error().message);
    for (int k = 0; k < 10 && !stopping(); ++k) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (stopping()) return std::unexpected(done.error());
    const std::scoped_lock lock(mutex_);
    stats_.paused.clear();
  }
}

Result<> Runner::check_replay(std::uint64_t sequence, std::int32_t partition, std::int64_t offset) {
  if (options_.journal == nullptr || sequence > options_.journal->last_sequence()) return {};
  const auto& runs = options_.journal->runs();
  while (replay_run_ < runs.size() && runs[replay_run_].sequence + runs[replay_run_].count <= sequence) ++replay_run_;
  if (replay_run_ < runs.size()) {
    const auto& run = runs[replay_run_];
    if (run.sequence <= sequence && run.partition == partition && offset >= run.offset_first &&
        offset <= run.offset_last) {
      return {};
    }
  }
  return error(
      ErrorCode::kCorrupt,
      fmt::format("{} {} at partition {}, offset {} is not what the journal says was read there before: the source has "
                  "changed since. Give the changed source a --data directory of its own",
                  partition >= LabelReader::kPartitionBase ? "label" : "event", sequence, partition, offset));
}

std::int32_t Runner::replayed_partition() {
  const std::uint64_t sequence = sequencer_.next_sequence();
  const auto& runs = options_.journal->runs();
  while (replay_run_ < runs.size() && runs[replay_run_].sequence + runs[replay_run_].count <= sequence) ++replay_run_;
  const bool there = replay_run_ < runs.size() && runs[replay_run_].sequence <= sequence;
  return there ? runs[replay_run_].partition : -1;
}

// The journal may know of records that the source's log lost to a power cut, when it reached the disk first; new ones
// take their place.
Result<> Runner::forget_lost(std::uint64_t sequence) {
  if (options_.journal == nullptr || sequence > options_.journal->last_sequence()) return {};
  return options_.journal->forget_from(sequence, fresh_offset_);
}

void Runner::replay_time_inputs(std::size_t before) {
  if (options_.journal == nullptr) return;
  const auto& inputs = options_.journal->time_inputs();
  while (replay_time_ < inputs.size() && inputs[replay_time_].sequence == sequencer_.next_sequence()) {
    sequencer_.advance(inputs[replay_time_++].time_ms);
    take_tick(before);
  }
}

void Runner::take_tick(std::size_t before) {
  if (auto tick = sequencer_.take_tick()) {
    tick->before = before;
    ticks_.push_back(*tick);
  }
}

// The numbers of labels may differ from run to run, their names do not.
Truth Runner::truth_of_label(Label label) {
  if (label == kUnlabelled) return 0;
  if (label == kNormal) return kTruthTold;
  const auto type = static_cast<std::size_t>(label - kFirstLabelType);
  if (type >= truths_.size()) {
    const bool in_field = !pipeline_.events.label_field.empty();
    truths_.clear();
    for (const std::string& name : in_field ? decoder_.label_types() : source_->label_types()) {
      const auto& asked = pipeline_.events.label_types;
      const auto at = std::ranges::find(asked, name);
      Truth truth = kTruthTold | kTruthAnomalous;
      if (at != asked.end()) truth |= truth_of_type(static_cast<std::size_t>(at - asked.begin()));
      truths_.push_back(truth);
    }
    truths_.resize(std::max(truths_.size(), type + 1), kTruthTold | kTruthAnomalous);
  }
  return truths_[type];
}

// Without a label that is known already, an event of a file's is one that was fine.
Truth Runner::truth_of(const EventHeader& event) {
  if (!pipeline_.labels.delay_ms) return 0;
  if (!label_reader_) return truth_of_label(event.label);
  if (event.id_hash == 0) return 0;
  return label_index_ ? kTruthTold : static_cast<Truth>(kTruthTold | label_reader_->find(event.id_hash));
}

Result<> Runner::take_label(const LabelReader::Row& row, std::size_t before) {
  LabelInput label;
  label.sequence = sequencer_.admit_label();
  label.before = before;
  label.known_ms = row.known_ms;
  label.truth = row.truth;
  label.tick_ms = sequencer_.ticked_ms();
  if (auto r = check_replay(label.sequence, row.partition, row.offset); !r) return r;
  if (options_.journal != nullptr) {
    if (auto r = options_.journal->append_event(label.sequence, row.partition, row.offset); !r) return r;
  }
  auto answer = LabelIndex::Answer::kRepeated;
  const bool anomalous = (row.truth & kTruthAnomalous) != 0;
  if (anomalous) {
    label_index_->forget_before(sequencer_.watermark_ms());
    answer = label_index_->take(row.id_hash, label.sequence, label);
  }
  label_reader_->take();
  if (anomalous && answer == LabelIndex::Answer::kFirst) labels_.push_back(std::move(label));
  const std::scoped_lock lock(mutex_);
  stats_.labels += anomalous && answer == LabelIndex::Answer::kFirst ? 1 : 0;
  stats_.label_misses += anomalous && answer == LabelIndex::Answer::kUnknown ? 1 : 0;
  stats_.labels_repeated += anomalous && answer == LabelIndex::Answer::kRepeated ? 1 : 0;
  stats_.labels_normal += anomalous ? 0 : 1;
  return {};
}

// A replay takes labels where they came then: a file that is followed may have grown since.
Result<> Runner::take_labels(std::int64_t time_ms, std::size_t before) {
  while (label_index_) {
    replay_time_inputs(before);
    const bool replaying = is_replaying();
    if (replaying && replayed_partition() < LabelReader::kPartitionBase) break;
    auto row = label_reader_->peek();
    if (!row) return std::unexpected(row.error());
    if (replaying && *row == nullptr) {
      return error(
          ErrorCode::kCorrupt,
          fmt::format("label {} of the journal is not in {} any more. Restore the file, or give the changed one "
                      "a --data directory of its own",
                      sequencer_.next_sequence(), pipeline_.labels.from));
    }
    if (!replaying && (*row == nullptr || (*row)->known_ms >= time_ms)) break;
    if (auto r = take_label(**row, before); !r) return r;
  }
  return {};
}

Result<> Runner::admit(EventBatch& batch, std::uint32_t row, const RawBatch& raw, std::size_t record) {
  replay_time_inputs(batch.order.size());
  EventHeader& event = batch.header(row);
  // Not by one that claims to be of the future.
  if (label_index_ && !sequencer_.is_ahead(event)) {
    if (auto r = take_labels(event.time_ms, batch.order.size()); !r) return r;
  }
  event.truth = truth_of(event);
  switch (sequencer_.admit(event)) {
    case Admission::kAhead:
      return set_aside(raw, record, "ahead",
                       fmt::format("event time {} is more than {} after its arrival {} (events.ahead)",
                                   format_iso_time(event.time_ms), format_duration(*pipeline_.events.ahead_ms),
                                   format_iso_time(event.arrival_ms)));
    case Admission::kDuplicate: {
      const std::scoped_lock lock(mutex_);
      ++stats_.duplicates;
      return {};
    }
    case Admission::kAccepted:
      break;
  }
  if (event.offset >= fresh_offset_) {
    if (auto r = forget_lost(event.sequence); !r) return r;
  }
  if (auto r = check_replay(event.sequence, event.partition, event.offset); !r) return r;
  if (options_.journal != nullptr) {
    if (auto r = options_.journal->append_event(event.sequence, event.partition, event.offset); !r) return r;
  }
  if (label_index_) {
    label_index_->add(event, batch.keys(row));
    label_index_->forget_before(sequencer_.watermark_ms());
  }
  batch.order.push_back(row);
  take_tick(batch.order.size());
  return {};
}

std::size_t Runner::resume_after_retention(const RawBatch& raw) {
  if (resumed_ || options_.journal == nullptr || options_.journal->runs().empty()) return 0;
  std::vector<Journal::Run> runs = options_.journal->runs();
  std::erase_if(runs, [](const Journal::Run& one) { return one.partition >= LabelReader::kPartitionBase; });
  if (runs.empty()) return 0;
  const std::int32_t partition = raw[0].partition;
  // A gap at the very start may also be records that were never accepted; then the first run begins at or after it.
  if (sequencer_.next_sequence() > runs.front().sequence || partition != runs.front().partition ||
      raw[0].offset <= runs.front().offset_first) {
    resumed_ = true;
    return 0;
  }
  std::size_t i = 0;
  auto run = runs.begin();
  for (; i < raw.size(); ++i) {
    while (run != runs.end() && run->offset_first < raw[i].offset) ++run;
    if (run == runs.end() || run->offset_first == raw[i].offset) break;
  }
  if (i == raw.size()) return i;
  resumed_ = true;
  sequencer_.set_next_sequence(run == runs.end() ? options_.journal->last_sequence() + 1 : run->sequence);
  const auto& inputs = options_.journal->time_inputs();
  while (replay_time_ < inputs.size() && inputs[replay_time_].sequence < sequencer_.next_sequence()) ++replay_time_;
  return i;
}

Result<> Runner::drive_one(ingest::Source& source, std::int32_t partition_base) {
  EventBatch batch(decoder_.layout());
  std::vector<std::uint32_t> counts;
  const std::size_t fanout = decoder_.events_per_record_max();
  for (std::int32_t p = 0; p < static_cast<std::int32_t>(source.num_partitions()); ++p) {
    const std::size_t events_max = options_.speed > 0 ? kPacedRecords : options_.batch_events_max;
    Reader reader(source, p, std::max<std::size_t>(1, events_max / fanout), options_.on_problem);
    for (bool more = true; more;) {
      auto item = reader.take();
      more = item.state != ingest::ReadState::kEnd && !stopping();
      if (item.raw.empty() && item.fault) {
        if (item.state == ingest::ReadState::kIdle && options_.live) {
          if (auto r = time_passes(); !r) return r;
        }
        // Nobody waits: a checkpoint may take its time until something comes.
        do {
          if (auto r = keep_state(0); !r) return r;
        } while (checkpointer_ && checkpointer_->reading() && more && !reader.has_item());
        reader.give_back(std::move(item.raw));
        continue;
      }
      for (std::size_t i = 0; i < item.raw.size(); ++i) item.raw[i].partition = partition_base + p;
      if (auto r = process_raw(item.raw, batch, counts); !r) return r;
      if (!item.fault) return item.fault;
      reader.give_back(std::move(item.raw));
    }
    if (stopping()) break;
  }
  return {};
}

Result<> Runner::process_raw(const RawBatch& raw, EventBatch& batch, std::vector<std::uint32_t>& counts) {
  const std::int64_t began_ns = options_.on_batch_time ? steady_ns() : 0;
  const bool checkpoint = checkpointer_ && checkpointer_->under_way();
  const std::size_t fanout = decoder_.events_per_record_max();
  decode(raw, batch, counts);
  ticks_.clear();
  labels_.clear();
  if (label_reader_) label_reader_->look_again();
  for (const auto& rejected : rejected_) {
    for (const auto& [i, decoded] : rejected) {
      if (auto r = set_aside(raw, i, to_string(decoded.reject), decoded.message); !r) return r;
    }
  }
  std::size_t empty = 0;
  for (std::size_t i = raw.empty() ? 0 : resume_after_retention(raw); i < raw.size(); ++i) {
    const std::size_t soon = i + kPrefetchAhead;
    if (soon < raw.size() && counts[soon] > 0) sequencer_.prefetch(batch.header(soon * fanout).id_hash);
    empty += counts[i] == 0 ? 1 : 0;
    for (std::uint32_t k = 0; k < counts[i]; ++k) {
      if (auto r = admit(batch, static_cast<std::uint32_t>(i * fanout + k), raw, i); !r) return r;
    }
  }
  {
    const std::scoped_lock lock(mutex_);
    stats_.records += raw.size();
    stats_.empty += empty;
    for (const auto& rejected : rejected_) stats_.empty -= rejected.size();
  }
  if (!raw.empty()) {
    rows_of_partition_[raw[0].partition] += static_cast<std::int64_t>(raw.size());
    CheckpointRecord::Place& place = places_[raw[0].partition];
    place.offset = raw[raw.size() - 1].offset + 1;
    for (std::size_t i = 0; i < raw.size(); ++i)
      place.fingerprint = ingest::fingerprint(place.fingerprint, raw.bytes(i));
  }
  if (auto r = process(batch); !r) return r;
  auto kept = keep_state(batch.order.size());
  if (options_.on_batch_time)
    options_.on_batch_time(steady_ns() - began_ns, checkpoint || (checkpointer_ && checkpointer_->under_way()));
  return kept;
}

/// Decoded records of one partition and how far they have been taken.
struct Runner::Chunk {
  explicit Chunk(const EventLayout& layout) : batch(layout) {}
  RawBatch raw;
  EventBatch batch;
  std::vector<std::uint32_t> counts;
  std::vector<std::pair<std::uint32_t, contract::Decoded>> rejected;  // in order
  std::size_t next_rejected = 0;
  std::size_t record = 0;
  std::uint32_t part = 0;
  bool ended = false;

  bool has_event() const { return record < raw.size(); }
};

Result<> Runner::settle(Chunk& chunk) {
  while (chunk.record < chunk.raw.size() && chunk.part >= chunk.counts[chunk.record]) {
    const bool is_rejected =
        chunk.next_rejected < chunk.rejected.size() && chunk.rejected[chunk.next_rejected].first == chunk.record;
    if (is_rejected) {
      const auto& decoded = chunk.rejected[chunk.next_rejected++].second;
      if (auto r = set_aside(chunk.raw, chunk.record, to_string(decoded.reject), decoded.message); !r) return r;
    }
    const std::int32_t partition = chunk.raw[chunk.record].partition;
    CheckpointRecord::Place& place = places_[partition];
    place.offset = chunk.raw[chunk.record].offset + 1;
    place.part = 0;
    place.fingerprint = ingest::fingerprint(place.fingerprint, chunk.raw.bytes(chunk.record));
    ++rows_of_partition_[partition];
    const std::scoped_lock lock(mutex_);
    ++stats_.records;
    stats_.empty += chunk.counts[chunk.record] == 0 && !is_rejected ? 1 : 0;
    ++chunk.record;
    chunk.part = 0;
  }
  return {};
}

Result<> Runner::drive_merged(ingest::Source& source, std::int32_t partition_base) {
  const std::size_t fanout = decoder_.events_per_record_max();
  const auto partitions = static_cast<std::int32_t>(source.num_partitions());
  std::vector<Chunk> chunks;
  for (std::int32_t p = 0; p < partitions; ++p) chunks.emplace_back(decoder_.layout());
  EventBatch merged(decoder_.layout());
  // Views into chunks stay valid only until a chunk is refilled, so what was merged is processed before that.
  std::size_t rows = 0;
  Result<> fault;
  const auto restart = [&] {
    merged.reset(options_.batch_events_max, 1);
    ticks_.clear();
    labels_.clear();
    if (label_reader_) label_reader_->look_again();
    rows = 0;
  };
  const auto flush = [&]() -> Result<> {
    const std::size_t taken = merged.order.size();
    auto done = taken == 0 && ticks_.empty() && labels_.empty() ? Result<>{} : process(merged);
    restart();
    return done ? keep_state(taken) : done;
  };
  const auto refill = [&](std::int32_t p) -> Result<> {
    Chunk& chunk = chunks[static_cast<std::size_t>(p)];
    for (;;) {
      if (auto r = settle(chunk); !r) return r;
      if (chunk.has_event() || chunk.ended || stopping()) return {};
      if (auto r = flush(); !r) return r;
      chunk.raw.clear();
      auto state =
          source.read(p, chunk.raw, std::max<std::size_t>(1, kMergeRecords / fanout), std::chrono::milliseconds(100));
      chunk.raw.pad();
      if (!state) fault = std::unexpected(state.error());
      chunk.ended = !state || *state == ingest::ReadState::kEnd;
      for (std::size_t i = 0; i < chunk.raw.size(); ++i) chunk.raw[i].partition = partition_base + p;
      decode(chunk.raw, chunk.batch, chunk.counts);
      chunk.record = 0;
      chunk.part = 0;
      chunk.rejected.clear();
      chunk.next_rejected = 0;
      for (auto& rejected : rejected_) std::move(rejected.begin(), rejected.end(), std::back_inserter(chunk.rejected));
      if (chunk.raw.empty()) continue;
      // Of the record that a checkpoint stands in, some events were taken before.
      const auto place = places_.find(partition_base + p);
      if (place != places_.end() && place->second.offset == chunk.raw[0].offset) chunk.part = place->second.part;
    }
  };
  restart();
  for (std::int32_t p = 0; p < partitions; ++p) {
    if (auto r = refill(p); !r) return r;
  }
  while (!stopping()) {
    // Few partitions: a scan is as fast as a heap and keeps ties in partition order.
    Chunk* first = nullptr;
    std::int32_t at = 0;
    for (std::int32_t p = 0; p < partitions; ++p) {
      Chunk& chunk = chunks[static_cast<std::size_t>(p)];
      if (!chunk.has_event()) continue;
      if (first == nullptr || chunk.batch.header(chunk.record * fanout + chunk.part).time_ms <
                                  first->batch.header(first->record * fanout + first->part).time_ms) {
        first = &chunk;
        at = p;
      }
    }
    if (first == nullptr) break;
    const std::size_t from = first->record * fanout + first->part;
    merged.header(rows) = first->batch.header(from);
    std::copy_n(first->batch.numbers(from).begin(), merged.num_numbers(), merged.numbers(rows).begin());
    std::copy_n(first->batch.keys(from).begin(), merged.num_keys(), merged.keys(rows).begin());
    if (auto r = admit(merged, static_cast<std::uint32_t>(rows), first->raw, first->record); !r) return r;
    ++rows;
    ++first->part;
    places_[partition_base + at].part = first->part;
    if (auto r = settle(*first); !r) return r;
    if (rows == options_.batch_events_max) {
      if (auto r = flush(); !r) return r;
    }
    if (!first->has_event()) {
      if (auto r = refill(at); !r) return r;
    }
  }
  if (auto r = flush(); !r) return r;
  return fault;
}

Result<> Runner::time_passes() {
  EventBatch none(decoder_.layout());
  none.reset(0, 1);
  ticks_.clear();
  labels_.clear();
  if (label_reader_) label_reader_->look_again();
  replay_time_inputs(0);
  // None by itself: labels come with the events after them.
  if (auto r = take_labels(INT64_MIN, 0); !r) return r;
  // Nothing arrives, so all that the source's log holds has been here: time goes on even if the journal knows more.
  if (fresh_offset_ != INT64_MAX) {
    if (auto r = forget_lost(sequencer_.next_sequence()); !r) return r;
  }
  const bool replaying = is_replaying();
  // Before the first event nothing is expected, so time has nothing to say.
  const std::int64_t time_ms = wall_clock_ms() - pipeline_.events.lateness_ms;
  if (!replaying && sequencer_.watermark_ms() != INT64_MIN && time_ms >= sequencer_.watermark_ms() + kSecondMs) {
    const std::uint64_t sequence = sequencer_.advance(time_ms);
    if (options_.journal != nullptr) {
      if (auto r = options_.journal->append_time(sequence, time_ms); !r) return r;
    }
    take_tick(0);
  }
  return ticks_.empty() && labels_.empty() ? Result<>{} : process(none);
}

Result<> Runner::process(EventBatch& batch) {
  if (options_.speed > 0 && !batch.order.empty()) return process_paced(batch);
  return process_now(batch, 0, batch.order.size());
}

Result<> Runner::process_paced(EventBatch& batch) {
  const std::vector<std::uint32_t> order = batch.order;
  std::size_t done = 0;
  while (done < order.size() && !stopping()) {
    if (paced_from_ms_ == INT64_MIN) {
      paced_from_ms_ = batch.header(order[done]).time_ms;
      paced_from_ns_ = steady_ns();
    }
    const auto due_ns = [&](std::size_t i) {
      return paced_from_ns_ +
             static_cast<std::int64_t>(static_cast<double>(batch.header(order[i]).time_ms - paced_from_ms_) * 1e6 /
                                       options_.speed);
    };
    const std::int64_t now_ns = steady_ns();
    std::size_t last = done;
    while (last < order.size() && due_ns(last) <= now_ns) ++last;
    if (last == done) {
      const std::int64_t wait_ns = std::min<std::int64_t>(due_ns(done) - now_ns, 50'000'000);
      // A checkpoint that was begun between two batches is read on, within the wait.
      if (checkpointer_ && checkpointer_->under_way()) checkpointer_->step(*engine_, kPacedRows);
      const std::int64_t left_ns = now_ns + wait_ns - steady_ns();
      if (left_ns > 0) std::this_thread::sleep_for(std::chrono::nanoseconds(left_ns));
      continue;
    }
    batch.order.assign(order.begin() + static_cast<std::ptrdiff_t>(done),
                       order.begin() + static_cast<std::ptrdiff_t>(last));
    if (auto r = process_now(batch, done, last); !r) return r;
    done = last;
  }
  torn_ = done < order.size();
  return {};
}

Result<> Runner::process_now(EventBatch& batch, std::size_t first, std::size_t last) {
  // Ticks and labels of this stretch; one after its last event belongs to it.
  const auto is_here = [&](std::size_t before) {
    return (before > first || (before == first && first == 0)) && before <= last;
  };
  std::vector<Tick> ticks;
  for (const Tick& tick : ticks_) {
    if (is_here(tick.before)) ticks.push_back({tick.before - first, tick.sequence, tick.time_ms});
  }
  std::vector<LabelInput> labels;
  for (const LabelInput& label : labels_) {
    if (!is_here(label.before)) continue;
    labels.push_back(label);
    labels.back().before -= first;
  }
  templates_.name_keys(batch);
  engine_->process(batch, ticks, output_, labels);
  std::uint64_t opened = 0;
  for (const auto& change : output_.changes) opened += change.kind == IncidentChange::Kind::kOpen ? 1 : 0;
  count_truth(batch);
  {
    const std::scoped_lock lock(mutex_);
    stats_.events += batch.order.size();
    stats_.incidents_opened += opened;
    stats_.open_incidents = engine_->open_incidents();
    stats_.entities = engine_->entities();
    stats_.state_bytes =
        engine_->state_bytes() + templates_.state_bytes() + (label_index_ ? label_index_->state_bytes() : 0);
    stats_.watermark_ms = sequencer_.watermark_ms();
    stats_.calibrated = engine_->decider().frozen();
  }
  if (options_.on_batch) options_.on_batch({batch, output_});
  if (committer_ && !output_.changes.empty()) {
    // Not what has been admitted: a paced replay admits more than it has processed, and what follows has not been
    // decided yet.
    std::uint64_t processed = ticks.empty() ? 0 : ticks.back().sequence;
    if (!labels.empty()) processed = std::max(processed, labels.back().sequence);
    if (!batch.order.empty()) processed = std::max(processed, batch.header(batch.order.back()).sequence);
    return committer_->add(std::move(output_.changes), processed, source_);
  }
  return {};
}

void Runner::count_truth(const EventBatch& batch) {
  const std::size_t types = engine_->num_types();
  std::uint64_t counts[2][2] = {};
  std::uint64_t fired = 0;
  std::uint64_t late = 0;
  for (const std::uint32_t row : batch.order) {
    bool any = false;
    for (std::size_t t = 0; t < types; ++t) {
      const bool f = output_.verdicts[row * types + t].fired;
      fired += f ? 1 : 0;
      any = any || f;
    }
    const EventHeader& event = batch.header(row);
    late += (event.flags & kEventLate) != 0 ? 1 : 0;
    if (event.label != kUnlabelled) ++counts[event.label >= kFirstLabelType ? 1 : 0][any ? 1 : 0];
  }
  const std::scoped_lock lock(mutex_);
  stats_.fired += fired;
  stats_.late += late;
  stats_.true_negatives += counts[0][0];
  stats_.false_positives += counts[0][1];
  stats_.false_negatives += counts[1][0];
  stats_.true_positives += counts[1][1];
}

}  // namespace alcedo::pipeline
