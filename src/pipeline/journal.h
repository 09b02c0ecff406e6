// The order of inputs on disk: durable before any alert that follows from it leaves, so that a restart sees the same
// order.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/result.h"

namespace alcedo::pipeline {

/// Append-only file of checksummed records of 48 bytes: when the source was opened, which offsets of which partition
/// took which sequence numbers, and every input that is not an event (ticks of wall time). Space is zeroed ahead of the
/// records, so that making them durable is a plain write to blocks the file already has: no file system transaction,
/// whose stalls reach 100 ms.
///
/// Threads  append_*() by the engine's thread; sync() by any.
class Journal {
 public:
  struct Run {
    std::uint64_t sequence = 0;  // of its first event
    std::uint64_t count = 0;     // sequence numbers taken
    std::int32_t partition = 0;
    std::int64_t offset_first = 0;
    std::int64_t offset_last = 0;
  };
  struct TimeInput {
    std::uint64_t sequence = 0;
    std::int64_t time_ms = 0;
  };

  /// Opens or creates. `identity` names pipeline and source: another one's journal is refused. A torn tail is cut off:
  /// what a crash left behind the last record that a sync had made durable, with holes after a power cut. Damage before
  /// that is refused, wherever a later record or the closing one says that it was synced. The name becomes durable when
  /// the caller syncs the folder. Errors: kIo, kCorrupt, kInvalidArgument, naming the file and what to do.
  static Result<std::unique_ptr<Journal>> open(const std::string& path, const std::string& identity,
                                               std::int64_t now_ms);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// When the source was first opened: the arrival time of a file's records, now and after every restart.
  std::int64_t opened_ms() const { return opened_ms_; }
  /// What an earlier process journaled, in order.
  const std::vector<Run>& runs() const { return runs_; }
  const std::vector<TimeInput>& time_inputs() const { return time_inputs_; }
  std::uint64_t last_sequence() const { return last_sequence_; }

  /// An accepted event; contiguous ones of one partition become one record.
  Result<> append_event(std::uint64_t sequence, std::int32_t partition, std::int64_t offset);
  Result<> append_time(std::uint64_t sequence, std::int64_t time_ms);
  /// What an earlier process journaled from this sequence number on never happened: a power cut took the records
  /// themselves, from `offset` on, out of the log that they came from, which no page can have depended on. Before
  /// anything is appended.
  Result<> forget_from(std::uint64_t sequence, std::int64_t offset);
  /// Everything appended so far is on disk when this returns. Cost: one write and one fdatasync.
  Result<> sync();

 private:
  Journal(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  Result<> write_at(const char* bytes, std::size_t size, std::uint64_t at);
  Result<> reserve(std::uint64_t bytes);
  Result<> write_record(std::uint32_t kind, std::uint64_t a, std::uint64_t b, std::int64_t c, std::int64_t d,
                        std::int32_t e);
  void drop_from(std::uint64_t sequence, std::int64_t offset);
  Result<> flush_run();
  Result<> flush();

  std::string path_;
  int fd_;
  std::mutex mutex_;       // of the buffer and the file's end
  std::mutex sync_mutex_;  // held while the disk works; taken first
  std::int64_t opened_ms_ = 0;
  std::vector<Run> runs_;
  std::vector<TimeInput> time_inputs_;
  std::uint64_t last_sequence_ = 0;
  Run pending_;
  std::string buffer_;
  std::uint64_t end_bytes_ = 0;       // of the records
  std::uint64_t reserved_bytes_ = 0;  // of the file: zeros behind the records
  std::uint64_t records_ = 0;         // appended to the buffer or read
  std::uint64_t synced_records_ = 0;  // of them; when equal, the next one is marked
  bool taken_ = false;                // read, and found to be ours
  bool dirty_ = false;
  bool appended_ = false;  // since open()
};

}  // namespace alcedo::pipeline
