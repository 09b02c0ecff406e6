// Shares of an entity's own deviations by hand and by a recompute from all of them, also where the landmark moves.
#include "features/operators/own_past.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/event.h"
#include "core/prng.h"

namespace alcedo::features {
namespace {

constexpr std::int64_t kBegin = 1'700'000'000'000;

TEST(OwnPastTest, ExampleOfTheDocs) {
  OwnPast past(1000);
  OwnPastState state{};
  for (int i = 0; i < 90; ++i) past.learn(state, 1, kBegin);
  EXPECT_TRUE(std::isnan(past.surprise(state, 10, kBegin, 99)));
  for (int i = 0; i < 9; ++i) past.learn(state, 10, kBegin);
  EXPECT_NEAR(past.surprise(state, 10, kBegin, 99), 1, 1e-6) << "(9 + 1) / (99 + 1)";
  EXPECT_NEAR(past.surprise(state, 1000, kBegin, 99), 2, 1e-6);
  EXPECT_NEAR(past.surprise(state, 0.5, kBegin, 99), 0, 1e-6);
  EXPECT_NEAR(past.surprise(state, 10, kBegin + 1000, 99), -std::log10((4.5 + 1) / (49.5 + 1)), 1e-6);
  EXPECT_TRUE(std::isnan(past.surprise(state, kMissing, kBegin, 99)));
  past.clear(state);
  EXPECT_EQ(state.history, 0U);
}

TEST(OwnPastTest, AgreesWithARecomputeFromAllDeviations) {
  std::size_t compared = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Prng random(seed);
    const double half_life_ms = 50'000;
    OwnPast past(half_life_ms);
    OwnPastState state{};
    struct Learned {
      std::int64_t time_ms;
      double cell;
    };
    std::vector<Learned> all;
    const auto cell_of = [](double x) { return x < 1e-4 ? 0 : std::min(399.0, std::floor((std::log10(x) + 4) * 40)); };
    std::int64_t now = kBegin;
    for (int i = 0; i < 1500; ++i) {
      now += static_cast<std::int64_t>(random.below(2000));
      if (i % 400 == 399) now += seed % 2 == 0 ? 2'000'000 : 1'500'000;  // 40 or 30 half-lives
      const double x = i % 97 == 0 ? 0 : i % 89 == 0 ? 1e7 : std::exp(2 * random.normal());
      double as_much = 1;
      double total = 1;
      for (const Learned& one : all) {
        const double weight = std::exp2(-static_cast<double>(now - one.time_ms) / half_life_ms);
        total += weight;
        if (one.cell >= cell_of(x)) as_much += weight;
      }
      const double got = past.surprise(state, x, now, 10);
      if (i < 10) {
        ASSERT_TRUE(std::isnan(got));
      } else {
        ASSERT_NEAR(got, -std::log10(as_much / total), 1e-4) << "seed " << seed << " value " << i;
        ++compared;
      }
      past.learn(state, x, now);
      all.push_back({now, cell_of(x)});
    }
    std::string bytes;
    StateWriter writer(bytes);
    past.save(state, writer);
    OwnPastState other{};
    StateReader reader(bytes);
    past.load(other, reader);
    EXPECT_TRUE(reader.complete()) << reader.mistake();
    EXPECT_EQ(past.surprise(other, 3, now, 10), past.surprise(state, 3, now, 10));
  }
  EXPECT_GT(compared, 8000U);
}

}  // namespace
}  // namespace alcedo::features
