// For tests only: seeded streams of events, and what a plan writes for them with any batches, workers and ticks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/hash.h"
#include "core/prng.h"
#include "core/time.h"
#include "features/plan.h"
#include "features/stage.h"

namespace alcedo::features::testing {

struct TestEvent {
  std::int64_t time_ms = 0;
  std::vector<double> numbers;
  std::vector<std::string> keys;  // "": missing
  std::uint8_t flags = 0;
  float step = 0;
  std::int64_t tick_ms = INT64_MIN;
  Truth truth = 0;
};

inline EventBatch to_batch(const EventLayout& layout, const std::vector<TestEvent>& events) {
  EventBatch batch(layout);
  batch.reset(events.size(), 1);
  for (std::uint32_t row = 0; row < events.size(); ++row) {
    batch.header(row) = EventHeader{};
    batch.header(row).sequence = row + 1;
    batch.header(row).time_ms = events[row].time_ms;
    batch.header(row).flags = events[row].flags;
    batch.header(row).step = events[row].step;
    batch.header(row).tick_ms = events[row].tick_ms;
    batch.header(row).truth = events[row].truth;
    for (std::size_t n = 0; n < layout.numbers.size(); ++n) batch.numbers(row)[n] = events[row].numbers[n];
    for (std::size_t k = 0; k < layout.keys.size(); ++k) {
      const std::string& key = events[row].keys[k];
      batch.keys(row)[k] = key.empty() ? Key{} : make_key(batch.arena(0).copy(key));
    }
    batch.order.push_back(row);
  }
  return batch;
}

struct RunOptions {
  std::size_t batch_size = 0;  // 0: all at once
  std::size_t workers = 1;
  std::size_t tick_every = 64;  // events
};

struct RunResult {
  std::vector<std::vector<float>> rows;
  std::vector<std::vector<GlobalBaselines::Level>> levels;  // by row, by feature
  std::size_t entities = 0;
};

/// Everything that the plan writes for the events, as an engine would drive it.
inline RunResult run(const FeaturePlan& plan, const std::vector<TestEvent>& events, const RunOptions& options) {
  RunResult result;
  GlobalBaselines global(plan);
  std::vector<KeyedStage> stages;  // stage by stage, workers within
  for (std::size_t s = 0; s < plan.stages().size(); ++s) {
    for (std::size_t w = 0; w < options.workers; ++w) stages.emplace_back(plan, s);
  }
  const std::size_t size = options.batch_size == 0 ? events.size() : options.batch_size;
  for (std::size_t begin = 0; begin < events.size(); begin += size) {
    const std::size_t end = std::min(events.size(), begin + size);
    const std::vector<TestEvent> part(events.begin() + static_cast<std::ptrdiff_t>(begin),
                                      events.begin() + static_cast<std::ptrdiff_t>(end));
    const EventBatch batch = to_batch(plan.options().layout, part);
    FeatureMatrix out;
    out.reset(batch.rows(), plan.columns().size());
    global.begin_batch();
    std::vector<std::uint32_t> snapshots;
    for (const std::uint32_t row : batch.order) {
      snapshots.push_back(global.add(batch, row));
      if ((begin + row + 1) % options.tick_every == 0) global.tick();
    }
    for (std::size_t s = 0; s < plan.stages().size(); ++s) {
      for (std::size_t w = 0; w < options.workers; ++w) {
        std::vector<std::uint32_t> rows;
        for (const std::uint32_t row : batch.order) {
          if (batch.key(row, plan.stages()[s]).hash % options.workers == w) rows.push_back(row);
        }
        stages[s * options.workers + w].process(batch, rows, global, snapshots, out);
      }
    }
    for (const std::uint32_t row : batch.order) {
      result.rows.emplace_back(out.row(row).begin(), out.row(row).end());
      auto& levels = result.levels.emplace_back();
      for (std::size_t f = 0; f < plan.options().features.size(); ++f)
        levels.push_back(global.level(snapshots[row], f));
    }
  }
  for (const KeyedStage& stage : stages) result.entities += stage.entities();
  return result;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct StreamOptions {
  std::size_t events = 5000;
  std::size_t cards = 40;  // the first is as frequent as a third of all
  std::size_t devices = 12;
  bool whole = true;     // amounts are whole minor units
  double step_ms = 900;  // mean time between events
  double late_share = 0.15;
  std::int64_t late_max_ms = 4 * kMinuteMs;
  double missing_share = 0.05;
  double counter_share = 0;
  double step_share = 0.1;       // events of a metric whose smaller changes mean little
  std::size_t gap_every = 1500;  // events between gaps of days
};

/// A sixteenth is unlabelled, a tenth anomalous, half of that of type 0.
inline Truth make_truth(std::uint64_t random) {
  if (random % 16 == 0) return 0;
  if (random / 16 % 10 != 0) return kTruthTold;
  const bool typed = random / 160 % 2 == 0;
  return kTruthTold | kTruthAnomalous | (typed ? truth_of_type(0) : truth_of_type(1));
}

/// Numbers: an amount and a level; keys: a card and a device.
inline std::vector<TestEvent> make_stream(std::uint64_t seed, const StreamOptions& options) {
  Prng random(seed);
  std::vector<TestEvent> events;
  double now = 1.7e12 + static_cast<double>(seed) * 12345.678;
  for (std::size_t i = 0; i < options.events; ++i) {
    now += options.step_ms * random.exponential();
    if (options.gap_every != 0 && i % options.gap_every == options.gap_every - 1) {
      now += static_cast<double>(kDayMs) * (0.02 + 3 * random.uniform());
    }
    TestEvent event;
    event.time_ms = static_cast<std::int64_t>(now);
    if (random.uniform() < options.late_share) {
      event.time_ms -= static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(options.late_max_ms)));
    }
    const std::size_t card = random.uniform() < 0.33 ? 0 : random.below(options.cards);
    const std::size_t device = random.below(options.devices);
    double amount = std::exp(5 + 1.5 * random.normal()) * (random.uniform() < 0.01 ? 1000 : 1);
    if (random.uniform() < 0.1) amount = -amount;
    if (options.whole) amount = std::floor(amount);
    double level = 50 + 10 * static_cast<double>(device) + random.normal() + (random.uniform() < 0.02 ? 40 : 0);
    if ((i / 700) % 3 == 1) level += 100;  // a new level for a while
    if (random.uniform() < options.missing_share) amount = kMissing;
    if (random.uniform() < options.missing_share) level = kMissing;
    event.numbers = {amount, level};
    event.keys = {"card" + std::to_string(card), "device" + std::to_string(device)};
    if (random.uniform() < options.missing_share) event.keys[random.below(2)].clear();
    if (random.uniform() < options.counter_share) event.flags = kEventCounter;
    if (random.uniform() < options.step_share) event.step = static_cast<float>(60 * random.uniform());
    event.truth = make_truth(mix64(seed * 1'000'003 + i));
    events.push_back(std::move(event));
  }
  return events;
}

