// Kept apart from what labels mean, so that the three forms of labels share one reader and one way to report a bad
// line.
#include "evaluate/label_table.h"

#include <fmt/format.h>
#include <simdjson.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <unordered_map>

namespace alcedo::evaluate {
namespace {

constexpr std::size_t kBytesMax = std::size_t{2} << 30;
constexpr std::size_t kChunkBytes = 1 << 18;

std::string_view without_bom(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return text;
}

// One line without its end; advances `text` and counts.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Reads one CSV record that may span lines; false if a quote is still open at the end of the text.
bool take_csv_record(std::string_view& text, char delimiter, std::size_t& line, std::vector<std::string>& cells) {
  cells.clear();
  std::string cell;
  bool quoted = false, was_quoted = false;
  std::size_t i = 0;
  const auto finish_cell = [&] {
    cells.emplace_back(was_quoted ? std::move(cell) : std::string(trimmed(cell)));
    cell.clear();
    was_quoted = false;
  };
  for (; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
        cell.push_back('"');
        ++i;
      } else if (c == '"') {
        quoted = false;
      } else {
        line += c == '\n';
        cell.push_back(c);
      }
    } else if (c == '"' && is_blank(cell)) {
      cell.clear();
      quoted = was_quoted = true;
    } else if (c == delimiter) {
      finish_cell();
    } else if (c == '\n') {
      break;
    } else if (c != '\r') {
      cell.push_back(c);
    }
  }
  finish_cell();
  ++line;
  text.remove_prefix(std::min(i + 1, text.size()));
  return !quoted;
}

}  // namespace

int LabelTable::column(std::string_view name) const {
  const auto at = std::find(columns.begin(), columns.end(), name);
  return at == columns.end() ? -1 : static_cast<int>(at - columns.begin());
}

Result<std::string> read_label_file(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) {
    return error(ErrorCode::kNotFound, fmt::format("{}: no such file; expected a file of labels", path));
  }
  if (std::filesystem::is_directory(path, failure)) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: is a directory; expected a file of labels", path));
  }
  // gzread passes a file that is not gzip through unchanged.
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) return error(ErrorCode::kIo, fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  std::string text;
  for (;;) {
    const std::size_t at = text.size();
    if (at > kBytesMax) {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}: more than 2 GB of labels; split the file", path));
    }
    text.resize(at + kChunkBytes);
    const int got = gzread(file.get(), text.data() + at, kChunkBytes);
    text.resize(at + static_cast<std::size_t>(std::max(got, 0)));
    int code = Z_OK;
    const char* why = gzerror(file.get(), &code);
    if (got < 0 || code == Z_BUF_ERROR || code == Z_DATA_ERROR) {
      const bool damaged = code == Z_BUF_ERROR || code == Z_DATA_ERROR;
      return error(damaged ? ErrorCode::kCorrupt : ErrorCode::kIo,
                   fmt::format("{}: {} after {} bytes: {}", path,
                               code == Z_BUF_ERROR ? "the gzip ends early" : "cannot be read", text.size(), why));
    }
    if (got == 0) return text;
  }
}

Result<LabelTable> parse_csv_table(std::string_view text, const std::string& path) {
  text = without_bom(text);
  LabelTable table;
  char delimiter = ',';
  std::size_t line = 1;
  std::vector<std::string> cells;
  while (!text.empty()) {
    if (std::string_view rest = text; is_blank(take_line(rest)) || text.front() == '#') {
      text = rest;
      ++line;
      continue;
    }
    if (table.columns.empty()) {
      std::string_view rest = text;
      const std::string_view header = take_line(rest);
      for (const char candidate : {'\t', ';'}) {
        if (std::ranges::count(header, candidate) > std::ranges::count(header, delimiter)) delimiter = candidate;
      }
    }
    const std::size_t began = line;
    if (!take_csv_record(text, delimiter, line, cells)) {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}:{}: a quote is never closed", path, began));
    }
    if (table.columns.empty()) {
      table.columns = cells;
      continue;
    }
    if (cells.size() != table.columns.size()) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}:{}: {} columns, expected {} as in the header ({})", path, began, cells.size(),
                               table.columns.size(), fmt::join(table.columns, ", ")));
    }
    table.records.push_back(cells);
    table.lines.push_back(began);
  }
  if (table.columns.empty()) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: is empty; expected a header line and labels", path));
  }
  return table;
}

Result<LabelTable> parse_ndjson_table(std::string_view text, const std::string& path) {
  text = without_bom(text);
  LabelTable table;
  std::unordered_map<std::string, std::size_t> at;  // looked up only
  simdjson::dom::parser parser;
  std::size_t line = 0;
  while (!text.empty()) {
    const std::string_view one = take_line(text);
    ++line;
    if (is_blank(one)) continue;
    simdjson::dom::object object;
    if (const auto failed = parser.parse(simdjson::padded_string(one)).get(object); failed != simdjson::SUCCESS) {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}:{}: {}; expected one JSON object a line", path, line,
                                                            simdjson::error_message(failed)));
    }
    std::vector<std::string> record(table.columns.size());
    for (const auto field : object) {
      const auto [where, is_new] = at.emplace(std::string(field.key), table.columns.size());
      if (is_new) {
        table.columns.emplace_back(field.key);
        record.emplace_back();
      }
      std::string_view value;
      if (field.value.get(value) == simdjson::SUCCESS) {
        record[where->second] = value;
      } else if (field.value.is_array() || field.value.is_object()) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}:{}: '{}' holds a nested value; expected text, a number, true, false or null", path,
                                 line, field.key));
      } else if (!field.value.is_null()) {
        record[where->second] = simdjson::minify(field.value);
      }
    }
    table.records.push_back(std::move(record));
    table.lines.push_back(line);
  }
  for (auto& record : table.records) record.resize(table.columns.size());
  if (table.records.empty()) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: is empty; expected one JSON object a line", path));
  }
  return table;
}

}  // namespace alcedo::evaluate
