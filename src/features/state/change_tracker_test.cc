// A pretended store beside a running stage: captures, losses, evictions and crashes at random, against a run without.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/prng.h"
#include "features/stage.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::Driver;
using testing::make_stream;
using testing::same_bits;
using testing::TestEvent;

using Where = std::pair<std::size_t, std::uint64_t>;  // stage, entity
struct StoredRow {
  std::uint8_t group = 0;
  std::string bytes;
  bool live = true;
};
using Epoch = std::map<Where, StoredRow>;

// What a CheckpointStore keeps, in memory.
struct Store {
  std::vector<Epoch> epochs{Epoch{}};  // [0] is none
  std::uint32_t published = 0;
  testing::Snapshot rest;  // baselines and tick as of the published epoch
  std::size_t events = 0;  // and how many events it includes
};

struct Capture {
  Epoch rows;
  testing::Snapshot rest;
  std::size_t events = 0;
};

// A driver whose stages track changes and may leave entities to the store.
std::unique_ptr<Driver> make_driver(const FeaturePlan& plan, std::size_t workers, const Store& store) {
  auto driver = std::make_unique<Driver>(plan, workers);
  for (std::size_t s = 0; s < plan.stages().size(); ++s) {
    for (std::size_t w = 0; w < workers; ++w) {
      driver->stage(s, w).track_changes();
      driver->stage(s, w).keep_cold(
          [&store, s](std::uint64_t hash, std::uint8_t, std::uint32_t epoch) -> Result<std::string> {
            const auto at = store.epochs.at(epoch).find({s, hash});
            if (at == store.epochs.at(epoch).end()) return error(ErrorCode::kNotFound, "not in that epoch");
            return at->second.bytes;
          });
    }
  }
  return driver;
}

void for_each_stage(const FeaturePlan& plan, std::size_t workers, Driver& driver,
                    const std::function<void(std::size_t, KeyedStage&)>& f) {
  for (std::size_t s = 0; s < plan.stages().size(); ++s) {
    for (std::size_t w = 0; w < workers; ++w) f(s, driver.stage(s, w));
  }
}

struct Counts {
  std::size_t published = 0, lost = 0, evicted = 0, crashes = 0, rows = 0, forgotten = 0;
};