inline EventLayout test_layout(bool money) {
  return {{{"amount", money}, {"level", false}}, {"card", "device"}, {"stolen", "takeover"}};
}

inline FeatureSpec rolling(std::string name, int number, int key, std::vector<std::int64_t> windows,
                           bool including = false) {
  FeatureSpec spec;
  spec.name = std::move(name);
  spec.kind = FeatureKind::kRolling;
  spec.number = number;
  spec.key = key;
  spec.stats = {Stat::kCount, Stat::kSum, Stat::kMean, Stat::kStd, Stat::kMin, Stat::kMax};
  spec.windows_ms = std::move(windows);
  spec.including = including;
  return spec;
}

inline FeatureSpec velocity(std::string name, int number, int key, std::vector<std::int64_t> windows) {
  FeatureSpec spec;
  spec.name = std::move(name);
  spec.kind = FeatureKind::kVelocity;
  spec.number = number;
  spec.key = key;
  spec.windows_ms = std::move(windows);
  return spec;
}

inline FeatureSpec baseline(std::string name, int number, int key, std::int64_t half_life_ms,
                            std::uint32_t min_history) {
  FeatureSpec spec;
  spec.name = std::move(name);
  spec.kind = FeatureKind::kBaseline;
  spec.number = number;
  spec.key = key;
  spec.half_life_ms = half_life_ms;
  spec.min_history = min_history;
  return spec;
}

