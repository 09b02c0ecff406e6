// Whether a CSV line is the header seen before: sources that begin again (rotation, restart) may or may not repeat it.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "contract/record_splitter.h"

namespace alcedo::ingest {

enum class HeaderMatch {
  kSame,   // the header again
  kOther,  // a header, but another one: it shares names with the known one
  kNone,   // no header: a row of data
};

inline HeaderMatch match_header(std::string_view line, char delimiter, std::span<const std::string> known) {
  const std::vector<std::string> cells = contract::split_csv_header(line, delimiter);
  if (std::ranges::equal(cells, known)) return HeaderMatch::kSame;
  const bool shares = std::ranges::any_of(
      cells, [&](const std::string& cell) { return !cell.empty() && std::ranges::find(known, cell) != known.end(); });
  return shares ? HeaderMatch::kOther : HeaderMatch::kNone;
}

}  // namespace alcedo::ingest
