// The stage against a recompute from all events, and against itself under every division of its work.
#include "features/stage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "features/oracle.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::make_stream;
using testing::RunOptions;
using testing::same_bits;
using testing::StreamOptions;
using testing::TestEvent;

FeaturePlan compiled(FeatureOptions options) {
  auto plan = FeaturePlan::compile(std::move(options));
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

struct Tally {
  std::size_t compared = 0;
  std::size_t present = 0;  // of these, not missing
  std::size_t wrong = 0;
  std::size_t accepted = 0;
  std::size_t slow = 0;
};

// Compares every column of every row with the oracle.
void compare(const FeaturePlan& plan, const std::vector<TestEvent>& events, std::uint64_t seed, Tally& tally) {
  const testing::RunResult result = testing::run(plan, events, {.batch_size = 257});
  testing::Oracle oracle(plan);
  for (std::size_t i = 0; i < events.size(); ++i) {
    const auto expected = oracle.add(events[i], result.rows[i], result.levels[i]);
    for (std::size_t c = 0; c < plan.columns().size(); ++c) {
      const auto at = expected.find(plan.columns()[c].name);
      const testing::Expected want = at == expected.end() ? testing::Expected{} : at->second;
      const double got = result.rows[i][c];
      ++tally.compared;
      if (std::isnan(want.value) && std::isnan(got)) continue;
      ++tally.present;
      if (std::fabs(got - want.value) <= want.tolerance) continue;
      if (tally.wrong++ < 10) {
        ADD_FAILURE() << "seed " << seed << " event " << i << " column " << plan.columns()[c].name << ": got " << got
                      << ", expected " << want.value << " +- " << want.tolerance;
      }
    }
  }
  tally.accepted += oracle.accepted;
  tally.slow += oracle.slow;
}

TEST(StageTest, AgreesWithARecomputeFromAllEvents) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    StreamOptions options;
    options.events = 2500;
    options.whole = seed % 2 == 1;
    options.late_max_ms = seed % 3 == 0 ? 3 * kHourMs : 4 * kMinuteMs;
    options.step_ms = seed <= 2 ? 300 : seed <= 4 ? 3000 : 20'000;
    options.cards = seed % 2 == 0 ? 15 : 300;
    options.gap_every = seed == 5 ? 0 : 700;
    options.counter_share = seed == 6 ? 0.5 : 0;
    compare(compiled(testing::full_options(options.whole)), make_stream(seed, options), seed, tally);
  }
  std::cout << "compared " << tally.compared << " values, " << tally.present << " of them present; " << tally.accepted
            << " new levels, " << tally.slow << " values learned slowly\n";
  EXPECT_EQ(tally.wrong, 0U);
  EXPECT_GE(tally.present, 300'000U);
  EXPECT_GT(tally.accepted, 10U) << "the streams must hold new levels, or nothing was tested of them";
  EXPECT_GT(tally.slow, 100U);
}

TEST(StageTest, BatchesAreUnobservable) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  const auto events = make_stream(7, {.events = 3000, .whole = false, .counter_share = 0.1});
  const auto whole = testing::run(plan, events, {});
  for (const std::size_t size : {1U, 2U, 31U, 32U, 33U, 500U}) {
    const auto parts = testing::run(plan, events, {.batch_size = size});
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_TRUE(same_bits(whole.rows[i], parts.rows[i])) << "batch " << size << " row " << i;
  }
}

TEST(StageTest, WorkersAreUnobservable) {
  const FeaturePlan plan = compiled(testing::full_options(false));
  const auto events = make_stream(8, {.events = 3000, .whole = false});
  const auto one = testing::run(plan, events, {.batch_size = 100});
  for (const std::size_t workers : {3U, 4U}) {
    const auto many = testing::run(plan, events, {.batch_size = 100, .workers = workers});
    EXPECT_EQ(many.entities, one.entities);
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_TRUE(same_bits(one.rows[i], many.rows[i])) << workers << " workers, row " << i;
  }
}

}  // namespace
}  // namespace alcedo::features
