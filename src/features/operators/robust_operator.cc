// The values stand sorted in the same slabs as those of quartiles; only what is read of them differs.
#include "features/operators/robust_operator.h"

#include <cmath>

#include "features/deviation.h"

namespace alcedo::features {
namespace {

// Makes the MAD of a normal distribution its standard deviation: 1 / quantile(3/4).
constexpr double kMadToSigma = 1.4826;

enum Column : std::uint8_t { kSeen, kMedian, kMad, kSpread, kZ, kHistory };

class RobustOperator final : public Operator {
 public:
  explicit RobustOperator(const FeatureSpec& spec) : min_history_(spec.min_history) {}

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    values_.prefetch(*reinterpret_cast<const QuartileState*>(bytes));
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<QuartileState*>(bytes);
    const auto [median, mad] = values_.median_and_mad(state);
    const DeviationReading reading = read_level(median, kMadToSigma * mad, event.value, event.step);
    out[kSeen] = static_cast<float>(event.value);
    out[kMedian] = static_cast<float>(median);
    out[kMad] = static_cast<float>(mad);
    out[kSpread] = static_cast<float>(reading.spread);
    out[kZ] = static_cast<float>(state.history < min_history_ ? kMissing : reading.z);
    out[kHistory] = static_cast<float>(state.history);
    if (event.in_order && !std::isnan(event.value)) values_.learn(state, event.value);
  }

  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    values_.save(*reinterpret_cast<const QuartileState*>(bytes), writer);
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() != 0) values_.load(*reinterpret_cast<QuartileState*>(bytes), reader);
  }

  void release(std::byte* bytes) override { values_.clear(*reinterpret_cast<QuartileState*>(bytes)); }

  std::size_t reserved_bytes() const override { return values_.reserved_bytes(); }

 private:
  QuartileStore values_;
  std::uint32_t min_history_;
};

}  // namespace

std::string robust_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  return slot_mistake("number", spec.number, layout.numbers.size());
}

std::vector<OperatorColumn> robust_columns(const FeatureSpec& /*spec*/) {
  return {{"seen", 0}, {"median", 0}, {"mad", 0}, {"spread", 0}, {"z", 0}, {"history", 1}};
}

std::size_t robust_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(QuartileState); }

std::unique_ptr<Operator> make_robust_operator(const FeatureSpec& spec) {
  return std::make_unique<RobustOperator>(spec);
}

}  // namespace alcedo::features
