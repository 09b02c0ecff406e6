// What a runner keeps on disk of itself, and how it goes on from there: everything that later verdicts depend on.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/time.h"
#include "pipeline/runner.h"
#include "pipeline/runner_threads.h"

namespace alcedo::pipeline {
namespace {

// Rows that a batch may take with it: some tenths of a millisecond of small batches, a tenth of large ones.
constexpr std::size_t kRowsPerBatch = 96;
constexpr std::size_t kEventsPerRow = 8;
constexpr std::size_t kIdBytesReserved = std::size_t{16} << 20;  // touched as they come; growing would copy
// Part ids; the engine's are below 1000 (Engine::save_parts()).
constexpr std::uint64_t kSequencerPart = 1000;
constexpr std::uint64_t kTemplatesPart = 1001;

constexpr std::string_view kDeadPrefix = "dead_letters:";

std::string move_away(const std::string& directory) {
  return fmt::format("move {} away to begin anew from the journal and the source", directory);
}

}  // namespace

CheckpointRecord Runner::make_record() const {
  CheckpointRecord record;
  record.pipeline = pipeline_.name;
  record.sequence = processed_sequence();
  record.warmed_up = warmed_up_;
  record.places = places_;
  if (label_index_) record.places.insert(label_reader_->places().begin(), label_reader_->places().end());
  record.file_rows = rows_of_file_;
  const RunnerStats counts = stats();
  record.counts = {{"records", counts.records},
                   {"events", counts.events},
                   {"empty", counts.empty},
                   {"duplicates", counts.duplicates},
                   {"late", counts.late},
                   {"labels", counts.labels},
                   {"label_misses", counts.label_misses},
                   {"labels_repeated", counts.labels_repeated},
                   {"labels_normal", counts.labels_normal},
                   {"dead_letters", counts.dead_letters},
                   {"fired", counts.fired},
                   {"incidents_opened", counts.incidents_opened},
                   {"true_positives", counts.true_positives},
                   {"false_positives", counts.false_positives},
                   {"false_negatives", counts.false_negatives},
                   {"true_negatives", counts.true_negatives}};
  for (const auto& [reason, count] : counts.dead_by_reason) record.counts[std::string(kDeadPrefix) + reason] = count;
  for (std::size_t s = 0; s < engine_->plan().stages().size(); ++s) record.schemas.push_back(engine_->schema(s));
  return record;
}

void Runner::begin_checkpoint() {
  std::vector<StatePart> parts;
  engine_->save_parts(parts);
  StatePart sequencer{kSequencerPart, {}};
  StateWriter sequencer_writer(sequencer.bytes);
  sequencer_.save(sequencer_writer);
  parts.push_back(std::move(sequencer));
  // Templates may be megabytes, and change rarely once the statements of a program are known.
  if (checkpointer_->needs_all_parts() || templates_.version() != checkpointed_templates_) {
    StatePart templates{kTemplatesPart, {}};
    StateWriter template_writer(templates.bytes);
    templates_.save(template_writer);
    parts.push_back(std::move(templates));
    checkpointed_templates_ = templates_.version();
  }
  gather_ids();
  const std::uint64_t now = processed_sequence();
  std::vector<LogRow> logs(2);
  logs[0] = {kIdStage, std::exchange(ids_, std::nullopt), now > pipeline_.duplicates ? now - pipeline_.duplicates : 0};
  logs[1] = {kLabelStage, std::exchange(label_log_, std::nullopt),
             label_index_ ? label_index_->oldest(now + 1) : UINT64_MAX};
  checkpointer_->begin(*engine_, make_record(), std::move(parts), std::move(logs),
                       committer_ ? committer_->added() : 0);
  checkpointed_sequence_ = now;
}

// Batch by batch, so that a checkpoint does not begin with a copy of all ids since the last one.
void Runner::gather_ids() {
  if (label_index_) {
    if (std::string log = label_index_->take_log(); !log.empty()) {
      if (!label_log_) label_log_ = StatePart{label_index_->log_begins(), {}};
      StateWriter(label_log_->bytes).text(log);
    }
  }
  const auto recent = sequencer_.take_recent_ids();
  if (recent.empty()) return;
  static_assert(sizeof(Sequencer::Seen) == 16);
  if (!ids_) {
    ids_ = StatePart{recent.front().sequence, {}};
    ids_->bytes.reserve(kIdBytesReserved);
  }
  ids_->bytes.append(reinterpret_cast<const char*>(recent.data()), recent.size() * sizeof(Sequencer::Seen));
}

Result<> Runner::keep_state(std::size_t rows) {
  if (!checkpointer_) return {};
  gather_ids();
  if (const Error* fault = engine_->fault()) return std::unexpected(*fault);
  const std::size_t step_rows = std::max(kRowsPerBatch, rows / kEventsPerRow);
  if (checkpointer_->due() && !torn_ && processed_sequence() != checkpointed_sequence_) begin_checkpoint();
  checkpointer_->step(*engine_, step_rows);
  if (options_.state_bytes_max == 0) return {};
  // What has changed since the newest checkpoint cannot leave: if that is too much, the source waits for the next one.
  while (!engine_->evict(options_.state_bytes_max, std::max<std::size_t>(rows, 1), checkpointer_->published()) &&
         !stopping() && !torn_) {
    if (!checkpointer_->under_way() && processed_sequence() == checkpointed_sequence_) break;
    checkpointer_->hurry();
    if (checkpointer_->due()) begin_checkpoint();
    checkpointer_->step(*engine_, 16 * kRowsPerBatch);
    if (!checkpointer_->reading()) checkpointer_->wait(5);
  }
  return {};
}

void Runner::last_checkpoint() {
  // One that is under way is of an older state.
  static_cast<void>(checkpointer_->finish(*engine_));
  if (torn_ || processed_sequence() == checkpointed_sequence_) return;
  begin_checkpoint();
  static_cast<void>(checkpointer_->finish(*engine_));  // what went wrong has been told by on_problem
}

Result<> Runner::make_durable(std::uint64_t ticket) {
  if (committer_) {
    if (auto r = committer_->wait(ticket); !r) return r;
  }
  ingest::Source* source = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    source = source_;
  }
  if (source != nullptr) {
    if (auto r = source->sync(); !r) return r;
  }
  // A restart from here does not come past the records that were set aside before.
  if (options_.dead_letters != nullptr) {
    if (auto r = options_.dead_letters->sync(); !r) return r;
  }
  return options_.journal != nullptr ? options_.journal->sync() : Result<>{};
}

