// Every path of the evaluator gives the same bits, nothing malformed is accepted, and contributions add up.
#include "models/tree_ensemble.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "models/random_trees.h"
#include "models/tree_plan.h"

namespace alcedo::models {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TreeEnsemble create(TreeEnsembleSpec spec) {
  auto model = TreeEnsemble::create(std::move(spec));
  EXPECT_TRUE(model) << model.error().message;
  return std::move(*model);
}

TreeNode inner(std::uint32_t column, float threshold, std::int32_t left, std::int32_t right, bool default_left) {
  return {.threshold = threshold, .column = column, .left = left, .right = right, .default_left = default_left};
}
TreeNode leaf(float value, float cover = 1) { return {.value = value, .cover = cover}; }

TreeEnsembleSpec one_split(TreeNode root) {
  TreeEnsembleSpec spec;
  spec.columns = 2;
  spec.base = {0};
  spec.trees = {{0, 0}};
  spec.nodes = {root, leaf(-1), leaf(1)};
  return spec;
}

float score_one(const TreeEnsemble& model, std::vector<float> row) {
  float out = kNan, scalar = kNan;
  model.score(row, model.columns(), std::span(&out, 1));
  model.score_scalar(row, model.columns(), std::span(&scalar, 1));
  EXPECT_EQ(std::memcmp(&out, &scalar, sizeof out), 0) << out << " and " << scalar;
  std::vector<float> rows;
  for (std::size_t i = 0; i < kBlockRows; ++i) rows.insert(rows.end(), row.begin(), row.end());
  std::vector<float> outs(kBlockRows);
  model.score(rows, model.columns(), outs);
  for (const float x : outs) EXPECT_EQ(x, out);
  return out;
}

TEST(TreeEnsembleTest, SendsLessLeftTheRestRightAndNanWhereItIsTold) {
  for (const bool default_left : {false, true}) {
    const TreeEnsemble model = create(one_split(inner(1, 0.5F, 1, 2, default_left)));
    EXPECT_EQ(score_one(model, {9, std::nextafter(0.5F, 0.0F)}), -1);
    EXPECT_EQ(score_one(model, {9, 0.5F}), 1);
    EXPECT_EQ(score_one(model, {9, -kInfinity}), -1);
    EXPECT_EQ(score_one(model, {9, kInfinity}), 1);
    EXPECT_EQ(score_one(model, {9, kNan}), default_left ? -1 : 1);
    EXPECT_EQ(score_one(model, {kNan, 0.5F}), 1) << "no split asks for it";
  }
  const TreeEnsemble all_finite = create(one_split(inner(0, kInfinity, 1, 2, true)));
  EXPECT_EQ(score_one(all_finite, {std::numeric_limits<float>::max(), 0}), -1);
  EXPECT_EQ(score_one(all_finite, {kInfinity, 0}), 1);
  EXPECT_EQ(score_one(all_finite, {kNan, 0}), -1);
}

TEST(TreeEnsembleTest, NothingIsLessThanMinusInfinityAndZerosAreEqual) {
  for (const bool default_left : {false, true}) {
    const TreeEnsemble none = create(one_split(inner(0, -kInfinity, 1, 2, default_left)));
    for (const float x : {-kInfinity, -1.0F, kInfinity}) EXPECT_EQ(score_one(none, {x, 0}), 1);
    EXPECT_EQ(score_one(none, {kNan, 0}), default_left ? -1 : 1);
  }
  for (const float zero : {0.0F, -0.0F}) {
    const TreeEnsemble model = create(one_split(inner(0, zero, 1, 2, true)));
    EXPECT_EQ(score_one(model, {0.0F, 0}), 1);
    EXPECT_EQ(score_one(model, {-0.0F, 0}), 1);
    EXPECT_EQ(score_one(model, {-1e-45F, 0}), -1);
  }
}

TEST(TreeEnsembleTest, ZeroCountsAsMissingWhereItIsTold) {
  TreeEnsembleSpec spec = one_split(inner(0, -1, 1, 2, true));
  spec.zero_is_missing = {1, 0};
  const TreeEnsemble model = create(spec);
  EXPECT_EQ(score_one(model, {0, 0}), -1);
  EXPECT_EQ(score_one(model, {-1e-35F, 0}), -1);
  EXPECT_EQ(score_one(model, {1e-34F, 0}), 1);
  EXPECT_EQ(score_one(model, {kNan, 0}), -1);
}

TEST(TreeEnsembleTest, KnowsTheCategoriesOfASetAndNoOther) {
  for (const bool set_left : {false, true}) {
    TreeNode root = inner(0, 0, 1, 2, false);
    root.category_set = 0;
    root.set_left = set_left;
    TreeEnsembleSpec spec = one_split(root);
    spec.category_sets = {{1, 2}};
    spec.category_words = {~0U, 0b101U, 1U << 31U};
    const TreeEnsemble model = create(spec);
    const float inside = set_left ? -1 : 1;
    for (const float category : {0.0F, 2.0F, 63.0F, 2.9F, -0.5F}) EXPECT_EQ(score_one(model, {category, 0}), inside);
    for (const float category : {1.0F, 62.0F, 64.0F, -1.0F, 1e30F, -1e30F, kInfinity, -kInfinity})
      EXPECT_EQ(score_one(model, {category, 0}), -inside) << category;
    EXPECT_EQ(score_one(model, {kNan, 0}), 1) << "NaN goes to its default, no set has it";
  }
}

TEST(TreeEnsembleTest, AllPathsGiveTheSameBits) {
  const auto targets = tree_targets();
  ASSERT_FALSE(targets.empty());
  const RandomTreeOptions shapes[] = {
      {.columns = 1, .trees = 1, .leaves = 1},
      {.columns = 3, .trees = 1, .leaves = 2},
      {.columns = 40, .trees = 33, .leaves = 32},
      {.columns = 40, .trees = 17, .leaves = 33},
      {.columns = 7, .outputs = 3, .trees = 31, .leaves = 100},
      {.columns = 200, .trees = 9, .leaves = 500, .depth_max = 9},
      {.columns = 5, .outputs = 2, .trees = 20, .leaves = 40, .categorical = 0.2, .zero_is_missing = true},
      {.columns = 4, .trees = 12, .leaves = 20, .zero_is_missing = true},
      {.columns = 2, .trees = 3, .leaves = 40'000},
  };
  std::uint64_t seed = 0;
  for (const RandomTreeOptions& shape : shapes) {
    for (const auto transform : {TreeTransform::kIdentity, TreeTransform::kLogistic, TreeTransform::kSoftmax,
                                 TreeTransform::kExponential, TreeTransform::kPathLength}) {
      TreeEnsembleSpec spec = random_trees(shape, ++seed);
      spec.transform = transform;
      spec.factor = 0.01;
      const TreeEnsemble model = create(std::move(spec));
      constexpr std::size_t kRows = 203;
      const std::vector<float> rows = random_rows(shape, kRows, seed);
      std::vector<float> expected(kRows * shape.outputs), out(expected.size());
      model.score_scalar(rows, shape.columns, expected);
      const auto same = [&] { return std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)) == 0; };
      for (const std::int64_t target : targets) {
        use_tree_target(target);
        for (const std::size_t together : {kRows, std::size_t{1}, std::size_t{30}, std::size_t{64}}) {
          std::ranges::fill(out, kNan);
          for (std::size_t r = 0; r < kRows; r += together) {
            const std::size_t n = std::min(together, kRows - r);
            model.score(std::span(rows).subspan(r * shape.columns, n * shape.columns), shape.columns,
                        std::span(out).subspan(r * shape.outputs, n * shape.outputs));
          }
          EXPECT_TRUE(same()) << "seed " << seed << ", " << tree_target_name(target) << ", " << together << " together";
        }
      }
      use_tree_target(0);
    }
  }
}

