// Checks what a pipeline asks for and names every column, once, before any event.
#include "features/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "core/check.h"
#include "core/time.h"
#include "features/event_columns.h"
#include "features/operators/operator.h"
#include "features/stage_program.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

Result<> check_windows(const FeatureSpec& spec) {
  if (spec.windows_ms.empty()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("feature '{}': no windows; expected one or more, such as 1m", spec.name));
  }
  for (std::size_t i = 0; i < spec.windows_ms.size(); ++i) {
    const std::int64_t window = spec.windows_ms[i];
    if (window <= 0 || window % kBuckets != 0) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("feature '{}': a window of {} ms; expected a positive multiple of 60 ms", spec.name, window));
    }
    if (i > 0 && window <= spec.windows_ms[i - 1]) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("feature '{}': windows must ascend, but {} follows {}", spec.name,
                               format_duration(window), format_duration(spec.windows_ms[i - 1])));
    }
  }
  return {};
}

Result<> check_feature(const FeatureSpec& spec, const EventLayout& layout) {
  const auto wrong = [&](std::string what) {
    return error(ErrorCode::kInvalidArgument, fmt::format("feature '{}': {}", spec.name, what));
  };
  if (spec.name.empty() || spec.name.find('.') != std::string::npos)
    return wrong("a name must not be empty or hold a '.'");
  if (is_of_event(spec.kind)) {
    if (spec.kind == FeatureKind::kValue && spec.numbers.empty()) return wrong("no numbers; expected one or more");
    for (const int number : spec.numbers) {
      if (auto mistake = slot_mistake("number", number, layout.numbers.size()); !mistake.empty())
        return wrong(std::move(mistake));
    }
    if (std::set<int>(spec.numbers.begin(), spec.numbers.end()).size() != spec.numbers.size())
      return wrong("a number is listed twice");
    return {};
  }
  if (spec.key < 0 || static_cast<std::size_t>(spec.key) >= layout.keys.size()) {
    return wrong(fmt::format("key slot {} does not exist; there are {}", spec.key, layout.keys.size()));
  }
  if (has_operator(spec.kind)) {
    if (spec.half_life_ms <= 0) return wrong("half_life must be more than 0");
    if (spec.accept_ms < 0) return wrong("accept must not be less than 0");
    if (spec.min_history < 1) return wrong("min_history must be at least 1");
    if (auto mistake = operator_mistake(spec, layout); !mistake.empty()) return wrong(std::move(mistake));
    return spec.windows_ms.empty() ? Result<>() : check_windows(spec);
  }
  const bool counts_only = spec.kind == FeatureKind::kVelocity && spec.number == -1;
  if (!counts_only && (spec.number < 0 || static_cast<std::size_t>(spec.number) >= layout.numbers.size())) {
    return wrong(fmt::format("number slot {} does not exist; there are {}", spec.number, layout.numbers.size()));
  }
  if (spec.half_life_ms <= 0) return wrong("half_life must be more than 0");
  if (spec.accept_ms < 0) return wrong("accept must not be less than 0");
  if (spec.min_history < 1) return wrong("min_history must be at least 1");
  if (spec.kind == FeatureKind::kBaseline) return {};
  if (spec.kind == FeatureKind::kRolling) {
    if (spec.stats.empty()) return wrong("no stats; expected one or more of count, sum, mean, std, min, max");
    const std::set<Stat> distinct(spec.stats.begin(), spec.stats.end());
    if (distinct.size() != spec.stats.size()) return wrong("a stat is listed twice");
  }
  return check_windows(spec);
}

// A deviation whose columns an operator writes; they exist.
struct OperatorDeviation {
  std::string name;
  std::string seen, expected, spread, z, history;
  DeviationMethod method = DeviationMethod::kEwma;
};

// Where a stage is keyed by something else than who is judged, its own histories would mix all of them: there the
// operator has the columns of both methods, or of a column of its own ("r_1h", "r_1h.z").
std::vector<OperatorDeviation> operator_deviations(const FeaturePlan& plan, const FeatureSpec& spec,
                                                   const std::vector<std::uint32_t>& columns) {
  const std::string own = spec.name + ".";
  if (spec.kind == FeatureKind::kPeers) {
    const std::string of = own + "expected";
    const std::string members = own + "members";
    return {{spec.name, own + "seen", of, own + "spread", own + "z", members, DeviationMethod::kEwma},
            {spec.name, own + "seen", of, own + "iqr.spread", own + "iqr.z", members, DeviationMethod::kQuartiles}};
  }
  if (judges_its_number(spec.kind)) {
    const std::string middle = own + (spec.kind == FeatureKind::kRobust ? "median" : "expected");
    return {{spec.name, own + "seen", middle, own + "spread", own + "z", own + "history", DeviationMethod::kEwma}};
  }
  std::vector<OperatorDeviation> all;
  for (const std::uint32_t column : columns) {
    const std::string& name = plan.columns()[column].name;
    if (plan.find_column(name + ".z") < 0) continue;
    all.push_back({name, name, name + ".expected", name + ".spread", name + ".z", name + ".history"});
  }
  return all;
}

}  // namespace

