// Operators against naive recomputes from all events of an entity, straight from docs/features.md, through the stage
// that runs them.
#include "features/operators/operator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/prng.h"
#include "core/time.h"
#include "features/oracle_tally.h"
#include "features/stage.h"
#include "features/test_stream.h"

namespace alcedo::features {
namespace {

using testing::OracleTally;
using testing::TestEvent;

EventLayout layout() { return {{{"latitude", false}, {"longitude", false}}, {"card", "merchant"}}; }

FeatureSpec spec_of(std::string name, FeatureKind kind) {
  FeatureSpec spec;
  spec.name = std::move(name);
  spec.kind = kind;
  spec.key = 0;
  return spec;
}

FeaturePlan plan_of(std::vector<FeatureSpec> features) {
  auto plan = FeaturePlan::compile({layout(), std::move(features), {}});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return std::move(*plan);
}

FeatureSpec geo() {
  FeatureSpec spec = spec_of("travel", FeatureKind::kGeo);
  spec.number = 0;
  spec.number_2 = 1;
  spec.half_life_ms = 3 * kDayMs;
  spec.min_history = 5;
  return spec;
}

FeatureSpec rarity() {
  FeatureSpec spec = spec_of("pair", FeatureKind::kRarity);
  spec.other_key = 1;
  return spec;
}

// Cards at homes all over the globe, the date line and the poles among them; trips, late events, places unknown or
// impossible.
std::vector<TestEvent> travellers(std::uint64_t seed, std::size_t events) {
  Prng random(seed);
  std::vector<TestEvent> stream;
  double now = 1.7e12;
  for (std::size_t i = 0; i < events; ++i) {
    now += 20'000 * random.exponential() + (i % 997 == 996 ? 5e8 : 0);
    const auto card = static_cast<double>(random.below(12));
    double latitude = -89.9 + card * 16.3 + 0.05 * random.normal();
    double longitude = 179.98 - card * 31 + 0.05 * random.normal();
    if (random.below(20) == 0) {
      latitude = 180 * random.uniform() - 90;
      longitude = 360 * random.uniform() - 180;
    }
    if (longitude < -180) longitude += 360;
    if (random.below(25) == 0) latitude = kMissing;
    if (random.below(50) == 0) longitude = 400;
    TestEvent event;
    event.time_ms =
        static_cast<std::int64_t>(now) - (random.below(8) == 0 ? static_cast<std::int64_t>(random.below(60'000)) : 0);
    event.numbers = {std::fmax(-90.5, std::fmin(90, latitude)), longitude};
    if (std::isnan(latitude)) event.numbers[0] = kMissing;
    // A few favourites, and a long tail that no slab holds whole.
    const std::uint64_t merchant = random.below(3) == 0 ? random.below(200) : random.below(6);
    event.keys = {"card" + std::to_string(static_cast<int>(card)),
                  random.below(30) == 0 ? "" : "m" + std::to_string(merchant)};
    stream.push_back(std::move(event));
  }
  return stream;
}

// All rows of the stream, processed in calls of `cut` events.
std::vector<std::vector<float>> columns_of(const FeaturePlan& plan, const std::vector<TestEvent>& stream,
                                           std::size_t cut) {
  KeyedStage stage(plan, 0);
  const GlobalBaselines global(plan);
  std::vector<std::vector<float>> rows;
  for (std::size_t begin = 0; begin < stream.size(); begin += cut) {
    const auto end = stream.begin() + static_cast<std::ptrdiff_t>(std::min(stream.size(), begin + cut));
    const std::vector<TestEvent> part(stream.begin() + static_cast<std::ptrdiff_t>(begin), end);
    const EventBatch batch = testing::to_batch(layout(), part);
    FeatureMatrix out;
    out.reset(batch.rows(), plan.columns().size());
    const std::vector<std::uint32_t> snapshots(batch.rows(), 0);
    stage.process(batch, batch.order, global, snapshots, out);
    for (std::size_t row = 0; row < batch.rows(); ++row) rows.emplace_back(out.row(row).begin(), out.row(row).end());
  }
  return rows;
}

bool near(double expected, float got, double tolerance) {
  if (std::isnan(expected) || std::isnan(got)) return std::isnan(expected) == std::isnan(got);
  return std::fabs(expected - static_cast<double>(got)) <= tolerance + 1e-5 * std::fabs(expected);
}

// The haversine formula, where the operator uses chords.
double haversine_km(double lat1, double lon1, double lat2, double lon2) {
  const double degree = std::acos(-1.0) / 180;
  const double a =
      std::pow(std::sin((lat2 - lat1) * degree / 2), 2) +
      std::cos(lat1 * degree) * std::cos(lat2 * degree) * std::pow(std::sin((lon2 - lon1) * degree / 2), 2);
  return 2 * 6371.0088 * std::asin(std::sqrt(std::fmin(1.0, a)));
}

struct KnownPlace {
  std::int64_t time_ms;
  double latitude, longitude;
  double weight;
  double square;  // what the distance from the home of its time adds to the spread
};

TEST(GeoOperatorTest, MatchesARecomputeFromAllPlaces) {
  const FeaturePlan plan = plan_of({geo()});
  std::size_t compared = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const auto stream = travellers(seed, 4000);
    const auto rows = columns_of(plan, stream, 256);
    std::map<std::string, std::vector<KnownPlace>> places;
    std::map<std::string, std::int64_t> clocks;
    for (std::size_t i = 0; i < stream.size(); ++i) {
      const TestEvent& event = stream[i];
      auto& known = places[event.keys[0]];
      const double lat = event.numbers[0];
      const double lon = event.numbers[1];
      const bool placed = std::fabs(lat) <= 90 && std::fabs(lon) <= 180;
      const auto [clock, first] = clocks.try_emplace(event.keys[0], event.time_ms);
      const bool in_order = event.time_ms >= clock->second;
      clock->second = std::max(clock->second, event.time_ms);
      double speed = kMissing, distance = kMissing, home = kMissing, spread = kMissing, z = kMissing;
      if (!known.empty()) {
        // State as of the newest place; it decays when the next one comes.
        const std::int64_t now_ms = known.back().time_ms;
        const auto weight_at = [&](const KnownPlace& p, std::int64_t at_ms) {
          return std::exp2(-static_cast<double>(at_ms - p.time_ms) / (3.0 * kDayMs));
        };
        double x = 0, y = 0, zz = 0, weight = 0, squares = 0;
        const double degree = std::acos(-1.0) / 180;
        for (const KnownPlace& p : known) {
          const double w = p.weight * weight_at(p, now_ms);
          x += w * std::cos(p.latitude * degree) * std::cos(p.longitude * degree);
          y += w * std::cos(p.latitude * degree) * std::sin(p.longitude * degree);
          zz += w * std::sin(p.latitude * degree);
          weight += w;
          squares += p.square * weight_at(p, now_ms);
        }
        spread = std::sqrt(squares / weight);
        if (placed) {
          home = haversine_km(lat, lon, std::atan2(zz, std::hypot(x, y)) / degree, std::atan2(y, x) / degree);
          if (known.size() >= 5) z = std::fmin(1e6, home / std::sqrt(spread * spread + 1));
        }
      }
      if (placed && in_order) {
        double w = 1;
        double before = 0;
        if (!known.empty()) {
          distance = haversine_km(lat, lon, known.back().latitude, known.back().longitude);
          speed = distance * 3'600'000 /
                  static_cast<double>(std::max<std::int64_t>(60'000, event.time_ms - known.back().time_ms));
          if (known.size() >= 5 && home > 4 * std::sqrt(spread * spread + 1)) w = 0.1;
          for (const KnownPlace& p : known) {
            before += p.weight * std::exp2(-static_cast<double>(event.time_ms - p.time_ms) / (3.0 * kDayMs));
          }
        }
        known.push_back({event.time_ms, lat, lon, w, known.empty() ? 0 : home * home * w * before / (before + w)});
      }
      const double seen = static_cast<double>(known.size()) - (placed && in_order ? 1 : 0);
      const double expected[] = {speed, distance, home, spread, z, seen};
      // Half a metre of the last place is lost, and a metre is 60 m/h after the least minute.
      const double tolerance[] = {0.2, 0.002, 0.01, 0.01, 0.01, 0};
      for (std::size_t c = 0; c < 6; ++c) {
        ++compared;
        ASSERT_TRUE(OracleTally::count(near(expected[c], rows[i][c], tolerance[c])))
            << plan.columns()[c].name << " of event " << i << ", seed " << seed << ": expected " << expected[c]
            << ", got " << rows[i][c];
      }
    }
  }
  std::cout << compared << " values compared\n";
}

TEST(GeoOperatorTest, LondonToNewYorkInAnHour) {
  const FeaturePlan plan = plan_of({geo()});
  std::vector<TestEvent> stream;
  for (int i = 0; i < 5; ++i) stream.push_back({1'700'000'000'000 + i * kHourMs, {51.5074, -0.1278}, {"c", "m"}});
  stream.push_back({1'700'000'000'000 + 5 * kHourMs, {40.7128, -74.0060}, {"c", "m"}});
  const auto rows = columns_of(plan, stream, 1);
  EXPECT_NEAR(rows[5][0], 5570, 1);  // km/h
  EXPECT_NEAR(rows[5][1], 5570, 1);  // km
  EXPECT_NEAR(rows[5][2], 5570, 1);
  EXPECT_NEAR(rows[5][3], 0, 1e-3);
  EXPECT_NEAR(rows[5][4], 5570, 1);
  EXPECT_EQ(rows[5][5], 5);
}

TEST(RarityOperatorTest, MatchesARecomputeFromAllValues) {
  const FeaturePlan plan = plan_of({rarity()});
  const auto stream = travellers(5, 12'000);
  const auto rows = columns_of(plan, stream, 100);
  struct Counted {
    std::string value;
    int count;
  };
  std::map<std::string, std::vector<Counted>> known;  // in the order in which they became known
  std::size_t forgotten = 0;
  std::size_t halved = 0;
  for (std::size_t i = 0; i < stream.size(); ++i) {
    auto& values = known[stream[i].keys[0]];
    int of = 0;
    for (const Counted& v : values) of += v.count;
    const std::string& value = stream[i].keys[1];
    ASSERT_TRUE(OracleTally::count(rows[i][1] == static_cast<float>(of))) << i;
    if (value.empty()) {
      EXPECT_TRUE(std::isnan(rows[i][0]) && std::isnan(rows[i][2]) && std::isnan(rows[i][3]));
      continue;
    }
    auto at = std::find_if(values.begin(), values.end(), [&](const Counted& v) { return v.value == value; });
    const int count = at == values.end() ? 0 : at->count;
    ASSERT_TRUE(OracleTally::count(rows[i][0] == static_cast<float>(count))) << i;
    ASSERT_TRUE(OracleTally::count(rows[i][2] == (count == 0 ? 1.0F : 0.0F))) << i;
    ASSERT_TRUE(OracleTally::count(near(std::log10((of + 1.0) / (count + 1.0)), rows[i][3], 1e-6))) << i;
    if (at != values.end()) {
      ++at->count;
    } else {
      if (values.size() == 32) {
        auto rarest = values.begin();
        for (auto v = values.begin(); v != values.end(); ++v) {
          if (v->count < rarest->count) rarest = v;
        }
        of -= rarest->count;
        values.erase(rarest);
        ++forgotten;
      }
      values.push_back({value, 1});
    }
    if (of + 1 >= 256) {
      ++halved;
      for (Counted& v : values) v.count /= 2;
      std::erase_if(values, [](const Counted& v) { return v.count == 0; });
    }
  }
  EXPECT_GT(forgotten, 10U);
  EXPECT_GT(halved, 10U);
}

FeatureSpec correlation() {
  FeatureSpec spec = spec_of("together", FeatureKind::kCorrelation);
  spec.number = 0;
  spec.number_2 = 1;
  spec.windows_ms = {kMinuteMs, 10 * kMinuteMs};
  return spec;
}

TEST(CorrelationOperatorTest, MatchesARecomputeFromAllEvents) {
  const FeaturePlan plan = plan_of({correlation()});
  std::size_t compared = 0;
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    Prng random(seed);
    auto stream = travellers(seed, 3000);
    // A third of the cards' numbers move together, a third apart, a third have no relation; the first stands still at
    // times.
    for (std::size_t i = 0; i < stream.size(); ++i) {
      const double level = random.normal();
      const int kind = static_cast<int>(stream[i].keys[0].size() + stream[i].keys[0].back()) % 3 - 1;
      if (std::isnan(stream[i].numbers[0]))
        stream[i].numbers[0] = i % 2 == 0 ? kMissing : 5;
      else
        stream[i].numbers[0] = 1000 + level;
      stream[i].numbers[1] = random.below(7) == 0 ? kMissing : kind * level + 0.3 * random.normal();
      stream[i].time_ms = 1'700'000'000'000 + (stream[i].time_ms - stream[0].time_ms) / 10;
    }
    const auto rows = columns_of(plan, stream, 64);
    for (std::size_t i = 0; i < stream.size(); ++i) {
      std::int64_t clock_ms = stream[i].time_ms;
      for (std::size_t j = 0; j < i; ++j) {
        if (stream[j].keys[0] == stream[i].keys[0]) clock_ms = std::max(clock_ms, stream[j].time_ms);
      }
      for (std::size_t w = 0; w < 2; ++w) {
        const std::int64_t grain_ms = correlation().windows_ms[w] / 60;
        std::map<std::int64_t, std::array<std::vector<double>, 2>> buckets;
        for (std::size_t j = 0; j < i; ++j) {
          if (stream[j].keys[0] != stream[i].keys[0]) continue;
          const std::int64_t bucket = stream[j].time_ms / grain_ms;
          // What came too late for the window of its time was never in it.
          if (bucket <= clock_ms / grain_ms - 60) continue;
          for (std::size_t side = 0; side < 2; ++side) {
            if (!std::isnan(stream[j].numbers[side])) buckets[bucket][side].push_back(stream[j].numbers[side]);
          }
        }
        std::vector<std::array<double, 2>> pairs;
        for (const auto& [bucket, sides] : buckets) {
          if (sides[0].empty() || sides[1].empty()) continue;
          std::array<double, 2> means{};
          for (std::size_t side = 0; side < 2; ++side) {
            for (const double x : sides[side]) means[side] += x / static_cast<double>(sides[side].size());
          }
          pairs.push_back(means);
        }
        ASSERT_TRUE(OracleTally::count(rows[i][2 * w + 1] == static_cast<float>(pairs.size()))) << i;
        double a = 0, b = 0, aa = 0, bb = 0, ab = 0;
        for (const auto& pair : pairs) {
          a += pair[0] / static_cast<double>(pairs.size());
          b += pair[1] / static_cast<double>(pairs.size());
        }
        for (const auto& pair : pairs) {
          aa += (pair[0] - a) * (pair[0] - a);
          bb += (pair[1] - b) * (pair[1] - b);
          ab += (pair[0] - a) * (pair[1] - b);
        }
        const double expected = pairs.size() < 8 || aa < 1e-9 || bb < 1e-9 ? kMissing : ab / std::sqrt(aa * bb);
        ASSERT_TRUE(OracleTally::count(near(expected, rows[i][2 * w], 1e-6)))
            << i << ": expected " << expected << ", got " << rows[i][2 * w];
        compared += !std::isnan(expected);
      }
    }
  }
  EXPECT_GT(compared, 1000U);
}

TEST(CorrelationOperatorTest, MetricsOfOneHostAreAlignedByTheirBuckets) {
  FeatureSpec spec = correlation();
  spec.number_2 = -1;
  spec.metrics = {"cpu", "load"};
  spec.other_key = 1;
  spec.windows_ms = {kMinuteMs};
  const FeaturePlan plan = plan_of({spec});
  std::vector<TestEvent> stream;
  for (int second = 0; second < 30; ++second) {
    const double level = second % 5;
    stream.push_back({1'700'000'000'000 + second * 1000, {level, 0}, {"host", "cpu"}});
    stream.push_back({1'700'000'000'300 + second * 1000, {10 - 2 * level, 0}, {"host", "load"}});
    stream.push_back({1'700'000'000'600 + second * 1000, {1e6, 0}, {"host", "disk"}});
  }
  const auto rows = columns_of(plan, stream, 10);
  EXPECT_EQ(rows.back()[1], 30);
  EXPECT_NEAR(rows.back()[0], -1, 1e-6);
}

TEST(ContextOperatorTest, SaysWhatStandsBehindARow) {
  const FeaturePlan plan = plan_of({spec_of("about", FeatureKind::kContext)});
  const std::vector<TestEvent> stream{{10'000, {1, 2}, {"c", ""}},
                                      {20'000, {kMissing, 2}, {"c", ""}},
                                      {12'500, {kMissing, kMissing}, {"c", ""}},
                                      {20'000, {1, 2}, {"d", ""}}};
  const auto rows = columns_of(plan, stream, 4);
  EXPECT_EQ(rows[0], (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(rows[1], (std::vector<float>{1, 0, 1}));
  EXPECT_EQ(rows[2], (std::vector<float>{2, 7.5F, 2}));
  EXPECT_EQ(rows[3], (std::vector<float>{0, 0, 0}));
}

TEST(OperatorTest, BatchesCannotBeSeen) {
  const FeaturePlan plan = plan_of({geo(), rarity(), correlation(), spec_of("about", FeatureKind::kContext)});
  const auto stream = travellers(9, 3000);
  const auto whole = columns_of(plan, stream, stream.size());
  for (const std::size_t cut : {std::size_t{1}, std::size_t{7}, std::size_t{32}, std::size_t{500}}) {
    const auto cuts = columns_of(plan, stream, cut);
    for (std::size_t i = 0; i < stream.size(); ++i)
      ASSERT_TRUE(testing::same_bits(whole[i], cuts[i])) << cut << " " << i;
  }
}

TEST(OperatorTest, MistakesNameTheFeatureAndWhatIsMissing) {
  FeatureSpec place = geo();
  place.number_2 = 7;
  auto refused = FeaturePlan::compile({layout(), {place}, {}});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "feature 'travel': number slot 7 does not exist; there are 2");
  FeatureSpec pair = rarity();
  pair.other_key = -1;
  refused = FeaturePlan::compile({layout(), {pair}, {}});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "feature 'pair': key slot -1 does not exist; there are 2");
}

}  // namespace
}  // namespace alcedo::features
