// The level is that of deviations, with its slow learning and its way to a new level; what deviates is told by the sums
// too.
#include "features/operators/cusum_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "features/deviation.h"

namespace alcedo::features {
namespace {

// Half of the shift to be noticed soonest (1 sigma): the best slack for it (Hawkins and Olwell, 3.1).
constexpr double kSlack = 0.5;
// A sum above this is off its level. Independent normal values get there once in about 465 (two-sided, slack 0.5).
constexpr double kOffLevel = 5;
// Sums end here, so that they are below kOffLevel again some 30 values after a return to the level.
constexpr double kSumMax = 20;

struct CusumState {
  EwmaState level;
  double up;
  double down;
  std::int64_t up_since_ms;  // when the sum left 0
  std::int64_t down_since_ms;
};

enum Column : std::uint8_t { kUp, kDown, kSince };

class CusumOperator final : public Operator {
 public:
  explicit CusumOperator(const FeatureSpec& spec) : half_life_ms_(static_cast<double>(spec.half_life_ms)) {
    rules_.min_history = spec.min_history;
    rules_.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : std::max<std::int64_t>(1, spec.half_life_ms / 8);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<CusumState*>(bytes);
    if (event.in_order && event.time_ms > event.clock_ms) {
      decay_ewma(state.level, std::exp2(-static_cast<double>(event.time_ms - event.clock_ms) / half_life_ms_),
                 pending_);
      if (state.level.history == 0) restart(state);
    }
    const double x = event.value;
    if (std::isnan(x)) return;
    const double z = read_ewma(state.level, x, event.step, rules_.min_history).z;
    if (std::isnan(z)) {
      if (event.in_order) learn_ewma(state.level, x, z, event.time_ms, rules_, pending_);
      return;
    }
    const double clipped = std::clamp(z, -kDeviates, kDeviates);
    CusumState next = state;
    const std::int64_t now_ms = std::max(event.time_ms, event.clock_ms);
    next.up = std::clamp(state.up + clipped - kSlack, 0.0, kSumMax);
    next.down = std::clamp(state.down - clipped - kSlack, 0.0, kSumMax);
    if (state.up == 0) next.up_since_ms = now_ms;
    if (state.down == 0) next.down_since_ms = now_ms;
    const double larger = std::max(next.up, next.down);
    const std::int64_t since_ms = next.up >= next.down ? next.up_since_ms : next.down_since_ms;
    out[kUp] = static_cast<float>(next.up);
    out[kDown] = static_cast<float>(next.down);
    out[kSince] = larger > 0 ? static_cast<float>(static_cast<double>(now_ms - since_ms) / 1000.0) : 0.0F;
    if (!event.in_order) return;
    state = next;
    const bool deviates = larger > kOffLevel || std::fabs(z) > kDeviates;
    learn_ewma(state.level, x, deviates ? std::numeric_limits<double>::infinity() : 0.0, event.time_ms, rules_,
               pending_);
    // A value that deviates leaves a pending level, unless that has just become the level.
    if (deviates && state.level.pending == 0) restart(state);
  }

  // The sums, each with the time when it left 0 unless it is 0, and the level.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const CusumState*>(bytes);
    constexpr EwmaState kEmpty{};
    if (std::memcmp(&state.level, &kEmpty, sizeof kEmpty) == 0 && state.up == 0 && state.down == 0) return;
    save_sum(state.up, state.up_since_ms, writer);
    save_sum(state.down, state.down_since_ms, writer);
    save_ewma(state.level, pending_, writer);
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<CusumState*>(bytes);
    load_sum(state.up, state.up_since_ms, reader);
    load_sum(state.down, state.down_since_ms, reader);
    load_ewma(state.level, pending_, reader);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<CusumState*>(bytes);
    clear_ewma(state.level, pending_);
    state = CusumState{};
  }

  std::size_t reserved_bytes() const override { return pending_.reserved_bytes(); }

 private:
  static void save_sum(double sum, std::int64_t since_ms, StateWriter& writer) {
    writer.f64(sum);
    if (sum != 0) writer.i64(since_ms);
  }

  static void load_sum(double& sum, std::int64_t& since_ms, StateReader& reader) {
    sum = reader.f64();
    if (!(sum >= 0 && sum <= kSumMax))
      return reader.refuse(fmt::format("has a sum of {}; expected 0 to {}", sum, kSumMax));
    if (sum != 0) since_ms = reader.time_ms();
  }

  static void restart(CusumState& state) { state.up = state.down = 0; }

  double half_life_ms_;
  EwmaRules rules_;
  RecordPool pending_{sizeof(PendingLevel)};
};

}  // namespace

std::string cusum_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  return slot_mistake("number", spec.number, layout.numbers.size());
}

std::vector<OperatorColumn> cusum_columns(const FeatureSpec& /*spec*/) {
  return {{"up", 0}, {"down", 0}, {"since_s", 0}};
}

std::size_t cusum_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(CusumState); }

std::unique_ptr<Operator> make_cusum_operator(const FeatureSpec& spec) { return std::make_unique<CusumOperator>(spec); }

}  // namespace alcedo::features
