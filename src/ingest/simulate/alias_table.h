// Draws an index by weight in constant time: the simulator picks cards and merchants millions of times a second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/check.h"
#include "core/prng.h"

namespace alcedo::ingest::simulate {

/// Walker's alias method. Source: M. Vose, "A linear algorithm for generating random numbers with a given
/// distribution", 1991. Cost  12 bytes an item; pick() is one draw and one memory access.
class AliasTable {
 public:
  AliasTable() = default;
  /// Item i is drawn with probability weights[i] / sum and yields items[i]. Sizes are equal and the sum is positive.
  AliasTable(std::span<const double> weights, std::span<const std::uint32_t> items) {
    CHECK(weights.size() == items.size() && !items.empty());
    const std::size_t n = items.size();
    double sum = 0;
    for (const double w : weights) sum += w;
    CHECK(sum > 0);
    std::vector<double> scaled(n);
    std::vector<std::uint32_t> small, large;
    for (std::size_t i = 0; i < n; ++i) {
      scaled[i] = weights[i] * static_cast<double>(n) / sum;
      (scaled[i] < 1.0 ? small : large).push_back(static_cast<std::uint32_t>(i));
    }
    slots_.resize(n);
    for (std::size_t i = 0; i < n; ++i) slots_[i] = {0xFFFFFFFFU, items[i], items[i]};
    while (!small.empty() && !large.empty()) {
      const std::uint32_t low = small.back();
      const std::uint32_t high = large.back();
      small.pop_back();
      slots_[low].threshold = static_cast<std::uint32_t>(scaled[low] * 0x1.0p32);
      slots_[low].other = items[high];
      scaled[high] -= 1.0 - scaled[low];
      if (scaled[high] < 1.0) {
        large.pop_back();
        small.push_back(high);
      }
    }
  }

  bool empty() const { return slots_.empty(); }
  std::size_t size() const { return slots_.size(); }

  std::uint32_t pick(Prng& prng) const {
    const auto wide = static_cast<Prng::Wide>(prng.next()) * slots_.size();
    const Slot& slot = slots_[static_cast<std::size_t>(wide >> 64)];
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(wide) >> 32) < slot.threshold ? slot.self : slot.other;
  }

 private:
  struct Slot {
    std::uint32_t threshold;  // of 2^32
    std::uint32_t self;
    std::uint32_t other;
  };
  std::vector<Slot> slots_;
};

}  // namespace alcedo::ingest::simulate
