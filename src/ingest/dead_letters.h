// Keeps every record that could not become an event, with its exact bytes and the reason, so that nothing is lost by
// being wrong.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>

#include "core/result.h"

namespace alcedo::ingest {

/// One record set aside.
struct DeadLetter {
  std::string bytes;   // as they came
  std::string source;  // the source's URI
  std::int32_t partition = 0;
  std::string partition_name;  // PartitionInfo::file; may be empty
  std::int64_t offset = 0;
  std::string reason;   // a stable name: "malformed", "ahead", ...
  std::string message;  // for a person
  std::int64_t arrival_ms = 0;
};

/// A bounded file of JSON lines, readable by its owner only (0600), one line a record:
///   {"time":"2026-…Z","source":"file:x.csv","partition":0,"name":"x","offset":7,"reason":"malformed","message":"…","bytes_base64":"…"}
/// time is the record's arrival.
///
/// Once     A record is known by (source, partition, name, offset) and its bytes; one that stands in the file is not
/// written again, so a replay from
///          the start adds nothing. What was moved away is known until the process ends.
/// Bound    At `bytes_max` append() refuses, so that the caller pauses its source. It goes on by itself once the file
/// was moved away,
///          deleted or emptied. A single letter always fits into an empty file.
/// Threads  One at a time; sync() may come from another one. One process at a time writes a file (flock); readers need
/// no lock. Cost     One write() a letter; about 40 bytes of memory a letter in the file.
class DeadLetters {
 public:
  /// Creates file and directory if needed; cuts a torn last line. Errors: kIo with the path; kUnavailable if another
  /// process writes it.
  static Result<std::unique_ptr<DeadLetters>> open(std::string path, std::uint64_t bytes_max);
  ~DeadLetters();
  DeadLetters(const DeadLetters&) = delete;
  DeadLetters& operator=(const DeadLetters&) = delete;

  /// True if it was written, false if it stood there already.
  /// Errors: kUnavailable: full, or the disk is; nothing was written, the same call may work later. kIo.
  Result<bool> append(const DeadLetter& letter);

  /// Until this returns, letters may vanish in a power cut. Nothing to do where none was written since. Errors: kIo.
  Result<> sync();

  /// Letters in the file by reason, those of earlier runs included.
  const std::map<std::string, std::uint64_t, std::less<>>& counts() const { return counts_; }
  std::uint64_t written() const { return written_; }              // by this process
  std::uint64_t repeated() const { return repeated_; }            // known already, not written
  std::uint64_t unreadable_lines() const { return unreadable_; }  // in the file when it was opened; kept, but unknown
  std::uint64_t torn_bytes() const { return torn_bytes_; }        // cut at open()
  std::uint64_t size_bytes() const { return size_bytes_; }
  bool full() const { return full_; }  // the last append() found it so
  const std::string& path() const { return path_; }

 private:
  struct Place {
    std::uint64_t record_hash = 0;  // of partition and bytes
    std::int64_t offset = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct PlaceHash {
    std::size_t operator()(const Place& place) const;
  };

  DeadLetters(std::string path, std::uint64_t bytes_max) : path_(std::move(path)), bytes_max_(bytes_max) {}
  static Place place_of(const DeadLetter& letter);
  Result<> open_file();
  Result<> load();
  Result<> follow_path();

  std::string path_;
  std::uint64_t bytes_max_;
  int fd_ = -1;
  std::uint64_t size_bytes_ = 0;
  std::unordered_set<Place, PlaceHash> known_;  // only asked, never listed
  std::mutex sync_mutex_;                       // held while the disk works, and while fd_ becomes another file
  std::atomic<bool> unsynced_ = false;
  bool sync_failed_ = false;
  std::map<std::string, std::uint64_t, std::less<>> counts_;
  std::uint64_t written_ = 0;
  std::uint64_t repeated_ = 0;
  std::uint64_t unreadable_ = 0;
  std::uint64_t torn_bytes_ = 0;
  bool full_ = false;
};

/// Calls `visit` with each letter of a file in order until it returns false. Returns how many lines could not be read
/// (damaged, or still being written). Errors: kNotFound, kIo.
Result<std::uint64_t> read_dead_letters(const std::string& path, const std::function<bool(const DeadLetter&)>& visit);

/// One line, without the newline. Errors: kCorrupt, saying what is wrong.
Result<DeadLetter> parse_dead_letter(std::string_view line);
std::string format_dead_letter(const DeadLetter& letter);

}  // namespace alcedo::ingest
