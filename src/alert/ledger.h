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
#include "core/time.h"
#include "core/verdict.h"

namespace alcedo::alert {

/// One message to one receiver, in order within its incident.
struct Delivery {
  std::int64_t id = 0;
  std::string route;
  std::string incident;  // dedup key
  IncidentChange::Kind action = IncidentChange::Kind::kOpen;
  std::string body;  // what is sent: a PagerDuty event without its routing key (a secret), or one NDJSON line
  int attempts = 0;
  std::int64_t next_attempt_ms = 0;
  std::int64_t due_ns = 0;    // of the event that caused an open, with Options.keep_due; 0 otherwise or after a restart
  std::int64_t revision = 0;  // grows when newer content replaces an unsent body: what is marked is what was sent
};

struct IncidentRow {
  IncidentChange latest;
  std::string route;
  std::string status;           // "open", "resolved"
  std::int64_t changed_ms = 0;  // of the ledger's clock, at the latest change
};

/// SQLite (WAL, synchronous FULL). A commit is durable when it returns. Changes at or below the committed position are
/// ignored, so a replay from an earlier position pages nobody again; nor does an update or a resolve of an incident
/// that the ledger does not know, nor any change of a resolved one (a trigger after a resolve would be a new page).
/// Each is counted as ignored.
///
/// Routes   The first route whose conditions hold takes an incident and keeps it, whatever its impact becomes; a
/// default route takes
///          the rest. When a route is gone from the configuration, what it had not sent moves to the route that fits
///          now.
/// Bounds   At most two unsent deliveries an incident (open or update, then resolve). Resolved incidents with nothing
/// left to send are
///          deleted after retention_days, or earlier beyond incidents_max.
/// Owner    One process at a time: a lock on PATH.lock, which holds its pid.
/// Cost     commit(): one fsync a call with changes, about 20 us a change; without changes no fsync, see there.
/// Threads  All calls may come from any thread; they are serialised. committed_sequence() never waits.
class Ledger {
 public:
  struct Options {
    std::string path;  // database file; ":memory:" for tests
    std::string pipeline;
    std::vector<RouteSpec> routes;
    bool keep_due = false;
    int retention_days = 30;
    std::uint64_t incidents_max = 1'000'000;
    std::function<std::int64_t()> now_ms = wall_clock_ms;  // for changed_ms and retention only
  };
  /// Errors: kCorrupt, kIo, kUnavailable (another process has it; disk full), kInvalidArgument (another pipeline's
  /// ledger, a newer version's, no route for some incidents), each naming the file and what to do.
  static Result<std::unique_ptr<Ledger>> open(Options options);
  virtual ~Ledger() = default;

  /// Takes changes in position order, and `sequence`: everything up to and including it has been seen. All or nothing:
  /// after an error the same call can be made again. Returns how many were new. A change beyond `sequence` or without a
  /// dedup key is a bug. Without changes the position moves in memory at once and in the file, unsynced, each 100 ms
  /// and at the end: what a crash forgets of it has no page to repeat. Errors: kUnavailable (disk full, locked),
  /// kCorrupt, kIo.
  virtual Result<std::size_t> commit(std::span<const IncidentChange> changes, std::uint64_t sequence) = 0;
  /// The highest sequence committed; 0 at first, so sequences count from 1.
  virtual std::uint64_t committed_sequence() const = 0;

  /// The next deliveries of a route that may leave at `now_ms`: at most one an incident; opens first, since a first
  /// page must not wait behind the updates of others, and then oldest first. While earlier steps of an incident are
  /// unsent, later updates are coalesced into the newest. Reads only: asked again, it answers the same until something
  /// is marked or committed.
  virtual Result<std::vector<Delivery>> due(const std::string& route, std::int64_t now_ms, std::size_t limit) = 0;
  /// Of an unknown delivery: nothing. What was replaced while it was being sent stays, as an update. The record is
  /// durable when the incident has a next step waiting; otherwise it survives a kill, and the next commit makes it
  /// survive a power cut.
  virtual Result<> mark_sent(const Delivery& delivery, std::int64_t now_ms) = 0;
  /// The same for many, in one transaction.
  virtual Result<> mark_all_sent(std::span<const Delivery> deliveries, std::int64_t now_ms) = 0;
  virtual Result<> mark_retry(const Delivery& delivery, std::int64_t next_attempt_ms, const std::string& why) = 0;
  /// Permanent: kept with its reason, never retried. A failed open fails the incident's later steps too.
  virtual Result<> mark_failed(const Delivery& delivery, const std::string& why) = 0;

  struct Counts {
    std::uint64_t incidents = 0;  // in the ledger now, and of these
    std::uint64_t open = 0;
    std::uint64_t pending = 0;  // deliveries unsent now
    std::uint64_t sent = 0;     // deliveries, and below: since the ledger began
    std::uint64_t failed = 0;
    std::uint64_t ignored = 0;    // changes
    std::uint64_t coalesced = 0;  // deliveries replaced by newer content before they left
  };
  virtual Result<Counts> counts() const = 0;
  /// Newest first, by their opening.
  virtual Result<std::vector<IncidentRow>> incidents(std::size_t limit) const = 0;
};

}  // namespace alcedo::alert
