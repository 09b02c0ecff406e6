// The one place that knows every scheme.
#include "ingest/open_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "core/nearest_name.h"
#include "core/time.h"
#include "ingest/file_source.h"
#include "ingest/host_source.h"
#include "ingest/simulate/simulate_source.h"
#include "ingest/stdin_source.h"

namespace alcedo::ingest {
namespace {

constexpr std::uint64_t kHostLogBytesMax = 128ULL << 20;  // some hours of this machine are plenty to begin again with
constexpr std::uint64_t kSegmentBytesMax = 64ULL << 20;

std::unexpected<Error> bad_option(const SourceUri& uri, std::string_view name, std::string_view value,
                                  std::string_view expected) {
  return error(ErrorCode::kInvalidArgument, fmt::format("{}: {}={} is not {}", uri.text, name, value, expected));
}

Result<> known_options_only(const SourceUri& uri, std::span<const std::string> known) {
  for (const auto& [name, value] : uri.options) {
    if (std::ranges::find(known, name) != known.end()) continue;
    const std::string nearest = nearest_name(name, known);
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: {}: has no option \"{}\"; known are {}{}", uri.text, uri.scheme, name, fmt::join(known, ", "),
                    nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest)));
  }
  return {};
}

Result<> no_path(const SourceUri& uri, std::string_view example) {
  if (uri.path.empty()) return {};
  return error(ErrorCode::kInvalidArgument,
               fmt::format("{}: {}: takes no path; write {}", uri.text, uri.scheme, example));
}

// How text is cut into records: the pipeline says it, the URI may say otherwise.
struct TextFormat {
  std::optional<contract::Format> format;
  char delimiter = ',';
  std::vector<std::string> columns;
};

Result<TextFormat> read_text_format(const SourceUri& uri, const OpenOptions& options) {
  TextFormat text{options.format, options.delimiter, options.columns};
  for (const auto& [name, value] : uri.options) {
    if (name == "format") {
      if (value != "json" && value != "csv" && value != "text") {
        return bad_option(uri, name, value, "json, csv or text");
      }
      text.format = value == "csv"    ? contract::Format::kCsv
                    : value == "text" ? contract::Format::kText
                                      : contract::Format::kJson;
    } else if (name == "delimiter") {
      const bool tab = value == "tab";
      if (!tab && (value.size() != 1 || value == "\"" || value == "\n" || value == "\r")) {
        return bad_option(uri, name, value, "one character, or tab");
      }
      text.delimiter = tab ? '\t' : value.front();
    } else if (name == "columns") {
      text.columns = contract::split_csv_header(value, ',');
    }
  }
  return text;
}

Result<FileSource::Options> read_file_options(const SourceUri& uri, const OpenOptions& options) {
  static const std::vector<std::string> kKnown = {"columns", "delimiter", "follow", "format"};
  if (auto fine = known_options_only(uri, kKnown); !fine) return std::unexpected(fine.error());
  auto text = read_text_format(uri, options);
  if (!text) return std::unexpected(text.error());
  FileSource::Options file;
  file.format = text->format;
  file.delimiter = text->delimiter;
  file.columns = std::move(text->columns);
  file.follow = options.follow;
  file.opened_ms = options.opened_ms;
  file.stopping = options.stopping;
  for (const auto& [name, value] : uri.options) {
    if (name != "follow") continue;
    if (value != "true" && value != "false") return bad_option(uri, name, value, "true or false");
    file.follow = value == "true";
  }
  return file;
}

Result<std::string> log_directory(const SourceUri& uri, const OpenOptions& options) {
  if (options.data_directory.empty()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: needs a data directory to keep what it reads; give --data DIR", uri.text));
  }
  return fmt::format("{}/log-{}", options.data_directory, uri.scheme);
}

LocalLog::Options log_options(std::uint64_t retention_bytes) {
  // Whole segments are dropped: with an eighth each, at least seven eighths of the bound are kept.
  return {std::clamp<std::uint64_t>(retention_bytes / 8, 1, kSegmentBytesMax), retention_bytes};
}

Result<std::unique_ptr<Source>> open_stdin(const SourceUri& uri, const OpenOptions& options) {
  static const std::vector<std::string> kKnown = {"columns", "delimiter", "format"};
  if (auto fine = known_options_only(uri, kKnown); !fine) return std::unexpected(fine.error());
  if (auto fine = no_path(uri, "stdin:"); !fine) return std::unexpected(fine.error());
  auto text = read_text_format(uri, options);
  if (!text) return std::unexpected(text.error());
  auto directory = log_directory(uri, options);
  if (!directory) return std::unexpected(directory.error());
  StdinSource::Options chosen;
  chosen.log_directory = std::move(*directory);
  chosen.format = text->format.value_or(contract::Format::kJson);
  chosen.delimiter = text->delimiter;
  chosen.columns = std::move(text->columns);
  chosen.log = log_options(options.log_bytes_max);
  chosen.stopping = options.stopping;
  return StdinSource::create(options.stdin_fd, std::move(chosen));
}

Result<std::unique_ptr<Source>> open_host(const SourceUri& uri, const OpenOptions& options) {
  static const std::vector<std::string> kKnown = {"instance", "interval", "proc"};
  if (auto fine = known_options_only(uri, kKnown); !fine) return std::unexpected(fine.error());
  if (auto fine = no_path(uri, "host:"); !fine) return std::unexpected(fine.error());
  auto directory = log_directory(uri, options);
  if (!directory) return std::unexpected(directory.error());
  HostSource::Options chosen;
  chosen.log_directory = std::move(*directory);
  chosen.log = log_options(std::min(options.log_bytes_max, kHostLogBytesMax));
  for (const auto& [name, value] : uri.options) {
    if (name == "instance") chosen.instance = value;
    if (name == "proc") chosen.proc_root = value;
    if (name != "interval") continue;
    auto interval_ms = parse_duration_ms(value);
    if (!interval_ms) return bad_option(uri, name, value, "a duration such as 1s or 500ms");
    chosen.interval_ms = *interval_ms;
  }
  return HostSource::create(std::move(chosen));
}

}  // namespace

Result<std::unique_ptr<Source>> open_source(const SourceUri& uri, const OpenOptions& options) {
  if (uri.scheme == "file") return open_files({uri}, options);
  if (uri.scheme == "stdin") return open_stdin(uri, options);
  if (uri.scheme == "host") return open_host(uri, options);
  if (uri.scheme == "simulate") return open_simulation(uri);
  return error(ErrorCode::kInvalidArgument, fmt::format("{}: unknown source \"{}:\"", uri.text, uri.scheme));
}

Result<std::unique_ptr<Source>> open_files(const std::vector<SourceUri>& uris, const OpenOptions& options) {
  if (uris.empty()) return error(ErrorCode::kInvalidArgument, "no file is named");
  std::vector<std::string> paths;
  for (const SourceUri& uri : uris) {
    if (uri.scheme != "file") {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}: only files can be read together", uri.text));
    }
    if (uri.options != uris.front().options) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: files that are read together need the same options as {}", uri.text, uris.front().text));
    }
    paths.push_back(uri.path);
  }
  auto chosen = read_file_options(uris.front(), options);
  if (!chosen) return std::unexpected(chosen.error());
  return FileSource::create(paths, std::move(*chosen));
}

}  // namespace alcedo::ingest
