// Conditional intensities of all processes that can make a payment, and the hypotheses about those under way. All rates
// are a second of event time; a device id never seen before has the same density under every process that draws one, so
// it cancels.
#include "ingest/simulate/likelihood.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/hash.h"
#include "ingest/simulate/payments.h"

namespace alcedo::ingest::simulate {
namespace {

constexpr double kDayS = 86'400.0;
constexpr double kNever = -1e18;

double normal_density(double x, double mean, double sigma) {
  const double z = (x - mean) / sigma;
  return 0.3989422804014327 / sigma * std::exp(-0.5 * z * z);
}

/// How a story's payments follow each other: after `payments_min` it goes on with one probability after each.
struct Rhythm {
  double payments_min = 1;
  double go_on = 0;
  double gap_s = 1;
};
Rhythm make_rhythm(double payments_min, double payments_mean, double gap_s) {
  return {payments_min, 1.0 - 1.0 / (payments_mean - payments_min + 1.0), gap_s};
}

/// A story that may be under way.
struct Hypothesis {
  Story story = Story::kOrdinary;
  std::uint8_t city = 0;
  std::uint32_t merchant = 0;
  std::uint64_t device = 0;
  int payments = 1;
  double alive = 0;      // probability that it exists and will pay again, as of last_s
  double last_s = 0;     // its latest payment
  double price_log = 0;  // mean of its log amounts so far
  double gap_s = 0;      // mean gap so far (slow drip)
};

/// Probability that it is still to pay again after `silence_s` without a payment of its own.
double alive_after(const Hypothesis& h, const Rhythm& rhythm, double silence_s) {
  const double survives = std::exp(-silence_s / rhythm.gap_s);
  return h.alive * survives / (1.0 - h.alive + h.alive * survives);
}

struct Recent {
  double time_s = kNever;
  double weight = 0;
};

/// Last few times of something, oldest overwritten.
template <std::size_t N>
struct RecentTimes {
  std::array<Recent, N> items;
  std::size_t next = 0;
  void add(double time_s, double weight) {
    items[next] = {time_s, weight};
    next = (next + 1) % N;
  }
};

struct Away {
  std::uint8_t city = 0;
  double weight = 0;
};

struct CardBelief {
  double updated_s = kNever;
  double home_s = kNever;       // last seen at home
  double old_phone_s = kNever;  // last seen with the phone that it is known to have
  std::uint64_t new_phone = 0;  // a device that may have replaced the phone, and how sure
  double new_phone_weight = 0;
  RecentTimes<4> home_shop;  // payments in person at home, each of which may have been skimmed
  RecentTimes<6> errands;    // payments that may be followed up
  std::vector<Away> away;
  std::vector<Hypothesis> stories;
};

}  // namespace

struct LikelihoodScorer::Impl {
  explicit Impl(std::shared_ptr<const Population> people)
      : population(std::move(people)),
        parameters(population->parameters()),
        habits(parameters.habits),
        rare(parameters.hard_negatives),
        attacks(parameters.attacks),
        cards(population->num_cards()),
        at_merchants(population->num_merchants()),
        start_s(static_cast<double>(parameters.start_ms) * 1e-3) {
    const Attacks& a = attacks;
    rhythms[static_cast<std::size_t>(Story::kFlashSale)] =
        make_rhythm(rare.flash_payments_min, rare.flash_payments_mean, rare.flash_gap_s);
    rhythms[static_cast<std::size_t>(Story::kCardTesting)] =
        make_rhythm(a.testing_payments_min, a.testing_payments_mean, a.testing_gap_s);
    rhythms[static_cast<std::size_t>(Story::kAccountTakeover)] =
        make_rhythm(a.takeover_payments_min, a.takeover_payments_mean, a.takeover_gap_s);
    rhythms[static_cast<std::size_t>(Story::kImpossibleTravel)] =
        make_rhythm(a.travel_payments_min, a.travel_payments_mean, a.travel_gap_s);
    rhythms[static_cast<std::size_t>(Story::kVelocityBurst)] =
        make_rhythm(a.burst_payments_min, a.burst_payments_mean, a.burst_gap_s);
    rhythms[static_cast<std::size_t>(Story::kCompromisedMerchant)] =
        make_rhythm(a.merchant_payments_min, a.merchant_payments_mean, a.merchant_gap_s);
    rhythms[static_cast<std::size_t>(Story::kSlowDrip)] = make_rhythm(
        a.drip_payments_min, a.drip_payments_mean, 3600 * 0.5 * (a.drip_period_h_min + a.drip_period_h_max));
    for (const double share : kPayDayHours) pay_day_hours_sum += share;
    for (std::uint32_t m = 0; m < population->num_merchants(); ++m) {
      if (population->merchant(m).channel != Channel::kAtm) ++chargeable_merchants;
    }
  }

