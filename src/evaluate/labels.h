// What is known of the truth, from a file beside the events: which rows are anomalous, which are normal, of which
// nothing is said.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/event.h"
#include "core/result.h"

namespace alcedo::evaluate {

struct LabelOptions {
  std::string join;  // column with the event id; empty: the first of id, event_id, ID that the file has
  std::string type;  // column with the type; empty: type if the file has one
  std::string
      label;  // column with 0/1 (or true/false, normal/anomaly); empty: label, is_anomaly or is_fraud if present
  bool complete = false;  // what the file does not address is normal
};

/// What a label says of a row. `window` numbers the labelled window or range that the row is in, -1 if none.
struct RowLabel {
  Label label = kUnlabelled;
  std::int32_t window = -1;
  friend bool operator==(const RowLabel&, const RowLabel&) = default;
};

/// Labels of one of three forms, told apart by what the file holds:
///   ids      CSV or NDJSON with a column of event ids; optional type; optional 0/1 (without it a listed event is
///   anomalous). windows  NAB's JSON {"dir/file.csv": [["start", "end"], ...]}, or a table with entity (or file),
///   start, end[, type]. Times are
///            ISO 8601 or Unix numbers, their unit taken from the magnitude. Both ends belong to the window.
///   rows     a table with file (or entity), first, last[, type], both ends included, rows counted from 0; or SMD's
///   interpretation
///            lines "246-252:1,2,3" in a file named after the machine, the end excluded; or SMAP/MSL's chan_id,
///            anomaly_sequences.
/// A label without a type is of the type "anomaly". What is not addressed is unlabelled unless `complete`; NAB's and
/// SMD's own formats list every anomaly of the series that they name, so for those series the rest is normal.
///
/// Threads  Lookups are const and may run together.
/// Cost     by_id one hash probe; by_time and by_row a hash probe and a binary search over the scope's windows.
class LabelSet {
 public:
  enum class Form : std::uint8_t { kIds, kWindows, kRows };

  struct Window {
    std::string scope;       // the file key (no directory, no .gz, no extension) or the entity
    std::int64_t first = 0;  // milliseconds since the epoch, or row number
    std::int64_t last = 0;   // included
    Label label = kFirstLabelType;
  };

  /// Reads a file, or every file of a directory in the order of their names (all of one form). gzip is understood.
  /// Errors: kNotFound, kIo, kCorrupt; kInvalidArgument with file, line, what was found and what was expected.
  static Result<LabelSet> load(const std::string& path, const LabelOptions& options);
  /// The same for text that has been read. `path` names the file in messages and the machine in SMD's format.
  static Result<LabelSet> parse(std::string_view text, const std::string& path, const LabelOptions& options);

  Form form() const { return form_; }
  bool complete() const { return complete_; }
  /// Names of the types: label value kFirstLabelType + index. Sorted by first appearance in the file.
  const std::vector<std::string>& types() const { return types_; }
  /// Labelled ids (kIds) or windows.
  std::size_t size() const { return form_ == Form::kIds ? ids_.size() : windows_.size(); }
  /// Windows and ranges in the order of the file. Empty for kIds.
  std::span<const Window> windows() const { return windows_; }
  /// Whether the labels speak of this series, also by an empty list.
  bool names_scope(std::string_view scope) const { return scopes_.contains(std::string(scope)); }

  /// kIds only: any other form knows nothing.
  RowLabel by_id(std::string_view id) const;
  /// kWindows only. The first of overlapping windows wins.
  RowLabel by_time(std::string_view scope, std::int64_t time_ms) const;
  /// kRows only. `row` counts from 0 within the series.
  RowLabel by_row(std::string_view scope, std::int64_t row) const;
  /// Whichever form: by id, else by the file's windows, else by the entity's.
  RowLabel find(std::string_view id, std::string_view file_key, std::string_view entity, std::int64_t time_ms,
                std::int64_t row) const;

  /// "data/realTweets/x.csv.gz" -> "x".
  static std::string scope_of(std::string_view path);

 private:
  struct Scope {
    bool complete = false;
    std::vector<std::uint32_t> windows;  // by first, then file order
    std::vector<std::int64_t> last_max;  // running maximum of last, so that a lookup knows where to stop
  };
  friend class LabelReader;
  RowLabel in_windows(std::string_view scope, std::int64_t at) const;

  Form form_ = Form::kIds;
  bool complete_ = false;
  std::vector<std::string> types_;
  std::vector<Window> windows_;
  std::unordered_map<std::uint64_t, Label> ids_;   // by hash64(id); looked up only
  std::unordered_map<std::string, Scope> scopes_;  // looked up only
};

}  // namespace alcedo::evaluate
