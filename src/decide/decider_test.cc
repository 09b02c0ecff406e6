// What fires, how often, and what must not move a threshold: an attack, a batch boundary, an abstention.
#include "decide/decider.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "core/prng.h"

namespace alcedo::decide {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

AnomalySpec type_of(FireRule fire, std::vector<VoteSpec> votes = {{0, 1}}) {
  AnomalySpec anomaly;
  anomaly.name = "t";
  anomaly.votes = std::move(votes);
  anomaly.fire = fire;
  return anomaly;
}

struct Stream {
  Decider decider;
  std::size_t detectors;
  std::size_t types;
  std::vector<float> surprises;
  std::vector<TypeVerdict> verdicts;
  std::vector<std::uint64_t> keys;
  std::int64_t now_ms = 0;

  explicit Stream(Decider::Options options)
      : decider(options),
        detectors(options.num_detectors),
        types(options.anomalies.size()),
        surprises(detectors),
        verdicts(types),
        keys(types, 7) {}
  const TypeVerdict& see(std::span<const float> raw, std::int64_t step_ms = 100) {
    now_ms += step_ms;
    decider.decide(now_ms, raw, keys, surprises, verdicts);
    if (now_ms % 1000 == 0) decider.tick(now_ms);
    return verdicts[0];
  }
  const TypeVerdict& see(float raw) { return see(std::array<float, 1>{raw}); }
};

TEST(DeciderTest, ARateFiresAtThatShareOfNormalEvents) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Stream stream({{type_of({FireRule::Kind::kRate, 0.003})}, 1, 20'000, 0});
    Prng random(seed);
    for (int i = 0; i < 25'000; ++i) stream.see(static_cast<float>(std::fabs(random.normal())));
    ASSERT_TRUE(stream.decider.frozen());
    int fired = 0;
    for (int i = 0; i < 100'000; ++i) fired += stream.see(static_cast<float>(std::fabs(random.normal()))).fired ? 1 : 0;
    EXPECT_NEAR(fired, 300, 110) << "seed " << seed;
  }
}

TEST(DeciderTest, ABudgetIsEventsADay) {
  Stream stream({{type_of({FireRule::Kind::kBudget, 40})}, 1, 20'000, 0});
  Prng random(5);
  const auto normal = [&] { return std::array<float, 1>{static_cast<float>(random.exponential())}; };
  for (int i = 0; i < 25'000; ++i) stream.see(normal(), 8'000);
  ASSERT_TRUE(stream.decider.frozen());
  int fired = 0;
  for (int i = 0; i < 10 * 10'800; ++i) fired += stream.see(normal(), 8'000).fired ? 1 : 0;  // ten days
  EXPECT_NEAR(fired, 400, 120);
}

TEST(DeciderTest, AnAttackCannotRaiseItsOwnThresholdOnceFrozen) {
  Stream stream({{type_of({FireRule::Kind::kRate, 0.003})}, 1, 10'000, 0});
  Prng random(2);
  for (int i = 0; i < 12'000; ++i) stream.see(static_cast<float>(std::fabs(random.normal())));
  ASSERT_TRUE(stream.decider.frozen());
  ASSERT_TRUE(stream.see(6).fired);
  for (int i = 0; i < 20'000; ++i) stream.see(6);
  EXPECT_TRUE(stream.see(6).fired);
}

TEST(DeciderTest, AbstentionLeavesTheFalsePositiveRateWhereItWas) {
  // The second voter is there for half of the events. Both halves must fire at the same share.
  Stream stream({{type_of({FireRule::Kind::kRate, 0.005}, {{0, 1}, {1, 2}})}, 2, 40'000, 0});
  Prng random(11);
  const auto draw = [&](bool second) {
    return std::array<float, 2>{static_cast<float>(random.exponential()),
                                second ? static_cast<float>(random.exponential()) : kNaN};
  };
  for (int i = 0; i < 150'000; ++i) stream.see(draw(i % 2 == 0));
  ASSERT_TRUE(stream.decider.frozen());
  std::array<int, 2> fired{};
  for (int i = 0; i < 200'000; ++i) fired[i % 2] += stream.see(draw(i % 2 == 0)).fired ? 1 : 0;
  EXPECT_NEAR(fired[0], 500, 160);
  EXPECT_NEAR(fired[1], 500, 160);
}

TEST(DeciderTest, NobodySpeaksNothingFires) {
  Stream stream({{type_of({FireRule::Kind::kAlways})}, 1, 100, 0});
  const auto& verdict = stream.see(kNaN);
  EXPECT_TRUE(std::isnan(verdict.score));
  EXPECT_FALSE(verdict.fired);
}

TEST(DeciderTest, AMissingEntityHasNoVerdict) {
  Stream stream({{type_of({FireRule::Kind::kThreshold, 0})}, 1, 100, 0});
  stream.keys[0] = 0;
  EXPECT_FALSE(stream.see(5).fired);
}

TEST(DeciderTest, ForDemandsThatTheScoreStaysUp) {
  auto anomaly = type_of({FireRule::Kind::kThreshold, 2});
  anomaly.for_ms = 2000;
  Stream stream({{anomaly}, 1, 1000, 0});
  Prng random(3);
  for (int i = 0; i < 2000; ++i) stream.see(static_cast<float>(random.exponential()));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(stream.see(50).fired) << i;
  EXPECT_TRUE(stream.see(50).fired);
  EXPECT_FALSE(stream.see(0).fired);
  EXPECT_FALSE(stream.see(50).fired);  // the clock starts anew
}

TEST(DeciderTest, ThePipelinesCapHoldsForTheSumOfRates) {
  std::vector<AnomalySpec> anomalies(4, type_of({FireRule::Kind::kRate, 0.01}));
  Stream stream({anomalies, 1, 10'000, 0.004});
  for (int i = 0; i < 11'000; ++i) stream.see(static_cast<float>(i % 100));
  double sum = 0;
  for (std::size_t t = 0; t < anomalies.size(); ++t) sum += stream.decider.fire_rate(t);
  EXPECT_NEAR(sum, 0.004, 1e-12);
}

TEST(DeciderTest, NothingRatedFiresBeforeThereIsAnythingToCompareWith) {
  Stream stream({{type_of({FireRule::Kind::kRate, 0.01})}, 1, 20'000, 0});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(stream.see(static_cast<float>(i * i)).fired) << i;
}

}  // namespace
}  // namespace alcedo::decide
