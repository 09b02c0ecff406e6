// Peers against a recompute from every number that a member ever had.
#include "features/operators/peer_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "features/operators/naive_level.h"
#include "features/oracle_tally.h"

namespace alcedo::features {
namespace {

using testing::OracleTally;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

// Cards are members, devices their groups.
FeatureSpec peers(std::uint32_t min_history, int number = 1) {
  FeatureSpec spec = testing::baseline("peers", number, 1, kHourMs, min_history);
  spec.kind = FeatureKind::kPeers;
  spec.member_key = 0;
  return spec;
}

double quantile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  const double place = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  const auto above = static_cast<std::size_t>(std::ceil(place));
  return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
}

// Everything that a member of a group said, from its joining on.
struct Said {
  std::vector<TestEvent> events;  // with a number, each at or after the one before
  std::uint64_t hash = 0;
  double level = kMissing;
};

struct Happened {
  std::size_t replaced = 0;
  std::size_t too_old = 0;
  std::size_t late = 0;
  std::size_t rates = 0;
};

// The rate of the event's counter after the newest number, NaN where there is none.
double rate(const Said& said, const TestEvent& event, double x) {
  if (said.events.empty() || std::isnan(x)) return kMissing;
  const TestEvent& last = said.events.back();
  if ((last.flags & kEventCounter) == 0 || event.time_ms <= last.time_ms) return kMissing;
  const double grown = x < last.numbers[1] ? x : x - last.numbers[1];
  return 1000 * grown / static_cast<double>(event.time_ms - last.time_ms);
}

void compare(const FeatureSpec& spec, bool money, const std::vector<TestEvent>& events, Happened& happened) {
  const FeaturePlan plan = testing::plan_of(spec, money);
  const auto rows = testing::run(plan, events, {.batch_size = 100}).rows;
  std::map<std::string, std::map<std::string, Said>> groups;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const TestEvent& event = events[i];
    if (event.keys[0].empty() || event.keys[1].empty()) {
      for (const float x : rows[i]) ASSERT_TRUE(OracleTally::count(std::isnan(x))) << i;
      continue;
    }
    auto& members = groups[event.keys[1]];
    const double raw = event.numbers[static_cast<std::size_t>(spec.number)];
    const bool counter = (event.flags & kEventCounter) != 0;
    const auto own = members.find(event.keys[0]);
    const double x = !counter ? raw : own == members.end() ? kMissing : rate(own->second, event, raw);
    happened.rates += counter && !std::isnan(x) ? 1 : 0;
    std::vector<double> others;
    for (const auto& [name, said] : members) {
      if (name != event.keys[0] && !std::isnan(said.level)) others.push_back(said.level);
    }
    double median = kMissing, spread = kMissing, z = kMissing, iqr_spread = kMissing, iqr_z = kMissing;
    if (!others.empty()) {
      median = quantile(others, 0.5);
      std::vector<double> distances;
      for (const double level : others) distances.push_back(std::fabs(level - median));
      const double step = std::max(money ? 1.0 : 0.0, static_cast<double>(event.step));
      const double floor = testing::naive_floor(median, step);
      spread = std::sqrt(std::pow(1.4826 * quantile(distances, 0.5), 2) + floor);
      const double low = quantile(others, 0.25);
      const double high = quantile(others, 0.75);
      iqr_spread = std::sqrt((high - low) * (high - low) + floor);
      if (others.size() >= spec.min_history && !std::isnan(x)) {
        z = std::clamp((x - median) / spread, -1e6, 1e6);
        iqr_z = std::clamp((x > high ? x - high : x < low ? x - low : 0) / iqr_spread, -1e6, 1e6);
      }
    }
    const double expected[] = {x, median, spread, z, static_cast<double>(others.size()), iqr_spread, iqr_z};
    for (std::size_t c = 0; c < std::size(expected); ++c) {
      const double got = rows[i][c];
      const bool right = std::isnan(expected[c]) ? std::isnan(got)
                                                 : std::fabs(got - expected[c]) <= 1e-9 + 2e-6 * std::fabs(expected[c]);
      if (!OracleTally::count(right) && ++wrong <= 5)
        ADD_FAILURE() << "event " << i << " " << plan.columns()[c].name << ": " << got << ", expected " << expected[c];
    }
    if (std::isnan(raw)) continue;
    if (own != members.end()) {
      if (event.time_ms < own->second.events.back().time_ms) {
        ++happened.late;
        continue;
      }
      own->second.events.push_back(event);
      if (!std::isnan(x)) own->second.level = x;
      continue;
    }
    Said joins{{event}, make_key(event.keys[0]).hash, x};
    if (members.size() == 64) {
      const auto age = [](const Said& said) { return std::pair(said.events.back().time_ms, said.hash); };
      auto silent = members.begin();
      for (auto at = members.begin(); at != members.end(); ++at) {
        if (age(at->second) < age(silent->second)) silent = at;
      }
      if (age(joins) < age(silent->second)) {
        ++happened.too_old;
        continue;
      }
      members.erase(silent);
      ++happened.replaced;
    }
    members.emplace(event.keys[0], std::move(joins));
  }
  EXPECT_EQ(wrong, 0U);
}

