// Opens lazily, parks the least recently used beyond the limit, and finds rotation by comparing the path's inode with
// the open one.
#include "ingest/file_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "core/check.h"
#include "core/time.h"
#include "ingest/csv_header.h"

namespace alcedo::ingest {
namespace {

constexpr std::size_t kOpenFilesMax = 256;
constexpr std::size_t kBatchBytesMax = 8 << 20;  // one read() adds no more than this and a record
constexpr std::size_t kFaultsShown = 10;
constexpr std::chrono::milliseconds kStoppingPoll{100};

contract::Format format_of(std::string_view path) {
  if (path.ends_with(".gz")) path.remove_suffix(3);
  return path.ends_with(".csv") || path.ends_with(".tsv") ? contract::Format::kCsv : contract::Format::kJson;
}

}  // namespace

Result<std::vector<std::string>> expand_path(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 || path.find_first_of("*?[") == std::string::npos) return std::vector{path};
  glob_t found{};
  const int code = ::glob(path.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (code == 0 ? found.gl_pathc : 0));
  ::globfree(&found);
  std::erase_if(paths, [](const std::string& match) {
    struct stat of_match{};
    return ::stat(match.c_str(), &of_match) == 0 && S_ISDIR(of_match.st_mode);
  });
  if (paths.empty()) {
    return error(ErrorCode::kNotFound,
                 fmt::format("{}: no file has a name of this pattern; quote it if the shell changed it", path));
  }
  std::ranges::sort(paths);
  return paths;
}

Result<std::unique_ptr<FileSource>> FileSource::create(const std::vector<std::string>& paths, Options options) {
  if (paths.empty()) return error(ErrorCode::kInvalidArgument, "no file is named");
  if (!options.now_ms) options.now_ms = wall_clock_ms;
  std::unique_ptr<FileSource> source(new FileSource(std::move(options)));
  const Options& chosen = source->options_;
  std::vector<Error> faults;
  const auto refuse = [&](Error fault) { faults.push_back(std::move(fault)); };

  std::map<std::string, std::size_t, std::less<>> by_key;
  auto& partitions = source->partitions_;
  for (const std::string& given : paths) {
    auto expanded = expand_path(given);
    if (!expanded) {
      refuse(expanded.error());
      continue;
    }
    for (std::string& path : *expanded) {
      const contract::Format format = chosen.format.value_or(format_of(path));
      const auto [it, is_new] = by_key.try_emplace(contract::file_key(path), partitions.size());
      if (is_new) {
        partitions.emplace_back();
        partitions.back().info.file = it->first;
        partitions.back().info.format = format;
        if (format == contract::Format::kCsv) partitions.back().info.header = chosen.columns;
      }
      Partition& partition = partitions[it->second];
      if (partition.info.format != format) {
        refuse(
            {ErrorCode::kInvalidArgument,
             fmt::format(
                 "{} and {} would be one partition \"{}\" but have different formats; give the format, or rename one",
                 partition.paths.front(), path, it->first)});
        continue;
      }
      partition.paths.push_back(std::move(path));
    }
  }

  bool sizes_known = !chosen.follow;
  for (Partition& partition : partitions) {
    const bool has_header = partition.info.format == contract::Format::kCsv && chosen.columns.empty();
    std::vector<std::string> with_content;
    for (const std::string& path : partition.paths) {
      auto opened = FileReader::open(path, false);
      if (!opened) {
        refuse(opened.error());
        continue;
      }
      auto reader = std::move(*opened);
      sizes_known = sizes_known && reader->regular();
      source->bytes_total_ += reader->size_bytes();
      if (!reader->regular() && !with_content.empty()) {
        refuse({ErrorCode::kInvalidArgument,
                fmt::format("{}: a pipe must be the first of the files that are partition \"{}\"", path,
                            partition.info.file)});
        continue;
      }
      if (!has_header) {
        with_content.push_back(path);
        // A pipe cannot be opened twice: its writer would find no reader in between.
        if (!reader->regular()) source->keep_pipe(partition, std::move(reader));
        continue;
      }
      auto header = source->read_header(partition, std::move(reader));
      if (!header) {
        refuse(header.error());
      } else if (header->empty()) {
        if (chosen.follow) {
          refuse({ErrorCode::kNotReady,
                  fmt::format("{}: has no header line yet, so its columns are unknown; write it first, or name "
                              "the columns",
                              path)});
        }
      } else if (partition.info.header.empty() || partition.info.header == *header) {
        partition.info.header = std::move(*header);
        with_content.push_back(path);
      } else {
        refuse({ErrorCode::kInvalidArgument,
                fmt::format("{}: its header ({}) is not that of {} ({}), but both are partition \"{}\"", path,
                            fmt::join(*header, ","), with_content.front(), fmt::join(partition.info.header, ","),
                            partition.info.file)});
      }
    }
    partition.paths = std::move(with_content);
  }
  if (chosen.follow && partitions.size() > kOpenFilesMax) {
    refuse({ErrorCode::kInvalidArgument,
            fmt::format("{} files cannot be followed at once; at most {}", partitions.size(), kOpenFilesMax)});
  }
  if (!faults.empty()) {
    std::string message = faults.front().message;
    for (std::size_t i = 1; i < std::min(faults.size(), kFaultsShown); ++i) message += "\n" + faults[i].message;
    if (faults.size() > kFaultsShown) message += fmt::format("\nand {} more", faults.size() - kFaultsShown);
    return error(faults.front().code, std::move(message));
  }
  std::erase_if(partitions, [](const Partition& partition) { return partition.paths.empty(); });
  if (!sizes_known) source->bytes_total_ = 0;
  return source;
}