void run_story(std::uint64_t seed, Counts& counts) {
  Prng random(seed);
  auto compiled = FeaturePlan::compile(testing::state_options(seed % 2 == 1));
  ASSERT_TRUE(compiled.has_value());
  const FeaturePlan& plan = *compiled;
  testing::StreamOptions options;
  options.events = 2500;
  options.cards = 200;
  options.devices = 30;
  options.whole = seed % 2 == 1;
  options.counter_share = 0.1;
  options.gap_every = 700;
  const auto events = make_stream(seed, options);
  const auto expected = Driver(plan, 1).run(events);

  Store store;
  std::size_t workers = 1 + random.below(3);
  auto driver = make_driver(plan, workers, store);
  std::unique_ptr<Capture> capture;
  std::size_t next = 0;
  while (next < events.size()) {
    const std::size_t size = std::min<std::size_t>(1 + random.below(40), events.size() - next);
    const auto from = events.begin() + static_cast<std::ptrdiff_t>(next);
    const auto rows = driver->run({from, from + static_cast<std::ptrdiff_t>(size)}, size);
    for (std::size_t i = 0; i < size; ++i) {
      ASSERT_TRUE(same_bits(rows[i], expected[next + i])) << "seed " << seed << ", event " << next + i;
    }
    next += size;

    if (!capture && random.below(8) == 0) {
      capture = std::make_unique<Capture>();
      const bool all = store.published != 0 && random.below(10) == 0;
      for_each_stage(plan, workers, *driver, [&](std::size_t, KeyedStage& stage) {
        stage.begin_capture(static_cast<std::uint32_t>(store.epochs.size()), all);
      });
      const testing::Snapshot now = driver->snapshot();
      capture->rest.baselines = now.baselines;
      capture->rest.last_tick = now.last_tick;
      capture->events = next;
    }
    if (capture) {
      bool done = true;
      for_each_stage(plan, workers, *driver, [&](std::size_t s, KeyedStage& stage) {
        CapturedRows rows_now;
        done = stage.capture(random.below(12), rows_now) && done;
        for (const CapturedRows::Row& row : rows_now.rows) {
          const bool is_new =
              capture->rows
                  .emplace(Where{s, row.entity}, StoredRow{row.group, std::string(rows_now.bytes_of(row)), row.live})
                  .second;
          ASSERT_TRUE(is_new) << "a row is captured once";
          ++counts.rows;
        }
      });
      if (done && random.below(4) == 0) {
        for_each_stage(plan, workers, *driver, [](std::size_t, KeyedStage& stage) { stage.capture_lost(); });
        capture.reset();
        ++counts.lost;
      } else if (done) {
        store.epochs.push_back(std::move(capture->rows));
        store.published = static_cast<std::uint32_t>(store.epochs.size() - 1);
        store.rest = capture->rest;
        store.events = capture->events;
        capture.reset();
        ++counts.published;
      }
    }
    if (random.below(3) == 0) {
      for_each_stage(plan, workers, *driver, [&](std::size_t, KeyedStage& stage) {
        counts.evicted += stage.evict(1 + random.below(20), store.published);
      });
    }
    if (random.below(60) == 0) {
      capture.reset();
      workers = 1 + random.below(3);
      driver = make_driver(plan, workers, store);
      std::map<Where, std::pair<std::uint32_t, const StoredRow*>> newest;
      for (std::uint32_t epoch = 1; epoch <= store.published; ++epoch) {
        for (const auto& [where, row] : store.epochs[epoch]) newest[where] = {epoch, &row};
      }
      for (const auto& [where, at] : newest) {
        const auto& [epoch, row] = at;
        if (!row->live) continue;
        KeyedStage& stage = driver->stage(where.first, row->group % workers);
        const auto loaded = random.below(2) == 0
                                ? stage.add_cold(where.second, row->group, epoch)
                                : stage.load_entity(stage.schema(), where.second, row->group, row->bytes, epoch);
        ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
      }
      if (store.published != 0) driver->restore(store.rest);
      next = store.events;
      ++counts.crashes;
    }
    for_each_stage(plan, workers, *driver, [](std::size_t, KeyedStage& stage) {
      ASSERT_FALSE(stage.fault().has_value()) << stage.fault()->message;
    });
  }
}

TEST(ChangeTrackerTest, CapturesEvictionsAndCrashesAreUnobservable) {
  Counts counts;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) run_story(seed, counts);
  std::cout << counts.published << " epochs published, " << counts.lost << " lost, " << counts.rows << " rows, "
            << counts.evicted << " evictions, " << counts.crashes << " crashes\n";
  EXPECT_GT(counts.published, 100U);
  EXPECT_GT(counts.lost, 20U);
  EXPECT_GT(counts.evicted, 1000U);
  EXPECT_GT(counts.crashes, 10U);
}

TEST(ChangeTrackerTest, OnlyWhatChangedIsCaptured) {
  auto compiled = FeaturePlan::compile(testing::state_options(true));
  ASSERT_TRUE(compiled.has_value());
  const Store store;
  auto driver = make_driver(*compiled, 1, store);
  testing::StreamOptions options;
  options.events = 2000;
  options.missing_share = 0;
  const auto events = make_stream(5, options);
  driver->run(events);
  KeyedStage& cards = driver->stage(0, 0);
  CapturedRows rows;
  cards.begin_capture(1, false);
  EXPECT_TRUE(cards.capture(1'000'000, rows));
  EXPECT_EQ(rows.rows.size(), cards.entities());
  rows.clear();
  cards.begin_capture(2, false);
  EXPECT_TRUE(cards.capture(1'000'000, rows));
  EXPECT_TRUE(rows.empty());
  driver->run({events.back()});
  EXPECT_EQ(cards.changed(), 1U);
  cards.begin_capture(3, false);
  EXPECT_TRUE(cards.capture(1'000'000, rows));
  EXPECT_EQ(rows.rows.size(), 1U);
  rows.clear();
  ASSERT_TRUE(cards.forget(make_key(events.back().keys[0]).hash));
  cards.begin_capture(4, false);
  EXPECT_TRUE(cards.capture(1'000'000, rows));
  ASSERT_EQ(rows.rows.size(), 1U);
  EXPECT_FALSE(rows.rows.front().live);
}

