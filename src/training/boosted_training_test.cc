// What is trained separates what it was shown, stops in time, repeats, and refuses what cannot be learnt from.
#include "training/boosted_training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/prng.h"

namespace alcedo::training {
namespace {

using ::testing::HasSubstr;

constexpr std::size_t kColumns = 6;

struct Rows {
  std::vector<float> values;
  std::vector<std::uint32_t> labels;
  std::span<const float> row(std::size_t i) const { return std::span(values).subspan(i * kColumns, kColumns); }
};

// Type 1: two columns are high together. Type 2: one column is missing and another low. All else is normal.
Rows make_rows(std::size_t count, std::uint64_t seed, double wrong_labels = 0) {
  Prng random(seed);
  Rows rows;
  for (std::size_t i = 0; i < count; ++i) {
    float x[kColumns];
    for (float& value : x) value = static_cast<float>(random.normal());
    if (random.uniform() < 0.3) x[3] = NAN;
    std::uint32_t label = 0;
    if (x[0] > 0.3F && x[1] > 0.3F) label = 1;
    if (std::isnan(x[3]) && x[4] < -0.5F) label = 2;
    if (random.uniform() < wrong_labels) label = static_cast<std::uint32_t>(random.below(3));
    rows.values.insert(rows.values.end(), x, x + kColumns);
    rows.labels.push_back(label);
  }
  return rows;
}

BoostedTraining train(const Rows& rows, const BoostedOptions& options, std::span<const float> weights = {}) {
  auto trained = train_boosted(rows.values, kColumns, rows.labels, weights, options);
  EXPECT_TRUE(trained) << trained.error().message;
  return std::move(*trained);
}

double share_right(const models::TreeEnsemble& trees, const Rows& rows) {
  std::vector<float> out(rows.labels.size() * trees.outputs());
  trees.score(rows.values, kColumns, out);
  std::size_t right = 0;
  for (std::size_t i = 0; i < rows.labels.size(); ++i) {
    const float* scores = out.data() + i * trees.outputs();
    const std::uint32_t told =
        trees.outputs() == 1 ? (scores[0] > 0.5F ? 1 : 0)
                             : static_cast<std::uint32_t>(std::max_element(scores, scores + trees.outputs()) - scores);
    if (told == rows.labels[i]) ++right;
  }
  return static_cast<double>(right) / static_cast<double>(rows.labels.size());
}

TEST(BoostedTrainingTest, LearnsEachTypeAndWhatMissingMeans) {
  const BoostedTraining trained = train(make_rows(6000, 1), {.classes = 3, .rounds_max = 60, .seed = 1});
  EXPECT_EQ(trained.trees.outputs(), 3U);
  EXPECT_EQ(trained.training_rows, 4800U);
  EXPECT_EQ(trained.validation_rows, 1200U);
  EXPECT_EQ(trained.trees.trees(), trained.rounds * 3);
  EXPECT_LT(trained.validation_loss, 0.1);
  const Rows unseen = make_rows(3000, 2);
  EXPECT_GT(share_right(trained.trees, unseen), 0.98);
  // Type 2 is told by the missing value: its contribution says so.
  std::vector<float> by_column(kColumns);
  const std::vector<float> row = {0, 0, 0, NAN, -1.5F, 0};
  trained.trees.contributions(row, 2, by_column);
  EXPECT_GT(by_column[3] + by_column[4], 2);
  EXPECT_LT(std::fabs(by_column[2]) + std::fabs(by_column[5]), 0.5);
}

TEST(BoostedTrainingTest, BinaryScoresAreProbabilities) {
  Rows rows = make_rows(5000, 3);
  for (auto& label : rows.labels) label = label == 1 ? 1 : 0;
  const BoostedTraining trained = train(rows, {.rounds_max = 50});
  EXPECT_EQ(trained.trees.outputs(), 1U);
  std::vector<float> out(rows.labels.size());
  trained.trees.score(rows.values, kColumns, out);
  double sum = 0, ones = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_TRUE(out[i] > 0 && out[i] < 1);
    sum += out[i];
    ones += rows.labels[i];
  }
  EXPECT_NEAR(sum / ones, 1, 0.05) << "calibrated in the mean";
  EXPECT_GT(share_right(trained.trees, rows), 0.98);
}

TEST(BoostedTrainingTest, StopsWhenTheLastRowsGainNothingMore) {
  std::vector<BoostedProgress> seen;
  BoostedOptions options{.classes = 3, .rounds_max = 400, .learning_rate = 0.5, .patience_rounds = 10};
  options.progress = [&](const BoostedProgress& progress) {
    seen.push_back(progress);
    return true;
  };
  const BoostedTraining trained = train(make_rows(1500, 4, 0.3), options);
  ASSERT_LT(seen.size(), 400U) << "a third of the labels are noise: it has to stop";
  EXPECT_EQ(seen.size(), trained.rounds + 10);
  EXPECT_EQ(seen.back().best_round, trained.rounds);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].round, i + 1);
    EXPECT_GE(seen[i].validation_loss, trained.validation_loss);
  }
  EXPECT_EQ(seen[trained.rounds - 1].validation_loss, trained.validation_loss);
}

