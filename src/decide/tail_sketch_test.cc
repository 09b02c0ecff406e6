// The sketch stands in for a trained calibration, so its probabilities must be right where they decide: in the tail.
#include "decide/tail_sketch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "core/prng.h"
#include "core/state_damage.h"
#include "decide/decide_state_invariants.h"

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

// --- State.

// One step of a sketch's life: mostly scores, of one scale a seed, now and then a tick.
void live(TailSketch& sketch, Prng& random, double scale) {
  const auto what = random.below(200);
  const auto score = static_cast<float>(random.below(3) == 0 ? 0 : std::pow(1 - random.uniform(), -0.4) * scale);
  if (what == 0) {
    sketch.fade(1 + static_cast<int>(random.below(4)));
  } else if (what < 5) {
    sketch.publish(random.below(10) == 0);
  } else {
    sketch.add(score);
  }
}

TEST(TailSketchTest, CutAnywhereAndRestoredItAnswersTheSameBits) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Prng random(seed);
    const double scale = std::pow(10.0, static_cast<double>(random.below(7)) - 3);
    TailSketch whole;
    for (std::uint64_t left = random.below(3000); left != 0; --left) live(whole, random, scale);
    TailSketch restored;
    restored.add(7);  // what was there before is replaced
    const std::string bytes = testing::saved(whole);
    ASSERT_TRUE(testing::loaded(restored, bytes)) << "seed " << seed;
    EXPECT_EQ(testing::saved(restored), bytes) << "seed " << seed;
    Prng other = random;
    for (int i = 0; i < 2000; ++i) {
      live(whole, random, scale);
      live(restored, other, scale);
      ASSERT_EQ(whole.count(), restored.count());
      ASSERT_EQ(whole.published(), restored.published());
      const auto at = static_cast<float>(std::exp2(static_cast<double>(i % 400) / 10 - 15));
      ASSERT_EQ(std::bit_cast<std::uint64_t>(whole.surprise(at)), std::bit_cast<std::uint64_t>(restored.surprise(at)))
          << "seed " << seed << ", step " << i << ", score " << at;
    }
    EXPECT_EQ(testing::saved(whole), testing::saved(restored)) << "seed " << seed;
  }
}

TEST(TailSketchTest, EqualSketchesHaveEqualBytesWhateverTheOrderOfScores) {
  Prng random(3);
  std::vector<float> scores;
  for (int i = 0; i < 5000; ++i) scores.push_back(static_cast<float>(random.exponential()));
  TailSketch forward, backward;
  for (const float s : scores) forward.add(s);
  for (auto it = scores.rbegin(); it != scores.rend(); ++it) backward.add(*it);
  forward.publish();
  EXPECT_NE(testing::saved(forward), testing::saved(backward));
  backward.publish();
  EXPECT_EQ(testing::saved(forward), testing::saved(backward));
}

TEST(TailSketchTest, DamagedBytesAreRefusedOrHarmless) {
  Prng random(5);
  TailSketch sketch;
  for (int i = 0; i < 2000; ++i) sketch.add(static_cast<float>(random.exponential()));
  sketch.publish();
  for (int i = 0; i < 30; ++i) sketch.add(1);
  int accepted = 0;
  each_damage(
      testing::saved(sketch), 1, 1500, 600,
      [](std::string_view cut) {
        TailSketch other;
        EXPECT_FALSE(testing::loaded(other, cut)) << cut.size();
      },
      [&](std::string_view changed) { accepted += check_decide_state(changed) > 0 ? 1 : 0; });
  EXPECT_GT(accepted, 30);
  EXPECT_LT(accepted, 580);
}

}  // namespace
}  // namespace alcedo::decide
