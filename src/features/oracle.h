// For tests only: every column recomputed from all the events that an entity ever had, straight from the definitions in
// docs/features.md, sharing no code with the stage.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "features/test_stream.h"

namespace alcedo::features::testing {

/// What a column should hold, and how far off a float may be.
struct Expected {
  double value = kMissing;
  double tolerance = 0;
};

class Oracle {
 public:
  explicit Oracle(const FeaturePlan& plan) : plan_(plan) {}

  /// Takes the event and says what its columns should hold, by name. `got` is what the stage wrote: deviations judge a
  /// column as it was written. `levels` are the global baselines, tested by themselves.
  std::map<std::string, Expected> add(const TestEvent& event, const std::vector<float>& got,
                                      const std::vector<GlobalBaselines::Level>& levels) {
    std::map<std::string, Expected> columns;
    metric_step_ = static_cast<double>(event.step);
    for (std::size_t key = 0; key < event.keys.size(); ++key) {
      if (event.keys[key].empty()) continue;
      Entity& entity = entities_[{key, event.keys[key]}];
      const bool first = entity.events.empty();
      const std::int64_t clock_before = entity.clock_ms;
      const bool in_order = first || event.time_ms >= clock_before;
      if (in_order) entity.clock_ms = event.time_ms;
      TestEvent seen = event;
      for (std::size_t n = 0; n < seen.numbers.size(); ++n) {
        if ((event.flags & kEventCounter) != 0)
          seen.numbers[n] = rate(entity.counters[n], event.numbers[n], event.time_ms);
      }
      for (std::size_t f = 0; f < plan_.options().features.size(); ++f) {
        const FeatureSpec& spec = plan_.options().features[f];
        if (static_cast<std::size_t>(spec.key) != key) continue;
        windows(spec, entity, seen, columns);
        if (spec.kind == FeatureKind::kVelocity) {
          const double gap = first || !in_order ? kMissing : static_cast<double>(event.time_ms - clock_before) / 1000;
          columns[spec.name + ".gap_s"] = {static_cast<float>(gap), 0};
        }
        if (spec.kind == FeatureKind::kBaseline) {
          const double x = seen.numbers[static_cast<std::size_t>(spec.number)];
          columns[spec.name + ".seen"] = {static_cast<float>(x), 0};
        }
      }
      for (std::size_t d = 0; d < plan_.deviations().size(); ++d) {
        const Deviation& deviation = plan_.deviations()[d];
        const FeatureSpec& spec = plan_.options().features[deviation.feature];
        if (static_cast<std::size_t>(spec.key) != key) continue;
        const bool raw = spec.kind == FeatureKind::kBaseline;
        const double x =
            raw ? seen.numbers[static_cast<std::size_t>(spec.number)] : static_cast<double>(got[deviation.seen]);
        deviate(deviation, spec, entity.histories[d], x, entity.clock_ms, in_order, levels[deviation.feature], columns);
      }
      entity.events.push_back(seen);
    }
    return columns;
  }

 private:
  struct Counter {
    double value = 0;
    std::int64_t time_ms = 0;
    bool known = false;
  };
  struct Learned {
    std::int64_t time_ms;
    double x;
    double weight;
  };
  struct History {
    std::vector<Learned> values;  // that the decayed mean is made of
    double old_spread = 0;        // variance kept from before a new level, decaying since
    std::int64_t old_spread_ms = 0;
    std::vector<double> pending;
    std::int64_t pending_since_ms = 0;
    std::uint32_t history = 0;
    std::vector<double> all;  // for quartiles
  };
  struct Entity {
    std::int64_t clock_ms = 0;
    std::vector<TestEvent> events;
    std::map<std::size_t, Counter> counters;
    std::map<std::size_t, History> histories;
  };

  static double rate(Counter& last, double value, std::int64_t time_ms) {
    if (std::isnan(value) || (last.known && time_ms < last.time_ms)) return kMissing;
    double answer = kMissing;
    if (last.known && time_ms > last.time_ms) {
      const double seconds = static_cast<double>(time_ms - last.time_ms) / 1000;
      answer = (value >= last.value ? value - last.value : value) / seconds;
    }
    last = {value, time_ms, true};
    return answer;
  }

