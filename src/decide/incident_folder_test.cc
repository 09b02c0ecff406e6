// The life of an incident in event time: it opens at once, says more when its evidence doubles, and resolves when
// quiet.
#include "decide/incident_folder.h"

#include <gtest/gtest.h>

#include <set>

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

}  // namespace
}  // namespace alcedo::decide
