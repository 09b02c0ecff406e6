// The limit must hold in every window, not on average, and must not make the first page after a storm wait.
#include "alert/rate_limit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/prng.h"

namespace alcedo::alert {
namespace {

// Calls that get through when somebody asks as often as told to.
std::vector<std::int64_t> greedy(RateLimit& limit, std::int64_t start_ms, std::int64_t end_ms) {
  std::vector<std::int64_t> taken;
  for (std::int64_t now = start_ms; now < end_ms;) {
    const std::int64_t wait = limit.take(now);
    if (wait == 0) taken.push_back(now);
    now += wait;
  }
  return taken;
}

TEST(RateLimitTest, NoMinuteHoldsMoreThanItsCalls) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    RateLimit limit;
    Prng prng(seed);
    std::vector<std::int64_t> taken;
    for (std::int64_t now = 0; now < 600'000;
         now += static_cast<std::int64_t>(prng.below(prng.below(20) == 0 ? 40'000 : 400))) {
      if (limit.take(now) == 0) taken.push_back(now);
    }
    for (std::size_t i = 0; i + 120 < taken.size(); ++i)
      EXPECT_GE(taken[i + 120] - taken[i], 60'000) << "seed " << seed;
  }
}

TEST(RateLimitTest, AStormGetsHalfAtOnceAndThenASteadyFlow) {
  RateLimit limit;
  const auto taken = greedy(limit, 0, 600'000);
  EXPECT_EQ(std::ranges::count(taken, 0), 60);
  EXPECT_GE(taken.size(), 1000U) << "close to 120 a minute in the long run";
  for (std::size_t i = 0; i + 120 < taken.size(); ++i) EXPECT_GE(taken[i + 120] - taken[i], 60'000);
}

TEST(RateLimitTest, TheWaitIsExact) {
  RateLimit limit(4, 1000);
  EXPECT_EQ(limit.take(0), 0);
  EXPECT_EQ(limit.take(0), 0);
  const std::int64_t wait = limit.take(0);
  EXPECT_GT(wait, 0);
  EXPECT_GT(limit.take(wait - 1), 0);
  EXPECT_EQ(limit.take(wait), 0);
}

}  // namespace
}  // namespace alcedo::alert
