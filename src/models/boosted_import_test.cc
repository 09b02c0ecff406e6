// Imported models score as the libraries that trained them, and damaged ones are refused with their place.
#include "models/boosted_import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "core/prng.h"
#include "models/boosted_import_invariants.h"

namespace alcedo::models {
namespace {

using ::testing::HasSubstr;

const std::string kGolden = std::string(ALCEDO_SOURCE_DIR) + "/tests/golden/models/";

std::string read_text(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

class GoldenModelTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenModelTest, ScoresAsItsLibraryDoes) {
  const std::string name = GetParam();
  const auto model = import_boosted(kGolden + name);
  ASSERT_TRUE(model) << model.error().message;
  const auto file = TensorFile::read(kGolden + name.substr(0, name.find('.')) + ".expected.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  const TreeEnsemble& trees = model->trees;
  const std::uint64_t rows_shape[] = {TensorFile::kAnySize, trees.columns()};
  const auto rows = file->get<float>("rows", rows_shape, FloatPolicy::kAny);
  ASSERT_TRUE(rows) << rows.error().message;
  const std::size_t count = rows->size() / trees.columns();
  ASSERT_GE(count, 100U);
  const std::uint64_t scores_shape[] = {count, trees.outputs()};
  const auto raw = file->get<double>("raw", scores_shape), scores = file->get<double>("scores", scores_shape);
  ASSERT_TRUE(raw && scores);
  std::vector<float> got(count * trees.outputs());
  trees.score(*rows, trees.columns(), got);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::size_t row = i / trees.outputs();
    const double sum = trees.raw_score(rows->subspan(row * trees.columns(), trees.columns()), i % trees.outputs());
    const double bound = 1e-6 * std::max(1.0, std::fabs((*scores)[i]));
    if (std::fabs(sum - (*raw)[i]) <= 1e-6 && std::fabs(got[i] - (*scores)[i]) <= bound) continue;
    if (++wrong > 5) continue;
    ADD_FAILURE() << "row " << row << ": raw " << sum << " for " << (*raw)[i] << ", score " << got[i] << " for "
                  << (*scores)[i];
  }
  EXPECT_EQ(wrong, 0U);
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModelTest,
                         ::testing::Values("xgboost_binary.json", "xgboost_multi.json", "xgboost_poisson.json",
                                           "xgboost_categorical.json", "lightgbm_binary.txt", "lightgbm_multi.txt",
                                           "lightgbm_zero.txt", "lightgbm_none.txt", "lightgbm_average.txt",
                                           "lightgbm_categorical.txt"));

TEST(BoostedImportTest, GoldenModelsHaveWhatTheyAreThereFor) {
  const auto categorical = import_boosted(kGolden + "xgboost_categorical.json");
  ASSERT_TRUE(categorical);
  EXPECT_GE(categorical->trees.spec().category_sets.size(), 10U);
  const auto light = import_boosted(kGolden + "lightgbm_categorical.txt");
  ASSERT_TRUE(light);
  EXPECT_GE(light->trees.spec().category_sets.size(), 5U);
  EXPECT_EQ(light->feature_names[3], "Column_3");
  const auto zero = import_boosted(kGolden + "lightgbm_zero.txt");
  ASSERT_TRUE(zero);
  EXPECT_GE(std::ranges::count(zero->trees.spec().zero_is_missing, 1), 4);
  EXPECT_EQ(import_boosted(kGolden + "lightgbm_multi.txt")->trees.outputs(), 3U);
}

TEST(BoostedImportTest, AFloatBoundAsksTheSameOfEveryFloat) {
  Prng random(1);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int i = 0; i < 20'000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.next());
    float near = 0;
    std::memcpy(&near, &bits, sizeof near);
    if (!std::isfinite(near)) continue;
    double threshold = near;
    if (i % 3 == 1) threshold = std::nextafter(threshold, 1e300);
    if (i % 3 == 2) threshold = std::nextafter(threshold, -1e300);
    const float bound = float_bound(threshold);
    for (const float x : {near, std::nextafter(near, kInfinity), std::nextafter(near, -kInfinity)})
      EXPECT_EQ(x <= threshold, x < bound) << x << " and " << threshold;
  }
  for (const double threshold : {1e300, 3.5e38, 0.0, -0.0, 1e-320, -1e-320, -3.5e38, -1e300}) {
    for (const float x : {-kInfinity, std::numeric_limits<float>::lowest(), -1e-45F, -0.0F, 0.0F, 1e-45F,
                          std::numeric_limits<float>::max(), kInfinity})
      EXPECT_EQ(x <= threshold, x < float_bound(threshold)) << x << " and " << threshold;
  }
}

TEST(BoostedImportTest, RefusesWhatXgboostDoesNotWrite) {
  const std::string good = read_text(kGolden + "xgboost_binary.json");
  const auto refusal = [](const std::string& text) {
    const auto model = import_xgboost(text, "x");
    return model ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(refusal(good), "accepted");
  EXPECT_THAT(refusal(good.substr(0, good.size() / 2)), ::testing::StartsWith("x: "));
  EXPECT_EQ(refusal("{}"), "x: no model of XGBoost: there is no \"learner\"");
  EXPECT_EQ(refusal(replaced(good, "\"name\":\"gbtree\"", "\"name\":\"dart\"")),
            "x: the booster \"dart\"; gbtree can be imported");
  std::string other = good;
  for (std::size_t at = 0; (at = other.find("binary:logistic", at)) != std::string::npos;)
    other.replace(at, 15, "survival:cox");
  EXPECT_THAT(refusal(other), HasSubstr("\"survival:cox\" is not known"));
  EXPECT_THAT(refusal(replaced(good, "\"left_children\":[1", "\"left_children\":[0")), HasSubstr("tree 0: node"));
  EXPECT_THAT(refusal(replaced(good, "\"left_children\":[1", "\"left_children\":[1000000")),
              HasSubstr("node 0 has children"));
  EXPECT_THAT(refusal(replaced(good, "\"left_children\":[1,", "\"left_children\":[")), HasSubstr("different lengths"));
  EXPECT_THAT(refusal(replaced(good, "\"split_indices\":[", "\"split_indices\":[-1,")), HasSubstr("different lengths"));
  EXPECT_THAT(refusal(replaced(good, "\"tree_info\":[0", "\"tree_info\":[7")), HasSubstr("no class"));
  std::string narrow = good;
  const std::string_view features = "\"num_feature\":\"6\"";  // the last is the model's, those before are the trees'
  narrow.replace(narrow.rfind(features), features.size(), "\"num_feature\":\"1\"");
  EXPECT_THAT(refusal(narrow), HasSubstr("of 1"));
  EXPECT_THAT(refusal(replaced(good, "\"base_score\":\"3E-1\"", "\"base_score\":\"2\"")), HasSubstr("no probability"));
}

TEST(BoostedImportTest, RefusesWhatLightgbmDoesNotWrite) {
  const std::string good = read_text(kGolden + "lightgbm_binary.txt");
  const auto refusal = [](const std::string& text) {
    const auto model = import_lightgbm(text, "x");
    return model ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(refusal(good), "accepted");
  EXPECT_EQ(refusal(good.substr(0, good.find("end of trees"))), "x: ends before \"end of trees\"");
  EXPECT_THAT(refusal("tree\nversion=v9\n"), HasSubstr("v2 to v4"));
  EXPECT_THAT(refusal(replaced(good, "objective=binary", "objective=strange")), HasSubstr("\"strange\" is not known"));
  EXPECT_THAT(refusal(replaced(good, "is_linear=0", "is_linear=1")), HasSubstr("linear"));
  EXPECT_THAT(refusal(replaced(good, "num_leaves=15", "num_leaves=4000000000")), HasSubstr("out of range"));
  EXPECT_THAT(refusal(replaced(good, "num_leaves=15", "num_leaves=14")), HasSubstr("tree 0: leaf_value has not 14"));
  EXPECT_THAT(refusal(replaced(good, "left_child=4 ", "left_child=0 ")), HasSubstr("two parents"));
  EXPECT_THAT(refusal(replaced(good, "left_child=4 ", "left_child=-99 ")), HasSubstr("node 0 has children"));
  EXPECT_THAT(refusal(replaced(good, "left_child=4 ", "left_child=99 ")), HasSubstr("node 0 has children"));
  EXPECT_THAT(refusal(replaced(good, "threshold=", "threshold=nan ")), HasSubstr("has not 14 numbers"));
  EXPECT_THAT(refusal(replaced(good, "max_feature_idx=5", "max_feature_idx=4")), HasSubstr("6 names for 5 features"));
  EXPECT_THAT(refusal(replaced(good, "num_cat=0", "num_cat=4000000000")), HasSubstr("categories"));
}

TEST(BoostedImportTest, TellsFilesApart) {
  EXPECT_EQ(import_boosted(kGolden + "absent.json").error().code, ErrorCode::kNotFound);
  EXPECT_THAT(import_boosted(kGolden + "isolation_forest.safetensors").error().message, HasSubstr("neither XGBoost's"));
}

TEST(BoostedImportTest, HoldsOnTheCorpusOfItsFuzzer) {
  std::size_t inputs = 0, taken = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/boosted_import")) {
    ++inputs;
    if (check_boosted_import(read_text(entry.path()))) ++taken;
  }
  EXPECT_GE(inputs, 5U);
  EXPECT_GE(taken, 3U) << "the corpus needs models that are taken";
}

TEST(BoostedImportTest, SurvivesWhateverIsChanged) {
  for (const char* name : {"xgboost_poisson.json", "lightgbm_multi.txt"}) {
    const std::string good = read_text(kGolden + name);
    Prng random(7);
    std::size_t taken = 0;
    for (int i = 0; i < 400; ++i) {
      std::string text = good;
      for (std::uint64_t n = 1 + random.below(4); n > 0; --n) {
        const std::size_t at = random.below(text.size());
        constexpr std::string_view kBytes = "0123456789-,. =\n[]{}\"e";
        if (random.below(4) == 0) {
          text.erase(at, 1 + random.below(8));
        } else {
          text[at] = kBytes[random.below(kBytes.size())];
        }
      }
      if (check_boosted_import(text)) ++taken;
    }
    EXPECT_GT(taken, 10U) << name;
    EXPECT_LT(taken, 400U) << name;
  }
}

}  // namespace
}  // namespace alcedo::models
