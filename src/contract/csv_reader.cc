// Cells are views into the record; only one with a doubled quote is copied.
#include "contract/csv_reader.h"

#include <cstring>

namespace alcedo::contract {

CsvFault CsvReader::split(std::string_view record, char delimiter) {
  cells_.clear();
  unquoted_.clear();
  if (record.ends_with('\r')) record.remove_suffix(1);
  if (unquoted_.capacity() < record.size()) unquoted_.reserve(record.size());
  const char* at = record.data();
  const char* const end = at + record.size();
  for (;;) {
    if (at == end || *at != '"') {
      const auto* stop = static_cast<const char*>(
          at == end ? nullptr : std::memchr(at, delimiter, static_cast<std::size_t>(end - at)));
      if (stop == nullptr) {
        cells_.emplace_back(at, static_cast<std::size_t>(end - at));
        return CsvFault::kNone;
      }
      cells_.emplace_back(at, static_cast<std::size_t>(stop - at));
      at = stop + 1;
      continue;
    }
    const char* from = ++at;
    const std::size_t copied_from = unquoted_.size();
    bool copied = false;
    for (;;) {
      const auto* quote =
          static_cast<const char*>(at == end ? nullptr : std::memchr(at, '"', static_cast<std::size_t>(end - at)));
      if (quote == nullptr) return CsvFault::kOpenQuote;
      at = quote + 1;
      if (at == end || *at != '"') {
        if (copied) {
          unquoted_.append(from, quote);
          cells_.emplace_back(unquoted_.data() + copied_from, unquoted_.size() - copied_from);
        } else {
          cells_.emplace_back(from, static_cast<std::size_t>(quote - from));
        }
        break;
      }
      unquoted_.append(from, at);  // with one of the two quotes
      copied = true;
      from = ++at;
    }
    if (at == end) return CsvFault::kNone;
    if (*at != delimiter) return CsvFault::kTextAfterQuote;
    ++at;
  }
}

}  // namespace alcedo::contract
