// The life of a baseline: cold, warm, surprised, convinced; counters; and the quartiles beside it.
#include "features/deviation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "features/stage.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

// One baseline of `level` by device, with both methods; events a second apart unless said.
class BaselineTest : public ::testing::Test {
 protected:
  BaselineTest() : BaselineTest(80 * kMinuteMs, 10) {}
  BaselineTest(std::int64_t half_life_ms, std::uint32_t min_history)
      : plan_(*FeaturePlan::compile({testing::test_layout(false),
                                     {testing::baseline("level", 1, 1, half_life_ms, min_history)},
                                     {{0, "", DeviationMethod::kQuartiles}}})),
        stage_(plan_, 0),
        global_(plan_) {}

  void feed(double value, const std::string& device = "a", std::int64_t after_ms = kSecondMs, std::uint8_t flags = 0) {
    now_ms_ += after_ms;
    feed_at(now_ms_, value, device, flags);
  }
  void feed_at(std::int64_t time_ms, double value, const std::string& device = "a", std::uint8_t flags = 0) {
    const EventBatch batch =
        testing::to_batch(plan_.options().layout, {{time_ms, {kMissing, value}, {"", device}, flags}});
    out_.reset(1, plan_.columns().size());
    global_.begin_batch();
    const std::vector<std::uint32_t> snapshots{global_.add(batch, 0)};
    stage_.process(batch, batch.order, global_, snapshots, out_);
  }
  // A column of the last event.
  float at(const std::string& column) const {
    const int index = plan_.find_column(column);
    EXPECT_GE(index, 0) << column;
    return out_.row(0)[static_cast<std::size_t>(index)];
  }

  FeaturePlan plan_;
  KeyedStage stage_;
  GlobalBaselines global_;
  FeatureMatrix out_;
  std::int64_t now_ms_ = kBegin;
};

TEST_F(BaselineTest, AbstainsWhileColdWithoutOthers) {
  feed(5);
  EXPECT_TRUE(std::isnan(at("level.expected")));
  EXPECT_EQ(at("level.history"), 0);
  for (int i = 1; i < 10; ++i) {
    feed(5 + i % 2);
    EXPECT_TRUE(std::isnan(at("level.z"))) << i;
    EXPECT_TRUE(std::isnan(at("level.iqr.z"))) << i;
    EXPECT_EQ(at("level.history"), static_cast<float>(i));
  }
  feed(5);
  EXPECT_FALSE(std::isnan(at("level.z")));
  EXPECT_NEAR(at("level.expected"), 5.5, 1e-3);
}

TEST_F(BaselineTest, OthersServeAColdEntityFromTheNextTickOn) {
  for (int i = 0; i < 200; ++i) feed(100 + i % 5, "b" + std::to_string(i % 7));
  feed(400, "cold");
  EXPECT_TRUE(std::isnan(at("level.z"))) << "no tick yet";
  global_.tick();
  feed(400, "cold2");
  EXPECT_EQ(at("level.history"), 0);
  EXPECT_NEAR(at("level.expected"), 102, 3);
  EXPECT_GT(at("level.z"), 20);
  EXPECT_NEAR(at("level.z"), (400 - at("level.expected")) / at("level.spread"), 1e-3);
  EXPECT_GT(at("level.iqr.z"), 20);
  EXPECT_NEAR(at("level.iqr.expected"), at("level.expected"), 1e-6);
  for (int i = 0; i < 10; ++i) feed(400 + i % 2, "cold2");
  feed(400, "cold2");
  EXPECT_NEAR(at("level.expected"), 400, 1) << "its own history now";
  EXPECT_LT(std::fabs(at("level.z")), 2);
}

TEST_F(BaselineTest, ReadsTheStateBeforeTheEvent) {
  for (int i = 0; i < 50; ++i) feed(10 + i % 2);
  feed(1000);
  EXPECT_EQ(at("level.seen"), 1000);
  EXPECT_NEAR(at("level.expected"), 10.5, 0.01);
  EXPECT_NEAR(at("level.spread"), 0.505, 0.01);
  EXPECT_GT(at("level.z"), 1900);
  EXPECT_EQ(at("level.iqr.expected"), 10.5);
  EXPECT_GT(at("level.iqr.z"), 900);
}

TEST_F(BaselineTest, LearnsSlowlyFromWhatDeviates) {
  for (int i = 0; i < 100; ++i) feed(10 + i % 2);
  feed(20);
  feed(10);
  // 100 values of weight 1 and mean 10.5, one of weight 0.1; a second's decay is nothing here.
  EXPECT_NEAR(at("level.expected"), (100 * 10.5 + 0.1 * 20) / 100.1, 2e-3);
}

