// Median and MAD against a sort of all values, and what outliers do to them.
#include "features/operators/robust_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "features/operators/naive_level.h"

namespace alcedo::features {
namespace {

using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

FeatureSpec robust(std::uint32_t min_history) {
  FeatureSpec spec = testing::baseline("robust", 1, 1, kHourMs, min_history);
  spec.kind = FeatureKind::kRobust;
  return spec;
}

double middle(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::vector<testing::ExpectedColumn> answer(std::vector<double>& all, double x, double step, bool in_order,
                                            std::uint32_t min_history) {
  double median = kMissing, mad = kMissing, spread = kMissing, z = kMissing;
  const auto history = static_cast<double>(all.size());
  if (!all.empty()) {
    const auto kept = static_cast<std::ptrdiff_t>(std::min<std::size_t>(64, all.size()));
    const std::vector<double> last(all.end() - kept, all.end());
    median = middle(last);
    std::vector<double> distances;
    for (const double value : last) distances.push_back(std::fabs(value - median));
    mad = middle(distances);
    spread = std::sqrt(1.4826 * mad * 1.4826 * mad + testing::naive_floor(median, step));
    if (all.size() >= min_history) z = std::isnan(x) ? kMissing : std::clamp((x - median) / spread, -1e6, 1e6);
  }
  if (in_order && !std::isnan(x)) all.push_back(x);
  return {{"seen", x}, {"median", median}, {"mad", mad}, {"spread", spread}, {"z", z}, {"history", history}};
}

TEST(RobustOperatorTest, AgreesWithASortOfAllValues) {
  testing::ColumnTally tally;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    FeatureSpec spec = robust(seed % 2 == 0 ? 5 : 20);
    if (seed % 3 == 0) spec.number = 0;  // whole amounts: many equal ones
    const FeaturePlan plan = testing::plan_of(spec, seed % 2 == 0);
    testing::compare_columns<std::vector<double>>(
        plan, testing::make_stream(seed, {.events = 4000, .step_ms = 50'000, .missing_share = 0.1}),
        [&](auto& all, const TestEvent&, double x, double step, std::int64_t, bool in_order) {
          return answer(all, x, step, in_order, spec.min_history);
        },
        tally);
  }
  std::cout << tally.compared << " compared, " << tally.present << " present, " << tally.wrong << " wrong\n";
  EXPECT_GT(tally.present, 100'000U);
  EXPECT_EQ(tally.wrong, 0U);
}

TEST(RobustOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(robust(5)), testing::make_stream(7, {.events = 3000})), 0U);
}

// The last of the values against those before it.
std::vector<float> last_row(const FeaturePlan& plan, const std::vector<double>& values) {
  std::vector<TestEvent> events;
  for (const double x : values) {
    events.push_back({kBegin + static_cast<std::int64_t>(events.size()) * 1000, {0, x}, {"", "a"}, 0});
  }
  return testing::run(plan, events, {}).rows.back();
}

TEST(RobustOperatorTest, ExampleOfTheDocs) {
  const auto row = last_row(testing::plan_of(robust(5)), {1, 2, 3, 4, 100, 9});
  EXPECT_EQ(row[0], 9);
  EXPECT_EQ(row[1], 3);
  EXPECT_EQ(row[2], 1);
  EXPECT_NEAR(row[3], 1.4826, 1e-4);
  EXPECT_NEAR(row[4], 4.047, 1e-3);
  EXPECT_EQ(row[5], 5);
}

TEST(RobustOperatorTest, AFifthOfWildValuesDoesNotMoveIt) {
  Prng random(5);
  std::vector<double> clean;
  std::vector<double> wild;
  for (int i = 0; i < 300; ++i) {
    const double x = 50 + random.normal();
    clean.push_back(x);
    wild.push_back(i % 5 == 4 ? 5000 + 100 * random.normal() : x);
  }
  clean.push_back(56);
  wild.push_back(56);
  const FeaturePlan plan = testing::plan_of(robust(5));
  const auto undisturbed = last_row(plan, clean);
  const auto disturbed = last_row(plan, wild);
  EXPECT_NEAR(disturbed[1], undisturbed[1], 0.5);
  EXPECT_GT(undisturbed[4], 4.5);
  EXPECT_GT(disturbed[4], 3);
  // The decayed mean, beside it, is lost: it sees nothing strange in 56.
  const auto mean = last_row(testing::plan_of(testing::baseline("mean", 1, 1, 300 * kDayMs, 5)), wild);
  EXPECT_LT(std::fabs(mean[3]), 1);
}

TEST(RobustOperatorTest, IsADeviationThatDetectorsCanName) {
  auto plan = FeaturePlan::compile({testing::test_layout(false), {robust(5)}, {{0, "", DeviationMethod::kEwma}}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->deviations().size(), 1U);
  EXPECT_EQ(plan->columns().size(), 6U) << "the operator's columns serve";
  const Deviation& d = plan->deviations()[0];
  EXPECT_EQ(d.name, "robust");
  EXPECT_EQ(plan->columns()[d.expected].name, "robust.median");
  EXPECT_EQ(plan->columns()[d.spread].name, "robust.spread");
  const auto row = last_row(*plan, {1, 2, 3, 4, 100, 9});
  EXPECT_NEAR((row[d.seen] - row[d.expected]) / row[d.spread], row[d.z], 1e-5);
  EXPECT_NEAR(row[d.z], 4.047, 1e-3);
}

}  // namespace
}  // namespace alcedo::features