TEST(TreeEnsembleTest, AChainAsDeepAsItsNodesIsWalked) {
  TreeEnsembleSpec spec;
  spec.columns = 1;
  spec.base = {0};
  spec.trees = {{0, 0}};
  constexpr std::int32_t kDepth = 3000;
  for (std::int32_t i = 0; i < kDepth; ++i) {
    spec.nodes.push_back(inner(0, static_cast<float>(i), 2 * i + 1, 2 * i + 2, false));
    spec.nodes.push_back(leaf(static_cast<float>(i)));
  }
  spec.nodes.push_back(leaf(-1));
  const TreeEnsemble model = create(spec);
  EXPECT_EQ(score_one(model, {-1}), 0);
  EXPECT_EQ(score_one(model, {2000.5F}), 2001);
  EXPECT_EQ(score_one(model, {1e9F}), -1);
}

TEST(TreeEnsembleTest, ContributionsAddUpToTheRawScore) {
  RandomTreeOptions shape{.columns = 9, .outputs = 3, .trees = 30, .leaves = 31, .categorical = 0.1};
  const TreeEnsemble model = create(random_trees(shape, 5));
  const std::vector<float> rows = random_rows(shape, 50, 6);
  std::vector<float> out(50 * 3);
  model.score(rows, 9, out);
  for (std::size_t r = 0; r < 50; ++r) {
    for (std::size_t o = 0; o < 3; ++o) {
      std::vector<float> by_column(9, kNan);
      const auto row = std::span(rows).subspan(r * 9, 9);
      const double bias = model.contributions(row, o, by_column);
      const double sum = std::accumulate(by_column.begin(), by_column.end(), bias);
      EXPECT_NEAR(sum, model.raw_score(row, o), 1e-5);
      EXPECT_NEAR(sum, out[r * 3 + o], 1e-5);
    }
  }
}

