// A URI as typed on the command line -> the source that it means.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "contract/events_spec.h"
#include "ingest/source.h"

namespace alcedo::ingest {

/// What sources need to know beside their URI. Options in the URI go before these.
struct OpenOptions {
  std::string data_directory;  // local logs of stdin: and host: are kept under it, in log-stdin and log-host
  std::optional<contract::Format> format;  // from EventsSpec: format, delimiter, columns
  char delimiter = ',';
  std::vector<std::string> columns;
  bool follow = false;                          // files are followed
  std::int64_t opened_ms = 0;                   // arrival time of what stands in files
  std::uint64_t log_bytes_max = 1024ULL << 20;  // retention of a local log
  int stdin_fd = 0;
  const std::atomic<bool>* stopping = nullptr;  // ends waiting for a CSV header from a pipe
};

/// Options of a URI, where a scheme takes any:
///   file:PATH     follow=true|false, format=json|csv|text, delimiter=tab|CHARACTER, columns=a,b,c
///   stdin:        format=json|csv|text, delimiter=…, columns=…
///   host:         interval=1s, proc=/proc, instance=NAME
///   simulate:     see simulate/simulate_source.h
/// Errors: kInvalidArgument: an option that the scheme does not know, with the nearest that it does, or a value out of
/// range; and those of the source's own create().
Result<std::unique_ptr<Source>> open_source(const SourceUri& uri, const OpenOptions& options);

/// Several file URIs (`--events A B C`) as one source, a partition each. All must be file: URIs with the same options.
Result<std::unique_ptr<Source>> open_files(const std::vector<SourceUri>& uris, const OpenOptions& options);

}  // namespace alcedo::ingest