TEST(ChangeTrackerTest, AColdRowThatCannotBeReadIsAFault) {
  auto compiled = FeaturePlan::compile(testing::state_options(true));
  ASSERT_TRUE(compiled.has_value());
  const Store store;
  auto driver = make_driver(*compiled, 1, store);
  const auto events = make_stream(6, {.events = 1, .missing_share = 0});
  KeyedStage& cards = driver->stage(0, 0);
  cards.keep_cold([](std::uint64_t, std::uint8_t, std::uint32_t epoch) -> Result<std::string> {
    return error(ErrorCode::kCorrupt, "damaged epoch " + std::to_string(epoch));
  });
  const Key card = make_key(events[0].keys[0]);
  ASSERT_TRUE(cards.add_cold(card.hash, card.group, 7).has_value());
  EXPECT_EQ(cards.resident(), 0U);
  EXPECT_EQ(cards.group_of(card.hash), card.group);
  driver->run(events);
  ASSERT_TRUE(cards.fault().has_value());
  EXPECT_EQ(cards.fault()->message, "damaged epoch 7");
}

// An entity that was forgotten is as if its key had never been seen: so under another name for each life.
TEST(ForgettingTest, AForgottenEntityBeginsAnewWhetherItsMemoryWasGivenBackOrNot) {
  std::size_t lives = 0;
  std::size_t given_back = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Prng random(seed);
    FeatureOptions options = testing::state_options(seed % 2 == 1);
    auto never = FeaturePlan::compile(options);
    options.forget_ms = 3 * kHourMs;
    auto forgetful = FeaturePlan::compile(options);
    ASSERT_TRUE(never.has_value() && forgetful.has_value());
    auto events = make_stream(seed, {.events = 3000, .cards = 60, .step_ms = 60'000, .gap_every = 400});
    auto renamed = events;
    std::int64_t tick = INT64_MIN;
    std::map<std::string, std::pair<std::int64_t, int>> seen;  // newest event and life, by key
    for (std::size_t i = 0; i < events.size(); ++i) {
      tick = std::max(tick, events[i].time_ms / kMinuteMs * kMinuteMs);
      events[i].tick_ms = tick;
      renamed[i].tick_ms = tick;
      for (std::string& key : renamed[i].keys) {
        if (key.empty()) continue;
        auto& [newest, life] = seen.try_emplace(key, events[i].time_ms, 0).first->second;
        if (newest < tick - options.forget_ms) {
          newest = events[i].time_ms;
          ++life;
          ++lives;
        }
        newest = std::max(newest, events[i].time_ms);
        key += "#" + std::to_string(life);
      }
    }
    const auto expected = Driver(*never, 1).run(renamed);
    for (const bool give_back : {false, true}) {
      Driver driver(*forgetful, 1);
      std::vector<std::vector<float>> got;
      for (std::size_t begin = 0; begin < events.size();) {
        const std::size_t size = std::min<std::size_t>(1 + random.below(50), events.size() - begin);
        const auto from = events.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto rows = driver.run({from, from + static_cast<std::ptrdiff_t>(size)});
        got.insert(got.end(), rows.begin(), rows.end());
        begin += size;
        if (!give_back) continue;
        const std::size_t before = driver.entities();
        for (std::size_t s = 0; s < 2; ++s) driver.stage(s, 0).expire(events[begin - 1].tick_ms, random.below(40));
        given_back += before - driver.entities();
      }
      for (std::size_t i = 0; i < events.size(); ++i) {
        for (std::size_t c = 0; c < expected[i].size(); ++c) {
          const std::string& feature = options.features[never->columns()[c].feature].name;
          if (feature == "pair" || feature == "cards") continue;
          ASSERT_TRUE(same_bits({expected[i][c]}, {got[i][c]}))
              << "seed " << seed << ", event " << i << ", " << never->columns()[c].name;
        }
      }
    }
  }
  EXPECT_GT(lives, 200U);
  EXPECT_GT(given_back, 200U);
}

}  // namespace
}  // namespace alcedo::features
