// Compares what is asked of four times at once with asking each.
#include "features/operators/unit_mask.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "core/prng.h"
#include "features/operators/window_spans.h"

namespace alcedo::features {
namespace {

TEST(UnitMaskTest, AnswersAsOneByOne) {
  Prng random(7);
  for (int round = 0; round < 20'000; ++round) {
    // Around where 32 bits run over, too.
    const std::int64_t clock = static_cast<std::int64_t>(random.below(4)) * (std::int64_t{1} << 32) +
                               static_cast<std::int64_t>(random.below(3000)) - 1500;
    const auto count = static_cast<std::uint32_t>(1 + random.below(64));
    std::array<std::uint32_t, 64> units{};
    std::array<std::int64_t, 64> ages{};
    for (std::uint32_t i = 0; i < 64; ++i) {
      ages[i] = static_cast<std::int64_t>(random.below(random.below(2) == 0 ? 10 : 5'000'000'000ULL)) & 0xFFFFFFFF;
      units[i] = static_cast<std::uint32_t>(clock - ages[i]);
      ASSERT_EQ(unit_from(units[i], clock), clock - ages[i]);
    }
    const std::int64_t age_max = static_cast<std::int64_t>(random.below(12)) - 1;
    std::uint64_t expected = 0;
    std::uint64_t equal = 0;
    std::int64_t largest = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      expected |= std::uint64_t{ages[i] <= age_max} << i;
      equal |= std::uint64_t{units[i] == units[0]} << i;
      largest = std::max(largest, ages[i]);
    }
    ASSERT_EQ(not_older(units.data(), count, clock, age_max), expected);
    ASSERT_EQ(not_older(units.data(), count, clock, std::int64_t{1} << 40), first_bits(count));
    ASSERT_EQ(equal_to(units.data(), count, units[0]), equal);
    ASSERT_EQ(largest_age(units.data(), count, clock), largest);
    std::uint32_t rank = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      if ((equal >> i & 1U) == 0) continue;
      ASSERT_EQ(nth_bit(equal, rank++), i);
    }
  }
}

}  // namespace
}  // namespace alcedo::features
