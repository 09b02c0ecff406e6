// For tests only: the decayed level of docs/features.md and a stage's columns, recomputed from every value that was
// ever learned, sharing no code with the operators.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "features/oracle_tally.h"
#include "features/test_stream.h"

namespace alcedo::features::testing {

/// Decayed mean and variance with slow learning, pending levels and forgetting.
struct NaiveLevel {
  struct Value {
    std::int64_t time_ms;
    double x;
    double weight;
  };
  std::int64_t half_life_ms = 1;
  std::int64_t accept_ms = 1;
  std::uint32_t min_history = 1;
  std::vector<Value> values;
  double old_variance = 0;
  std::int64_t old_variance_ms = 0;
  std::vector<double> pending;
  std::int64_t pending_since_ms = 0;
  std::uint32_t history = 0;

  double decay(std::int64_t from_ms, std::int64_t to_ms) const {
    return std::exp2(-static_cast<double>(to_ms - from_ms) / static_cast<double>(half_life_ms));
  }
  double weight(std::int64_t now_ms) const {
    double sum = 0;
    for (const Value& v : values) sum += v.weight * decay(v.time_ms, now_ms);
    return sum;
  }
  double mean(std::int64_t now_ms) const {
    double sum = 0;
    for (const Value& v : values) sum += v.weight * decay(v.time_ms, now_ms) * v.x;
    return sum / weight(now_ms);
  }
  double variance(std::int64_t now_ms) const {
    const double center = mean(now_ms);
    double sum = old_variance * decay(old_variance_ms, now_ms);
    for (const Value& v : values) sum += v.weight * decay(v.time_ms, now_ms) * (v.x - center) * (v.x - center);
    return sum / weight(now_ms);
  }
  /// Whether there was something to forget, and it is forgotten.
  bool forget(std::int64_t now_ms) {
    if (values.empty() || weight(now_ms) >= 1e-6) return false;
    values.clear();
    pending.clear();
    old_variance = 0;
    history = 0;
    return true;
  }
  /// Whether a new level was accepted.
  bool learn(double x, bool deviates, std::int64_t now_ms) {
    if (!deviates) {
      pending.clear();
    } else {
      if (pending.empty()) pending_since_ms = now_ms;
      pending.push_back(x);
      if (pending.size() > 1 && now_ms - pending_since_ms >= accept_ms) {
        old_variance = variance(now_ms);
        old_variance_ms = now_ms;
        values.clear();
        for (const double one : pending) values.push_back({now_ms, one, 1});
        history = std::max(min_history, static_cast<std::uint32_t>(pending.size()));
        pending.clear();
        return true;
      }
    }
    values.push_back({now_ms, x, deviates ? 0.1 : 1.0});
    ++history;
    return false;
  }
};

inline double naive_floor(double level, double step) { return 1e-6 * level * level + step * step / 12 + 1e-24; }

/// What a column should hold, and how far off a float may be.
struct ExpectedColumn {
  std::string name;
  double value = kMissing;
  double tolerance = 0;
};

/// An entity's answer to one event. `now_ms` is its clock after the event.
template <typename Entity>
using Answer = std::function<std::vector<ExpectedColumn>(Entity&, const TestEvent&, double x, double step,
                                                         std::int64_t now_ms, bool in_order)>;

struct ColumnTally {
  std::size_t compared = 0;
  std::size_t present = 0;  // of these, not missing
  std::size_t wrong = 0;
};

/// Runs the plan's one feature and compares every column of every event. The first mismatches are printed.
template <typename Entity>
void compare_columns(const FeaturePlan& plan, const std::vector<TestEvent>& events, const Answer<Entity>& answer,
                     ColumnTally& tally) {
  const FeatureSpec& spec = plan.options().features[0];
  const bool money = plan.options().layout.numbers[static_cast<std::size_t>(spec.number)].money;
  struct Seen {
    Entity entity;
    bool started = false;
    std::int64_t clock_ms = 0;
  };
  std::map<std::string, Seen> entities;
  const RunResult result = run(plan, events, {.batch_size = 100});
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::string& key = events[i].keys[static_cast<std::size_t>(spec.key)];
    if (key.empty()) continue;
    Seen& seen = entities[key];
    const bool in_order = !seen.started || events[i].time_ms >= seen.clock_ms;
    if (in_order) seen.clock_ms = events[i].time_ms;
    seen.started = true;
    const double step = std::max(money ? 1.0 : 0.0, static_cast<double>(events[i].step));
    const double x = events[i].numbers[static_cast<std::size_t>(spec.number)];
    for (const ExpectedColumn& column : answer(seen.entity, events[i], x, step, seen.clock_ms, in_order)) {
      const int at = plan.find_column(spec.name + "." + column.name);
      const double got = at < 0 ? -12345 : static_cast<double>(result.rows[i][static_cast<std::size_t>(at)]);
      ++tally.compared;
      tally.present += std::isnan(column.value) ? 0 : 1;
      const bool right = std::isnan(column.value)
                             ? std::isnan(got)
                             : std::fabs(got - column.value) <= column.tolerance + 1e-6 * std::fabs(column.value);
      if (OracleTally::count(right)) continue;
      if (++tally.wrong <= 5)
        std::cout << "event " << i << " " << key << " " << column.name << ": " << got << ", expected " << column.value
                  << "\n";
    }
  }
}

/// Levels by device with hours, gaps of days, late and missing values, new levels for a while.
inline std::vector<TestEvent> make_hourly_stream(std::uint64_t seed, std::size_t events) {
  auto stream = make_stream(seed, {.events = events,
                                   .cards = 6,
                                   .devices = 4,
                                   .step_ms = 600'000,
                                   .late_share = 0.1,
                                   .late_max_ms = 9 * kHourMs,
                                   .gap_every = 1100});
  for (TestEvent& event : stream) {
    const std::int64_t hour = event.time_ms / kHourMs % 24;
    if (hour >= 7 && hour < 18) event.numbers[1] += 60;
  }
  return stream;
}

/// One feature of a number by a key, its deviation asked for by name.
inline FeaturePlan plan_of(FeatureSpec spec, bool money = false) {
  auto plan = FeaturePlan::compile({test_layout(money), {std::move(spec)}, {}});
  if (!plan) std::cout << plan.error().message << "\n";
  return *std::move(plan);
}

/// Events whose columns differ in any bit between batches and workers of any size.
inline std::size_t differing_cuts(const FeaturePlan& plan, const std::vector<TestEvent>& events) {
  const RunResult whole = run(plan, events, {});
  std::size_t differing = 0;
  for (const RunOptions& cut : {RunOptions{.batch_size = 1}, RunOptions{.batch_size = 7}, RunOptions{.batch_size = 33},
                                RunOptions{.batch_size = 500, .workers = 3}}) {
    const RunResult parts = run(plan, events, cut);
    for (std::size_t i = 0; i < events.size(); ++i) differing += same_bits(whole.rows[i], parts.rows[i]) ? 0 : 1;
  }
  return differing;
}

}  // namespace alcedo::features::testing
