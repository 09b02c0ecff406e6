// State that was saved, moved, cut and loaded against state that never left: no column may tell them apart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/prng.h"
#include "features/stage.h"
#include "features/state/segment.h"
#include "features/state/segment_invariants.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::Driver;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::make_stream;
using testing::same_bits;
using testing::TestEvent;
using Fate = StateReport::Fate;

FeaturePlan compiled(FeatureOptions options) {
  auto plan = FeaturePlan::compile(std::move(options));
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

std::vector<TestEvent> stream(std::uint64_t seed, std::size_t count, double counter_share = 0.1) {
  testing::StreamOptions options;
  options.events = count;
  options.whole = seed % 2 == 1;
  options.step_ms = seed % 3 == 0 ? 300 : 3000;
  options.cards = seed % 2 == 0 ? 15 : 120;
  options.counter_share = counter_share;
  options.gap_every = 700;
  return make_stream(seed, options);
}

using Rows = std::vector<std::vector<float>>;

struct Tally {
  std::size_t compared = 0;
  std::size_t present = 0;
};

// Compares rows from `begin` on, bit by bit.
void expect_same(const FeaturePlan& plan, const Rows& expected, const Rows& got, std::size_t begin, Tally& tally) {
  ASSERT_EQ(expected.size(), got.size());
  for (std::size_t i = begin; i < expected.size(); ++i) {
    tally.compared += expected[i].size();
    tally.present += static_cast<std::size_t>(std::ranges::count_if(expected[i], [](float x) { return x == x; }));
    if (same_bits(expected[i], got[i])) continue;
    for (std::size_t c = 0; c < expected[i].size(); ++c) {
      if (!same_bits({expected[i][c]}, {got[i][c]}))
        FAIL() << "event " << i << " column " << plan.columns()[c].name << ": got " << got[i][c] << ", expected "
               << expected[i][c];
    }
  }
}

TEST(StateTest, ARestoreAtAnyPointIsUnobservable) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const FeaturePlan plan = compiled(testing::state_options(seed % 2 == 1));
    const auto events = stream(seed, 2400);
    Driver whole(plan, 1);
    const Rows expected = whole.run(events);
    Prng random(seed);
    for (int point = 0; point < 12; ++point) {
      const std::size_t cut = point == 0 ? 1 : 1 + random.below(events.size() - 1);
      Driver before(plan, 1);
      Rows got = before.run({events.begin(), events.begin() + static_cast<std::ptrdiff_t>(cut)});
      Driver after(plan, 1);
      after.restore(before.snapshot());
      EXPECT_EQ(after.entities(), before.entities());
      const Rows rest = after.run({events.begin() + static_cast<std::ptrdiff_t>(cut), events.end()});
      got.insert(got.end(), rest.begin(), rest.end());
      expect_same(plan, expected, got, cut, tally);
    }
  }
  std::cout << "compared " << tally.compared << " values after restores, " << tally.present << " of them present\n";
  EXPECT_GT(tally.present, 1'000'000U);
}

TEST(StateTest, ManyRestoresInOneStreamAreUnobservable) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  const auto events = stream(12, 2000);
  const Rows expected = Driver(plan, 1).run(events);
  Rows got;
  Tally tally;
  auto driver = std::make_unique<Driver>(plan, 1);
  for (std::size_t begin = 0; begin < events.size(); begin += 40) {
    const Rows rows = driver->run({events.begin() + static_cast<std::ptrdiff_t>(begin),
                                   events.begin() + static_cast<std::ptrdiff_t>(begin + 40)});
    got.insert(got.end(), rows.begin(), rows.end());
    auto next = std::make_unique<Driver>(plan, 1);
    next->restore(driver->snapshot());
    driver = std::move(next);
  }
  expect_same(plan, expected, got, 0, tally);
}

