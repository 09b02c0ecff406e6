// What fires, how often, and what must not move a threshold: an attack, a batch boundary, an abstention.
#include "decide/decider.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/prng.h"
#include "core/state_damage.h"
#include "decide/decide_state_invariants.h"

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

std::vector<Decider::Detector> detectors(std::size_t count) {
  std::vector<Decider::Detector> named;
  for (std::size_t d = 0; d < count; ++d) named.push_back({"d" + std::to_string(d), d});
  return named;
}

struct Stream {
  Decider decider;
  std::size_t types;
  std::vector<float> surprises;
  std::vector<TypeVerdict> verdicts;
  std::vector<std::uint64_t> keys;
  std::int64_t now_ms = 0;

  explicit Stream(Decider::Options options)
      : decider(options),
        types(options.anomalies.size()),
        surprises(options.detectors.size()),
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
    Stream stream({{type_of({FireRule::Kind::kRate, 0.003})}, detectors(1), 20'000, 0});
    Prng random(seed);
    for (int i = 0; i < 25'000; ++i) stream.see(static_cast<float>(std::fabs(random.normal())));
    ASSERT_TRUE(stream.decider.frozen());
    int fired = 0;
    for (int i = 0; i < 100'000; ++i) fired += stream.see(static_cast<float>(std::fabs(random.normal()))).fired ? 1 : 0;
    EXPECT_NEAR(fired, 300, 110) << "seed " << seed;
  }
}

TEST(DeciderTest, ABudgetIsEventsADay) {
  Stream stream({{type_of({FireRule::Kind::kBudget, 40})}, detectors(1), 20'000, 0});
  Prng random(5);
  const auto normal = [&] { return std::array<float, 1>{static_cast<float>(random.exponential())}; };
  for (int i = 0; i < 25'000; ++i) stream.see(normal(), 8'000);
  ASSERT_TRUE(stream.decider.frozen());
  int fired = 0;
  for (int i = 0; i < 10 * 10'800; ++i) fired += stream.see(normal(), 8'000).fired ? 1 : 0;  // ten days
  EXPECT_NEAR(fired, 400, 120);
}

TEST(DeciderTest, AnAttackCannotRaiseItsOwnThresholdOnceFrozen) {
  Stream stream({{type_of({FireRule::Kind::kRate, 0.003})}, detectors(1), 10'000, 0});
  Prng random(2);
  for (int i = 0; i < 12'000; ++i) stream.see(static_cast<float>(std::fabs(random.normal())));
  ASSERT_TRUE(stream.decider.frozen());
  ASSERT_TRUE(stream.see(6).fired);
  for (int i = 0; i < 20'000; ++i) stream.see(6);
  EXPECT_TRUE(stream.see(6).fired);
}

TEST(DeciderTest, AbstentionLeavesTheFalsePositiveRateWhereItWas) {
  // The second voter is there for half of the events. Both halves must fire at the same share.
  Stream stream({{type_of({FireRule::Kind::kRate, 0.005}, {{0, 1}, {1, 2}})}, detectors(2), 40'000, 0});
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
  Stream stream({{type_of({FireRule::Kind::kAlways})}, detectors(1), 100, 0});
  const auto& verdict = stream.see(kNaN);
  EXPECT_TRUE(std::isnan(verdict.score));
  EXPECT_FALSE(verdict.fired);
}

TEST(DeciderTest, AMissingEntityHasNoVerdict) {
  Stream stream({{type_of({FireRule::Kind::kThreshold, 0})}, detectors(1), 100, 0});
  stream.keys[0] = 0;
  EXPECT_FALSE(stream.see(5).fired);
}

TEST(DeciderTest, ForDemandsThatTheScoreStaysUp) {
  auto anomaly = type_of({FireRule::Kind::kThreshold, 2});
  anomaly.for_ms = 2000;
  Stream stream({{anomaly}, detectors(1), 1000, 0});
  Prng random(3);
  for (int i = 0; i < 2000; ++i) stream.see(static_cast<float>(random.exponential()));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(stream.see(50).fired) << i;
  EXPECT_TRUE(stream.see(50).fired);
  EXPECT_FALSE(stream.see(0).fired);
  EXPECT_FALSE(stream.see(50).fired);  // the clock starts anew
}

TEST(DeciderTest, ThePipelinesCapHoldsForTheSumOfRates) {
  std::vector<AnomalySpec> anomalies(4, type_of({FireRule::Kind::kRate, 0.01}));
  for (std::size_t t = 0; t < anomalies.size(); ++t) anomalies[t].name += std::to_string(t);
  Stream stream({anomalies, detectors(1), 10'000, 0.004});
  for (int i = 0; i < 11'000; ++i) stream.see(static_cast<float>(i % 100));
  double sum = 0;
  for (std::size_t t = 0; t < anomalies.size(); ++t) sum += stream.decider.fire_rate(t);
  EXPECT_NEAR(sum, 0.004, 1e-12);
}

TEST(DeciderTest, NothingRatedFiresBeforeThereIsAnythingToCompareWith) {
  Stream stream({{type_of({FireRule::Kind::kRate, 0.01})}, detectors(1), 20'000, 0});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(stream.see(static_cast<float>(i * i)).fired) << i;
}

// --- State.

// A decider with what its last event gave, as bits.
struct Machine {
  Decider decider;
  std::vector<float> surprises;
  std::vector<TypeVerdict> verdicts;

  explicit Machine(const Decider::Options& options)
      : decider(options), surprises(options.detectors.size()), verdicts(options.anomalies.size()) {}
  void see(const testing::StateEvent& event) {
    decider.decide(event.time_ms, std::span(event.raw).first(surprises.size()), event.keys, surprises, verdicts);
  }
  std::vector<std::uint64_t> bits(std::size_t type) const {
    const TypeVerdict& v = verdicts[type];
    return {std::bit_cast<std::uint32_t>(v.score), std::bit_cast<std::uint32_t>(v.surprise), v.fired ? 1U : 0U,
            v.provisional ? 1U : 0U, std::bit_cast<std::uint64_t>(decider.fire_rate(type))};
  }
  std::vector<std::uint64_t> bits() const {
    std::vector<std::uint64_t> all;
    for (const float s : surprises) all.push_back(std::bit_cast<std::uint32_t>(s));
    for (std::size_t t = 0; t < verdicts.size(); ++t) {
      const auto one = bits(t);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }
};

struct Feed {
  Prng random;
  std::int64_t now_ms = 1'700'000'000'000;
  std::int64_t ticked_ms = 0;

  explicit Feed(std::uint64_t seed) : random(seed) {}
  template <typename... Machines>
  void step(Machines&... machines) {
    now_ms += 1 + static_cast<std::int64_t>(random.below(250));
    if (now_ms / 1000 != ticked_ms) {
      ticked_ms = now_ms / 1000;
      (machines.decider.tick(ticked_ms * 1000), ...);
    }
    const auto event = testing::state_event(random, now_ms);
    (machines.see(event), ...);
  }
};

TEST(DeciderTest, CutAnywhereAndRestoredEveryVerdictIsTheSame) {
  const auto options = testing::state_options();
  std::array<int, 4> fired{};
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Feed feed(seed);
    Machine whole(options);
    for (std::uint64_t left = feed.random.below(2500); left != 0; --left) feed.step(whole);
    const std::string bytes = testing::saved(whole.decider);
    Machine restored(options);
    StateReader reader(bytes);
    const CalibrationReport report = restored.decider.load(reader);
    ASSERT_TRUE(reader.complete()) << reader.mistake();
    for (const auto& entry : report.anomalies) EXPECT_EQ(entry.fate, CalibrationReport::Fate::kKept) << entry.name;
    ASSERT_EQ(testing::saved(restored.decider), bytes) << "seed " << seed;
    for (int i = 0; i < 2000; ++i) {
      feed.step(whole, restored);
      ASSERT_EQ(whole.bits(), restored.bits()) << "seed " << seed << ", event " << i;
      for (std::size_t t = 0; t < fired.size(); ++t) fired[t] += whole.verdicts[t].fired ? 1 : 0;
    }
    EXPECT_EQ(testing::saved(whole.decider), testing::saved(restored.decider)) << "seed " << seed;
    EXPECT_EQ(whole.decider.frozen(), restored.decider.frozen());
  }
  for (const int times : fired) EXPECT_GT(times, 20);  // else nothing was compared
}

struct Changed {
  Machine before;
  Machine after;
  Feed feed;
  CalibrationReport report;

  Changed(const Decider::Options& from, const Decider::Options& to, int events = 2000)
      : before(from), after(to), feed(8) {
    for (int i = 0; i < events; ++i) feed.step(before);
    const std::string bytes = testing::saved(before.decider);
    StateReader reader(bytes);
    report = after.decider.load(reader);
    EXPECT_TRUE(reader.complete()) << reader.mistake();
  }
};

TEST(DeciderTest, WhatStillMeansTheSameIsKeptAndTheRestBeginsAnew) {
  const auto from = testing::state_options();
  auto to = from;
  to.detectors[1].meaning = 99;  // spend_iqr looks at something else: so do testing and stuck
  to.detectors.push_back({"new_z", 14});
  to.anomalies.erase(to.anomalies.begin() + 3);
  to.entities.pop_back();
  to.anomalies.push_back(to.anomalies[0]);
  to.anomalies.back().name = "fresh";
  to.entities.emplace_back("card");
  Changed changed(from, to);
  EXPECT_EQ(describe(changed.report),
            "detectors: kept habit_z, fan_z; added new_z; reset spend_iqr (what it looks at has changed); "
            "anomalies: kept takeover; added fresh; reset testing (its voter spend_iqr began anew), "
            "stuck (its voter spend_iqr began anew); removed rule");
  ASSERT_TRUE(changed.before.decider.frozen());
  EXPECT_FALSE(changed.after.decider.frozen());
  std::array<float, 4> raw{};
  std::array<float, 4> surprises{};
  for (int i = 0; i < 1300; ++i) {
    auto event = testing::state_event(changed.feed.random, changed.feed.now_ms += 100);
    changed.before.see(event);
    std::ranges::copy(event.raw, raw.begin());
    raw[3] = 1;
    changed.after.decider.decide(event.time_ms, raw, event.keys, surprises, changed.after.verdicts);
    if (i % 10 == 0) {
      changed.before.decider.tick(event.time_ms);
      changed.after.decider.tick(event.time_ms);
    }
    // The kept type: the same score, and the calibration of the one that was saved. Its cap is shared with others.
    ASSERT_EQ(std::bit_cast<std::uint32_t>(changed.before.verdicts[0].surprise),
              std::bit_cast<std::uint32_t>(changed.after.verdicts[0].surprise));
    ASSERT_FALSE(changed.after.verdicts[0].provisional);
    if (i < 1199) {
      ASSERT_TRUE(std::isnan(changed.after.verdicts[1].score) || changed.after.verdicts[1].provisional) << i;
    }
  }
  EXPECT_TRUE(changed.after.decider.frozen());  // all that began anew has calibrated
  EXPECT_GT(changed.after.decider.fire_rate(3), 0);
}

TEST(DeciderTest, AnotherOrderOfDetectorsVotesAndTypesKeepsEverything) {
  const auto from = testing::state_options();
  auto to = from;
  std::swap(to.detectors[0], to.detectors[2]);
  std::swap(to.anomalies[0], to.anomalies[1]);
  std::swap(to.entities[0], to.entities[1]);
  for (auto& anomaly : to.anomalies) {
    for (auto& vote : anomaly.votes) vote.detector = 2 - vote.detector;
    std::ranges::reverse(anomaly.votes);
  }
  to.anomalies[2].votes = {{1, 2}};
  Changed changed(from, to, 900);  // while it calibrates
  EXPECT_EQ(describe(changed.report),
            "detectors: kept fan_z, spend_iqr, habit_z; anomalies: kept testing, takeover, stuck, rule");
  for (int i = 0; i < 1500; ++i) {
    auto event = testing::state_event(changed.feed.random, changed.feed.now_ms += 100);
    event.keys.fill(5);
    changed.before.see(event);
    std::swap(event.raw[0], event.raw[2]);
    changed.after.see(event);
    for (std::size_t t = 0; t < 4; ++t) {
      const auto& mine = changed.after.verdicts[t < 2 ? 1 - t : t];
      // Sums in another order differ in their last bits.
      if (std::isnan(mine.score)) continue;
      ASSERT_NEAR(changed.before.verdicts[t].surprise, mine.surprise, 0.05) << t;
    }
  }
}

TEST(DeciderTest, AChangedRateHoldsAtOnceAndOtherChangesOfATypeBeginAnew) {
  const auto from = testing::state_options();
  auto to = from;
  to.rate_max = 0;
  to.anomalies[0].fire.value = 0.01;
  to.anomalies[1].votes[0].weight = 7;
  to.anomalies[2].fire = {FireRule::Kind::kRate, 0.02};
  to.entities[3] = "merchant";
  Changed changed(from, to);
  EXPECT_EQ(describe(changed.report),
            "detectors: kept habit_z, spend_iqr, fan_z; anomalies: kept takeover; reset testing (its votes have "
            "changed), stuck (its kind of fire rule has changed), rule (it is about merchant, and was about card)");
  EXPECT_EQ(changed.after.decider.fire_rate(0), 0.01);
  EXPECT_EQ(changed.after.decider.fire_rate(2), 0);
}

TEST(DeciderTest, DamagedBytesAreRefusedWithoutATraceOrHarmless) {
  Feed feed(4);
  Machine machine(testing::state_options());
  for (int i = 0; i < 700; ++i) feed.step(machine);
  const std::string untouched = testing::saved(Decider(testing::state_options()));
  int accepted = 0;
  const std::string bytes = testing::saved(machine.decider);
  each_damage(
      bytes, 1, 600, 500,
      [&](std::string_view cut) {
        Decider other(testing::state_options());
        EXPECT_FALSE(testing::loaded(other, cut)) << cut.size();
        EXPECT_EQ(testing::saved(other), untouched);
      },
      [&](std::string_view changed) { accepted += check_decide_state(changed) > 0 ? 1 : 0; });
  EXPECT_GT(accepted, 50);
  EXPECT_LT(accepted, 450);
}

TEST(DeciderTest, TheFuzzersCorpusIsSurvived) {
  std::size_t files = 0;
  int accepted = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/decide_state")) {
    std::ifstream in(entry.path(), std::ios::binary);
    accepted += check_decide_state(std::string(std::istreambuf_iterator<char>(in), {}));
    ++files;
  }
  EXPECT_GE(files, 5U);
  EXPECT_GE(accepted, 4) << "the format has changed: tests/fuzz_corpus/decide_state needs state of the new one";
}

}  // namespace
}  // namespace alcedo::decide