TEST(PeerOperatorTest, AgreesWithARecomputeFromAllMembers) {
  Happened happened;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const bool money = seed % 2 == 0;
    compare(peers(seed % 3 == 0 ? 20 : 5, money ? 0 : 1), money,
            testing::make_stream(seed, {.events = 4000,
                                        .cards = seed <= 3 ? 20U : 150U,
                                        .devices = 3,
                                        .step_ms = 20'000,
                                        .late_max_ms = seed <= 3 ? 4 * kMinuteMs : 12 * kHourMs,
                                        .counter_share = money ? 0 : 0.3}),
            happened);
  }
  std::cout << happened.replaced << " members replaced, " << happened.too_old << " too old to join, " << happened.late
            << " late, " << happened.rates << " rates\n";
  EXPECT_GT(happened.replaced, 1000U);
  EXPECT_GT(happened.too_old, 0U);
  EXPECT_GT(happened.late, 50U);
  EXPECT_GT(happened.rates, 20U);
}

TEST(PeerOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(peers(5)),
                                    testing::make_stream(7, {.events = 3000, .cards = 100, .devices = 3})),
            0U);
}

// The last member's row after the others each had one number, a second apart.
std::vector<float> last_row(const FeaturePlan& plan, const std::vector<double>& values) {
  std::vector<TestEvent> events;
  for (const double x : values) {
    const auto n = static_cast<std::int64_t>(events.size());
    events.push_back({kBegin + n * 1000, {0, x}, {"member" + std::to_string(n), "group"}});
  }
  return testing::run(plan, events, {}).rows.back();
}

TEST(PeerOperatorTest, ExampleOfTheDocs) {
  const auto row = last_row(testing::plan_of(peers(5)), {10, 12, 14, 16, 90, 40});
  EXPECT_EQ(row[0], 40);
  EXPECT_EQ(row[1], 14);
  EXPECT_NEAR(row[2], 2.965, 1e-3);
  EXPECT_NEAR(row[3], 8.768, 1e-3);
  EXPECT_EQ(row[4], 5);
  EXPECT_NEAR(row[5], 4, 1e-3);
  EXPECT_NEAR(row[6], 6, 1e-3);
}

TEST(PeerOperatorTest, AMembersOwnPastIsNoPartOfWhatItIsComparedWith) {
  std::vector<TestEvent> events;
  for (int i = 0; i < 6; ++i) events.push_back({kBegin + i, {0, 10.0 + i}, {"m" + std::to_string(i), "g"}});
  for (int i = 0; i < 100; ++i) events.push_back({kBegin + 1000 + i, {0, 500}, {"m0", "g"}});
  const auto rows = testing::run(testing::plan_of(peers(5)), events, {}).rows;
  EXPECT_EQ(rows.back()[1], 13) << "the median of 11 .. 15, after a hundred numbers of its own";
  EXPECT_EQ(rows.back()[4], 5);
  EXPECT_GT(rows.back()[3], 100);
}

TEST(PeerOperatorTest, IsADeviationOfBothMethodsThatDetectorsCanName) {
  auto plan = FeaturePlan::compile({testing::test_layout(false),
                                    {peers(5)},
                                    {{0, "", DeviationMethod::kEwma}, {0, "", DeviationMethod::kQuartiles}}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->deviations().size(), 2U);
  EXPECT_EQ(plan->columns().size(), 7U) << "the operator's columns serve";
  const auto row = last_row(*plan, {10, 12, 14, 16, 90, 40});
  const Deviation& z = plan->deviations()[plan->deviations_of(0)[0]];
  const Deviation& iqr = plan->deviations()[plan->deviations_of(1)[0]];
  EXPECT_EQ(z.name, "peers");
  EXPECT_NEAR(row[z.z], 8.768, 1e-3);
  EXPECT_NEAR(row[iqr.z], 6, 1e-3);
  EXPECT_EQ(row[z.history], 5);
  EXPECT_EQ(row[iqr.expected], 14);
}

TEST(PeerOperatorTest, MistakesNameTheFeatureAndWhatIsWrong) {
  const auto said = [](const FeatureSpec& spec) {
    const auto plan = FeaturePlan::compile({testing::test_layout(false), {spec}, {}});
    return plan ? std::string() : plan.error().message;
  };
  FeatureSpec spec = peers(5);
  spec.member_key = -1;
  EXPECT_EQ(said(spec), "feature 'peers': key slot -1 does not exist; there are 2");
  spec.member_key = 1;
  EXPECT_EQ(said(spec), "feature 'peers': key 'device' is both the group and its member: no member would have a peer");
  spec.member_key = 0;
  spec.number = 2;
  EXPECT_EQ(said(spec), "feature 'peers': number slot 2 does not exist; there are 2");
}

}  // namespace
}  // namespace alcedo::features
