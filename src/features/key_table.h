// From a key's hash to its entity's record: open addressing in 256 small tables, so that growing one is never felt.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/hash.h"

namespace alcedo::features {

/// Maps non-zero hashes to handles. Keys with the same 64-bit hash are one key. There is no order to observe.
///
/// Threads  One at a time.
/// Cost     one cache miss, hidden by prefetch(). Doubling moves 1/256 of the keys at a time: 20 us at a million keys.
class KeyTable {
 public:
  void prefetch(std::uint64_t hash) const {
    const std::uint64_t mixed = mix64(hash);
    const Part& part = parts_[mixed >> 56];
    if (part.slots) __builtin_prefetch(&part.slots[mixed & part.mask]);
  }

  /// The handle of `hash`; if it is new, `make()` says the handle to keep, and `added` becomes true.
  template <typename Make>
  std::uint32_t find_or_add(std::uint64_t hash, Make make, bool& added) {
    const std::uint64_t mixed = mix64(hash);
    Part& part = parts_[mixed >> 56];
    if (part.slots) {
      for (std::uint64_t at = mixed & part.mask;; at = (at + 1) & part.mask) {
        const Slot& slot = part.slots[at];
        if (slot.hash == hash) {
          added = false;
          return slot.handle;
        }
        if (slot.hash == 0) break;
      }
    }
    added = true;
    const std::uint32_t handle = make();
    if ((part.used + 1) * 3 > part.capacity() * 2) grow(part);
    place(part, {hash, handle});
    ++part.used;
    ++size_;
    return handle;
  }

  /// The handle of `hash`, or kNone.
  std::uint32_t find(std::uint64_t hash) const {
    const std::uint64_t mixed = mix64(hash);
    const Part& part = parts_[mixed >> 56];
    if (!part.slots) return kNone;
    for (std::uint64_t at = mixed & part.mask; part.slots[at].hash != 0; at = (at + 1) & part.mask) {
      if (part.slots[at].hash == hash) return part.slots[at].handle;
    }
    return kNone;
  }

  /// Gives a hash that is there another handle.
  void replace(std::uint64_t hash, std::uint32_t handle) {
    const std::uint64_t mixed = mix64(hash);
    Part& part = parts_[mixed >> 56];
    std::uint64_t at = mixed & part.mask;
    while (part.slots[at].hash != hash) at = (at + 1) & part.mask;
    part.slots[at].handle = handle;
  }

  /// Forgets `hash`; returns its handle, or kNone if it was not known. The table keeps its memory.
  std::uint32_t erase(std::uint64_t hash) {
    const std::uint64_t mixed = mix64(hash);
    Part& part = parts_[mixed >> 56];
    if (!part.slots) return kNone;
    std::uint64_t hole = mixed & part.mask;
    while (part.slots[hole].hash != hash) {
      if (part.slots[hole].hash == 0) return kNone;
      hole = (hole + 1) & part.mask;
    }
    const std::uint32_t handle = part.slots[hole].handle;
    // Whoever was pushed past the hole moves into it, so that a search may still end at the first empty slot.
    for (std::uint64_t at = (hole + 1) & part.mask; part.slots[at].hash != 0; at = (at + 1) & part.mask) {
      const std::uint64_t home = mix64(part.slots[at].hash) & part.mask;
      if (((at - home) & part.mask) < ((at - hole) & part.mask)) continue;
      part.slots[hole] = part.slots[at];
      hole = at;
    }
    part.slots[hole] = Slot{};
    --part.used;
    --size_;
    return handle;
  }

  /// Calls `f(hash, handle)` for each key, in no order that may be observed.
  template <typename F>
  void for_each(F f) const {
    for (const Part& part : parts_) {
      for (std::uint64_t i = 0; i < part.capacity(); ++i) {
        if (part.slots[i].hash != 0) f(part.slots[i].hash, part.slots[i].handle);
      }
    }
  }

  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  std::size_t size() const { return size_; }
  std::size_t reserved_bytes() const { return reserved_bytes_; }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t handle = 0;
  };
  struct Part {
    std::unique_ptr<Slot[]> slots;
    std::uint64_t mask = 0;
    std::uint64_t used = 0;
    std::uint64_t capacity() const { return slots ? mask + 1 : 0; }
  };

  static void place(Part& part, Slot slot) {
    std::uint64_t at = mix64(slot.hash) & part.mask;
    while (part.slots[at].hash != 0) at = (at + 1) & part.mask;
    part.slots[at] = slot;
  }

  void grow(Part& part) {
    const std::uint64_t capacity = part.capacity();
    const std::uint64_t larger = capacity == 0 ? 4 : capacity * 2;
    Part next{std::make_unique<Slot[]>(larger), larger - 1, part.used};
    for (std::uint64_t i = 0; i < capacity; ++i) {
      if (part.slots[i].hash != 0) place(next, part.slots[i]);
    }
    reserved_bytes_ += (larger - capacity) * sizeof(Slot);
    part = std::move(next);
  }

  std::array<Part, 256> parts_;
  std::size_t size_ = 0;
  std::size_t reserved_bytes_ = 0;
};

}  // namespace alcedo::features
