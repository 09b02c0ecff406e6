// Seeded random numbers that are the same everywhere: the standard library's distributions are not.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/hash.h"

namespace alcedo {

/// splitmix64: 8 bytes of state, any seed good, streams by mixing the seed. Source: Steele, Lea, Flood, OOPSLA 2014.
class Prng {
 public:
  explicit Prng(std::uint64_t seed) : state_(mix64(seed + 0x9E3779B97F4A7C15ULL)) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  __extension__ using Wide = unsigned __int128;
  /// Uniform in [0, n), n > 0. Bias below n / 2^64.
  std::uint64_t below(std::uint64_t n) { return static_cast<std::uint64_t>((static_cast<Wide>(next()) * n) >> 64); }
  /// Standard normal (Box-Muller, one of the pair).
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * uniform());
  }
  double exponential() { return -std::log(1.0 - uniform()); }

 private:
  std::uint64_t state_;
};

}  // namespace alcedo
