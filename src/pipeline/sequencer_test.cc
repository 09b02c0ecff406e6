// Positions, duplicates and ticks must be a function of the inputs alone.
#include "pipeline/sequencer.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>
#include <vector>

#include "core/prng.h"

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

}  // namespace
}  // namespace alcedo::pipeline
