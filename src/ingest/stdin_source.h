// Standard input as a source: `journalctl -fo json | alcedo run …`, `kcat … | alcedo run …`.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "contract/record_splitter.h"
#include "ingest/logged_source.h"

namespace alcedo::ingest {

/// Splits a descriptor's bytes into records and logs each before it is delivered. At the end of the input a last line
/// without a newline is a record; at stop() it is not, and everything before it is in the log.
///
/// CSV     The first line is the header, kept beside the log (`header.csv`), so that a restart knows it before any
/// input comes. A
///         first line after a restart that is the same header is skipped; a row is a row; another header is refused.
/// Limits  A pipe's backpressure is the only flow control: nothing is read while records wait to be delivered.
class StdinSource : public LoggedSource {
 public:
  struct Options {
    std::string log_directory;
    contract::Format format = contract::Format::kJson;
    char delimiter = ',';
    std::vector<std::string> columns;  // CSV without a header line
    LocalLog::Options log;
    std::function<std::int64_t()> now_ms;         // arrival; unset: the wall clock
    const std::atomic<bool>* stopping = nullptr;  // ends the wait for the header line in create()
  };

  /// `fd` is borrowed; its flags are left alone. Waits for the first line if a CSV header is needed and not kept yet.
  /// Errors: those of LocalLog::open(); kNotFound: the input ended before its header line; kIo.
  static Result<std::unique_ptr<StdinSource>> create(int fd, Options options);

 private:
  StdinSource(int fd, Options options, std::unique_ptr<LocalLog> log, contract::PartitionInfo info);
  Result<ReadState> take(std::chrono::milliseconds wait) override;
  Result<ReadState> read_input(std::chrono::milliseconds wait);
  void split_pending();
  Result<> learn_header();
  Result<> append_pending();

  int fd_;
  Options options_;
  contract::RecordSplitter splitter_;
  std::vector<char> chunk_;
  std::string pending_;                    // bytes of whole records that are not in the log yet
  std::vector<std::size_t> pending_ends_;  // where each of them ends
  std::string head_;                       // the first bytes, until it is known whether they are a byte order mark
  bool head_done_ = false;
  bool header_due_ = false;
  std::optional<Error> failure_;
  bool input_ended_ = false;
};

}  // namespace alcedo::ingest