TEST(StateTest, SavedAndLoadedStateHasTheSameBytes) {
  std::size_t bytes = 0;
  std::size_t card_bytes = 0;
  std::size_t cards = 0;
  std::size_t entities = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const FeaturePlan plan = compiled(testing::state_options(seed % 2 == 1));
    Driver driver(plan, 1);
    driver.run(stream(seed, 1500));
    const auto saved = driver.snapshot();
    Driver again(plan, 1);
    again.restore(saved);
    const auto twice = again.snapshot();
    EXPECT_EQ(saved.baselines, twice.baselines);
    ASSERT_EQ(saved.segments.size(), twice.segments.size());
    for (std::size_t i = 0; i < saved.segments.size(); ++i) {
      EXPECT_EQ(saved.segments[i], twice.segments[i]);
      bytes += saved.segments[i].bytes.size();
    }
    entities += driver.entities();
    for (int d = 0; d < 120; ++d) {
      std::string row;
      if (driver.stage(0, 0).save_entity(make_key("card" + std::to_string(d)).hash, row)) ++cards;
      card_bytes += row.size();
    }
  }
  std::cout << entities << " entities in " << bytes << " bytes of segments; " << cards << " cards in " << card_bytes
            << " bytes of rows\n";
  EXPECT_GT(entities, 300U);
}

TEST(StateTest, EqualStateHasEqualBytesWhateverWayItWent) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  const auto events = stream(4, 1500);
  Driver one(plan, 1);
  one.run(events);
  Driver four(plan, 4);
  four.run(events, 7);
  const auto a = one.snapshot();
  const auto b = four.snapshot();
  ASSERT_EQ(a.segments.size(), b.segments.size());
  for (std::size_t i = 0; i < a.segments.size(); ++i) EXPECT_EQ(a.segments[i], b.segments[i]);
  EXPECT_EQ(a.baselines, b.baselines);
}

TEST(StateTest, WorkersMayComeAndGo) {
  Tally tally;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const FeaturePlan plan = compiled(testing::state_options(seed % 2 == 1));
    const auto events = stream(seed, 2400);
    const Rows expected = Driver(plan, 1).run(events);
    Rows got;
    testing::Snapshot state;
    for (const std::size_t workers : {1U, 4U, 3U}) {
      Driver driver(plan, workers);
      if (!got.empty()) driver.restore(state);
      const auto begin = events.begin() + static_cast<std::ptrdiff_t>(got.size());
      const Rows rows = driver.run({begin, begin + 800});
      got.insert(got.end(), rows.begin(), rows.end());
      state = driver.snapshot();
    }
    expect_same(plan, expected, got, 0, tally);
  }
  std::cout << "compared " << tally.compared << " values with 1, 4 and 3 workers\n";
}

TEST(StateTest, AForgottenEntityThatIsLoadedAgainWasNeverAway) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  const auto events = stream(5, 2500);
  const Rows expected = Driver(plan, 1).run(events);
  Driver driver(plan, 1);
  Prng random(5);
  std::map<std::pair<std::size_t, std::uint64_t>, std::string> away;  // by stage and key
  std::map<std::pair<std::size_t, std::uint64_t>, std::uint8_t> groups;
  std::size_t evicted = 0;
  std::size_t returned = 0;
  Rows got;
  for (std::size_t i = 0; i < events.size(); ++i) {
    for (std::size_t s = 0; s < plan.stages().size(); ++s) {
      const std::string& text = events[i].keys[plan.stages()[s]];
      if (text.empty()) continue;
      const Key key = make_key(text);
      if (const auto at = away.find({s, key.hash}); at != away.end()) {
        const auto loaded =
            driver.stage(s, 0).load_entity(driver.stage(s, 0).schema(), key.hash, groups[at->first], at->second);
        ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
        away.erase(at);
        ++returned;
      }
    }
    const Rows row = driver.run({events[i]});
    got.push_back(row[0]);
    for (std::size_t s = 0; s < plan.stages().size(); ++s) {
      const std::string& text = events[i].keys[plan.stages()[s]];
      if (text.empty() || random.uniform() < 0.3) continue;
      const std::uint64_t hash = make_key(text).hash;
      groups[{s, hash}] = *driver.stage(s, 0).group_of(hash);
      ASSERT_TRUE(driver.stage(s, 0).save_entity(hash, away[{s, hash}]));
      ASSERT_TRUE(driver.stage(s, 0).forget(hash));
      EXPECT_FALSE(driver.stage(s, 0).forget(hash));
      EXPECT_FALSE(driver.stage(s, 0).group_of(hash).has_value());
      ++evicted;
    }
  }
  Tally tally;
  expect_same(plan, expected, got, 0, tally);
  std::cout << evicted << " evictions, " << returned << " returns, " << tally.compared << " values compared\n";
  EXPECT_GT(returned, 2000U);
}

