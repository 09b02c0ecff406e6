// One simulated payment and the story behind it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/event.h"

namespace alcedo::ingest::simulate {

enum class Channel : std::uint8_t { kPos, kOnline, kAtm };

/// Why a payment happened. Stories before kCardTesting are normal.
enum class Story : std::uint8_t {
  kOrdinary,
  kHolidayTravel,
  kPayDay,
  kLargePurchase,
  kFlashSale,
  kNewPhone,
  kCardTesting,
  kAccountTakeover,
  kImpossibleTravel,
  kVelocityBurst,
  kCompromisedMerchant,
  kSlowDrip,
};
inline constexpr int kStories = 12;
inline constexpr int kFirstAttack = static_cast<int>(Story::kCardTesting);

/// Label types of the source in order; the type of Story::kCardTesting is the first.
inline constexpr std::array<std::string_view, kStories - kFirstAttack> kLabelTypes = {
    "card_testing", "account_takeover", "impossible_travel", "velocity_burst", "compromised_merchant", "slow_drip"};

inline constexpr std::array<std::string_view, kStories> kStoryNames = {
    "ordinary",     "holiday_travel",   "pay_day",           "large_purchase", "flash_sale",           "new_phone",
    "card_testing", "account_takeover", "impossible_travel", "velocity_burst", "compromised_merchant", "slow_drip"};
constexpr std::string_view to_string(Story story) { return kStoryNames[static_cast<std::size_t>(story)]; }
constexpr bool is_attack(Story story) { return static_cast<int>(story) >= kFirstAttack; }

struct Payment {
  std::uint64_t number = 0;  // from 0, in event-time order
  std::int64_t time_ms = 0;
  std::uint64_t device = 0;  // 48 bits
  std::int64_t amount_minor = 0;
  std::int32_t latitude_e4 = 0;  // degrees * 10^4
  std::int32_t longitude_e4 = 0;
  std::uint32_t card = 0;
  std::uint32_t merchant = 0;
  std::uint32_t episode =
      0;  // the attack, or the holiday, sale, ... that it belongs to, from 1; 0 with kOrdinary and kPayDay
  std::uint8_t category = 0;  // kCategories
  std::uint8_t currency = 0;  // kCurrencies
  std::uint8_t city = 0;      // where it was made; kCities. Its country is the event's
  Channel channel = Channel::kPos;
  Story story = Story::kOrdinary;

  Label label() const {
    return is_attack(story) ? static_cast<Label>(kFirstLabelType + static_cast<int>(story) - kFirstAttack) : kNormal;
  }
};

}  // namespace alcedo::ingest::simulate
