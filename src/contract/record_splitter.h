// Bytes of a file or a pipe -> records, whatever pieces they arrive in.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "contract/events_spec.h"

namespace alcedo::contract {

/// Cuts a stream into records: lines for JSON; for CSV a newline inside quotes does not end a record. A '\r' before the
/// newline is dropped. Records without content (only spaces for JSON, nothing for CSV) are skipped.
///
/// Too long  A record of Decoder::kRecordBytesMax bytes or more is delivered as its first kRecordBytesMax bytes, which
///           the decoder rejects by their size; the rest up to the next newline is thrown away (for CSV even inside
///           quotes: a quote that was never closed costs one record and not the file).
/// Memory    What was fed and not yet taken, plus at most kRecordBytesMax.
/// Repeats   The records do not depend on how the bytes were divided among feed() calls.
/// Threads   One at a time.
class RecordSplitter {
 public:
  explicit RecordSplitter(Format format, char delimiter = ',') : format_(format), delimiter_(delimiter) {}

  /// Views that next() gave are invalid afterwards.
  void feed(std::string_view bytes);

  /// False: no whole record is left. `record` stays valid until the next feed().
  bool next(std::string_view& record, bool& too_long);

  /// No more bytes will come: next() then also gives a last record without a newline.
  void finish() { finished_ = true; }

  /// True if bytes of an unfinished record are waiting (or being thrown away).
  bool has_partial() const { return skipping_ || begin_ < buffer_.size(); }

 private:
  enum class Cell : unsigned char { kStart, kPlain, kQuoted, kQuoteInQuoted };

  std::size_t find_end();
  std::size_t find_csv_end();

  Format format_;
  char delimiter_;
  std::string buffer_;
  std::size_t begin_ = 0;  // of the record that is being read
  std::size_t seen_ = 0;   // bytes before this one hold no end of it
  Cell cell_ = Cell::kStart;
  bool skipping_ = false;
  bool finished_ = false;
};

/// Column names of a CSV header line: quotes resolved, spaces around names and a UTF-8 byte order mark dropped.
std::vector<std::string> split_csv_header(std::string_view line, char delimiter);

/// The name by which a file is a key: no directories, no ".gz", no last extension. "a/b/cpu_4f.v2.csv.gz" ->
/// "cpu_4f.v2".
std::string file_key(std::string_view path);

}  // namespace alcedo::contract
