// Tells the forms of label files apart by their content, because people name these files anything.
#include "evaluate/labels.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <optional>

#include "core/hash.h"
#include "core/time.h"
#include "evaluate/label_table.h"

namespace alcedo::evaluate {
namespace {

constexpr std::string_view kUntyped = "anomaly";

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// ISO 8601, or a Unix number whose unit follows from its size: below 10^11 seconds (the year 5138), below 10^14
// milliseconds, then micro- and nanoseconds.
std::optional<std::int64_t> parse_time(std::string_view text) {
  if (const auto iso = parse_iso_time_ms(text)) return iso;
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || !(value > -1e19 && value < 1e19)) return std::nullopt;
  const double size = value < 0 ? -value : value;
  const double ms = size < 1e11 ? value * 1e3 : size < 1e14 ? value : size < 1e17 ? value / 1e3 : value / 1e6;
  return static_cast<std::int64_t>(ms);
}

std::optional<bool> parse_label(std::string_view text) {
  for (const std::string_view yes : {"1", "1.0", "true", "True", "TRUE", "yes", "anomaly", "anomalous", "Anomaly"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"0", "0.0", "false", "False", "FALSE", "no", "normal", "Normal"}) {
    if (text == no) return false;
  }
  return std::nullopt;
}

// "246-252:1,2,3": two whole numbers, a dash between, then the dimensions.
bool parse_smd_line(std::string_view line, std::int64_t& first, std::int64_t& end) {
  const std::size_t dash = line.find('-');
  const std::size_t colon = line.find(':');
  if (dash == std::string_view::npos || colon == std::string_view::npos || dash > colon) return false;
  const auto a = parse_integer(line.substr(0, dash));
  const auto b = parse_integer(line.substr(dash + 1, colon - dash - 1));
  if (!a || !b || line.find_first_not_of("0123456789,", colon + 1) != std::string_view::npos) return false;
  first = *a;
  end = *b;
  return true;
}

std::string_view first_line(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") != std::string_view::npos) return line;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return {};
}

}  // namespace

// Collects one or several files into a set.
class LabelReader {
 public:
  explicit LabelReader(const LabelOptions& options) : options_(options) { set_.complete_ = options.complete; }