/// Every kind of feature, ring and deviation at two stages.
inline FeatureOptions full_options(bool money) {
  FeatureOptions options;
  options.layout = test_layout(money);
  options.features = {
      rolling("spend", 0, 0, {kMinuteMs, 5 * kMinuteMs, kHourMs}),
      rolling("now", 1, 0, {30 * kSecondMs, 2 * kHourMs}, true),
      velocity("pace", 0, 0, {kMinuteMs, 10 * kMinuteMs, kHourMs}),
      velocity("fan", -1, 1, {5 * kMinuteMs, kHourMs}),
      velocity("flow", 0, 1, {kMinuteMs}),
      baseline("habit", 0, 0, 2 * kHourMs, 20),
      baseline("level", 1, 1, kHourMs, 5),
  };
  options.features[2].half_life_ms = 6 * kHourMs;
  options.features[6].accept_ms = 2 * kMinuteMs;
  options.deviations = {
      {2, "", DeviationMethod::kEwma},           {0, "mean_1h", DeviationMethod::kQuartiles},
      {5, "", DeviationMethod::kQuartiles},      {5, "", DeviationMethod::kEwma},
      {6, "", DeviationMethod::kQuartiles},      {3, "events_1h", DeviationMethod::kEwma},
      {3, "gap_s", DeviationMethod::kQuartiles},
  };
  return options;
}

/// The kinds whose state is a group's, a value's, or an order's: cards are members of devices, values, and what
/// follows.
inline void add_group_features(FeatureOptions& options) {
  FeatureSpec peers = baseline("peers", 1, 1, kHourMs, 5);
  peers.kind = FeatureKind::kPeers;
  peers.member_key = 0;
  FeatureSpec twins = peers;
  twins.name = "twins";
  twins.kind = FeatureKind::kTwins;
  twins.windows_ms = {kMinuteMs, kHourMs};
  FeatureSpec common;
  common.name = "common";
  common.kind = FeatureKind::kGlobalRarity;
  common.key = 0;
  common.half_life_ms = 2 * kHourMs;
  FeatureSpec order;
  order.name = "order";
  order.kind = FeatureKind::kTransition;
  order.key = 1;
  order.other_key = 0;
  FeatureSpec risk;
  risk.name = "risk";
  risk.kind = FeatureKind::kConfirmed;
  risk.key = 1;
  risk.windows_ms = {kMinuteMs, 5 * kMinuteMs};
  risk.delay_ms = 30 * kSecondMs;
  risk.min_history = 2;
  FeatureSpec stolen = risk;
  stolen.name = "stolen";
  stolen.key = 0;
  stolen.label_type = 0;
  stolen.windows_ms = {10 * kMinuteMs, kHourMs};
  stolen.delay_ms = 7 * kMinuteMs;
  stolen.prior = 3;
  const auto first = static_cast<std::uint32_t>(options.features.size());
  options.features.insert(options.features.end(), {peers, twins, common, order, risk, stolen});
  const std::vector<DeviationRequest> wishes{{first, "", DeviationMethod::kEwma},
                                             {first, "", DeviationMethod::kQuartiles},
                                             {first + 1, "r_1h", DeviationMethod::kEwma},
                                             {first + 2, "rarity", DeviationMethod::kEwma},
                                             {first + 3, "rarity", DeviationMethod::kQuartiles},
                                             {first + 4, "share_5m", DeviationMethod::kEwma},
                                             {first + 5, "known_1h", DeviationMethod::kEwma}};
  options.deviations.insert(options.deviations.end(), wishes.begin(), wishes.end());
}

