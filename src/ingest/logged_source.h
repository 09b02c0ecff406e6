// A source that cannot be asked again (a pipe, this machine): everything goes to a local log first and is delivered
// from there.
#pragma once

#include <memory>
#include <utility>

#include "ingest/interrupt.h"
#include "ingest/local_log.h"
#include "ingest/source.h"

namespace alcedo::ingest {

/// One partition whose offsets are the log's. After a restart the kept records come first, then new ones.
class LoggedSource : public Source {
 public:
  std::size_t num_partitions() const override { return 1; }
  const contract::PartitionInfo& partition(std::int32_t partition) const override;
  Progress progress() const override { return {delivered_, 0}; }

  /// Errors: kUnavailable: the log's disk is full; nothing is lost, the same call works once there is space (it has
  /// waited `wait`). kIo, kCorrupt: of the log, for good.
  Result<ReadState> read(std::int32_t partition, RawBatch& out, std::size_t records_max,
                         std::chrono::milliseconds wait) override;
  Result<> skip_to(std::int32_t partition, std::int64_t offset, std::uint64_t fingerprint,
                   const std::atomic<bool>& stopping) override;
  std::int64_t fresh_offset() const override { return fresh_offset_; }
  Result<> sync() override { return log_->sync(); }
  void stop() override { interrupt_.raise(); }

  const LocalLog& log() const { return *log_; }

 protected:
  LoggedSource(std::unique_ptr<LocalLog> log, contract::PartitionInfo info)
      : log_(std::move(log)),
        info_(std::move(info)),
        reader_(std::make_unique<LocalLog::Reader>(log_->reader(0))),
        fresh_offset_(log_->end_offset()) {}

  /// Waits at most `wait` for something new and appends it to the log. kMore: something may have been appended.
  virtual Result<ReadState> take(std::chrono::milliseconds wait) = 0;

  std::unique_ptr<LocalLog> log_;
  contract::PartitionInfo info_;
  Interrupt interrupt_;

 private:
  std::unique_ptr<LocalLog::Reader> reader_;
  const std::int64_t fresh_offset_;
  std::uint64_t delivered_ = 0;
  bool ended_ = false;
};

}  // namespace alcedo::ingest
