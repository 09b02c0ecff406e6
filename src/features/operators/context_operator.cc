// A model that sees how little is known can trust the other columns less.
#include "features/operators/context_operator.h"

#include <algorithm>
#include <cmath>

namespace alcedo::features {
namespace {

class ContextOperator final : public Operator {
 public:
  void update(std::byte* state, const EventView& event, std::span<float> out) override {
    auto& events = *reinterpret_cast<std::uint64_t*>(state);
    const auto numbers = event.batch.numbers(event.row);
    out[0] = static_cast<float>(events);
    out[1] = event.in_order ? 0.0F : static_cast<float>(static_cast<double>(event.clock_ms - event.time_ms) / 1000);
    out[2] = static_cast<float>(std::ranges::count_if(numbers, [](double x) { return std::isnan(x); }));
    ++events;
  }
};

}  // namespace

std::string context_mistake(const FeatureSpec& /*spec*/, const EventLayout& /*layout*/) { return {}; }

std::vector<OperatorColumn> context_columns(const FeatureSpec& /*spec*/) {
  return {{"history", 1}, {"late_s", 0}, {"missing", 1}};
}

std::size_t context_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(std::uint64_t); }

std::unique_ptr<Operator> make_context_operator(const FeatureSpec& /*spec*/) {
  return std::make_unique<ContextOperator>();
}

}  // namespace alcedo::features
