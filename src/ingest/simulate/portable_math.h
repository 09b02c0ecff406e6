// Exponential, logarithm and normal quantile from plain IEEE arithmetic: libm differs in the last bit between machines,
// and one such bit would change every later event of a simulated stream.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/prng.h"

namespace alcedo::ingest::simulate {

/// e^x for |x| <= 600; relative error below 1e-12. Same bits on every machine (no contraction, see CMakeLists.txt).
inline double portable_exp(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double k = std::floor(x * kLog2E + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;  // |r| <= ln(2) / 2
  double p = 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * std::bit_cast<double>(static_cast<std::uint64_t>(static_cast<std::int64_t>(k) + 1023) << 52);
}

/// Natural logarithm of a normal x > 0; absolute error below 1e-11.
inline double portable_log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);  // [1, 2)
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);  // |s| <= 0.1716
  const double s2 = s * s;
  double p = 1.0 / 13.0;
  p = p * s2 + 1.0 / 11.0;
  p = p * s2 + 1.0 / 9.0;
  p = p * s2 + 1.0 / 7.0;
  p = p * s2 + 1.0 / 5.0;
  p = p * s2 + 1.0 / 3.0;
  p = p * s2 + 1.0;
  return static_cast<double>(exponent) * 0.6931471805599453 + 2.0 * s * p;
}

/// Quantile of the standard normal at p in (0, 1); relative error below 1.2e-9. Source: P. Acklam, 2003.
inline double normal_quantile(double p) {
  constexpr double kTail = 0.02425;
  if (p < kTail || p > 1.0 - kTail) {
    const double tail = p < kTail ? p : 1.0 - p;
    const double q = std::sqrt(-2.0 * portable_log(tail));  // sqrt is exactly rounded everywhere
    const double up = ((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e+00) * q -
                        2.549732539343734e+00) *
                           q +
                       4.374664141464968e+00) *
                          q +
                      2.938163982698783e+00;
    const double down = (((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e+00) * q +
                         3.754408661907416e+00) *
                            q +
                        1.0;
    return p < kTail ? up / down : -up / down;
  }
  const double q = p - 0.5;
  const double r = q * q;
  const double up = (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
                       1.383577518672690e+02) *
                          r -
                      3.066479806614716e+01) *
                         r +
                     2.506628277459239e+00) *
                    q;
  const double down = ((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
                        6.680131188771972e+01) *
                           r -
                       1.328068155288572e+01) *
                          r +
                      1.0;
  return up / down;
}

/// Draws that use only the functions above. One call of Prng::next() each.
inline double draw_uniform_open(Prng& prng) {  // (0, 1)
  return (static_cast<double>(prng.next() >> 12) + 0.5) * 0x1.0p-52;
}
inline double draw_normal(Prng& prng) { return normal_quantile(draw_uniform_open(prng)); }
inline double draw_exponential(Prng& prng) { return -portable_log(draw_uniform_open(prng)); }
inline double draw_between(Prng& prng, double low, double high) { return low + (high - low) * prng.uniform(); }
inline bool draw_chance(Prng& prng, double p) { return prng.uniform() < p; }

}  // namespace alcedo::ingest::simulate
