// The two threads beside the engine's: one reads ahead, one makes changes durable. Both have bounded queues.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "pipeline/runner.h"

namespace alcedo::pipeline {

/// Reads one partition ahead of the engine.
class Runner::Reader {
 public:
  struct Item {
    RawBatch raw;
    ingest::ReadState state = ingest::ReadState::kMore;
    Result<> fault;
  };
  Reader(ingest::Source& source, std::int32_t partition, std::size_t records_max,
         std::function<void(const std::string&)> on_problem)
      : source_(source),
        partition_(partition),
        records_max_(records_max),
        on_problem_(std::move(on_problem)),
        thread_([this] { read(); }) {}
  ~Reader() {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    source_.stop();
    thread_.join();
  }

  Item take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty(); });
    Item item = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return item;
  }
  bool has_item() {
    const std::scoped_lock lock(mutex_);
    return !ready_.empty();
  }
  void give_back(RawBatch raw) {
    const std::scoped_lock lock(mutex_);
    free_.push_back(std::move(raw));
  }

 private:
  static constexpr std::size_t kAhead = 4;
  static constexpr std::chrono::milliseconds kWait{250};

  void read() {
    for (;;) {
      Item item;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stop_ || ready_.size() < kAhead; });
        if (stop_) return;
        if (!free_.empty()) {
          item.raw = std::move(free_.back());
          free_.pop_back();
        }
      }
      item.raw.clear();
      auto state = source_.read(partition_, item.raw, records_max_, kWait);
      // A full disk behind a source's own log: nothing was taken, so the same read may work later.
      if (!state && state.error().code == ErrorCode::kUnavailable) {
        if (on_problem_) on_problem_(state.error().message);
        state = ingest::ReadState::kIdle;
      }
      item.raw.pad();
      item.state = state ? *state : ingest::ReadState::kEnd;
      if (!state) item.fault = std::unexpected(state.error());
      const bool last = item.state == ingest::ReadState::kEnd;
      {
        const std::scoped_lock lock(mutex_);
        ready_.push_back(std::move(item));
      }
      changed_.notify_all();
      if (last) return;
    }
  }

  ingest::Source& source_;
  std::int32_t partition_;
  std::size_t records_max_;
  std::function<void(const std::string&)> on_problem_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> ready_;
  std::vector<RawBatch> free_;
  bool stop_ = false;
  std::thread thread_;
};

/// Makes the order of inputs durable, then commits changes to the ledger; what gathers meanwhile shares the next
/// commit.
class Runner::Committer {
 public:
  Committer(const Options& options, std::function<void(const std::string&)> on_problem)
      : options_(options), on_problem_(std::move(on_problem)), thread_([this] { serve(); }) {}
  ~Committer() {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  /// Waits while too much is uncommitted. Errors: those of an earlier commit.
  Result<> add(std::vector<IncidentChange> changes, std::uint64_t sequence, ingest::Source* source) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return pending_.size() < kPendingMax || fault_ || giving_up_; });
    if (fault_) return std::unexpected(*fault_);
    added_ += changes.size();
    std::move(changes.begin(), changes.end(), std::back_inserter(pending_));
    sequence_ = sequence;
    source_ = source;
    lock.unlock();
    changed_.notify_all();
    return {};
  }
  /// How much has been added, for wait().
  std::uint64_t added() {
    const std::scoped_lock lock(mutex_);
    return added_;
  }
  /// Returns when what had been added by then is committed.
  Result<> wait(std::uint64_t added) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return committed_ >= added || fault_ || giving_up_; });
    if (fault_) return std::unexpected(*fault_);
    if (committed_ < added) return error(ErrorCode::kUnavailable, "changes of incidents could not be committed");
    return {};
  }
  /// Returns when everything added is committed.
  Result<> drain() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return (pending_.empty() && !busy_) || fault_ || giving_up_; });
    if (fault_) return std::unexpected(*fault_);
    return {};
  }
  /// The process is ending: do not wait for a full disk any longer.
  void give_up_waiting() {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }

 private:
  static constexpr std::size_t kPendingMax = 100'000;

  Result<> commit(const std::vector<IncidentChange>& changes, std::uint64_t sequence, ingest::Source* source) {
    if (source != nullptr) {
      if (auto r = source->sync(); !r) return r;
    }
    if (options_.journal != nullptr) {
      if (auto r = options_.journal->sync(); !r) return r;
    }
    auto taken = options_.ledger->commit(changes, sequence);
    if (!taken) return std::unexpected(taken.error());
    return {};
  }

  void serve() {
    for (;;) {
      std::vector<IncidentChange> changes;
      std::uint64_t sequence = 0;
      ingest::Source* source = nullptr;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stop_ || !pending_.empty(); });
        if (pending_.empty()) return;
        changes = std::move(pending_);
        pending_.clear();
        sequence = sequence_;
        source = source_;
        busy_ = true;
      }
      Result<> done = commit(changes, sequence, source);
      // A full disk is waited for: nothing that was accepted may be lost, and reading pauses behind the bounded queue.
      while (!done && done.error().code == ErrorCode::kUnavailable) {
        if (on_problem_) on_problem_(done.error().message);
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::milliseconds(500), [this] { return stop_ || ending_; });
        if (stop_ || ending_) {
          giving_up_ = true;
          break;
        }
        lock.unlock();
        done = commit(changes, sequence, source);
      }
      if (done && options_.on_commit) options_.on_commit();
      {
        const std::scoped_lock lock(mutex_);
        if (done) committed_ += changes.size();
        if (!done) fault_ = done.error();
        busy_ = false;
        if (fault_) pending_.clear();
      }
      changed_.notify_all();
      if (!done) return;
    }
  }

  const Options& options_;
  std::function<void(const std::string&)> on_problem_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<IncidentChange> pending_;
  std::uint64_t sequence_ = 0;
  std::uint64_t added_ = 0;
  std::uint64_t committed_ = 0;
  ingest::Source* source_ = nullptr;
  std::optional<Error> fault_;
  bool busy_ = false;
  bool stop_ = false;
  bool ending_ = false;
  bool giving_up_ = false;
  std::thread thread_;
};

}  // namespace alcedo::pipeline