TEST(StateTest, ForgettingGivesAllMemoryBack) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  Driver driver(plan, 1);
  const auto events = stream(2, 1500);
  std::size_t bytes = 0;
  // Were a slab not given back, the pools would have to grow in later rounds.
  for (int round = 0; round < 20; ++round) {
    Driver fresh(plan, 1);
    fresh.run(events);
    driver.restore(fresh.snapshot());
    const std::size_t now = driver.state_bytes();
    if (round >= 1) {
      EXPECT_EQ(now, bytes) << "round " << round;
    }
    bytes = now;
    std::set<std::string> keys;
    for (const TestEvent& event : events) keys.insert(event.keys.begin(), event.keys.end());
    for (const std::string& key : keys) {
      for (std::size_t s = 0; s < plan.stages().size(); ++s) driver.stage(s, 0).forget(make_key(key).hash);
    }
    ASSERT_EQ(driver.entities(), 0U);
  }
}

TEST(StateTest, AnEntityThatIsHereIsNotLoadedTwice) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  Driver driver(plan, 1);
  driver.run(stream(2, 300));
  const auto saved = driver.snapshot();
  Driver other(plan, 1);
  other.restore(saved);
  const std::size_t before = other.entities();
  const auto again = other.stage(saved.segments[0].stage, 0).load(saved.segments[0].bytes);
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(again.error().message, HasSubstr("is here already"));
  EXPECT_EQ(other.entities(), before);
}

// A state segment with several entities and every kind of part.
testing::Snapshot one_snapshot(const FeaturePlan& plan) {
  Driver driver(plan, 1);
  driver.run(stream(2, 1200));
  return driver.snapshot();
}

const std::string& largest(const testing::Snapshot& snapshot, std::size_t stage) {
  const std::string* found = nullptr;
  for (const auto& segment : snapshot.segments) {
    if (segment.stage == stage && (found == nullptr || segment.bytes.size() > found->size())) found = &segment.bytes;
  }
  return *found;
}

// Says why `bytes` were refused; fails if they were not.
std::string refusal(const FeaturePlan& plan, bool baselines, const std::string& bytes) {
  if (baselines) {
    GlobalBaselines global(plan);
    const std::string before = global.save();
    const auto loaded = global.load(bytes);
    EXPECT_TRUE(loaded.has_value() || global.save() == before);
    return loaded ? "" : loaded.error().message;
  }
  KeyedStage stage(plan, 0);
  const auto loaded = stage.load(bytes);
  EXPECT_TRUE(loaded.has_value() || stage.entities() == 0);
  return loaded ? "" : loaded.error().message;
}

TEST(StateTest, FlippedAndCutBytesAreRefusedByName) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  const auto snapshot = one_snapshot(plan);
  std::map<std::string, std::size_t> said;
  std::size_t flips = 0;
  std::size_t cuts = 0;
  for (const bool baselines : {false, true}) {
    const std::string& whole = baselines ? snapshot.baselines : largest(snapshot, 0);
    ASSERT_EQ(refusal(plan, baselines, whole), "");
    Prng random(77);
    for (int i = 0; i < 1000; ++i) {
      std::string damaged = whole;
      // The header, where each byte has a meaning of its own, is flipped throughout.
      const std::size_t at = i < 256 ? static_cast<std::size_t>(i) / 8 : random.below(whole.size());
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << (i < 256 ? i % 8 : static_cast<int>(random.below(8)))));
      const std::string message = refusal(plan, baselines, damaged);
      ASSERT_THAT(message, HasSubstr("state segment")) << "byte " << at;
      for (const char* word : {"begin with", "format version", "its header says", "checksum"}) {
        if (message.find(word) != std::string::npos) ++said[word];
      }
      ++flips;
    }
    for (std::size_t size = 0; size < whole.size(); ++size) {
      const std::string message = refusal(plan, baselines, whole.substr(0, size));
      ASSERT_THAT(message, ::testing::AnyOf(HasSubstr("its end is missing"), HasSubstr("was cut"))) << size;
      ++cuts;
    }
    EXPECT_THAT(refusal(plan, baselines, whole + "x"), HasSubstr("something follows it"));
  }
  std::cout << flips << " flips and " << cuts << " cuts refused\n";
  EXPECT_EQ(said.size(), 4U);
}

