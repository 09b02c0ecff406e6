// Keyed hash for private fields: the same card gives the same key, and nobody without the secret can find the card by
// trying.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace alcedo::contract {

/// SipHash-2-4 with 128 bits of output, bytes in the order of the reference implementation.
/// Source   Aumasson, Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012; reference vectors in the test.
std::array<std::uint8_t, 16> siphash128(const std::array<std::uint8_t, 16>& secret, std::string_view bytes);

/// What people see of a private value: "h:" and 32 hex digits.
inline constexpr std::size_t kPrivateTextBytes = 34;
void write_private_text(const std::array<std::uint8_t, 16>& secret, std::string_view value, char* to);

}  // namespace alcedo::contract
