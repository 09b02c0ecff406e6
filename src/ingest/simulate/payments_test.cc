// Shows that the simulated payments are what docs/simulator.md says: the same everywhere, in order, with the habits,
// hours and signatures that the parameters give them.
#include "ingest/simulate/payments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <regex>
#include <set>
#include <string>

#include "core/hash.h"
#include "ingest/simulate/portable_math.h"

namespace alcedo::ingest::simulate {
namespace {

std::vector<Payment> take(const Parameters& parameters, std::size_t count) {
  Payments stream(parameters);
  std::vector<Payment> payments(count);
  for (Payment& payment : payments) stream.next(payment);
  return payments;
}

std::uint64_t hash_of_lines(const std::vector<Payment>& payments) {
  std::array<char, kJsonBytesMax> line;
  std::uint64_t hash = 1;
  for (const Payment& payment : payments) {
    const char* end = render_json(payment, line.data());
    hash = hash_combine(hash, hash64({line.data(), static_cast<std::size_t>(end - line.data())}));
    hash = hash_combine(hash, payment.label());
  }
  return hash;
}

double log_amount(const Payment& payment) { return std::log(static_cast<double>(payment.amount_minor) * 0.01); }

/// One stream that several tests read; five days of 20,000 cards.
class PaymentsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    Parameters parameters;
    parameters.cards = 20'000;
    parameters.seed = 11;
    stream_ = new Payments(parameters);
    payments_ = new std::vector<Payment>(300'000);
    for (Payment& payment : *payments_) stream_->next(payment);
  }
  static void TearDownTestSuite() {
    delete payments_;
    delete stream_;
  }
  static const Population& population() { return stream_->population(); }
  static const Parameters& parameters() { return population().parameters(); }
  static const std::vector<Payment>& payments() { return *payments_; }

  /// Payments of each episode of a story, in order.
  static std::map<std::uint32_t, std::vector<Payment>> episodes(Story story) {
    std::map<std::uint32_t, std::vector<Payment>> out;
    for (const Payment& payment : payments()) {
      if (payment.story == story) out[payment.episode].push_back(payment);
    }
    return out;
  }