// Damage that a checksum cannot see, because whoever made it computed it anew.
TEST(StateTest, CraftedBytesNeverBreakAStage) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  const auto snapshot = one_snapshot(plan);
  Prng random(78);
  std::size_t refused = 0;
  std::size_t accepted = 0;
  for (std::size_t i = 0; i < 3000; ++i) {
    const bool baselines = i % 5 == 0;
    const auto content = baselines ? SegmentContent::kBaselines : SegmentContent::kKeyGroup;
    const std::string& whole = baselines ? snapshot.baselines : largest(snapshot, i % 2);
    std::string body(*open_segment(content, whole));
    const std::size_t changes = 1 + random.below(3);
    for (std::size_t c = 0; c < changes; ++c) {
      body[random.below(body.size())] = static_cast<char>(random.uniform() < 0.3 ? 0xFF : random.below(256));
    }
    if (random.uniform() < 0.2) body.resize(random.below(body.size()));
    (check_state_invariants(plan, seal_segment(content, body)) ? accepted : refused) += 1;
  }
  std::cout << refused << " crafted segments refused, " << accepted << " accepted\n";
  EXPECT_GT(refused, 500U);
  EXPECT_GT(accepted, 500U);
}

// What bytes claim costs nothing: only what is there is allocated.
TEST(StateTest, ClaimsOfCountsAndLengthsAreNotBelieved) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  for (const std::uint64_t claimed : {std::uint64_t{1} << 20, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    for (const int where : {0, 1, 2, 3}) {
      std::string body;
      StateWriter writer(body);
      writer.u8(3);
      if (where == 0) writer.varint(claimed);  // length of the key's name
      if (where != 0) writer.text("card");
      writer.u64(0);
      writer.u64(0);
      writer.varint(where == 1 ? claimed : 0);  // features
      writer.varint(where == 2 ? claimed : 0);  // parts
      writer.varint(where == 3 ? claimed : 0);  // entities
      KeyedStage stage(plan, 0);
      const auto loaded = stage.load(seal_segment(SegmentContent::kKeyGroup, body));
      ASSERT_FALSE(loaded.has_value()) << where;
      EXPECT_EQ(loaded.error().message, "state segment of 'card': ends before it is complete");
    }
  }
}

// A row costs the memory of an entity, however little of it is said: the least row of the largest plan here.
TEST(StateTest, AByteBringsAtMostAHundred) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  StateSchema nothing;
  nothing.key = "card";
  std::string body;
  StateWriter writer(body);
  writer.u8(3);
  nothing.save(writer);
  constexpr std::uint64_t kEntities = 50'000;
  writer.varint(kEntities);
  for (std::uint64_t i = 1; i <= kEntities; ++i) {
    writer.u64(i);
    writer.varint(8);
    writer.i64(1'700'000'000'000);
  }
  KeyedStage stage(plan, 0);
  const auto loaded = stage.load(seal_segment(SegmentContent::kKeyGroup, body));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_EQ(stage.entities(), kEntities);
  std::cout << body.size() << " bytes became " << stage.state_bytes() << "\n";
  EXPECT_LT(stage.state_bytes(), 100 * body.size());
}

TEST(StateTest, TheFuzzersCorpusIsSurvived) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  std::size_t files = 0;
  std::size_t accepted = 0;
  const std::filesystem::path corpus = std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/segment";
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    accepted += check_state_invariants(plan, bytes) ? 1U : 0U;
    ++files;
  }
  EXPECT_GE(files, 5U);
  EXPECT_GE(accepted, 2U) << "the format has changed: tests/fuzz_corpus/segment needs segments of the new one";
}

