// The level is that of a baseline, with its slow learning and its way to a new level.
#include "features/operators/unusual_operator.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "features/deviation.h"
#include "features/operators/own_past.h"

namespace alcedo::features {
namespace {

// Values before a distance from their level means anything.
constexpr std::uint32_t kLevelHistory = 20;

struct UnusualState {
  EwmaState level;
  OwnPastState past;
};

enum Column : std::uint8_t { kSeen, kExpected, kSpread, kZ, kSurprise };

class UnusualOperator final : public Operator {
 public:
  explicit UnusualOperator(const FeatureSpec& spec)
      : half_life_ms_(static_cast<double>(spec.half_life_ms)),
        min_history_(spec.min_history),
        past_(half_life_ms_ * kOwnPastHalfLives) {
    rules_.min_history = kLevelHistory;
    rules_.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : std::max<std::int64_t>(1, spec.half_life_ms / 8);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<UnusualState*>(bytes);
    if (event.in_order && event.time_ms > event.clock_ms) {
      decay_ewma(state.level, std::exp2(-static_cast<double>(event.time_ms - event.clock_ms) / half_life_ms_),
                 pending_);
    }
    const double x = event.value;
    const std::int64_t now_ms = std::max(event.time_ms, event.clock_ms);
    const DeviationReading reading = read_ewma(state.level, x, event.step, kLevelHistory);
    out[kSeen] = static_cast<float>(x);
    out[kExpected] = static_cast<float>(reading.expected);
    out[kSpread] = static_cast<float>(reading.spread);
    out[kZ] = static_cast<float>(reading.z);
    const auto far = std::fabs(static_cast<double>(out[kZ]));
    out[kSurprise] = static_cast<float>(past_.surprise(state.past, far, now_ms, min_history_));
    if (!event.in_order || std::isnan(x)) return;
    past_.learn(state.past, far, now_ms);
    learn_ewma(state.level, x, reading.z, event.time_ms, rules_, pending_);
  }

  // Whether there is a past, the past, and the level.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const UnusualState*>(bytes);
    constexpr EwmaState kEmpty{};
    if (state.past.history == 0 && std::memcmp(&state.level, &kEmpty, sizeof kEmpty) == 0) return;
    writer.u8(state.past.history != 0 ? 1 : 0);
    past_.save(state.past, writer);
    save_ewma(state.level, pending_, writer);
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<UnusualState*>(bytes);
    const std::uint8_t has_past = reader.u8();
    if (has_past > 1) return reader.refuse("does not say whether it has a past");
    if (has_past == 1) past_.load(state.past, reader);
    load_ewma(state.level, pending_, reader);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<UnusualState*>(bytes);
    past_.clear(state.past);
    clear_ewma(state.level, pending_);
  }

  std::size_t reserved_bytes() const override { return pending_.reserved_bytes() + past_.reserved_bytes(); }

 private:
  double half_life_ms_;
  std::uint32_t min_history_;
  EwmaRules rules_;
  OwnPast past_;
  RecordPool pending_{sizeof(PendingLevel)};
};

}  // namespace

std::string unusual_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  return slot_mistake("number", spec.number, layout.numbers.size());
}

std::vector<OperatorColumn> unusual_columns(const FeatureSpec& /*spec*/) {
  return {{"seen", 0}, {"expected", 0}, {"spread", 0}, {"z", 0}, {"surprise", 0}};
}

std::size_t unusual_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(UnusualState); }

std::unique_ptr<Operator> make_unusual_operator(const FeatureSpec& spec) {
  return std::make_unique<UnusualOperator>(spec);
}

}  // namespace alcedo::features
