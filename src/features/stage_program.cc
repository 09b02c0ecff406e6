// Lays out an entity's record: only what the plan reads takes memory, and features of the same number share their
// windows.
#include "features/stage_program.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/check.h"
#include "features/operators/operator.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

template <typename T>
std::uint32_t index_of(std::vector<T>& values, T value) {
  const auto at = std::find(values.begin(), values.end(), value);
  if (at != values.end()) return static_cast<std::uint32_t>(at - values.begin());
  values.push_back(value);
  return static_cast<std::uint32_t>(values.size() - 1);
}

RingKind kind_of(Stat stat) {
  switch (stat) {
    case Stat::kCount:
      return RingKind::kCount;
    case Stat::kSum:
    case Stat::kMean:
      return RingKind::kSum;
    case Stat::kStd:
    case Stat::kMin:
    case Stat::kMax:
      return RingKind::kMoments;
  }
  return RingKind::kMoments;
}

RingKind kind_of(const FeatureSpec& spec) {
  if (spec.kind == FeatureKind::kVelocity) return spec.number < 0 ? RingKind::kCount : RingKind::kSum;
  RingKind kind = RingKind::kCount;
  for (const Stat stat : spec.stats) kind = std::max(kind, kind_of(stat));
  return kind;
}

std::size_t ring_bytes(RingKind kind) {
  if (kind == RingKind::kCount) return sizeof(Ring<CountTotals>);
  return kind == RingKind::kSum ? sizeof(Ring<SumTotals>) : sizeof(Ring<MomentTotals>);
}

std::size_t bucket_bytes(RingKind kind) {
  if (kind == RingKind::kCount) return sizeof(CountTotals);
  return kind == RingKind::kSum ? sizeof(SumTotals) : sizeof(MomentTotals);
}

std::uint32_t column(const FeaturePlan& plan, const std::string& name) {
  const int at = plan.find_column(name);
  CHECK(at >= 0);
  return static_cast<std::uint32_t>(at);
}

std::uint32_t ring_of(const NumberRings& rings, std::int64_t window_ms) {
  const auto at =
      std::find_if(rings.rings.begin(), rings.rings.end(), [&](const auto& w) { return w.window_ms == window_ms; });
  CHECK(at != rings.rings.end());
  return static_cast<std::uint32_t>(at - rings.rings.begin());
}

// The least step between two values of a column: counts and minor units of money are whole; a ratio moves by what one
// event makes of it in an idle entity. 0: none is known.
double step_of(const FeaturePlan& plan, const Deviation& deviation) {
  const FeatureSpec& spec = plan.options().features[deviation.feature];
  const bool money = spec.number >= 0 && plan.options().layout.numbers[static_cast<std::size_t>(spec.number)].money;
  if (judges_its_number(spec.kind)) return money ? 1 : 0;
  if (has_operator(spec.kind)) {
    for (const OperatorColumn& column : operator_columns(spec)) {
      if (deviation.name == spec.name + "." + column.name) return column.step;
    }
    return 0;
  }
  for (const std::int64_t window : spec.windows_ms) {
    if (deviation.name == stat_column(spec, Stat::kCount, window)) return 1;
    if (deviation.name == velocity_column(spec, "events", window)) return 1;
    for (const Stat stat : {Stat::kSum, Stat::kMin, Stat::kMax}) {
      if (money && deviation.name == stat_column(spec, stat, window)) return 1;
    }
    if (money && deviation.name == velocity_column(spec, "amount", window)) return 1;
  }
  for (const auto& [a, b] : ratio_windows(spec)) {
    const std::int64_t short_ms = spec.windows_ms[a];
    const std::int64_t long_ms = spec.windows_ms[b];
    if (deviation.name != ratio_column(spec, short_ms, long_ms)) continue;
    return 0.5 * static_cast<double>(long_ms) / static_cast<double>(short_ms);
  }
  return 0;
}