TEST(StateTest, ForeignSegmentsAreRefusedByName) {
  const FeaturePlan plan = compiled(testing::state_options(false));
  const auto snapshot = one_snapshot(plan);
  const auto load = [&](const std::string& bytes) {
    KeyedStage stage(plan, 0);
    const auto loaded = stage.load(bytes);
    return loaded ? "" : loaded.error().message;
  };
  EXPECT_EQ(load("PK\3\4 certainly not a segment, but longer than its header"),
            "state segment: does not begin with 'alcstate': these are other bytes, or damaged");
  EXPECT_EQ(load(largest(snapshot, 1)), "state segment: holds entities of 'device'; expected 'card'");
  EXPECT_EQ(load(snapshot.baselines),
            "state segment: holds the baselines of all entities; expected the entities of a key group");
  std::string newer = largest(snapshot, 0);
  newer[8] = 2;
  EXPECT_EQ(load(newer), "state segment: format version 2; this release reads 1: use the release that wrote it");
}

// --- Other plans.

using Columns = std::vector<std::string>;

struct Migration {
  std::map<std::string, StateReport::Feature> features;
  std::size_t compared = 0;
  std::vector<std::string> differ;  // columns that are in both plans and not the same in all later rows
  std::string said;
};

// Runs half of a stream with one plan, the other half with another one from the first one's state, and compares each
// column that both have with a run of the second plan over all.
Migration migrate(const FeaturePlan& from, const FeaturePlan& to, double tolerance = 0) {
  const auto events = stream(3, 3000, 0);
  const auto half = events.begin() + 1500;
  const Rows expected = Driver(to, 1).run(events);
  Driver before(from, 1);
  before.run({events.begin(), half});
  Driver after(to, 1);
  Migration result;
  for (const StateReport& report : after.restore(before.snapshot())) {
    for (const auto& feature : report.features) result.features.emplace(feature.name, feature);
    if (result.said.empty()) result.said = describe(report);
  }
  const Rows rows = after.run({half, events.end()});
  for (std::size_t c = 0; c < to.columns().size(); ++c) {
    if (from.find_column(to.columns()[c].name) < 0) continue;
    bool same = true;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float a = expected[1500 + i][c];
      const float b = rows[i][c];
      ++result.compared;
      same &= same_bits({a}, {b}) || std::fabs(a - b) <= tolerance * (1 + std::fabs(a));
    }
    if (!same) result.differ.push_back(to.columns()[c].name);
  }
  return result;
}

FeatureOptions without(FeatureOptions options, std::size_t feature) {
  options.features.erase(options.features.begin() + static_cast<std::ptrdiff_t>(feature));
  std::erase_if(options.deviations, [&](const DeviationRequest& d) { return d.feature == feature; });
  for (DeviationRequest& d : options.deviations) d.feature -= d.feature > feature ? 1 : 0;
  return options;
}

TEST(StateTest, RemovingAnyFeatureKeepsTheOthers) {
  const FeatureOptions all = testing::state_options(true);
  std::size_t compared = 0;
  for (std::size_t f = 0; f < all.features.size(); ++f) {
    // Without "spend", amounts are bare sums again; its windows pass that change of form exactly, as amounts are whole.
    const Migration m = migrate(compiled(all), compiled(without(all, f)));
    EXPECT_THAT(m.differ, IsEmpty()) << "without " << all.features[f].name;
    for (const auto& [name, feature] : m.features)
      EXPECT_EQ(feature.fate, name == all.features[f].name ? Fate::kRemoved : Fate::kKept) << name;
    compared += m.compared;
  }
  std::cout << "compared " << compared << " values over removed features\n";
}

TEST(StateTest, AddingAnyFeatureKeepsTheOthers) {
  const FeatureOptions all = testing::state_options(true);
  std::size_t compared = 0;
  for (std::size_t f = 0; f < all.features.size(); ++f) {
    const Migration m = migrate(compiled(without(all, f)), compiled(all));
    EXPECT_THAT(m.differ, IsEmpty()) << "with " << all.features[f].name;
    for (const auto& [name, feature] : m.features)
      EXPECT_EQ(feature.fate, name == all.features[f].name ? Fate::kAdded : Fate::kKept) << name;
    compared += m.compared;
  }
  std::cout << "compared " << compared << " values over added features\n";
}

