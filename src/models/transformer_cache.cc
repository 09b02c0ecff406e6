// Finds rings, rebuilds those that do not stand where their entity does, and hands events to the model in groups.
#include "models/transformer_cache.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::models {
namespace {

constexpr std::size_t kHugePage = 2U << 20U;
constexpr std::size_t kLine = 64;

}  // namespace

void TransformerCache::Unmap::operator()(std::byte* p) const { munmap(p, bytes); }

Result<TransformerCache> TransformerCache::create(const Transformer& model, std::size_t limit_bytes) {
  TransformerCache cache(model);
  cache.ring_bytes_ = model.ring_bytes();
  // A table of twice the rings, to the next power of two, has at most four slots a ring.
  const std::size_t each = cache.ring_bytes_ + 4 * sizeof(Slot) + sizeof(Owner) + sizeof(std::uint32_t);
  const std::size_t capacity = std::min<std::size_t>(limit_bytes / each, kNone / 4);
  if (capacity == 0) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("a transformer's cache of {} bytes holds no entity; one takes {}", limit_bytes, each));
  }
  cache.capacity_ = static_cast<std::uint32_t>(capacity);
  const std::size_t bytes = (capacity * cache.ring_bytes_ + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return error(ErrorCode::kUnavailable, fmt::format("no memory for a transformer's cache of {} bytes", limit_bytes));
  }
#ifdef MADV_HUGEPAGE
  // A wish, and only where most of a huge page would be used: a ring lies on three small pages, each an address to be
  // translated.
  if (bytes >= 8 * kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  cache.rings_ = std::unique_ptr<std::byte, Unmap>(static_cast<std::byte*>(memory), Unmap{bytes});
  const std::size_t slots = std::bit_ceil(2 * capacity);
  cache.mask_ = slots - 1;
  cache.slots_ = std::make_unique<Slot[]>(slots);
  cache.owners_ = std::make_unique<Owner[]>(capacity);
  cache.free_ = std::make_unique<std::uint32_t[]>(capacity);
  return cache;
}

std::size_t TransformerCache::home(std::uint64_t key) const { return mix64(key) & mask_; }

std::uint32_t TransformerCache::find(std::uint64_t key) const {
  for (std::size_t at = home(key); slots_[at].ring != 0; at = (at + 1) & mask_) {
    if (slots_[at].key == key) return slots_[at].ring - 1;
  }
  return kNone;
}

void TransformerCache::insert(std::uint64_t key, std::uint32_t number) {
  std::size_t at = home(key);
  while (slots_[at].ring != 0) at = (at + 1) & mask_;
  slots_[at] = {key, number + 1};
  owners_[number] = {key, false};
}

void TransformerCache::erase(std::uint64_t key) {
  std::size_t hole = home(key);
  while (slots_[hole].key != key || slots_[hole].ring == 0) hole = (hole + 1) & mask_;
  // Whoever was pushed past the hole moves into it, so that a search may still end at the first empty slot.
  for (std::size_t at = (hole + 1) & mask_; slots_[at].ring != 0; at = (at + 1) & mask_) {
    if (((at - home(slots_[at].key)) & mask_) < ((at - hole) & mask_)) continue;
    slots_[hole] = slots_[at];
    hole = at;
  }
  slots_[hole] = {};
}

std::uint32_t TransformerCache::take() {
  if (free_count_ > 0) return free_[--free_count_];
  if (used_ < capacity_) return used_++;
  for (;; hand_ = (hand_ + 1) % capacity_) {
    if (!owners_[hand_].touched) break;
    owners_[hand_].touched = false;
  }
  const std::uint32_t number = hand_;
  hand_ = (hand_ + 1) % capacity_;
  erase(owners_[number].key);
  ++counters_.evictions;
  return number;
}

void TransformerCache::forget(std::uint64_t key) {
  const std::uint32_t number = find(key);
  if (number == kNone) return;
  erase(key);
  free_[free_count_++] = number;
}

void TransformerCache::prefetch(std::uint64_t key) const {
  const std::uint32_t number = find(key);
  if (number == kNone) return;
  const auto* at = static_cast<const std::byte*>(ring(number));
  for (std::size_t i = 0; i < ring_bytes_; i += kLine) __builtin_prefetch(at + i, 1);
}

void TransformerCache::step(std::span<Visit> visits) {
  const Transformer::Storage storage = model_->storage();
  std::array<Transformer::Event, Transformer::kGroup> group;
  std::size_t pending = 0;
  // Table slots are asked for two groups ahead, rings one group ahead.
  const auto look_ahead = [&](std::size_t i) {
    if (i < visits.size()) prefetch(visits[i].key);
  };
  const auto table_ahead = [&](std::size_t i) {
    if (i < visits.size()) __builtin_prefetch(&slots_[home(visits[i].key)]);
  };
  for (std::size_t i = 0; i < 2 * Transformer::kGroup; ++i) table_ahead(i);
  for (std::size_t i = 0; i < Transformer::kGroup; ++i) look_ahead(i);
  for (std::size_t i = 0; i < visits.size(); ++i) {
    Visit& visit = visits[i];
    table_ahead(i + 2 * Transformer::kGroup);
    look_ahead(i + Transformer::kGroup);
    std::uint32_t number = find(visit.key);
    const bool there = number != kNone && Transformer::stands_at(ring(number), storage, visit.history);
    if (there) {
      ++counters_.hits;
    } else {
      // Whoever waits goes first: the ring may be theirs, or be given away.
      model_->step(std::span(group.data(), pending));
      pending = 0;
      if (number == kNone) {
        number = take();
        insert(visit.key, number);
      }
      visit.history.count() == 0 ? ++counters_.starts : ++counters_.rebuilds;
      model_->rebuild(ring(number), visit.history);
    }
    owners_[number].touched = true;
    group[pending++] = {ring(number), visit.token, &visit.score};
    visit.history.push(visit.token, visit.time_ms);
    // From here the ring counts as standing where the history does: whatever comes for it comes after this event.
    Transformer::set_chain(ring(number), storage, visit.history.chain());
    if (pending == Transformer::kGroup) {
      model_->step(group);
      pending = 0;
    }
  }
  model_->step(std::span(group.data(), pending));
}

}  // namespace alcedo::models
