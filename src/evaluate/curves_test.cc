// The numbers that every comparison rests on: checked against hand-worked cases and against a reference that tries
// every threshold.
#include "evaluate/curves.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/prng.h"

namespace alcedo::evaluate {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const CurveOptions kPlain{.resamples = 0};

Curves of(const std::vector<float>& scores, const std::vector<std::uint8_t>& positive,
          const CurveOptions& options = kPlain) {
  return compute_curves(scores, positive, options);
}

TEST(CurvesTest, HandWorkedWithoutTies) {
  // Ranked: + - + -. Precision at the first + is 1/1, at the second 2/3: AP = (1 + 2/3) / 2.
  // Of the 4 pairs, the pair (second +, first -) is the wrong way round: ROC = 3/4.
  const Curves curves = of({0.9F, 0.8F, 0.7F, 0.1F}, {1, 0, 1, 0});
  EXPECT_DOUBLE_EQ(curves.pr_auc, (1.0 + 2.0 / 3.0) / 2.0);
  EXPECT_DOUBLE_EQ(curves.roc_auc, 0.75);
  EXPECT_DOUBLE_EQ(curves.at_fpr[0].tpr, 0.5);
  EXPECT_DOUBLE_EQ(curves.at_fpr[0].fpr, 0.0);
  EXPECT_DOUBLE_EQ(curves.at_fpr[0].threshold, 0.9F);
  EXPECT_DOUBLE_EQ(curves.at_fpr[0].precision, 1.0);
}

TEST(CurvesTest, TiesAreOneThreshold) {
  // {+ -} share the top score: precision 1/2 for both halves of the recall step; then +: 2/3. AP = 1/2 x 1/2 + 1/2 x
  // 2/3.
  const Curves curves = of({5, 5, 3, 1}, {1, 0, 1, 0});
  EXPECT_DOUBLE_EQ(curves.pr_auc, 0.5 * 0.5 + 0.5 * 2.0 / 3.0);
  // Pairs: (+5,-5) half, (+5,-1) one, (+3,-5) none, (+3,-1) one = 2.5 of 4.
  EXPECT_DOUBLE_EQ(curves.roc_auc, 2.5 / 4);
  // The first threshold already flags half of the normal rows, so nothing may be flagged.
  EXPECT_DOUBLE_EQ(curves.at_fpr[2].tpr, 0);
  EXPECT_TRUE(std::isinf(curves.at_fpr[2].threshold));
  const Curves all_equal = of({2, 2, 2, 2, 2}, {1, 0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(all_equal.pr_auc, 0.2);
  EXPECT_DOUBLE_EQ(all_equal.roc_auc, 0.5);
}

TEST(CurvesTest, TheRateIsNeverExceededNorInterpolated) {
  // 1000 normal rows: 0.3 % are 3. Three normal rows stand above the second anomaly, a fourth above the third.
  std::vector<float> scores{100, 50, 20};
  std::vector<std::uint8_t> positive{1, 1, 1};
  for (int i = 0; i < 1000; ++i) {
    scores.push_back(i < 3 ? 70.0F : i == 3 ? 30.0F : 1.0F);
    positive.push_back(0);
  }
  const Curves curves = of(scores, positive);
  EXPECT_DOUBLE_EQ(curves.at_fpr[0].tpr, 1.0 / 3);  // at most 1 normal row
  EXPECT_DOUBLE_EQ(curves.at_fpr[1].tpr, 2.0 / 3);  // exactly 3 are allowed
  EXPECT_DOUBLE_EQ(curves.at_fpr[1].fpr, 0.003);
  EXPECT_DOUBLE_EQ(curves.at_fpr[1].threshold, 50);
  EXPECT_DOUBLE_EQ(curves.at_fpr[2].tpr, 1.0);
  EXPECT_DOUBLE_EQ(curves.at_fpr[2].precision, 3.0 / 7);
}

TEST(CurvesTest, AnAbstentionRanksLowestAndIsNeverFlagged) {
  const Curves curves = of({kNan, -5, kNan, -7}, {1, 1, 0, 0});
  EXPECT_EQ(curves.abstained, 2U);
  EXPECT_DOUBLE_EQ(curves.roc_auc, (1 + 1 + 0 + 0.5) / 4);
  EXPECT_DOUBLE_EQ(curves.at_fpr[2].tpr, 0.5);
  const Curves only_positives_speak = of({kNan, kNan}, {1, 0});
  EXPECT_DOUBLE_EQ(only_positives_speak.at_fpr[2].tpr, 0);
}

TEST(CurvesTest, WithoutAClassThereIsNoNumber) {
  EXPECT_TRUE(std::isnan(of({1, 2}, {0, 0}).pr_auc));
  EXPECT_TRUE(std::isnan(of({1, 2}, {1, 1}).roc_auc));
  EXPECT_TRUE(std::isnan(of({1, 2}, {1, 1}).at_fpr[0].tpr));
  EXPECT_TRUE(std::isnan(of({}, {}).pr_auc));
  EXPECT_TRUE(std::isnan(of({1, 2}, {0, 0}, {}).pr_auc_interval.low));
}

struct Reference {
  double pr_auc = 0, roc_auc = 0;
  std::array<double, kFprMax.size()> tpr{};
};

// Tries every threshold and every pair.
Reference naive(const std::vector<float>& scores, const std::vector<std::uint8_t>& positive) {
  Reference result;
  double positives = 0, negatives = 0;
  for (const auto p : positive) (p != 0 ? positives : negatives) += 1;
  std::set<float, std::greater<>> thresholds(scores.begin(), scores.end());
  double recall_before = 0;
  for (const float threshold : thresholds) {
    double tp = 0, fp = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (scores[i] >= threshold) (positive[i] != 0 ? tp : fp) += 1;
    }
    result.pr_auc += (tp / positives - recall_before) * tp / (tp + fp);
    recall_before = tp / positives;
    for (std::size_t k = 0; k < kFprMax.size(); ++k) {
      if (fp / negatives <= kFprMax[k]) result.tpr[k] = std::max(result.tpr[k], tp / positives);
    }
  }
  for (std::size_t i = 0; i < scores.size(); ++i) {
    for (std::size_t j = 0; j < scores.size(); ++j) {
      if (positive[i] == 0 || positive[j] != 0) continue;
      result.roc_auc += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
    }
  }
  result.roc_auc /= positives * negatives;
  return result;
}

TEST(CurvesTest, AgreesWithTheNaiveReference) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Prng prng(seed);
    const std::size_t rows = 20 + prng.below(600);
    const double levels = seed % 3 == 0 ? 4 : seed % 3 == 1 ? 50 : 1e6;  // many ties, some, hardly any
    std::vector<float> scores;
    std::vector<std::uint8_t> positive;
    for (std::size_t i = 0; i < rows; ++i) {
      const bool anomalous = i == 0 || (i > 1 && prng.uniform() < 0.1);
      positive.push_back(anomalous ? 1 : 0);
      scores.push_back(static_cast<float>(std::floor((prng.normal() + (anomalous ? 2 : 0)) * levels) / levels));
    }
    const Curves curves = of(scores, positive);
    const Reference expected = naive(scores, positive);
    EXPECT_NEAR(curves.pr_auc, expected.pr_auc, 1e-12) << "seed " << seed;
    EXPECT_NEAR(curves.roc_auc, expected.roc_auc, 1e-12) << "seed " << seed;
    for (std::size_t k = 0; k < kFprMax.size(); ++k) {
      EXPECT_NEAR(curves.at_fpr[k].tpr, expected.tpr[k], 1e-12) << "seed " << seed << " rate " << kFprMax[k];
    }
  }
}