  const Rhythm& rhythm(Story story) const { return rhythms[static_cast<std::size_t>(story)]; }
  double goes_on(const Hypothesis& h) const {
    return h.payments < rhythm(h.story).payments_min ? 1.0 : rhythm(h.story).go_on;
  }

  double score(const Payment& payment);

  std::shared_ptr<const Population> population;
  const Parameters& parameters;
  const Habits& habits;
  const HardNegatives& rare;
  const Attacks& attacks;
  std::array<Rhythm, kStories> rhythms{};
  std::vector<CardBelief> cards;
  std::vector<std::vector<Hypothesis>> at_merchants;         // sales and compromised merchants
  std::unordered_map<std::uint64_t, Hypothesis> at_devices;  // card testing
  std::unordered_set<std::uint64_t> strange_devices;         // seen, and not among a card's known ones
  double start_s;
  double pay_day_hours_sum = 0;
  std::uint32_t chargeable_merchants = 0;
};

double LikelihoodScorer::Impl::score(const Payment& x) {
  const double now_s = static_cast<double>(x.time_ms) * 1e-3;
  const Card& card = population->card(x.card);
  const Merchant& shop = population->merchant(x.merchant);
  CardBelief& belief = cards[x.card];
  const Channel channel = shop.channel;
  const bool online = channel == Channel::kOnline;
  const std::uint8_t place = x.city;  // what latitude and longitude tell: cities are far apart
  const bool at_home = place == card.city;
  const double amount_log = std::log(static_cast<double>(x.amount_minor) * 0.01);
  const double usual_log = population->amount_log(card, shop);
  const double scale_log = kCurrencies[card.currency].scale_log;
  const double num_online = population->online().size();
  if (belief.updated_s == kNever) {
    belief.updated_s = belief.old_phone_s = start_s;
    belief.home_s = start_s - 8 * kDayS;  // may have been away when the stream begins
  }

  // --- the device
  // -------------------------------------------------------------------------------------------------------------------
  const double phone_share = online                     ? habits.phone_share[card.phone_class]
                             : channel == Channel::kPos ? habits.wallet_share[card.wallet_class]
                                                        : 0.0;
  const double replaced_unseen = 1.0 - std::exp(-rare.new_phone_per_card_day * (now_s - belief.old_phone_s) / kDayS);
  const std::uint64_t fixed_device = online ? population->computer(x.card) : population->chip(x.card);
  const bool is_phone = x.device == population->phone(x.card, 0);
  const bool is_new_phone = belief.new_phone != 0 && x.device == belief.new_phone;
  const bool is_known = x.device == fixed_device || is_phone;
  const bool fresh = !is_known && !is_new_phone && !strange_devices.contains(x.device);
  double own_device = 0;  // probability of this device for a card holder's own payment
  if (x.device == fixed_device)
    own_device = 1.0 - phone_share;
  else if (is_phone)
    own_device = phone_share * (1.0 - belief.new_phone_weight) * (1.0 - replaced_unseen);
  else if (is_new_phone)
    own_device = phone_share * belief.new_phone_weight;
  else if (fresh)
    own_device = phone_share * replaced_unseen;
  const double replaced_part = fresh ? own_device : 0;  // of own_device: a phone not seen before
  const auto with_guest = [&](double guest) {
    if (!online) return own_device;
    return (1.0 - guest) * own_device + (fresh ? guest : 0.0);
  };

  // --- normal processes
  // -------------------------------------------------------------------------------------------------------------
  const int hour = hour_of_week(x.time_ms);
  double base_rate = card.payments_per_day * population->schedule(card.schedule, hour) / kDayS;
  for (const Recent& parent : belief.errands.items) {
    const double since_s = now_s - parent.time_s - habits.follow_up_delay_s;
    if (since_s > 0 && parent.weight > 0)
      base_rate +=
          parent.weight * habits.follow_up / habits.follow_up_mean_s * std::exp(-since_s / habits.follow_up_mean_s);
  }

  // Where the card is.
  const double forget = std::exp(-(now_s - belief.updated_s) / (8 * kDayS));
  double away_sum = 0;
  double away_here = 0;
  for (Away& away : belief.away) {
    away.weight *= forget;
    away_sum += away.weight;
    if (away.city == place) away_here = away.weight;
  }
  const double home_weight = std::max(1e-6, 1.0 - away_sum);
  if (!at_home) {
    const double transfer_s =
        3600 * (rare.holiday_transfer_h + population->distance_km(card.city, place) / rare.holiday_speed_kmh);
    const double could_be_s = std::clamp(now_s - belief.home_s - transfer_s, 0.0, 8 * kDayS);
    away_here += home_weight * rare.holiday_per_card_day * could_be_s / kDayS / (kNumCities - 1);
  }

  const double amount_usual = normal_density(amount_log, usual_log, card.sigma_log);
  double favourite = 0;
  for (std::size_t f = 0; f < kFavourites; ++f)
    favourite += card.favourites[f] == x.merchant ? kFavouriteWeights[f] : 0.0;
  const double in_shops = 1.0 - habits.favourite - habits.explore_online - habits.explore_atm -
                          habits.explore_neighbour - habits.explore_anywhere;
  double explore = 0;  // unnormalised by 1 - favourite
  if (online) {
    explore = habits.explore_online * shop.share;
  } else if (channel == Channel::kAtm) {
    explore = at_home ? habits.explore_atm * shop.share : 0.0;
  } else if (at_home) {
    explore = in_shops * shop.share;
  } else {
    const auto& near = population->neighbours(card.city);
    explore = habits.explore_anywhere / (kNumCities - 1) * shop.share;
    if (std::find(near.begin(), near.end(), shop.city) != near.end())
      explore += habits.explore_neighbour / 3 * shop.share;
  }
  const double home_place = !online   ? 1.0
                            : at_home ? 1.0 - habits.online_elsewhere
                                      : habits.online_elsewhere / (kNumCities - 1);
  const double home_device = with_guest(habits.guest_device);
  const double ordinary_home =
      home_weight * base_rate * (habits.favourite * favourite + explore) * home_place * home_device * amount_usual;

  double pay_day = 0;
  if (Population::pay_day(x.card) == day_of_month(x.time_ms)) {
    const double rate =
        rare.pay_day_extra * kPayDayHours[static_cast<std::size_t>(hour % 24)] * 24 / pay_day_hours_sum / kDayS;
    pay_day = home_weight * rate * explore / (1.0 - habits.favourite) * home_place * home_device *
              normal_density(amount_log, usual_log + rare.pay_day_amount_log, card.sigma_log);
  }

  double large = 0;
  const double over_log = amount_log - usual_log;
  if (at_home && kCategories[shop.category].resale && over_log >= rare.large_amount_log_min &&
      over_log <= rare.large_amount_log_max) {
    const double pick =
        online ? shop.share / population->resale_online_share() : shop.share / population->resale_shop_share(shop.city);
    large = rare.large_per_card_day / kDayS * 0.5 * pick * own_device /
            (rare.large_amount_log_max - rare.large_amount_log_min);
  }

  double holiday = 0;
  if (!at_home && away_here > 0) {
    const double choice = online                     ? rare.holiday_online
                          : channel == Channel::kAtm ? rare.holiday_atm
                                                     : 1.0 - rare.holiday_online - rare.holiday_atm;
    holiday = away_here * base_rate * choice * shop.share * with_guest(rare.holiday_guest_device) *
              normal_density(amount_log, usual_log + rare.holiday_amount_log, card.sigma_log);
  }

  double normal = ordinary_home + pay_day + large + holiday;
  double anomalous = 0;

  // --- stories that begin here
  // ------------------------------------------------------------------------------------------------------
  struct Birth {
    Story story;
    double rate;
  };
  std::array<Birth, 7> births{};
  std::size_t num_births = 0;
  const auto birth = [&](Story story, double rate) {
    if (rate <= 0) return;
    births[num_births++] = {story, rate};
    (is_attack(story) ? anomalous : normal) += rate;
  };
  const auto price_density = [&](double center_log, double spread_log, double own_spread_log) {
    return normal_density(amount_log, scale_log + center_log, std::hypot(spread_log, own_spread_log));
  };
  const double amount_testing =
      normal_density(amount_log, scale_log + attacks.testing_amount_log, attacks.testing_amount_spread_log);
  const double amount_takeover =
      normal_density(amount_log, usual_log + attacks.takeover_amount_log, attacks.takeover_amount_spread_log);
  const double pick_resale =
      online && kCategories[shop.category].resale ? shop.share / population->resale_online_share() : 0.0;
  const double amount_burst = normal_density(amount_log, usual_log + attacks.burst_amount_log, card.sigma_log);
  const double amount_travel = normal_density(amount_log, usual_log + attacks.travel_amount_log, card.sigma_log);
  // A card's part in a story of many cards.
  const double drawn_card = online ? 1.0 / population->num_cards()
                            : channel == Channel::kPos && shop.city == card.city
                                ? 1.0 / static_cast<double>(population->cards_of(shop.city).size())
                                : 0.0;
  const double own_at_home = at_home ? own_device : 0.0;
  if (online) {
    if (fresh) {
      birth(Story::kCardTesting, attacks.testing_per_card_day / kDayS / num_online / kNumCities * amount_testing);
      const double where = at_home ? attacks.takeover_near_home : (1 - attacks.takeover_near_home) / (kNumCities - 1);
      birth(Story::kAccountTakeover, attacks.takeover_per_card_day / kDayS * pick_resale * where * amount_takeover);
    }
    birth(Story::kVelocityBurst, attacks.burst_per_card_day / kDayS * shop.share * own_at_home * amount_burst);
    birth(Story::kSlowDrip, attacks.drip_per_card_day / kDayS / num_online * own_at_home *
                                normal_density(amount_log, card.center_log + attacks.drip_amount_log,
                                               std::hypot(attacks.drip_amount_spread_log, attacks.drip_spread_log)));
    birth(Story::kFlashSale,
          rare.flash_per_card_day / kDayS / num_online * own_at_home *
              price_density(rare.flash_price_log, rare.flash_price_spread_log, rare.flash_spread_log));
  }
  if (channel != Channel::kAtm) {
    birth(Story::kCompromisedMerchant, attacks.merchant_per_card_day / kDayS * population->num_cards() /
                                           chargeable_merchants * drawn_card * own_at_home *
                                           price_density(attacks.merchant_price_log, attacks.merchant_price_spread_log,
                                                         attacks.merchant_spread_log));
  }
  const bool skimmed = channel == Channel::kPos && x.device == population->chip(x.card);
  if (skimmed && !at_home) {
    const auto& far = population->far_cities(card.city);
    if (std::find(far.begin(), far.end(), place) != far.end()) {
      double rate = 0;
      for (const Recent& paid : belief.home_shop.items) {
        const double since_s = now_s - paid.time_s;
        if (since_s >= attacks.travel_delay_s_min && since_s <= attacks.travel_delay_s_max)
          rate +=
              paid.weight * attacks.travel_per_home_payment / (attacks.travel_delay_s_max - attacks.travel_delay_s_min);
      }
      birth(Story::kImpossibleTravel, rate / static_cast<double>(far.size()) * shop.share * amount_travel);
    }
  }

  // --- stories that may be under way
  // ------------------------------------------------------------------------------------------------
  struct Continued {
    Hypothesis* story;
    double rate;
    double alive_now;
  };
  std::array<Continued, 64> continued{};
  std::size_t num_continued = 0;
  const auto proceed = [&](Hypothesis& h) {
    const double silence_s = now_s - h.last_s;
    const Rhythm& r = rhythm(h.story);
    double alive_now, gap_density, marks = 0;
    if (h.story == Story::kSlowDrip) {
      const double low = h.gap_s == 0 ? 3600 * attacks.drip_period_h_min * (1 - attacks.drip_jitter)
                                      : h.gap_s * (1 - 2 * attacks.drip_jitter);
      const double high = h.gap_s == 0 ? 3600 * attacks.drip_period_h_max * (1 + attacks.drip_jitter)
                                       : h.gap_s * (1 + 2 * attacks.drip_jitter);
      alive_now = silence_s <= high ? h.alive : 0.0;
      gap_density = silence_s >= low && silence_s <= high ? 1.0 / (high - low) : 0.0;
    } else {
      alive_now = alive_after(h, r, silence_s);
      gap_density = 1.0 / r.gap_s;
    }
    const double spread_more = std::sqrt(1.0 + 1.0 / h.payments);
    switch (h.story) {
      case Story::kFlashSale:
        if (online)
          marks = drawn_card * own_at_home *
                  normal_density(amount_log, scale_log + h.price_log, rare.flash_spread_log * spread_more);
        break;
      case Story::kCompromisedMerchant:
        marks = drawn_card * own_at_home *
                normal_density(amount_log, scale_log + h.price_log, attacks.merchant_spread_log * spread_more);
        break;
      case Story::kCardTesting:
        if (online && h.merchant == x.merchant && h.city == place) marks = drawn_card * amount_testing;
        break;
      case Story::kAccountTakeover:
        if (h.device == x.device && h.city == place) marks = pick_resale * amount_takeover;
        break;
      case Story::kImpossibleTravel:
        if (skimmed && h.city == place) marks = shop.share * amount_travel;
        break;
      case Story::kVelocityBurst:
        if (online && at_home && h.device == x.device) marks = shop.share * amount_burst;
        break;
      case Story::kSlowDrip:
        if (online && at_home && h.device == x.device && h.merchant == x.merchant)
          marks = normal_density(amount_log, scale_log + h.price_log, attacks.drip_spread_log * spread_more);
        break;
      default:
        break;
    }
    const double rate = alive_now * gap_density * marks;
    if (num_continued < continued.size()) {
      continued[num_continued++] = {&h, rate, alive_now};
      (is_attack(h.story) ? anomalous : normal) += rate;
    }
  };
  for (Hypothesis& h : belief.stories) proceed(h);
  auto& here = at_merchants[x.merchant];
  for (Hypothesis& h : here) proceed(h);
  if (!is_known && !at_devices.empty()) {
    const auto found = at_devices.find(x.device);
    if (found != at_devices.end()) proceed(found->second);
  }

  const double total = normal + anomalous;
  const double floor = 1e-300;
  const double result = anomalous <= floor ? -1000.0 : std::log(anomalous) - std::log(std::max(normal, floor));

  // --- what this payment teaches
  // ----------------------------------------------------------------------------------------------------
  if (total <= 0) {
    belief.updated_s = now_s;
    return result;
  }
  const double ordinary_share = (ordinary_home + pay_day + holiday) / total;
  for (std::size_t i = 0; i < num_continued; ++i) {
    Hypothesis& h = *continued[i].story;
    const double share = continued[i].rate / total;
    if (share > 0.5) {
      const double price_log = amount_log - scale_log;
      if (h.story == Story::kSlowDrip)
        h.gap_s = h.gap_s == 0 ? now_s - h.last_s : h.gap_s + (now_s - h.last_s - h.gap_s) / h.payments;
      h.price_log += (price_log - h.price_log) / (h.payments + 1);
      ++h.payments;
      h.alive = share * goes_on(h);
      h.last_s = now_s;
    } else if (h.story == Story::kSlowDrip) {
      h.alive = continued[i].alive_now;  // its clock is its own last payment
    } else {
      h.alive = share * goes_on(h) + (1.0 - share) * continued[i].alive_now;
      h.last_s = now_s;
    }
    // A device is a stranger's or the card holder's own new phone, not both.
    if (h.story == Story::kAccountTakeover && h.device == x.device) h.alive = share * goes_on(h);
  }
  const auto drop = [](std::vector<Hypothesis>& list, double alive_min, std::size_t count_max) {
    std::erase_if(list, [&](const Hypothesis& h) { return h.alive < alive_min; });
    while (list.size() > count_max)
      list.erase(std::min_element(list.begin(), list.end(),
                                  [](const Hypothesis& a, const Hypothesis& b) { return a.alive < b.alive; }));
  };
  for (std::size_t i = 0; i < num_births; ++i) {
    Hypothesis h;
    h.story = births[i].story;
    h.city = place;
    h.merchant = x.merchant;
    h.device = x.device;
    h.alive = births[i].rate / total * goes_on(h);
    h.last_s = now_s;
    h.price_log = amount_log - scale_log;
    if (h.story == Story::kCardTesting)
      at_devices[x.device] = h;
    else if (h.story == Story::kCompromisedMerchant || h.story == Story::kFlashSale)
      here.push_back(h);
    else
      belief.stories.push_back(h);
  }
  drop(belief.stories, 1e-7, 8);
  drop(here, 1e-10, 24);

  double left_away = 0;
  bool known_city = false;
  const double elsewhere_share = 1.0 - (ordinary_home + pay_day + holiday + large) / total;
  for (Away& away : belief.away) {
    away.weight *= elsewhere_share;
    if (away.city == place) {
      away.weight += holiday / total;
      known_city = true;
    }
    left_away += away.weight;
  }
  if (!known_city && holiday / total > 1e-4) belief.away.push_back({place, holiday / total});
  std::erase_if(belief.away, [](const Away& away) { return away.weight < 1e-6; });

  const double home_share = (ordinary_home + pay_day + large) / total;
  if (at_home && home_share > 0.5) belief.home_s = now_s;
  if (at_home && !online) belief.home_shop.add(now_s, (ordinary_home + pay_day) / total);
  belief.errands.add(now_s, ordinary_share);
  if (is_phone) {
    belief.old_phone_s = now_s;
    belief.new_phone_weight = 0;
  } else if (is_new_phone) {
    belief.new_phone_weight = ordinary_share;
  } else if (fresh) {
    strange_devices.insert(x.device);
    // The part of the normal processes that drew a replaced phone, against a guest's device or a stranger's.
    const double guest = holiday > ordinary_home ? rare.holiday_guest_device : habits.guest_device;
    const double as_phone = replaced_part / std::max(1e-12, replaced_part + (online ? guest : 0.0));
    const double weight = ordinary_share * as_phone;
    if (weight > belief.new_phone_weight) {
      belief.new_phone = x.device;
      belief.new_phone_weight = weight;
    }
  }
  belief.updated_s = now_s;
  return result;
}

LikelihoodScorer::LikelihoodScorer(std::shared_ptr<const Population> population)
    : impl_(std::make_unique<Impl>(std::move(population))) {}
LikelihoodScorer::~LikelihoodScorer() = default;
double LikelihoodScorer::score(const Payment& payment) { return impl_->score(payment); }

}  // namespace alcedo::ingest::simulate