  Result<> read(std::string_view text, const std::string& path) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
    const std::size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}: is empty; expected labels", path));
    }
    std::int64_t first = 0, end = 0;
    if (parse_smd_line(first_line(text), first, end)) return read_smd(text, path);
    if (text[begin] == '[') {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}:1: a JSON array; expected one JSON object a line, or an object of windows a file", path));
    }
    if (text[begin] != '{') {
      auto table = parse_csv_table(text, path);
      if (!table) return std::unexpected(table.error());
      return read_table(*table, path);
    }
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    if (parser.parse(simdjson::padded_string(text)).get(object) == simdjson::SUCCESS && holds_only_arrays(object)) {
      return read_nab(object, path);
    }
    auto table = parse_ndjson_table(text, path);
    if (!table) return std::unexpected(table.error());
    return read_table(*table, path);
  }

  LabelSet finish() {
    for (std::uint32_t i = 0; i < set_.windows_.size(); ++i) set_.scopes_[set_.windows_[i].scope].windows.push_back(i);
    for (auto& [name, scope] : set_.scopes_) {
      std::ranges::sort(scope.windows, {}, [&](std::uint32_t i) { return std::pair(set_.windows_[i].first, i); });
      std::int64_t last_max = std::numeric_limits<std::int64_t>::min();
      for (const std::uint32_t i : scope.windows) {
        last_max = std::max(last_max, set_.windows_[i].last);
        scope.last_max.push_back(last_max);
      }
    }
    return std::move(set_);
  }

 private:
  static bool holds_only_arrays(simdjson::dom::object object) {
    for (const auto field : object) {
      if (!field.value.is_array()) return false;
    }
    return true;
  }

  Result<> take_form(LabelSet::Form form, const std::string& path) {
    if (any_ && form != set_.form_) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: labels of another form than the files before it; expected one form in a directory", path));
    }
    any_ = true;
    set_.form_ = form;
    return {};
  }

  Result<Label> type_label(std::string_view name, const std::string& path) {
    if (name.empty()) name = kUntyped;
    const auto at = std::ranges::find(set_.types_, name);
    const auto index = static_cast<std::size_t>(at - set_.types_.begin());
    if (at == set_.types_.end()) {
      if (index >= 10'000) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}: more than 10,000 types; is '{}' the type column?", path, name));
      }
      set_.types_.emplace_back(name);
    }
    return static_cast<Label>(kFirstLabelType + index);
  }

  Result<> add_window(std::string scope, std::int64_t first, std::int64_t last, std::string_view type,
                      const std::string& path) {
    const auto label = type_label(type, path);
    if (!label) return std::unexpected(label.error());
    set_.windows_.push_back({std::move(scope), first, last, *label});
    return {};
  }

  Result<> read_nab(simdjson::dom::object object, const std::string& path) {
    if (auto good = take_form(LabelSet::Form::kWindows, path); !good) return good;
    for (const auto field : object) {
      std::string scope = LabelSet::scope_of(field.key);
      set_.scopes_[scope].complete = true;
      for (const simdjson::dom::element window : simdjson::dom::array(field.value.get_array().value_unsafe())) {
        std::string_view from, to;
        simdjson::dom::array ends;
        std::optional<std::int64_t> first, last;
        if (window.get(ends) == simdjson::SUCCESS && ends.size() == 2 && ends.at(0).get(from) == simdjson::SUCCESS &&
            ends.at(1).get(to) == simdjson::SUCCESS) {
          first = parse_iso_time_ms(from);
          last = parse_iso_time_ms(to);
        }
        if (!first || !last || *first > *last) {
          return error(
              ErrorCode::kInvalidArgument,
              fmt::format("{}: \"{}\": window {}; expected [\"start\", \"end\"], two ISO times, the start first", path,
                          field.key, simdjson::minify(window)));
        }
        if (auto good = add_window(scope, *first, *last, "", path); !good) return good;
      }
    }
    return {};
  }

  Result<> read_smd(std::string_view text, const std::string& path) {
    if (auto good = take_form(LabelSet::Form::kRows, path); !good) return good;
    const std::string scope = LabelSet::scope_of(path);
    set_.scopes_[scope].complete = true;
    std::size_t line_number = 0;
    while (!text.empty()) {
      const std::size_t newline = text.find('\n');
      std::string_view line = text.substr(0, newline);
      text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
      ++line_number;
      while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
      if (line.empty()) continue;
      std::int64_t first = 0, end = 0;
      if (!parse_smd_line(line, first, end) || first >= end) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}:{}: '{}'; expected FIRST-END:DIMENSION,..., such as 246-252:1,2,3", path,
                                 line_number, line.substr(0, 60)));
      }
      if (auto good = add_window(scope, first, end - 1, "", path); !good) return good;
    }
    return {};
  }

  Result<> read_smap(const LabelTable& table, const std::string& path) {
    if (auto good = take_form(LabelSet::Form::kRows, path); !good) return good;
    const auto name = static_cast<std::size_t>(table.column("chan_id"));
    const auto ranges = static_cast<std::size_t>(table.column("anomaly_sequences"));
    simdjson::dom::parser parser;
    for (std::size_t i = 0; i < table.records.size(); ++i) {
      const auto& record = table.records[i];
      set_.scopes_[record[name]].complete = true;
      simdjson::dom::array list;
      bool good = parser.parse(simdjson::padded_string(record[ranges])).get(list) == simdjson::SUCCESS;
      if (good) {
        for (const simdjson::dom::element range : list) {
          std::int64_t first = 0, last = 0;
          good = good && range.at(0).get(first) == simdjson::SUCCESS && range.at(1).get(last) == simdjson::SUCCESS &&
                 first <= last;
          if (!good) break;
          if (auto added = add_window(record[name], first, last, "", path); !added) return added;
        }
      }
      if (!good) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}:{}: anomaly_sequences '{}'; expected [[first, last], ...]", path, table.lines[i],
                                 record[ranges].substr(0, 60)));
      }
    }
    return {};
  }

  // The column that an option names, or the first of the usual names; -1 if none. Errors: the option's column is not
  // there.
  static Result<int> find_column(const LabelTable& table, const std::string& path, const std::string& asked,
                                 std::initializer_list<std::string_view> usual) {
    if (!asked.empty()) {
      const int at = table.column(asked);
      if (at < 0) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}:1: no column '{}'; the file has {}", path, asked, fmt::join(table.columns, ", ")));
      }
      return at;
    }
    for (const std::string_view name : usual) {
      if (const int at = table.column(name); at >= 0) return at;
    }
    return -1;
  }

  Result<> read_table(const LabelTable& table, const std::string& path) {
    if (table.column("chan_id") >= 0 && table.column("anomaly_sequences") >= 0) return read_smap(table, path);
    const auto type = find_column(table, path, options_.type, {"type"});
    if (!type) return std::unexpected(type.error());
    const int scope = std::max(table.column("entity"), table.column("file"));
    for (const bool by_row : {false, true}) {
      const int first = table.column(by_row ? "first" : "start");
      const int last = table.column(by_row ? "last" : "end");
      if (scope >= 0 && first >= 0 && last >= 0) {
        return read_windows(table, path, by_row, scope, first, last, *type);
      }
    }
    const auto id = find_column(table, path, options_.join, {"id", "event_id", "ID"});
    if (!id) return std::unexpected(id.error());
    if (*id < 0) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}:1: columns {}; expected the events' id column (name it with join), or entity,start,end, or "
                      "file,first,last",
                      path, fmt::join(table.columns, ", ")));
    }
    return read_ids(table, path, *id, *type);
  }

  Result<> read_windows(const LabelTable& table, const std::string& path, bool by_row, int scope, int first, int last,
                        int type) {
    if (auto good = take_form(by_row ? LabelSet::Form::kRows : LabelSet::Form::kWindows, path); !good) return good;
    const bool is_file = scope == table.column("file");
    for (std::size_t i = 0; i < table.records.size(); ++i) {
      const auto& record = table.records[i];
      const std::string& from = record[static_cast<std::size_t>(first)];
      const std::string& to = record[static_cast<std::size_t>(last)];
      const auto a = by_row ? parse_integer(from) : parse_time(from);
      const auto b = by_row ? parse_integer(to) : parse_time(to);
      if (!a || !b || *a > *b || (by_row && *a < 0)) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}:{}: {} '{}' to '{}'; expected {}, the first not after the last", path,
                                 table.lines[i], by_row ? "rows" : "window", from, to,
                                 by_row ? "two row numbers from 0" : "two times (ISO 8601 or Unix numbers)"));
      }
      const std::string& name = record[static_cast<std::size_t>(scope)];
      if (auto good = add_window(is_file ? LabelSet::scope_of(name) : name, *a, *b,
                                 type < 0 ? std::string_view() : record[static_cast<std::size_t>(type)], path);
          !good) {
        return good;
      }
    }
    return {};
  }

  Result<> read_ids(const LabelTable& table, const std::string& path, int id, int type) {
    if (auto good = take_form(LabelSet::Form::kIds, path); !good) return good;
    const auto truth = find_column(table, path, options_.label, {"label", "is_anomaly", "is_fraud"});
    if (!truth) return std::unexpected(truth.error());
    set_.ids_.reserve(set_.ids_.size() + table.records.size());
    for (std::size_t i = 0; i < table.records.size(); ++i) {
      const auto& record = table.records[i];
      const std::string& key = record[static_cast<std::size_t>(id)];
      if (key.empty()) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}:{}: no value for '{}'; expected an event id", path, table.lines[i],
                                 table.columns[static_cast<std::size_t>(id)]));
      }
      bool anomalous = true;
      if (*truth >= 0) {
        const auto said = parse_label(record[static_cast<std::size_t>(*truth)]);
        if (!said) {
          return error(
              ErrorCode::kInvalidArgument,
              fmt::format("{}:{}: '{}' is '{}'; expected 0 or 1", path, table.lines[i],
                          table.columns[static_cast<std::size_t>(*truth)], record[static_cast<std::size_t>(*truth)]));
        }
        anomalous = *said;
      }
      Label label = kNormal;
      if (anomalous) {
        const auto typed = type_label(type < 0 ? std::string_view() : record[static_cast<std::size_t>(type)], path);
        if (!typed) return std::unexpected(typed.error());
        label = *typed;
      }
      // An id that is listed twice (two chargebacks of one payment) is anomalous if either line says so.
      Label& known = set_.ids_.emplace(hash64(key), label).first->second;
      if (known == kNormal) known = label;
    }
    return {};
  }

  const LabelOptions& options_;
  LabelSet set_;
  bool any_ = false;
};

