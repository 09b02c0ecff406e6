// Seedless hashes, the same on every machine and in every run, and the key groups by which keys are owned.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace alcedo {

/// Finaliser of 64 bits. Source: M. Xu's variant of "mx3"; every input bit reaches every output bit.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ULL;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ULL;
  x ^= x >> 32;
  return x;
}

/// A key's identity. Two of 10^6 keys share one with probability 3e-8. Never 0, which tables use for "empty".
inline std::uint64_t hash64(std::string_view text) {
  std::uint64_t h = 0x9E3779B97F4A7C15ULL ^ (text.size() * 0xff51afd7ed558ccdULL);
  const char* p = text.data();
  std::size_t left = text.size();
  while (left >= 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    h = mix64(h ^ word);
    p += 8;
    left -= 8;
  }
  std::uint64_t word = 0;
  if (left > 0) std::memcpy(&word, p, left);  // an empty view may point nowhere
  h = mix64(h ^ word ^ (std::uint64_t{left} << 56));
  return h == 0 ? 1 : h;
}

constexpr std::uint64_t hash_combine(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t h = mix64(a ^ std::rotl(b, 23) ^ 0x2545F4914F6CDD1DULL);
  return h == 0 ? 1 : h;
}

inline constexpr int kKeyGroups = 128;

/// Flink's key group of a String key: murmur of hashCode() over UTF-16 code units, modulo kKeyGroups. `text` is UTF-8;
/// an invalid byte counts as U+FFFD, as Java decodes it. Source: org.apache.flink.util.MathUtils.murmurHash.
std::uint8_t key_group(std::string_view text);

}  // namespace alcedo