// Whether the column moves as the number itself does: a mean does, a count or a sum does not.
bool in_unit_of_number(const FeatureSpec& spec, const Deviation& deviation) {
  if (judges_its_number(spec.kind) || spec.kind == FeatureKind::kQuantiles) return true;
  if (spec.kind != FeatureKind::kRolling) return false;
  return std::ranges::any_of(spec.windows_ms, [&](std::int64_t window) {
    return std::ranges::any_of(std::initializer_list<Stat>{Stat::kMean, Stat::kMin, Stat::kMax, Stat::kStd},
                               [&](Stat stat) { return deviation.name == stat_column(spec, stat, window); });
  });
}

// Whether the kind's operator reads EventView::value.
bool reads_value(FeatureKind kind) {
  return kind == FeatureKind::kQuantiles || kind == FeatureKind::kSeason || kind == FeatureKind::kRobust ||
         kind == FeatureKind::kCusum || kind == FeatureKind::kDiscord || kind == FeatureKind::kUnusual;
}

void add_reads(const FeaturePlan& plan, const FeatureSpec& spec, NumberRings& rings) {
  for (const std::int64_t window : spec.windows_ms) {
    WindowRead& read = rings.reads.emplace_back();
    read.offset = rings.rings[ring_of(rings, window)].offset;
    read.including = spec.including;
    if (spec.kind == FeatureKind::kRolling) {
      for (const Stat stat : spec.stats) read.column(stat) = column(plan, stat_column(spec, stat, window));
    } else {
      read.column(Stat::kCount) = column(plan, velocity_column(spec, "events", window));
      if (spec.number >= 0) read.column(Stat::kSum) = column(plan, velocity_column(spec, "amount", window));
    }
    read.all = std::ranges::find(read.columns, WindowRead::kNoColumn) == read.columns.end();
  }
  if (spec.kind != FeatureKind::kVelocity) return;
  for (const auto& [a, b] : ratio_windows(spec)) {
    const std::int64_t short_ms = spec.windows_ms[a];
    const std::int64_t long_ms = spec.windows_ms[b];
    rings.ratios.push_back({column(plan, ratio_column(spec, short_ms, long_ms)), ring_of(rings, short_ms),
                            ring_of(rings, long_ms), static_cast<double>(long_ms) / static_cast<double>(short_ms),
                            spec.including});
  }
}

}  // namespace

bool share_rings(const FeatureSpec& spec, const NumberRings& rings) {
  return spec.number == rings.number && (kind_of(spec) == RingKind::kCount) == (rings.kind == RingKind::kCount);
}

