// The engine's thread only copies rows into a bounded queue; whatever may wait for a disk is done by the writing
// thread.
#include "pipeline/checkpointer.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "core/check.h"
#include "core/hash.h"
#include "core/time.h"
#include "pipeline/engine.h"

namespace alcedo::pipeline {
namespace {

constexpr std::uint32_t kRecordVersion = 1;
constexpr std::size_t kQueuedBytesMax = std::size_t{32} << 20;
constexpr std::size_t kFinishRows = 4096;
constexpr std::int64_t kRetryMs = 5000;
constexpr int kNice = 15;
// Merging old checkpoints may take its time; events may not wait for the disk it shares.
constexpr std::uint64_t kCompactBytesPerSecond = std::uint64_t{64} << 20;

std::int64_t after_ms(std::int64_t milliseconds) { return steady_ns() + milliseconds * 1'000'000; }

}  // namespace

std::string CheckpointRecord::save() const {
  std::string bytes;
  StateWriter writer(bytes);
  writer.u32(kRecordVersion);
  writer.text(pipeline);
  writer.u64(sequence);
  writer.u8(warmed_up ? 1 : 0);
  writer.varint(places.size());
  for (const auto& [partition, place] : places) {
    writer.u32(static_cast<std::uint32_t>(partition));
    writer.i64(place.offset);
    writer.u32(place.part);
    writer.u64(place.fingerprint);
  }
  writer.varint(file_rows.size());
  for (const auto& [file, rows] : file_rows) {
    writer.text(file);
    writer.i64(rows);
  }
  writer.varint(counts.size());
  for (const auto& [name, count] : counts) {
    writer.text(name);
    writer.u64(count);
  }
  writer.varint(schemas.size());
  for (const auto& schema : schemas) schema.save(writer);
  return bytes;
}

Result<CheckpointRecord> CheckpointRecord::load(std::string_view bytes) {
  StateReader reader(bytes);
  CheckpointRecord record;
  if (const std::uint32_t version = reader.u32(); reader.ok() && version != kRecordVersion) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("written as version {}; this alcedo reads version {}", version, kRecordVersion));
  }
  record.pipeline = reader.text();
  record.sequence = reader.u64();
  record.warmed_up = reader.u8() != 0;
  for (std::uint64_t n = reader.varint(); n > 0 && reader.ok(); --n) {
    const auto partition = static_cast<std::int32_t>(reader.u32());
    CheckpointRecord::Place& place = record.places[partition];
    place.offset = reader.i64();
    place.part = reader.u32();
    place.fingerprint = reader.u64();
  }
  for (std::uint64_t n = reader.varint(); n > 0 && reader.ok(); --n) {
    const std::string file(reader.text());
    record.file_rows[file] = reader.i64();
  }
  for (std::uint64_t n = reader.varint(); n > 0 && reader.ok(); --n) {
    const std::string name(reader.text());
    record.counts[name] = reader.u64();
  }
  for (std::uint64_t n = reader.varint(); n > 0 && reader.ok(); --n)
    record.schemas.push_back(features::StateSchema::load(reader));
  if (!reader.complete()) return error(ErrorCode::kCorrupt, "its record " + reader.mistake());
  return record;
}

Checkpointer::Checkpointer(CheckpointStore store, Options options)
    : store_(std::move(store)),
      options_(std::move(options)),
      full_due_(options_.full_first),
      next_ns_(after_ms(options_.interval_ms)),
      published_(static_cast<std::uint32_t>(store_.newest())),
      thread_([this] { serve(); }) {}

