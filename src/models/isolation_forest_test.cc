// Forests score as the paper and scikit-learn do, rank outliers first, and take rows of every kind.
#include "models/isolation_forest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace alcedo::models {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> score(const TreeEnsemble& model, std::span<const float> rows) {
  std::vector<float> out(rows.size() / model.columns());
  model.score(rows, model.columns(), out);
  return out;
}

TreeEnsemble train(std::span<const float> rows, std::size_t columns, const IsolationForest::Options& options) {
  auto model = IsolationForest::train(rows, columns, options);
  EXPECT_TRUE(model) << model.error().message;
  return std::move(*model);
}

std::vector<float> normal_rows(std::size_t rows, std::size_t columns, std::uint64_t seed) {
  Prng random(seed);
  std::vector<float> values(rows * columns);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

TEST(IsolationForestTest, ScoresImportedTreesAsScikitLearnDoes) {
  const auto file =
      TensorFile::read(std::string(ALCEDO_SOURCE_DIR) + "/tests/golden/models/isolation_forest.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  const auto model = TreeEnsemble::load(*file, "forest");
  ASSERT_TRUE(model) << model.error().message;
  const std::uint64_t rows_shape[] = {TensorFile::kAnySize, model->columns()};
  const auto rows = file->get<float>("rows", rows_shape);
  ASSERT_TRUE(rows);
  const std::uint64_t scores_shape[] = {rows->size() / model->columns()};
  const auto expected = file->get<double>("scores", scores_shape);
  ASSERT_TRUE(expected);
  const std::vector<float> got = score(*model, *rows);
  ASSERT_GE(got.size(), 100U);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], (*expected)[i], 1e-6) << "row " << i;
}

TEST(IsolationForestTest, MeanPathLengthsAreThoseOfThePaper) {
  EXPECT_EQ(mean_path_length(0), 0);
  EXPECT_EQ(mean_path_length(1), 0);
  EXPECT_EQ(mean_path_length(2), 1);
  EXPECT_NEAR(mean_path_length(256), 10.2448, 1e-4);
}

TEST(IsolationForestTest, LeavesAreDepthPlusTheExpectedRest) {
  const std::vector<float> rows = normal_rows(500, 3, 1);
  const TreeEnsemble model = train(rows, 3, {.trees = 20, .sample_rows = 64, .seed = 3});
  for (std::size_t t = 0; t < model.trees(); ++t) {
    const std::span<const TreeNode> nodes = std::span(model.spec().nodes).subspan(model.spec().trees[t].first_node);
    EXPECT_EQ(nodes[0].cover, 64);
    std::vector<std::pair<std::size_t, double>> open = {{0, 0}};
    while (!open.empty()) {
      const auto [index, depth] = open.back();
      open.pop_back();
      const TreeNode& node = nodes[index];
      EXPECT_LE(depth, 6);
      if (node.is_leaf()) {
        EXPECT_FLOAT_EQ(node.value,
                        static_cast<float>(depth + mean_path_length(static_cast<std::uint64_t>(node.cover))));
        EXPECT_TRUE(node.cover == 1 || depth == 6);
        continue;
      }
      EXPECT_EQ(nodes[node.left].cover + nodes[node.right].cover, node.cover);
      open.emplace_back(node.left, depth + 1);
      open.emplace_back(node.right, depth + 1);
    }
  }
}

TEST(IsolationForestTest, RanksWhatLiesFarAwayFirst) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<float> rows = normal_rows(1000, 5, seed);
    const TreeEnsemble model = train(rows, 5, {.seed = seed});
    const std::vector<float> inside = score(model, rows);
    const std::vector<float> far = {8, -8, 8, 8, -8};
    const float strange = score(model, far)[0];
    EXPECT_GT(strange, *std::ranges::max_element(inside)) << "seed " << seed;
    EXPECT_GT(strange, 0.68F);
    EXPECT_LT(score(model, std::vector<float>(5, 0))[0], 0.45F);
    std::vector<float> by_column(5);
    model.contributions(std::vector<float>{0, 0, 9, 0, 0}, 0, by_column);
    EXPECT_LT(by_column[2], -50) << "the column that is far shortens the paths";
    for (const std::size_t c : {0, 1, 3, 4}) EXPECT_GT(by_column[c], 0);
  }
}

TEST(IsolationForestTest, TheSeedAloneDecides) {
  const std::vector<float> rows = normal_rows(700, 4, 9);
  const auto bytes = [&](std::uint64_t seed) {
    TensorFile file;
    train(rows, 4, {.trees = 10, .seed = seed}).save(file, "f");
    return file.serialize();
  };
  EXPECT_EQ(bytes(1), bytes(1));
  EXPECT_NE(bytes(1), bytes(2));
}

TEST(IsolationForestTest, FewMissingValuesAreStrangeManyAreNot) {
  Prng random(4);
  std::vector<float> rows = normal_rows(2000, 4, 4);
  for (std::size_t r = 0; r < 2000; ++r) {
    if (r % 50 == 0) rows[r * 4 + 1] = kNan;  // one in fifty
    if (r % 2 == 0) rows[r * 4 + 2] = kNan;   // every second one
  }
  const TreeEnsemble model = train(rows, 4, {.seed = 4});
  const float none = score(model, std::vector<float>{0, 0, 0, 0})[0];
  const float rare = score(model, std::vector<float>{0, kNan, 0, 0})[0];
  const float often = score(model, std::vector<float>{0, 0, kNan, 0})[0];
  const float unseen = score(model, std::vector<float>{kNan, 0, 0, 0})[0];
  EXPECT_GT(rare, none + 0.08F);
  EXPECT_LT(often, none + 0.02F);
  EXPECT_LT(unseen, none + 0.02F) << "what training never saw missing makes no row strange";
}

