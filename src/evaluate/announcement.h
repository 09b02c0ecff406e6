// Which scores a person would hear of: those that open an incident or make an open one worse.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <unordered_map>

namespace alcedo::evaluate {

/// Keeps a row's score only if nothing of its entity scored as high within the last quiet period, as incidents do at
/// any threshold: what merely goes on is not announced again.
///
/// Threads  One at a time. Cost: amortised constant; memory: the descending scores of one quiet period an entity.
class Announcement {
 public:
  explicit Announcement(std::int64_t quiet_ms) : quiet_ms_(quiet_ms) {}

  /// Rows of an entity in time order. NaN: not announced.
  float keep(std::uint64_t entity, std::int64_t time_ms, float score) {
    auto& recent = recent_[entity];
    while (!recent.empty() && recent.front().time_ms < time_ms - quiet_ms_) recent.pop_front();
    const bool announced = recent.empty() || score > recent.front().score;
    while (!recent.empty() && !(recent.back().score > score)) recent.pop_back();
    recent.push_back({time_ms, score});
    return announced ? score : std::numeric_limits<float>::quiet_NaN();
  }

 private:
  struct Scored {
    std::int64_t time_ms;
    float score;
  };
  std::int64_t quiet_ms_;
  std::unordered_map<std::uint64_t, std::deque<Scored>> recent_;  // looked up only
};

}  // namespace alcedo::evaluate