TEST(TreeEnsembleTest, ContributionsAreThoseOfAnExampleByHand) {
  // Root: 10 rows, mean (2 * 6 + 8 * 1) / 10 = 2. Its right side: 8 rows, mean (6 * 0 + 2 * 4) / 8 = 1.
  TreeEnsembleSpec spec;
  spec.columns = 2;
  spec.base = {0.5};
  spec.trees = {{0, 0}};
  spec.nodes = {inner(0, 0, 1, 2, true), leaf(6, 2), inner(1, 0, 3, 4, true), leaf(0, 6), leaf(4, 2)};
  spec.nodes[0].cover = 10;
  spec.nodes[2].cover = 8;
  const TreeEnsemble model = create(spec);
  const std::vector<float> row = {1, 1};
  std::vector<float> by_column(2);
  EXPECT_FLOAT_EQ(model.contributions(row, 0, by_column), 2.5F);
  EXPECT_THAT(by_column, ::testing::ElementsAre(-1, 3));
}

TEST(TreeEnsembleTest, RefusesWhatNoTreeIs) {
  const auto refusal = [](auto change) {
    TreeEnsembleSpec spec = one_split(inner(0, 0, 1, 2, true));
    change(spec);
    const auto model = TreeEnsemble::create(spec);
    if (model) return std::string("accepted");
    EXPECT_EQ(model.error().code, ErrorCode::kInvalidArgument);
    return model.error().message;
  };
  using Spec = TreeEnsembleSpec;
  EXPECT_EQ(refusal([](Spec&) {}), "accepted");
  EXPECT_EQ(refusal([](Spec& s) { s.nodes[0].right = 3; }), "tree ensemble: tree 0, node 0: child 3 of 3 nodes");
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].right = -1; }), HasSubstr("child -1"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].left = -1; }), HasSubstr("child -1"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].left = 0; }), HasSubstr("child 0 has two parents"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].left = 2; }), HasSubstr("child 2 has two parents"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes.push_back(leaf(0)); }), HasSubstr("3 of 4 nodes are reached"));
  EXPECT_THAT(refusal([](Spec& s) {
                // Two nodes that are each other's parents, apart from the tree.
                s.nodes.push_back(inner(0, 0, 4, 4, true));
                s.nodes.push_back(inner(0, 0, 3, 3, true));
              }),
              HasSubstr("3 of 5"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].column = 2; }), HasSubstr("column 2 of 2"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].threshold = kNan; }), HasSubstr("threshold"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[1].value = kInfinity; }), HasSubstr("node 1: a value"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[1].cover = -1; }), HasSubstr("cover"));
  EXPECT_THAT(refusal([](Spec& s) { s.nodes[0].category_set = 0; }), HasSubstr("category set 0 of 0"));
  EXPECT_THAT(refusal([](Spec& s) { s.category_sets = {{0, 1}}; }), HasSubstr("outside of the words"));
  EXPECT_THAT(refusal([](Spec& s) { s.trees[0].output = 1; }), HasSubstr("output 1 of 1"));
  EXPECT_THAT(refusal([](Spec& s) { s.trees.push_back({3, 0}); }), HasSubstr("no nodes"));
  EXPECT_THAT(refusal([](Spec& s) { s.trees.insert(s.trees.begin(), {2, 0}); }), HasSubstr("before the first tree"));
  EXPECT_THAT(refusal([](Spec& s) { s.base = {}; }), HasSubstr("0 base scores"));
  EXPECT_THAT(refusal([](Spec& s) { s.base = {NAN}; }), HasSubstr("base score"));
  EXPECT_THAT(refusal([](Spec& s) { s.columns = 0; }), HasSubstr("0 columns"));
  EXPECT_THAT(refusal([](Spec& s) { s.outputs = 0; }), HasSubstr("0 outputs"));
  EXPECT_THAT(refusal([](Spec& s) { s.zero_is_missing = {1}; }), HasSubstr("zero_is_missing"));
  EXPECT_EQ(refusal([](Spec& s) { s.trees.clear(), s.nodes.clear(); }), "accepted") << "no tree: the base score";
}

