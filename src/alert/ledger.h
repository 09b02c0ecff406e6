// The one component that decides whether a page leaves: incidents, the position they came from, and an ordered outbox.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "alert/route.h"
#include "core/result.h"
#include "core/verdict.h"

namespace alcedo::alert {

/// One message to one receiver, in order within its incident.
struct Delivery {
  std::int64_t id = 0;
  std::string route;
  std::string incident;      // dedup key
  IncidentChange::Kind action = IncidentChange::Kind::kOpen;
  std::string body;          // what is sent: a PagerDuty event or one NDJSON line
  int attempts = 0;
  std::int64_t next_attempt_ms = 0;
  std::int64_t due_ns = 0;   // of the event that caused an open; 0 otherwise or after a restart
};

struct IncidentRow {
  IncidentChange latest;
  std::string route;
  std::string status;  // "open", "resolved"
  std::int64_t changed_ms = 0;
};

/// SQLite (WAL, synchronous FULL). A commit is durable when it returns. Changes at or below the committed position are ignored, so a
/// replay from an earlier position pages nobody again.
///
/// Threads  All calls may come from any thread; they are serialised.
class Ledger {
 public:
  struct Options {
    std::string path;  // database file; ":memory:" for tests
    std::string pipeline;
    std::vector<RouteSpec> routes;
    bool keep_due = false;
  };
  /// Errors: kCorrupt, kIo, kInvalidArgument (another pipeline's ledger), each naming the file and what to do.
  static Result<std::unique_ptr<Ledger>> open(Options options);
  virtual ~Ledger() = default;

  /// Takes changes in position order, and `sequence`: everything up to and including it has been seen. Returns how many were new.
  virtual Result<std::size_t> commit(std::span<const IncidentChange> changes, std::uint64_t sequence) = 0;
  /// The highest sequence committed; 0 at first.
  virtual std::uint64_t committed_sequence() const = 0;

  /// The next deliveries of a route that may leave at `now_ms`: at most one an incident, oldest first. While earlier steps of an
  /// incident are unsent, later updates are coalesced into the newest.
  virtual Result<std::vector<Delivery>> due(const std::string& route, std::int64_t now_ms, std::size_t limit) = 0;
  virtual Result<> mark_sent(const Delivery& delivery, std::int64_t now_ms) = 0;
  virtual Result<> mark_retry(const Delivery& delivery, std::int64_t next_attempt_ms, const std::string& why) = 0;
  /// Permanent: kept with its reason, never retried. A failed open fails the incident's later steps too.
  virtual Result<> mark_failed(const Delivery& delivery, const std::string& why) = 0;

  struct Counts {
    std::uint64_t incidents = 0, open = 0, pending = 0, sent = 0, failed = 0, ignored = 0, coalesced = 0;
  };
  virtual Result<Counts> counts() const = 0;
  /// Newest first.
  virtual Result<std::vector<IncidentRow>> incidents(std::size_t limit) const = 0;
};

}  // namespace alcedo::alert
