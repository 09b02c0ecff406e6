// Which scores a person would hear of: those that open an incident or make an open one worse.
#pragma once

#include <cmath>
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

/// What an announcement is worth to who heard of this entity before: its score less log10(1 + n), where n is how many
/// earlier announcements of the entity scored as high, each counting half as much for every half-life since. Scores are
/// -log10 of a probability, and of an entity that has done it n times it is so many times less improbable: who cries
/// often is believed less, what is stronger than ever is believed as before.
///
/// Threads  One at a time. Cost: a walk over the entity's announcements of the last ten half-lives, at most 4,096.
class Discount {
 public:
  explicit Discount(std::int64_t half_life_ms) : half_life_ms_(half_life_ms) {}

  /// What Announcement kept, in its order; NaN, not announced, stays so.
  float of(std::uint64_t entity, std::int64_t time_ms, float score) {
    if (std::isnan(score)) return score;
    auto& earlier = earlier_[entity];
    while (!earlier.empty() &&
           (earlier.front().time_ms < time_ms - 10 * half_life_ms_ || earlier.size() >= kEarlierMax))
      earlier.pop_front();
    double as_high = 0;
    for (const Heard& one : earlier) {
      if (!(one.score >= score)) continue;
      as_high += std::exp2(-static_cast<double>(time_ms - one.time_ms) / static_cast<double>(half_life_ms_));
    }
    earlier.push_back({time_ms, score});
    return static_cast<float>(static_cast<double>(score) - std::log10(1 + as_high));
  }

 private:
  static constexpr std::size_t kEarlierMax = 4096;
  struct Heard {
    std::int64_t time_ms;
    float score;  // before the discount
  };
  std::int64_t half_life_ms_;
  std::unordered_map<std::uint64_t, std::deque<Heard>> earlier_;  // looked up only
};

}  // namespace alcedo::evaluate
