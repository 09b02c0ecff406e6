// For benchmarks only: payments by Zipf's law and the features of their cards, so that all that measures measures the
// same.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/event.h"
#include "core/prng.h"
#include "core/time.h"
#include "features/plan.h"
#include "features/test_stream.h"

namespace alcedo::features::testing {

enum PaymentSlot { kCard = 0, kMerchant = 1, kDevice = 2 };

inline EventLayout payments_layout() {
  return {{{"amount", true}, {"latitude", false}, {"longitude", false}}, {"card", "merchant", "device"}};
}

/// One entity's count, sum, mean, std, min and max over three windows, decayed mean, and geography.
inline FeatureOptions card_options() {
  FeatureOptions options;
  options.layout = payments_layout();
  FeatureSpec travel;
  travel.name = "travel";
  travel.kind = FeatureKind::kGeo;
  travel.number = 1;
  travel.number_2 = 2;
  travel.key = kCard;
  options.features = {rolling("spend", 0, kCard, {kMinuteMs, 5 * kMinuteMs, kHourMs}),
                      baseline("habit", 0, kCard, 14 * kDayMs, 20), travel};
  return options;
}

/// `cards` cards, a twentieth as many merchants, as many devices as cards; 50 events a second, one in 32 of them up to
/// 30 s late. The cards come by Zipf's law, after one event of each where `each_card_first`.
class PaymentStream {
 public:
  PaymentStream(std::uint64_t cards, bool each_card_first) : cards_(cards), first_left_(each_card_first ? cards : 0) {}

  /// Replaces the batch (of payments_layout()) by the next `rows` payments.
  void next(EventBatch& batch, std::size_t rows) {
    batch.reset(rows, 1);
    for (std::uint32_t row = 0; row < rows; ++row) {
      now_ms_ += 20 * random_.exponential();
      const std::uint64_t card = first_left_ > 0 ? cards_ - first_left_-- : zipf(cards_);
      const std::uint64_t device = random_.below(50) == 0 ? random_.below(cards_) : card;
      batch.header(row) = EventHeader{};
      batch.header(row).time_ms = static_cast<std::int64_t>(now_ms_) -
                                  (random_.below(32) == 0 ? static_cast<std::int64_t>(random_.below(30'000)) : 0);
      batch.numbers(row)[0] = std::floor(std::exp(7 + 1.2 * random_.normal()));
      // At most a degree from a home of its own.
      const std::uint64_t home = mix64(card + 77);
      batch.numbers(row)[1] = static_cast<double>(home % 12'000) / 100 - 60 + random_.uniform();
      batch.numbers(row)[2] = static_cast<double>((home >> 32U) % 35'000) / 100 - 175 + random_.uniform();
      batch.keys(row)[kCard].hash = mix64(card + 1) | 1;
      batch.keys(row)[kMerchant].hash = mix64(zipf(cards_ / 20) + (1ULL << 40)) | 1;
      batch.keys(row)[kDevice].hash = mix64(device + (1ULL << 41)) | 1;
      batch.order.push_back(row);
    }
  }

 private:
  // Ranks by Zipf's law with exponent 1, by inverting the integral of 1/x: close enough, and without a table.
  std::uint64_t zipf(std::uint64_t n) {
    const double u = random_.uniform();
    const auto rank = static_cast<std::uint64_t>(std::exp(u * std::log(static_cast<double>(n) + 1)) - 1);
    return std::min(rank, n - 1);
  }

  Prng random_{11};
  std::uint64_t cards_;
  std::uint64_t first_left_;
  double now_ms_ = 1.7e12;
};

}  // namespace alcedo::features::testing
