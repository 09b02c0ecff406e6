// Who pays where: the cards with their habits and the merchants, drawn once from the seed and never changed after.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "ingest/simulate/alias_table.h"
#include "ingest/simulate/geography.h"
#include "ingest/simulate/parameters.h"
#include "ingest/simulate/payment.h"

namespace alcedo::ingest::simulate {

inline constexpr int kScheduleProfiles = 8;
inline constexpr int kScheduleShifts =
    5;  // local hour minus UTC hour, -1 .. 3: the country's offset less a personal delay
inline constexpr int kSchedules = kScheduleProfiles * kScheduleShifts;
inline constexpr int kHoursOfWeek = 168;

/// One card and its habits; a cache line.
struct alignas(64) Card {
  float center_log = 0;  // mean of log amounts in its currency, before category and merchant
  float sigma_log = 0;
  float payments_per_day = 0;
  std::int32_t home_latitude_e4 = 0;
  std::int32_t home_longitude_e4 = 0;
  std::array<std::uint32_t, kFavourites> favourites{};
  std::uint8_t city = 0;
  std::uint8_t currency = 0;
  std::uint8_t schedule = 0;
  std::uint8_t wallet_class = 0;  // Habits::wallet_share
  std::uint8_t phone_class = 0;   // Habits::phone_share
  bool shared_computer = false;
};

struct Merchant {
  float level_log = 0;  // added to log amounts, over the category
  float share = 0;      // probability among its city's shops, its city's cash machines, or online
  std::int32_t latitude_e4 = 0;
  std::int32_t longitude_e4 = 0;
  std::uint8_t category = 0;
  std::uint8_t city = 0;  // meaningless online
  Channel channel = Channel::kPos;
};

/// Half-open range of ids.
struct IdRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  std::uint32_t size() const { return end - begin; }
};

/// Immutable after construction: any thread may read. 100 bytes a card in all.
class Population {
 public:
  /// Fully defined by parameters (seed, cards, habits). `parameters` must be in range.
  explicit Population(const Parameters& parameters);

  const Parameters& parameters() const { return parameters_; }
  std::uint32_t num_cards() const { return static_cast<std::uint32_t>(cards_.size()); }
  std::uint32_t num_merchants() const { return static_cast<std::uint32_t>(merchants_.size()); }
  const Card& card(std::uint32_t card) const { return cards_[card]; }
  const Merchant& merchant(std::uint32_t merchant) const { return merchants_[merchant]; }

  /// Mean of the log amount that this card pays at this merchant.
  double amount_log(const Card& card, const Merchant& merchant) const {
    return card.center_log + kCategories[merchant.category].amount_log + merchant.level_log;
  }

  /// Mean 1 over the 168 UTC hours from Monday 00:00.
  double schedule(int schedule, int hour_of_week) const { return schedules_[schedule][hour_of_week]; }
  /// Sum of payments_per_day over the cards of a schedule.
  double schedule_rate(int schedule) const { return schedule_rates_[schedule]; }
  /// A card of this schedule, by payments_per_day. The schedule must have cards.
  std::uint32_t pick_card(int schedule, Prng& prng) const { return cards_by_schedule_[schedule].pick(prng); }
  std::span<const std::uint32_t> cards_of(int city) const {
    return {cards_by_city_.data() + city_begin_[city], city_begin_[city + 1] - city_begin_[city]};
  }

  std::uint32_t pick_shop(int city, Prng& prng) const { return shops_by_share_[city].pick(prng); }
  std::uint32_t pick_online(Prng& prng) const { return online_by_share_.pick(prng); }
  std::uint32_t pick_resale_online(Prng& prng) const { return resale_online_by_share_.pick(prng); }
  std::uint32_t pick_resale_shop(int city, Prng& prng) const { return resale_shops_by_share_[city].pick(prng); }
  IdRange shops(int city) const { return shops_[city]; }
  IdRange atms(int city) const { return atms_[city]; }
  IdRange online() const { return online_; }
  /// Sum of Merchant::share over the resale merchants online or of a city.
  double resale_online_share() const { return resale_online_share_; }
  double resale_shop_share(int city) const { return resale_shop_share_[city]; }

  /// The three nearest other cities, and those at least Attacks::travel_km_min away (the farthest one if there is
  /// none).
  const std::array<std::uint8_t, 3>& neighbours(int city) const { return neighbours_[city]; }
  const std::vector<std::uint8_t>& far_cities(int city) const { return far_cities_[city]; }
  double distance_km(int city_a, int city_b) const { return distance_km_[city_a][city_b]; }

  /// 48-bit device ids. A phone's version counts its replacements.
  std::uint64_t chip(std::uint32_t card) const { return device(1, card, 0); }
  std::uint64_t phone(std::uint32_t card, std::uint32_t version) const { return device(2, card, version); }
  std::uint64_t computer(std::uint32_t card) const {
    return device(3, cards_[card].shared_computer ? card & ~1U : card, 0);
  }

  /// Day of the month, 1 to 28.
  static int pay_day(std::uint32_t card);
  /// Cards with this day; the i-th of them.
  std::uint32_t num_cards_paid(int day_of_month) const;
  std::uint32_t card_paid(int day_of_month, std::uint32_t i) const;

 private:
  std::uint64_t device(std::uint64_t kind, std::uint32_t card, std::uint32_t version) const {
    return mix64(mix64(parameters_.seed * 8 + kind) ^ (std::uint64_t{card} << 16) ^ version) >> 16;
  }
  void place_cities();
  void draw_merchants();
  void draw_cards();

  Parameters parameters_;
  std::vector<Card> cards_;
  std::vector<Merchant> merchants_;
  std::array<std::array<float, kHoursOfWeek>, kSchedules> schedules_{};
  std::array<double, kSchedules> schedule_rates_{};
  std::array<AliasTable, kSchedules> cards_by_schedule_;
  std::vector<std::uint32_t> cards_by_city_;
  std::array<std::uint32_t, kNumCities + 1> city_begin_{};
  std::array<AliasTable, kNumCities> shops_by_share_;
  std::array<AliasTable, kNumCities> resale_shops_by_share_;
  AliasTable online_by_share_;
  AliasTable resale_online_by_share_;
  std::array<IdRange, kNumCities> shops_{};
  std::array<IdRange, kNumCities> atms_{};
  IdRange online_;
  double resale_online_share_ = 0;
  std::array<double, kNumCities> resale_shop_share_{};
  std::array<std::array<std::uint8_t, 3>, kNumCities> neighbours_{};
  std::array<std::vector<std::uint8_t>, kNumCities> far_cities_;
  std::array<std::array<double, kNumCities>, kNumCities> distance_km_{};
};

/// Hour 0 .. 167 of a UTC time in ms, from Monday 00:00.
constexpr int hour_of_week(std::int64_t time_ms) {
  const std::int64_t hours = time_ms / 3'600'000 + 72;  // 1970-01-01 was a Thursday
  return static_cast<int>(hours % kHoursOfWeek);
}
/// Day of the month, UTC.
int day_of_month(std::int64_t time_ms);

}  // namespace alcedo::ingest::simulate
