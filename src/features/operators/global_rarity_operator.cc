// The value's own count is exact and at hand; the total comes as of the last tick and is never taken as less than it.
#include "features/operators/global_rarity_operator.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "features/deviation.h"
#include "features/faded_count.h"

namespace alcedo::features {
namespace {

// As of rarity: it moves in factors of two.
constexpr double kStep = 0.3;

enum Column : std::uint8_t { kCount, kOf, kNovel, kRarity, kExpected, kSpread, kZ, kHistory };

class GlobalRarityOperator final : public Operator {
 public:
  explicit GlobalRarityOperator(const FeatureSpec& spec)
      : half_life_ms_(static_cast<double>(spec.half_life_ms)), min_history_(spec.min_history) {}

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<FadedCount*>(bytes);
    const double count = state.at(event.time_ms, half_life_ms_);
    const double of = std::max(count, event.total);
    const double rarity = std::log10((of + 1) / (count + 1));
    out[kCount] = static_cast<float>(count);
    out[kOf] = static_cast<float>(of);
    out[kNovel] = count == 0 ? 1.0F : 0.0F;
    out[kRarity] = static_cast<float>(rarity);
    const DeviationReading reading = read_level(event.usual, event.usual_spread, rarity, kStep);
    out[kExpected] = static_cast<float>(reading.expected);
    out[kSpread] = static_cast<float>(reading.spread);
    out[kZ] = static_cast<float>(event.usual_of < min_history_ ? kMissing : reading.z);
    out[kHistory] = static_cast<float>(event.usual_of);
    state.add(event.time_ms, half_life_ms_);
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() == 0) return;
    const FadedCount count{reader.f64(), reader.time_ms()};
    if (reader.ok()) std::memcpy(bytes, &count, sizeof count);
  }

 private:
  double half_life_ms_;
  double min_history_;
};

}  // namespace

std::string global_rarity_mistake(const FeatureSpec& /*spec*/, const EventLayout& /*layout*/) { return {}; }

// The faded counts have no step.
std::vector<OperatorColumn> global_rarity_columns(const FeatureSpec& /*spec*/) {
  return {{"count", 0},         {"of", 0},       {"novel", 1},         {"rarity", kStep}, {"rarity.expected", 0},
          {"rarity.spread", 0}, {"rarity.z", 0}, {"rarity.history", 1}};
}

std::size_t global_rarity_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(FadedCount); }

std::unique_ptr<Operator> make_global_rarity_operator(const FeatureSpec& spec) {
  return std::make_unique<GlobalRarityOperator>(spec);
}

}  // namespace alcedo::features
