// Confirmed events against a naive recompute from all events and when their truth became known.
#include "features/operators/confirmed_operator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "core/time.h"
#include "features/stage.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::TestEvent;

constexpr std::int64_t kNow = 1'700'000'000'000 / kDayMs * kDayMs;

FeatureSpec risk(std::vector<std::int64_t> windows, std::int64_t delay_ms, int label_type = -1) {
  FeatureSpec spec;
  spec.name = "risk";
  spec.kind = FeatureKind::kConfirmed;
  spec.key = 1;
  spec.windows_ms = std::move(windows);
  spec.delay_ms = delay_ms;
  spec.label_type = label_type;
  spec.prior = 10;
  spec.min_history = 3;
  return spec;
}

FeaturePlan compiled(FeatureSpec spec) {
  auto plan = FeaturePlan::compile({.layout = testing::test_layout(false), .features = {std::move(spec)}});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

// All events whose truth is known as of a moment, from the definition.
struct Known {
  std::int64_t known_ms;
  bool confirmed;
};
struct Expected {
  double confirmed = 0, known = 0;
};
Expected in_window(const std::vector<Known>& all, std::int64_t now_ms, std::int64_t window_ms, std::int64_t grain_ms) {
  const std::int64_t end = now_ms / grain_ms * grain_ms;
  Expected expected;
  for (const Known& one : all) {
    if (one.known_ms < end - window_ms || one.known_ms >= end) continue;
    ++expected.known;
    expected.confirmed += one.confirmed ? 1 : 0;
  }
  return expected;
}

double column(const FeaturePlan& plan, const std::vector<float>& row, const std::string& name) {
  const int at = plan.find_column("risk." + name);
  EXPECT_GE(at, 0) << name;
  return static_cast<double>(row[static_cast<std::size_t>(at)]);
}

TEST(ConfirmedOperatorTest, EqualsARecomputeFromAllEvents) {
  struct Case {
    std::vector<std::int64_t> windows;
    std::int64_t grain_ms, delay_ms;
    int label_type;
    double step_ms;
    std::size_t gap_every;
  };
  const Case cases[] = {{{kDayMs, 7 * kDayMs, 30 * kDayMs}, 24 * kMinuteMs, 7 * kDayMs, -1, 60'000, 0},
                        {{kDayMs, 7 * kDayMs, 30 * kDayMs}, 24 * kMinuteMs, 7 * kDayMs, 0, 3'000'000, 900},
                        {{kMinuteMs, 5 * kMinuteMs}, kSecondMs, 90 * kSecondMs, 1, 400, 1500},
                        {{kHourMs}, kMinuteMs, 0, -1, 2000, 800},
                        {{2 * kMinuteMs, 3 * kMinuteMs}, kSecondMs, 1, -1, 3000, 300}};
  std::size_t compared = 0;
  std::size_t confirmed = 0;
  std::size_t windows_of_few = 0;
  for (const Case& c : cases) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const FeaturePlan plan = compiled(risk(c.windows, c.delay_ms, c.label_type));
      const auto events = testing::make_stream(
          seed, {.events = 4000, .devices = 5, .step_ms = c.step_ms, .late_share = 0.1, .gap_every = c.gap_every});
      const auto got = testing::run(plan, events, {.batch_size = 97});
      std::map<std::string, std::vector<Known>> known;
      std::map<std::string, std::int64_t> clocks;
      for (std::size_t i = 0; i < events.size(); ++i) {
        const TestEvent& event = events[i];
        const std::string& entity = event.keys[1];
        if (entity.empty()) continue;
        auto& clock = clocks.try_emplace(entity, event.time_ms).first->second;
        clock = std::max(clock, event.time_ms);
        auto& all = known[entity];
        const GlobalBaselines::Level level = got.levels[i][0];
        std::int64_t last = INT64_MIN;
        for (const Known& one : all) {
          if (one.confirmed && one.known_ms < clock / c.grain_ms * c.grain_ms) last = std::max(last, one.known_ms);
        }
        for (const std::int64_t window : c.windows) {
          const Expected expected = in_window(all, clock, window, c.grain_ms);
          const std::string w = format_duration(window);
          ASSERT_EQ(column(plan, got.rows[i], "confirmed_" + w), expected.confirmed) << seed << " " << w << " " << i;
          ASSERT_EQ(column(plan, got.rows[i], "known_" + w), expected.known) << seed << " " << w << " " << i;
          const double r = level.location;
          const double share = (expected.confirmed + 10 * r) / (expected.known + 10);
          const double spread = std::sqrt(r * (1 - r) / (expected.known + 10));
          const double z = expected.known < 3 ? kMissing : (share - r) / spread;
          const auto same = [](double a, double b) {
            return (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) < 1e-4 * (1 + std::fabs(b));
          };
          ASSERT_TRUE(same(column(plan, got.rows[i], "share_" + w), share)) << i;
          ASSERT_TRUE(same(column(plan, got.rows[i], "share_" + w + ".z"), z)) << i;
          ASSERT_TRUE(same(column(plan, got.rows[i], "share_" + w + ".expected"), r)) << i;
          ++compared;
          confirmed += static_cast<std::size_t>(expected.confirmed);
          windows_of_few += expected.known < 3 ? 1 : 0;
        }
        const double since = last == INT64_MIN ? kMissing : static_cast<double>(clock - last) / 1000;
        const double got_since = column(plan, got.rows[i], "since_s");
        ASSERT_TRUE((std::isnan(since) && std::isnan(got_since)) ||
                    static_cast<float>(since) == static_cast<float>(got_since))
            << i << ": " << got_since << " instead of " << since;
        if ((event.truth & kTruthTold) == 0) continue;
        const Truth asked = c.label_type < 0 ? kTruthAnomalous : truth_of_type(static_cast<std::size_t>(c.label_type));
        all.push_back({event.time_ms + c.delay_ms, (event.truth & asked) != 0});
      }
    }
  }
  std::cout << compared << " windows compared, with " << confirmed << " confirmed events in them; " << windows_of_few
            << " knew fewer than 3\n";
  EXPECT_GT(confirmed, 100'000U);
  EXPECT_GT(windows_of_few, 1000U);
}

// The example of docs/features.md.
TEST(ConfirmedOperatorTest, TheExampleOfTheDocs) {
  FeatureSpec spec = risk({kDayMs, 7 * kDayMs}, 7 * kDayMs);
  spec.min_history = 1;
  const FeaturePlan plan = compiled(spec);
  const auto at = [](int day, int hour, Truth truth) {
    return TestEvent{kNow + day * kDayMs + hour * kHourMs, {1, 1}, {"card", "T7"}, 0, 0, INT64_MIN, truth};
  };
  const Truth fraud = kTruthTold | kTruthAnomalous;
  const auto rows =
      testing::run(plan, {at(0, 10, fraud), at(0, 11, kTruthTold), at(7, 9, fraud), at(7, 12, fraud), at(8, 12, fraud)},
                   {.tick_every = 1})
          .rows;
  const auto row = [&](std::size_t i) {
    return std::vector<double>{column(plan, rows[i], "confirmed_1d"), column(plan, rows[i], "known_1d"),
                               column(plan, rows[i], "confirmed_7d"), column(plan, rows[i], "known_7d")};
  };
  EXPECT_EQ(row(2), (std::vector<double>{0, 0, 0, 0})) << "seven days are not over";
  EXPECT_EQ(row(3), (std::vector<double>{1, 2, 1, 2}));
  EXPECT_EQ(row(4), (std::vector<double>{0, 0, 1, 2})) << "known for more than a day";
  EXPECT_TRUE(std::isnan(column(plan, rows[2], "since_s")));
  EXPECT_EQ(column(plan, rows[3], "since_s"), 2 * 3600);
}

// A label must not be seen before its time, not by a millisecond.
TEST(ConfirmedOperatorTest, NothingIsSeenBeforeItIsKnown) {
  for (const std::int64_t delay_ms : {std::int64_t{0}, std::int64_t{1}, kHourMs, 7 * kDayMs}) {
    const FeaturePlan plan = compiled(risk({kHourMs, kDayMs}, delay_ms));
    std::size_t changed = 0;
    for (std::size_t turned = 0; turned < 200; turned += 7) {
      auto events =
          testing::make_stream(5, {.events = 600, .devices = 2, .step_ms = 120'000, .late_share = 0, .gap_every = 0});
      const auto before = testing::run(plan, events, {.tick_every = 1}).rows;
      events[turned].truth ^= kTruthAnomalous;
      events[turned].truth |= kTruthTold;
      const auto after = testing::run(plan, events, {.tick_every = 1}).rows;
      for (std::size_t i = 0; i < events.size(); ++i) {
        if (testing::same_bits(before[i], after[i])) continue;
        ++changed;
        ASSERT_GT(events[i].time_ms, events[turned].time_ms + delay_ms) << "event " << i << " of " << turned;
      }
    }
    if (delay_ms < kDayMs) {
      EXPECT_GT(changed, 100U);
    }
  }
}

TEST(ConfirmedOperatorTest, MistakesSayWhatWasExpected) {
  const auto mistake = [](FeatureSpec spec) { return confirmed_mistake(spec, testing::test_layout(false)); };
  EXPECT_EQ(mistake(risk({kDayMs, 7 * kDayMs, 30 * kDayMs}, 7 * kDayMs)), "");
  EXPECT_NE(mistake(risk({}, 0)).find("no windows"), std::string::npos);
  EXPECT_NE(mistake(risk({kMinuteMs, 30 * kDayMs}, 0)).find("at most 16000"), std::string::npos);
  EXPECT_NE(mistake(risk({kHourMs}, 400 * kDayMs)).find("at most 16000"), std::string::npos);
  EXPECT_NE(mistake(risk({kDayMs}, 0, 2)).find("label type 2 does not exist; there are 2"), std::string::npos);
  EXPECT_NE(mistake(risk({kDayMs}, -1)).find("delay"), std::string::npos);
  FeatureSpec spec = risk({kDayMs}, 0);
  spec.prior = -1;
  EXPECT_NE(mistake(spec).find("prior"), std::string::npos);
}

}  // namespace
}  // namespace alcedo::features
