// Searches newlines with memchr and walks bytes one by one only through CSV records that hold a quote.
#include "contract/record_splitter.h"

#include <algorithm>
#include <cstring>

#include "contract/csv_reader.h"
#include "contract/decoder.h"

namespace alcedo::contract {
namespace {

constexpr std::size_t kNone = std::string::npos;

bool has_content(Format format, std::string_view record) {
  return format == Format::kCsv ? !record.empty() : record.find_first_not_of(" \t\r") != std::string_view::npos;
}

}  // namespace

void RecordSplitter::feed(std::string_view bytes) {
  // What was taken is dropped here and not in next(): its views must stay valid until now.
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    seen_ -= begin_;
    begin_ = 0;
  }
  buffer_.append(bytes);
}

// Position of the newline that ends the record at begin_, or kNone; what was searched once is not searched again.
std::size_t RecordSplitter::find_end() {
  if (format_ == Format::kCsv && !skipping_) return find_csv_end();
  const std::size_t end = buffer_.find('\n', seen_);
  seen_ = end == kNone ? buffer_.size() : end;
  return end;
}

std::size_t RecordSplitter::find_csv_end() {
  if (seen_ == begin_) {
    const std::size_t end = buffer_.find('\n', begin_);
    if (end != kNone && std::memchr(buffer_.data() + begin_, '"', end - begin_) == nullptr) return seen_ = end;
    cell_ = Cell::kStart;
  }
  for (; seen_ < buffer_.size(); ++seen_) {
    const char c = buffer_[seen_];
    if (cell_ == Cell::kQuoted) {
      if (c == '"') cell_ = Cell::kQuoteInQuoted;
    } else if (c == '"' && cell_ != Cell::kPlain) {
      cell_ = Cell::kQuoted;  // opens a cell, or is the second of a doubled quote
    } else if (c == '\n') {
      return seen_;
    } else {
      cell_ = c == delimiter_ ? Cell::kStart : Cell::kPlain;
    }
    if (seen_ - begin_ >= Decoder::kRecordBytesMax) return kNone;  // too long already: quotes no longer matter
  }
  return kNone;
}

bool RecordSplitter::next(std::string_view& record, bool& too_long) {
  too_long = false;
  for (;;) {
    const std::size_t end = find_end();
    if (skipping_) {
      if (end == kNone) {
        begin_ = seen_ = buffer_.size();
        return false;
      }
      skipping_ = false;
      begin_ = seen_ = end + 1;
      continue;
    }
    const bool whole = end != kNone;
    const std::size_t stop = whole ? end : buffer_.size();
    std::size_t size = stop - begin_;
    if (size > 0 && (whole || finished_) && buffer_[stop - 1] == '\r') --size;
    // One byte more than the limit is needed to tell a record that only its '\r' makes too long.
    if (size > Decoder::kRecordBytesMax || ((whole || finished_) && size == Decoder::kRecordBytesMax)) {
      record = {buffer_.data() + begin_, Decoder::kRecordBytesMax};
      too_long = true;
      begin_ += Decoder::kRecordBytesMax;
      // For CSV the newline found may lie inside the cut; what follows the cut ends at the next newline of any kind.
      skipping_ = true;
      seen_ = begin_;
      return true;
    }
    if (!whole && (!finished_ || begin_ == buffer_.size())) return false;
    record = {buffer_.data() + begin_, size};
    begin_ = seen_ = whole ? end + 1 : buffer_.size();
    cell_ = Cell::kStart;
    if (has_content(format_, record)) return true;
  }
}

std::vector<std::string> split_csv_header(std::string_view line, char delimiter) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  CsvReader reader;
  std::vector<std::string> names;
  // A header that is not CSV still needs names to be reported by: the cells read so far.
  reader.split(line, delimiter);
  for (const std::string_view cell : reader.cells()) {
    const std::size_t first = cell.find_first_not_of(" \t\r");
    const std::size_t last = cell.find_last_not_of(" \t\r");
    names.emplace_back(first == std::string_view::npos ? std::string_view{} : cell.substr(first, last - first + 1));
  }
  return names;
}

std::string file_key(std::string_view path) {
  if (const std::size_t slash = path.find_last_of('/'); slash != std::string_view::npos) path.remove_prefix(slash + 1);
  if (path.ends_with(".gz")) path.remove_suffix(3);
  if (const std::size_t dot = path.rfind('.'); dot != std::string_view::npos && dot > 0) path = path.substr(0, dot);
  return std::string(path);
}

}  // namespace alcedo::contract
