// The endless stream of simulated card payments, ordinary ones and stories, in event-time order.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ingest/simulate/parameters.h"
#include "ingest/simulate/payment.h"
#include "ingest/simulate/population.h"

namespace alcedo::ingest::simulate {

class Stories;

/// Share of a day's pay-day shopping by UTC hour; mean 1.
extern const std::array<double, 24> kPayDayHours;

/// Payments one after the other, without end.
///
/// Model    Ordinary payments are a Poisson process a card, by its schedule; rounds of errands (follow-ups) and stories
/// (attacks,
///          hard negatives) come on top. docs/simulator.md describes all of it.
/// Repeats  Parameters define the sequence, bit for bit, on every machine.
/// Cost     about 200 ns a payment; 120 bytes a card; allocates only while the number of stories under way grows.
/// Threads  One at a time. The population may be shared.
class Payments {
 public:
  explicit Payments(const Parameters& parameters);
  /// Shares an existing population, which defines the parameters.
  explicit Payments(std::shared_ptr<const Population> population);
  ~Payments();
  Payments(Payments&&) noexcept;
  Payments& operator=(Payments&&) noexcept;

  const Population& population() const { return *population_; }
  std::shared_ptr<const Population> shared_population() const { return population_; }

  void next(Payment& out);

 private:
  /// An ordinary payment whose time and card are known, so that the card can be fetched into cache ahead of its turn.
  struct Arrival {
    std::int64_t time_ms;
    std::uint32_t card;
    bool pay_day;
  };
  static constexpr std::size_t kAhead = 64;

  void refill_arrivals();
  void start_hour();

  std::shared_ptr<const Population> population_;
  std::unique_ptr<Stories> stories_;
  Prng arrival_prng_;
  std::array<Arrival, kAhead> arrivals_{};
  std::size_t next_arrival_ = kAhead;
  double clock_ms_ = 0;     // of the latest arrival, since start
  double hour_end_ms_ = 0;  // since start
  double rate_per_ms_ = 0;  // of the current hour
  AliasTable streams_;      // schedules, and pay day as number kSchedules, by this hour's rates
  int day_of_month_ = 0;
  std::uint32_t paid_today_ = 0;
  std::uint64_t number_ = 0;
};

/// The payment as one line of JSON without a line end, as payment.avsc describes it.
/// Returns the end of what was written. `out` must have room for kJsonBytesMax.
inline constexpr std::size_t kJsonBytesMax = 400;
char* render_json(const Payment& payment, char* out);

/// The texts that stand in the JSON, for reports.
std::string card_text(std::uint32_t card);
std::string merchant_text(std::uint32_t merchant);
std::string device_text(std::uint64_t device);
std::string payment_text(std::uint64_t number);

}  // namespace alcedo::ingest::simulate