Result<> Runner::restore() {
  if (options_.checkpoints.empty()) return {};
  const std::string& directory = options_.checkpoints;
  auto store = CheckpointStore::open(directory);
  if (!store) return std::unexpected(store.error());
  engine_->track_changes();
  engine_->keep_cold([this](std::uint32_t stage, std::uint8_t group, std::uint64_t entity,
                            std::uint32_t epoch) -> Result<std::string> {
    auto row = checkpointer_->store().get({stage, group, entity}, epoch);
    if (!row) return std::unexpected(row.error());
    if (*row) return *std::move(*row);
    return error(ErrorCode::kCorrupt, fmt::format("checkpoints in {}: epoch {} has no row of entity {:016x} any more",
                                                  options_.checkpoints, epoch, entity));
  });
  sequencer_.keep_recent_ids(true);
  if (label_index_) label_index_->keep_log(true);
  const auto restored = store->restore(
      [this](const RowKey& key, std::string_view row, std::uint64_t epoch) { return take_row(key, row, epoch); },
      [this](std::uint64_t epoch, std::string_view bytes) { return take_record(epoch, bytes); });
  if (!restored) return std::unexpected(restored.error());
  if (*restored) {
    std::ranges::sort(restored_ids_, {}, [](const auto& seen) { return seen.second; });
    std::vector<Sequencer::Seen> ids;
    for (const auto& [id, sequence] : restored_ids_) ids.push_back({id, sequence});
    restored_ids_.clear();
    if (auto r = sequencer_.load_ids(ids); !r)
      return error(r.error().code,
                   fmt::format("checkpoints in {}: {}; {}", directory, r.error().message, move_away(directory)));
    if (auto r = restore_labels(); !r) return r;
    engine_->finish_load();
    for (const std::string& refused : (*restored)->refused) restore_notes_.push_back(refused);
    if (!(*restored)->refused.empty())
      restore_notes_.push_back(fmt::format("going on from checkpoint {} instead", (*restored)->epoch));
    const std::uint64_t journaled =
        options_.journal == nullptr ? restored_->sequence : options_.journal->last_sequence();
    if (restored_->sequence > journaled) {
      return error(ErrorCode::kCorrupt,
                   fmt::format("checkpoints in {} include input {}, but the journal ends at {}: they do not belong "
                               "together. Restore the journal, or {}",
                               directory, restored_->sequence, journaled, move_away(directory)));
    }
    checkpointed_sequence_ = restored_->sequence;
    const std::scoped_lock lock(mutex_);
    stats_.entities = engine_->entities();
    stats_.open_incidents = engine_->open_incidents();
    stats_.watermark_ms = sequencer_.watermark_ms();
    stats_.calibrated = engine_->decider().frozen();
  }
  restored_.reset();
  Checkpointer::Options how;
  how.interval_ms = options_.checkpoint_every_ms;
  how.full_first = !same_plan_;
  how.make_durable = [this](std::uint64_t ticket) { return make_durable(ticket); };
  how.on_problem = options_.on_problem;
  checkpointer_ = std::make_unique<Checkpointer>(*std::move(store), std::move(how));
  for (auto& [first, bytes] : restored_id_rows_) checkpointer_->add_restored_log(kIdStage, first, std::move(bytes));
  restored_id_rows_.clear();
  for (auto& [first, bytes] : restored_label_logs_)
    checkpointer_->add_restored_log(kLabelStage, first, std::move(bytes));
  restored_label_logs_.clear();
  if (options_.journal != nullptr) {
    const auto& inputs = options_.journal->time_inputs();
    while (replay_time_ < inputs.size() && inputs[replay_time_].sequence < sequencer_.next_sequence()) ++replay_time_;
  }
  return {};
}