void FileSource::keep_pipe(Partition& partition, std::unique_ptr<FileReader> reader) {
  partition.reader = std::move(reader);
  partition.splitter.emplace(partition.info.format, options_.delimiter);
  ++num_open_;
}

// The header of one file; empty if it holds no record.
Result<std::vector<std::string>> FileSource::read_header(Partition& partition, std::unique_ptr<FileReader> reader) {
  const std::string& path = reader->path();
  contract::RecordSplitter splitter(partition.info.format, options_.delimiter);
  std::string_view record;
  bool too_long = false;
  bool ended = false;
  while (!splitter.next(record, too_long)) {
    if (ended) return std::vector<std::string>{};
    std::string_view bytes;
    auto state = reader->read(bytes);
    if (!state) return std::unexpected(state.error());
    if (*state == FileReader::State::kWait) {
      if (options_.stopping != nullptr && options_.stopping->load()) {
        return error(ErrorCode::kUnavailable, fmt::format("{}: stopped while waiting for its header line", path));
      }
      interrupt_.wait_readable(reader->fd(), kStoppingPoll);
    }
    splitter.feed(bytes);
    ended = *state == FileReader::State::kEnd;
    if (ended) splitter.finish();
  }
  if (too_long) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: its first line is over 1 MB and cannot be a header; is it CSV?", path));
  }
  auto header = contract::split_csv_header(record, options_.delimiter);
  if (header.size() == 1 && header.front().find_first_of("\t;") != std::string::npos) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: its header is one column, \"{}\"; set the delimiter ({}) if it has more", path,
                             header.front(), header.front().contains('\t') ? "tab" : "\";\""));
  }
  if (!reader->regular()) {
    keep_pipe(partition, std::move(reader));
    partition.splitter = std::move(splitter);
    partition.file_ended = ended;
  }
  return header;
}

const contract::PartitionInfo& FileSource::partition(std::int32_t partition) const {
  return partitions_.at(static_cast<std::size_t>(partition)).info;
}

Source::Progress FileSource::progress() const {
  if (bytes_total_ == 0) return {};
  std::uint64_t done = bytes_ended_;
  for (const Partition& partition : partitions_) {
    if (partition.reader) done += partition.reader->position_bytes();
  }
  return {std::min(done, bytes_total_), bytes_total_};
}

void FileSource::close_reader(Partition& partition) {
  if (!partition.reader) return;
  bytes_ended_ += partition.reader->position_bytes();
  if (!partition.reader->parked()) --num_open_;
  partition.reader.reset();
}

void FileSource::make_room() {
  while (num_open_ >= kOpenFilesMax) {
    Partition* oldest = nullptr;
    for (Partition& partition : partitions_) {
      if (!partition.reader || partition.reader->parked() || !partition.reader->regular()) continue;
      if (oldest == nullptr || partition.last_used < oldest->last_used) oldest = &partition;
    }
    if (oldest == nullptr) return;  // pipes only: the system's own limit speaks then
    oldest->reader->park();
    --num_open_;
  }
}

Result<> FileSource::start_file(Partition& partition) {
  const bool grows = options_.follow && partition.path + 1 == partition.paths.size();
  make_room();
  auto opened = FileReader::open(partition.paths[partition.path], grows);
  if (!opened) return std::unexpected(opened.error());
  partition.reader = std::move(*opened);
  ++num_open_;
  partition.splitter.emplace(partition.info.format, options_.delimiter);
  partition.file_ended = false;
  partition.header_due = partition.info.format == contract::Format::kCsv && options_.columns.empty();
  return {};
}

Result<FileReader::State> FileSource::read_more(Partition& partition) {
  const bool was_parked = partition.reader->parked();
  if (was_parked) make_room();
  std::string_view bytes;
  auto state = partition.reader->read(bytes);
  if (was_parked && !partition.reader->parked()) ++num_open_;
  if (state && *state == FileReader::State::kData) partition.splitter->feed(bytes);
  return state;
}

