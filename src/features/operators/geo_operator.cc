// Places are unit vectors: their mean needs no care at the date line or the poles, and a chord gives the distance.
#include "features/operators/geo_operator.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "features/deviation.h"
#include "features/operators/sphere.h"

namespace alcedo::features {
namespace {

constexpr double kEarthRadiusKm = 6371.0088;  // mean radius, IUGG
// Two readings within a minute are taken as a minute apart: clocks and terminals are no finer, and a speed needs a
// time.
constexpr std::int64_t kLeastTravelMs = 60'000;
// The least spread of a home: within a kilometre nobody has left.
constexpr double kHomeFloorKm = 1;

struct GeoState {
  float last[3];  // the newest place; half a metre is lost
  std::uint32_t places;
  std::int64_t last_ms;
  double home[3];  // decayed mean of unit vectors: inside the sphere, its direction is the home
  double weight;
  double squares;  // weighted, of the distances from the home, km^2
};

double distance_km(const UnitVector& a, const UnitVector& b) { return kEarthRadiusKm * angle_between(a, b); }

// Opposite places cancel out: then any direction is as good, and the last place is one.
UnitVector home_of(const GeoState& state) {
  const double length =
      std::sqrt(state.home[0] * state.home[0] + state.home[1] * state.home[1] + state.home[2] * state.home[2]);
  if (length < 1e-9) {
    return {static_cast<double>(state.last[0]), static_cast<double>(state.last[1]), static_cast<double>(state.last[2])};
  }
  const double inverse = 1 / length;
  return {state.home[0] * inverse, state.home[1] * inverse, state.home[2] * inverse};
}

enum Column : std::uint8_t { kSpeed, kDistance, kHome, kSpread, kHomeZ, kPlaces };

class GeoOperator final : public Operator {
 public:
  explicit GeoOperator(const FeatureSpec& spec)
      : latitude_(static_cast<std::uint32_t>(spec.number)),
        longitude_(static_cast<std::uint32_t>(spec.number_2)),
        half_life_ms_(static_cast<double>(spec.half_life_ms)),
        min_history_(spec.min_history) {}

  void prepare(const EventBatch& batch, std::span<const std::uint32_t> rows) override {
    prepared_.resize(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double latitude = batch.number(rows[i], latitude_);
      const double longitude = batch.number(rows[i], longitude_);
      // NaN fails both comparisons.
      const bool known = std::fabs(latitude) <= 90 && std::fabs(longitude) <= 180;
      prepared_[i] = {unit_vector(known ? latitude : 0, known ? longitude : 0), known};
    }
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<GeoState*>(bytes);
    const auto& [place, known] = prepared_[event.prepared];
    out[kPlaces] = static_cast<float>(state.places);
    // Unlike the entity's clock this is the time of its newest place.
    const bool newest = state.places == 0 || event.time_ms >= state.last_ms;
    double home_km = 0;
    double floored_km = kHomeFloorKm;
    if (state.places > 0) {
      const double variance = state.squares / state.weight;
      const double spread_km = std::sqrt(variance);
      floored_km = std::sqrt(variance + kHomeFloorKm * kHomeFloorKm);
      out[kSpread] = static_cast<float>(spread_km);
      if (known) {
        home_km = distance_km(place, home_of(state));
        out[kHome] = static_cast<float>(home_km);
        if (state.places >= min_history_) out[kHomeZ] = static_cast<float>(std::min(kScoreMax, home_km / floored_km));
      }
    }
    if (!known || !event.in_order || !newest) return;
    if (state.places > 0) {
      const UnitVector last{static_cast<double>(state.last[0]), static_cast<double>(state.last[1]),
                            static_cast<double>(state.last[2])};
      const std::int64_t elapsed_ms = event.time_ms - state.last_ms;
      const double travelled_km = distance_km(place, last);
      out[kDistance] = static_cast<float>(travelled_km);
      out[kSpeed] =
          static_cast<float>(travelled_km * 3'600'000.0 / static_cast<double>(std::max(elapsed_ms, kLeastTravelMs)));
      const double decay = elapsed_ms == 0 ? 1.0 : std::exp2(-static_cast<double>(elapsed_ms) / half_life_ms_);
      // What has no weight left would divide by nothing; the next place is then all that is known.
      state.weight = std::max(state.weight * decay, kForgottenWeight);
      state.squares *= decay;
    }
    learn(state, place, home_km, floored_km);
    state.last[0] = static_cast<float>(place.x);
    state.last[1] = static_cast<float>(place.y);
    state.last[2] = static_cast<float>(place.z);
    state.last_ms = event.time_ms;
  }

  void load(std::byte* bytes, std::int64_t clock_ms, StateReader& reader) override {
    Operator::load(bytes, clock_ms, reader);
    const std::int64_t last_ms = reinterpret_cast<const GeoState*>(bytes)->last_ms;
    if (std::abs(last_ms / 2) > StateReader::kTimeLimitMs / 2)
      reader.refuse("holds a last place at a time that no event can have");
  }

 private:
  void learn(GeoState& state, const UnitVector& place, double home_km, double floored_km) const {
    // As deviations do: far from home it is learnt slowly, so that a thief's trip does not become the home.
    const bool deviates = state.places >= min_history_ && home_km > kDeviates * floored_km;
    const double w = deviates ? kSlowWeight : 1;
    const double before = state.weight;
    state.weight += w;
    const double share = w / state.weight;
    state.home[0] += (place.x - state.home[0]) * share;
    state.home[1] += (place.y - state.home[1]) * share;
    state.home[2] += (place.z - state.home[2]) * share;
    state.squares += home_km * home_km * (before * share);
    if (state.places != 0xFFFFFFFF) ++state.places;
  }

  struct Prepared {
    UnitVector place;
    bool known;
  };

  std::uint32_t latitude_;
  std::uint32_t longitude_;
  double half_life_ms_;
  std::uint32_t min_history_;
  std::vector<Prepared> prepared_;
};

}  // namespace

std::string geo_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  auto mistake = slot_mistake("number", spec.number, layout.numbers.size());
  return mistake.empty() ? slot_mistake("number", spec.number_2, layout.numbers.size()) : mistake;
}

std::vector<OperatorColumn> geo_columns(const FeatureSpec& /*spec*/) {
  return {{"speed_kmh", 0}, {"distance_km", 0}, {"home_km", 0}, {"home_spread_km", 0}, {"home_z", 0}, {"places", 1}};
}

std::size_t geo_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(GeoState); }

std::unique_ptr<Operator> make_geo_operator(const FeatureSpec& spec) { return std::make_unique<GeoOperator>(spec); }

}  // namespace alcedo::features
