// Positions, duplicates and ticks must be a function of the inputs alone.
#include "pipeline/sequencer.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>
#include <vector>

#include "core/prng.h"
#include "core/state_damage.h"

namespace alcedo::pipeline {
namespace {

EventHeader event(std::int64_t time_ms, std::uint64_t id = 0, std::int64_t arrival_ms = 0) {
  EventHeader header;
  header.time_ms = time_ms;
  header.arrival_ms = arrival_ms;
  header.id_hash = id;
  return header;
}

TEST(SequencerTest, NumbersWhatItAcceptsWithoutGaps) {
  Sequencer sequencer({.ahead_ms = 1000, .duplicates = 100});
  auto a = event(1000, 7, 1000);
  auto again = event(1000, 7, 1000);
  auto early = event(5000, 8, 1000);
  auto b = event(2000, 9, 1000);
  EXPECT_EQ(sequencer.admit(a), Admission::kAccepted);
  EXPECT_EQ(sequencer.admit(again), Admission::kDuplicate);
  EXPECT_EQ(sequencer.admit(early), Admission::kAhead);
  EXPECT_EQ(sequencer.admit(b), Admission::kAccepted);
  EXPECT_EQ(a.sequence, 1U);
  EXPECT_EQ(b.sequence, 2U);
}

TEST(SequencerTest, DropsExactlyTheIdsSeenWithinTheHorizon) {
  constexpr std::uint64_t kHorizon = 500;
  Sequencer sequencer({.duplicates = kHorizon});
  Prng random(4);
  std::deque<std::pair<std::uint64_t, std::uint64_t>> seen;  // sequence, id: what a naive reader would keep
  std::uint64_t next = 1;
  int dropped = 0;
  for (int i = 0; i < 50'000; ++i) {
    const std::uint64_t id = 1 + random.below(2000);
    while (!seen.empty() && next - seen.front().first > kHorizon) seen.pop_front();
    bool expected = false;
    for (const auto& [sequence, other] : seen) expected = expected || other == id;
    auto header = event(i, id);
    const bool duplicate = sequencer.admit(header) == Admission::kDuplicate;
    ASSERT_EQ(duplicate, expected) << i;
    dropped += duplicate ? 1 : 0;
    if (!duplicate) seen.emplace_back(next++, id);
  }
  EXPECT_GT(dropped, 1000);
}

TEST(SequencerTest, TicksFollowTheWatermarkAndLateEventsAreFlagged) {
  Sequencer sequencer({.lateness_ms = 2000, .tick_ms = 1000});
  auto a = event(10'500);
  sequencer.admit(a);
  auto tick = sequencer.take_tick();
  ASSERT_TRUE(tick);
  EXPECT_EQ(tick->time_ms, 8000);
  EXPECT_EQ(tick->sequence, 1U);
  auto b = event(10'900);
  sequencer.admit(b);
  EXPECT_FALSE(sequencer.take_tick());
  auto old = event(8'899);
  sequencer.admit(old);
  EXPECT_TRUE(old.flags & kEventLate);
  auto in_time = event(8'900);
  sequencer.admit(in_time);
  EXPECT_FALSE(in_time.flags & kEventLate);
  EXPECT_EQ(sequencer.advance(20'000), 5U);
  EXPECT_EQ(sequencer.take_tick()->time_ms, 20'000);
}

TEST(SequencerTest, AGapOfDaysQuarantinesNothing) {
  Sequencer sequencer({.lateness_ms = 1000, .ahead_ms = 300'000});
  auto before = event(1'000'000, 0, 1'000'000);
  auto after = event(1'000'000 + 30 * 86'400'000LL, 0, 1'000'000 + 30 * 86'400'000LL);
  EXPECT_EQ(sequencer.admit(before), Admission::kAccepted);
  EXPECT_EQ(sequencer.admit(after), Admission::kAccepted);
}

// --- State.

std::string saved(const Sequencer& sequencer) {
  std::string bytes;
  StateWriter writer(bytes);
  sequencer.save(writer);
  return bytes;
}

// What a checkpoint keeps of a sequencer: the newest state, and the ids of all increments.
struct Checkpoint {
  std::string state;
  std::vector<Sequencer::Seen> ids;

  void take(Sequencer& sequencer) {
    state = saved(sequencer);
    for (const auto& seen : sequencer.take_recent_ids()) ids.push_back(seen);
  }
  std::unique_ptr<Sequencer> restore(const Sequencer::Options& options) const {
    auto sequencer = std::make_unique<Sequencer>(options);
    StateReader reader(state);
    sequencer->load(reader);
    EXPECT_TRUE(reader.complete()) << reader.mistake();
    EXPECT_TRUE(sequencer->load_ids(ids).has_value());
    sequencer->keep_recent_ids(true);
    return sequencer;
  }
};

struct Answer {
  Admission admission;
  std::uint64_t sequence;
  std::uint8_t flags;
  std::int64_t watermark_ms;
  std::int64_t tick_ms;
  std::uint64_t tick_sequence;
  friend bool operator==(const Answer&, const Answer&) = default;
};

Answer answer(Sequencer& sequencer, EventHeader header) {
  const Admission admission = sequencer.admit(header);
  const auto tick = sequencer.take_tick();
  return {admission,
          header.sequence,
          header.flags,
          sequencer.watermark_ms(),
          tick ? tick->time_ms : 0,
          tick ? tick->sequence : 0};
}

TEST(SequencerTest, CutAnywhereAndRestoredEveryAnswerIsTheSame) {
  int duplicates = 0;
  int reseen = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Prng random(seed);
    const Sequencer::Options options{.lateness_ms = 700, .ahead_ms = 5000, .duplicates = 1 + random.below(300)};
    Sequencer whole(options);
    auto restored = std::make_unique<Sequencer>(options);
    restored->keep_recent_ids(true);
    Checkpoint kept;
    std::vector<std::uint64_t> admitted;  // ids, so that distances between equal ones can be chosen
    std::int64_t now_ms = 1'000'000;
    for (int i = 0; i < 4000; ++i) {
      now_ms += static_cast<std::int64_t>(random.below(120));
      auto header = event(now_ms - static_cast<std::int64_t>(random.below(2000)), 0, now_ms);
      if (random.below(50) == 0) header.time_ms += 9000;  // too far ahead
      // New, without an id, or one from any distance up to three horizons, often from its very edge.
      const auto kind = random.below(10);
      std::uint64_t back = 1 + random.below(3 * options.duplicates + 3);
      if (kind == 0) back = options.duplicates + random.below(5);
      const bool again = kind < 5 && back >= 1 && back <= admitted.size();
      if (again) header.id_hash = admitted[admitted.size() - back];
      if (!again && kind < 9) header.id_hash = 1 + random.next() / 2;
      if (random.below(40) == 0) {
        const std::int64_t to_ms = now_ms + static_cast<std::int64_t>(random.below(2000));
        ASSERT_EQ(whole.advance(to_ms), restored->advance(to_ms));
        ASSERT_EQ(whole.take_tick().has_value(), restored->take_tick().has_value());
      }
      const Answer expected = answer(whole, header);
      ASSERT_TRUE(expected == answer(*restored, header)) << "seed " << seed << ", event " << i;
      duplicates += expected.admission == Admission::kDuplicate ? 1 : 0;
      reseen += expected.admission == Admission::kAccepted && again ? 1 : 0;
      if (expected.admission == Admission::kAccepted && header.id_hash != 0) admitted.push_back(header.id_hash);
      const auto what = random.below(150);
      if (what < 3) kept.take(*restored);
      if (what == 0) {
        if (random.below(2) == 0) {
          // Only the horizon matters.
          const std::uint64_t next = restored->next_sequence();
          std::erase_if(kept.ids, [&](const auto& seen) { return next - seen.sequence > options.duplicates; });
        }
        restored = kept.restore(options);
        ASSERT_EQ(saved(*restored), kept.state);
      }
    }
    EXPECT_EQ(saved(whole), saved(*restored));
  }
  EXPECT_GT(duplicates, 5000);
  EXPECT_GT(reseen, 5000);
}

TEST(SequencerTest, RecentIdsAreRecordedInOrderAndBoundedByTheHorizon) {
  Sequencer sequencer({.duplicates = 4});
  const auto admit = [&](std::uint64_t id) {
    auto header = event(1000, id);
    sequencer.admit(header);
    sequencer.take_tick();
  };
  admit(1);
  EXPECT_TRUE(sequencer.take_recent_ids().empty());
  sequencer.keep_recent_ids(true);
  for (const std::uint64_t id : {2, 1, 0, 3}) admit(id);  // a duplicate and one without an id are not recorded
  auto ids = sequencer.take_recent_ids();
  ASSERT_EQ(ids.size(), 2U);
  EXPECT_EQ(ids[0].id, 2U);
  EXPECT_EQ(ids[0].sequence, 2U);
  EXPECT_EQ(ids[1].id, 3U);
  EXPECT_EQ(ids[1].sequence, 4U);
  EXPECT_TRUE(sequencer.take_recent_ids().empty());
  for (std::uint64_t id = 10; id < 20; ++id) admit(id);
  sequencer.keep_recent_ids(true);  // changes nothing
  ids = sequencer.take_recent_ids();
  ASSERT_EQ(ids.size(), 4U);
  EXPECT_EQ(ids[0].id, 16U);
  EXPECT_EQ(ids[3].id, 19U);
  sequencer.keep_recent_ids(false);
  admit(30);
  EXPECT_TRUE(sequencer.take_recent_ids().empty());
}

TEST(SequencerTest, IdsThatCannotHaveBeenAdmittedAreRefused) {
  const auto mistake_of = [](std::vector<Sequencer::Seen> ids) {
    Sequencer sequencer({.duplicates = 100});
    sequencer.set_next_sequence(10);
    const auto loaded = sequencer.load_ids(ids);
    auto header = event(1, 5);
    EXPECT_EQ(sequencer.admit(header), loaded ? Admission::kDuplicate : Admission::kAccepted);
    return loaded ? "" : loaded.error().message;
  };
  EXPECT_EQ(mistake_of({{5, 1}, {6, 9}}), "");
  EXPECT_EQ(mistake_of({{5, 1}, {6, 1}}), "saved ids: sequence 1 follows 1; expected ascending ones");
  EXPECT_EQ(mistake_of({{5, 1}, {6, 10}}), "saved ids: sequence 10 where 10 comes next; expected lower ones");
}

TEST(SequencerTest, DamagedBytesAreRefusedWithoutATraceOrHarmless) {
  Sequencer sequencer({.lateness_ms = 10});
  auto header = event(123'456);
  sequencer.admit(header);
  sequencer.take_tick();
  const std::string bytes = saved(sequencer);
  const std::string untouched = saved(Sequencer({}));
  std::size_t accepted = 0;
  const auto load = [&](std::string_view from) {
    Sequencer other({});
    StateReader reader(from);
    other.load(reader);
    EXPECT_TRUE(reader.ok() || saved(other) == untouched);
    auto next = event(200'000);
    other.admit(next);
    other.take_tick();
    return reader.complete();
  };
  each_damage(
      bytes, 1, 100, 2000, [&](std::string_view cut) { EXPECT_FALSE(load(cut)); },
      [&](std::string_view changed) { accepted += load(changed) ? 1 : 0; });
  EXPECT_GT(accepted, 100U);
  EXPECT_LT(accepted, 1900U);
}

}  // namespace
}  // namespace alcedo::pipeline
