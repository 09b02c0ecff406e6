// Operators' state as bytes, one operator at a time: the same in any memory, refused where it is impossible, and
// nothing of it stays after its release.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/prng.h"
#include "core/time.h"
#include "features/operators/operator.h"
#include "features/record_pool.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using ::testing::HasSubstr;
using testing::same_bits;
using testing::TestEvent;

constexpr std::int64_t kNow = 1'700'000'000'000;

// An entity's part of the record, with its clock, as a stage would keep it.
class Entity {
 public:
  Entity(const FeatureSpec& spec, Operator& op)
      : spec_(spec), op_(op), state_(operator_state_bytes(spec)), columns_(operator_columns(spec).size()) {}

  std::vector<float> update(const EventBatch& batch, std::uint32_t row) {
    EventView view{batch};
    view.row = row;
    view.time_ms = batch.header(row).time_ms;
    view.first = !started_;
    if (!started_) clock_ms_ = view.time_ms;
    started_ = true;
    view.clock_ms = clock_ms_;
    view.in_order = view.time_ms >= clock_ms_;
    view.value = spec_.number < 0 ? kMissing : batch.number(row, static_cast<std::size_t>(spec_.number));
    std::vector<float> out(columns_, std::nanf(""));
    op_.prepare(batch, {&row, 1});
    op_.update(state_.data(), view, out);
    clock_ms_ = std::max(clock_ms_, view.time_ms);
    return out;
  }
  std::string save() const {
    std::string bytes;
    StateWriter writer(bytes);
    op_.save(state_.data(), clock_ms_, writer);
    return bytes;
  }
  // Why the bytes were refused, or "".
  std::string load(std::string_view bytes, std::int64_t clock_ms) {
    clock_ms_ = clock_ms;
    started_ = true;
    StateReader reader(bytes);
    op_.load(state_.data(), clock_ms_, reader);
    reader.complete();
    return reader.mistake();
  }
  void release() {
    op_.release(state_.data());
    std::fill(state_.begin(), state_.end(), std::byte{0});
    started_ = false;
  }
  std::int64_t clock_ms() const { return clock_ms_; }

 private:
  const FeatureSpec& spec_;
  Operator& op_;
  std::vector<std::byte> state_;
  std::size_t columns_;
  std::int64_t clock_ms_ = 0;
  bool started_ = false;
};

// Every operator of the plan that all tests of state use.
std::vector<FeatureSpec> all_specs() {
  std::vector<FeatureSpec> specs;
  for (const FeatureSpec& spec : testing::state_options(false).features) {
    if (has_operator(spec.kind)) specs.push_back(spec);
  }
  return specs;
}

FeatureSpec spec_of(std::string_view name) {
  for (const FeatureSpec& spec : all_specs()) {
    if (spec.name == name) return spec;
  }
  ADD_FAILURE() << "no feature " << name;
  return {};
}

// All events are of one entity: enough values for sketches, hours of several days, levels that change.
EventBatch stream(std::uint64_t seed, std::size_t events) {
  testing::StreamOptions options;
  options.events = events;
  options.cards = 60;
  options.devices = 40;
  options.step_ms = seed == 5 ? 300'000 : seed % 2 == 0 ? 700 : 20'000;
  options.gap_every = seed == 5 ? 0 : 400;
  return testing::to_batch(testing::test_layout(false), testing::make_stream(seed, options));
}

TEST(OperatorStateTest, EveryOperatorIsTested) {
  std::set<FeatureKind> tested;
  for (const FeatureSpec& spec : all_specs()) tested.insert(spec.kind);
  for (int kind = 0; kind < 64; ++kind) {
    const auto one = static_cast<FeatureKind>(kind);
    if (!has_operator(one)) continue;
    EXPECT_TRUE(tested.contains(one)) << "state_options() has no feature of kind " << kind;
  }
}