Checkpointer::~Checkpointer() {
  compact_stop_.store(true);
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Checkpointer::add_restored_log(std::uint32_t stage, std::uint64_t first, std::string bytes) {
  Log& log = logs_[stage];
  if (full_due_) {
    log.rows[first] = std::make_shared<const std::string>(std::move(bytes));
  } else {
    log.firsts.push_back(first);
  }
}

bool Checkpointer::due() const {
  if (state_ != State::kIdle) return false;
  if (!hurried_ && steady_ns() < next_ns_) return false;
  const std::scoped_lock lock(mutex_);
  return !compacting_;
}

void Checkpointer::put(Job job) {
  {
    const std::scoped_lock lock(mutex_);
    queued_bytes_ += job.rows.bytes.size();
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

void Checkpointer::begin(Engine& engine, CheckpointRecord record, std::vector<StatePart> parts,
                         std::vector<LogRow> logs, std::uint64_t ticket) {
  CHECK(state_ == State::kIdle);
  state_ = State::kReading;
  hurried_ = false;
  began_ns_ = steady_ns();
  ticket_ = ticket;
  record_ = record.save();
  rows_written_ = 0;
  bytes_written_ = 0;
  engine.begin_capture(static_cast<std::uint32_t>(store_.newest() + 1), full_due_);
  Job job;
  job.begins = true;
  job.full = full_due_;
  next_part_hashes_ = part_hashes_;
  others_.clear();
  for (StatePart& part : parts) {
    const std::uint64_t hash = hash64(part.bytes);
    const auto known = part_hashes_.find(part.id);
    if (!full_due_ && known != part_hashes_.end() && known->second == hash) continue;
    next_part_hashes_[part.id] = hash;
    others_.emplace_back(RowKey{kPartStage, 0, part.id}, std::make_shared<const std::string>(std::move(part.bytes)));
  }
  for (LogRow& given : logs) {
    Log& log = logs_[given.stage];
    if (given.row) log.rows[given.row->id] = std::make_shared<const std::string>(std::move(given.row->bytes));
    for (const auto& [first, bytes] : log.rows) others_.emplace_back(RowKey{given.stage, 0, first}, bytes);
    log.gone_before = 0;
    for (std::size_t i = 0; i + 1 < log.firsts.size() && log.firsts[i + 1] <= given.from; ++i) {
      others_.emplace_back(RowKey{given.stage, 0, log.firsts[i]}, nullptr);
      log.gone_before = log.firsts[i + 1];
    }
  }
  put(std::move(job));
}

void Checkpointer::step(Engine& engine, std::size_t rows_max) {
  if (state_ == State::kReading) {
    {
      const std::scoped_lock lock(mutex_);
      if (queued_bytes_ > kQueuedBytesMax) return;
    }
    Job job;
    const bool done = engine.capture(rows_max, job.rows);
    rows_written_ += job.rows.rows.size();
    bytes_written_ += job.rows.bytes.size();
    if (done) {
      job.record = std::move(record_);
      job.others = std::exchange(others_, {});
      job.ticket = ticket_;
      state_ = State::kWriting;
    }
    if (done || !job.rows.empty()) put(std::move(job));
  }
  if (state_ == State::kWriting) settle(engine);
}

void Checkpointer::settle(Engine& engine) {
  std::optional<Result<>> outcome;
  {
    const std::scoped_lock lock(mutex_);
    outcome = std::exchange(outcome_, std::nullopt);
  }
  if (!outcome) return;
  state_ = State::kIdle;
  last_outcome_ = *outcome;
  if (!*outcome) {
    engine.capture_lost();
    next_ns_ = after_ms(std::min(kRetryMs, options_.interval_ms));
    return;
  }
  full_due_ = false;
  next_ns_ = after_ms(options_.interval_ms);
  published_ = static_cast<std::uint32_t>(store_.newest());
  part_hashes_ = std::move(next_part_hashes_);
  for (auto& [stage, log] : logs_) {
    std::erase_if(log.firsts, [&log](std::uint64_t first) { return first < log.gone_before; });
    for (const auto& [first, bytes] : log.rows) log.firsts.push_back(first);
    log.rows.clear();
  }
}

Result<> Checkpointer::finish(Engine& engine) {
  compact_stop_.store(true);
  for (step(engine, kFinishRows); state_ != State::kIdle; step(engine, kFinishRows)) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return outcome_.has_value() || (state_ == State::kReading && queued_bytes_ <= kQueuedBytesMax);
    });
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !compacting_ && !busy_ && jobs_.empty(); });
  compact_stop_.store(false);
  return last_outcome_;
}

void Checkpointer::wait(std::int64_t milliseconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(milliseconds));
}

Checkpointer::Stats Checkpointer::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

// A store writes rows in the order of their keys many times faster. They come by stage and key group.
Result<> Checkpointer::write_group() {
  std::ranges::sort(group_.rows, {}, &features::CapturedRows::Row::entity);
  for (const auto& row : group_.rows) {
    const RowKey key{row.stage, row.group, row.entity};
    if (auto r = row.live ? store_.put(key, group_.bytes_of(row)) : store_.forget(key); !r) return r;
  }
  group_.clear();
  return {};
}

Result<> Checkpointer::write(Job& job) {
  if (job.begins) {
    group_.clear();
    if (auto begun = store_.begin(job.full); !begun) return std::unexpected(begun.error());
  }
  for (auto row : job.rows.rows) {
    const bool same =
        !group_.empty() && group_.rows.front().stage == row.stage && group_.rows.front().group == row.group;
    if (!same) {
      if (auto r = write_group(); !r) return r;
    }
    const std::string_view bytes = job.rows.bytes_of(row);
    row.begin = group_.bytes.size();
    group_.bytes.append(bytes);
    group_.rows.push_back(row);
  }
  if (!job.record) return {};
  if (auto r = write_group(); !r) return r;
  std::ranges::sort(job.others, {}, [](const auto& other) { return std::pair(other.first.stage, other.first.entity); });
  for (const auto& [key, bytes] : job.others) {
    if (auto r = bytes ? store_.put(key, *bytes) : store_.forget(key); !r) return r;
  }
  if (options_.make_durable) {
    if (auto r = options_.make_durable(job.ticket); !r) return r;
  }
  return store_.publish(*job.record);
}

void Checkpointer::serve() {
  // Events do not wait for a checkpoint's turn on a processor. (Of a thread, on Linux.)
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  Result<> going;  // of the checkpoint under way: after a failure the rest of it is dropped
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      busy_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
      busy_ = true;
    }
    if (job.begins) going = {};
    if (going) {
      going = write(job);
      if (!going && options_.on_problem) {
        options_.on_problem("no checkpoint: " + going.error().message +
                            "; the one before stays, and another is tried soon");
      }
    }
    bool compact = false;
    {
      const std::scoped_lock lock(mutex_);
      queued_bytes_ -= job.rows.bytes.size();
      if (job.record) {
        outcome_ = going;
        compact = going.has_value() && !stop_;
        compacting_ = compact;
        if (going) {
          ++stats_.published;
          stats_.rows += rows_written_;
          stats_.bytes += bytes_written_;
          stats_.last_ms = (steady_ns() - began_ns_) / 1'000'000;
        } else {
          ++stats_.failed;
        }
      }
    }
    changed_.notify_all();
    if (!compact) continue;
    const auto stop = [this] { return compact_stop_.load(std::memory_order_relaxed); };
    if (auto done = store_.compact(stop, kCompactBytesPerSecond); !done && options_.on_problem)
      options_.on_problem("old checkpoints could not be merged: " + done.error().message);
    {
      const std::scoped_lock lock(mutex_);
      compacting_ = false;
    }
    changed_.notify_all();
  }
}

}  // namespace alcedo::pipeline
