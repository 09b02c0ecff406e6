// Ordinary payments are one Poisson process an hour over all cards: no state a card to schedule, and the cards to come
// are known early enough to be fetched into cache.
#include "ingest/simulate/payments.h"

#include <cstring>
#include <utility>

#include "ingest/simulate/portable_math.h"
#include "ingest/simulate/stories.h"

namespace alcedo::ingest::simulate {

const std::array<double, 24> kPayDayHours = {0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.4, 0.8, 1.2, 1.4, 1.5, 1.6,
                                             1.6, 1.4, 1.3, 1.4, 1.7, 2.0, 2.2, 2.0, 1.4, 0.8, 0.4, 0.2};

Payments::Payments(const Parameters& parameters) : Payments(std::make_shared<const Population>(parameters)) {}

Payments::Payments(std::shared_ptr<const Population> population)
    : population_(std::move(population)),
      stories_(std::make_unique<Stories>(*population_)),
      arrival_prng_(mix64(population_->parameters().seed) ^ 0x617272697665ULL) {
  start_hour();
}

Payments::~Payments() = default;
Payments::Payments(Payments&&) noexcept = default;
Payments& Payments::operator=(Payments&&) noexcept = default;

void Payments::start_hour() {
  const Parameters& parameters = population_->parameters();
  const std::int64_t now_ms = parameters.start_ms + static_cast<std::int64_t>(clock_ms_);
  // The next full hour, so that a start within an hour works too.
  hour_end_ms_ = static_cast<double>((now_ms / 3'600'000 + 1) * 3'600'000 - parameters.start_ms);
  const int hour = hour_of_week(now_ms);
  std::array<double, kSchedules + 1> per_day{};
  std::array<std::uint32_t, kSchedules + 1> ids{};
  double sum = 0;
  for (std::size_t s = 0; s < kSchedules; ++s) {
    per_day[s] = population_->schedule_rate(static_cast<int>(s)) * population_->schedule(static_cast<int>(s), hour);
    ids[s] = static_cast<std::uint32_t>(s);
    sum += per_day[s];
  }
  day_of_month_ = day_of_month(now_ms);
  paid_today_ = population_->num_cards_paid(day_of_month_);
  static const double kHoursSum = [] {
    double total = 0;
    for (const double share : kPayDayHours) total += share;
    return total;
  }();
  ids[kSchedules] = kSchedules;
  per_day[kSchedules] = paid_today_ * parameters.hard_negatives.pay_day_extra *
                        kPayDayHours[static_cast<std::size_t>(hour % 24)] * 24 / kHoursSum;
  sum += per_day[kSchedules];
  rate_per_ms_ = sum / 86'400'000.0;
  streams_ = AliasTable(per_day, ids);
}

void Payments::refill_arrivals() {
  const std::int64_t start_ms = population_->parameters().start_ms;
  for (Arrival& arrival : arrivals_) {
    for (;;) {
      const double at_ms = clock_ms_ + draw_exponential(arrival_prng_) / rate_per_ms_;
      if (at_ms < hour_end_ms_) {
        clock_ms_ = at_ms;
        break;
      }
      clock_ms_ = hour_end_ms_;  // a Poisson process starts afresh anywhere
      start_hour();
    }
    const std::uint32_t stream = streams_.pick(arrival_prng_);
    arrival.time_ms = start_ms + static_cast<std::int64_t>(clock_ms_);
    arrival.pay_day = stream == kSchedules;
    arrival.card = arrival.pay_day ? population_->card_paid(
                                         day_of_month_, static_cast<std::uint32_t>(arrival_prng_.below(paid_today_)))
                                   : population_->pick_card(static_cast<int>(stream), arrival_prng_);
    stories_->prefetch(arrival.card);
  }
  next_arrival_ = 0;
}

void Payments::next(Payment& out) {
  for (;;) {
    if (next_arrival_ == kAhead) refill_arrivals();
    const Arrival& arrival = arrivals_[next_arrival_];
    bool made;
    if (stories_->next_ms() <= arrival.time_ms) {
      made = stories_->step(out);
    } else {
      ++next_arrival_;
      made = stories_->ordinary(arrival.time_ms, arrival.card, arrival.pay_day, out);
    }
    if (made) {
      out.number = number_++;
      return;
    }
  }
}

namespace {

constexpr char kPairs[] =
    "000102030405060708091011121314151617181920212223242526272829303132333435363738394041424344454647484950515253545556"
    "57585960"
    "616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// `value` in `Width` digits, zeros in front.
template <int Width>
char* write_padded(std::uint64_t value, char* out) {
  int at = Width;
  for (; at >= 2; at -= 2) {
    std::memcpy(out + at - 2, kPairs + 2 * (value % 100), 2);
    value /= 100;
  }
  if (at == 1) out[0] = static_cast<char>('0' + value % 10);
  return out + Width;
}

char* write_unsigned(std::uint64_t value, char* out) {
  char digits[20];
  int at = 20;
  while (value >= 100) {
    at -= 2;
    std::memcpy(digits + at, kPairs + 2 * (value % 100), 2);
    value /= 100;
  }
  if (value >= 10) {
    at -= 2;
    std::memcpy(digits + at, kPairs + 2 * value, 2);
  } else {
    digits[--at] = static_cast<char>('0' + value);
  }
  std::memcpy(out, digits + at, static_cast<std::size_t>(20 - at));
  return out + (20 - at);
}

char* write_degrees(std::int32_t e4, char* out) {
  std::uint32_t size = static_cast<std::uint32_t>(e4);
  if (e4 < 0) {
    *out++ = '-';
    size = 0U - size;
  }
  out = write_unsigned(size / 10'000, out);
  *out++ = '.';
  return write_padded<4>(size % 10'000, out);
}

char* write_hex48(std::uint64_t value, char* out) {
  for (int i = 0; i < 12; ++i) out[i] = "0123456789abcdef"[value >> (44 - 4 * i) & 15];
  return out + 12;
}

char* write_text(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* write_payment_id(std::uint64_t number, char* out) { return write_padded<12>(number, write_text("p-", out)); }
char* write_card(std::uint32_t card, char* out) { return write_padded<8>(card, write_text("c-", out)); }
char* write_merchant(std::uint32_t merchant, char* out) { return write_padded<6>(merchant, write_text("m-", out)); }
char* write_device(std::uint64_t device, char* out) { return write_hex48(device, write_text("d-", out)); }

constexpr std::string_view kChannels[] = {"pos", "online", "atm"};

}  // namespace

char* render_json(const Payment& payment, char* out) {
  out = write_text(R"({"payment_id":")", out);
  out = write_payment_id(payment.number, out);
  out = write_text(R"(","occurred_at":)", out);
  out = write_unsigned(static_cast<std::uint64_t>(payment.time_ms), out);
  out = write_text(R"(,"card_id":")", out);
  out = write_card(payment.card, out);
  out = write_text(R"(","merchant_id":")", out);
  out = write_merchant(payment.merchant, out);
  out = write_text(R"(","device_id":")", out);
  out = write_device(payment.device, out);
  out = write_text(R"(","merchant_category":")", out);
  out = write_text(kCategories[payment.category].name, out);
  out = write_text(R"(","amount":)", out);
  out = write_unsigned(static_cast<std::uint64_t>(payment.amount_minor / 100), out);
  *out++ = '.';
  out = write_padded<2>(static_cast<std::uint64_t>(payment.amount_minor % 100), out);
  out = write_text(R"(,"currency":")", out);
  out = write_text(kCurrencies[payment.currency].code, out);
  out = write_text(R"(","latitude":)", out);
  out = write_degrees(payment.latitude_e4, out);
  out = write_text(R"(,"longitude":)", out);
  out = write_degrees(payment.longitude_e4, out);
  out = write_text(R"(,"channel":")", out);
  out = write_text(kChannels[static_cast<std::size_t>(payment.channel)], out);
  out = write_text(R"(","country":")", out);
  out = write_text(kCountries[kCities[payment.city].country].code, out);
  return write_text(R"("})", out);
}

namespace {
template <typename Write, typename Value>
std::string as_text(Write write, Value value) {
  char text[32];
  return {text, write(value, text)};
}
}  // namespace

std::string card_text(std::uint32_t card) { return as_text(write_card, card); }
std::string merchant_text(std::uint32_t merchant) { return as_text(write_merchant, merchant); }
std::string device_text(std::uint64_t device) { return as_text(write_device, device); }
std::string payment_text(std::uint64_t number) { return as_text(write_payment_id, number); }

}  // namespace alcedo::ingest::simulate