Result<LabelSet> LabelSet::load(const std::string& path, const LabelOptions& options) {
  std::error_code failure;
  std::vector<std::string> files;
  if (std::filesystem::is_directory(path, failure)) {
    for (std::filesystem::directory_iterator at(path, failure), end; !failure && at != end; at.increment(failure)) {
      if (at->is_regular_file(failure)) files.push_back(at->path().string());
    }
    std::ranges::sort(files);
    if (failure || files.empty()) {
      return error(ErrorCode::kNotFound, fmt::format("{}: no file of labels in this directory", path));
    }
  } else {
    files.push_back(path);
  }
  LabelReader reader(options);
  for (const std::string& file : files) {
    const auto text = read_label_file(file);
    if (!text) return std::unexpected(text.error());
    if (auto good = reader.read(*text, file); !good) return std::unexpected(good.error());
  }
  return reader.finish();
}

Result<LabelSet> LabelSet::parse(std::string_view text, const std::string& path, const LabelOptions& options) {
  LabelReader reader(options);
  if (auto good = reader.read(text, path); !good) return std::unexpected(good.error());
  return reader.finish();
}

std::string LabelSet::scope_of(std::string_view path) {
  if (const std::size_t slash = path.rfind('/'); slash != std::string_view::npos) path.remove_prefix(slash + 1);
  if (path.ends_with(".gz")) path.remove_suffix(3);
  if (const std::size_t dot = path.rfind('.'); dot != std::string_view::npos && dot > 0) path = path.substr(0, dot);
  return std::string(path);
}