TEST(TreeEnsembleTest, IsSavedAndLoadedAsItIs) {
  RandomTreeOptions shape{.columns = 5, .outputs = 2, .trees = 6, .leaves = 40, .categorical = 0.2};
  shape.zero_is_missing = true;
  TreeEnsembleSpec spec = random_trees(shape, 3);
  spec.transform = TreeTransform::kSoftmax;
  spec.factor = 0.25;
  const TreeEnsemble model = create(std::move(spec));
  TensorFile file;
  model.save(file, "fraud");
  const auto read = TensorFile::parse(file.serialize(), "x");
  ASSERT_TRUE(read);
  const auto loaded = TreeEnsemble::load(*read, "fraud");
  ASSERT_TRUE(loaded) << loaded.error().message;
  const std::vector<float> rows = random_rows(shape, 100, 4);
  std::vector<float> first(200), second(200), by_first(5), by_second(5);
  model.score(rows, 5, first);
  loaded->score(rows, 5, second);
  EXPECT_EQ(first, second);
  const auto row = std::span(rows).first(5);
  EXPECT_EQ(model.contributions(row, 1, by_first), loaded->contributions(row, 1, by_second));
  EXPECT_EQ(by_first, by_second);
  TensorFile again;
  loaded->save(again, "fraud");
  EXPECT_EQ(again.serialize(), file.serialize());
  EXPECT_EQ(TreeEnsemble::load(*read, "other").error().code, ErrorCode::kNotFound);
}

TEST(TreeEnsembleTest, LoadsNothingThatIsDamaged) {
  RandomTreeOptions shape{.columns = 5, .trees = 2, .leaves = 6};
  const TreeEnsemble model = create(random_trees(shape, 3));
  TensorFile file;
  model.save(file, "m");
  const auto damaged = [&](auto change) {
    TensorFile copy = file;
    change(copy);
    const auto loaded = TreeEnsemble::load(copy, "m");
    return loaded ? std::string("accepted") : loaded.error().message;
  };
  EXPECT_EQ(damaged([](TensorFile&) {}), "accepted");
  const std::vector<std::int32_t> children(22, 1);
  EXPECT_THAT(damaged([&](TensorFile& f) { f.put<std::int32_t>("m.node.left", {22}, children); }),
              HasSubstr("two parents"));
  EXPECT_THAT(damaged([&](TensorFile& f) { f.put<std::int32_t>("m.node.left", {21}, std::span(children).first(21)); }),
              HasSubstr("has the shape [21]; [22] is expected"));
  const std::vector<std::uint64_t> version = {2, 5, 1, 0}, transform = {1, 5, 1, 9};
  EXPECT_THAT(damaged([&](TensorFile& f) { f.put<std::uint64_t>("m.shape", {4}, version); }), HasSubstr("version 2"));
  EXPECT_THAT(damaged([&](TensorFile& f) { f.put<std::uint64_t>("m.shape", {4}, transform); }), HasSubstr("transform"));
  const std::vector<std::uint8_t> flags(22, 4);
  EXPECT_THAT(damaged([&](TensorFile& f) { f.put<std::uint8_t>("m.node.flags", {22}, flags); }), HasSubstr("flags"));
}

}  // namespace
}  // namespace alcedo::models