StageProgram compile_stage(const FeaturePlan& plan, std::size_t stage) {
  StageProgram program;
  program.key = plan.stages()[stage];
  const auto& features = plan.options().features;
  const auto here = [&](const FeatureSpec& spec) { return static_cast<std::uint32_t>(spec.key) == program.key; };

  for (const FeatureSpec& spec : features) {
    if (!here(spec) || has_operator(spec.kind)) continue;
    if (spec.number >= 0) index_of(program.numbers, static_cast<std::uint32_t>(spec.number));
    if (spec.kind == FeatureKind::kBaseline) continue;
    const RingKind kind = kind_of(spec);
    auto at = std::find_if(program.rings.begin(), program.rings.end(),
                           [&](const NumberRings& r) { return share_rings(spec, r); });
    if (at == program.rings.end()) at = program.rings.insert(at, NumberRings{.number = spec.number, .kind = kind});
    at->kind = std::max(at->kind, kind);
    for (const std::int64_t window : spec.windows_ms) {
      const bool known =
          std::any_of(at->rings.begin(), at->rings.end(), [&](const auto& w) { return w.window_ms == window; });
      if (!known) at->rings.push_back({.grain = index_of(program.grains_ms, window / kBuckets), .window_ms = window});
    }
    if (spec.kind == FeatureKind::kVelocity) program.gap_columns.push_back(column(plan, spec.name + ".gap_s"));
  }

  std::size_t offset = sizeof(EntityHeader);
  const auto place = [&](std::size_t bytes) {
    const std::size_t at = offset;
    offset += (bytes + 7) / 8 * 8;
    return static_cast<std::uint32_t>(at);
  };
  for (NumberRings& rings : program.rings) {
    std::sort(rings.rings.begin(), rings.rings.end(),
              [](const auto& a, const auto& b) { return a.window_ms < b.window_ms; });
    if (rings.number >= 0) rings.value = index_of(program.numbers, static_cast<std::uint32_t>(rings.number));
    if (rings.kind == RingKind::kMoments) rings.shift_offset = place(sizeof(double));
    for (auto& window : rings.rings) window.offset = place(ring_bytes(rings.kind));
    for (const FeatureSpec& spec : features) {
      if (here(spec) && !has_operator(spec.kind) && spec.kind != FeatureKind::kBaseline && share_rings(spec, rings))
        add_reads(plan, spec, rings);
    }
  }
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    if (!here(features[f]) || !has_operator(features[f].kind)) continue;
    const auto columns = operator_columns(features[f]);
    OperatorStep step;
    step.feature = f;
    step.offset = place(operator_state_bytes(features[f]));
    step.first_column = column(plan, features[f].name + "." + columns.front().name);
    step.columns = static_cast<std::uint32_t>(columns.size());
    // Peers read the number themselves: a counter's rate is a member's business, not the group's.
    const bool peers = features[f].kind == FeatureKind::kPeers;
    if (reads_value(features[f].kind) || peers) {
      const auto number = static_cast<std::uint32_t>(features[f].number);
      if (!peers) step.value = static_cast<int>(index_of(program.numbers, number));
      step.step = plan.options().layout.numbers[number].money ? 1 : 0;
    }
    step.reads_total = features[f].kind == FeatureKind::kGlobalRarity || features[f].kind == FeatureKind::kConfirmed;
    program.operators.push_back(step);
  }
  for (const Deviation& deviation : plan.deviations()) {
    const FeatureSpec& spec = features[deviation.feature];
    if (!here(spec)) continue;
    if (deviation.by_operator) continue;
    DeviationStep step;
    step.method = deviation.method;
    step.baseline = spec.kind == FeatureKind::kBaseline;
    if (step.baseline) step.value = index_of(program.numbers, static_cast<std::uint32_t>(spec.number));
    step.offset = place(deviation.method == DeviationMethod::kEwma ? sizeof(EwmaState) : sizeof(QuartileState));
    if (deviation.method == DeviationMethod::kEwma) step.decay = index_of(program.half_lives_ms, spec.half_life_ms);
    step.feature = deviation.feature;
    step.seen = deviation.seen;
    step.expected = deviation.expected;
    step.spread = deviation.spread;
    step.z = deviation.z;
    step.history = deviation.history;
    step.rules.step = step_of(plan, deviation);
    step.in_metric_steps = in_unit_of_number(spec, deviation);
    step.rules.min_history = spec.min_history;
    step.rules.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : std::max<std::int64_t>(1, spec.half_life_ms / 8);
    program.deviations.push_back(step);
  }
  // Records begin at cache lines, so that none touches one line more than it must; small ones share lines whole.
  program.record_bytes = offset <= 64 ? std::bit_ceil(offset) : (offset + 63) / 64 * 64;
  return program;
}

std::size_t estimated_entity_bytes(const StageProgram& program) {
  constexpr std::size_t kTableBytes = 32;  // 16 a slot, filled to a half on average
  constexpr std::size_t kBucketsOccupied = 4;
  constexpr std::size_t kQuartileBytes = 9 * 16;
  std::size_t bytes = kTableBytes + program.record_bytes;
  for (const NumberRings& rings : program.rings)
    bytes += rings.rings.size() * kBucketsOccupied * bucket_bytes(rings.kind);
  for (const DeviationStep& step : program.deviations)
    bytes += step.method == DeviationMethod::kQuartiles ? kQuartileBytes : 0;
  return bytes;
}

}  // namespace alcedo::features
