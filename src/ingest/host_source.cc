// Sleeps until the next full interval; whatever happened to the clock meanwhile, the next due time is computed from
// now.
#include "ingest/host_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/time.h"

namespace alcedo::ingest {
namespace {

constexpr std::int64_t kIntervalMsMin = 100;

std::string record_json(const HostMetrics::Sample& sample, std::string_view instance, std::int64_t time_ms) {
  JsonWriter json;
  json.begin_object().field("__name__", sample.name).field("instance", instance);
  // Always there, if empty: a key with a missing part is no key, and CPU and memory would have no series.
  json.field("device", std::string_view(sample.device));
  json.field("value", sample.value).field("timestamp", time_ms).end_object();
  return json.take();
}

}  // namespace

HostSource::HostSource(Options options, std::unique_ptr<LocalLog> log, contract::PartitionInfo info)
    : LoggedSource(std::move(log), std::move(info)),
      options_(std::move(options)),
      metrics_(options_.proc_root, options_.stat_filesystem) {}

Result<std::unique_ptr<HostSource>> HostSource::create(Options options) {
  if (options.interval_ms < kIntervalMsMin || options.interval_ms > kHourMs) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("host: the interval must be from {} to 1h, not {}", format_duration(kIntervalMsMin),
                             format_duration(options.interval_ms)));
  }
  if (!options.now_ms) options.now_ms = wall_clock_ms;
  auto log = LocalLog::open(options.log_directory, options.log);
  if (!log) return std::unexpected(log.error());
  std::unique_ptr<HostSource> source(new HostSource(std::move(options), std::move(*log), {}));
  if (source->options_.instance.empty()) source->options_.instance = source->metrics_.host_name();
  if (source->metrics_.sample().empty()) {
    return error(
        ErrorCode::kNotFound,
        fmt::format("host: nothing can be read in {}; this source needs Linux with its proc file system mounted",
                    source->options_.proc_root));
  }
  const std::int64_t interval_ms = source->options_.interval_ms;
  source->next_due_ms_ = (source->options_.now_ms() / interval_ms + 1) * interval_ms;
  return source;
}

Result<ReadState> HostSource::take(std::chrono::milliseconds wait) {
  if (interrupt_.raised()) return ReadState::kEnd;
  const std::int64_t interval_ms = options_.interval_ms;
  std::int64_t now_ms = options_.now_ms();
  // A clock that was set back would otherwise silence this source for as long.
  if (next_due_ms_ - now_ms > interval_ms) next_due_ms_ = (now_ms / interval_ms + 1) * interval_ms;
  if (now_ms < next_due_ms_) {
    interrupt_.wait(std::min(wait, std::chrono::milliseconds(next_due_ms_ - now_ms)));
    if (interrupt_.raised()) return ReadState::kEnd;
    now_ms = options_.now_ms();
    if (now_ms < next_due_ms_) return ReadState::kIdle;
  }
  const std::int64_t time_ms = now_ms / interval_ms * interval_ms;
  samples_skipped_ += static_cast<std::uint64_t>((time_ms - next_due_ms_) / interval_ms);
  next_due_ms_ = time_ms + interval_ms;

  const std::vector<HostMetrics::Sample> samples = metrics_.sample();
  std::vector<std::string> records;
  records.reserve(samples.size());
  for (const HostMetrics::Sample& sample : samples) records.push_back(record_json(sample, options_.instance, time_ms));
  const std::vector<std::string_view> views(records.begin(), records.end());
  if (auto appended = log_->append(views, now_ms); !appended) {
    ++samples_skipped_;
    return std::unexpected(appended.error());
  }
  return ReadState::kMore;
}

}  // namespace alcedo::ingest
