// What every kind of receiver has in common: a thread that carries one route's deliveries, and what it reports.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "alert/delivery.h"
#include "alert/rate_limit.h"
#include "core/prng.h"
#include "core/time.h"

namespace alcedo::alert {

/// The counters that all routes of a Deliverer share.
///
/// Threads  any.
class DeliveryLog {
 public:
  void accepted() {
    const std::scoped_lock lock(mutex_);
    ++stats_.accepted;
  }
  void retried(std::string why) {
    const std::scoped_lock lock(mutex_);
    ++stats_.retries;
    stats_.last_error = std::move(why);
  }
  void failed(std::string why) {
    const std::scoped_lock lock(mutex_);
    ++stats_.failed;
    stats_.last_error = std::move(why);
  }
  /// Trouble of our own, such as a ledger that cannot be written.
  void trouble(std::string why) {
    const std::scoped_lock lock(mutex_);
    stats_.last_error = std::move(why);
  }
  Deliverer::Stats stats() const {
    const std::scoped_lock lock(mutex_);
    return stats_;
  }

 private:
  mutable std::mutex mutex_;
  Deliverer::Stats stats_;
};

/// The wall clock as it was at start, moved on by the steady clock: a page is neither late nor early when somebody sets
/// the time.
class DeliveryClock {
 public:
  DeliveryClock() : wall_start_ms_(wall_clock_ms()), steady_start_ns_(steady_ns()) {}
  std::int64_t now_ms() const { return wall_start_ms_ + (steady_ns() - steady_start_ns_) / 1'000'000; }

 private:
  std::int64_t wall_start_ms_;
  std::int64_t steady_start_ns_;
};

/// Growing, jittered delays: first_ms doubled for each attempt, at most max_ms, times 0.5 to 1.
class RetryDelay {
 public:
  RetryDelay(std::int64_t first_ms, std::int64_t max_ms, std::uint64_t seed)
      : first_ms_(std::max<std::int64_t>(first_ms, 1)), max_ms_(max_ms), prng_(seed) {}
  /// After the `attempt`-th failure, counted from 1.
  std::int64_t after_ms(int attempt) {
    const int doublings = std::min(std::max(attempt, 1) - 1, 30);
    const double full =
        std::min(static_cast<double>(max_ms_), static_cast<double>(first_ms_) * static_cast<double>(1ULL << doublings));
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(full * (0.5 + 0.5 * prng_.uniform())));
  }

 private:
  std::int64_t first_ms_;
  std::int64_t max_ms_;
  Prng prng_;
};

/// A running thread that empties one route's outbox.
///
/// Threads  wake() from any; finish() and the destructor by the owner.
class RouteWorker {
 public:
  virtual ~RouteWorker() = default;
  /// There may be something to send.
  virtual void wake() = 0;
  /// Ask to end: when the outbox is empty, or at `deadline_ms` of the DeliveryClock. Returns at once.
  virtual void finish(std::int64_t deadline_ms) = 0;
  /// Waits for the end of the thread.
  virtual void join() = 0;
};

/// What a worker works with; all of it outlives the worker.
struct WorkerContext {
  Ledger& ledger;
  DeliveryLog& log;
  const DeliveryClock& clock;
  const Deliverer::Options& options;
};

/// `limit` may be null (no limit of our own). `route.routing_key` is resolved. Errors: kInvalidArgument, kInternal.
Result<std::unique_ptr<RouteWorker>> start_pagerduty_worker(const WorkerContext& context, const RouteSpec& route,
                                                            RateLimit* limit, std::uint64_t seed);
/// Opens the file. Errors: kIo, kInvalidArgument.
Result<std::unique_ptr<RouteWorker>> start_file_worker(const WorkerContext& context, const RouteSpec& route,
                                                       std::uint64_t seed);

}  // namespace alcedo::alert