TEST(IsolationForestTest, ConstantRowsAreAllAlike) {
  const std::vector<float> constant(40 * 3, 7), missing(40 * 3, kNan);
  for (const auto& rows : {constant, missing}) {
    const TreeEnsemble model = train(rows, 3, {.trees = 5});
    for (const float x : score(model, rows)) EXPECT_FLOAT_EQ(x, 0.5F);
    EXPECT_FLOAT_EQ(score(model, std::vector<float>{1, 2, kNan})[0], 0.5F) << "nothing to be strange by";
  }
}

TEST(IsolationForestTest, OneColumnOfAThousandIsFoundAmongConstants) {
  constexpr std::size_t kColumns = 1000;
  std::vector<float> rows(300 * kColumns, 1);
  Prng random(2);
  for (std::size_t r = 0; r < 300; ++r) {
    rows[r * kColumns + 500] = static_cast<float>(random.normal());
    rows[r * kColumns + 7] = kNan;
  }
  const TreeEnsemble model = train(rows, kColumns, {.trees = 20});
  for (const TreeNode& node : model.spec().nodes) EXPECT_TRUE(node.is_leaf() || node.column == 500);
  std::vector<float> row(rows.begin(), rows.begin() + kColumns);
  row[500] = 30;
  const float far = score(model, row)[0];
  row[500] = 0;
  EXPECT_GT(far, score(model, row)[0] + 0.1F);
}

TEST(IsolationForestTest, TakesInfinitiesAndNeighbouringFloats) {
  const float one = 1, next = std::nextafter(1.0F, 2.0F);
  std::vector<float> rows;
  for (int i = 0; i < 100; ++i) rows.push_back(i % 2 == 0 ? one : next);
  rows.push_back(std::numeric_limits<float>::infinity());
  rows.push_back(-std::numeric_limits<float>::infinity());
  const TreeEnsemble model = train(rows, 1, {.trees = 50});
  const std::vector<float> got = score(model, rows);
  EXPECT_GT(got[100], got[0] + 0.1F);
  EXPECT_GT(got[101], got[0] + 0.1F);
}

TEST(IsolationForestTest, SaysWhatItCannotTrain) {
  const auto refusal = [](std::size_t values, std::size_t columns, IsolationForest::Options options) {
    const std::vector<float> rows(values, 1);
    const auto model = IsolationForest::train(rows, columns, options);
    return model ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(refusal(0, 3, {}), "isolation forest: 0 rows; at least 2 are needed, 256 are better");
  EXPECT_THAT(refusal(3, 3, {}), HasSubstr("1 rows"));
  EXPECT_EQ(refusal(6, 3, {}), "accepted");
  EXPECT_THAT(refusal(7, 3, {}), HasSubstr("7 values are no rows of 3 columns"));
  EXPECT_THAT(refusal(7, 0, {}), HasSubstr("0 columns"));
  EXPECT_THAT(refusal(6, 3, {.trees = 0}), HasSubstr("0 trees"));
  EXPECT_THAT(refusal(6, 3, {.sample_rows = 1}), HasSubstr("samples of 1 rows"));
}

TEST(RowReservoirTest, KeepsEveryRowWithTheSameChance) {
  constexpr std::size_t kCapacity = 50, kRows = 500, kRuns = 400;
  std::vector<int> kept(kRows, 0);
  for (std::uint64_t seed = 0; seed < kRuns; ++seed) {
    RowReservoir reservoir(kCapacity, 2, seed);
    for (std::size_t r = 0; r < kRows; ++r) reservoir.add(std::vector<float>{static_cast<float>(r), -1});
    ASSERT_EQ(reservoir.rows().size(), kCapacity * 2);
    for (std::size_t i = 0; i < kCapacity; ++i) ++kept[static_cast<std::size_t>(reservoir.rows()[i * 2])];
  }
  // Each row is kept 40 times in the mean, with a deviation of 6; tenths of the stream deviate by less than 2 %.
  for (std::size_t tenth = 0; tenth < 10; ++tenth) {
    int sum = 0;
    for (std::size_t r = tenth * 50; r < tenth * 50 + 50; ++r) sum += kept[r];
    EXPECT_NEAR(sum, 2000, 200) << "tenth " << tenth;
  }
  EXPECT_LT(*std::ranges::max_element(kept), 80);
  EXPECT_GT(*std::ranges::min_element(kept), 10);
}

TEST(RowReservoirTest, KeepsAllOfAShortStreamAndRepeats) {
  RowReservoir first(10, 1, 3), second(10, 1, 3);
  for (int i = 0; i < 7; ++i) first.add(std::vector<float>{static_cast<float>(i)});
  EXPECT_THAT(first.rows(), ::testing::ElementsAre(0, 1, 2, 3, 4, 5, 6));
  for (int i = 7; i < 1000; ++i) first.add(std::vector<float>{static_cast<float>(i)});
  for (int i = 0; i < 1000; ++i) second.add(std::vector<float>{static_cast<float>(i)});
  EXPECT_TRUE(std::ranges::equal(first.rows(), second.rows()));
  EXPECT_EQ(first.seen(), 1000U);
}

}  // namespace
}  // namespace alcedo::models
