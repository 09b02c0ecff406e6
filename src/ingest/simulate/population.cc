// Draws the simulated world: order of draws is part of the frozen definition, so additions go to streams of their own.
#include "ingest/simulate/population.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "ingest/simulate/portable_math.h"

namespace alcedo::ingest::simulate {
namespace {

constexpr double kRadiansPerDegree = 0.017453292519943295;
constexpr double kEarthRadiusKm = 6371.0;

double portable_sin(double x) {  // |x| <= pi
  const double x2 = x * x;
  double term = x, sum = x;
  for (int k = 1; k < 13; ++k) {
    term = -term * x2 / static_cast<double>(2 * k * (2 * k + 1));
    sum += term;
  }
  return sum;
}
double portable_cos(double x) { return 1.0 - 2.0 * portable_sin(x / 2) * portable_sin(x / 2); }

double great_circle_km(const City& a, const City& b) {
  const double s1 = portable_sin((a.latitude_deg - b.latitude_deg) * kRadiansPerDegree / 2);
  const double s2 = portable_sin((a.longitude_deg - b.longitude_deg) * kRadiansPerDegree / 2);
  const double h = s1 * s1 + portable_cos(a.latitude_deg * kRadiansPerDegree) *
                                 portable_cos(b.latitude_deg * kRadiansPerDegree) * s2 * s2;
  const double x = std::sqrt(h);  // below 0.35 within Europe: the series of asin is good to metres
  const double x2 = x * x;
  const double arcsin = x * (1 + x2 * (1.0 / 6 + x2 * (3.0 / 40 + x2 * (15.0 / 336 + x2 * 105.0 / 3456))));
  return 2 * kEarthRadiusKm * arcsin;
}

struct Bump {
  double hour, height, width;
};
struct Profile {
  std::array<Bump, 3> weekday;
  std::array<Bump, 3> weekend;
};
// Local hours at which people of a kind pay. Heights are relative, widths in hours.
constexpr std::array<Profile, kScheduleProfiles> kProfiles = {{
    {{{{8, 0.6, 0.8}, {12.5, 1.0, 1.0}, {18.5, 1.6, 1.5}}},
     {{{11, 1.2, 1.5}, {15, 1.2, 2.0}, {20, 0.6, 1.5}}}},  // office
    {{{{10.5, 2.0, 1.6}, {15, 0.8, 1.6}, {18, 0.2, 1.0}}},
     {{{10.5, 1.0, 1.5}, {14, 0.6, 1.5}, {17, 0.2, 1.0}}}},  // retired
    {{{{14, 0.5, 1.5}, {19, 0.8, 1.5}, {22.5, 1.6, 1.4}}},
     {{{15, 0.8, 2.0}, {20, 1.0, 1.5}, {23, 1.6, 1.5}}}},  // night owl
    {{{{12, 0.9, 1.2}, {17, 0.8, 1.5}, {21, 1.0, 1.6}}},
     {{{14, 1.0, 2.0}, {19, 0.8, 1.5}, {22.5, 1.2, 1.5}}}},  // student
    {{{{5.5, 0.9, 0.8}, {14.8, 1.6, 1.2}, {18, 0.5, 1.2}}},
     {{{10, 1.2, 1.8}, {15, 1.0, 2.0}, {18, 0.5, 1.0}}}},  // early shift
    {{{{11, 1.3, 1.5}, {13, 0.6, 1.0}, {23, 0.9, 1.0}}},
     {{{12, 1.2, 2.0}, {17, 1.0, 2.0}, {23, 0.7, 1.0}}}},  // late shift
    {{{{9, 1.1, 1.0}, {16.3, 1.5, 1.3}, {20.5, 0.5, 1.0}}},
     {{{11, 2.2, 1.7}, {16, 1.0, 1.7}, {20, 0.3, 1.0}}}},  // family
    {{{{7.5, 0.4, 0.8}, {13, 0.5, 1.2}, {20.5, 1.6, 1.4}}},
     {{{11, 0.8, 2.0}, {16, 0.7, 2.0}, {20.5, 1.5, 1.5}}}},  // evening
}};
constexpr double kScheduleFloor = 0.03;

double bump_sum(const std::array<Bump, 3>& bumps, double hour) {
  double sum = kScheduleFloor;
  for (const Bump& bump : bumps) {
    double distance = std::abs(hour - bump.hour);
    distance = std::min(distance, 24 - distance);
    sum += bump.height * portable_exp(-0.5 * distance * distance / (bump.width * bump.width));
  }
  return sum;
}

// A hundredth of the cards each: the 25th to the 28th, the 1st and the 15th lead.
constexpr std::array<std::uint8_t, 100> make_pay_days() {
  std::array<std::uint8_t, 100> days{};
  std::size_t at = 0;
  const auto add = [&](std::uint8_t day, int count) {
    for (int i = 0; i < count; ++i) days[at++] = day;
  };
  add(1, 10);
  add(15, 8);
  add(25, 12);
  add(26, 4);
  add(27, 8);
  add(28, 14);
  for (std::uint8_t day = 2; day <= 24; ++day) {
    if (day != 15) add(day, 2);
  }
  return days;
}
constexpr auto kPayDays = make_pay_days();
static_assert(kPayDays[99] == 24);

std::int32_t degrees_e4(double degrees) { return static_cast<std::int32_t>(std::floor(degrees * 1e4 + 0.5)); }

std::vector<std::uint32_t> ids(IdRange range) {
  std::vector<std::uint32_t> out(range.size());
  std::iota(out.begin(), out.end(), range.begin);
  return out;
}

}  // namespace

int day_of_month(std::int64_t time_ms) {
  const std::chrono::sys_days day{std::chrono::days{time_ms / 86'400'000}};
  return static_cast<int>(static_cast<unsigned>(std::chrono::year_month_day{day}.day()));
}

Population::Population(const Parameters& parameters) : parameters_(parameters) {
  CHECK(parameters.cards >= kCardsMin && parameters.cards <= kCardsMax);
  place_cities();
  draw_merchants();
  draw_cards();
}

void Population::place_cities() {
  for (int a = 0; a < kNumCities; ++a) {
    for (int b = 0; b < kNumCities; ++b) distance_km_[a][b] = great_circle_km(kCities[a], kCities[b]);
  }
  for (int a = 0; a < kNumCities; ++a) {
    std::vector<std::uint8_t> order;
    for (int b = 0; b < kNumCities; ++b) {
      if (b != a) order.push_back(static_cast<std::uint8_t>(b));
    }
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) { return distance_km_[a][x] < distance_km_[a][y]; });
    std::copy_n(order.begin(), 3, neighbours_[a].begin());
    for (const std::uint8_t b : order) {
      if (distance_km_[a][b] >= parameters_.attacks.travel_km_min) far_cities_[a].push_back(b);
    }
    if (far_cities_[a].empty()) far_cities_[a].push_back(order.back());
  }
}