TEST(OperatorStateTest, InOtherMemoryTheBytesAndAllLaterColumnsAreTheSame) {
  std::map<std::string, std::size_t> largest;
  std::size_t compared = 0;
  for (const FeatureSpec& spec : all_specs()) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const EventBatch batch = stream(seed, 1000);
      const auto op = make_operator(spec);
      Entity resident(spec, *op);
      // Others come and go here, so that the moved entity finds handles and leftovers of theirs.
      const auto other = make_operator(spec);
      std::vector<Entity> neighbours(3, Entity(spec, *other));
      Entity moved(spec, *other);
      bool away = true;
      for (std::uint32_t row = 0; row < batch.rows(); ++row) {
        const std::vector<float> expected = resident.update(batch, row);
        if (!away) {
          const std::vector<float> got = moved.update(batch, row);
          ASSERT_TRUE(same_bits(expected, got)) << spec.name << " seed " << seed << " event " << row;
          compared += got.size();
        }
        if (row % 83 == 0) neighbours[row % 3].release();
        neighbours[row % 3].update(batch, row);
        if (row % 37 != 0) continue;
        const std::string bytes = resident.save();
        if (!away) {
          ASSERT_EQ(moved.save(), bytes) << spec.name << " seed " << seed << " event " << row;
          moved.release();
        }
        ASSERT_EQ(moved.load(bytes, resident.clock_ms()), "") << spec.name << " seed " << seed << " event " << row;
        ASSERT_EQ(moved.save(), bytes) << spec.name << " seed " << seed << " event " << row;
        away = false;
        largest[spec.name] = std::max(largest[spec.name], bytes.size());
      }
    }
  }
  std::cout << "compared " << compared << " values; most bytes:";
  for (const auto& [name, size] : largest) std::cout << " " << name << " " << size;
  std::cout << "\n";
  // With sketches, resting hours, pending levels, sums: the parts that are not always there.
  EXPECT_GT(largest["shops"], 1 + 16 * 5 + 16 * 8U);
  EXPECT_GT(largest["holders"], 1 + 16 * 5 + 16 * 8U);
  EXPECT_GT(largest["sizes"], 1 + 64 * 9 + 11 * 100U);
  EXPECT_GT(largest["week"], 101 + 28 + 12 * 13U) << "more than one block of hours";
  EXPECT_EQ(largest["middle"], 4 + 64 * 8U);
  EXPECT_EQ(largest["drift"], 16 + 8 + 28 + 28U);
  EXPECT_GT(largest["together"], 2 * 16 + 9 * 60U);
  EXPECT_GT(largest["shape"], 9 + 70 * 4 + 14 + 28 + 20 * 5U) << "a whole past, and many distances";
  EXPECT_GT(largest["rare"], 14 + 28 + 28 + 20 * 5U) << "a pending level, and many deviations";
}

TEST(OperatorStateTest, ReleasingGivesAllMemoryBack) {
  for (const FeatureSpec& spec : all_specs()) {
    const EventBatch batch = stream(2, 600);
    const auto op = make_operator(spec);
    std::vector<std::pair<std::string, std::int64_t>> saved;
    Entity entity(spec, *op);
    for (std::uint32_t row = 0; row < batch.rows(); ++row) {
      entity.update(batch, row);
      const std::string bytes = entity.save();
      const bool largest = saved.empty() || bytes.size() > saved.back().first.size();
      // The last is the largest: it holds what is not always there.
      if (largest) saved.emplace_back(bytes, entity.clock_ms());
      if (saved.size() > 10) saved.erase(saved.begin());
    }
    entity.release();
    std::size_t reserved = 0;
    for (int round = 0; round < 300; ++round) {
      for (const auto& [bytes, clock_ms] : saved) {
        ASSERT_EQ(entity.load(bytes, clock_ms), "") << spec.name;
        for (std::uint32_t row = 0; row < batch.rows() && round < 3; ++row) entity.update(batch, row);
        entity.release();
        EXPECT_EQ(entity.save(), "") << spec.name;
      }
      if (round == 2) reserved = op->reserved_bytes();
    }
    EXPECT_EQ(op->reserved_bytes(), reserved) << spec.name;
  }
}

