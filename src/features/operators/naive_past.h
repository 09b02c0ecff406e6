// For tests only: the surprise column recomputed from the deviations that its operator wrote, by a count of all of
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "features/operators/naive_level.h"

namespace alcedo::features::testing {

/// Compares FEATURE.surprise of every event with the decayed share of the entity's earlier |FEATURE.`deviation`| that
/// stand in the same cell or above. How many were present; a test fails for each that is wrong.
inline std::size_t compare_surprises(const FeatureSpec& spec, const std::string& deviation,
                                     const std::vector<TestEvent>& events) {
  const FeaturePlan plan = plan_of(spec);
  const auto at = [&](const std::string& name) {
    return static_cast<std::size_t>(plan.find_column(spec.name + "." + name));
  };
  const auto cell_of = [](double x) { return x < 1e-4 ? 0 : std::min(399.0, std::floor((std::log10(x) + 4) * 40)); };
  struct Learned {
    std::int64_t time_ms;
    double cell;
  };
  struct Entity {
    std::vector<Learned> learned;
    std::int64_t clock_ms = INT64_MIN;
  };
  std::map<std::string, Entity> entities;
  const RunResult result = run(plan, events, {.batch_size = 100});
  std::size_t present = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::string& key = events[i].keys[static_cast<std::size_t>(spec.key)];
    if (key.empty()) continue;
    Entity& entity = entities[key];
    const bool in_order = events[i].time_ms >= entity.clock_ms;
    entity.clock_ms = std::max(entity.clock_ms, events[i].time_ms);
    const auto far = std::fabs(static_cast<double>(result.rows[i][at(deviation)]));
    const auto got = static_cast<double>(result.rows[i][at("surprise")]);
    if (std::isnan(far) || entity.learned.size() < spec.min_history) {
      EXPECT_TRUE(OracleTally::count(std::isnan(got))) << "event " << i << " " << key << ": " << got;
    } else {
      double as_much = 1;
      double all = 1;
      for (const Learned& one : entity.learned) {
        const double weight = std::exp2(-static_cast<double>(entity.clock_ms - one.time_ms) /
                                        (4 * static_cast<double>(spec.half_life_ms)));
        all += weight;
        if (one.cell >= cell_of(far)) as_much += weight;
      }
      const double expected = -std::log10(as_much / all);
      EXPECT_TRUE(OracleTally::count(std::fabs(got - expected) <= 1e-4))
          << "event " << i << " " << key << ": " << got << ", expected " << expected;
      ++present;
    }
    if (in_order && !std::isnan(far)) entity.learned.push_back({events[i].time_ms, cell_of(far)});
  }
  return present;
}

}  // namespace alcedo::features::testing
