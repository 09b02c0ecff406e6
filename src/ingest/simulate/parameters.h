// Every number of the payments simulator in one place, frozen before any model was trained, so that results stay
// comparable.
#pragma once

#include <cstdint>

namespace alcedo::ingest::simulate {

/// The world and its ordinary habits. "log" amounts are natural logarithms; a card's amounts are in its own currency.
struct Habits {
  double cards_per_merchant = 20;  // merchants = cards / this, at least merchants_min
  std::uint32_t merchants_min = 2000;
  double online_merchant_share = 0.25;
  double atm_share = 0.04;            // of a city's merchants
  double zipf_offset = 2;             // popularity of rank r (from 0) in its city or online: 1 / (r + 1 + offset)
  double city_scatter_deg = 0.04;     // std of merchants and homes about their city's centre
  double home_ip_scatter_deg = 0.01;  // std of an online payment's place about the home

  double payments_per_day = 2.5;      // mean over cards
  double payments_spread_log = 0.55;  // cards' rates are log-normal with this sigma ...
  double payments_per_day_min = 0.4;  // ... cut to this range
  double payments_per_day_max = 10;
  double amount_center_log = 3.0;  // mean over cards of a card's mean log amount: e^3.0 = 20 EUR, before the category
  double amount_center_spread_log = 0.5;
  double amount_sigma_min = 0.35;  // a card's own sigma of log amounts, uniform
  double amount_sigma_max = 0.60;
  double merchant_level_spread_log = 0.25;

  double favourite = 0.62;          // a payment goes to one of the card's favourites (see kFavouriteWeights)
  double explore_online = 0.12;     // else by popularity: online,
  double explore_atm = 0.04;        // cash in the home city,
  double explore_neighbour = 0.03;  // a shop of one of the three nearest cities,
  double explore_anywhere = 0.001;  // a shop anywhere (a second card holder, a terminal that reports its head office);
                                    // what is left: a shop of the home city
  double online_elsewhere = 0.004;  // an online payment whose address resolves to some other city (VPN, mobile gateway)
  double guest_device = 0.02;       // an online payment from a device never seen before or after
  double wallet_share[4] = {0.0, 0.2, 0.5, 0.8};  // in shops with the phone instead of the chip, by card
  double phone_share[4] = {0.2, 0.4, 0.6, 0.9};   // online with the phone instead of the computer, by card
  double shared_computer = 0.3;                   // of card pairs (2k, 2k + 1): one household, one computer

  double follow_up = 0.12;        // a payment is followed by another on the same round of errands,
  double follow_up_delay_s = 60;  // this much later at least
  double follow_up_mean_s = 240;  // plus an exponential of this mean
};

/// Rare but honest behaviour. All labelled normal.
struct HardNegatives {
  // Holiday travel: away from home for days, shopping at the destination; silent while in the air.
  double holiday_per_card_day = 0.0012;
  double holiday_days_min = 4;
  double holiday_days_max = 12;
  double holiday_transfer_h = 2;  // plus the distance at holiday_speed_kmh, both ways
  double holiday_speed_kmh = 700;
  double holiday_amount_log = 0.3;     // added to log amounts
  double holiday_online = 0.15;        // share of payments online from there,
  double holiday_atm = 0.10;           // and in cash; the rest in shops
  double holiday_guest_device = 0.05;  // online from a hotel's machine

  // Pay day: on its day of the month a card makes extra, larger payments.
  double pay_day_extra = 1.0;  // mean number of extra payments that day
  double pay_day_amount_log = 0.7;

  // A first large purchase at a shop or web shop for electronics, furniture, jewellery, travel.
  double large_per_card_day = 0.0015;
  double large_amount_log_min = 0.7;  // uniform, above the card's level there
  double large_amount_log_max = 2.0;

  // Flash sale: a web shop sells one thing at one price to many cards.
  double flash_per_card_day = 4e-5;
  double flash_payments_min = 40;
  double flash_payments_mean = 80;
  double flash_gap_s = 20;              // mean of exponential gaps
  double flash_price_log = 3.7;         // e^3.7 = 40 EUR
  double flash_price_spread_log = 0.5;  // over sales
  double flash_spread_log = 0.10;       // within one

  // A new phone replaces the old one for good.
  double new_phone_per_card_day = 0.0008;
  int new_phone_marked = 3;  // its first uses carry the mark of this story
};

/// Attacks start as Poisson processes; rates are a card and day, so that a larger population has more. After `*_min`
/// payments an attack goes on with the same probability after each, so that its mean number is `*_mean`.
struct Attacks {
  // Card testing: one new device tries stolen cards with small amounts at one web shop.
  double testing_per_card_day = 2.2e-4;
  double testing_payments_min = 10;
  double testing_payments_mean = 22;
  double testing_gap_s = 8;
  double testing_amount_log = 1.2;  // e^0.4 = 1.50 EUR
  double testing_amount_spread_log = 0.6;

  // Account takeover: a stranger's device, larger amounts at shops for things that sell on.
  double takeover_per_card_day = 4e-4;
  double takeover_payments_min = 3;
  double takeover_payments_mean = 7;
  double takeover_gap_s = 900;
  double takeover_near_home = 0.5;  // through a proxy near the card's home; else from another city
  double takeover_amount_log = 0.8;
  double takeover_amount_spread_log = 0.6;

  // Impossible travel: a copied card in shops far away, minutes after its owner paid at home.
  double travel_per_home_payment = 3.5e-4;
  double travel_delay_s_min = 900;  // uniform after the owner's payment
  double travel_delay_s_max = 10800;
  double travel_km_min = 900;
  double travel_payments_min = 2;
  double travel_payments_mean = 4;
  double travel_gap_s = 900;
  double travel_amount_log = 0.5;

  // Velocity burst: a card emptied in minutes from its owner's own device.
  double burst_per_card_day = 2e-4;
  double burst_payments_min = 8;
  double burst_payments_mean = 18;
  double burst_gap_s = 20;
  double burst_amount_log = 0.3;

  // Compromised merchant: a shop's checkout charges many cards one odd price.
  double merchant_per_card_day = 1.1e-4;
  double merchant_payments_min = 20;
  double merchant_payments_mean = 35;
  double merchant_gap_s = 120;
  double merchant_price_log = 3.7;         // e^4.4 = 81 EUR
  double merchant_price_spread_log = 0.5;  // over attacks
  double merchant_spread_log = 0.03;       // within one

  // Slow drip: one small amount again and again at an unknown web shop, for days.
  double drip_per_card_day = 1.4e-4;
  double drip_payments_min = 6;
  double drip_payments_mean = 14;
  double drip_period_h_min = 4;  // uniform over attacks
  double drip_period_h_max = 9;
  double drip_jitter = 0.05;            // each gap is the period times 1 +- this, uniform
  double drip_amount_log = -1.3;        // to the card's mean log amount
  double drip_amount_spread_log = 0.3;  // over attacks
  double drip_spread_log = 0.02;        // within one
};

struct Parameters {
  std::uint64_t seed = 1;
  std::uint32_t cards = 100'000;              // 1,000 to kCardsMax
  std::int64_t start_ms = 1'736'121'600'000;  // Monday 2025-01-06 00:00 UTC
  Habits habits;
  HardNegatives hard_negatives;
  Attacks attacks;
};

inline constexpr std::uint32_t kCardsMin = 1'000;
inline constexpr std::uint32_t kCardsMax = 10'000'000;
inline constexpr int kFavourites = 5;
inline constexpr double kFavouriteWeights[kFavourites] = {0.34, 0.24, 0.18, 0.14, 0.10};

}  // namespace alcedo::ingest::simulate