TEST_F(BaselineTest, AcceptsANewLevelAfterDeviatingLongEnough) {
  for (int i = 0; i < 100; ++i) feed(10 + i % 2);
  // accept defaults to half_life / 8: 10 minutes of deviation without a normal value in between.
  for (int minute = 0; minute <= 10; ++minute) {
    feed(50 + minute % 2, "a", kMinuteMs);
    EXPECT_GT(at("level.z"), 4) << "minute " << minute;
  }
  feed(50, "a", kMinuteMs);
  EXPECT_NEAR(at("level.expected"), 50.45, 0.1);
  EXPECT_LT(std::fabs(at("level.z")), 1.5);
  EXPECT_EQ(at("level.history"), 11) << "only the values since back it";
  feed(10, "a", kMinuteMs);
  EXPECT_LT(at("level.z"), -4) << "the old level is now the deviation";
}

TEST_F(BaselineTest, ANormalValueInBetweenKeepsTheOldLevel) {
  for (int i = 0; i < 100; ++i) feed(10 + i % 2);
  for (int minute = 0; minute < 60; ++minute) feed(minute % 6 == 5 ? 10.5 : 300, "a", kMinuteMs);
  feed(10.5, "a", kMinuteMs);
  EXPECT_EQ(at("level.history"), 160) << "never restarted";
}

TEST_F(BaselineTest, LateEventsAreReadButNotLearned) {
  for (int i = 0; i < 30; ++i) feed(10 + i % 2);
  feed_at(now_ms_ - kMinuteMs, 500);
  EXPECT_GT(at("level.z"), 100);
  feed(10);
  EXPECT_EQ(at("level.history"), 30);
  EXPECT_NEAR(at("level.expected"), 10.5, 0.01);
}

TEST_F(BaselineTest, MissingValuesLeaveHistoryAndOpinionAlone) {
  for (int i = 0; i < 30; ++i) feed(10 + i % 2);
  feed(kMissing);
  EXPECT_TRUE(std::isnan(at("level.seen")));
  EXPECT_TRUE(std::isnan(at("level.z")));
  EXPECT_NEAR(at("level.expected"), 10.5, 0.01);
  feed(10);
  EXPECT_EQ(at("level.history"), 30);
}

TEST_F(BaselineTest, ForgetsAfterManyHalfLivesOfSilence) {
  for (int i = 0; i < 30; ++i) feed(10 + i % 2);
  feed(10, "a", 20 * kDayMs);
  EXPECT_EQ(at("level.history"), 0);
  EXPECT_TRUE(std::isnan(at("level.z")));
}

TEST_F(BaselineTest, AConstantThatMovesIsFarButFinite) {
  for (int i = 0; i < 30; ++i) feed(0);
  feed(0);
  EXPECT_EQ(at("level.z"), 0);
  EXPECT_EQ(at("level.iqr.z"), 0);
  feed(1e-3);
  EXPECT_EQ(at("level.z"), static_cast<float>(kScoreMax));
  feed(-1e-3);
  EXPECT_LT(at("level.z"), -4);
}

TEST_F(BaselineTest, CountersBecomeRatesAndResetsAreUnderstood) {
  double counter = 5000;
  feed(counter, "a", kSecondMs, kEventCounter);
  EXPECT_TRUE(std::isnan(at("level.seen"))) << "nothing to compare with yet";
  for (int i = 0; i < 20; ++i) {
    counter += 60 + i % 2;
    feed(counter, "a", 2 * kSecondMs, kEventCounter);
    EXPECT_FLOAT_EQ(at("level.seen"), static_cast<float>(30 + (i % 2) * 0.5));
  }
  feed(62, "a", 2 * kSecondMs, kEventCounter);
  EXPECT_FLOAT_EQ(at("level.seen"), 31) << "restarted from 0";
  EXPECT_LT(at("level.z"), 4);
  EXPECT_EQ(at("level.history"), 20);
  feed_at(now_ms_, 64, "a", kEventCounter);
  EXPECT_TRUE(std::isnan(at("level.seen"))) << "no time has passed";
  feed_at(now_ms_ - 500, 63, "a", kEventCounter);
  EXPECT_TRUE(std::isnan(at("level.seen"))) << "older than the last reading";
  feed(66, "a", kSecondMs, kEventCounter);
  EXPECT_FLOAT_EQ(at("level.seen"), 2);
}

TEST_F(BaselineTest, QuartilesAreOfTheLast64) {
  for (int i = 0; i < 1000; ++i) feed(i);
  feed(5000);
  // The last 64 are 936..999: quartiles by linear interpolation at places 15.75, 31.5 and 47.25.
  EXPECT_FLOAT_EQ(at("level.iqr.expected"), 936 + 31.5);
  EXPECT_NEAR(at("level.iqr.spread"), 31.5, 0.02);
  EXPECT_NEAR(at("level.iqr.z"), (5000 - 983.25) / 31.5, 0.1);
  EXPECT_EQ(at("level.iqr.history"), 1000);
  feed(970);
  EXPECT_EQ(at("level.iqr.z"), 0) << "between the quartiles";
}

}  // namespace
}  // namespace alcedo::features