Result<> Runner::restore_labels() {
  if (!label_index_) return {};
  const std::string& directory = options_.checkpoints;
  std::ranges::sort(restored_label_logs_);
  // A row holds the logs of its batches.
  std::vector<std::pair<std::uint64_t, std::string>> logs;
  for (const auto& [first, bytes] : restored_label_logs_) {
    StateReader reader(bytes);
    while (reader.ok() && reader.left() > 0) logs.emplace_back(first, reader.text());
    if (!reader.ok())
      return error(ErrorCode::kCorrupt,
                   fmt::format("checkpoints in {}: events kept for labels, from {}: the row {}; {}", directory, first,
                               reader.mistake(), move_away(directory)));
  }
  const auto loaded = label_index_->load_logs(logs);
  if (!loaded)
    return error(loaded.error().code,
                 fmt::format("checkpoints in {}: {}; {}", directory, loaded.error().message, move_away(directory)));
  label_index_->forget_before(sequencer_.watermark_ms());
  if (!*loaded)
    restore_notes_.emplace_back(
        "labels of events that came before will be misses: the pipeline keeps their entities anew");
  auto skipped = label_reader_->skip_to(places_, stop_);
  std::erase_if(places_, [](const auto& place) { return place.first >= LabelReader::kPartitionBase; });
  return skipped;
}