void make_gaussian(std::uint64_t seed, std::size_t rows, double share, double shift, std::vector<float>& scores,
                   std::vector<std::uint8_t>& positive) {
  Prng prng(seed);
  scores.clear();
  positive.clear();
  for (std::size_t i = 0; i < rows; ++i) {
    const bool anomalous = prng.uniform() < share;
    positive.push_back(anomalous ? 1 : 0);
    scores.push_back(static_cast<float>(prng.normal() + (anomalous ? shift : 0)));
  }
}

TEST(CurvesIntervalTest, CoversTheTruthAboutAsOftenAsItClaims) {
  // ROC-AUC of two normals shifted by 1.5 is Phi(1.5 / sqrt 2) = 0.855578.
  int covered = 0;
  constexpr int kTrials = 60;
  std::vector<float> scores;
  std::vector<std::uint8_t> positive;
  for (int trial = 0; trial < kTrials; ++trial) {
    make_gaussian(static_cast<std::uint64_t>(trial), 1500, 0.1, 1.5, scores, positive);
    const Curves curves = of(scores, positive, {});
    EXPECT_LE(curves.roc_auc_interval.low, curves.roc_auc);
    EXPECT_GE(curves.roc_auc_interval.high, curves.roc_auc);
    covered += curves.roc_auc_interval.low <= 0.855578 && 0.855578 <= curves.roc_auc_interval.high;
  }
  EXPECT_GE(covered, 50);  // 57 expected; 49 or fewer has probability 4e-4
}