// True: the record is a header line and no event.
bool FileSource::take_header(Partition& partition, std::string_view record) {
  partition.header_due = false;
  const HeaderMatch match = match_header(record, options_.delimiter, partition.info.header);
  if (match == HeaderMatch::kSame) return true;
  if (match == HeaderMatch::kNone && partition.begun_again) return false;
  partition.failure =
      Error{ErrorCode::kCorrupt, fmt::format("{}: its header is no longer the one that it had when it was opened ({})",
                                             partition.paths[partition.path], fmt::join(partition.info.header, ","))};
  return true;
}

bool FileSource::deliver(Partition& partition, std::int32_t number, RawBatch& out, std::size_t records_max) {
  const std::size_t records_before = out.size();
  const std::size_t bytes_before = out.size_bytes();
  const std::int64_t arrival_ms = options_.follow ? options_.now_ms() : options_.opened_ms;
  std::string_view record;
  bool too_long = false;
  while (out.size() - records_before < records_max && out.size_bytes() - bytes_before < kBatchBytesMax &&
         partition.splitter->next(record, too_long)) {
    if (partition.header_due && take_header(partition, record)) {
      if (partition.failure) break;
      continue;
    }
    RawRecord entry;
    entry.partition = number;
    entry.offset = partition.next_offset++;
    entry.arrival_ms = arrival_ms;
    out.append(record, entry);
  }
  return out.size() > records_before;
}

// At the end of a followed file: whether it was replaced or cut, so that there is something to read again.
Result<bool> FileSource::began_again(Partition& partition) {
  const std::string& path = partition.paths[partition.path];
  if (partition.reader->truncated()) {
    ++follow_counts_.truncations;
    // The unfinished line that stood there is gone with the rest of it.
    close_reader(partition);
    partition.rotating = false;
    if (auto started = start_file(partition); !started) return std::unexpected(started.error());
    partition.begun_again = true;
    return true;
  }
  if (partition.rotating) {
    // The old file was read to its end once more after the new one had content: nobody writes to it now.
    ++follow_counts_.rotations;
    partition.rotating = false;
    partition.file_ended = true;
    partition.begun_again = true;
    partition.splitter->finish();
    return true;
  }
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return false;  // between removal and creation
  const FileReader::Identity now{static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino)};
  if (now == partition.reader->identity() || info.st_size == 0) return false;
  partition.rotating = true;
  return true;
}

Result<ReadState> FileSource::read(std::int32_t number, RawBatch& out, std::size_t records_max,
                                   std::chrono::milliseconds wait) {
  Partition& partition = partitions_.at(static_cast<std::size_t>(number));
  partition.last_used = ++uses_;
  const std::int64_t until_ns = steady_ns() + wait.count() * 1'000'000;
  const auto fail = [&](const Error& failure) -> Result<ReadState> {
    partition.failure = Error(failure);
    close_reader(partition);
    partition.splitter.reset();
    return std::unexpected(*partition.failure);
  };
  while (true) {
    if (partition.failure) return fail(*partition.failure);
    if (partition.splitter && deliver(partition, number, out, records_max)) {
      out.pad();
      return ReadState::kMore;
    }
    if (partition.failure) return fail(*partition.failure);
    if (partition.ended || interrupt_.raised()) return ReadState::kEnd;
    if (records_max == 0) return ReadState::kMore;
    if (partition.file_ended) {
      close_reader(partition);
      partition.splitter.reset();
      partition.file_ended = false;
      // After a rotation the same path is opened again.
      const bool again = partition.begun_again && partition.path + 1 == partition.paths.size();
      if (!again && ++partition.path == partition.paths.size()) {
        partition.ended = true;
        return ReadState::kEnd;
      }
    }
    if (!partition.reader) {
      if (auto started = start_file(partition); !started) return fail(started.error());
    }
    auto state = read_more(partition);
    if (!state) return fail(state.error());
    if (*state == FileReader::State::kEnd) {
      partition.file_ended = true;
      partition.splitter->finish();
    }
    if (*state != FileReader::State::kWait) continue;

    if (partition.reader->regular()) {
      auto again = began_again(partition);
      if (!again) return fail(again.error());
      if (*again) continue;
    }
    const std::int64_t left_ms = (until_ns - steady_ns() + 999'999) / 1'000'000;
    if (left_ms <= 0) return ReadState::kIdle;
    if (partition.reader->regular()) {
      interrupt_.wait(std::chrono::milliseconds(std::min(left_ms, options_.follow_poll_ms)));
    } else {
      interrupt_.wait_readable(partition.reader->fd(), std::chrono::milliseconds(left_ms));
    }
  }
}

}  // namespace alcedo::ingest
