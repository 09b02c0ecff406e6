// Every part runs exactly once a round, on any number of workers, thousands of rounds in a row.
#include "pipeline/worker_pool.h"

#include <gtest/gtest.h>

#include <numeric>

namespace alcedo::pipeline {
namespace {

TEST(WorkerPoolTest, EveryPartRunsOnceARound) {
  for (const std::size_t workers : {1UL, 2UL, 5UL}) {
    WorkerPool pool(workers);
    std::vector<int> runs(workers, 0);
    for (int round = 1; round <= 3000; ++round) {
      pool.run([&](std::size_t w) { ++runs[w]; });
      ASSERT_EQ(std::accumulate(runs.begin(), runs.end(), 0), round * static_cast<int>(workers));
    }
    for (const int n : runs) EXPECT_EQ(n, 3000);
  }
}

}  // namespace
}  // namespace alcedo::pipeline