TEST(StateTest, ChangingAFeatureBeginsAnewOnlyWhatNoLongerMeansTheSame) {
  const FeatureOptions all = testing::state_options(true);
  {
    FeatureOptions changed = all;
    changed.features[1].windows_ms.back() = 3 * kHourMs;
    const Migration m = migrate(compiled(all), compiled(changed));
    EXPECT_EQ(m.features.at("now").fate, Fate::kReset);
    EXPECT_THAT(m.features.at("now").anew, ElementsAre("level over 3h"));
    EXPECT_THAT(m.differ, IsEmpty()) << "no column of 3h was there before, and those of 30s stay";
    EXPECT_EQ(m.features.at("spend").fate, Fate::kKept);
    EXPECT_THAT(m.said, HasSubstr("; reset now (anew: level over 3h)"));
  }
  {
    FeatureOptions changed = all;
    changed.features[5].half_life_ms *= 2;
    const Migration m = migrate(compiled(all), compiled(changed));
    EXPECT_EQ(m.features.at("habit").fate, Fate::kReset);
    EXPECT_THAT(m.features.at("habit").anew, ElementsAre("habit"));
    EXPECT_THAT(m.differ, ElementsAre("habit.expected", "habit.spread", "habit.z", "habit.history"));
  }
  {
    FeatureOptions changed = all;
    changed.features[5].min_history += 1;  // read by, not part of, what was learned
    const Migration m = migrate(compiled(all), compiled(changed));
    EXPECT_EQ(m.features.at("habit").fate, Fate::kKept);
  }
  {
    FeatureOptions changed = all;
    changed.features[7].half_life_ms /= 2;
    const Migration m = migrate(compiled(all), compiled(changed));
    EXPECT_EQ(m.features.at("travel").fate, Fate::kReset);
    for (const std::string& column : m.differ) EXPECT_THAT(column, HasSubstr("travel."));
    EXPECT_FALSE(m.differ.empty());
  }
}

TEST(StateTest, FingerprintsTellEveryParameterApart) {
  const FeatureOptions all = testing::state_options(true);
  const EventLayout& layout = all.layout;
  FeatureSpec spec = *std::ranges::find(all.features, "metrics", &FeatureSpec::name);
  ASSERT_EQ(spec.metrics.size(), 2U);
  std::set<std::uint64_t> seen;
  const auto change = [&](auto&& with) {
    FeatureSpec changed = spec;
    with(changed);
    EXPECT_TRUE(seen.insert(feature_fingerprint(changed, layout)).second) << "after " << seen.size() << " changes";
  };
  change([](FeatureSpec&) {});
  change([](FeatureSpec& s) { s.kind = FeatureKind::kSeason; });
  change([](FeatureSpec& s) { s.number = 1 - s.number; });
  change([](FeatureSpec& s) { s.number_2 = 0; });
  change([](FeatureSpec& s) { s.key = 1 - s.key; });
  change([](FeatureSpec& s) { s.other_key = 1 - s.other_key; });
  change([](FeatureSpec& s) { s.stats = {Stat::kSum}; });
  change([](FeatureSpec& s) { s.metrics = {"device1", "device3"}; });
  change([](FeatureSpec& s) { s.metrics = {"device|1", "device2"}; });
  change([](FeatureSpec& s) { s.metrics = {"device", "1|device2"}; });
  change([](FeatureSpec& s) { s.windows_ms = {2 * kHourMs}; });
  change([](FeatureSpec& s) { s.including = !s.including; });
  change([](FeatureSpec& s) { s.half_life_ms += 1; });
  change([](FeatureSpec& s) { s.accept_ms += 1; });
  change([](FeatureSpec& s) { s.min_history += 1; });
  const FeatureSpec of_labels = *std::ranges::find(all.features, "stolen", &FeatureSpec::name);
  for (const auto& with : std::initializer_list<void (*)(FeatureSpec&)>{
           [](FeatureSpec&) {}, [](FeatureSpec& s) { s.label_type = -1; }, [](FeatureSpec& s) { s.label_type = 1; },
           [](FeatureSpec& s) { s.delay_ms += 1; }, [](FeatureSpec& s) { s.prior += 1; }}) {
    FeatureSpec changed = of_labels;
    with(changed);
    EXPECT_TRUE(seen.insert(feature_fingerprint(changed, layout)).second) << "after " << seen.size() << " changes";
  }
  const FeatureSpec of_shapes = *std::ranges::find(all.features, "shape", &FeatureSpec::name);
  for (const auto& with :
       std::initializer_list<void (*)(FeatureSpec&)>{[](FeatureSpec&) {}, [](FeatureSpec& s) { s.shape_values += 1; },
                                                     [](FeatureSpec& s) { s.past_values += 1; }}) {
    FeatureSpec changed = of_shapes;
    with(changed);
    EXPECT_TRUE(seen.insert(feature_fingerprint(changed, layout)).second) << "after " << seen.size() << " changes";
  }
  spec.name = "other";
  EXPECT_TRUE(seen.contains(feature_fingerprint(spec, layout))) << "the name is not part of it";
}