/// The kinds that judge by the entity's own past.
inline void add_own_past_features(FeatureOptions& options) {
  FeatureSpec shape = baseline("shape", 1, 1, 6 * kHourMs, 10);
  shape.kind = FeatureKind::kDiscord;
  shape.shape_values = 4;
  shape.past_values = 70;
  FeatureSpec course = baseline("course", 0, 0, kHourMs, 5);
  course.kind = FeatureKind::kDiscord;
  course.shape_values = 10;
  course.past_values = 40;
  FeatureSpec rare = baseline("rare", 1, 1, kHourMs, 10);
  rare.kind = FeatureKind::kUnusual;
  rare.accept_ms = 2 * kMinuteMs;
  options.features.insert(options.features.end(), {shape, course, rare});
}

/// full_options(), and every operator.
inline FeatureOptions state_options(bool money) {
  FeatureOptions options = full_options(money);
  FeatureSpec travel = baseline("travel", 0, 0, 6 * kHourMs, 5);
  travel.kind = FeatureKind::kGeo;
  travel.number_2 = 1;
  FeatureSpec pair;
  pair.name = "pair";
  pair.kind = FeatureKind::kRarity;
  pair.key = 0;
  pair.other_key = 1;
  FeatureSpec about;
  about.name = "about";
  about.kind = FeatureKind::kContext;
  about.key = 1;
  FeatureSpec cards = pair;
  cards.name = "cards";
  cards.key = 1;
  cards.other_key = 0;
  const auto of_kind = [](FeatureKind kind, FeatureSpec spec) {
    spec.kind = kind;
    return spec;
  };
  FeatureSpec shops = of_kind(FeatureKind::kDistinct, velocity("shops", -1, 0, {kMinuteMs, kHourMs}));
  shops.other_key = 1;
  FeatureSpec holders = of_kind(FeatureKind::kDistinct, velocity("holders", -1, 1, {kMinuteMs, 10 * kMinuteMs}));
  holders.other_key = 0;
  holders.including = true;
  const FeatureSpec sizes =
      of_kind(FeatureKind::kQuantiles, velocity("sizes", 0, 0, {kMinuteMs, 5 * kMinuteMs, 6 * kHourMs}));
  FeatureSpec levels = of_kind(FeatureKind::kQuantiles, velocity("levels", 1, 1, {2 * kMinuteMs, 30 * kMinuteMs}));
  levels.including = true;
  const FeatureSpec week = of_kind(FeatureKind::kSeason, baseline("week", 0, 0, kDayMs, 5));
  const FeatureSpec hours = of_kind(FeatureKind::kSeason, baseline("hours", 1, 1, 2 * kHourMs, 3));
  const FeatureSpec middle = of_kind(FeatureKind::kRobust, baseline("middle", 1, 1, kHourMs, 10));
  FeatureSpec drift = of_kind(FeatureKind::kCusum, baseline("drift", 1, 1, kHourMs, 10));
  drift.accept_ms = 2 * kMinuteMs;
  const FeatureSpec shift = of_kind(FeatureKind::kCusum, baseline("shift", 0, 0, 6 * kHourMs, 5));
  FeatureSpec together = of_kind(FeatureKind::kCorrelation, velocity("together", 0, 1, {10 * kMinuteMs, kHourMs}));
  together.number_2 = 1;
  // The devices stand for names of metrics.
  FeatureSpec metrics = of_kind(FeatureKind::kCorrelation, velocity("metrics", 1, 0, {kHourMs}));
  metrics.other_key = 1;
  metrics.metrics = {"device1", "device2"};
  const auto first = static_cast<std::uint32_t>(options.features.size());
  options.features.insert(options.features.end(), {travel, pair, about, cards, shops, holders, sizes, levels, week,
                                                   hours, middle, drift, shift, together, metrics});
  options.deviations.push_back({first + 1, "rarity", DeviationMethod::kQuartiles});
  options.deviations.push_back({first, "speed_kmh", DeviationMethod::kEwma});
  options.deviations.push_back({first + 6, "p50_5m", DeviationMethod::kEwma});
  options.deviations.push_back({first + 13, "r_1h", DeviationMethod::kQuartiles});
  add_group_features(options);
  add_own_past_features(options);
  return options;
}

/// All state of a Driver, as a checkpoint would keep it.
struct Snapshot {
  struct Segment {
    std::size_t stage = 0;
    std::uint8_t group = 0;
    std::string bytes;
    bool operator==(const Segment&) const = default;
  };
  std::vector<Segment> segments;  // by stage and key group
  std::string baselines;
  std::int64_t last_tick = INT64_MIN;
};