  static Payments* stream_;
  static std::vector<Payment>* payments_;
};
Payments* PaymentsTest::stream_ = nullptr;
std::vector<Payment>* PaymentsTest::payments_ = nullptr;

// The sequence is frozen: results on it are compared over years. A change of any parameter, table or order of draws
// changes this number, and needs a decision and new figures in docs/simulator.md.
TEST(PaymentsFrozenTest, TheFirstHundredThousandAreTheSameForever) {
  EXPECT_EQ(hash_of_lines(take(Parameters{}, 100'000)), 9'052'984'905'574'456'421U);
}

TEST(PaymentsFrozenTest, DocumentationGivesEveryParameterWithItsValue) {
  const auto text_of = [](const std::string& path) {
    std::ifstream file(std::string(ALCEDO_SOURCE_DIR) + "/" + path);
    EXPECT_TRUE(file) << path;
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string header = text_of("src/ingest/simulate/parameters.h");
  const std::string page = text_of("docs/simulator.md");
  const std::regex parameter(R"(\n  (?:double|std::uint32_t|int) ([a-z]\w*) = ([0-9.e-]+);)");
  int found = 0;
  for (std::sregex_iterator at(header.begin(), header.end(), parameter), end; at != end; ++at) {
    const std::string row = "| `" + (*at)[1].str() + "` | " + (*at)[2].str() + " |";
    EXPECT_NE(page.find(row), std::string::npos) << row;
    ++found;
  }
  EXPECT_GE(found, 80);
}

TEST(PaymentsFrozenTest, SeedAndCardsDefineTheSequence) {
  Parameters parameters;
  parameters.cards = 3'000;
  const auto hash = [&] { return hash_of_lines(take(parameters, 20'000)); };
  const std::uint64_t first = hash();
  EXPECT_EQ(first, hash());
  parameters.seed = 2;
  EXPECT_NE(first, hash());
  parameters.seed = 1;
  parameters.cards = 3'001;
  EXPECT_NE(first, hash());
}

TEST(PortableMathTest, AgreesWithTheStandardLibrary) {
  Prng prng(3);
  for (int i = 0; i < 100'000; ++i) {
    const double x = draw_between(prng, -30, 30);
    EXPECT_NEAR(portable_exp(x) / std::exp(x), 1.0, 1e-11);
    const double y = std::exp(x);
    EXPECT_NEAR(portable_log(y), std::log(y), 1e-10);
    const double p = draw_uniform_open(prng);
    EXPECT_NEAR(0.5 * std::erfc(-normal_quantile(p) / std::sqrt(2.0)), p, 1e-8);
  }
  EXPECT_NEAR(portable_log(1.0), 0.0, 1e-15);
  EXPECT_EQ(portable_exp(0.0), 1.0);
}

TEST(AliasTableTest, DrawsByWeight) {
  const std::vector<double> weights = {1, 0, 5, 2, 0.5, 11.5};
  const std::vector<std::uint32_t> items = {10, 11, 12, 13, 14, 15};
  const AliasTable table(weights, items);
  Prng prng(5);
  std::map<std::uint32_t, int> counts;
  const int draws = 200'000;
  for (int i = 0; i < draws; ++i) ++counts[table.pick(prng)];
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double expected = weights[i] / 20 * draws;
    EXPECT_NEAR(counts[items[i]], expected, 5 * std::sqrt(expected) + 0.1) << i;
  }
}

TEST_F(PaymentsTest, TimesNeverGoBackAndNumbersCount) {
  EXPECT_GE(payments().front().time_ms, parameters().start_ms);
  for (std::size_t i = 0; i < payments().size(); ++i) {
    ASSERT_EQ(payments()[i].number, i);
    if (i > 0) {
      ASSERT_GE(payments()[i].time_ms, payments()[i - 1].time_ms);
    }
  }
}

TEST_F(PaymentsTest, EveryStoryHasItsShare) {
  std::array<double, kStories> share{};
  for (const Payment& payment : payments())
    share[static_cast<std::size_t>(payment.story)] += 1.0 / static_cast<double>(payments().size());
  EXPECT_GT(share[0], 0.95);
  const double anomalous = std::accumulate(share.begin() + kFirstAttack, share.end(), 0.0);
  EXPECT_GT(anomalous, 0.005);
  EXPECT_LT(anomalous, 0.010);
  for (std::size_t s = 1; s < kStories; ++s) EXPECT_GT(share[s], 0.0002) << kStoryNames[s];
  for (const Payment& payment : payments()) {
    const bool attack = is_attack(payment.story);
    ASSERT_EQ(payment.label() != kNormal, attack);
    if (attack) {
      ASSERT_EQ(kLabelTypes[payment.label() - kFirstLabelType], to_string(payment.story));
    }
  }
}

TEST(PaymentsStartTest, TheFirstHoursHaveAttacksOfMostKinds) {
  std::array<int, kStories> seeds_with{};
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Parameters parameters;
    parameters.seed = seed;
    std::set<Story> seen;
    for (const Payment& payment : take(parameters, 40'000))
      seen.insert(payment.story);  // 20 s at 2,000 a second; 3.4 h
    EXPECT_GE(std::ranges::count_if(seen, is_attack), 5) << "seed " << seed;
    for (const Story story : seen) ++seeds_with[static_cast<std::size_t>(story)];
  }
  for (std::size_t s = kFirstAttack; s < kStories; ++s) EXPECT_GE(seeds_with[s], 4) << kStoryNames[s];
}

TEST_F(PaymentsTest, CardsPayAsOftenAsTheirRate) {
  std::vector<double> counts(population().num_cards());
  for (const Payment& payment : payments()) {
    if (payment.story == Story::kOrdinary || payment.story == Story::kNewPhone ||
        payment.story == Story::kHolidayTravel)
      counts[payment.card] += 1;
  }
  std::array<double, kSchedules> days{};  // how many average days' payments each schedule has had
  const auto hours = static_cast<int>((payments().back().time_ms - parameters().start_ms) / 3'600'000);
  for (int schedule = 0; schedule < kSchedules; ++schedule) {
    for (int h = 0; h < hours; ++h)
      days[static_cast<std::size_t>(schedule)] += population().schedule(schedule, h % kHoursOfWeek) / 24;
  }
  std::map<int, std::pair<double, double>> classes;  // of similar rate
  for (std::uint32_t c = 0; c < population().num_cards(); ++c) {
    const Card& card = population().card(c);
    auto& [observed, expected] = classes[static_cast<int>(std::log2(card.payments_per_day) * 2)];
    observed += counts[c];
    expected += card.payments_per_day * days[card.schedule] / (1 - parameters().habits.follow_up);
  }
  for (const auto& [key, sums] : classes) {
    if (sums.second < 5'000) continue;
    EXPECT_NEAR(sums.first / sums.second, 1.0, 0.03) << "class " << key;
  }
}

TEST_F(PaymentsTest, AmountsAreLogNormalWithTheCardsOwnParameters) {
  double sum = 0, squares = 0, count = 0, beyond_two = 0;
  std::vector<double> card_sum(population().num_cards()), card_count(population().num_cards());
  for (const Payment& payment : payments()) {
    if (payment.story != Story::kOrdinary || payment.channel == Channel::kAtm) continue;
    const Card& card = population().card(payment.card);
    const double z =
        (log_amount(payment) - population().amount_log(card, population().merchant(payment.merchant))) / card.sigma_log;
    sum += z;
    squares += z * z;
    count += 1;
    beyond_two += std::abs(z) > 1.959964 ? 1 : 0;
    card_sum[payment.card] += z;
    card_count[payment.card] += 1;
  }
  EXPECT_NEAR(sum / count, 0.0, 0.01);
  EXPECT_NEAR(squares / count, 1.0, 0.01);
  EXPECT_NEAR(beyond_two / count, 0.05, 0.002);
  // Each card's mean comes back: z of the mean over a card's n payments is a standard normal.
  double means = 0, cards = 0;
  for (std::size_t c = 0; c < card_sum.size(); ++c) {
    if (card_count[c] < 10) continue;
    means += card_sum[c] * card_sum[c] / card_count[c];
    cards += 1;
  }
  EXPECT_NEAR(means / cards, 1.0, 5 * std::sqrt(2.0 / cards));
}

TEST_F(PaymentsTest, HoursOfTheDayFollowEachSchedule) {
  // One schedule's ordinary payments against its hours, over whole days; errands shift some minutes, hence the slack
  // per cell.
  const std::int64_t whole_days_end_ms =
      parameters().start_ms + (payments().back().time_ms - parameters().start_ms) / 86'400'000 * 86'400'000;
  const std::int64_t days = (whole_days_end_ms - parameters().start_ms) / 86'400'000;
  ASSERT_GE(days, 4);
  for (int schedule = 0; schedule < kSchedules; ++schedule) {
    std::array<double, 24> observed{}, expected{};
    double total = 0, shape = 0;
    for (const Payment& payment : payments()) {
      if (payment.story != Story::kOrdinary || payment.time_ms >= whole_days_end_ms) continue;
      if (population().card(payment.card).schedule != schedule) continue;
      observed[static_cast<std::size_t>(hour_of_week(payment.time_ms) % 24)] += 1;
      total += 1;
    }
    if (total < 5'000) continue;
    for (int h = 0; h < days * 24; ++h) {
      const double level = population().schedule(schedule, h % kHoursOfWeek);
      expected[static_cast<std::size_t>(h % 24)] += level;
      shape += level;
    }
    double chi_square = 0;
    for (std::size_t h = 0; h < 24; ++h) {
      const double mean = expected[h] / shape * total;
      chi_square += (observed[h] - mean) * (observed[h] - mean) / (mean * 1.3 + 0.0004 * mean * mean);
    }
    EXPECT_LT(chi_square, 60) << "schedule " << schedule;  // 23 degrees of freedom: 1 in 30,000
  }
}

TEST_F(PaymentsTest, OrdinaryPaymentsAreNearHomeAtFavouritesWithKnownDevices) {
  double ordinary = 0, favourite = 0, home = 0, known = 0;
  for (const Payment& payment : payments()) {
    if (payment.story != Story::kOrdinary) continue;
    const Card& card = population().card(payment.card);
    ordinary += 1;
    favourite += std::ranges::count(card.favourites, payment.merchant) > 0 ? 1 : 0;
    home += payment.city == card.city ? 1 : 0;
    known += payment.device == population().chip(payment.card) ||
                     payment.device == population().phone(payment.card, 0) ||
                     payment.device == population().computer(payment.card)
                 ? 1
                 : 0;
    const City& city = kCities[payment.city];
    ASSERT_NEAR(payment.latitude_e4 * 1e-4, city.latitude_deg, 0.4);
    ASSERT_NEAR(payment.longitude_e4 * 1e-4, city.longitude_deg, 0.4);
  }
  EXPECT_GT(favourite / ordinary, parameters().habits.favourite);  // and some by chance while exploring
  EXPECT_LT(favourite / ordinary, parameters().habits.favourite + 0.1);
  EXPECT_NEAR(home / ordinary, 1 - parameters().habits.explore_neighbour - parameters().habits.explore_anywhere - 0.005,
              0.01);
  EXPECT_GT(known / ordinary, 0.985);
  EXPECT_LT(known / ordinary, 0.999);
}

TEST_F(PaymentsTest, CardTestingIsOneNewDeviceWithSmallAmountsOverManyCards) {
  const auto tests = episodes(Story::kCardTesting);
  ASSERT_GT(tests.size(), 5U);
  for (const auto& [number, run] : tests) {
    std::set<std::uint32_t> cards;
    for (const Payment& payment : run) {
      EXPECT_EQ(payment.device, run.front().device);
      EXPECT_EQ(payment.merchant, run.front().merchant);
      EXPECT_EQ(payment.channel, Channel::kOnline);
      EXPECT_LT(log_amount(payment) - kCurrencies[payment.currency].scale_log, 1.2 + 5 * 0.6);
      cards.insert(payment.card);
    }
    if (run.size() >= 10) {
      EXPECT_GE(cards.size(), run.size() - 1);
      EXPECT_LT(run.back().time_ms - run.front().time_ms, static_cast<std::int64_t>(run.size()) * 30'000);
    }
  }
}

TEST_F(PaymentsTest, AccountTakeoverIsAStrangersDeviceBuyingMore) {
  const auto takeovers = episodes(Story::kAccountTakeover);
  ASSERT_GT(takeovers.size(), 10U);
  double over_log = 0, count = 0, far = 0;
  for (const auto& [number, run] : takeovers) {
    const Card& card = population().card(run.front().card);
    for (const Payment& payment : run) {
      EXPECT_EQ(payment.card, run.front().card);
      EXPECT_EQ(payment.device, run.front().device);
      EXPECT_NE(payment.device, population().computer(payment.card));
      EXPECT_TRUE(kCategories[payment.category].resale);
      over_log += log_amount(payment) - population().amount_log(card, population().merchant(payment.merchant));
      far += payment.city != card.city ? 1 : 0;
      count += 1;
    }
  }
  EXPECT_NEAR(over_log / count, parameters().attacks.takeover_amount_log, 0.1);
  EXPECT_GT(far / count, 0.2);
}

TEST_F(PaymentsTest, ImpossibleTravelIsInPersonFarAwaySoonAfterHome) {
  std::map<std::uint32_t, std::vector<const Payment*>> in_person_at_home;
  std::set<std::uint32_t> seen;
  int checked = 0;
  for (const Payment& payment : payments()) {
    const Card& card = population().card(payment.card);
    if (payment.story == Story::kImpossibleTravel && seen.insert(payment.episode).second) {
      EXPECT_EQ(payment.device, population().chip(payment.card));
      EXPECT_EQ(payment.channel, Channel::kPos);
      EXPECT_GE(population().distance_km(card.city, payment.city), 500);
      bool skimmed = payment.time_ms < parameters().start_ms + 3 * 3'600'000;
      for (const Payment* paid : in_person_at_home[payment.card]) {
        const auto delay_s = static_cast<double>(payment.time_ms - paid->time_ms) / 1000;
        skimmed |= delay_s >= parameters().attacks.travel_delay_s_min - 1 &&
                   delay_s <= parameters().attacks.travel_delay_s_max + 1;
      }
      EXPECT_TRUE(skimmed);
      ++checked;
    } else if (payment.channel != Channel::kOnline && payment.city == card.city) {
      in_person_at_home[payment.card].push_back(&payment);
    }
  }
  EXPECT_GT(checked, 20);
}

TEST_F(PaymentsTest, VelocityBurstIsManyPaymentsOfOneCardInMinutes) {
  const auto bursts = episodes(Story::kVelocityBurst);
  ASSERT_GT(bursts.size(), 5U);
  double gap_s = 0, gaps = 0;
  for (const auto& [number, run] : bursts) {
    for (std::size_t i = 1; i < run.size(); ++i) {
      EXPECT_EQ(run[i].card, run[0].card);
      gap_s += static_cast<double>(run[i].time_ms - run[i - 1].time_ms) / 1000;
      gaps += 1;
    }
  }
  EXPECT_NEAR(gap_s / gaps, parameters().attacks.burst_gap_s, 4 * parameters().attacks.burst_gap_s / std::sqrt(gaps));
}

TEST_F(PaymentsTest, CompromisedMerchantChargesManyCardsOneOddPrice) {
  const auto attacks = episodes(Story::kCompromisedMerchant);
  ASSERT_GT(attacks.size(), 3U);
  for (const auto& [number, run] : attacks) {
    std::set<std::uint32_t> cards;
    double low = 1e9, high = -1e9;
    for (const Payment& payment : run) {
      EXPECT_EQ(payment.merchant, run.front().merchant);
      EXPECT_EQ(payment.city, population().card(payment.card).city);
      const double price_log = log_amount(payment) - kCurrencies[payment.currency].scale_log;
      low = std::min(low, price_log);
      high = std::max(high, price_log);
      cards.insert(payment.card);
    }
    EXPECT_LT(high - low, 9 * parameters().attacks.merchant_spread_log);
    if (run.size() >= 20) {
      EXPECT_GT(cards.size(), run.size() / 2);
    }
  }
}

TEST_F(PaymentsTest, SlowDripIsOneSmallAmountAgainAndAgain) {
  const auto drips = episodes(Story::kSlowDrip);
  ASSERT_GT(drips.size(), 10U);
  for (const auto& [number, run] : drips) {
    const double center_log = population().card(run.front().card).center_log;
    std::vector<double> gaps_h;
    for (std::size_t i = 0; i < run.size(); ++i) {
      EXPECT_EQ(run[i].merchant, run[0].merchant);
      EXPECT_EQ(run[i].device, run[0].device);
      EXPECT_NEAR(log_amount(run[i]), log_amount(run[0]), 0.2);
      EXPECT_LT(log_amount(run[i]), center_log);
      if (i > 0) gaps_h.push_back(static_cast<double>(run[i].time_ms - run[i - 1].time_ms) / 3.6e6);
    }
    if (gaps_h.empty()) continue;
    const auto [shortest, longest] = std::ranges::minmax(gaps_h);
    EXPECT_GE(shortest, 4 * 0.95 - 0.01);
    EXPECT_LE(longest, 9 * 1.05 + 0.01);
    EXPECT_LE(longest / shortest, 1.05 / 0.95 + 0.01);
  }
}

TEST_F(PaymentsTest, HolidaysAreElsewhereAndNeverImpossible) {
  const auto holidays = episodes(Story::kHolidayTravel);
  ASSERT_GT(holidays.size(), 50U);
  std::map<std::uint32_t, const Payment*> last_in_person;
  int checked = 0;
  for (const Payment& payment : payments()) {
    const bool holiday = payment.story == Story::kHolidayTravel;
    const Card& card = population().card(payment.card);
    if (holiday) {
      EXPECT_NE(payment.city, card.city);
    }
    if (payment.channel == Channel::kOnline || (!holiday && (payment.city != card.city || is_attack(payment.story))))
      continue;
    const Payment*& before = last_in_person[payment.card];
    if (before != nullptr && before->city != payment.city) {
      const double hours = static_cast<double>(payment.time_ms - before->time_ms) / 3.6e6;
      EXPECT_GE(hours * 700, population().distance_km(before->city, payment.city));
      ++checked;
    }
    before = &payment;
  }
  EXPECT_GT(checked, 30);
}

TEST_F(PaymentsTest, FlashSalesAreBurstsOfOwnDevicesAtOnePrice) {
  const auto sales = episodes(Story::kFlashSale);
  ASSERT_GE(sales.size(), 2U);
  for (const auto& [number, run] : sales) {
    for (const Payment& payment : run) {
      EXPECT_EQ(payment.merchant, run.front().merchant);
      EXPECT_EQ(payment.channel, Channel::kOnline);
      EXPECT_EQ(payment.label(), kNormal);
    }
  }
}

TEST_F(PaymentsTest, ANewPhoneStays) {
  std::map<std::uint32_t, std::uint64_t> phones;
  int kept = 0;
  for (const Payment& payment : payments()) {
    if (payment.story == Story::kNewPhone) {
      if (!phones.contains(payment.card)) {
        EXPECT_NE(payment.device, population().phone(payment.card, 0));
      }
      phones[payment.card] = payment.device;
    } else if (payment.story == Story::kOrdinary && phones.contains(payment.card)) {
      EXPECT_NE(payment.device, population().phone(payment.card, 0));
      kept += payment.device == phones[payment.card] ? 1 : 0;
    }
  }
  EXPECT_GT(phones.size(), 20U);
  EXPECT_GT(kept, 5);
}

TEST_F(PaymentsTest, PayDayFallsOnTheCardsOwnDayWithLargerAmounts) {
  double over_log = 0, count = 0;
  for (const Payment& payment : payments()) {
    if (payment.story != Story::kPayDay) continue;
    EXPECT_EQ(day_of_month(payment.time_ms), Population::pay_day(payment.card));
    if (payment.channel == Channel::kAtm) continue;
    over_log += log_amount(payment) -
                population().amount_log(population().card(payment.card), population().merchant(payment.merchant));
    count += 1;
  }
  ASSERT_GT(count, 500);
  EXPECT_NEAR(over_log / count, parameters().hard_negatives.pay_day_amount_log, 0.05);
}

TEST(PopulationTest, PayDaysCoverEveryCardOnce) {
  Parameters parameters;
  parameters.cards = 1'234;
  const Population population(parameters);
  std::set<std::uint32_t> cards;
  for (int day = 1; day <= 31; ++day) {
    for (std::uint32_t i = 0; i < population.num_cards_paid(day); ++i) {
      const std::uint32_t card = population.card_paid(day, i);
      EXPECT_EQ(Population::pay_day(card), day);
      EXPECT_TRUE(cards.insert(card).second);
    }
  }
  EXPECT_EQ(cards.size(), parameters.cards);
}

TEST(PopulationTest, SharesSumToOneAndSchedulesAverageOne) {
  Parameters parameters;
  parameters.cards = 2'000;
  const Population population(parameters);
  const auto total = [&](IdRange range) {
    double sum = 0;
    for (std::uint32_t m = range.begin; m < range.end; ++m) sum += population.merchant(m).share;
    return sum;
  };
  EXPECT_NEAR(total(population.online()), 1.0, 1e-4);
  for (int city = 0; city < kNumCities; ++city) {
    EXPECT_NEAR(total(population.shops(city)), 1.0, 1e-4);
    EXPECT_NEAR(total(population.atms(city)), 1.0, 1e-4);
    EXPECT_GT(population.resale_shop_share(city), 0.0);
    EXPECT_FALSE(population.far_cities(city).empty());
  }
  for (int schedule = 0; schedule < kSchedules; ++schedule) {
    double sum = 0;
    for (int hour = 0; hour < kHoursOfWeek; ++hour) sum += population.schedule(schedule, hour);
    EXPECT_NEAR(sum / kHoursOfWeek, 1.0, 1e-5);
  }
  EXPECT_EQ(hour_of_week(parameters.start_ms), 0);
  EXPECT_EQ(day_of_month(parameters.start_ms), 6);
  EXPECT_NEAR(population.distance_km(0, 28), 930, 10);  // Berlin - London
}

}  // namespace
}  // namespace alcedo::ingest::simulate
