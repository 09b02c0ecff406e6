// A bundle is taken whole and unchanged, or refused by the name of what is wrong with it.
#include "models/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <unistd.h>

#include "models/learned_scorer.h"
#include "models/test_models.h"

namespace alcedo::models {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class BundleTest : public ::testing::Test {
 protected:
  BundleTest() : folder_(fs::temp_directory_path() / ("bundle_test." + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~BundleTest() override { fs::remove_all(folder_); }

  std::string path(const std::string& name = "b") const { return (folder_ / name).string(); }

  Bundle made() const {
    Bundle bundle;
    bundle.pipeline = "payments";
    bundle.plan_hash = 7;
    bundle.trained = {1000, 900, 9, -5, 99, 80, 42};
    bundle.votes = {{"theft", "fraud.theft", 0.25}};
    bundle.metrics = {{"ensemble.pr_auc", 0.5}};
    bundle.models.emplace("fraud", testing::boosted_by_type());
    bundle.models.emplace("shape", testing::forest());
    bundle.calibration = "state";
    bundle.card = "# card\n";
    return bundle;
  }

  std::string refusal() const {
    const auto loaded = Bundle::load(path());
    return loaded ? "taken" : loaded.error().message;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(path() + "/" + name, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string text = read(name);
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    std::ofstream(path() + "/" + name, std::ios::binary) << text;
  }

  fs::path folder_;
};

TEST_F(BundleTest, WhatIsWrittenIsLoaded) {
  auto bundle = made();
  ASSERT_TRUE(bundle.write(path()));
  EXPECT_EQ(bundle.version.size(), 16U);
  const auto loaded = Bundle::load(path());
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->pipeline, "payments");
  EXPECT_EQ(loaded->version, bundle.version);
  EXPECT_EQ(loaded->plan_hash, 7U);
  EXPECT_EQ(loaded->trained.first_ms, -5);
  EXPECT_EQ(loaded->trained.seed, 42U);
  ASSERT_EQ(loaded->votes.size(), 1U);
  EXPECT_EQ(loaded->votes[0].weight, 0.25);
  EXPECT_EQ(loaded->models.size(), 2U);
  EXPECT_EQ(loaded->calibration, "state");
  EXPECT_EQ(loaded->card, "# card\n");
  // The same content is the same version; another one is another.
  auto again = made();
  ASSERT_TRUE(again.write(path("c")));
  EXPECT_EQ(again.version, bundle.version);
  again.calibration = "other";
  ASSERT_TRUE(again.write(path("c")));
  EXPECT_NE(again.version, bundle.version);
}

TEST_F(BundleTest, NothingElseIsWrittenOver) {
  fs::create_directories(path());
  std::ofstream(path() + "/thesis.txt") << "mine";
  auto bundle = made();
  const auto written = bundle.write(path());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read("thesis.txt"), "mine");
}

TEST_F(BundleTest, ChangedBytesAreRefusedByName) {
  auto bundle = made();
  const std::string names[] = {"fraud.safetensors", "shape.safetensors", "calibration.state", "card.md"};
  for (const auto& name : names) {
    ASSERT_TRUE(bundle.write(path()));
    std::string bytes = read(name);
    bytes[bytes.size() / 2] ^= 1;
    std::ofstream(path() + "/" + name, std::ios::binary) << bytes;
    EXPECT_THAT(refusal(), HasSubstr("b/" + name + ": is not the file that the manifest lists"));
    fs::remove(path() + "/" + name);
    EXPECT_THAT(refusal(), HasSubstr("b/" + name));
    EXPECT_NE(refusal(), "taken");
  }
}

TEST_F(BundleTest, AManifestCannotLeadElsewhere) {
  auto bundle = made();
  ASSERT_TRUE(bundle.write(path()));
  std::ofstream(path("secret")) << "# card\n";
  replace("manifest.json", "\"card.md\"", "\"../secret\"");
  EXPECT_THAT(refusal(), HasSubstr("'../secret' is no plain file name"));
  ASSERT_TRUE(bundle.write(path()));
  fs::remove(path() + "/card.md");
  fs::create_symlink(path("secret"), path() + "/card.md");
  EXPECT_THAT(refusal(), HasSubstr("b/card.md: is a link; expected a file"));
}

TEST_F(BundleTest, ADamagedManifestIsRefused) {
  auto bundle = made();
  const auto after = [&](const std::string& from, const std::string& to) {
    EXPECT_TRUE(bundle.write(path()));
    replace("manifest.json", from, to);
    return refusal();
  };
  EXPECT_THAT(after("\"format\":1", "\"format\":2"), HasSubstr("format 2; this alcedo reads format 1"));
  EXPECT_THAT(after("{\"format\"", "{{\"format\""), HasSubstr("manifest.json: "));
  EXPECT_THAT(after("\"weight\":0.25", "\"weight\":0.75"), HasSubstr("it was changed after training"));
  EXPECT_THAT(after("\"weight\":0.25", "\"weight\":-1"), HasSubstr("'weight' is missing or not a number from 0 on"));
  EXPECT_THAT(after("\"pipeline\"", "\"pipelime\""), HasSubstr("'pipeline' is missing or not a text"));
  EXPECT_THAT(after("\"name\":\"card.md\"", "\"name\":\"calibration.state\""),
              HasSubstr("names calibration.state twice"));
  EXPECT_TRUE(bundle.write(path()));
  fs::remove(path() + "/manifest.json");
  const auto loaded = Bundle::load(path());
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
}

// The scorer is how a pipeline uses a bundle.

const std::vector<PlanColumn> kColumns{{"f.b", 22}, {"g", 1}, {"f.a", 11}};

std::vector<DetectorSpec> detectors() {
  DetectorSpec z;
  z.name = "z";
  DetectorSpec fraud;
  fraud.name = "fraud";
  fraud.kind = DetectorKind::kBoosted;
  DetectorSpec theft = fraud;
  theft.name = "fraud.theft";
  theft.model = "fraud";
  theft.output = "theft";
  DetectorSpec unseen = theft;
  unseen.name = "fraud.unseen";
  unseen.output = "unseen";
  DetectorSpec shape;
  shape.name = "shape";
  shape.kind = DetectorKind::kForest;
  return {z, fraud, theft, unseen, shape};
}

TEST_F(BundleTest, ModelsReadTheirColumnsWhereverThePlanHasThem) {
  const auto bundle = made();
  const auto specs = detectors();
  const auto scorer = LearnedScorer::create(bundle, specs, kColumns);
  ASSERT_TRUE(scorer) << scorer.error().message;
  EXPECT_FALSE(scorer->has(0));
  EXPECT_TRUE(scorer->has(2));
  EXPECT_FALSE(scorer->has(3)) << "a type that training never saw";
  FeatureMatrix features;
  features.reset(600, 3);
  std::vector<std::uint32_t> rows;
  for (std::uint32_t i = 0; i < 600; i += 2) {
    features.row(i)[2] = static_cast<float>(i % 20);
    features.row(i)[0] = static_cast<float>(i % 7);
    rows.push_back(i);
  }
  std::vector<float> raw(600 * specs.size(), -1);
  scorer->score(features, rows, specs.size(), raw);
  std::vector<float> expected(3);
  for (const std::uint32_t i : rows) {
    const std::vector<float> values{static_cast<float>(i % 20), static_cast<float>(i % 7)};
    bundle.models.at("fraud").score(values, expected);
    EXPECT_EQ(raw[i * specs.size() + 0], -1) << "not its to write";
    EXPECT_EQ(raw[i * specs.size() + 1], expected[0]);
    EXPECT_EQ(raw[i * specs.size() + 2], expected[1]);
    EXPECT_EQ(raw[i * specs.size() + 3], -1);
  }
  EXPECT_EQ(raw[specs.size() + 1], -1) << "rows that are not listed stay as they are";
  std::vector<Contribution> most;
  const std::vector<float> row{9, 0, 20};
  const double rest = scorer->explain(2, row, most, 1);
  ASSERT_EQ(most.size(), 1U);
  EXPECT_EQ(most[0].column, 2U);
  EXPECT_EQ(most[0].usual, 1);
  std::vector<float> by_column(2);
  const std::vector<float> in_model_order{20, 9};
  const double whole = bundle.models.at("fraud").contributions(in_model_order, 1, by_column);
  EXPECT_NEAR(rest + most[0].moved, whole + by_column[0] + by_column[1], 1e-5);
}

TEST_F(BundleTest, AModelOfOtherFeaturesIsRefusedByItsColumn) {
  auto bundle = made();
  bundle.directory = "b";
  const auto refused = [&](std::vector<PlanColumn> columns) {
    const auto scorer = LearnedScorer::create(bundle, detectors(), columns);
    return scorer ? std::string("taken") : scorer.error().message;
  };
  EXPECT_THAT(refused({{"f.b", 22}, {"f.a", 12}}),
              HasSubstr("b: model 'fraud' reads f.a, whose feature has changed since"));
  EXPECT_THAT(refused({{"f.a", 11}}), HasSubstr("reads f.b, which the pipeline does not measure"));
}

}  // namespace
}  // namespace alcedo::models