/// Runs a plan with workers that own key groups, stretch by stretch, with its state at hand in between.
class Driver {
 public:
  /// `plan` must outlive the driver.
  Driver(const FeaturePlan& plan, std::size_t workers) : plan_(plan), workers_(workers), global_(plan) {
    for (std::size_t s = 0; s < plan.stages().size(); ++s) {
      for (std::size_t w = 0; w < workers; ++w) stages_.emplace_back(plan, s);
    }
  }

  KeyedStage& stage(std::size_t s, std::size_t worker) { return stages_[s * workers_ + worker]; }

  /// The columns of the events. A batch has `batch_size` events; ticks come by event time, every ten seconds.
  std::vector<std::vector<float>> run(const std::vector<TestEvent>& events, std::size_t batch_size = 100) {
    std::vector<std::vector<float>> rows;
    for (std::size_t begin = 0; begin < events.size(); begin += batch_size) {
      const auto end = static_cast<std::ptrdiff_t>(std::min(events.size(), begin + batch_size));
      const EventBatch batch =
          to_batch(plan_.options().layout, {events.begin() + static_cast<std::ptrdiff_t>(begin), events.begin() + end});
      FeatureMatrix out;
      out.reset(batch.rows(), plan_.columns().size());
      global_.begin_batch();
      std::vector<std::uint32_t> snapshots;
      for (const std::uint32_t row : batch.order) {
        // Before the event that moves it: a tick depends on event time only, not on where batches or runs end.
        const std::int64_t tick = batch.header(row).time_ms / (10 * kSecondMs);
        if (tick > last_tick_) global_.tick();
        last_tick_ = std::max(last_tick_, tick);
        snapshots.push_back(global_.add(batch, row));
      }
      for (std::size_t s = 0; s < plan_.stages().size(); ++s) {
        for (std::size_t w = 0; w < workers_; ++w) {
          std::vector<std::uint32_t> owned;
          for (const std::uint32_t row : batch.order) {
            if (batch.key(row, plan_.stages()[s]).group % workers_ == w) owned.push_back(row);
          }
          stage(s, w).process(batch, owned, global_, snapshots, out);
        }
      }
      for (const std::uint32_t row : batch.order) rows.emplace_back(out.row(row).begin(), out.row(row).end());
    }
    return rows;
  }

  Snapshot snapshot() const {
    Snapshot all;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      stages_[i].save_groups([&](std::uint8_t group, std::string bytes) {
        all.segments.push_back({i / workers_, group, std::move(bytes)});
      });
    }
    std::ranges::sort(all.segments, {}, [](const Snapshot::Segment& s) { return std::pair(s.stage, s.group); });
    all.baselines = global_.save();
    all.last_tick = last_tick_;
    return all;
  }

  /// Loads every segment at the worker that owns its group. Reports of the segments, in their order.
  std::vector<StateReport> restore(const Snapshot& all) {
    std::vector<StateReport> reports;
    for (const Snapshot::Segment& segment : all.segments) {
      auto loaded = stage(segment.stage, segment.group % workers_).load(segment.bytes);
      if (!loaded) throw std::runtime_error(loaded.error().message);
      reports.push_back(*std::move(loaded));
    }
    auto loaded = global_.load(all.baselines);
    if (!loaded) throw std::runtime_error(loaded.error().message);
    last_tick_ = all.last_tick;
    return reports;
  }

  std::size_t entities() const {
    std::size_t sum = 0;
    for (const KeyedStage& one : stages_) sum += one.entities();
    return sum;
  }
  std::size_t state_bytes() const {
    std::size_t sum = 0;
    for (const KeyedStage& one : stages_) sum += one.state_bytes();
    return sum;
  }

 private:
  const FeaturePlan& plan_;
  std::size_t workers_;
  GlobalBaselines global_;
  std::vector<KeyedStage> stages_;  // stage by stage, workers within
  std::int64_t last_tick_ = INT64_MIN;
};

}  // namespace alcedo::features::testing
