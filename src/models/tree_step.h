// One step down a tree, without a branch: which side a row takes is as good as random, so a guess is often wrong.
#pragma once

#include <cstddef>
#include <cstdint>

namespace alcedo::models {

// On x86-64 a comparison leaves "less" in the carry, which an addition takes along: two instructions, where the
// compiler makes five of the same in C++.

/// From node `at` of a heap to 2 at + 1 if key > bound, else to 2 at.
inline std::size_t heap_step(std::size_t at, const std::uint32_t& bound, std::uint32_t key) {
#if defined(__x86_64__)
  asm("cmpl %2, %1\n\tadcq %0, %0" : "+r"(at) : "m"(bound), "r"(key) : "cc");
  return at;
#else
  return 2 * at + static_cast<std::size_t>(key > bound);
#endif
}

/// at + step, and one more if key > bound.
inline std::size_t walk_step(std::size_t at, std::size_t step, const std::uint32_t& bound, std::uint32_t key) {
#if defined(__x86_64__)
  asm("cmpl %3, %2\n\tadcq %1, %0" : "+r"(at) : "r"(step), "m"(bound), "r"(key) : "cc");
  return at;
#else
  return at + step + static_cast<std::size_t>(key > bound);
#endif
}

}  // namespace alcedo::models
