// From a key's hash to its entity's record: open addressing in 256 small tables, so that growing one is never felt.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/hash.h"
#include "features/huge_pages.h"

namespace alcedo::features {

/// Maps non-zero hashes to handles. Keys with the same 64-bit hash are one key. There is no order to observe.
///
/// Threads  One at a time.
/// Cost     one cache miss, hidden by prefetch(). Doubling moves 1/256 of the keys at a time: 20 us at a million keys.
/// Memory   16 bytes a slot, in huge pages from 100,000 keys on; one half to two thirds of the slots are used.
class KeyTable {
 public:
  KeyTable() = default;
  KeyTable(KeyTable&& other) noexcept
      : memory_(std::move(other.memory_)),
        parts_(std::exchange(other.parts_, {})),
        size_(std::exchange(other.size_, 0)) {}
  KeyTable& operator=(KeyTable&&) = delete;
  ~KeyTable() { clear(); }

  void prefetch(std::uint64_t hash) const {
    const std::uint64_t mixed = mix64(hash);
    const Part& part = parts_[mixed >> 56];
    if (part.lines != nullptr) __builtin_prefetch(&part.lines[mixed & part.mask]);
  }

  /// The handle of `hash`; if it is new, `make()` says the handle to keep, and `added` becomes true.
  template <typename Make>
  std::uint32_t find_or_add(std::uint64_t hash, Make make, bool& added) {
    const std::uint64_t mixed = mix64(hash);
    Part& part = parts_[mixed >> 56];
    if (part.lines != nullptr) {
      if (const Slot* slot = part.find(hash, mixed)) {
        added = false;
        return slot->handle;
      }
    }
    added = true;
    const std::uint32_t handle = make();
    if ((part.used + 1) * 3 > part.capacity() * 2) grow(part);
    place(part, {hash, handle, 0});
    ++part.used;
    ++size_;
    return handle;
  }

  /// The handle of `hash`, or kNone.
  std::uint32_t find(std::uint64_t hash) const {
    const std::uint64_t mixed = mix64(hash);
    const Part& part = parts_[mixed >> 56];
    const Slot* slot = part.lines == nullptr ? nullptr : part.find(hash, mixed);
    return slot == nullptr ? kNone : slot->handle;
  }

  /// Gives a hash that is there another handle.
  void replace(std::uint64_t hash, std::uint32_t handle) {
    const std::uint64_t mixed = mix64(hash);
    parts_[mixed >> 56].find(hash, mixed)->handle = handle;
  }

  /// Forgets `hash`; returns its handle, or kNone if it was not known. The table keeps its memory.
  std::uint32_t erase(std::uint64_t hash) {
    const std::uint64_t mixed = mix64(hash);
    Part& part = parts_[mixed >> 56];
    Slot* hole = part.lines == nullptr ? nullptr : part.find(hash, mixed);
    if (hole == nullptr) return kNone;
    const std::uint32_t handle = hole->handle;
    std::uint64_t line = part.line_of(hole);
    // Whoever was pushed past the hole moves into it, so that a search may still end at the first line with an empty
    // slot.
    for (std::uint64_t at = line; part.lines[at].is_full();) {
      at = (at + 1) & part.mask;
      for (Slot& slot : part.lines[at].slots) {
        if (slot.hash == 0) continue;
        const std::uint64_t home = mix64(slot.hash) & part.mask;
        if (((at - home) & part.mask) < ((at - line) & part.mask)) continue;
        *hole = slot;
        hole = &slot;
        line = at;
        break;
      }
    }
    *hole = Slot{};
    --part.used;
    --size_;
    return handle;
  }

  /// Calls `f(hash, handle)` for each key, in no order that may be observed.
  template <typename F>
  void for_each(F f) const {
    for (const Part& part : parts_) {
      for (std::uint64_t line = 0; line < part.num_lines(); ++line) {
        for (const Slot& slot : part.lines[line].slots) {
          if (slot.hash != 0) f(slot.hash, slot.handle);
        }
      }
    }
  }

  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  std::size_t size() const { return size_; }
  std::size_t reserved_bytes() const { return memory_.reserved_bytes(); }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t handle = 0;
    std::uint32_t reserved = 0;
  };
  static_assert(sizeof(Slot) == 16);
  // A search stays in one cache line while that has room: the next one would be missed unprepared.
  struct alignas(64) Line {
    std::array<Slot, 4> slots;
    bool is_full() const {
      return std::all_of(slots.begin(), slots.end(), [](const Slot& slot) { return slot.hash != 0; });
    }
  };
  struct Part {
    Line* lines = nullptr;
    std::uint64_t mask = 0;  // lines - 1
    std::uint64_t used = 0;
    std::uint64_t num_lines() const { return lines != nullptr ? mask + 1 : 0; }
    std::uint64_t capacity() const { return 4 * num_lines(); }
    std::size_t bytes() const { return num_lines() * sizeof(Line); }
    std::uint64_t line_of(const Slot* slot) const {
      return static_cast<std::uint64_t>(
          reinterpret_cast<const Line*>(reinterpret_cast<std::uintptr_t>(slot) & ~std::uintptr_t{63}) - lines);
    }
    /// The slot of `hash`, or null. The first line with an empty slot is the last one looked at.
    Slot* find(std::uint64_t hash, std::uint64_t mixed) const {
      for (std::uint64_t at = mixed & mask;; at = (at + 1) & mask) {
        bool full = true;
        for (Slot& slot : lines[at].slots) {
          if (slot.hash == hash) return &slot;
          full &= slot.hash != 0;
        }
        if (!full) return nullptr;
      }
    }
  };

  void clear() {
    for (Part& part : parts_) {
      if (part.lines != nullptr) memory_.release(reinterpret_cast<std::byte*>(part.lines), part.bytes());
      part = Part{};
    }
  }

  static void place(Part& part, Slot added) {
    for (std::uint64_t at = mix64(added.hash) & part.mask;; at = (at + 1) & part.mask) {
      for (Slot& slot : part.lines[at].slots) {
        if (slot.hash != 0) continue;
        slot = added;
        return;
      }
    }
  }

  void grow(Part& part) {
    const std::uint64_t lines = std::max<std::uint64_t>(1, 2 * part.num_lines());
    Part next{reinterpret_cast<Line*>(memory_.allocate(lines * sizeof(Line))), lines - 1, part.used};
    for (std::uint64_t line = 0; line < part.num_lines(); ++line) {
      for (const Slot& slot : part.lines[line].slots) {
        if (slot.hash != 0) place(next, slot);
      }
    }
    if (part.lines != nullptr) memory_.release(reinterpret_cast<std::byte*>(part.lines), part.bytes());
    part = next;
  }

  DoublingBlocks memory_;
  std::array<Part, 256> parts_;
  std::size_t size_ = 0;
};

}  // namespace alcedo::features