void Population::draw_merchants() {
  const Habits& habits = parameters_.habits;
  Prng prng(mix64(parameters_.seed) ^ 0x6d65726368616e74ULL);
  const auto total = std::max<std::uint32_t>(habits.merchants_min,
                                             static_cast<std::uint32_t>(parameters_.cards / habits.cards_per_merchant));
  const auto num_online = static_cast<std::uint32_t>(total * habits.online_merchant_share);
  double people = 0;
  for (const City& city : kCities) people += city.people_millions;

  std::vector<double> shop_weights, online_weights;
  for (const Category& category : kCategories) {
    shop_weights.push_back(category.shop_weight);
    online_weights.push_back(category.online_weight);
  }
  std::vector<std::uint32_t> category_ids(kCategories.size());
  std::iota(category_ids.begin(), category_ids.end(), 0U);
  const AliasTable shop_categories(shop_weights, category_ids);
  const AliasTable online_categories(online_weights, category_ids);

  const auto zipf = [&](std::uint32_t rank) { return 1.0 / (rank + 1.0 + habits.zipf_offset); };
  // Gives `range` its shares by rank and returns their weights.
  const auto share_out = [&](IdRange range) {
    std::vector<double> weights(range.size());
    for (std::uint32_t i = 0; i < range.size(); ++i) weights[i] = zipf(i);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (std::uint32_t i = 0; i < range.size(); ++i)
      merchants_[range.begin + i].share = static_cast<float>(weights[i] / sum);
    return weights;
  };
  // Only the resale merchants keep their weight.
  const auto resale_only = [&](IdRange range, std::vector<double> weights, double& share) {
    for (std::uint32_t i = 0; i < range.size(); ++i) {
      const Merchant& merchant = merchants_[range.begin + i];
      if (kCategories[merchant.category].resale)
        share += merchant.share;
      else
        weights[i] = 0;
    }
    return AliasTable(weights, ids(range));
  };
  // Ranks that are the same category everywhere, so that each place has at least one of each that sells on.
  constexpr std::array<std::uint8_t, 4> kFixedCategories = {8, 9, 10, 11};
  constexpr std::uint32_t kFirstFixedRank = 5;

  for (int c = 0; c < kNumCities; ++c) {
    const City& city = kCities[c];
    const auto here =
        std::max<std::uint32_t>(12, static_cast<std::uint32_t>((total - num_online) * city.people_millions / people));
    const auto atms = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(here * habits.atm_share));
    const auto first = static_cast<std::uint32_t>(merchants_.size());
    shops_[c] = {first, first + here - atms};
    atms_[c] = {first + here - atms, first + here};
    for (std::uint32_t i = 0; i < here; ++i) {
      Merchant merchant;
      const bool atm = i >= here - atms;
      const auto drawn = static_cast<std::uint8_t>(shop_categories.pick(prng));
      merchant.category = drawn;
      if (atm)
        merchant.category = kCashCategory;
      else if (i >= kFirstFixedRank && i < kFirstFixedRank + kFixedCategories.size())
        merchant.category = kFixedCategories[i - kFirstFixedRank];
      merchant.level_log = static_cast<float>(habits.merchant_level_spread_log * draw_normal(prng));
      merchant.latitude_e4 = degrees_e4(city.latitude_deg + habits.city_scatter_deg * draw_normal(prng));
      merchant.longitude_e4 = degrees_e4(city.longitude_deg + habits.city_scatter_deg * draw_normal(prng));
      merchant.city = static_cast<std::uint8_t>(c);
      merchant.channel = atm ? Channel::kAtm : Channel::kPos;
      if (atm) merchant.share = 1.0F / static_cast<float>(atms);
      merchants_.push_back(merchant);
    }
    const std::vector<double> weights = share_out(shops_[c]);
    shops_by_share_[c] = AliasTable(weights, ids(shops_[c]));
    resale_shops_by_share_[c] = resale_only(shops_[c], weights, resale_shop_share_[c]);
  }
  online_.begin = static_cast<std::uint32_t>(merchants_.size());
  for (std::uint32_t i = 0; i < num_online; ++i) {
    Merchant merchant;
    merchant.category = static_cast<std::uint8_t>(online_categories.pick(prng));
    if (i >= kFirstFixedRank && i < kFirstFixedRank + kFixedCategories.size())
      merchant.category = kFixedCategories[i - kFirstFixedRank];
    merchant.level_log = static_cast<float>(habits.merchant_level_spread_log * draw_normal(prng));
    merchant.channel = Channel::kOnline;
    merchants_.push_back(merchant);
  }
  online_.end = static_cast<std::uint32_t>(merchants_.size());
  const std::vector<double> weights = share_out(online_);
  online_by_share_ = AliasTable(weights, ids(online_));
  resale_online_by_share_ = resale_only(online_, weights, resale_online_share_);
}

