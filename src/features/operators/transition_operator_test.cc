// Transitions against a recompute from all values that an entity ever showed.
#include "features/operators/transition_operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "features/oracle_tally.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::OracleTally;
using testing::TestEvent;

constexpr std::int64_t kBegin = 1'700'000'000'000;

// Devices show cards, one after the other.
FeatureSpec transition() {
  FeatureSpec spec;
  spec.name = "order";
  spec.kind = FeatureKind::kTransition;
  spec.key = 1;
  spec.other_key = 0;
  return spec;
}

FeaturePlan plan_of(const FeatureSpec& spec) {
  auto plan = FeaturePlan::compile({testing::test_layout(false), {spec}, {}});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return *std::move(plan);
}

// A few values follow each other most of the time; the longer tail has more pairs than an entity can know.
std::vector<TestEvent> sequences(std::uint64_t seed, std::size_t events, std::size_t values) {
  auto stream = testing::make_stream(seed, {.events = events, .cards = values, .devices = 2, .late_max_ms = 5'000});
  Prng random(seed);
  std::map<std::string, std::size_t> step;
  for (TestEvent& event : stream) {
    if (random.below(10) < 6 && !event.keys[0].empty()) event.keys[0] = "c" + std::to_string(++step[event.keys[1]] % 5);
  }
  return stream;
}

TEST(TransitionOperatorTest, AgreesWithARecomputeFromAllValues) {
  std::size_t wrong = 0;
  std::size_t forgotten = 0;
  std::size_t halved = 0;
  std::size_t late = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const FeaturePlan plan = plan_of(transition());
    const auto events = sequences(seed, 12'000, seed % 2 == 0 ? 4 : 60);
    const auto rows = testing::run(plan, events, {.batch_size = 100}).rows;
    struct Counted {
      std::string from, to;
      std::uint32_t count;
    };
    struct Entity {
      std::vector<Counted> pairs;  // in the order in which they became known
      std::string previous;
      std::int64_t clock_ms = INT64_MIN;
    };
    std::map<std::string, Entity> entities;
    for (std::size_t i = 0; i < events.size(); ++i) {
      const std::string& value = events[i].keys[0];
      double expected[] = {kMissing, kMissing, kMissing, kMissing};
      if (!events[i].keys[1].empty()) {
        Entity& entity = entities[events[i].keys[1]];
        const bool in_order = events[i].time_ms >= entity.clock_ms;
        entity.clock_ms = std::max(entity.clock_ms, events[i].time_ms);
        late += in_order ? 0 : 1;
        if (in_order && !value.empty()) {
          if (!entity.previous.empty()) {
            double of = 0, count = 0;
            for (const Counted& pair : entity.pairs) {
              of += pair.from == entity.previous ? pair.count : 0;
              count += pair.from == entity.previous && pair.to == value ? pair.count : 0;
            }
            expected[0] = count;
            expected[1] = of;
            expected[2] = count == 0 ? 1 : 0;
            expected[3] = std::log10((of + 1) / (count + 1));
            const auto at = std::find_if(entity.pairs.begin(), entity.pairs.end(), [&](const Counted& pair) {
              return pair.from == entity.previous && pair.to == value;
            });
            if (at != entity.pairs.end()) {
              ++at->count;
            } else {
              if (entity.pairs.size() == 128) {
                auto rarest = entity.pairs.begin();
                for (auto pair = entity.pairs.begin(); pair != entity.pairs.end(); ++pair)
                  rarest = pair->count < rarest->count ? pair : rarest;
                entity.pairs.erase(rarest);
                ++forgotten;
              }
              entity.pairs.push_back({entity.previous, value, 1});
            }
            std::uint32_t total = 0;
            for (const Counted& pair : entity.pairs) total += pair.count;
            if (total >= 4096) {
              ++halved;
              for (Counted& pair : entity.pairs) pair.count /= 2;
              std::erase_if(entity.pairs, [](const Counted& pair) { return pair.count == 0; });
            }
          }
          entity.previous = value;
        }
      }
      for (std::size_t c = 0; c < 4; ++c) {
        const double got = rows[i][c];
        const bool right =
            std::isnan(expected[c]) ? std::isnan(got) : std::fabs(got - expected[c]) <= (c == 3 ? 1e-6 : 0);
        if (!OracleTally::count(right) && ++wrong <= 5)
          ADD_FAILURE() << "seed " << seed << " event " << i << " " << plan.columns()[c].name << ": " << got
                        << ", expected " << expected[c];
      }
    }
  }
  std::cout << forgotten << " pairs forgotten, " << halved << " halvings, " << late << " late\n";
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(forgotten, 1000U);
  EXPECT_GT(halved, 2U);
  EXPECT_GT(late, 1000U);
}

TEST(TransitionOperatorTest, CutsOfTheStreamChangeNoBit) {
  const FeaturePlan plan = plan_of(transition());
  const auto events = sequences(9, 3000, 60);
  const auto whole = testing::run(plan, events, {}).rows;
  for (const std::size_t batch : {1U, 7U, 32U, 500U}) {
    const auto rows = testing::run(plan, events, {.batch_size = batch, .workers = batch == 500 ? 3U : 1U}).rows;
    for (std::size_t i = 0; i < events.size(); ++i) ASSERT_TRUE(testing::same_bits(whole[i], rows[i])) << batch;
  }
}

TEST(TransitionOperatorTest, ExampleOfTheDocs) {
  std::vector<TestEvent> events;
  const auto show = [&](const std::string& value) {
    events.push_back({kBegin + static_cast<std::int64_t>(events.size()) * 1000, {0, 0}, {value, "host"}});
  };
  for (int i = 0; i < 9; ++i) {
    show("open");
    show("close");
  }
  show("open");
  show("fail");
  show("open");
  show("close");
  const auto rows = testing::run(plan_of(transition()), events, {}).rows;
  EXPECT_TRUE(std::isnan(rows[0][0])) << "nothing came before";
  EXPECT_EQ(rows[19], (std::vector<float>{0, 9, 1, 1}));
  EXPECT_EQ(rows[21][0], 9);
  EXPECT_EQ(rows[21][1], 10);
  EXPECT_NEAR(rows[21][3], 0.0414, 1e-4);
}

TEST(TransitionOperatorTest, MistakesNameTheFeatureAndWhatIsWrong) {
  const auto said = [](const FeatureSpec& spec) {
    const auto plan = FeaturePlan::compile({testing::test_layout(false), {spec}, {}});
    return plan ? std::string() : plan.error().message;
  };
  FeatureSpec spec = transition();
  spec.other_key = 9;
  EXPECT_EQ(said(spec), "feature 'order': key slot 9 does not exist; there are 2");
  spec.other_key = 1;
  EXPECT_EQ(said(spec),
            "feature 'order': key 'device' follows itself always; expected a key whose values change from event to "
            "event");
}

}  // namespace
}  // namespace alcedo::features
