// What a detector says of a row is what pages people: sides, minimum change and abstention each have a case here.
#include "models/detector.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace alcedo::models {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Two deviations: columns {seen, expected, spread, z, history} at 0 and at 5.
DeviationDetector make(Side side, double min_change) {
  DetectorSpec spec{.name = "d", .side = side, .min_change = min_change};
  return DeviationDetector(spec, {{"a", 0, 1, 2, 3, 4, 20}, {"b", 5, 6, 7, 8, 9, 20}});
}

TEST(DeviationDetectorTest, TakesTheLargestDeviationOnTheWatchedSide) {
  const std::array<float, 10> row{130, 100, 10, 3, 50, 50, 100, 10, -5, 50};
  EXPECT_FLOAT_EQ(make(Side::kBoth, 0).score(row).score, 5);
  EXPECT_EQ(make(Side::kBoth, 0).score(row).which, 1U);
  EXPECT_FLOAT_EQ(make(Side::kAbove, 0).score(row).score, 3);
  EXPECT_FLOAT_EQ(make(Side::kBelow, 0).score(row).score, 5);
}

TEST(DeviationDetectorTest, ASmallChangeIsNoDeviationHoweverManySigmas) {
  const std::array<float, 10> row{110, 100, 0.1F, 100, 50, kNaN, kNaN, kNaN, kNaN, 0};
  EXPECT_FLOAT_EQ(make(Side::kAbove, 0.05).score(row).score, 100);
  EXPECT_FLOAT_EQ(make(Side::kAbove, 0.2).score(row).score, 0);
}

TEST(DeviationDetectorTest, AbstainsOnlyWhenEveryDeviationIsMissing) {
  std::array<float, 10> row{};
  row.fill(kNaN);
  EXPECT_TRUE(std::isnan(make(Side::kBoth, 0).score(row).score));
  row[8] = 1;
  EXPECT_FLOAT_EQ(make(Side::kBoth, 0).score(row).score, 1);
}

TEST(DeviationDetectorTest, ASumAddsWhatIsThereAndNamesTheLargest) {
  const DeviationDetector sum({.name = "d", .kind = DetectorKind::kSum}, {}, {1, 3, 4});
  const std::array<float, 5> row{100, 1.5F, 100, 2.5F, 0.25F};
  EXPECT_FLOAT_EQ(sum.score(row).score, 4.25F);
  EXPECT_EQ(sum.score(row).which, 1U);
  const std::array<float, 5> some{100, kNaN, 100, -2, 0.5F};
  EXPECT_EQ(sum.score(some).score, 0);
  EXPECT_EQ(sum.score(some).which, 2U);
  const std::array<float, 5> none{100, kNaN, 100, kNaN, kNaN};
  EXPECT_TRUE(std::isnan(sum.score(none).score));
}

}  // namespace
}  // namespace alcedo::models