void Population::draw_cards() {
  const Habits& habits = parameters_.habits;
  Prng prng(mix64(parameters_.seed) ^ 0x6361726473ULL);
  std::vector<double> people;
  std::vector<std::uint32_t> city_ids(kNumCities);
  std::iota(city_ids.begin(), city_ids.end(), 0U);
  for (const City& city : kCities) people.push_back(city.people_millions);
  const AliasTable cities(people, city_ids);
  const double rate_center_log =
      portable_log(habits.payments_per_day) - 0.5 * habits.payments_spread_log * habits.payments_spread_log;

  cards_.resize(parameters_.cards);
  for (std::uint32_t i = 0; i < parameters_.cards; ++i) {
    Card& card = cards_[i];
    card.city = static_cast<std::uint8_t>(cities.pick(prng));
    const City& city = kCities[card.city];
    const Country& country = kCountries[city.country];
    card.currency = country.currency;
    card.home_latitude_e4 = degrees_e4(city.latitude_deg + habits.city_scatter_deg * draw_normal(prng));
    card.home_longitude_e4 = degrees_e4(city.longitude_deg + habits.city_scatter_deg * draw_normal(prng));
    card.center_log = static_cast<float>(habits.amount_center_log + kCurrencies[card.currency].scale_log +
                                         habits.amount_center_spread_log * draw_normal(prng));
    card.sigma_log = static_cast<float>(draw_between(prng, habits.amount_sigma_min, habits.amount_sigma_max));
    card.payments_per_day =
        static_cast<float>(std::clamp(portable_exp(rate_center_log + habits.payments_spread_log * draw_normal(prng)),
                                      habits.payments_per_day_min, habits.payments_per_day_max));
    const auto profile = static_cast<int>(prng.below(kScheduleProfiles));
    const auto delay = static_cast<int>(prng.below(3)) - 1;
    card.schedule = static_cast<std::uint8_t>(profile * kScheduleShifts + (country.utc_hours - delay + 1));
    card.wallet_class = static_cast<std::uint8_t>(prng.below(4));
    card.phone_class = static_cast<std::uint8_t>(prng.below(4));
    for (int f = 0; f < kFavourites; ++f) {
      // The first, second and fourth are shops at home, the others online.
      const bool online = f == 2 || f == 4;
      card.favourites[static_cast<std::size_t>(f)] = online ? pick_online(prng) : pick_shop(card.city, prng);
    }
    const bool shared = draw_chance(prng, habits.shared_computer);
    card.shared_computer = i % 2 == 0 ? shared : cards_[i - 1].shared_computer;
  }

  for (int s = 0; s < kSchedules; ++s) {
    const Profile& profile = kProfiles[static_cast<std::size_t>(s / kScheduleShifts)];
    const int shift = s % kScheduleShifts - 1;
    std::array<double, kHoursOfWeek> shape{};
    double sum = 0;
    for (int h = 0; h < kHoursOfWeek; ++h) {
      const int local = (h + shift + kHoursOfWeek) % kHoursOfWeek;
      shape[static_cast<std::size_t>(h)] = bump_sum(local >= 120 ? profile.weekend : profile.weekday, local % 24 + 0.5);
      sum += shape[static_cast<std::size_t>(h)];
    }
    for (std::size_t h = 0; h < kHoursOfWeek; ++h)
      schedules_[static_cast<std::size_t>(s)][h] = static_cast<float>(shape[h] * kHoursOfWeek / sum);
  }
  std::vector<std::uint32_t> members;
  std::vector<double> rates;
  for (int s = 0; s < kSchedules; ++s) {
    members.clear();
    rates.clear();
    double sum = 0;
    for (std::uint32_t i = 0; i < num_cards(); ++i) {
      if (cards_[i].schedule != s) continue;
      members.push_back(i);
      rates.push_back(cards_[i].payments_per_day);
      sum += cards_[i].payments_per_day;
    }
    schedule_rates_[static_cast<std::size_t>(s)] = sum;
    if (!members.empty()) cards_by_schedule_[static_cast<std::size_t>(s)] = AliasTable(rates, members);
  }
  city_begin_.fill(0);
  for (const Card& card : cards_) ++city_begin_[card.city + 1U];
  for (std::size_t c = 0; c < kNumCities; ++c) city_begin_[c + 1] += city_begin_[c];
  cards_by_city_.resize(num_cards());
  auto next = city_begin_;
  for (std::uint32_t i = 0; i < num_cards(); ++i) cards_by_city_[next[cards_[i].city]++] = i;
}

int Population::pay_day(std::uint32_t card) { return kPayDays[card % kPayDays.size()]; }

std::uint32_t Population::num_cards_paid(int day_of_month) const {
  std::uint32_t count = 0;
  for (std::uint32_t r = 0; r < kPayDays.size(); ++r) {
    if (kPayDays[r] == day_of_month) count += (num_cards() - r + 99) / 100;
  }
  return count;
}

std::uint32_t Population::card_paid(int day_of_month, std::uint32_t i) const {
  for (std::uint32_t r = 0; r < kPayDays.size(); ++r) {
    if (kPayDays[r] != day_of_month) continue;
    const std::uint32_t here = (num_cards() - r + 99) / 100;
    if (i < here) return i * 100 + r;
    i -= here;
  }
  CHECK(false);
}

}  // namespace alcedo::ingest::simulate
