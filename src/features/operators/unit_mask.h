// Questions to a short list of times kept in 32 bits, answered for four of them at once.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#ifdef __SSE4_1__
#include <smmintrin.h>
#endif

namespace alcedo::features {

/// The lists hold up to 64 units as of unit_from(), in room for a multiple of four. An age is how many units before
/// `clock_unit` one lies.
inline std::uint64_t first_bits(std::uint32_t count) {
  return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

/// Bit i: the age of units[i] is at most `age_max`.
inline std::uint64_t not_older(const std::uint32_t* units, std::uint32_t count, std::int64_t clock_unit,
                               std::int64_t age_max) {
  if (age_max < 0) return 0;
  const auto clock = static_cast<std::uint32_t>(clock_unit);
  const auto most = static_cast<std::uint32_t>(age_max > 0xFFFFFFFF ? 0xFFFFFFFF : age_max);
  std::uint64_t mask = 0;
#ifdef __SSE4_1__
  const __m128i clocks = _mm_set1_epi32(static_cast<int>(clock));
  const __m128i mosts = _mm_set1_epi32(static_cast<int>(most));
  for (std::uint32_t i = 0; i < count; i += 4) {
    const __m128i ages = _mm_sub_epi32(clocks, _mm_loadu_si128(reinterpret_cast<const __m128i*>(units + i)));
    const __m128i within = _mm_cmpeq_epi32(_mm_min_epu32(ages, mosts), ages);
    mask |= static_cast<std::uint64_t>(_mm_movemask_ps(_mm_castsi128_ps(within))) << i;
  }
#else
  for (std::uint32_t i = 0; i < count; ++i) mask |= std::uint64_t{clock - units[i] <= most} << i;
#endif
  return mask & first_bits(count);
}

/// Bit i: tags[i] is `tag`.
inline std::uint64_t equal_to(const std::uint32_t* tags, std::uint32_t count, std::uint32_t tag) {
  std::uint64_t mask = 0;
#ifdef __SSE4_1__
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
  for (std::uint32_t i = 0; i < count; i += 4) {
    const __m128i equal = _mm_cmpeq_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tags + i)), wanted);
    mask |= static_cast<std::uint64_t>(_mm_movemask_ps(_mm_castsi128_ps(equal))) << i;
  }
#else
  for (std::uint32_t i = 0; i < count; ++i) mask |= std::uint64_t{tags[i] == tag} << i;
#endif
  return mask & first_bits(count);
}

/// The largest age of a list that is not empty.
inline std::uint32_t largest_age(const std::uint32_t* units, std::uint32_t count, std::int64_t clock_unit) {
  const auto clock = static_cast<std::uint32_t>(clock_unit);
  std::uint32_t largest = 0;
  std::uint32_t i = 0;
#ifdef __SSE4_1__
  const __m128i clocks = _mm_set1_epi32(static_cast<int>(clock));
  __m128i most = _mm_setzero_si128();
  for (; i + 4 <= count; i += 4) {
    most = _mm_max_epu32(most, _mm_sub_epi32(clocks, _mm_loadu_si128(reinterpret_cast<const __m128i*>(units + i))));
  }
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4E));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xB1));
  largest = static_cast<std::uint32_t>(_mm_cvtsi128_si32(most));
#endif
  for (; i < count; ++i) largest = clock - units[i] > largest ? clock - units[i] : largest;
  return largest;
}

/// The place of the bit of `mask` that has `rank` set bits below it; there must be more than `rank`.
inline std::uint32_t nth_bit(std::uint64_t mask, std::uint32_t rank) {
  std::uint32_t place = 0;
  for (std::uint32_t width = 32; width != 0; width /= 2) {
    const std::uint64_t low = mask & ((std::uint64_t{1} << width) - 1);
    const auto below = static_cast<std::uint32_t>(std::popcount(low));
    const bool above = rank >= below;
    rank -= above ? below : 0;
    place += above ? width : 0;
    mask = above ? mask >> width : low;
  }
  return place;
}

}  // namespace alcedo::features
