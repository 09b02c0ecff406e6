// Where bins lie decides what a sequence model can see: heavy values, missing ones, gaps and edges each have a case
// here.
#include "models/token_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/prng.h"

namespace alcedo::models {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const std::vector<std::string> kName{"x"};
const std::vector<std::int64_t> kNoGaps;

std::uint8_t bin_of(const TokenPlan& plan, float x, std::int64_t gap = TokenPlan::kNoGap, std::size_t field = 0) {
  std::vector<std::uint8_t> token(plan.fields());
  plan.tokenize(std::vector<float>(plan.columns(), x), gap, token);
  return token[field];
}

TEST(TokenPlanTest, BinsHoldEqualSharesOfWhatTrainingSaw) {
  Prng prng(1);
  std::vector<float> rows;
  for (int i = 0; i < 20'000; ++i) rows.push_back(static_cast<float>(std::exp(2 * prng.normal())));
  const auto plan = *TokenPlan::learn(kName, rows, kNoGaps, 16);
  EXPECT_EQ(plan.bins(0), 16U);
  std::map<int, int> count;
  for (const float x : rows) ++count[bin_of(plan, x)];
  EXPECT_EQ(count.size(), 15U);  // all but "missing"
  for (const auto& [bin, n] : count) EXPECT_NEAR(n, 20'000 / 15, 40) << bin;
}

TEST(TokenPlanTest, AHeavyValueHasABinOfItsOwn) {
  Prng prng(2);
  std::vector<float> rows;
  for (int i = 0; i < 10'000; ++i) {
    const double u = prng.uniform();
    rows.push_back(u < 0.6 ? 0.0F : u < 0.75 ? 99.5F : static_cast<float>(100 * prng.normal()));
  }
  const auto plan = *TokenPlan::learn(kName, rows, kNoGaps, 16);
  std::map<int, std::set<float>> values;
  std::map<int, int> count;
  for (const float x : rows) values[bin_of(plan, x)].insert(x), ++count[bin_of(plan, x)];
  EXPECT_EQ(values[bin_of(plan, 0.0F)].size(), 1U);
  EXPECT_EQ(values[bin_of(plan, -0.0F)].size(), 1U);
  EXPECT_EQ(values[bin_of(plan, 99.5F)].size(), 1U);
  EXPECT_GE(values.size(), 12U);
  for (const auto& [bin, n] : count) {
    if (bin != bin_of(plan, 0) && bin != bin_of(plan, 99.5F)) {
      EXPECT_LT(n, 500) << bin;  // 25 % of the rows in 11 bins
    }
  }
}

TEST(TokenPlanTest, FewValuesHaveABinEach) {
  const std::vector<float> rows{3, 1, 1, kNaN, 7, 1, 3};
  const auto plan = *TokenPlan::learn(kName, rows, kNoGaps, 8);
  EXPECT_EQ(plan.bins(0), 4U);  // missing, 1, 3, 7
  EXPECT_EQ(bin_of(plan, kNaN), 0);
  EXPECT_EQ(bin_of(plan, 1), 1);
  EXPECT_EQ(bin_of(plan, 3), 2);
  EXPECT_EQ(bin_of(plan, 7), 3);
  EXPECT_EQ(bin_of(plan, -kInfinity), 1);
  EXPECT_EQ(bin_of(plan, kInfinity), 3);
  EXPECT_EQ(bin_of(plan, 6.9F), 2);
  EXPECT_EQ(plan.describe(0, 0), "missing");
  EXPECT_EQ(plan.describe(0, 1), "< 3");
  EXPECT_EQ(plan.describe(0, 2), "3 to 7");
  EXPECT_EQ(plan.describe(0, 3), ">= 7");
}

TEST(TokenPlanTest, AColumnThatIsConstantOrMissingStaysUsable) {
  const auto constant = *TokenPlan::learn(kName, std::vector<float>(100, 5.0F), kNoGaps, 16);
  EXPECT_EQ(constant.bins(0), 2U);
  EXPECT_EQ(bin_of(constant, 5), 1);
  const auto missing = *TokenPlan::learn(kName, std::vector<float>(100, kNaN), kNoGaps, 16);
  EXPECT_EQ(bin_of(missing, kNaN), 0);
  EXPECT_EQ(bin_of(missing, 5), 1);
  const auto infinite = *TokenPlan::learn(kName, std::vector<float>{-kInfinity, kInfinity, kInfinity}, kNoGaps, 16);
  EXPECT_EQ(infinite.bins(0), 2U);  // infinity bounds nothing
}

TEST(TokenPlanTest, GapsAreToldApartByTheirLogarithm) {
  Prng prng(3);
  std::vector<std::int64_t> gaps{TokenPlan::kNoGap, 0, -5};
  for (int i = 0; i < 10'000; ++i) gaps.push_back(static_cast<std::int64_t>(std::pow(10.0, 7 * prng.uniform())));
  const auto plan = *TokenPlan::learn(kName, std::vector<float>{1, 2}, gaps, 16);
  EXPECT_EQ(plan.bins(1), 16U);
  EXPECT_EQ(bin_of(plan, 0, TokenPlan::kNoGap, 1), 0);
  EXPECT_EQ(bin_of(plan, 0, 0, 1), 1);
  EXPECT_EQ(bin_of(plan, 0, -5, 1), 1);
  EXPECT_GT(bin_of(plan, 0, 1, 1), 1);
  EXPECT_EQ(bin_of(plan, 0, INT64_MAX, 1), 15);
  const auto& edges = plan.field(1).edges;
  for (std::size_t i = 3; i < edges.size(); ++i) EXPECT_NEAR(edges[i] / edges[i - 1], edges[2] / edges[1], 1e-3);
}

TEST(TokenPlanTest, ARegularGapIsInsideItsBin) {
  const auto plan = *TokenPlan::learn(kName, std::vector<float>{1, 2}, std::vector<std::int64_t>(1'000, 300'000), 16);
  const int regular = bin_of(plan, 0, 300'000, 1);
  EXPECT_EQ(bin_of(plan, 0, 302'000, 1), regular);
  EXPECT_EQ(bin_of(plan, 0, 298'000, 1), regular);
  EXPECT_NE(bin_of(plan, 0, 600'000, 1), regular);
  EXPECT_NE(bin_of(plan, 0, 150'000, 1), regular);
}

TEST(TokenPlanTest, RefusesWhatNoTrainingMakes) {
  using Fields = std::vector<TokenPlan::Field>;
  const auto refused = [](Fields fields, std::vector<float> gap, const std::string& why) {
    const auto plan = TokenPlan::create(std::move(fields), std::move(gap));
    ASSERT_FALSE(plan.has_value()) << why;
    EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(plan.error().message.find(why), std::string::npos) << plan.error().message;
  };
  refused({}, {}, "1 to 63 columns");
  refused(Fields(64, {"x", {}}), {}, "1 to 63 columns");
  refused({{"x", {1, 1}}}, {}, "'x' must be finite and ascend");
  refused({{"x", {kNaN}}}, {}, "'x' must be finite");
  refused({{"x", {kInfinity}}}, {}, "'x' must be finite");
  refused({{"x", {}}}, {2, 1}, "time since");
  refused({{"x", std::vector<float>(31, 0)}}, {}, "at most 30");
  refused({{"", {}}}, {}, "needs a name");
  refused({{"a\nb", {}}}, {}, "needs a name");
  refused({{"x", {}}, {"x", {}}}, {}, "column 1");
  EXPECT_FALSE(TokenPlan::learn(kName, {}, kNoGaps, 16).has_value());
  EXPECT_FALSE(TokenPlan::learn(kName, std::vector<float>{1}, kNoGaps, 33).has_value());
}

TEST(TokenPlanTest, TheFingerprintKnowsEveryEdgeAndName) {
  const auto print = [](std::string name, float edge, float gap) {
    return TokenPlan::create({{std::move(name), {edge}}}, {gap})->fingerprint();
  };
  EXPECT_EQ(print("x", 1, 2), print("x", 1, 2));
  EXPECT_NE(print("x", 1, 2), print("y", 1, 2));
  EXPECT_NE(print("x", 1, 2), print("x", std::nextafter(1.0F, 2.0F), 2));
  EXPECT_NE(print("x", 1, 2), print("x", 1, 3));
}

}  // namespace
}  // namespace alcedo::models
