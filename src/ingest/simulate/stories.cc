// Episodes step through one heap in event time. Two streams of draws: ordinary payments and stories do not disturb each
// other's parameters when one of them changes.
#include "ingest/simulate/stories.h"

#include <algorithm>
#include <array>

#include "ingest/simulate/portable_math.h"

namespace alcedo::ingest::simulate {
namespace {

constexpr double kDayMsReal = 86'400'000.0;
// Before the start, so that the first hour is like any other. The slowest story (a drip) lasts up to three weeks.
constexpr double kLongLeadMs = 24 * kDayMsReal;
constexpr double kShortLeadMs = kDayMsReal;

struct Process {
  Story story;
  double per_card_day;
  double lead_ms;
};
std::array<Process, 9> processes(const Parameters& parameters) {
  const Attacks& a = parameters.attacks;
  const HardNegatives& h = parameters.hard_negatives;
  return {{{Story::kHolidayTravel, h.holiday_per_card_day, kLongLeadMs},
           {Story::kLargePurchase, h.large_per_card_day, 0},
           {Story::kFlashSale, h.flash_per_card_day, kShortLeadMs},
           {Story::kNewPhone, h.new_phone_per_card_day, 0},
           {Story::kCardTesting, a.testing_per_card_day, kShortLeadMs},
           {Story::kAccountTakeover, a.takeover_per_card_day, kShortLeadMs},
           {Story::kVelocityBurst, a.burst_per_card_day, kShortLeadMs},
           {Story::kCompromisedMerchant, a.merchant_per_card_day, kShortLeadMs},
           {Story::kSlowDrip, a.drip_per_card_day, kLongLeadMs}}};
}

}  // namespace

Stories::Stories(const Population& population)
    : population_(population),
      parameters_(population.parameters()),
      payment_prng_(mix64(parameters_.seed) ^ 0x7061796d656e74ULL),
      story_prng_(mix64(parameters_.seed) ^ 0x73746f7279ULL),
      states_(population.num_cards()) {
  const auto start_ms = static_cast<double>(parameters_.start_ms);
  for (const Process& process : processes(parameters_)) push_start(process.story, start_ms - process.lead_ms);
  Payment unseen;
  while (next_ms() < parameters_.start_ms) step(unseen);
}

void Stories::push(std::int64_t time_ms, std::uint32_t subject, Story story, Step step) {
  pending_.push({time_ms, order_++, subject, story, step});
}

void Stories::push_start(Story story, double from_ms) {
  for (const Process& process : processes(parameters_)) {
    if (process.story != story || process.per_card_day <= 0) continue;
    const double mean_ms = kDayMsReal / (process.per_card_day * population_.num_cards());
    push(static_cast<std::int64_t>(from_ms + mean_ms * draw_exponential(story_prng_)), 0, story, Step::kStart);
  }
}

bool Stories::step(Payment& out) {
  const Pending pending = pending_.top();
  pending_.pop();
  switch (pending.step) {
    case Step::kFollowUp:
      return ordinary(pending.time_ms, pending.subject, false, out);
    case Step::kSkimmed:
      if (states_[pending.subject].whereabouts == Whereabouts::kHome)
        begin(Story::kImpossibleTravel, pending.time_ms, pending.subject);
      return false;
    case Step::kStart: {
      push_start(pending.story, static_cast<double>(pending.time_ms));
      if (pending.story == Story::kFlashSale || pending.story == Story::kCompromisedMerchant ||
          pending.story == Story::kCardTesting) {
        begin(pending.story, pending.time_ms, 0);
        return false;
      }
      const std::uint32_t card = random_card_at_home();
      if (pending.story == Story::kNewPhone) {
        CardState& state = states_[card];
        ++state.phone_version;
        state.phone_marks = static_cast<std::uint8_t>(parameters_.hard_negatives.new_phone_marked);
        return false;
      }
      begin(pending.story, pending.time_ms, card);
      return false;
    }
    case Step::kContinue:
      return proceed(pending, out);
  }
  return false;
}

void Stories::begin(Story story, std::int64_t time_ms, std::uint32_t card) {
  const Attacks& a = parameters_.attacks;
  const HardNegatives& h = parameters_.hard_negatives;
  Prng& prng = story_prng_;
  Episode episode;
  episode.story = story;
  episode.card = card;
  episode.number = ++episode_number_;
  const Card& who = population_.card(card);
  std::int64_t first_ms = time_ms;
  switch (story) {
    case Story::kHolidayTravel: {
      episode.city = static_cast<std::uint8_t>(random_other_city(who.city, prng));
      const double transfer_ms =
          3.6e6 * (h.holiday_transfer_h + population_.distance_km(who.city, episode.city) / h.holiday_speed_kmh);
      const double days = draw_between(prng, h.holiday_days_min, h.holiday_days_max);
      states_[card].whereabouts = Whereabouts::kLeaving;
      first_ms = time_ms + static_cast<std::int64_t>(transfer_ms);
      episode.end_ms = first_ms + static_cast<std::int64_t>(days * kDayMsReal);
      break;
    }
    case Story::kFlashSale: {
      const IdRange online = population_.online();
      episode.merchant = online.begin + static_cast<std::uint32_t>(prng.below(online.size()));
      episode.level_log = h.flash_price_log + h.flash_price_spread_log * draw_normal(prng);
      break;
    }
    case Story::kCardTesting: {
      const IdRange online = population_.online();
      episode.merchant = online.begin + static_cast<std::uint32_t>(prng.below(online.size()));
      episode.device = fresh_device();
      episode.city = static_cast<std::uint8_t>(prng.below(kNumCities));
      break;
    }
    case Story::kAccountTakeover:
      episode.device = fresh_device();
      episode.near_home = draw_chance(prng, a.takeover_near_home);
      episode.city = static_cast<std::uint8_t>(random_other_city(who.city, prng));
      break;
    case Story::kImpossibleTravel: {
      const auto& far = population_.far_cities(who.city);
      episode.city = far[prng.below(far.size())];
      break;
    }
    case Story::kVelocityBurst:
    case Story::kSlowDrip: {
      Payment own;
      own.card = card;
      own.channel = Channel::kOnline;
      own.story = story;
      own_device(who, 0, prng, own);
      episode.device = own.device;
      if (story == Story::kSlowDrip) {
        const IdRange online = population_.online();
        episode.merchant = online.begin + static_cast<std::uint32_t>(prng.below(online.size()));
        episode.level_log = who.center_log + a.drip_amount_log + a.drip_amount_spread_log * draw_normal(prng);
        episode.period_ms = 3.6e6 * draw_between(prng, a.drip_period_h_min, a.drip_period_h_max);
      }
      break;
    }
    case Story::kCompromisedMerchant: {
      do {
        episode.merchant = static_cast<std::uint32_t>(prng.below(population_.num_merchants()));
      } while (population_.merchant(episode.merchant).channel == Channel::kAtm);
      episode.level_log = a.merchant_price_log + a.merchant_price_spread_log * draw_normal(prng);
      break;
    }
    default:
      break;
  }
  std::uint32_t slot;
  if (free_episodes_.empty()) {
    slot = static_cast<std::uint32_t>(episodes_.size());
    episodes_.push_back(episode);
  } else {
    slot = free_episodes_.back();
    free_episodes_.pop_back();
    episodes_[slot] = episode;
  }
  if (story == Story::kHolidayTravel) holidays_[card] = slot;
  push(first_ms, slot, story, Step::kContinue);
}

bool Stories::goes_on(std::uint32_t payments, double payments_min, double payments_mean) {
  if (payments < payments_min) return true;
  return draw_chance(story_prng_, 1.0 - 1.0 / (payments_mean - payments_min + 1.0));
}

bool Stories::proceed_holiday(std::uint32_t slot, std::int64_t time_ms) {
  const Episode& episode = episodes_[slot];
  CardState& state = states_[episode.card];
  const HardNegatives& h = parameters_.hard_negatives;
  switch (state.whereabouts) {
    case Whereabouts::kLeaving:
      state.whereabouts = Whereabouts::kAway;
      push(episode.end_ms, slot, Story::kHolidayTravel, Step::kContinue);
      return true;
    case Whereabouts::kAway: {
      const double km = population_.distance_km(population_.card(episode.card).city, episode.city);
      state.whereabouts = Whereabouts::kReturning;
      push(time_ms + static_cast<std::int64_t>(3.6e6 * (h.holiday_transfer_h + km / h.holiday_speed_kmh)), slot,
           Story::kHolidayTravel, Step::kContinue);
      return true;
    }
    default:
      state.whereabouts = Whereabouts::kHome;
      holidays_.erase(episode.card);
      return false;
  }
}

bool Stories::proceed(const Pending& pending, Payment& out) {
  const std::uint32_t slot = pending.subject;
  if (pending.story == Story::kHolidayTravel) {
    if (!proceed_holiday(slot, pending.time_ms)) free_episodes_.push_back(slot);
    return false;
  }
  Episode& episode = episodes_[slot];
  make_payment(episode, pending.time_ms, out);
  ++episode.payments;

  const Attacks& a = parameters_.attacks;
  const HardNegatives& h = parameters_.hard_negatives;
  bool more = false;
  double gap_ms = 0;
  const auto exponential_gap = [&](double payments_min, double payments_mean, double gap_s) {
    more = goes_on(episode.payments, payments_min, payments_mean);
    if (more) gap_ms = 1000.0 * gap_s * draw_exponential(story_prng_);
  };
  switch (episode.story) {
    case Story::kFlashSale:
      exponential_gap(h.flash_payments_min, h.flash_payments_mean, h.flash_gap_s);
      break;
    case Story::kCardTesting:
      exponential_gap(a.testing_payments_min, a.testing_payments_mean, a.testing_gap_s);
      break;
    case Story::kAccountTakeover:
      exponential_gap(a.takeover_payments_min, a.takeover_payments_mean, a.takeover_gap_s);
      break;
    case Story::kImpossibleTravel:
      exponential_gap(a.travel_payments_min, a.travel_payments_mean, a.travel_gap_s);
      break;
    case Story::kVelocityBurst:
      exponential_gap(a.burst_payments_min, a.burst_payments_mean, a.burst_gap_s);
      break;
    case Story::kCompromisedMerchant:
      exponential_gap(a.merchant_payments_min, a.merchant_payments_mean, a.merchant_gap_s);
      break;
    case Story::kSlowDrip:
      more = goes_on(episode.payments, a.drip_payments_min, a.drip_payments_mean);
      if (more) gap_ms = episode.period_ms * draw_between(story_prng_, 1 - a.drip_jitter, 1 + a.drip_jitter);
      break;
    default:
      break;  // a large purchase is a single payment
  }
  if (more)
    push(pending.time_ms + static_cast<std::int64_t>(gap_ms), slot, episode.story, Step::kContinue);
  else
    free_episodes_.push_back(slot);
  return true;
}

void Stories::make_payment(Episode& episode, std::int64_t time_ms, Payment& out) {
  const Attacks& a = parameters_.attacks;
  const HardNegatives& h = parameters_.hard_negatives;
  Prng& prng = story_prng_;
  out.time_ms = time_ms;
  out.story = episode.story;
  out.episode = episode.number;

  if (episode.story == Story::kCardTesting || episode.story == Story::kFlashSale) {
    episode.card = random_card_at_home();
  } else if (episode.story == Story::kCompromisedMerchant) {
    const Merchant& shop = population_.merchant(episode.merchant);
    if (shop.channel == Channel::kOnline) {
      episode.card = random_card_at_home();
    } else {
      const auto residents = population_.cards_of(shop.city);
      do {
        episode.card = residents[prng.below(residents.size())];
      } while (states_[episode.card].whereabouts != Whereabouts::kHome);
    }
  }
  const Card& card = population_.card(episode.card);
  out.card = episode.card;
  out.currency = card.currency;

  std::uint32_t merchant = episode.merchant;
  if (episode.story == Story::kLargePurchase) {
    merchant =
        draw_chance(prng, 0.5) ? population_.pick_resale_shop(card.city, prng) : population_.pick_resale_online(prng);
  } else if (episode.story == Story::kAccountTakeover) {
    merchant = population_.pick_resale_online(prng);
  } else if (episode.story == Story::kImpossibleTravel) {
    merchant = population_.pick_shop(episode.city, prng);
  } else if (episode.story == Story::kVelocityBurst) {
    merchant = population_.pick_online(prng);
  }
  pay_at(merchant, out);

  const Merchant& shop = population_.merchant(merchant);
  const double usual_log = population_.amount_log(card, shop);
  const double scale_log = kCurrencies[card.currency].scale_log;
  double amount_log = 0;
  switch (episode.story) {
    case Story::kLargePurchase:
      amount_log = usual_log + draw_between(prng, h.large_amount_log_min, h.large_amount_log_max);
      break;
    case Story::kFlashSale:
      amount_log = scale_log + episode.level_log + h.flash_spread_log * draw_normal(prng);
      break;
    case Story::kCardTesting:
      amount_log = scale_log + a.testing_amount_log + a.testing_amount_spread_log * draw_normal(prng);
      break;
    case Story::kAccountTakeover:
      amount_log = usual_log + a.takeover_amount_log + a.takeover_amount_spread_log * draw_normal(prng);
      break;
    case Story::kImpossibleTravel:
      amount_log = usual_log + a.travel_amount_log + card.sigma_log * draw_normal(prng);
      break;
    case Story::kVelocityBurst:
      amount_log = usual_log + a.burst_amount_log + card.sigma_log * draw_normal(prng);
      break;
    case Story::kCompromisedMerchant:
      amount_log = scale_log + episode.level_log + a.merchant_spread_log * draw_normal(prng);
      break;
    default:
      amount_log = episode.level_log + a.drip_spread_log * draw_normal(prng);
      break;
  }
  set_amount(amount_log, out);

  if (shop.channel == Channel::kOnline) {
    const bool elsewhere =
        episode.story == Story::kCardTesting || (episode.story == Story::kAccountTakeover && !episode.near_home);
    if (!elsewhere) {
      online_place(card.home_latitude_e4, card.home_longitude_e4, prng, out);
      out.city = card.city;
    } else {
      if (episode.latitude_e4 == 0) {  // an attacker stays in one place
        online_city(episode.city, prng, out);
        episode.latitude_e4 = out.latitude_e4;
        episode.longitude_e4 = out.longitude_e4;
      }
      out.latitude_e4 = episode.latitude_e4;
      out.longitude_e4 = episode.longitude_e4;
      out.city = episode.city;
    }
  }
  if (episode.device != 0)
    out.device = episode.device;
  else if (episode.story == Story::kImpossibleTravel)
    out.device = population_.chip(out.card);
  else
    own_device(card, 0, prng, out);
}

bool Stories::ordinary(std::int64_t time_ms, std::uint32_t card_id, bool pay_day, Payment& out) {
  const Habits& habits = parameters_.habits;
  const HardNegatives& h = parameters_.hard_negatives;
  Prng& prng = payment_prng_;
  const Card& card = population_.card(card_id);
  const Whereabouts whereabouts = states_[card_id].whereabouts;
  if (whereabouts == Whereabouts::kLeaving || whereabouts == Whereabouts::kReturning) return false;
  const bool away = whereabouts == Whereabouts::kAway;
  if (away && pay_day) return false;

  out.time_ms = time_ms;
  out.card = card_id;
  out.currency = card.currency;
  out.story = pay_day ? Story::kPayDay : Story::kOrdinary;
  out.episode = 0;
  double raise_log = pay_day ? h.pay_day_amount_log : 0.0;
  double guest = habits.guest_device;
  double u = prng.uniform();
  if (away) {
    const Episode& holiday = episodes_[holidays_.find(card_id)->second];
    out.story = Story::kHolidayTravel;
    out.episode = holiday.number;
    raise_log = h.holiday_amount_log;
    guest = h.holiday_guest_device;
    if (u < h.holiday_online) {
      pay_at(population_.pick_online(prng), out);
      online_city(holiday.city, prng, out);
    } else if (u < h.holiday_online + h.holiday_atm) {
      const IdRange atms = population_.atms(holiday.city);
      pay_at(atms.begin + static_cast<std::uint32_t>(prng.below(atms.size())), out);
    } else {
      pay_at(population_.pick_shop(holiday.city, prng), out);
    }
  } else {
    if (!pay_day && u < habits.favourite) {
      double rest = u / habits.favourite;
      std::size_t f = 0;
      while (f + 1 < kFavourites && rest >= kFavouriteWeights[f]) rest -= kFavouriteWeights[f++];
      pay_at(card.favourites[f], out);
    } else {
      if (pay_day) u = habits.favourite + u * (1 - habits.favourite);
      u -= habits.favourite;
      if (u < habits.explore_online) {
        pay_at(population_.pick_online(prng), out);
      } else if ((u -= habits.explore_online) < habits.explore_atm) {
        const IdRange atms = population_.atms(card.city);
        pay_at(atms.begin + static_cast<std::uint32_t>(prng.below(atms.size())), out);
      } else if ((u -= habits.explore_atm) < habits.explore_neighbour) {
        pay_at(population_.pick_shop(population_.neighbours(card.city)[prng.below(3)], prng), out);
      } else if ((u -= habits.explore_neighbour) < habits.explore_anywhere) {
        pay_at(population_.pick_shop(random_other_city(card.city, prng), prng), out);
      } else {
        pay_at(population_.pick_shop(card.city, prng), out);
      }
    }
    if (out.channel == Channel::kOnline) {
      if (draw_chance(prng, habits.online_elsewhere)) {
        online_city(random_other_city(card.city, prng), prng, out);
      } else {
        online_place(card.home_latitude_e4, card.home_longitude_e4, prng, out);
        out.city = card.city;
      }
    }
  }
  own_device(card, guest, prng, out);
  set_amount(
      population_.amount_log(card, population_.merchant(out.merchant)) + raise_log + card.sigma_log * draw_normal(prng),
      out);

  if (draw_chance(prng, habits.follow_up)) {
    const double delay_s = habits.follow_up_delay_s + habits.follow_up_mean_s * draw_exponential(prng);
    push(time_ms + static_cast<std::int64_t>(1000.0 * delay_s), card_id, Story::kOrdinary, Step::kFollowUp);
  }
  // A card is copied where its owner has just paid in person, at home.
  if (!away && out.channel != Channel::kOnline && out.city == card.city) {
    const Attacks& a = parameters_.attacks;
    if (draw_chance(story_prng_, a.travel_per_home_payment)) {
      const double delay_s = draw_between(story_prng_, a.travel_delay_s_min, a.travel_delay_s_max);
      push(time_ms + static_cast<std::int64_t>(1000.0 * delay_s), card_id, Story::kImpossibleTravel, Step::kSkimmed);
    }
  }
  return true;
}

std::uint32_t Stories::random_card_at_home() {
  std::uint32_t card;
  do {
    card = static_cast<std::uint32_t>(story_prng_.below(population_.num_cards()));
  } while (states_[card].whereabouts != Whereabouts::kHome);
  return card;
}

int Stories::random_other_city(int city, Prng& prng) const {
  const auto drawn = static_cast<int>(prng.below(kNumCities - 1));
  return drawn < city ? drawn : drawn + 1;
}

void Stories::pay_at(std::uint32_t merchant, Payment& out) const {
  const Merchant& shop = population_.merchant(merchant);
  out.merchant = merchant;
  out.category = shop.category;
  out.channel = shop.channel;
  if (shop.channel == Channel::kOnline) return;
  out.city = shop.city;
  out.latitude_e4 = shop.latitude_e4;
  out.longitude_e4 = shop.longitude_e4;
}

void Stories::online_place(std::int32_t latitude_e4, std::int32_t longitude_e4, Prng& prng, Payment& out) const {
  const double scatter_e4 = parameters_.habits.home_ip_scatter_deg * 1e4;
  out.latitude_e4 = latitude_e4 + static_cast<std::int32_t>(std::floor(scatter_e4 * draw_normal(prng) + 0.5));
  out.longitude_e4 = longitude_e4 + static_cast<std::int32_t>(std::floor(scatter_e4 * draw_normal(prng) + 0.5));
}

void Stories::online_city(int city, Prng& prng, Payment& out) const {
  const City& place = kCities[static_cast<std::size_t>(city)];
  const double scatter = parameters_.habits.city_scatter_deg;
  out.city = static_cast<std::uint8_t>(city);
  out.latitude_e4 =
      static_cast<std::int32_t>(std::floor((place.latitude_deg + scatter * draw_normal(prng)) * 1e4 + 0.5));
  out.longitude_e4 =
      static_cast<std::int32_t>(std::floor((place.longitude_deg + scatter * draw_normal(prng)) * 1e4 + 0.5));
}

void Stories::set_amount(double amount_log, Payment& out) const {
  double amount = portable_exp(std::clamp(amount_log, -2.0, 14.0));
  if (out.channel == Channel::kAtm) {
    // Machines pay whole notes: tens, or hundreds where money is small.
    const double note = kCurrencies[out.currency].scale_log > 1 ? 50.0 : 10.0;
    amount = std::max(note, note * std::floor(amount / note + 0.5));
  }
  out.amount_minor = std::max<std::int64_t>(10, static_cast<std::int64_t>(std::floor(amount * 100.0 + 0.5)));
}

void Stories::own_device(const Card& card, double guest, Prng& prng, Payment& out) {
  CardState& state = states_[out.card];
  const Habits& habits = parameters_.habits;
  const double phone_share = out.channel == Channel::kOnline ? habits.phone_share[card.phone_class]
                             : out.channel == Channel::kPos  ? habits.wallet_share[card.wallet_class]
                                                             : 0.0;
  if (out.channel == Channel::kOnline && guest > 0 && draw_chance(prng, guest)) {
    out.device = prng.next() >> 16;
    return;
  }
  if (draw_chance(prng, phone_share)) {
    out.device = population_.phone(out.card, state.phone_version);
    if (state.phone_marks > 0 && out.story == Story::kOrdinary) {
      out.story = Story::kNewPhone;
      --state.phone_marks;
    }
    return;
  }
  out.device = out.channel == Channel::kOnline ? population_.computer(out.card) : population_.chip(out.card);
}

}  // namespace alcedo::ingest::simulate
