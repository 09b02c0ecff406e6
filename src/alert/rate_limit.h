// Keeps within PagerDuty's calls a minute without ever being told off for it: a refused page is a late page.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>

namespace alcedo::alert {

/// At most `calls_max` calls in any window: half of them at once, the rest spaced evenly, so that a storm does not
/// leave the first page after it waiting for a whole window. The window is 2 % longer than asked, because the receiver
/// counts arrivals.
///
/// Threads  any.
class RateLimit {
 public:
  explicit RateLimit(std::uint32_t calls_max = 120, std::int64_t window_ms = 60'000)
      : calls_max_(calls_max), window_ms_(window_ms + window_ms / 50), spacing_ms_(window_ms_ / calls_max) {}

  /// 0: the call is counted and may be made now. Otherwise: nothing is counted, ask again in so many milliseconds.
  /// `now_ms` of a clock that does not go back.
  std::int64_t take(std::int64_t now_ms) {
    const std::scoped_lock lock(mutex_);
    while (!calls_ms_.empty() && now_ms - calls_ms_.front() >= window_ms_) calls_ms_.pop_front();
    if (calls_ms_.size() >= calls_max_) return window_ms_ - (now_ms - calls_ms_.front());
    if (calls_ms_.size() >= calls_max_ / 2) {
      const std::int64_t since_last_ms = now_ms - calls_ms_.back();
      if (since_last_ms < spacing_ms_) return spacing_ms_ - since_last_ms;
    }
    calls_ms_.push_back(now_ms);
    return 0;
  }

 private:
  const std::size_t calls_max_;
  const std::int64_t window_ms_;
  const std::int64_t spacing_ms_;
  std::mutex mutex_;
  std::deque<std::int64_t> calls_ms_;
};

}  // namespace alcedo::alert
