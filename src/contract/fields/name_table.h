// Field names -> indices, compiled once: the lookup that every field of every event makes.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace alcedo::contract {

/// Immutable open-addressed table. Cost: a few ns; names up to 16 bytes are compared as two words.
class NameTable {
 public:
  NameTable() = default;
  /// Of equal names the first counts. The names are copied.
  explicit NameTable(std::span<const std::string> names) : names_(names.begin(), names.end()) {
    std::size_t slots = 8;
    while (slots < names_.size() * 4) slots *= 2;
    slots_.assign(slots, kEmpty);
    for (std::size_t i = 0; i < names_.size(); ++i) {
      known_.push_back({Ends(names_[i]), names_[i].size()});
      if (find(names_[i]) >= 0) continue;
      std::size_t at = known_[i].ends.hash(names_[i].size()) & (slots - 1);
      while (slots_[at] >= 0) at = (at + 1) & (slots - 1);
      slots_[at] = static_cast<std::int32_t>(i);
    }
  }

  /// The index of `name`, or -1.
  int find(std::string_view name) const {
    if (slots_.empty()) return -1;
    const Ends ends(name);
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = ends.hash(name.size()) & mask; slots_[at] >= 0; at = (at + 1) & mask) {
      const auto index = static_cast<std::size_t>(slots_[at]);
      const Known& known = known_[index];
      if (known.size != name.size() || known.ends.first != ends.first || known.ends.last != ends.last) continue;
      if (name.size() <= 16 || names_[index] == name) return slots_[at];
    }
    return -1;
  }
  /// Whether the bytes at `from`, up to the next quote, are the name at `index` (any number will do: a guess).
  /// kNameBytesMax and one bytes must be readable.
  bool is_quoted_name(int index, const char* from) const {
    if (static_cast<std::size_t>(index) >= known_.size()) return false;
    const Known& known = known_[static_cast<std::size_t>(index)];
    if (known.size > kNameBytesMax || from[known.size] != '"') return false;
    const std::string_view name(from, known.size);
    const Ends ends(name);
    return ends.first == known.ends.first && ends.last == known.ends.last &&
           (name.size() <= 16 || names_[static_cast<std::size_t>(index)] == name);
  }
  static constexpr std::size_t kNameBytesMax = 40;

  std::span<const std::string> names() const { return names_; }

 private:
  // The first and the last 8 bytes: all of a name up to 16 bytes, and enough to tell most longer names of one contract
  // apart.
  struct Ends {
    Ends() = default;
    explicit Ends(std::string_view name) {
      const std::size_t n = name.size();
      if (n >= 8) {
        std::memcpy(&first, name.data(), 8);
        std::memcpy(&last, name.data() + n - 8, 8);
      } else if (n >= 4) {
        std::memcpy(&first, name.data(), 4);
        std::memcpy(&last, name.data() + n - 4, 4);
      } else if (n > 0) {
        const auto byte = [&](std::size_t i) {
          return static_cast<std::uint64_t>(static_cast<unsigned char>(name[i]));
        };
        first = byte(0) | byte(n / 2) << 8U | byte(n - 1) << 16U;
      }
    }
    std::size_t hash(std::size_t size) const {
      return static_cast<std::size_t>(((first ^ (last * 0x9E3779B97F4A7C15ULL) ^ size) * 0xd6e8feb86659fd93ULL) >> 32U);
    }
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  struct Known {
    Ends ends;
    std::size_t size = 0;
  };
  static constexpr std::int32_t kEmpty = -1;

  std::vector<std::string> names_;
  std::vector<Known> known_;         // by name
  std::vector<std::int32_t> slots_;  // index of a name, or kEmpty
};

}  // namespace alcedo::contract
