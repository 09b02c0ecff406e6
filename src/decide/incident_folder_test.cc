// The life of an incident in event time: it opens at once, says more when its evidence doubles, and resolves when
// quiet.
#include "decide/incident_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <array>
#include <span>

#include "core/prng.h"
#include "core/state_damage.h"
#include "decide/decide_state_invariants.h"
#include "decide/silence.h"

namespace alcedo::decide {
namespace {

struct Fold {
  IncidentFolder folder;
  std::vector<IncidentChange> changes;
  std::uint64_t sequence = 0;

  Fold() : folder({"pipe", {"card", "host"}}, types()) {}
  static std::vector<AnomalySpec> types() {
    AnomalySpec burst{.name = "burst", .impact = Impact::kHigh, .quiet_ms = 10'000};
    AnomalySpec down{.name = "down", .impact = Impact::kLow, .quiet_ms = 10'000};
    return {burst, down};
  }
  void add(std::string_view key, std::int64_t time_ms, double score = 3, std::uint32_t type = 0,
           std::string_view member = {}, bool pins = false) {
    Evidence evidence;
    evidence.position = {++sequence, type};
    evidence.time_ms = time_ms;
    evidence.type = type;
    evidence.key = key;
    evidence.member = member;
    evidence.score = score;
    evidence.pins = pins;
    folder.add(evidence, [] { return Explanation{{{"d", "f", 1, 2, 3, 4, 5, "why"}}, {}}; }, changes);
  }
};

TEST(IncidentFolderTest, OpensAtOnceAndSpeaksAgainWhenEvidenceDoubles) {
  Fold fold;
  for (int i = 0; i < 100; ++i) fold.add("a", 1000 + i);
  ASSERT_EQ(fold.changes.size(), 7U);  // 1, 2, 4, 8, 16, 32, 64
  EXPECT_EQ(fold.changes[0].kind, IncidentChange::Kind::kOpen);
  EXPECT_EQ(fold.changes[0].summary, "burst: card a: why");
  EXPECT_EQ(fold.changes[6].evidence, 64U);
  for (const auto& change : fold.changes) EXPECT_EQ(change.incident, fold.changes[0].incident);
}

TEST(IncidentFolderTest, AWorseEvidenceIsSaidAtOnce) {
  Fold fold;
  fold.add("a", 1000, 3);
  for (int i = 0; i < 5; ++i) fold.add("a", 1001, 3);
  const auto before = fold.changes.size();
  fold.add("a", 1002, 9);
  ASSERT_EQ(fold.changes.size(), before + 1);
  EXPECT_EQ(fold.changes.back().severity, Severity::kCritical);
  EXPECT_EQ(fold.changes.back().score, 9);
}

TEST(IncidentFolderTest, StrongerEvidenceIsToldOfAtTheNextAnnouncement) {
  Fold fold;
  for (const double score : {3.0, 3.0, 3.8, 3.5}) fold.add("a", 1000, score);
  ASSERT_EQ(fold.changes.size(), 3U);
  EXPECT_EQ(fold.changes.back().score, 3.5);
}

TEST(IncidentFolderTest, EvidenceTenTimesRarerThanWhatWasToldIsToldAtOnce) {
  Fold fold;
  for (const double score : {3.0, 3.0}) fold.add("a", 1000, score);
  fold.add("a", 1000, 3.9);  // the third evidence: neither doubled nor ten times rarer
  ASSERT_EQ(fold.changes.size(), 2U);
  fold.add("a", 1000, 3.9, 0, "another");
  fold.add("a", 1000, 4.95, 0, "another");
  ASSERT_EQ(fold.changes.size(), 4U);
  EXPECT_EQ(fold.changes.back().kind, IncidentChange::Kind::kUpdate);
  EXPECT_EQ(fold.changes.back().score, 4.95);
  fold.add("a", 1000, 5.5, 0, "another");
  EXPECT_EQ(fold.changes.size(), 4U);
}

TEST(IncidentFolderTest, ResolvesWhenQuietAndANewOneHasANewName) {
  Fold fold;
  fold.add("a", 1000);
  fold.add("b", 5000);
  fold.folder.tick({fold.sequence, 100}, 10'999, fold.changes);
  EXPECT_EQ(fold.changes.size(), 2U);
  fold.folder.tick({fold.sequence, 100}, 20'000, fold.changes);
  ASSERT_EQ(fold.changes.size(), 4U);
  EXPECT_EQ(fold.changes[2].kind, IncidentChange::Kind::kResolve);
  EXPECT_EQ(fold.changes[2].key, "a");
  EXPECT_EQ(fold.changes[3].key, "b");
  EXPECT_LT(fold.changes[2].position, fold.changes[3].position);
  fold.add("a", 21'000);
  EXPECT_EQ(fold.changes.back().kind, IncidentChange::Kind::kOpen);
  EXPECT_NE(fold.changes.back().incident, fold.changes[0].incident);
}

TEST(IncidentFolderTest, LateTicksCannotBeSeen) {
  // One tick at the end or one every millisecond: the same incidents resolve.
  Fold often;
  Fold once;
  for (Fold* fold : {&often, &once}) {
    fold->add("a", 1000);
    fold->add("b", 2000);
  }
  for (std::int64_t t = 2000; t <= 30'000; ++t) often.folder.tick({2, 100}, t, often.changes);
  once.folder.tick({2, 100}, 30'000, once.changes);
  ASSERT_EQ(often.changes.size(), once.changes.size());
  for (std::size_t i = 0; i < often.changes.size(); ++i) EXPECT_EQ(often.changes[i].incident, once.changes[i].incident);
}

TEST(IncidentFolderTest, ALastingConditionStaysOpenUntilReleased) {
  Fold fold;
  fold.add("rack", 1000, 1, 1, "host1", true);
  fold.add("rack", 2000, 1, 1, "host2", true);
  fold.folder.tick({9, 0}, 1'000'000, fold.changes);
  EXPECT_EQ(fold.folder.open(), 1U);
  fold.folder.release(1, "rack", {10, 1}, 1'000'000, fold.changes);
  EXPECT_EQ(fold.folder.open(), 1U);
  fold.folder.release(1, "rack", {11, 1}, 1'000'001, fold.changes);
  EXPECT_EQ(fold.folder.open(), 0U);
  EXPECT_EQ(fold.changes.back().kind, IncidentChange::Kind::kResolve);
  EXPECT_EQ(fold.changes.back().members, (std::vector<std::string>{"host1", "host2"}));
}

TEST(SilenceWatchTest, OneAlarmASilenceInOrderOfItsTime) {
  SilenceWatch watch(2000, 100'000);
  std::vector<SilenceWatch::Silent> alarms;
  std::vector<SilenceWatch::Silent> forgotten;
  watch.seen(1, "a", "", 0);
  watch.seen(2, "b", "", 500);
  watch.seen(1, "a", "", 1000);
  watch.tick(2400, alarms, forgotten);
  EXPECT_TRUE(alarms.empty());
  watch.tick(5000, alarms, forgotten);
  ASSERT_EQ(alarms.size(), 2U);
  EXPECT_EQ(alarms[0].key, "b");
  EXPECT_EQ(alarms[0].since_ms, 2500);
  EXPECT_EQ(alarms[1].key, "a");
  watch.tick(9000, alarms, forgotten);
  EXPECT_EQ(alarms.size(), 2U);
  EXPECT_TRUE(watch.seen(2, "b", "", 9500));
  EXPECT_FALSE(watch.seen(2, "b", "", 9600));
  watch.tick(12'000, alarms, forgotten);
  EXPECT_EQ(alarms.size(), 3U);
  EXPECT_TRUE(forgotten.empty());
  watch.tick(200'000, alarms, forgotten);
  EXPECT_EQ(forgotten.size(), 2U);
  EXPECT_FALSE(watch.seen(1, "a", "", 300'000));  // new, not returned
}

// --- State.

std::string text_of(const IncidentChange& c) {
  std::string text =
      fmt::format("{} {}/{} {} {} {} {} {} {} {} {} {}-{} {} {} {} {} {} {} {} {}", to_string(c.kind),
                  c.position.sequence, c.position.index, c.incident, c.pipeline, c.type, c.key, c.key_name,
                  to_string(c.impact), to_string(c.severity), c.runbook, c.first_ms, c.last_ms, c.evidence, c.score,
                  c.members_total, fmt::join(c.members, ","), c.first_event, c.summary, c.provisional, c.due_ns);
  for (const auto& r : c.reasons) {
    text += fmt::format(" [{} {} {} {} {} {} {} {}]", r.detector, r.feature, r.seen, r.expected, r.spread, r.score,
                        r.history, r.text);
  }
  for (const auto& v : c.votes) text += fmt::format(" ({} {} {} {})", v.detector, v.weight, v.score, v.surprise);
  return text;
}

// What one random input does to a folder: evidence of all kinds, releases, ticks.
struct Inputs {
  Prng random;
  std::uint64_t sequence = 0;
  std::int64_t now_ms = 1'000'000;

  explicit Inputs(std::uint64_t seed) : random(seed) {}
  void step(std::span<IncidentFolder* const> folders, std::span<std::vector<IncidentChange>> out) {
    now_ms += static_cast<std::int64_t>(random.below(900));
    ++sequence;
    const std::string key = fmt::format("k{}", random.below(12));
    const std::string member = fmt::format("m{}", random.below(60));
    const std::string id = fmt::format("id{}", sequence);
    Evidence evidence;
    evidence.type = static_cast<std::uint32_t>(random.below(4));
    evidence.position = {sequence, evidence.type};
    evidence.time_ms = now_ms - static_cast<std::int64_t>(random.below(4000));
    evidence.key = key;
    if (evidence.type == 1) evidence.member = member;
    evidence.event_id = id;
    evidence.score = random.exponential() * 3;
    evidence.provisional = random.below(2) == 0;
    evidence.pins = evidence.type == 2 || (evidence.type == 3 && random.below(4) == 0);
    evidence.due_ns = static_cast<std::int64_t>(random.below(1000));
    const double seen = random.normal();
    const auto explain = [&] { return Explanation{{{"d", "f", seen, 2, 3, 4, 5, "why " + id}}, {{"d", 1, seen, 3}}}; };
    const auto what = random.below(10);
    for (std::size_t i = 0; i < folders.size(); ++i) {
      if (what < 6) folders[i]->add(evidence, explain, out[i]);
      if (what == 6) folders[i]->release(2, key, {sequence, 2}, evidence.time_ms, out[i]);
      if (what == 7) folders[i]->release(3, key, {sequence, 3}, evidence.time_ms, out[i]);
      if (what > 7) folders[i]->tick({sequence, 1000}, now_ms, out[i]);
    }
  }
};

TEST(IncidentFolderTest, CutAnywhereAndRestoredEveryChangeIsTheSame) {
  const auto specs = testing::state_options().anomalies;
  std::size_t resolved = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Inputs inputs(seed);
    IncidentFolder whole(testing::state_names(), specs);
    IncidentFolder restored(testing::state_names(), specs);
    std::array<IncidentFolder*, 2> both{&whole, &restored};
    std::array<std::vector<IncidentChange>, 2> changes;
    for (std::uint64_t left = inputs.random.below(400); left != 0; --left)
      inputs.step(std::span(both).first(1), changes);
    changes[0].clear();
    const std::string bytes = testing::saved(whole);
    ASSERT_TRUE(testing::loaded(restored, bytes)) << "seed " << seed;
    EXPECT_EQ(restored.open(), whole.open());
    EXPECT_EQ(testing::saved(restored), bytes) << "seed " << seed;
    for (int i = 0; i < 400; ++i) inputs.step(both, changes);
    ASSERT_EQ(changes[0].size(), changes[1].size()) << "seed " << seed;
    for (std::size_t i = 0; i < changes[0].size(); ++i) {
      ASSERT_EQ(text_of(changes[0][i]), text_of(changes[1][i])) << "seed " << seed;
      resolved += changes[0][i].kind == IncidentChange::Kind::kResolve ? 1 : 0;
    }
    EXPECT_EQ(testing::saved(restored), testing::saved(whole)) << "seed " << seed;
  }
  EXPECT_GT(resolved, 1000U);
}

TEST(IncidentFolderTest, WhatNothingCanAddToAnyMoreResolves) {
  const auto specs = Fold::types();
  IncidentFolder before({"pipe", {"card", "host"}}, specs);
  std::vector<IncidentChange> opened;
  for (std::uint32_t type = 0; type < 2; ++type) {
    Evidence evidence;
    evidence.position = {type + 1, type};
    evidence.time_ms = 1000 + type;
    evidence.type = type;
    evidence.key = "a";
    evidence.score = 3;
    evidence.pins = type == 1;
    before.add(evidence, [] { return Explanation{}; }, opened);
  }
  const std::string bytes = testing::saved(before);
  // The first type is gone, the second is now about racks.
  IncidentFolder after({"pipe", {"rack"}}, {specs[1]});
  StateReader reader(bytes);
  const auto loaded = after.load(reader);
  ASSERT_TRUE(reader.complete());
  EXPECT_EQ(loaded.open, 2U);
  EXPECT_EQ(loaded.ending, 2U);
  // Meanwhile the same key opens anew; all three can be saved side by side.
  std::vector<IncidentChange> changes;
  Evidence evidence;
  evidence.position = {3, 0};
  evidence.time_ms = 1000;
  evidence.key = "a";
  after.add(evidence, [] { return Explanation{}; }, changes);
  EXPECT_NE(changes.at(0).incident, opened.at(1).incident);
  IncidentFolder again({"pipe", {"rack"}}, {specs[1]});
  ASSERT_TRUE(testing::loaded(again, testing::saved(after)));
  EXPECT_EQ(again.open(), 3U);
  changes.clear();
  again.tick({4, 0}, 1001, changes);
  ASSERT_EQ(changes.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(changes[i].incident, opened[i].incident);
    EXPECT_EQ(changes[i].kind, IncidentChange::Kind::kResolve);
  }
}

TEST(IncidentFolderTest, UnpinnedIncidentsResolveWhenQuiet) {
  Fold fold;
  fold.add("rack", 1000, 1, 1, "host1", true);
  fold.add("other", 1000, 1, 0, {}, true);
  fold.folder.unpin(1);
  fold.folder.tick({9, 0}, 10'999, fold.changes);
  EXPECT_EQ(fold.folder.open(), 2U);
  fold.folder.tick({9, 0}, 1'000'000, fold.changes);
  EXPECT_EQ(fold.folder.open(), 1U);
  EXPECT_EQ(fold.changes.back().key, "rack");
}

TEST(IncidentFolderTest, DamagedBytesAreRefusedWithoutATraceOrHarmless) {
  const auto specs = testing::state_options().anomalies;
  Inputs inputs(3);
  IncidentFolder folder(testing::state_names(), specs);
  std::array<IncidentFolder*, 1> one{&folder};
  std::array<std::vector<IncidentChange>, 1> changes;
  for (int i = 0; i < 40; ++i) inputs.step(one, changes);
  int accepted = 0;
  each_damage(
      testing::saved(folder), 1, 10'000, 600,
      [&](std::string_view cut) {
        IncidentFolder other(testing::state_names(), specs);
        EXPECT_FALSE(testing::loaded(other, cut)) << cut.size();
        EXPECT_EQ(other.open(), 0U);
      },
      [&](std::string_view changed) { accepted += check_decide_state(changed) > 0 ? 1 : 0; });
  EXPECT_GT(accepted, 30);
  EXPECT_LT(accepted, 580);
}

std::string text_of(const std::vector<SilenceWatch::Silent>& silent) {
  std::string text;
  for (const auto& s : silent) text += fmt::format("{} {} {} {};", s.key, s.group, s.last_ms, s.since_ms);
  return text;
}

TEST(SilenceWatchTest, CutAnywhereAndRestoredEveryAlarmIsTheSame) {
  std::size_t alarms_seen = 0, forgotten_seen = 0, ended = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Prng random(seed);
    SilenceWatch whole(2000, 9000);
    SilenceWatch restored(2000, 9000);
    std::array<SilenceWatch*, 2> both{&whole, &restored};
    std::int64_t now_ms = 5000;
    // Whole hundreds of ms: many deadlines are equal.
    const auto step = [&](std::size_t count) {
      now_ms += static_cast<std::int64_t>(random.below(3)) * 100;
      const std::uint64_t key = 1 + random.below(random.below(2) == 0 ? 40 : 4);
      const std::int64_t time_ms = now_ms - static_cast<std::int64_t>(random.below(12)) * 100;
      if (random.below(3) == 0) {
        std::array<std::vector<SilenceWatch::Silent>, 2> alarms, forgotten;
        for (std::size_t i = 0; i < count; ++i) both[i]->tick(now_ms, alarms[i], forgotten[i]);
        if (count == 1) return;
        ASSERT_EQ(text_of(alarms[0]), text_of(alarms[1])) << "seed " << seed;
        ASSERT_EQ(text_of(forgotten[0]), text_of(forgotten[1])) << "seed " << seed;
        alarms_seen += alarms[0].size();
        forgotten_seen += forgotten[0].size();
        return;
      }
      std::array<bool, 2> ends{};
      const std::string text = fmt::format("e{}", key), group = fmt::format("g{}", key % 3);
      for (std::size_t i = 0; i < count; ++i) ends[i] = both[i]->seen(key, text, group, time_ms);
      if (count == 2) {
        ASSERT_EQ(ends[0], ends[1]) << "seed " << seed;
      }
      ended += ends[0] ? 1 : 0;
    };
    for (std::uint64_t left = random.below(500); left != 0; --left) step(1);
    const std::string bytes = testing::saved(whole);
    ASSERT_TRUE(testing::loaded(restored, bytes)) << "seed " << seed;
    EXPECT_EQ(testing::saved(restored), bytes) << "seed " << seed;
    for (int i = 0; i < 600; ++i) step(2);
    EXPECT_EQ(testing::saved(restored), testing::saved(whole)) << "seed " << seed;
  }
  EXPECT_GT(alarms_seen, 1000U);
  EXPECT_GT(forgotten_seen, 200U);
  EXPECT_GT(ended, 500U);
}

TEST(SilenceWatchTest, AnotherLimitHoldsForWhoWasSeenBefore) {
  SilenceWatch patient(10'000, 100'000);
  patient.seen(1, "a", "", 1000);
  for (const std::int64_t absent_ms : {2000, 20'000}) {
    SilenceWatch watch(absent_ms, 100'000);
    ASSERT_TRUE(testing::loaded(watch, testing::saved(patient)));
    std::vector<SilenceWatch::Silent> alarms, forgotten;
    watch.tick(1000 + absent_ms - 1, alarms, forgotten);
    EXPECT_TRUE(alarms.empty());
    watch.tick(1000 + absent_ms, alarms, forgotten);
    EXPECT_EQ(alarms.size(), 1U);
  }
}

TEST(SilenceWatchTest, DamagedBytesAreRefusedWithoutATraceOrHarmless) {
  SilenceWatch watch(2000, 9000);
  for (std::uint64_t key = 1; key < 20; ++key) watch.seen(key * key, fmt::format("e{}", key), "g", 100);
  int accepted = 0;
  each_damage(
      testing::saved(watch), 1, 10'000, 600,
      [&](std::string_view cut) {
        SilenceWatch other(2000, 9000);
        EXPECT_FALSE(testing::loaded(other, cut)) << cut.size();
        EXPECT_EQ(other.entities(), 0U);
      },
      [&](std::string_view changed) { accepted += check_decide_state(changed) > 0 ? 1 : 0; });
  EXPECT_GT(accepted, 30);
  EXPECT_LT(accepted, 580);
}

}  // namespace
}  // namespace alcedo::decide