TEST(StateTest, ANewDetectorResetsNothing) {
  FeatureOptions more = testing::state_options(true);
  const FeatureOptions all = more;
  more.deviations.push_back({4, "", DeviationMethod::kEwma});
  const Migration m = migrate(compiled(all), compiled(more));
  EXPECT_THAT(m.differ, IsEmpty());
  EXPECT_EQ(m.features.at("flow").fate, Fate::kKept);
  EXPECT_THAT(m.features.at("flow").anew, ::testing::Contains("flow.events_1m"));
}

TEST(StateTest, FieldsMayChangePlaces) {
  const FeatureOptions all = testing::state_options(true);
  FeatureOptions turned = all;
  // A number is added in front, and the keys change places.
  turned.layout.numbers.insert(turned.layout.numbers.begin(), {"fee", false});
  std::swap(turned.layout.keys[0], turned.layout.keys[1]);
  for (FeatureSpec& spec : turned.features) {
    if (spec.number >= 0) ++spec.number;
    if (spec.number_2 >= 0) ++spec.number_2;
    spec.key = 1 - spec.key;
    if (spec.other_key >= 0) spec.other_key = 1 - spec.other_key;
    if (spec.member_key >= 0) spec.member_key = 1 - spec.member_key;
  }
  const FeaturePlan from = compiled(all);
  const FeaturePlan to = compiled(turned);
  Driver before(from, 1);
  before.run(stream(3, 1000, 0.1));
  const auto saved = before.snapshot();
  for (std::size_t s = 0; s < 2; ++s) {
    KeyedStage stage(to, 1 - s);
    const auto report = stage.load(largest(saved, s));
    ASSERT_TRUE(report.has_value()) << report.error().message;
    EXPECT_FALSE(report->same_layout);
    for (const auto& feature : report->features) EXPECT_EQ(feature.fate, Fate::kKept) << feature.name;
  }
}

// What an added feature reads from windows that so far held bare sums: the rest of the window as if every value were
// its bucket's mean.
TEST(StateTest, WidenedWindowsAreExactWhereABucketHasOneValue) {
  const FeaturePlan from = compiled({testing::test_layout(true), {testing::velocity("pace", 0, 0, {kMinuteMs})}, {}});
  const FeaturePlan to =
      compiled({testing::test_layout(true),
                {testing::velocity("pace", 0, 0, {kMinuteMs}), testing::rolling("spend", 0, 0, {kMinuteMs})},
                {}});
  std::vector<TestEvent> events;
  for (int i = 0; i < 60; ++i) {
    events.push_back({1'700'000'000'000 + i * 1000, {1000.0 + i % 7, 0}, {"card", ""}, 0});
  }
  const Rows expected = Driver(to, 1).run(events);
  Driver before(from, 1);
  before.run({events.begin(), events.begin() + 30});
  Driver after(to, 1);
  after.restore(before.snapshot());
  const Rows got = after.run({events.begin() + 30, events.end()});
  for (std::size_t i = 0; i < got.size(); ++i) {
    for (std::size_t c = 0; c < got[i].size(); ++c) {
      const float want = expected[30 + i][c];
      EXPECT_TRUE((want != want && got[i][c] != got[i][c]) || std::fabs(want - got[i][c]) < 1e-3F)
          << to.columns()[c].name << " of event " << 30 + i << ": " << got[i][c] << ", expected " << want;
    }
  }
}

}  // namespace
}  // namespace alcedo::features
