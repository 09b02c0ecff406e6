// The value's own count is exact and at hand; the total comes as of the last tick and is never taken as less than it.
#include "features/operators/global_rarity_operator.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "features/faded_count.h"

namespace alcedo::features {
namespace {

class GlobalRarityOperator final : public Operator {
 public:
  explicit GlobalRarityOperator(const FeatureSpec& spec) : half_life_ms_(static_cast<double>(spec.half_life_ms)) {}

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<FadedCount*>(bytes);
    const double count = state.at(event.time_ms, half_life_ms_);
    const double of = std::max(count, event.total);
    out[0] = static_cast<float>(count);
    out[1] = static_cast<float>(of);
    out[2] = count == 0 ? 1.0F : 0.0F;
    out[3] = static_cast<float>(std::log10((of + 1) / (count + 1)));
    state.add(event.time_ms, half_life_ms_);
  }

  void load(std::byte* bytes, StateReader& reader) override {
    if (reader.left() == 0) return;
    const FadedCount count{reader.f64(), reader.time_ms()};
    if (reader.ok()) std::memcpy(bytes, &count, sizeof count);
  }

 private:
  double half_life_ms_;
};

}  // namespace

std::string global_rarity_mistake(const FeatureSpec& /*spec*/, const EventLayout& /*layout*/) { return {}; }

// As of rarity: it moves in factors of two. The faded counts have no step.
std::vector<OperatorColumn> global_rarity_columns(const FeatureSpec& /*spec*/) {
  return {{"count", 0}, {"of", 0}, {"novel", 1}, {"rarity", 0.3}};
}

std::size_t global_rarity_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(FadedCount); }

std::unique_ptr<Operator> make_global_rarity_operator(const FeatureSpec& spec) {
  return std::make_unique<GlobalRarityOperator>(spec);
}

}  // namespace alcedo::features
