// What happens on top of, or instead of, ordinary payments: errands, hard negatives and attacks, each an episode in
// event time.
#pragma once

#include <cstdint>
#include <queue>
#include <unordered_map>
#include <vector>

#include "ingest/simulate/payment.h"
#include "ingest/simulate/population.h"

namespace alcedo::ingest::simulate {

/// Holds everything that changes: who travels, which phones are new, which attacks are under way and what comes next.
class Stories {
 public:
  explicit Stories(const Population& population);

  static constexpr std::int64_t kNever = INT64_MAX;
  /// When the next step is due (it need not make a payment).
  std::int64_t next_ms() const { return pending_.empty() ? kNever : pending_.top().time_ms; }
  /// Takes that step. True if it made a payment; `out` has all but its number.
  bool step(Payment& out);

  /// Makes the ordinary (or pay-day) payment of a card. False if it cannot pay now (it is in the air).
  bool ordinary(std::int64_t time_ms, std::uint32_t card, bool pay_day, Payment& out);

  void prefetch(std::uint32_t card) const {
    __builtin_prefetch(&population_.card(card));
    __builtin_prefetch(&states_[card]);
  }

 private:
  enum class Step : std::uint8_t { kStart, kContinue, kFollowUp, kSkimmed };
  struct Pending {
    std::int64_t time_ms;
    std::uint64_t order;    // ties: first pushed, first served
    std::uint32_t subject;  // kStart: -; kContinue: episode slot; kFollowUp, kSkimmed: card
    Story story;
    Step step;
    bool operator>(const Pending& other) const {
      return time_ms != other.time_ms ? time_ms > other.time_ms : order > other.order;
    }
  };
  enum class Whereabouts : std::uint8_t { kHome, kLeaving, kAway, kReturning };
  struct CardState {
    Whereabouts whereabouts = Whereabouts::kHome;
    std::uint8_t phone_version = 0;
    std::uint8_t phone_marks = 0;  // uses of a new phone that still carry its mark
  };
  struct Episode {
    Story story = Story::kOrdinary;
    std::uint8_t city = 0;
    bool near_home = false;
    std::uint32_t number = 0;
    std::uint32_t card = 0;
    std::uint32_t merchant = 0;
    std::uint32_t payments = 0;  // made so far
    std::uint64_t device = 0;
    std::int32_t latitude_e4 = 0;
    std::int32_t longitude_e4 = 0;
    double level_log = 0;     // of amounts, where the story fixes one
    double period_ms = 0;     // slow drip
    std::int64_t end_ms = 0;  // holiday: when the way back begins
  };

  void push(std::int64_t time_ms, std::uint32_t subject, Story story, Step step);
  void push_start(Story story, double from_ms);
  void begin(Story story, std::int64_t time_ms, std::uint32_t card);
  bool proceed(const Pending& pending, Payment& out);
  bool proceed_holiday(std::uint32_t slot, std::int64_t time_ms);
  /// Whether an episode that has made `payments` makes another.
  bool goes_on(std::uint32_t payments, double payments_min, double payments_mean);
  void make_payment(Episode& episode, std::int64_t time_ms, Payment& out);

  std::uint32_t random_card_at_home();
  std::uint64_t fresh_device() { return story_prng_.next() >> 16; }
  int random_other_city(int city, Prng& prng) const;
  void pay_at(std::uint32_t merchant, Payment& out) const;
  void online_place(std::int32_t latitude_e4, std::int32_t longitude_e4, Prng& prng, Payment& out) const;
  void online_city(int city, Prng& prng, Payment& out) const;
  void set_amount(double amount_log, Payment& out) const;
  void own_device(const Card& card, double guest, Prng& prng, Payment& out);

  const Population& population_;
  const Parameters& parameters_;
  Prng payment_prng_;  // ordinary payments
  Prng story_prng_;    // stories
  std::vector<CardState> states_;
  std::vector<Episode> episodes_;
  std::vector<std::uint32_t> free_episodes_;
  std::unordered_map<std::uint32_t, std::uint32_t> holidays_;  // card -> episode slot; never iterated
  std::priority_queue<Pending, std::vector<Pending>, std::greater<>> pending_;
  std::uint64_t order_ = 0;
  std::uint32_t episode_number_ = 0;
};

}  // namespace alcedo::ingest::simulate
