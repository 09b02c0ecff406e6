// Follows the paper's notation (v0..v3, c = 2, d = 4), so that it can be compared line by line.
#include "contract/fields/siphash.h"

#include <bit>
#include <cstring>

namespace alcedo::contract {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read and written as they lie in memory");

struct State {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void absorb(std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  std::uint64_t squeeze() {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

std::array<std::uint8_t, 16> siphash128(const std::array<std::uint8_t, 16>& secret, std::string_view bytes) {
  std::uint64_t k0, k1;
  std::memcpy(&k0, secret.data(), 8);
  std::memcpy(&k1, secret.data() + 8, 8);
  State s{k0 ^ 0x736f6d6570736575ULL, k1 ^ 0x646f72616e646f6dULL ^ 0xee, k0 ^ 0x6c7967656e657261ULL,
          k1 ^ 0x7465646279746573ULL};
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + at, 8);
    s.absorb(word);
  }
  std::uint64_t last = static_cast<std::uint64_t>(bytes.size()) << 56U;
  for (std::size_t i = 0; at + i < bytes.size(); ++i) {
    last |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  s.absorb(last);
  s.v2 ^= 0xee;
  const std::uint64_t low = s.squeeze();
  s.v1 ^= 0xdd;
  const std::uint64_t high = s.squeeze();
  std::array<std::uint8_t, 16> out;
  std::memcpy(out.data(), &low, 8);
  std::memcpy(out.data() + 8, &high, 8);
  return out;
}

void write_private_text(const std::array<std::uint8_t, 16>& secret, std::string_view value, char* to) {
  constexpr char kHex[] = "0123456789abcdef";
  *to++ = 'h';
  *to++ = ':';
  for (const std::uint8_t byte : siphash128(secret, value)) {
    *to++ = kHex[byte >> 4U];
    *to++ = kHex[byte & 15U];
  }
}

}  // namespace alcedo::contract
