// Where records come from: one interface for files, stdin, this machine's metrics and the simulator.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "contract/decoder.h"
#include "core/event.h"
#include "core/result.h"

namespace alcedo::ingest {

enum class ReadState : std::uint8_t {
  kMore,  // call again
  kIdle,  // nothing arrived within the wait; more may come
  kEnd,   // this partition is finished for good
};

/// A source has partitions 0 .. n-1, each an ordered sequence of records with offsets from 0.
///
/// Threads  One thread at a time reads; stop() may come from any thread.
/// Repeats  The same source read again gives the same bytes at the same offsets (a source without offsets of its own
/// writes a
///          LocalLog first).
class Source {
 public:
  virtual ~Source() = default;

  /// Known after creation; does not change.
  virtual std::size_t num_partitions() const = 0;
  virtual const contract::PartitionInfo& partition(std::int32_t partition) const = 0;
  /// Whether partitions should be merged by event time (several files) instead of taken as they come.
  virtual bool merge_by_time() const { return false; }
  /// Names of the labels that records carry (Label value kFirstLabelType + index); empty if they carry none.
  virtual std::vector<std::string> label_types() const { return {}; }
  /// A rough size for progress: bytes or records in all, and how many have been read; total 0 when unknown.
  struct Progress {
    std::uint64_t done = 0;
    std::uint64_t total = 0;
  };
  virtual Progress progress() const { return {}; }

  /// Appends up to `records_max` records of one partition, waiting at most `wait` for the first. RawBatch::pad() is
  /// called. Errors: kIo, kCorrupt (a truncated gzip): what was read before the fault has been delivered.
  virtual Result<ReadState> read(std::int32_t partition, RawBatch& out, std::size_t records_max,
                                 std::chrono::milliseconds wait) = 0;
  /// Goes on behind what an earlier process took: the next record that read() gives has offset `offset` or, where a
  /// log's retention has passed it, the first that is left. Before the partition's first read(). Ends early when
  /// `stopping` becomes true. Errors: those of read(); kCorrupt: what is before is not what was read then, by
  /// `fingerprint`, that of all records before (0: not known). Cost: this one reads and drops what is before.
  virtual Result<> skip_to(std::int32_t partition, std::int64_t offset, std::uint64_t fingerprint,
                           const std::atomic<bool>& stopping);
  /// Records from this offset on were not in the source when it was opened. Only a source that keeps a log of its own
  /// can say so; others give the largest number.
  virtual std::int64_t fresh_offset() const { return INT64_MAX; }
  /// Makes what was delivered survive a power cut, where this source keeps a log of its own. Before an alert leaves.
  virtual Result<> sync() { return {}; }
  /// Wakes a waiting read(), which then returns kEnd soon.
  virtual void stop() {}
};

/// Of a record and all before it in its partition, whose fingerprint is `before`: tells whether a source has changed.
/// Cost: a few ns; it sees length, first and last 16 bytes.
std::uint64_t fingerprint(std::uint64_t before, std::string_view record);

/// A source by URI, as the command line gives it.
struct SourceUri {
  std::string scheme;  // "file", "stdin", "host", "simulate"
  std::string path;    // after the colon, before '?'
  std::vector<std::pair<std::string, std::string>> options;
  std::string text;  // as given

  /// "events.csv" without a scheme is a file. Errors: kInvalidArgument: unknown scheme, with the list of known ones.
  static Result<SourceUri> parse(std::string_view text);
};

}  // namespace alcedo::ingest
