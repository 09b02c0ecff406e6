// What training makes of rows with a known law: models that find it, thresholds that hold, and clear words where rows
// teach nothing.
#include "training/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/prng.h"

namespace alcedo::training {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kColumns = 5;
constexpr std::int64_t kStepMs = 1000;

TrainingTask task(bool by_type = false) {
  TrainingTask task;
  task.pipeline = "test";
  for (std::size_t c = 0; c < kColumns; ++c) task.columns.push_back({"f." + std::to_string(c), 100 + c});
  models::DetectorSpec z;
  z.name = "z";
  models::DetectorSpec shape;
  shape.name = "shape";
  shape.kind = models::DetectorKind::kForest;
  models::DetectorSpec fraud;
  fraud.name = "fraud";
  fraud.kind = models::DetectorKind::kBoosted;
  fraud.by_type = by_type;
  task.detectors = {z, shape, fraud};
  decide::AnomalySpec odd;
  odd.name = "odd";
  odd.votes = {{0, 1}, {1, 1}, {2, 1}};
  odd.fire = {decide::FireRule::Kind::kRate, 0.01};
  task.decisions.anomalies = {odd};
  task.decisions.detectors = {{"z", 1}, {"shape", 2}, {"fraud", 3}};
  task.decisions.entities = {"card"};
  task.label_types = {"theft", "testing"};
  return task;
}

// Columns 0 and 1 are normal; together both high are a theft, far out is "testing". Column 2 is often missing, column 3
// is always the same, column 4 is never there. The z detector looks at column 0.
TrainingRows rows(std::size_t count, std::uint64_t seed, bool labelled = true, std::size_t rows_max = 1'000'000) {
  TrainingRows rows(kColumns, 3, 1, rows_max);
  Prng random(seed);
  const float missing = std::numeric_limits<float>::quiet_NaN();
  const auto normal = [&] { return static_cast<float>(random.uniform() + random.uniform() + random.uniform() - 1.5); };
  for (std::size_t i = 0; i < count; ++i) {
    float a = normal();
    float b = normal();
    Label label = kNormal;
    if (i % 50 == 7) {
      label = kFirstLabelType;
      a = 0.9F + std::fabs(a) / 3;
      b = 0.9F + std::fabs(b) / 3;
    } else if (i % 100 == 21) {
      label = kFirstLabelType + 1;
      b = -3 - std::fabs(b);
    }
    const std::vector<float> features{a, b, random.below(3) == 0 ? missing : normal(), 7, missing};
    const std::vector<float> raw{std::fabs(a), missing, missing};
    const std::vector<std::uint8_t> keys{1};
    rows.add(features, raw, keys, labelled ? label : kUnlabelled, 1'000'000 + static_cast<std::int64_t>(i) * kStepMs);
  }
  return rows;
}

TrainingOptions options() {
  TrainingOptions options;
  options.rounds_max = 60;
  return options;
}

TEST(TrainerTest, ModelsFindTheLawAndThresholdsHold) {
  auto training_rows = rows(20'000, 1);
  std::vector<std::string> notes;
  const auto bundle = train(task(), training_rows, options(), notes);
  ASSERT_TRUE(bundle) << bundle.error().message;
  EXPECT_THAT(notes, IsEmpty());
  ASSERT_EQ(bundle->models.size(), 2U);
  EXPECT_EQ(bundle->trained.events, 20'000U);
  EXPECT_EQ(bundle->trained.anomalous, 600U);
  EXPECT_EQ(bundle->trained.held_out_from_ms, 1'000'000 + 16'000 * kStepMs);
  EXPECT_GT(bundle->metrics.at("fraud.pr_auc"), 0.9);
  EXPECT_GT(bundle->metrics.at("ensemble.pr_auc"), 0.9);
  EXPECT_LT(bundle->metrics.at("z.pr_auc"), 0.6);
  EXPECT_NEAR(bundle->metrics.at("fired_share_of_normal"), 0.01, 0.004);
  // The vote that knows carries it.
  double fraud = 0;
  for (const auto& vote : bundle->votes) fraud = vote.detector == "fraud" ? vote.weight : fraud;
  EXPECT_EQ(fraud, 1);
  const auto& model = bundle->models.at("fraud");
  EXPECT_NEAR(model.base_rates[0], 0.03, 0.001);
  EXPECT_EQ(model.usual[3], 7);
  EXPECT_TRUE(std::isnan(model.usual[4]));

  // The calibration is what a Decider takes over, frozen.
  auto decisions = task().decisions;
  for (auto& vote : decisions.anomalies[0].votes) {
    for (const auto& learnt : bundle->votes) {
      if (learnt.detector == decisions.detectors[vote.detector].name) vote.weight = learnt.weight;
    }
  }
  decisions.anomalies[0].weights_learnt = true;
  std::erase_if(decisions.anomalies[0].votes, [](const auto& vote) { return vote.weight == 0; });
  decide::Decider decider(decisions);
  StateReader reader(bundle->calibration);
  decider.load(reader, 0);
  EXPECT_TRUE(reader.complete()) << reader.mistake();
  EXPECT_TRUE(decider.frozen());
}

TEST(TrainerTest, TheSameSeedGivesTheSameBundle) {
  const auto trained = [](std::uint64_t seed) {
    auto training_rows = rows(6000, 1);
    std::vector<std::string> notes;
    auto how = options();
    how.seed = seed;
    how.rounds_max = 20;
    const auto bundle = train(task(), training_rows, how, notes);
    EXPECT_TRUE(bundle);
    return bundle->models.at("shape").to_file().serialize() + bundle->models.at("fraud").to_file().serialize() +
           bundle->calibration + bundle->card;
  };
  EXPECT_EQ(trained(1), trained(1));
  EXPECT_NE(trained(1), trained(2));
}

TEST(TrainerTest, EachTypeHasAScoreOfItsOwn) {
  auto training_rows = rows(20'000, 1);
  std::vector<std::string> notes;
  const auto bundle = train(task(true), training_rows, options(), notes);
  ASSERT_TRUE(bundle) << bundle.error().message;
  const auto& model = bundle->models.at("fraud");
  EXPECT_THAT(model.types, ElementsAre("theft", "testing"));
  const auto score = [&](float a, float b) {
    std::vector<float> out(3);
    const std::vector<float> row{a, b, 0, 7, std::numeric_limits<float>::quiet_NaN()};
    model.score(row, out);
    return out;
  };
  EXPECT_GT(score(1.1F, 1.1F)[1], 2 * score(1.1F, 1.1F)[2]);
  EXPECT_GT(score(0, -4)[2], 2 * score(0, -4)[1]);
  EXPECT_LT(score(0, 0)[0], 0.3);
}

TEST(TrainerTest, WithoutLabelsTheForestStillWorksAndWhyNothingElseDoesIsSaid) {
  auto training_rows = rows(5000, 1, false);
  std::vector<std::string> notes;
  const auto bundle = train(task(), training_rows, options(), notes);
  ASSERT_TRUE(bundle) << bundle.error().message;
  EXPECT_EQ(bundle->models.size(), 1U);
  EXPECT_THAT(notes, ElementsAre(HasSubstr("fraud: not trained, it abstains: 0 labelled anomalies")));
  EXPECT_TRUE(bundle->votes.empty());
  EXPECT_FALSE(bundle->metrics.contains("ensemble.pr_auc"));
  EXPECT_THAT(bundle->card, HasSubstr("0 carried a label"));
}

TEST(TrainerTest, RowsThatTeachNothingAreRefusedOrHarmless) {
  const auto outcome = [](std::size_t count, std::size_t columns, auto value) {
    auto wide = task();
    wide.columns.clear();
    for (std::size_t c = 0; c < columns; ++c) wide.columns.push_back({"f." + std::to_string(c), c});
    TrainingRows rows(columns, 3, 1, 1'000'000);
    const float missing = std::numeric_limits<float>::quiet_NaN();
    for (std::size_t i = 0; i < count; ++i) {
      std::vector<float> features(columns);
      for (std::size_t c = 0; c < columns; ++c) features[c] = value(i, c);
      rows.add(features, std::vector<float>{1, missing, missing}, std::vector<std::uint8_t>{1}, kUnlabelled,
               static_cast<std::int64_t>(i));
    }
    std::vector<std::string> notes;
    const auto bundle = train(wide, rows, options(), notes);
    return bundle ? std::string("trained") : bundle.error().message;
  };
  const auto some = [](std::size_t i, std::size_t c) { return static_cast<float>((i * 31 + c * 17) % 101); };
  EXPECT_THAT(outcome(1, 3, some), HasSubstr("1 rows to train on; expected at least 200"));
  EXPECT_EQ(outcome(500, 3, [](auto, auto) { return 4.0F; }), "trained");
  EXPECT_EQ(outcome(500, 3, [](auto, auto) { return std::numeric_limits<float>::quiet_NaN(); }), "trained");
  EXPECT_EQ(outcome(500, 1000, some), "trained");
}

TEST(TrainingRowsTest, ALongStreamIsThinnedAndAnomaliesStay) {
  const auto all = rows(20'000, 1);
  const auto thinned = rows(20'000, 1, true, 3000);
  EXPECT_EQ(thinned.seen(), 20'000U);
  EXPECT_LE(thinned.size(), 3000U);
  std::size_t anomalies = 0;
  std::uint64_t stood_for = 0;
  for (std::size_t row = 0; row < thinned.size(); ++row) {
    anomalies += thinned.is_anomalous(row) ? 1 : 0;
    stood_for += thinned.weight(row);
    if (row > 0) {
      EXPECT_LT(thinned.time_ms(row - 1), thinned.time_ms(row));
    }
    // A kept row is the row that it was.
    const auto original = static_cast<std::size_t>((thinned.time_ms(row) - 1'000'000) / kStepMs);
    EXPECT_EQ(thinned.features(row)[0], all.features(original)[0]);
    EXPECT_EQ(thinned.raw(row)[0], all.raw(original)[0]);
    EXPECT_EQ(thinned.label(row), all.label(original));
  }
  EXPECT_EQ(anomalies, 600U);
  EXPECT_NEAR(static_cast<double>(stood_for), 20'000, 1500);
}

}  // namespace
}  // namespace alcedo::training
