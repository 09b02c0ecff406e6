// Files as a source: each file (or run of files with one key) is a partition whose record numbers are its offsets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "contract/record_splitter.h"
#include "ingest/file_reader.h"
#include "ingest/interrupt.h"
#include "ingest/source.h"

namespace alcedo::ingest {

/// Reads JSON lines and CSV, plain or gzip (known by its magic bytes), from files, patterns and named pipes.
///
/// Partitions  In the order of the given paths; a pattern stands for its matches in byte order. Files with the same
/// file_key() are one
///             partition, read one after the other, and must have one format and one header. CSV files without any
///             content are left out (they have no header to tell about).
/// Offsets     Count the records from 0. Header lines, blank lines and a UTF-8 byte order mark are no records.
/// Follow      The last file of each partition is followed as `tail -F` does. A line without its newline is not there
/// yet. When the path
///             names another, non-empty file, the old one is read to its end first; a file that became shorter is read
///             from its start. Both are counted, and offsets go on. A source that rotates is not repeatable: what
///             rotated away is gone.
/// Repeats     Without follow, the same files give the same bytes at the same offsets.
/// Limits      256 files are open at once; others are parked (about 64 KB each) and continued where they were.
class FileSource : public Source {
 public:
  struct Options {
    std::optional<contract::Format> format;  // unset: .csv and .tsv (before .gz) are CSV, all else JSON lines
    char delimiter = ',';
    std::vector<std::string> columns;  // CSV without a header line
    bool follow = false;
    std::int64_t follow_poll_ms = 100;
    std::int64_t opened_ms = 0;                   // arrival time of all records that are not followed
    std::function<std::int64_t()> now_ms;         // arrival time of followed records; unset: the wall clock
    const std::atomic<bool>* stopping = nullptr;  // ends the wait for a pipe's header line in create()
  };

  /// Opens every file once and reads CSV headers; for a pipe that means waiting for its first line.
  /// Errors: kNotFound, kIo, kInvalidArgument, kCorrupt: all unusable files in one message, each with cause and what to
  /// do.
  static Result<std::unique_ptr<FileSource>> create(const std::vector<std::string>& paths, Options options);

  std::size_t num_partitions() const override { return partitions_.size(); }
  const contract::PartitionInfo& partition(std::int32_t partition) const override;
  bool merge_by_time() const override { return partitions_.size() > 1; }
  Progress progress() const override;  // bytes as stored; total 0 if a pipe is among them or files are followed

  /// Waits only for pipes and followed files. Errors: kIo, kCorrupt; the same again for each later call on that
  /// partition, while others can be read on. The torn last record of a truncated gzip is left out.
  Result<ReadState> read(std::int32_t partition, RawBatch& out, std::size_t records_max,
                         std::chrono::milliseconds wait) override;
  void stop() override { interrupt_.raise(); }

  struct FollowCounts {
    std::uint64_t rotations = 0;    // the path came to name another file
    std::uint64_t truncations = 0;  // the file became shorter
  };
  const FollowCounts& follow_counts() const { return follow_counts_; }
  std::size_t num_open() const { return num_open_; }

 private:
  struct Partition {
    contract::PartitionInfo info;
    std::vector<std::string> paths;
    std::size_t path = 0;  // index of the file being read
    std::unique_ptr<FileReader> reader;
    std::optional<contract::RecordSplitter> splitter;
    bool file_ended = false;
    bool header_due = false;   // the next record may be a header line
    bool begun_again = false;  // after a rotation or truncation: a header line is possible, not certain
    bool rotating = false;     // another file has the path; the old one is being read to its end
    std::int64_t next_offset = 0;
    std::uint64_t last_used = 0;
    std::optional<Error> failure;
    bool ended = false;
  };

  explicit FileSource(Options options) : options_(std::move(options)) {}
  Result<std::vector<std::string>> read_header(Partition& partition, std::unique_ptr<FileReader> reader);
  void keep_pipe(Partition& partition, std::unique_ptr<FileReader> reader);
  Result<> start_file(Partition& partition);
  Result<FileReader::State> read_more(Partition& partition);
  bool deliver(Partition& partition, std::int32_t number, RawBatch& out, std::size_t records_max);
  bool take_header(Partition& partition, std::string_view record);
  Result<bool> began_again(Partition& partition);
  void make_room();
  void close_reader(Partition& partition);

  Options options_;
  std::vector<Partition> partitions_;
  FollowCounts follow_counts_;
  Interrupt interrupt_;
  std::size_t num_open_ = 0;
  std::uint64_t uses_ = 0;
  std::uint64_t bytes_total_ = 0;
  std::uint64_t bytes_ended_ = 0;  // of files that were read to their end
};

/// The files that a path or pattern (* ? [..]) means, in byte order. A path that exists is itself, whatever characters
/// it has. Errors: kNotFound.
Result<std::vector<std::string>> expand_path(const std::string& path);

}  // namespace alcedo::ingest
