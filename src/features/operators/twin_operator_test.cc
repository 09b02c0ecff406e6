// Twins against a recompute from every number of every member, and what they see that a member's own level hides.
#include "features/operators/twin_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "core/time.h"
#include "features/operators/naive_level.h"
#include "features/oracle_tally.h"

namespace alcedo::features {
namespace {

using testing::NaiveLevel;
using testing::OracleTally;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

// Cards are members, devices their groups.
FeatureSpec twins(std::vector<std::int64_t> windows_ms, std::int64_t half_life_ms = kHourMs) {
  FeatureSpec spec = testing::baseline("twins", 1, 1, half_life_ms, 5);
  spec.kind = FeatureKind::kTwins;
  spec.member_key = 0;
  spec.windows_ms = std::move(windows_ms);
  return spec;
}

struct Member {
  struct Number {
    std::int64_t time_ms;
    double x;
  };
  std::vector<Number> numbers;  // since it joined
  std::int64_t seen_ms = 0;
  std::uint64_t hash = 0;
  double reading = kMissing;
  std::int64_t reading_ms = 0;
  std::map<std::int64_t, NaiveLevel> levels;  // by window
};

struct Happened {
  std::size_t correlated = 0;
  std::size_t replaced = 0;
  std::size_t too_old = 0;
  std::size_t accepted = 0;
  std::size_t judged = 0;
};

// Pearson by its definition in long double; NaN below 8 pairs and where a side stands still.
double pearson(const std::vector<std::pair<double, double>>& pairs) {
  if (pairs.size() < 8) return kMissing;
  long double a = 0, b = 0, aa = 0, bb = 0, ab = 0;
  for (const auto& [x, y] : pairs) {
    a += x;
    b += y;
  }
  a /= pairs.size();
  b /= pairs.size();
  for (const auto& [x, y] : pairs) {
    aa += (x - a) * (x - a);
    bb += (y - b) * (y - b);
    ab += (x - a) * (y - b);
  }
  return aa < 1e-12L || bb < 1e-12L ? kMissing : static_cast<double>(ab / std::sqrt(aa * bb));
}

std::map<std::int64_t, double> bucket_means(const Member& member, std::int64_t window_ms, std::int64_t now_ms) {
  std::map<std::int64_t, std::vector<double>> buckets;
  const std::int64_t grain_ms = window_ms / 60;
  for (const auto& [time_ms, x] : member.numbers) {
    if (time_ms / grain_ms > now_ms / grain_ms - 60) buckets[time_ms / grain_ms].push_back(x);
  }
  std::map<std::int64_t, double> means;
  for (const auto& [bucket, values] : buckets) {
    double sum = 0;
    for (const double x : values) sum += x;
    means[bucket] = sum / static_cast<double>(values.size());
  }
  return means;
}

void compare(const FeatureSpec& spec, const std::vector<TestEvent>& events, Happened& happened) {
  const FeaturePlan plan = testing::plan_of(spec);
  const auto rows = testing::run(plan, events, {.batch_size = 64}).rows;
  struct Group {
    std::map<std::string, Member> members;
    std::int64_t clock_ms = INT64_MIN;
  };
  std::map<std::string, Group> groups;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const TestEvent& event = events[i];
    const double raw = event.numbers[1];
    const auto missing = [&] {
      for (const float x : rows[i]) ASSERT_TRUE(OracleTally::count(std::isnan(x))) << i;
    };
    if (event.keys[1].empty()) {
      missing();
      continue;
    }
    Group& group = groups[event.keys[1]];
    group.clock_ms = std::max(group.clock_ms, event.time_ms);
    if (event.keys[0].empty() || std::isnan(raw)) {
      missing();
      continue;
    }
    const auto own = group.members.find(event.keys[0]);
    const bool known = own != group.members.end();
    const bool in_order = known && event.time_ms >= own->second.seen_ms;
    for (const std::int64_t window_ms : spec.windows_ms) {
      double r = kMissing, pairs = 0, expected = kMissing, spread = kMissing, z = kMissing, history = 0;
      if (known) {
        std::map<std::int64_t, std::pair<double, int>> others;
        for (const auto& [name, member] : group.members) {
          if (name == event.keys[0]) continue;
          for (const auto& [bucket, mean] : bucket_means(member, window_ms, group.clock_ms)) {
            others[bucket].first += mean;
            ++others[bucket].second;
          }
        }
        std::vector<std::pair<double, double>> both;
        for (const auto& [bucket, mean] : bucket_means(own->second, window_ms, group.clock_ms)) {
          const auto at = others.find(bucket);
          if (at != others.end()) both.emplace_back(mean, at->second.first / at->second.second);
        }
        pairs = static_cast<double>(both.size());
        r = pearson(both);
        auto [at, is_new] = own->second.levels.try_emplace(window_ms);
        NaiveLevel& level = at->second;
        if (is_new)
          level = {
              .half_life_ms = spec.half_life_ms, .accept_ms = spec.half_life_ms / 8, .min_history = spec.min_history};
        const std::int64_t now_ms = std::max(event.time_ms, own->second.seen_ms);
        if (in_order) level.forget(now_ms);
        history = level.history;
        if (!level.values.empty()) {
          expected = level.mean(now_ms);
          spread =
              std::sqrt(level.variance(now_ms) * (1 + 1 / level.weight(now_ms)) + testing::naive_floor(expected, 0.1));
          if (level.history >= spec.min_history && !std::isnan(r)) z = std::clamp((r - expected) / spread, -1e6, 1e6);
        }
        if (in_order && !std::isnan(r))
          happened.accepted += level.learn(static_cast<double>(static_cast<float>(r)), std::fabs(z) > 4, now_ms);
        happened.correlated += std::isnan(r) ? 0 : 1;
        happened.judged += std::isnan(z) ? 0 : 1;
      }
      const std::string name = "twins.r_" + format_duration(window_ms);
      const auto check = [&](const std::string& column, double want, double tolerance) {
        const double got = rows[i][static_cast<std::size_t>(plan.find_column(column))];
        const bool right = std::isnan(want) ? std::isnan(got) : std::fabs(got - want) <= tolerance;
        if (!OracleTally::count(right) && ++wrong <= 5)
          ADD_FAILURE() << "event " << i << " " << column << ": " << got << ", expected " << want;
      };
      check(name, r, 2e-6);
      check("twins.pairs_" + format_duration(window_ms), pairs, 0);
      check(name + ".expected", expected, 1e-5);
      check(name + ".spread", spread, 1e-5);
      check(name + ".z", z, 1e-3);
      check(name + ".history", history, 0);
    }
    if (!known) {
      Member joins;
      joins.seen_ms = event.time_ms;
      joins.hash = make_key(event.keys[0]).hash;
      if (group.members.size() == 32) {
        const auto age = [](const Member& m) { return std::pair(m.seen_ms, m.hash); };
        auto silent = group.members.begin();
        for (auto at = group.members.begin(); at != group.members.end(); ++at) {
          if (age(at->second) < age(silent->second)) silent = at;
        }
        if (age(joins) < age(silent->second)) {
          ++happened.too_old;
          continue;
        }
        group.members.erase(silent);
        ++happened.replaced;
      }
      group.members.emplace(event.keys[0], joins);
    }
    Member& member = group.members.at(event.keys[0]);
    double x = raw;
    if ((event.flags & kEventCounter) != 0) {
      x = kMissing;
      if (std::isnan(member.reading)) {
        member.reading = raw;
        member.reading_ms = event.time_ms;
      } else if (event.time_ms >= member.reading_ms) {
        if (event.time_ms > member.reading_ms)
          x = 1000 * (raw < member.reading ? raw : raw - member.reading) /
              static_cast<double>(event.time_ms - member.reading_ms);
        member.reading = raw;
        member.reading_ms = event.time_ms;
      }
    }
    if (!std::isnan(x)) member.numbers.push_back({event.time_ms, x});
    member.seen_ms = std::max(member.seen_ms, event.time_ms);
  }
  EXPECT_EQ(wrong, 0U);
}

// Members of three groups; all of a group follow one wave, each with noise of its own, and some change sides for a
// while.
std::vector<TestEvent> waves(std::uint64_t seed, std::size_t members, std::size_t events) {
  auto stream = testing::make_stream(seed, {.events = events,
                                            .cards = members,
                                            .devices = 3,
                                            .step_ms = 700,
                                            .late_share = 0.1,
                                            .late_max_ms = seed % 2 == 0 ? 20 * kSecondMs : 3 * kMinuteMs,
                                            .counter_share = seed == 3 ? 0.2 : 0,
                                            .gap_every = 1300});
  for (TestEvent& event : stream) {
    const double wave = std::sin(static_cast<double>(event.time_ms) / 15'000.0);
    const bool turned = !event.keys[0].empty() && event.keys[0].back() == '1' && event.time_ms / 200'000 % 3 == 0;
    event.numbers[1] =
        std::isnan(event.numbers[1]) ? kMissing : 100 + (turned ? -5 : 5) * wave + event.numbers[1] / 100;
  }
  return stream;
}

TEST(TwinOperatorTest, AgreesWithARecomputeFromAllNumbers) {
  Happened happened;
  compare(twins({kMinuteMs, 10 * kMinuteMs}), waves(1, 6, 2500), happened);
  compare(twins({10 * kMinuteMs}, 5 * kMinuteMs), waves(2, 12, 2500), happened);
  compare(twins({2 * kMinuteMs}), waves(3, 5, 2000), happened);
  compare(twins({kMinuteMs, kHourMs}), waves(4, 60, 2500), happened);
  compare(twins({kHourMs}), waves(5, 60, 2000), happened);
  std::cout << happened.correlated << " correlations, " << happened.judged << " judged, " << happened.accepted
            << " new levels, " << happened.replaced << " members replaced, " << happened.too_old << " too old\n";
  EXPECT_GT(happened.correlated, 3500U);
  EXPECT_GT(happened.judged, 3000U);
  EXPECT_GT(happened.accepted, 0U);
  EXPECT_GT(happened.replaced, 100U);
  EXPECT_GT(happened.too_old, 0U);
}

TEST(TwinOperatorTest, CutsOfTheStreamChangeNoBit) {
  EXPECT_EQ(testing::differing_cuts(testing::plan_of(twins({kMinuteMs, kHourMs})), waves(6, 40, 2000)), 0U);
}

// Three hosts of a cluster, a number a second: a triangle of five seconds; from `breaks` on the third goes against it.
std::vector<TestEvent> cluster(int seconds, int breaks) {
  std::vector<TestEvent> stream;
  for (int second = 0; second < seconds; ++second) {
    for (int host = 0; host < 3; ++host) {
      const double level = second % 5;
      const double x = host == 2 && second >= breaks ? 100 - level : 10 * host + level;
      stream.push_back({kBegin + second * 1000 + host * 100, {0, x}, {"host" + std::to_string(host), "cluster"}});
    }
  }
  return stream;
}

TEST(TwinOperatorTest, ExampleOfTheDocs) {
  const FeaturePlan plan = testing::plan_of(twins({kMinuteMs}, kDayMs));
  const auto before = testing::run(plan, cluster(90, 1000), {}).rows.back();
  EXPECT_NEAR(before[0], 1, 1e-6);
  EXPECT_EQ(before[1], 59);
  EXPECT_NEAR(before[2], 1, 1e-6);
  const auto after = testing::run(plan, cluster(150, 90), {}).rows;
  EXPECT_NEAR(after.back()[0], -1, 1e-6);
  double least = 0;
  for (std::size_t i = 90 * 3 + 2; i < after.size(); i += 3) least = std::min<double>(least, after[i][4]);
  EXPECT_LT(least, -4) << "the third host broke with what it learnt";
  for (std::size_t i = 0; i < 90 * 3; ++i) EXPECT_FALSE(std::fabs(after[i][4]) > 1) << i;
}

TEST(TwinOperatorTest, OnlyTheNamedMetricCounts) {
  FeatureSpec spec = twins({kMinuteMs});
  spec.key = 1;
  EventLayout layout{{{"value", false}}, {"host", "cluster", "metric name"}};
  spec.number = 0;
  spec.metrics = {"cpu"};
  spec.other_key = 2;
  auto plan = FeaturePlan::compile({layout, {spec}, {}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  std::vector<TestEvent> stream;
  for (int second = 0; second < 30; ++second) {
    for (const char* host : {"a", "b"}) {
      stream.push_back({kBegin + second * 1000, {static_cast<double>(second % 5)}, {host, "c", "cpu"}});
      stream.push_back({kBegin + second * 1000 + 500, {1e6 * second}, {host, "c", "disk"}});
    }
  }
  const auto rows = testing::run(*plan, stream, {}).rows;
  EXPECT_NEAR(rows[rows.size() - 2][0], 1, 1e-6);
  EXPECT_EQ(rows[rows.size() - 2][1], 29);
  EXPECT_TRUE(std::isnan(rows.back()[0])) << "an event of another metric has no columns";
}

TEST(TwinOperatorTest, TheBreakIsADeviationThatDetectorsCanName) {
  auto plan = FeaturePlan::compile({testing::test_layout(false),
                                    {twins({kMinuteMs, kHourMs})},
                                    {{0, "r_1h", DeviationMethod::kEwma}, {0, "r_1m", DeviationMethod::kEwma}}});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->columns().size(), 12U) << "the operator's columns serve";
  const Deviation& d = plan->deviations()[plan->deviations_of(0)[0]];
  EXPECT_EQ(d.name, "twins.r_1h");
  EXPECT_EQ(plan->columns()[d.seen].name, "twins.r_1h");
  EXPECT_EQ(plan->columns()[d.z].name, "twins.r_1h.z");
  const auto refused =
      FeaturePlan::compile({testing::test_layout(false), {twins({kHourMs})}, {{0, "r_1h.z", DeviationMethod::kEwma}}});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "feature 'twins': no column 'r_1h.z'; it has r_1h, pairs_1h");
}

TEST(TwinOperatorTest, MistakesNameTheFeatureAndWhatIsWrong) {
  const auto said = [](const FeatureSpec& spec) {
    const auto plan = FeaturePlan::compile({testing::test_layout(false), {spec}, {}});
    return plan ? std::string() : plan.error().message;
  };
  EXPECT_EQ(said(twins({})), "feature 'twins': no windows; expected one or more, such as 1h");
  FeatureSpec spec = twins({kHourMs});
  spec.member_key = 1;
  EXPECT_EQ(said(spec), "feature 'twins': key 'device' is both the group and its member: no member would have a twin");
  spec = twins({kHourMs});
  spec.metrics = {"a", "b"};
  EXPECT_EQ(said(spec), "feature 'twins': 2 metrics; expected one");
}

}  // namespace
}  // namespace alcedo::features