std::vector<std::pair<std::size_t, std::size_t>> ratio_windows(const FeatureSpec& spec) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i + 1 < spec.windows_ms.size(); ++i) pairs.emplace_back(i, i + 1);
  if (spec.windows_ms.size() > 2) pairs.emplace_back(0, spec.windows_ms.size() - 1);
  return pairs;
}

std::string stat_column(const FeatureSpec& spec, Stat stat, std::int64_t window_ms) {
  return fmt::format("{}.{}_{}", spec.name, kStatNames[static_cast<std::size_t>(stat)], format_duration(window_ms));
}

std::string velocity_column(const FeatureSpec& spec, std::string_view what, std::int64_t window_ms) {
  return fmt::format("{}.{}_{}", spec.name, what, format_duration(window_ms));
}

std::string ratio_column(const FeatureSpec& spec, std::int64_t short_ms, std::int64_t long_ms) {
  return fmt::format("{}.ratio_{}_{}", spec.name, format_duration(short_ms), format_duration(long_ms));
}

Result<FeaturePlan> FeaturePlan::compile(FeatureOptions options) {
  FeaturePlan plan;
  plan.options_ = std::move(options);
  const auto& features = plan.options_.features;

  std::set<std::string> names;
  std::set<std::uint32_t> keys;
  for (const FeatureSpec& spec : features) {
    if (auto checked = check_feature(spec, plan.options_.layout); !checked) return std::unexpected(checked.error());
    if (!names.insert(spec.name).second) {
      return error(ErrorCode::kInvalidArgument, fmt::format("feature '{}': the name is used twice", spec.name));
    }
    if (!is_of_event(spec.kind)) keys.insert(static_cast<std::uint32_t>(spec.key));
  }
  plan.stages_.assign(keys.begin(), keys.end());

  const auto add_column = [&](std::string name, std::uint32_t feature) {
    plan.columns_.push_back({std::move(name), feature});
    return static_cast<std::uint32_t>(plan.columns_.size() - 1);
  };
  // `prefix` names the deviation's columns; `seen` exists.
  const auto add_deviation = [&](std::uint32_t request, std::uint32_t feature, std::string name, DeviationMethod method,
                                 std::uint32_t seen) {
    const std::string prefix = method == DeviationMethod::kEwma ? name : name + ".iqr";
    Deviation d;
    d.request = request;
    d.feature = feature;
    d.name = std::move(name);
    d.method = method;
    d.seen = seen;
    d.expected = add_column(prefix + ".expected", feature);
    d.spread = add_column(prefix + ".spread", feature);
    d.z = add_column(prefix + ".z", feature);
    d.history = add_column(prefix + ".history", feature);
    d.min_history = features[feature].min_history;
    plan.deviations_.push_back(std::move(d));
    return static_cast<std::uint32_t>(plan.deviations_.size() - 1);
  };

  std::vector<std::vector<std::uint32_t>> own(features.size());  // a feature's columns, before deviations
  std::map<std::pair<std::uint32_t, DeviationMethod>, std::uint32_t> deviation_of;  // by seen column
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    const FeatureSpec& spec = features[f];
    if (has_operator(spec.kind)) {
      for (const OperatorColumn& column : operator_columns(spec)) {
        const std::uint32_t at = add_column(spec.name + "." + column.name, f);
        if (column.name.find('.') == std::string::npos) own[f].push_back(at);
      }
      for (const OperatorDeviation& written : operator_deviations(plan, spec, own[f])) {
        const auto column = [&](const std::string& name) {
          const int at = plan.find_column(name);
          CHECK(at >= 0);
          return static_cast<std::uint32_t>(at);
        };
        Deviation d;
        d.request = kNoRequest;
        d.feature = f;
        d.name = written.name;
        d.method = written.method;
        d.seen = column(written.seen);
        d.expected = column(written.expected);
        d.spread = column(written.spread);
        d.z = column(written.z);
        d.history = column(written.history);
        d.min_history = spec.min_history;
        d.by_operator = true;
        deviation_of[{d.seen, d.method}] = static_cast<std::uint32_t>(plan.deviations_.size());
        plan.deviations_.push_back(std::move(d));
        if (judges_its_number(spec.kind)) own[f] = {column(written.seen)};
      }
      continue;
    }
    switch (spec.kind) {
      case FeatureKind::kRolling:
        for (const Stat stat : spec.stats) {
          for (const std::int64_t window : spec.windows_ms)
            own[f].push_back(add_column(stat_column(spec, stat, window), f));
        }
        break;
      case FeatureKind::kVelocity:
        for (const std::int64_t window : spec.windows_ms)
          own[f].push_back(add_column(velocity_column(spec, "events", window), f));
        if (spec.number >= 0) {
          for (const std::int64_t window : spec.windows_ms) {
            own[f].push_back(add_column(velocity_column(spec, "amount", window), f));
          }
        }
        for (const auto& [a, b] : ratio_windows(spec)) {
          own[f].push_back(add_column(ratio_column(spec, spec.windows_ms[a], spec.windows_ms[b]), f));
        }
        own[f].push_back(add_column(spec.name + ".gap_s", f));
        break;
      case FeatureKind::kBaseline: {
        const std::uint32_t seen = add_column(spec.name + ".seen", f);
        own[f].push_back(seen);
        deviation_of[{seen, DeviationMethod::kEwma}] =
            add_deviation(kNoRequest, f, spec.name, DeviationMethod::kEwma, seen);
        break;
      }
      case FeatureKind::kValue:
      case FeatureKind::kCalendar:
        for (const std::string& name : event_column_names(spec, plan.options_.layout))
          add_column(spec.name + "." + name, f);
        break;
      default:
        break;
    }
  }

  plan.by_request_.resize(plan.options_.deviations.size());
  for (std::uint32_t r = 0; r < plan.options_.deviations.size(); ++r) {
    const DeviationRequest& request = plan.options_.deviations[r];
    if (request.feature >= features.size()) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("a deviation of feature {}; there are {}", request.feature, features.size()));
    }
    const FeatureSpec& spec = features[request.feature];
    if (is_of_event(spec.kind)) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("feature '{}': it is of each event alone and has no history to deviate from", spec.name));
    }
    bool found = false;
    for (const std::uint32_t seen : own[request.feature]) {
      const std::string name = judges_its_number(spec.kind) ? spec.name : plan.columns_[seen].name;
      if (!request.column.empty() && name != spec.name + "." + request.column) continue;
      found = true;
      auto [at, is_new] = deviation_of.try_emplace({seen, request.method}, 0);
      if (is_new) at->second = add_deviation(r, request.feature, name, request.method, seen);
      Deviation& deviation = plan.deviations_[at->second];
      if (deviation.request == kNoRequest) deviation.request = r;
      plan.by_request_[r].push_back(at->second);
    }
    if (!found) {
      std::string known;
      for (const std::uint32_t column : own[request.feature]) {
        if (judges_its_number(spec.kind)) break;
        known += (known.empty() ? "" : ", ") + plan.columns_[column].name.substr(spec.name.size() + 1);
      }
      return error(ErrorCode::kInvalidArgument,
                   judges_its_number(spec.kind)
                       ? fmt::format("feature '{}': no column '{}'; {} is asked for by its name alone", spec.name,
                                     request.column, spec.kind == FeatureKind::kBaseline ? "a baseline" : "it")
                       : fmt::format("feature '{}': no column '{}'; it has {}", spec.name, request.column, known));
    }
  }
  return plan;
}

int FeaturePlan::find_column(std::string_view name) const {
  const auto at =
      std::find_if(columns_.begin(), columns_.end(), [&](const Column& column) { return column.name == name; });
  return at == columns_.end() ? -1 : static_cast<int>(at - columns_.begin());
}

std::size_t FeaturePlan::state_bytes_per_entity(std::size_t stage) const {
  std::size_t bytes = estimated_entity_bytes(compile_stage(*this, stage));
  // Of what operators keep beside the record only a past of values weighs more than all else.
  for (const FeatureSpec& spec : options_.features) {
    const bool here = static_cast<std::uint32_t>(spec.key) == stages_[stage];
    if (here && spec.kind == FeatureKind::kDiscord) bytes += spec.past_values * sizeof(float);
  }
  return bytes;
}

}  // namespace alcedo::features
