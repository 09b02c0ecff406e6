// Field names -> indices, compiled once: the lookup that every field of every event makes.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"

namespace alcedo::contract {

/// Immutable open-addressed table. Cost: one hash of at most 16 bytes and about one comparison.
class NameTable {
 public:
  NameTable() = default;
  /// Of equal names the first counts. The names are copied.
  explicit NameTable(std::span<const std::string> names) : names_(names.begin(), names.end()) {
    std::size_t slots = 8;
    while (slots < names_.size() * 4) slots *= 2;
    slots_.assign(slots, kEmpty);
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (find(names_[i]) >= 0) continue;
      std::size_t at = hash(names_[i]) & (slots - 1);
      while (slots_[at] != kEmpty) at = (at + 1) & (slots - 1);
      slots_[at] = static_cast<std::int32_t>(i);
    }
  }

  /// The index of `name`, or -1.
  int find(std::string_view name) const {
    if (slots_.empty()) return -1;
    for (std::size_t at = hash(name) & (slots_.size() - 1); slots_[at] != kEmpty; at = (at + 1) & (slots_.size() - 1)) {
      if (names_[static_cast<std::size_t>(slots_[at])] == name) return slots_[at];
    }
    return -1;
  }
  std::span<const std::string> names() const { return names_; }

 private:
  static constexpr std::int32_t kEmpty = -1;

  // First and last bytes tell the names of one contract apart.
  static std::size_t hash(std::string_view name) {
    const std::size_t n = name.size();
    std::uint64_t first = 0, last = 0;
    if (n >= 8) {
      std::memcpy(&first, name.data(), 8);
      std::memcpy(&last, name.data() + n - 8, 8);
    } else if (n >= 4) {
      std::memcpy(&first, name.data(), 4);
      std::memcpy(&last, name.data() + n - 4, 4);
    } else if (n > 0) {
      first = static_cast<unsigned char>(name[0]) |
              (static_cast<std::uint64_t>(static_cast<unsigned char>(name[n / 2])) << 8U) |
              (static_cast<std::uint64_t>(static_cast<unsigned char>(name[n - 1])) << 16U);
    }
    const std::uint64_t h = (first ^ (last * 0x9E3779B97F4A7C15ULL) ^ n) * 0xd6e8feb86659fd93ULL;
    return static_cast<std::size_t>(h >> 32U);
  }

  std::vector<std::string> names_;
  std::vector<std::int32_t> slots_;
};

}  // namespace alcedo::contract
