// This machine's own metrics as a stream: real input wherever alcedo runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ingest/host_metrics.h"
#include "ingest/logged_source.h"

namespace alcedo::ingest {

/// At each full interval of the wall clock, one JSON record a metric, all with that interval's time:
///   {"__name__":"disk_reads_total","instance":"web-1","device":"sda","value":12,"timestamp":1763900000000}
/// `device` is left out where a metric has none. A sample that is late (paused, asleep, disk full) is skipped and
/// counted, never made up for: two samples are always at least an interval apart.
class HostSource : public LoggedSource {
 public:
  struct Options {
    std::string log_directory;
    std::int64_t interval_ms = 1000;  // 100 ms to 1 h
    std::string proc_root = "/proc";
    std::string instance;                         // empty: the kernel's host name
    HostMetrics::StatFilesystem stat_filesystem;  // unset: statvfs()
    std::function<std::int64_t()> now_ms;         // unset: the wall clock
    LocalLog::Options log;
  };

  /// Takes a first sample, unseen, so that ratios are there from the first record on.
  /// Errors: those of LocalLog::open(); kInvalidArgument for the interval; kNotFound if the proc tree has nothing to
  /// read.
  static Result<std::unique_ptr<HostSource>> create(Options options);

  std::uint64_t samples_skipped() const { return samples_skipped_; }

 private:
  HostSource(Options options, std::unique_ptr<LocalLog> log, contract::PartitionInfo info);
  Result<ReadState> take(std::chrono::milliseconds wait) override;

  Options options_;
  HostMetrics metrics_;
  std::int64_t next_due_ms_ = 0;
  std::uint64_t samples_skipped_ = 0;
};

}  // namespace alcedo::ingest
