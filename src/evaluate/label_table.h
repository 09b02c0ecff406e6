// Label files come as CSV or NDJSON, packed or not; this makes one shape of them: records of named text cells with
// their lines.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::evaluate {

/// Records of text cells under one header. A cell that a record does not have is empty.
struct LabelTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> records;  // each as long as columns
  std::vector<std::size_t> lines;                 // where each record starts, from 1

  /// Position of a column, or -1. Names compare exactly.
  int column(std::string_view name) const;
};

/// The whole file, unpacked if it is gzip (by its first two bytes, not by its name).
/// Errors: kNotFound, kIo, kCorrupt (a truncated or damaged gzip), kInvalidArgument (a directory, or more than 2 GB
/// unpacked).
Result<std::string> read_label_file(const std::string& path);

/// CSV by RFC 4180 with a header line; the delimiter (comma, tab, semicolon) is the one that the header has most of.
/// CRLF and a byte order mark are fine; blank lines and lines that begin with '#' are skipped. `path` is for messages.
/// Errors: kInvalidArgument with file and line: no header, a record of another width, an open quote.
Result<LabelTable> parse_csv_table(std::string_view text, const std::string& path);

/// One JSON object a line; numbers and booleans are kept as they were written, null is an empty cell. Columns are those
/// of all lines, in the order of their first appearance. Errors: kInvalidArgument with file and line: not an object, a
/// nested value.
Result<LabelTable> parse_ndjson_table(std::string_view text, const std::string& path);

}  // namespace alcedo::evaluate
