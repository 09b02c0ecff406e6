// For tests only: what all naive recomputes together compared, said once at the end of the run.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdio>
#include <string>

namespace alcedo::features::testing {

/// Sums what each test against a naive recompute compared. After the last test of the run it prints "oracle: N
/// comparisons, M mismatches", records both as properties of the run, and fails it if there was a mismatch.
class OracleTally : public ::testing::Environment {
 public:
  /// Of one test: values compared with their recompute, and how many of them were wrong.
  static void add(std::size_t compared, std::size_t wrong) {
    one().compared_ += compared;
    one().wrong_ += wrong;
  }
  /// Takes one comparison and returns whether it was right.
  static bool count(bool right) {
    add(1, right ? 0 : 1);
    return right;
  }

  void TearDown() override {
    if (compared_ == 0) return;
    ::testing::Test::RecordProperty("oracle_comparisons", std::to_string(compared_));
    ::testing::Test::RecordProperty("oracle_mismatches", std::to_string(wrong_));
    fmt::print("oracle: {} comparisons, {} mismatches\n", compared_, wrong_);
    std::fflush(stdout);
    EXPECT_EQ(wrong_, 0U) << "a column is not what its definition says; the test that saw it names it";
  }

 private:
  static OracleTally& one() {
    // GoogleTest owns and deletes it.
    static auto* tally = static_cast<OracleTally*>(::testing::AddGlobalTestEnvironment(new OracleTally));
    return *tally;
  }
  std::size_t compared_ = 0;
  std::size_t wrong_ = 0;
};

}  // namespace alcedo::features::testing