TEST(BoostedTrainingTest, TheCallerMayEndIt) {
  BoostedOptions options{.classes = 3, .rounds_max = 100, .validation_share = 0};
  options.progress = [](const BoostedProgress& progress) {
    EXPECT_TRUE(std::isnan(progress.validation_loss));
    return progress.round < 7;
  };
  const BoostedTraining trained = train(make_rows(500, 5), options);
  EXPECT_EQ(trained.rounds, 7U);
  EXPECT_EQ(trained.trees.trees(), 21U);
  EXPECT_EQ(trained.validation_rows, 0U);
}

TEST(BoostedTrainingTest, TheSeedDecidesAndThreadsRepeat) {
  const Rows rows = make_rows(800, 6);
  const auto bytes = [&](std::uint32_t seed, std::uint32_t threads) {
    models::TensorFile file;
    train(rows,
          {.classes = 3, .rounds_max = 3, .row_share = 0.7, .column_share = 0.7, .seed = seed, .threads = threads})
        .trees.save(file, "b");
    return file.serialize();
  };
  EXPECT_EQ(bytes(1, 1), bytes(1, 1));
  EXPECT_EQ(bytes(1, 2), bytes(1, 2));
  EXPECT_NE(bytes(1, 1), bytes(2, 1));
}

TEST(BoostedTrainingTest, LeavesAreLimitedAndWeightsCount) {
  const Rows rows = make_rows(3000, 7, 0.2);
  const BoostedTraining trained = train(rows, {.classes = 3, .rounds_max = 5, .leaves_max = 8});
  for (std::size_t t = 0; t < trained.trees.trees(); ++t) {
    const auto& spec = trained.trees.spec();
    const std::size_t end = t + 1 < spec.trees.size() ? spec.trees[t + 1].first_node : spec.nodes.size();
    EXPECT_LE(end - spec.trees[t].first_node, 15U);
  }
  // Rows of type 1 that weigh nothing are as if they were not there.
  std::vector<float> weights;
  for (const std::uint32_t label : rows.labels) weights.push_back(label == 1 ? 0 : 1);
  const BoostedTraining weighed = train(rows, {.classes = 3, .rounds_max = 30}, weights);
  std::vector<float> out(3);
  weighed.trees.score(std::vector<float>{1, 1, 0, 0, 0, 0}, kColumns, out);
  EXPECT_LT(out[1], 0.1F);
}

TEST(BoostedTrainingTest, InfinitiesAreLargeValues) {
  Rows rows = make_rows(1000, 8);
  for (std::size_t i = 0; i < 1000; i += 5) {
    rows.values[i * kColumns + 5] = i % 2 == 0 ? INFINITY : -INFINITY;
    rows.labels[i] = i % 2 == 0 ? 1 : 2;
  }
  const BoostedTraining trained = train(rows, {.classes = 3, .rounds_max = 30, .validation_share = 0});
  std::vector<float> out(3);
  trained.trees.score(std::vector<float>{0, 0, 0, 0, 0, INFINITY}, kColumns, out);
  EXPECT_GT(out[1], 0.8F);
  trained.trees.score(std::vector<float>{0, 0, 0, 0, 0, -INFINITY}, kColumns, out);
  EXPECT_GT(out[2], 0.8F);
}

TEST(BoostedTrainingTest, RefusesWhatCannotBeLearntFrom) {
  const auto refusal = [](std::size_t values, std::vector<std::uint32_t> labels, std::vector<float> weights,
                          const BoostedOptions& options) {
    const std::vector<float> rows(values, 1);
    const auto trained = train_boosted(rows, 2, labels, weights, options);
    return trained ? std::string("accepted") : trained.error().message;
  };
  const std::vector<std::uint32_t> good = {0, 1, 0, 1};
  EXPECT_EQ(refusal(8, good, {}, {.rounds_max = 2}), "accepted") << "constant rows: trees of one leaf";
  EXPECT_EQ(refusal(0, {}, {}, {}), "boosted training: no rows");
  EXPECT_THAT(refusal(7, good, {}, {}), HasSubstr("7 values are no rows of 2 columns"));
  EXPECT_THAT(refusal(8, {0, 1}, {}, {}), HasSubstr("2 labels for 4 rows"));
  EXPECT_THAT(refusal(8, {0, 2, 0, 1}, {}, {}), HasSubstr("row 1 has the label 2 of 2"));
  EXPECT_THAT(refusal(8, {0, 0, 0, 1}, {}, {.validation_share = 0.25}),
              HasSubstr("all 3 rows for training have the label 0"));
  EXPECT_THAT(refusal(8, good, {1, 1, -1, 1}, {}), HasSubstr("row 2 has the weight -1"));
  EXPECT_THAT(refusal(8, good, {1}, {}), HasSubstr("1 weights"));
  EXPECT_THAT(refusal(8, good, {}, {.classes = 1}), HasSubstr("1 classes"));
  EXPECT_THAT(refusal(8, good, {}, {.rounds_max = 0}), HasSubstr("0 rounds"));
  EXPECT_THAT(refusal(8, good, {}, {.leaves_max = 1}), HasSubstr("1 leaves"));
  EXPECT_THAT(refusal(8, good, {}, {.learning_rate = 0}), HasSubstr("learning rate"));
  EXPECT_THAT(refusal(8, good, {}, {.validation_share = 1}), HasSubstr("validation_share"));
  EXPECT_THAT(refusal(8, good, {}, {.threads = 0}), HasSubstr("0 threads"));
}

}  // namespace
}  // namespace alcedo::training