// Whatever is taken of damaged bytes works on, and can be saved and loaded again.
TEST(OperatorStateTest, DamagedBytesAreRefusedOrWorkOn) {
  std::map<std::string, std::size_t> refused;
  std::map<std::string, std::size_t> accepted;
  for (const FeatureSpec& spec : all_specs()) {
    const EventBatch batch = stream(3, 400);
    const EventBatch later = stream(2, 60);
    const auto op = make_operator(spec);
    std::vector<std::pair<std::string, std::int64_t>> saved;
    Entity entity(spec, *op);
    for (std::uint32_t row = 0; row < batch.rows(); ++row) {
      entity.update(batch, row);
      if (row == 3 || row == 30 || row % 130 == 129) saved.emplace_back(entity.save(), entity.clock_ms());
    }
    entity.release();
    Prng random(7);
    std::size_t reserved = 0;
    for (int round = 0; round < 2; ++round) {
      for (const auto& [whole, clock_ms] : saved) {
        for (std::size_t i = 0; i < 400 && !whole.empty(); ++i) {
          std::string bytes = whole;
          if (i % 4 == 0) {
            bytes.resize(random.below(bytes.size()));
          } else {
            for (std::size_t change = 0; change <= i % 3; ++change)
              bytes[random.below(bytes.size())] = static_cast<char>(random.below(3) == 0 ? 0xFF : random.below(256));
          }
          const std::string mistake = entity.load(bytes, clock_ms + (i % 5 == 4 ? 3 * kSecondMs : 0));
          ++(mistake.empty() ? accepted : refused)[spec.name];
          if (mistake.empty()) {
            // One state has one form; an empty one has no bytes.
            ASSERT_TRUE(i % 5 == 4 || entity.save() == bytes || entity.save().empty()) << spec.name;
            for (std::uint32_t row = 0; row < later.rows(); ++row) entity.update(later, row);
            const std::string again = entity.save();
            const std::int64_t clock_then = entity.clock_ms();
            entity.release();
            ASSERT_EQ(entity.load(again, clock_then), "") << spec.name;
            ASSERT_EQ(entity.save(), again) << spec.name;
          }
          entity.release();
        }
      }
      if (round == 0) reserved = op->reserved_bytes();
    }
    // Much more than a slab of each kind was taken and refused in the second round.
    EXPECT_LE(op->reserved_bytes(), 2 * reserved) << spec.name;
    EXPECT_GT(refused[spec.name], 300U) << spec.name;
  }
  for (const auto& [name, count] : refused)
    std::cout << name << ": " << count << " refused, " << accepted[name] << " accepted\n";
}

// A slab of a refused state that were not given back would be seen: pools would have to grow.
TEST(OperatorStateTest, WhatIsRefusedTakesNothing) {
  for (const FeatureSpec& spec : all_specs()) {
    const EventBatch batch = stream(2, 500);
    const auto op = make_operator(spec);
    Entity entity(spec, *op);
    std::string bytes;
    std::int64_t clock_ms = 0;
    for (std::uint32_t row = 0; row < batch.rows(); ++row) {
      entity.update(batch, row);
      std::string now = entity.save();
      if (now.size() <= bytes.size()) continue;
      bytes = std::move(now);
      clock_ms = entity.clock_ms();
    }
    bytes += "x";
    entity.release();
    const auto refuse_all = [&] {
      for (std::size_t size = bytes.size(); size > 0; --size) {
        if (entity.load(std::string_view(bytes).substr(0, size), clock_ms).empty() && size == bytes.size())
          ADD_FAILURE() << spec.name << ": took a byte too many";
        entity.release();
        std::string changed = bytes;
        changed[size - 1] = static_cast<char>(changed[size - 1] ^ 0x80);
        entity.load(changed, clock_ms);
        entity.release();
      }
    };
    refuse_all();
    const std::size_t reserved = op->reserved_bytes();
    for (int round = 0; round < 5; ++round) refuse_all();
    EXPECT_EQ(op->reserved_bytes(), reserved) << spec.name;
  }
}

