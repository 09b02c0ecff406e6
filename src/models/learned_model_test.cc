// A learned model's scores are what its trees and base rates say, and a file of it is that model again.
#include "models/learned_model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/test_models.h"

namespace alcedo::models {
namespace {

std::vector<float> scores(const LearnedModel& model, std::vector<float> rows) {
  std::vector<float> out(rows.size() / model.columns.size() * model.scores());
  model.score(rows, out);
  return out;
}

float softplus(double x) { return static_cast<float>(std::log1p(std::exp(x))); }

TEST(LearnedModelTest, BoostedTreesGiveOddsAgainstTheBaseRate) {
  auto model = testing::boosted();
  const auto even = scores(model, {0, 0, 20, 0, 20, 9});
  EXPECT_NEAR(even[0], softplus(-2), 1e-6);
  EXPECT_NEAR(even[1], softplus(2), 1e-6);
  EXPECT_NEAR(even[2], softplus(3), 1e-6);
  model.base_rates = {0.01};
  EXPECT_NEAR(scores(model, {20, 9})[0], softplus(3 + std::log(99.0)), 1e-6);
  EXPECT_GE(scores(model, {NAN, NAN})[0], 0);
}

TEST(LearnedModelTest, EachTypeHasItsOddsAgainstAllElse) {
  const auto model = testing::boosted_by_type();
  ASSERT_EQ(model.scores(), 3U);
  // Margins: normal 0, theft 3, testing 2.
  const auto row = scores(model, {20, 9});
  EXPECT_NEAR(row[0], softplus(std::log(std::exp(3.0) + std::exp(2.0)) - std::log(0.3 / 0.7)), 1e-5);
  EXPECT_NEAR(row[1], softplus(3 - std::log(1 + std::exp(2.0)) - std::log(0.1 / 0.9)), 1e-5);
  EXPECT_NEAR(row[2], softplus(2 - std::log(1 + std::exp(3.0)) - std::log(0.2 / 0.8)), 1e-5);
}

TEST(LearnedModelTest, ContributionsAndWhatIsLeftAreTheLogOddsAgainstTheBaseRate) {
  auto model = testing::boosted();
  model.base_rates = {0.1};
  std::vector<float> moved(2);
  const std::vector<float> row{20, 9};
  const double rest = model.contributions(row, 0, moved);
  EXPECT_NEAR(rest + moved[0] + moved[1], 3 - std::log(0.1 / 0.9), 1e-5);
  EXPECT_NEAR(moved[0], 2, 1e-6);
  EXPECT_NEAR(moved[1], 0.5, 1e-6);

  const auto typed = testing::boosted_by_type();
  const double of_theft = typed.contributions(row, 1, moved);
  EXPECT_NEAR(of_theft + moved[0] + moved[1], 3 - 0 - std::log(0.1 / 0.9), 1e-5);

  const auto forest = testing::forest();
  const double of_forest = forest.contributions(row, 0, moved);
  EXPECT_NEAR(std::exp2(of_forest + moved[0] + moved[1]), scores(forest, {20, 9})[0], 1e-6);
  EXPECT_GT(moved[0], 0) << "a short path is strange";
}

TEST(LearnedModelTest, AFileOfAModelIsThatModel) {
  for (const auto& model : {testing::boosted(), testing::boosted_by_type(), testing::forest()}) {
    const auto file = TensorFile::parse(model.to_file().serialize(), "test");
    ASSERT_TRUE(file) << file.error().message;
    const auto again = LearnedModel::from_file(*file);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->kind, model.kind);
    EXPECT_EQ(again->columns, model.columns);
    EXPECT_EQ(again->meanings, model.meanings);
    EXPECT_EQ(again->types, model.types);
    EXPECT_EQ(scores(*again, {20, 9, 1, 1}), scores(model, {20, 9, 1, 1}));
    EXPECT_EQ(again->to_file().serialize(), model.to_file().serialize());
  }
}

TEST(LearnedModelTest, FilesThatDoNotHoldTogetherAreRefused) {
  const auto refused = [](const LearnedModel& model, auto change) {
    TensorFile file = model.to_file();
    change(file);
    const auto read = LearnedModel::from_file(file);
    return read ? std::string("taken") : read.error().message;
  };
  EXPECT_EQ(refused(testing::forest(), [](TensorFile& f) { f.put_text("kind", "pickle"); }),
            "it is a 'pickle'; expected a forest or boosted");
  EXPECT_EQ(refused(testing::forest(), [](TensorFile& f) { f.put_text("columns", "f.a\n"); }),
            "it names 1 columns, but its trees read 2");
  EXPECT_EQ(refused(testing::forest(), [](TensorFile& f) { f.put_text("columns", "f.a\nf.b"); }),
            "the names of its columns are not a line each");
  EXPECT_EQ(refused(testing::boosted(), [](TensorFile& f) { f.put_text("types", "theft\n"); }),
            "its trees have 1 outputs for 1 types");
  const std::vector<double> wild{1.5};
  EXPECT_EQ(refused(testing::boosted(), [&](TensorFile& f) { f.put<double>("base_rates", {1}, wild); }),
            "base rates of 1.5 together; expected below 1");
  EXPECT_EQ(refused(testing::forest(), [](TensorFile& f) { f.put_text("kind", "boosted"); }),
            "its trees' sums are not what its kind reads");
}

}  // namespace
}  // namespace alcedo::models