TEST(CurvesIntervalTest, BinnedResamplingAgreesWithDrawingRows) {
  // Above 20,000 rows of a class counts are drawn by bin. The standard deviation of a TPR and of the ROC-AUC are known.
  std::vector<float> scores;
  std::vector<std::uint8_t> positive;
  make_gaussian(3, 200'000, 0.3, 1.0, scores, positive);  // 60,000 anomalies: every class and the bins are approximated
  const Curves curves = of(scores, positive, {});
  const double p = curves.at_fpr[2].tpr, n = static_cast<double>(curves.positives);
  const double half_width = (curves.tpr_interval[2].high - curves.tpr_interval[2].low) / 2;
  // Sampling of the anomalies alone, at a fixed threshold, is the lower bound; the threshold's own uncertainty adds to
  // it.
  EXPECT_GT(half_width, 1.96 * std::sqrt(p * (1 - p) / n) * 0.8);
  EXPECT_LT(half_width, 1.96 * std::sqrt(p * (1 - p) / n) * 3.5);
  EXPECT_LE(curves.tpr_interval[2].low, p);
  EXPECT_GE(curves.tpr_interval[2].high, p);
  EXPECT_LE(curves.pr_auc_interval.low, curves.pr_auc);
  EXPECT_GE(curves.pr_auc_interval.high, curves.pr_auc);
  // Hanley and McNeil's standard error at AUC 0.76 with 60,000 and 140,000 rows is 0.0012.
  EXPECT_NEAR((curves.roc_auc_interval.high - curves.roc_auc_interval.low) / 2, 1.96 * 0.0012, 0.0009);
}

TEST(CurvesIntervalTest, RepeatsToTheBitAndDependsOnTheSeed) {
  std::vector<float> scores;
  std::vector<std::uint8_t> positive;
  make_gaussian(5, 4000, 0.05, 1.0, scores, positive);
  const Curves a = of(scores, positive, {.seed = 9}), b = of(scores, positive, {.seed = 9}),
               c = of(scores, positive, {.seed = 10});
  EXPECT_EQ(a.pr_auc_interval.low, b.pr_auc_interval.low);
  EXPECT_EQ(a.tpr_interval[1].high, b.tpr_interval[1].high);
  EXPECT_NE(a.pr_auc_interval.low, c.pr_auc_interval.low);
}

TEST(CurvesPointsTest, ReachFromNothingToEverythingAndStayFew) {
  std::vector<float> scores;
  std::vector<std::uint8_t> positive;
  make_gaussian(6, 100'000, 0.01, 2.0, scores, positive);
  const Curves curves = of(scores, positive);
  ASSERT_GE(curves.points.size(), 50U);
  EXPECT_LE(curves.points.size(), 450U);
  EXPECT_EQ(curves.points.front().tpr, 0);
  EXPECT_EQ(curves.points.back().tpr, 1);
  EXPECT_EQ(curves.points.back().fpr, 1);
  for (std::size_t i = 1; i < curves.points.size(); ++i) {
    EXPECT_GE(curves.points[i].tpr, curves.points[i - 1].tpr);
    EXPECT_GE(curves.points[i].fpr, curves.points[i - 1].fpr);
    EXPECT_LT(curves.points[i].threshold, curves.points[i - 1].threshold);
  }
}

TEST(RatioIntervalTest, IsPairedSoSharedLuckCancels) {
  // Both flag the same 500; ours flags 100 more: the ratio is 1.2 and hardly varies, though each rate alone does.
  const Interval paired = ratio_interval(500, 100, 0, 400, {});
  EXPECT_LT(paired.low, 0.2);
  EXPECT_GT(paired.high, 0.2);
  EXPECT_LT(paired.high - paired.low, 0.11);
  EXPECT_TRUE(std::isnan(ratio_interval(0, 5, 0, 5, {}).low));
}

}  // namespace
}  // namespace alcedo::evaluate