TEST(OperatorStateTest, AByteBringsAtMostAHundred) {
  double worst = 0;
  for (const FeatureSpec& spec : all_specs()) {
    for (const std::uint32_t events : {1U, 2U, 3U, 17U, 65U, 400U}) {
      const EventBatch batch = stream(2, events);
      const auto source = make_operator(spec);
      Entity entity(spec, *source);
      for (std::uint32_t row = 0; row < batch.rows(); ++row) entity.update(batch, row);
      const std::string bytes = entity.save();
      if (bytes.empty()) continue;
      const auto op = make_operator(spec);
      std::vector<Entity> copies(std::clamp<std::size_t>(1'000'000 / bytes.size(), 1000, 20'000), Entity(spec, *op));
      for (Entity& copy : copies) ASSERT_EQ(copy.load(bytes, entity.clock_ms()), "");
      // The last chunks of a list's pool and of three windows' sketches are not full.
      EXPECT_LE(op->reserved_bytes(), 100 * bytes.size() * copies.size() + 4 * RecordPool::kChunkBytes)
          << spec.name << " after " << events << " events: " << bytes.size() << " bytes";
      worst = std::max(worst,
                       static_cast<double>(op->reserved_bytes()) / static_cast<double>(bytes.size() * copies.size()));
    }
  }
  std::cout << worst << " bytes a byte at most, with what pools have in store\n";
}

TestEvent event(std::int64_t time_ms, double amount, int device) {
  return {time_ms, {amount, amount / 3}, {"card", "device" + std::to_string(device)}, 0, 0};
}

std::string bytes_after(const FeatureSpec& spec, const std::vector<TestEvent>& events) {
  const auto op = make_operator(spec);
  Entity entity(spec, *op);
  const EventBatch batch = testing::to_batch(testing::test_layout(false), events);
  for (std::uint32_t row = 0; row < batch.rows(); ++row) entity.update(batch, row);
  return entity.save();
}

// What no later column can show is not in the bytes: neither the order of events within a bucket or of late ones, nor
// how much there once was.
TEST(OperatorStateTest, EqualStateHasEqualBytesWhateverWayItWent) {
  for (const std::string_view name : {"shops", "sizes"}) {
    const FeatureSpec spec = spec_of(name);
    Prng random(11);
    std::set<std::string> seen;
    std::vector<TestEvent> events;
    // More than is known one by one, in few buckets; equal amounts at several times.
    for (int i = 0; i < 150; ++i) {
      const int value = static_cast<int>(random.below(40));
      events.push_back(event(kNow + static_cast<std::int64_t>(random.below(3000)), 10 + value - 20, value));
    }
    for (int round = 0; round < 20; ++round) {
      for (std::size_t i = events.size(); i > 1; --i) std::swap(events[i - 1], events[random.below(i)]);
      std::vector<TestEvent> all = events;
      all.insert(all.begin(), event(kNow + 3000, kMissing, 1));
      seen.insert(bytes_after(spec, all));
    }
    EXPECT_EQ(seen.size(), 1U) << name;
    EXPECT_GT(seen.begin()->size(), 200U) << name << ": has a sketch";
  }
  for (const std::string_view name : {"shops", "sizes", "together", "metrics"}) {
    const FeatureSpec spec = spec_of(name);
    const auto part = [](std::int64_t begin_ms, int count) {
      std::vector<TestEvent> events;
      for (int i = 0; i < count; ++i) events.push_back(event(begin_ms + i, 100 + i % 50, i % 50));
      return events;
    };
    for (const int few : {3, 200}) {
      const std::vector<TestEvent> lone = part(kNow, few);
      std::vector<TestEvent> after_more = part(kNow - 9 * kHourMs, 300);
      after_more.insert(after_more.end(), lone.begin(), lone.end());
      EXPECT_EQ(bytes_after(spec, after_more), bytes_after(spec, lone)) << name << " of " << few;
      EXPECT_NE(bytes_after(spec, lone), "") << name;
    }
    // All has left the windows: as a new entity.
    std::vector<TestEvent> gone = part(kNow - 9 * kHourMs, 300);
    gone.push_back({kNow, {kMissing, kMissing}, {"card", ""}, 0, 0});
    EXPECT_EQ(bytes_after(spec, gone), "") << name;
  }
  // A sketch lives on, but not what has left its windows.
  for (const std::string_view name : {"shops", "sizes"}) {
    FeatureSpec spec = spec_of(name);
    spec.windows_ms = {kHourMs};
    std::vector<TestEvent> early;
    std::vector<TestEvent> late;
    for (int i = 0; i < 100; ++i) {
      early.push_back(event(kNow, 1000 + i, 100 + i));
      late.push_back(event(kNow + 50 * kMinuteMs, 100 + i, i));
    }
    std::vector<TestEvent> both = early;
    both.insert(both.end(), late.begin(), late.end());
    late.push_back(event(kNow + 80 * kMinuteMs, 7, 7));
    both.push_back(late.back());
    EXPECT_EQ(bytes_after(spec, both), bytes_after(spec, late)) << name;
    EXPECT_GT(bytes_after(spec, late).size(), 200U) << name;
  }
}

TEST(OperatorStateTest, RefusalsAreNamed) {
  const auto refusal = [](std::string_view name, const std::function<void(StateWriter&)>& write) {
    const FeatureSpec spec = spec_of(name);
    const auto op = make_operator(spec);
    Entity entity(spec, *op);
    std::string bytes;
    StateWriter writer(bytes);
    write(writer);
    std::string mistake = entity.load(bytes, kNow);
    entity.release();
    return mistake;
  };
  const auto values = [](StateWriter& w, int known, std::uint64_t age = 0) {
    w.u8(static_cast<std::uint8_t>(known));
    for (int i = 0; i < known; ++i) {
      w.u32(static_cast<std::uint32_t>(i));
      w.varint(age);
    }
  };
  EXPECT_EQ(refusal("shops", [&](auto& w) { values(w, 17); }), "has 17 values; expected 1 to 16");
  EXPECT_EQ(refusal("shops", [&](auto& w) { values(w, 2, 3600); }), "has a value that is in no window");
  EXPECT_EQ(refusal("shops",
                    [&](auto& w) {
                      w.u8(2);
                      for (int i = 0; i < 2; ++i) {
                        w.u32(5);
                        w.varint(1);
                      }
                    }),
            "lists its values out of order");
  EXPECT_EQ(refusal("shops",
                    [&](auto& w) {
                      values(w, 15);
                      w.varint(9);
                    }),
            "has a sketch beside 15 values; it begins beyond 16");
  EXPECT_EQ(refusal("shops",
                    [&](auto& w) {
                      values(w, 16, 8);
                      w.varint(7);
                    }),
            "forgot a value that is newer than a listed one");
  EXPECT_EQ(refusal("shops",
                    [&](auto& w) {
                      values(w, 16, 8);
                      w.varint(3600);
                    }),
            "has a sketch that no window needs");
  EXPECT_EQ(refusal("shops",
                    [&](auto& w) {
                      values(w, 16, 8);
                      w.varint(9);
                      for (int rank = 0; rank < 16; ++rank) w.u64(1);
                      for (int rank = 0; rank < 16; ++rank) w.varint(5000);
                    }),
            "has a value that is in no window");

  const auto sizes = [](StateWriter& w, int known, double step = 1) {
    w.u8(static_cast<std::uint8_t>(known));
    for (int i = 0; i < known; ++i) {
      w.f64(step * i);
      w.varint(1);
    }
  };
  struct Sketch {
    std::uint8_t level = 0;
    std::uint64_t cells = 1;
    std::int32_t code = 40'010;
    std::uint64_t count = 1;
  };
  const auto sketch = [&](StateWriter& w, const Sketch& s) {
    sizes(w, 64);
    w.varint(1);
    for (int window = 0; window < 3; ++window) {
      w.u8(s.level);
      w.varint(s.cells);
      for (std::uint64_t i = 0; i < s.cells; ++i) {
        w.u32(static_cast<std::uint32_t>(s.code));
        for (int pane = 0; pane < 7; ++pane) w.varint(s.count);
      }
    }
  };
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {}); }), "");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sizes(w, 65); }), "has 65 values; expected 1 to 64");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sizes(w, 3, -1); }), "lists its values out of order");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sizes(w, 2, kMissing); }),
            "has a missing value among those in its windows");
  EXPECT_EQ(refusal("sizes",
                    [&](auto& w) {
                      sizes(w, 5);
                      w.varint(2);
                    }),
            "has sketches beside 5 values; they begin beyond 64");
  EXPECT_EQ(refusal("sizes",
                    [&](auto& w) {
                      sizes(w, 64);
                      w.varint(0);
                    }),
            "forgot a value that is newer than a listed one");
  EXPECT_EQ(refusal("sizes",
                    [&](auto& w) {
                      sizes(w, 64);
                      w.varint(std::uint64_t{1} << 40);
                    }),
            "has sketches that no window needs");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.level = 11}); }),
            "joined its cells 11 times; 10 are enough for any");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.cells = 0}); }), "has 0 cells; expected 1 to 256");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.cells = 257}); }), "has 257 cells; expected 1 to 256");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.cells = 2}); }), "has cells out of order");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.code = 2}); }), "has a cell that holds no number");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.code = INT32_MIN}); }), "has a cell that holds no number");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.count = 0}); }), "has a cell without values");
  EXPECT_EQ(refusal("sizes", [&](auto& w) { sketch(w, {.count = std::uint64_t{1} << 30}); }),
            "counts 7516192768 values; at most 4294967295 are counted");

  const auto week = [](StateWriter& w, std::uint8_t hour, std::uint64_t last_hours, std::uint32_t history) {
    w.i64(kNow);
    w.u8(hour);
    for (int i = 0; i < 5; ++i) w.f64(1);
    w.u64(0);
    w.u64(0);
    w.u64(last_hours);
    for (int i = 0; i < 3; ++i) w.f64(1);
    w.u32(history);
  };
  EXPECT_EQ(refusal("week", [&](auto& w) { week(w, 168, 0, 1); }), "");
  EXPECT_EQ(refusal("week", [&](auto& w) { week(w, 169, 0, 1); }), "is at hour 169; a week has 168");
  EXPECT_EQ(refusal("week", [&](auto& w) { week(w, 1, std::uint64_t{1} << 40, 1); }),
            "knows hours beyond the 168 of a week");
  EXPECT_EQ(refusal("week", [&](auto& w) { week(w, 1, 0, 0); }), "knows hours without a history");
  EXPECT_EQ(refusal("week", [&](auto& w) { week(w, 1, 0xFF, 0); }), "ends before it is complete");
  EXPECT_THAT(refusal("week", [&](auto& w) { w.i64(INT64_MAX); }), HasSubstr("which no event can have"));

  EXPECT_EQ(refusal("middle",
                    [&](auto& w) {
                      w.u32(65);
                      for (int i = 0; i < 65; ++i) w.f64(1);
                    }),
            "has 65 values; expected 1 to 64");
  EXPECT_EQ(refusal("middle",
                    [&](auto& w) {
                      w.u32(2);
                      w.f64(1);
                      w.f64(kMissing);
                    }),
            "has a missing value among those learned");

  const auto drift = [](StateWriter& w, double up, std::int64_t since_ms) {
    w.f64(up);
    w.i64(since_ms);
    w.f64(0);
    for (int i = 0; i < 3; ++i) w.f64(1);
    w.u32(30);
  };
  EXPECT_EQ(refusal("drift", [&](auto& w) { drift(w, 20, kNow); }), "");
  EXPECT_EQ(refusal("drift", [&](auto& w) { drift(w, 20.5, kNow); }), "has a sum of 20.5; expected 0 to 20");
  EXPECT_EQ(refusal("drift", [&](auto& w) { drift(w, -1, kNow); }), "has a sum of -1; expected 0 to 20");
  EXPECT_EQ(refusal("drift", [&](auto& w) { drift(w, kMissing, kNow); }), "has a sum of nan; expected 0 to 20");
  EXPECT_THAT(refusal("drift", [&](auto& w) { drift(w, 1, INT64_MIN); }), HasSubstr("which no event can have"));

  // One value, and a past of distances in two cells.
  const auto shape = [](StateWriter& w, std::uint64_t values, std::uint64_t first, std::uint64_t second, float weight) {
    w.f64(5);
    w.varint(values);
    for (std::uint64_t i = 0; i < values; ++i) w.f32(1);
    w.u8(1);
    w.u32(30);
    w.i64(kNow);
    w.varint(2);
    w.varint(first);
    w.f32(weight);
    w.varint(second);
    w.f32(1);
    for (int i = 0; i < 3; ++i) w.f64(1);
    w.u32(30);
  };
  EXPECT_EQ(refusal("shape", [&](auto& w) { shape(w, 70, 3, 399, 1); }), "");
  EXPECT_EQ(refusal("shape", [&](auto& w) { shape(w, 71, 3, 399, 1); }), "has 71 values; expected 1 to 70");
  EXPECT_EQ(refusal("shape", [&](auto& w) { shape(w, 0, 3, 399, 1); }), "has 0 values; expected 1 to 70");
  EXPECT_THAT(refusal("shape", [&](auto& w) { shape(w, 1, 3, 400, 1); }), HasSubstr("counts in cell 400"));
  EXPECT_THAT(refusal("shape", [&](auto& w) { shape(w, 1, 3, 3, 1); }), HasSubstr("not in order"));
  EXPECT_EQ(refusal("shape", [&](auto& w) { shape(w, 1, 3, 4, -1); }), "has a cell that weighs -1");
  EXPECT_EQ(refusal("rare", [&](auto& w) { w.u8(2); }), "does not say whether it has a past");

  const auto together = [](StateWriter& w, std::uint64_t occupied, std::uint64_t count) {
    for (int window = 0; window < 2; ++window) {
      w.u64(occupied);
      for (std::uint64_t left = occupied; left != 0; left &= left - 1) {
        w.varint(count);
        w.f64(1);
      }
      w.u64(0);
    }
  };
  EXPECT_EQ(refusal("together", [&](auto& w) { together(w, 5, 1); }), "");
  EXPECT_EQ(refusal("together", [&](auto& w) { together(w, std::uint64_t{1} << 60, 1); }),
            "has buckets beyond the 60 of a window");
  EXPECT_EQ(refusal("together", [&](auto& w) { together(w, 5, 0); }), "has a bucket of 0 values");
  EXPECT_EQ(refusal("together", [&](auto& w) { together(w, 0, 0); }), "has windows without a value");
  EXPECT_EQ(refusal("together", [&](auto& w) { w.u64(1); }), "ends before it is complete");
}

}  // namespace
}  // namespace alcedo::features