Result<> Runner::take_record(std::uint64_t epoch, std::string_view bytes) {
  auto record = CheckpointRecord::load(bytes);
  if (!record) {
    return error(record.error().code, fmt::format("checkpoint {} in {}: {}; {}", epoch, options_.checkpoints,
                                                  record.error().message, move_away(options_.checkpoints)));
  }
  if (record->pipeline != pipeline_.name) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("checkpoint {} in {} is of pipeline '{}', not of '{}'; give this one a --data directory of "
                    "its own",
                    epoch, options_.checkpoints, record->pipeline, pipeline_.name));
  }
  warmed_up_ = record->warmed_up;
  places_ = record->places;
  rows_of_file_ = record->file_rows;
  const auto stages = engine_->plan().stages().size();
  same_plan_ = record->schemas.size() == stages;
  for (std::size_t of = 0; of < record->schemas.size(); ++of) {
    const auto& schema = record->schemas[of];
    int to = -1;
    for (std::size_t s = 0; s < stages; ++s) {
      if (engine_->schema(s).key == schema.key) to = static_cast<int>(s);
    }
    restored_stages_.push_back(to);
    same_plan_ = same_plan_ && to == static_cast<int>(of) && engine_->schema(of).plan_hash == schema.plan_hash;
    if (to < 0) {
      restore_notes_.push_back(fmt::format("state of '{}' is dropped: the pipeline has no feature of it", schema.key));
    } else if (engine_->schema(static_cast<std::size_t>(to)).plan_hash != schema.plan_hash) {
      restore_notes_.push_back(fmt::format("state of '{}': {}", schema.key,
                                           describe(engine_->compare(static_cast<std::size_t>(to), schema))));
    }
  }
  const std::scoped_lock lock(mutex_);
  const auto take = [&](const char* name, std::uint64_t& count) {
    if (const auto at = record->counts.find(name); at != record->counts.end()) count = at->second;
  };
  take("records", stats_.records);
  take("events", stats_.events);
  take("empty", stats_.empty);
  take("duplicates", stats_.duplicates);
  take("late", stats_.late);
  take("labels", stats_.labels);
  take("label_misses", stats_.label_misses);
  take("labels_repeated", stats_.labels_repeated);
  take("labels_normal", stats_.labels_normal);
  take("dead_letters", stats_.dead_letters);
  take("fired", stats_.fired);
  take("incidents_opened", stats_.incidents_opened);
  take("true_positives", stats_.true_positives);
  take("false_positives", stats_.false_positives);
  take("false_negatives", stats_.false_negatives);
  take("true_negatives", stats_.true_negatives);
  for (const auto& [name, count] : record->counts) {
    if (name.starts_with(kDeadPrefix)) stats_.dead_by_reason[name.substr(kDeadPrefix.size())] = count;
  }
  restored_ = *std::move(record);
  return {};
}

Result<> Runner::take_row(const RowKey& key, std::string_view row, std::uint64_t epoch) {
  if (key.stage == kPartStage) return take_part(key.entity, row);
  if (key.stage == kLabelStage) {
    restored_label_logs_.emplace_back(key.entity, row);
    return {};
  }
  if (key.stage == kIdStage) {
    StateReader reader(row);
    while (reader.ok() && reader.left() > 0) {
      const std::uint64_t id = reader.u64();
      restored_ids_.emplace_back(id, reader.u64());
    }
    if (reader.ok()) {
      restored_id_rows_.emplace_back(key.entity, row);
      return {};
    }
    return error(ErrorCode::kCorrupt, fmt::format("checkpoints in {}: ids from event {}: the row {}",
                                                  options_.checkpoints, key.entity, reader.mistake()));
  }
  if (key.stage >= restored_stages_.size()) {
    return error(ErrorCode::kCorrupt, fmt::format("checkpoints in {}: a row of stage {}; its record says there are {}",
                                                  options_.checkpoints, key.stage, restored_stages_.size()));
  }
  const int stage = restored_stages_[key.stage];
  if (stage < 0) return {};
  const bool cold = options_.state_bytes_max != 0 && same_plan_ && engine_->state_bytes() >= options_.state_bytes_max;
  auto loaded = engine_->load_row(static_cast<std::size_t>(stage), restored_->schemas[key.stage], key.group, key.entity,
                                  row, same_plan_ ? static_cast<std::uint32_t>(epoch) : 0, cold);
  if (loaded) return {};
  return error(loaded.error().code, fmt::format("checkpoints in {}: {}; {}", options_.checkpoints,
                                                loaded.error().message, move_away(options_.checkpoints)));
}

Result<> Runner::take_part(std::uint64_t id, std::string_view bytes) {
  StateReader reader(bytes);
  std::string note;
  if (id == kSequencerPart) {
    sequencer_.load(reader);
  } else if (id == kTemplatesPart) {
    const auto loaded = templates_.load(reader);
    if (!loaded.anew.empty()) note = fmt::format("templates begin anew: {}", fmt::join(loaded.anew, ", "));
  } else {
    auto loaded = engine_->load_part(id, reader);
    if (!loaded) {
      return error(loaded.error().code, fmt::format("checkpoints in {}: {}; {}", options_.checkpoints,
                                                    loaded.error().message, move_away(options_.checkpoints)));
    }
    note = *std::move(loaded);
  }
  if (!reader.complete()) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("checkpoints in {}: part {} of the state {}; {}", options_.checkpoints, id,
                             reader.mistake(), move_away(options_.checkpoints)));
  }
  if (!note.empty()) restore_notes_.push_back(std::move(note));
  return {};
}

}  // namespace alcedo::pipeline
