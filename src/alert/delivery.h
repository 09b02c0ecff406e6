// Carries the ledger's outbox to the receivers: PagerDuty and files, one thread a route.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "alert/ledger.h"

namespace alcedo::alert {

/// Runs until stop(). Retries with growing, jittered delays (at most 5 minutes; Retry-After is obeyed), in order per incident; 400
/// is permanent. wake() after each commit.
///
/// Threads  start() and stop() by the owner; wake() and stats() from any.
class Deliverer {
 public:
  struct Options {
    std::uint64_t seed = 1;               // of the jitter
    std::int64_t retry_first_ms = 500;
    std::int64_t timeout_ms = 10'000;
    /// Called on the delivery thread after a receiver accepted; `accepted_ns` on the steady clock.
    std::function<void(const Delivery&, std::int64_t accepted_ns)> on_accepted;
  };
  /// Resolves routing keys ("env:NAME", "file:PATH") and opens files. Errors: kInvalidArgument, kIo, naming the route.
  static Result<std::unique_ptr<Deliverer>> start(Ledger& ledger, std::vector<RouteSpec> routes, Options options);
  virtual ~Deliverer() = default;  // stops

  virtual void wake() = 0;
  /// Tries to empty the outbox for at most `patience_ms`, then ends the threads. What is left stays in the ledger.
  virtual void stop(std::int64_t patience_ms) = 0;
  struct Stats {
    std::uint64_t accepted = 0, retries = 0, failed = 0;
    std::string last_error;
  };
  virtual Stats stats() const = 0;
};

/// The body of a PagerDuty Events API v2 call for a change: lengths enforced, whole body at most 512 KB, cuts said.
std::string pagerduty_body(const IncidentChange& change, const std::string& routing_key);

/// One line of the alerts file, without the newline: every field of the change, ISO times.
std::string alert_json(const IncidentChange& change);

}  // namespace alcedo::alert