  void windows(const FeatureSpec& spec, const Entity& entity, const TestEvent& seen,
               std::map<std::string, Expected>& columns) const {
    std::vector<double> counts;
    for (const std::int64_t window : spec.windows_ms) {
      const auto grain = static_cast<double>(window / 60);
      const double newest = std::floor(static_cast<double>(entity.clock_ms) / grain);
      std::vector<double> in;
      double largest = 0;  // ever: rounding is relative to what went through
      const auto take = [&](const TestEvent& event) {
        const double x = spec.number < 0 ? 0 : event.numbers[static_cast<std::size_t>(spec.number)];
        if (std::isnan(x)) return;
        largest = std::max(largest, std::fabs(x));
        const double bucket = std::floor(static_cast<double>(event.time_ms) / grain);
        if (bucket > newest - 60 && bucket <= newest) in.push_back(x);
      };
      for (const TestEvent& event : entity.events) take(event);
      if (spec.including) take(seen);
      const auto n = static_cast<double>(in.size());
      counts.push_back(n);
      const std::string w = format_duration(window);
      bool whole = true;
      long double sum = 0;
      for (const double x : in) {
        sum += x;
        whole &= x == std::floor(x);
      }
      const double off = whole ? 0 : 1e-6 * std::fabs(static_cast<double>(sum)) + 1e-11 * largest;
      const auto name = [&](const std::string& stat) { return spec.name + "." + stat + "_" + w; };
      if (spec.kind == FeatureKind::kVelocity) {
        columns[name("events")] = {n, 0};
        if (spec.number >= 0) columns[name("amount")] = {static_cast<float>(sum), off};
      }
      if (spec.kind != FeatureKind::kRolling) continue;
      columns[name("count")] = {n, 0};
      columns[name("sum")] = {static_cast<float>(sum), off};
      for (const char* stat : {"mean", "std", "min", "max"}) columns[name(stat)] = {};
      if (in.empty()) continue;
      const double mean = static_cast<double>(sum / n);
      long double squares = 0;
      for (const double x : in) squares += (x - static_cast<long double>(mean)) * (x - static_cast<long double>(mean));
      const double std = std::sqrt(static_cast<double>(squares / n));
      columns[name("mean")] = {mean, 1e-7 * std::fabs(mean) + 1e-11 * largest};
      columns[name("std")] = {std, 1e-6 * std + 1e-7 * largest};
      columns[name("min")] = {static_cast<float>(*std::min_element(in.begin(), in.end())), 0};
      columns[name("max")] = {static_cast<float>(*std::max_element(in.begin(), in.end())), 0};
    }
    if (spec.kind != FeatureKind::kVelocity) return;
    const auto ratio = [&](std::size_t a, std::size_t b) {
      const double per_short = counts[a] / static_cast<double>(spec.windows_ms[a]);
      const double per_long = (counts[b] + 1) / static_cast<double>(spec.windows_ms[b]);
      columns[spec.name + ".ratio_" + format_duration(spec.windows_ms[a]) + "_" + format_duration(spec.windows_ms[b])] =
          {per_short / per_long, 1e-6 * per_short / per_long};
    };
    for (std::size_t i = 0; i + 1 < counts.size(); ++i) ratio(i, i + 1);
    if (counts.size() > 2) ratio(0, counts.size() - 1);
  }

  static double quantile(std::vector<double> values, double p) {
    std::sort(values.begin(), values.end());
    const double place = p * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(std::floor(place));
    const auto above = static_cast<std::size_t>(std::ceil(place));
    return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
  }

  // A mean or an extreme moves as the number itself does, so the event's own step is its step too.
  static bool in_unit_of_number(const Deviation& deviation, const FeatureSpec& spec) {
    const auto has = [&](const char* what) { return deviation.name.find(what) != std::string::npos; };
    if (spec.kind == FeatureKind::kBaseline) return true;
    return spec.kind == FeatureKind::kRolling && (has(".mean_") || has(".min_") || has(".max_") || has(".std_"));
  }

  // Whole steps: counts and minor units of money; for a ratio, what one event makes of it.
  double step(const Deviation& deviation, const FeatureSpec& spec) const {
    const bool money = spec.number >= 0 && plan_.options().layout.numbers[static_cast<std::size_t>(spec.number)].money;
    const auto has = [&](const char* what) { return deviation.name.find(what) != std::string::npos; };
    if (has(".events_") || has(".count_")) return 1;
    for (const std::int64_t a : spec.windows_ms) {
      for (const std::int64_t b : spec.windows_ms) {
        const std::string name = spec.name + ".ratio_" + format_duration(a) + "_" + format_duration(b);
        if (deviation.name == name) return static_cast<double>(b) / static_cast<double>(a) / 2;
      }
    }
    if (spec.kind == FeatureKind::kBaseline || has(".amount_") || has(".sum_") || has(".min_") || has(".max_"))
      return money ? 1 : 0;
    return 0;
  }

  static double clamped(double z) { return std::isnan(z) ? z : std::clamp(z, -1e6, 1e6); }

