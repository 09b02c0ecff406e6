// The sketch stands in for a trained calibration, so its probabilities must be right where they decide: in the tail.
#include "decide/tail_sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/prng.h"

namespace alcedo::decide {
namespace {

TEST(TailSketchTest, SurpriseIsTheShareOfScoresAbove) {
  Prng random(1);
  TailSketch sketch;
  std::vector<float> scores;
  for (int i = 0; i < 50'000; ++i) scores.push_back(static_cast<float>(std::fabs(random.normal())));
  for (const float s : scores) sketch.add(s);
  sketch.publish();
  std::sort(scores.begin(), scores.end());
  for (const double quantile : {0.1, 0.5, 0.9, 0.99}) {
    const float at = scores[static_cast<std::size_t>(quantile * static_cast<double>(scores.size()))];
    EXPECT_NEAR(sketch.surprise(at), -std::log10(1 - quantile), 0.05) << quantile;
  }
}

TEST(TailSketchTest, ParetoTailIsExtrapolatedWithItsOwnIndex) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Prng random(seed);
    TailSketch sketch;
    for (int i = 0; i < 100'000; ++i) sketch.add(static_cast<float>(std::pow(1 - random.uniform(), -1.0 / 3)));
    sketch.publish();
    // P(S > s) = s^-3 also far beyond anything seen.
    EXPECT_NEAR(sketch.surprise(10), 3, 0.2);
    EXPECT_NEAR(sketch.surprise(1000), 9, 0.7);
  }
}

TEST(TailSketchTest, NeverDecreasesAndNeverJumps) {
  Prng random(7);
  TailSketch sketch;
  for (int i = 0; i < 3000; ++i) sketch.add(static_cast<float>(random.exponential() * 3));
  for (int i = 0; i < 3000; ++i) sketch.add(0);
  sketch.publish();
  double before = 0;
  for (float s = 0; s < 200; s = s * 1.01F + 0.001F) {
    const double now = sketch.surprise(s);
    EXPECT_GE(now, before - 1e-6) << s;
    EXPECT_LT(now - before, 0.6) << s;
    before = now;
  }
}

TEST(TailSketchTest, OrderOfScoresCannotBeSeen) {
  Prng random(3);
  std::vector<float> scores;
  for (int i = 0; i < 5000; ++i) scores.push_back(static_cast<float>(random.exponential()));
  TailSketch forward;
  TailSketch backward;
  for (const float s : scores) forward.add(s);
  for (auto it = scores.rbegin(); it != scores.rend(); ++it) backward.add(*it);
  forward.publish();
  backward.publish();
  for (float s = 0; s < 50; s += 0.37F) EXPECT_EQ(forward.surprise(s), backward.surprise(s));
}

TEST(TailSketchTest, AFirstExtremeAfterALongCalmIsSurprising) {
  TailSketch sketch;
  for (int i = 0; i < 1000; ++i) sketch.add(0);
  sketch.publish();
  EXPECT_LT(sketch.surprise(1), 3.5);
  EXPECT_GT(sketch.surprise(20), 6);
  EXPECT_GT(sketch.surprise(40), sketch.surprise(20));
}

TEST(TailSketchTest, SaysNothingBeforeItWasPublished) {
  TailSketch sketch;
  sketch.add(5);
  EXPECT_EQ(sketch.surprise(100), 0);
}

}  // namespace
}  // namespace alcedo::decide
