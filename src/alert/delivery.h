// Carries the ledger's outbox to the receivers: PagerDuty and files, one thread a route.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alert/alert_body.h"
#include "alert/ledger.h"

namespace alcedo::alert {

/// Runs until stop(). wake() after each commit: sending starts within a fraction of a millisecond.
///
/// Order    At most one delivery of an incident is under way, so an incident's steps arrive in order; different
/// incidents overlap
///          (8 calls in flight a PagerDuty route).
/// Policy   PagerDuty: 2xx is accepted. 429, 408, 3xx, 5xx and network faults are retried with growing, jittered delays
/// (from
///          retry_first_ms, doubling, at most 5 minutes; a Retry-After up to an hour is obeyed). From the third failure
///          in a row (calls that fail together count once) the whole route pauses and probes with one call at a time.
///          Other 4xx are permanent: the delivery is kept as failed. File: one NDJSON line a delivery, appended whole
///          and synced, mode 0600; a rotated file is opened anew; a full disk or any other failure is retried, at most
///          5 s later.
/// Limit    At most 120 calls in any minute for each routing key, in two steps: 60 at once, then one each half second.
/// The limit is
///          shared by this object's routes; another process with the same key is answered 429 by PagerDuty and waits.
/// Crash    Between a receiver's acceptance and its record the delivery is repeated, with the same dedup key (a file:
/// the same line).
///          The record of a step is durable before the next step of its incident leaves.
/// Clock    Retries count a steady clock from start(), so a step of the wall clock neither delays nor hurries a page.
/// Threads  start() and stop() by the owner; wake() and stats() from any.
class Deliverer {
 public:
  struct Options {
    std::uint64_t seed = 1;  // of the jitter
    std::int64_t retry_first_ms = 500;
    std::int64_t timeout_ms = 10'000;
    /// Called on the route's delivery thread after a receiver accepted and before that is recorded; `accepted_ns` on
    /// the steady clock. Routes may call it at the same time. It must not block.
    std::function<void(const Delivery&, std::int64_t accepted_ns)> on_accepted;
  };
  /// Resolves routing keys ("env:NAME", "file:PATH") and opens files. `ledger` must outlive the Deliverer.
  /// Errors: kInvalidArgument, kIo, naming the route.
  static Result<std::unique_ptr<Deliverer>> start(Ledger& ledger, std::vector<RouteSpec> routes, Options options);
  virtual ~Deliverer() = default;  // stops at once

  virtual void wake() = 0;
  /// Tries to empty the outbox for at most `patience_ms`, then ends the threads. What is left stays in the ledger.
  virtual void stop(std::int64_t patience_ms) = 0;
  struct Stats {
    std::uint64_t accepted = 0, retries = 0, failed = 0;
    std::string last_error;
  };
  virtual Stats stats() const = 0;
};

}  // namespace alcedo::alert