  void deviate(const Deviation& deviation, const FeatureSpec& spec, History& history, double x, std::int64_t clock_ms,
               bool in_order, const GlobalBaselines::Level& level, std::map<std::string, Expected>& columns) const {
    const bool quartiles = deviation.method == DeviationMethod::kQuartiles;
    const std::string prefix = deviation.name + (quartiles ? ".iqr" : "");
    const double whole_step = std::max(step(deviation, spec), in_unit_of_number(deviation, spec) ? metric_step_ : 0.0);
    const auto with_floor = [&](double spread, double center) {
      return std::sqrt(spread * spread + 1e-6 * center * center + whole_step * whole_step / 12 + 1e-24);
    };
    double expected = kMissing, spread = kMissing, z = kMissing, own_z = kMissing;
    double mean = 0, weight = 0, squares = 0;
    std::uint32_t seen = quartiles ? static_cast<std::uint32_t>(history.all.size()) : history.history;
    const auto beyond = [&](double low, double high) { return x > high ? x - high : x < low ? x - low : x - x; };
    if (quartiles && !history.all.empty()) {
      const std::size_t kept = std::min<std::size_t>(64, history.all.size());
      const std::vector<double> last(history.all.end() - static_cast<std::ptrdiff_t>(kept), history.all.end());
      expected = quantile(last, 0.5);
      spread = with_floor(quantile(last, 0.75) - quantile(last, 0.25), expected);
      own_z = clamped(beyond(quantile(last, 0.25), quantile(last, 0.75)) / spread);
    } else if (!quartiles && !history.values.empty()) {
      const auto decay = [&](std::int64_t since_ms) {
        return std::exp2(-static_cast<double>(clock_ms - since_ms) / static_cast<double>(spec.half_life_ms));
      };
      for (const Learned& v : history.values) {
        weight += v.weight * decay(v.time_ms);
        mean += v.weight * decay(v.time_ms) * v.x;
      }
      if (in_order && weight < 1e-6) {  // forgotten
        history = History{.all = history.all};
        weight = mean = 0;
      }
      if (weight > 0) mean /= weight;
      seen = history.history;
      squares = history.old_spread * decay(history.old_spread_ms);
      for (const Learned& v : history.values) squares += v.weight * decay(v.time_ms) * (v.x - mean) * (v.x - mean);
      if (weight > 0) {
        expected = mean;
        spread = with_floor(std::sqrt(squares / weight * (1 + 1 / weight)), mean);
        own_z = clamped((x - mean) / spread);
      }
    }
    if (seen < spec.min_history) own_z = kMissing;
    z = own_z;
    if (spec.kind == FeatureKind::kBaseline && seen < spec.min_history && level.count >= 100) {
      expected = level.location;
      spread = with_floor(quartiles ? 1.349 * level.spread : level.spread, level.location);
      const double half = 1.349 * level.spread / 2;
      z = clamped((quartiles ? beyond(level.location - half, level.location + half) : x - level.location) / spread);
    }
    const double near = 1e-5;
    columns[prefix + ".expected"] = {expected, near * (std::fabs(expected) + spread)};
    columns[prefix + ".spread"] = {spread, near * spread};
    columns[prefix + ".z"] = {z, near * (1 + std::fabs(z) + (spread > 0 ? std::fabs(expected) / spread : 0))};
    columns[prefix + ".history"] = {static_cast<double>(seen), 0};
    if (!in_order || std::isnan(x)) return;
    history.all.push_back(x);
    const bool deviates = std::fabs(own_z) > 4;
    if (deviates) {
      if (history.pending.empty()) history.pending_since_ms = clock_ms;
      history.pending.push_back(x);
      const std::int64_t accept_ms = spec.accept_ms > 0 ? spec.accept_ms : spec.half_life_ms / 8;
      if (history.pending.size() > 1 && clock_ms - history.pending_since_ms >= accept_ms) {
        ++accepted;
        history.old_spread = squares / weight;
        history.old_spread_ms = clock_ms;
        history.values.clear();
        for (const double value : history.pending) history.values.push_back({clock_ms, value, 1});
        history.history = std::max(spec.min_history, static_cast<std::uint32_t>(history.pending.size()));
        history.pending.clear();
        return;
      }
    } else {
      history.pending.clear();
    }
    slow += deviates ? 1 : 0;
    history.values.push_back({clock_ms, x, deviates ? 0.1 : 1.0});
    ++history.history;
  }

  const FeaturePlan& plan_;
  double metric_step_ = 0;  // of the event at hand
  std::map<std::pair<std::size_t, std::string>, Entity> entities_;

 public:
  mutable std::size_t accepted = 0;  // new levels, so that a test can see that its stream had some
  mutable std::size_t slow = 0;      // values learned slowly
};

}  // namespace alcedo::features::testing