RowLabel LabelSet::by_id(std::string_view id) const {
  if (form_ != Form::kIds) return {};
  const auto at = ids_.find(hash64(id));
  if (at != ids_.end()) return {at->second, -1};
  return {complete_ ? kNormal : kUnlabelled, -1};
}

RowLabel LabelSet::in_windows(std::string_view scope, std::int64_t at) const {
  const auto found = scopes_.find(std::string(scope));
  if (found == scopes_.end()) return {complete_ ? kNormal : kUnlabelled, -1};
  const Scope& known = found->second;
  const auto after =
      std::ranges::upper_bound(known.windows, at, {}, [&](std::uint32_t i) { return windows_[i].first; });
  std::int32_t hit = -1;
  for (auto i = static_cast<std::size_t>(after - known.windows.begin()); i > 0 && known.last_max[i - 1] >= at; --i) {
    if (windows_[known.windows[i - 1]].last >= at) hit = static_cast<std::int32_t>(known.windows[i - 1]);
  }
  if (hit >= 0) return {windows_[static_cast<std::size_t>(hit)].label, hit};
  return {complete_ || known.complete ? kNormal : kUnlabelled, -1};
}

RowLabel LabelSet::by_time(std::string_view scope, std::int64_t time_ms) const {
  return form_ == Form::kWindows ? in_windows(scope, time_ms) : RowLabel{};
}

RowLabel LabelSet::by_row(std::string_view scope, std::int64_t row) const {
  return form_ == Form::kRows ? in_windows(scope, row) : RowLabel{};
}

RowLabel LabelSet::find(std::string_view id, std::string_view file_key, std::string_view entity, std::int64_t time_ms,
                        std::int64_t row) const {
  if (form_ == Form::kIds) return by_id(id);
  const std::string_view scope = !file_key.empty() && names_scope(file_key) ? file_key : entity;
  return in_windows(scope, form_ == Form::kRows ? row : time_ms);
}

}  // namespace alcedo::evaluate
