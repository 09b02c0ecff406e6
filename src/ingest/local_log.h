// Gives offsets and a memory to sources that have none (a pipe, this machine's metrics): what was read once can be read
// again.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace alcedo::ingest {

/// One record of the log. `bytes` lives until the next call on the reader that gave it.
struct LogEntry {
  std::int64_t offset = 0;
  std::int64_t arrival_ms = 0;
  std::string_view bytes;
};

/// An append-only log of records in segments, in a directory of its own.
///
/// Format   A segment is named `<first offset, 20 digits>.log`: 8 bytes "ALCLOG1\n", u64 salt, then records
///          {u32 length | mark << 31, u32 crc32, i64 arrival_ms, bytes}, little-endian; the crc (zlib's) covers the
///          salt and all of the record but itself. The salt is random, so that no event can carry bytes which pass for
///          a record. The mark says: everything before this record had been synced when it was written. A record of
///          length 0 with the mark is only that statement and takes no offset; records themselves are never empty.
/// Recovery open() cuts what a crash tore off the newest segment, from the first record that does not verify, unless a
/// marked record
///          stands behind it: then synced bytes are damaged and the log is refused, naming file and byte. Older
///          segments were synced before the next began; they are verified when they are read.
/// Threads  One thread at a time uses a log and its readers; sync() may come from another one, and append() does not
/// wait for it
///          unless a new segment begins. One process at a time opens a directory (flock).
/// Cost     append(): one write() a call; reading: one pread() a 256 KB; open(): reads the newest segment once.
class LocalLog {
 public:
  static constexpr std::size_t kRecordBytesMax = 1 << 20;

  struct Options {
    std::uint64_t segment_bytes = 64ULL << 20;      // a new segment begins behind this size
    std::uint64_t retention_bytes = 1024ULL << 20;  // whole oldest segments go when all exceed this; the newest stays
  };

  /// What open() found and cut.
  struct Recovery {
    std::uint64_t bytes_cut = 0;    // torn off the end by a crash
    std::uint64_t records_cut = 0;  // whole but unsynced records among them, behind the torn place
  };

  /// Creates the directory if it is not there (0700). Errors: kIo with the path; kCorrupt for damage before the tail
  /// and for a file that is not a segment of this version; kUnavailable if another process holds the log or the disk is
  /// full.
  static Result<std::unique_ptr<LocalLog>> open(std::string directory, const Options& options);

  ~LocalLog();  // syncs what was appended
  LocalLog(const LocalLog&) = delete;
  LocalLog& operator=(const LocalLog&) = delete;

  /// Appends all records or none; the first gets the returned offset, the others follow. Records are 1 ..
  /// kRecordBytesMax bytes. Errors: kUnavailable: disk full, the log is valid and unchanged, the same call may work
  /// later. kIo: nothing more is taken.
  Result<std::int64_t> append(std::span<const std::string_view> records, std::int64_t arrival_ms);
  Result<std::int64_t> append(std::string_view record, std::int64_t arrival_ms) {
    return append(std::span(&record, 1), arrival_ms);
  }

  /// Until this returns, appended records may vanish in a power cut (not in a crash of the process). Errors: kIo, and
  /// from then on every append fails: after a failed fsync nobody knows what the disk holds.
  Result<> sync();

  std::int64_t first_offset() const { return segments_.front().first_offset; }  // the oldest that retention kept
  std::int64_t end_offset() const { return end_offset_; }                       // of the next append
  std::uint64_t size_bytes() const;
  const Recovery& recovery() const { return recovery_; }
  const std::string& directory() const { return directory_; }

  /// Reads on from an offset; sees appends made after its creation. Must not outlive the log.
  class Reader {
   public:
    Reader(const LocalLog& log, std::int64_t offset) : log_(&log), next_offset_(offset) {}
    ~Reader();
    Reader(Reader&& other) noexcept;
    Reader& operator=(Reader&&) = delete;

    /// False at the end for now. Offsets that retention took are skipped. Errors: kCorrupt naming segment and byte,
    /// kIo.
    Result<bool> next(LogEntry& entry);
    /// Of the entry that next() would give.
    std::int64_t next_offset() const { return next_offset_; }

   private:
    Result<> open_segment(std::size_t index);
    Result<bool> fill(std::size_t bytes_wanted, std::uint64_t segment_size);

    const LocalLog* log_;
    std::int64_t next_offset_;
    std::int64_t segment_first_ = -1;   // of the open segment
    std::int64_t position_offset_ = 0;  // offset of the record at begin_
    int fd_ = -1;
    std::uint64_t salt_ = 0;
    std::string buffer_;
    std::size_t begin_ = 0;            // of the next record in buffer_
    std::uint64_t file_position_ = 0;  // of buffer_'s end in the file
  };
  Reader reader(std::int64_t offset) const { return Reader(*this, offset); }

 private:
  struct Segment {
    std::int64_t first_offset = 0;
    std::uint64_t size_bytes = 0;
  };

  LocalLog(std::string directory, const Options& options) : directory_(std::move(directory)), options_(options) {}
  std::string segment_path(std::int64_t first_offset) const;
  Result<> recover();
  Result<> start_segment();
  Result<> write_header();
  Result<> write_all(std::string_view bytes);
  void drop_old_segments();

  std::string directory_;
  Options options_;
  Recovery recovery_;
  std::deque<Segment> segments_;  // oldest first, never empty once open; the last one takes appends
  std::int64_t end_offset_ = 0;
  int directory_fd_ = -1;
  int fd_ = -1;
  std::mutex sync_mutex_;                   // held while the disk works, and while fd_ becomes another file
  std::atomic<std::uint64_t> appends_ = 0;  // writes since open()
  std::atomic<std::uint64_t> synced_appends_ =
      0;                   // of them; when equal, the next record says that all before it was synced
  bool appended_ = false;  // records, since open()
  std::atomic<bool> failed_ = false;
  std::uint64_t salt_ = 0;  // of the newest segment
  std::string block_;       // the bytes of one append, kept for their memory
};

/// What one segment's bytes hold; the pure part of recovery, for tests and fuzzing.
struct SegmentScan {
  std::uint64_t records = 0;         // that verify, from the start
  std::uint64_t valid_bytes = 0;     // the length of that prefix, header included; 0 if the header itself is torn
  bool damaged_before_mark = false;  // a marked record verifies behind the prefix: synced bytes are damaged
  std::uint64_t records_behind = 0;  // that verify behind the first fault
};
/// Any bytes are fine. A header that is complete but not this format's counts as damage.
SegmentScan scan_segment(std::string_view bytes);

}  // namespace alcedo::ingest
