// Pairs stand in the order in which they became known, so that forgetting needs no clock of its own.
#include "features/operators/transition_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "features/record_pool.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kPairsMax = 128;
constexpr std::uint32_t kHalveAt = 4096;
constexpr std::uint32_t kFirstPairs = 4;
constexpr std::size_t kSlabClasses = 6;

struct TransitionState {
  std::uint32_t handle;    // of the slab, in the pool of its class
  std::uint32_t previous;  // the newest value's tag
  std::uint16_t total;     // of all pairs' counts
  std::uint8_t known;
  std::uint8_t slab_class;  // 0: no slab; else 4 << (class - 1) pairs
  std::uint8_t has_previous;
  std::uint8_t reserved[3];
};

struct Pair {
  std::uint32_t from;
  std::uint32_t to;
  std::uint32_t count;
};

std::uint32_t capacity(std::uint8_t slab_class) { return slab_class == 0 ? 0 : kFirstPairs << (slab_class - 1); }

class TransitionOperator final : public Operator {
 public:
  explicit TransitionOperator(const FeatureSpec& spec) : other_key_(static_cast<std::uint32_t>(spec.other_key)) {}

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const TransitionState*>(bytes);
    if (state.slab_class == 0) return;
    const std::byte* slab = pools_[state.slab_class - 1].at(state.handle);
    for (std::uint32_t at = 0; at < state.known * sizeof(Pair); at += 64) __builtin_prefetch(slab + at, 1);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<TransitionState*>(bytes);
    const std::uint64_t hash = event.batch.key(event.row, other_key_).hash;
    if (hash == 0 || !event.in_order) return;
    const auto tag = static_cast<std::uint32_t>(hash >> 32U);
    if (state.has_previous != 0) follow(state, tag, out);
    state.previous = tag;
    state.has_previous = 1;
  }

  // The newest value's tag, then the pairs as they stand; the total is the sum of their counts.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const TransitionState*>(bytes);
    if (state.has_previous == 0) return;
    writer.u32(state.previous);
    const Pair* const pairs = pairs_of(state);
    for (std::uint32_t i = 0; i < state.known; ++i) {
      writer.u32(pairs[i].from);
      writer.u32(pairs[i].to);
      writer.varint(pairs[i].count);
    }
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    auto& state = *reinterpret_cast<TransitionState*>(bytes);
    if (reader.left() == 0) return;
    state.previous = reader.u32();
    state.has_previous = 1;
    while (reader.left() != 0) {
      if (state.known == kPairsMax) return reader.refuse(fmt::format("has more than {} pairs", kPairsMax));
      const Pair pair{reader.u32(), reader.u32(), 0};
      const std::uint64_t count = reader.varint();
      if (!reader.ok()) return;
      if (count == 0) return reader.refuse("has a pair that was never seen");
      if (count >= kHalveAt - state.total) {
        return reader.refuse(fmt::format("counts {} pairs or more; as many are halved", kHalveAt));
      }
      if (find(state, pair.from, pair.to) != nullptr) return reader.refuse("has a pair twice");
      add(state, {pair.from, pair.to, static_cast<std::uint32_t>(count)});
      state.total = static_cast<std::uint16_t>(state.total + count);
    }
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<TransitionState*>(bytes);
    if (state.slab_class != 0) pools_[state.slab_class - 1].release(state.handle);
    state = TransitionState{};
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = 0;
    for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  Pair* pairs_of(const TransitionState& state) const {
    if (state.slab_class == 0) return nullptr;
    return reinterpret_cast<Pair*>(pools_[state.slab_class - 1].at(state.handle));
  }

  Pair* find(const TransitionState& state, std::uint32_t from, std::uint32_t to) const {
    Pair* const pairs = pairs_of(state);
    Pair* const at =
        std::find_if(pairs, pairs + state.known, [&](const Pair& p) { return p.from == from && p.to == to; });
    return at == pairs + state.known ? nullptr : at;
  }

  void follow(TransitionState& state, std::uint32_t tag, std::span<float> out) {
    const Pair* const pairs = pairs_of(state);
    std::uint32_t of = 0;
    for (std::uint32_t i = 0; i < state.known; ++i) of += pairs[i].from == state.previous ? pairs[i].count : 0;
    Pair* const at = find(state, state.previous, tag);
    const std::uint32_t count = at == nullptr ? 0 : at->count;
    out[0] = static_cast<float>(count);
    out[1] = static_cast<float>(of);
    out[2] = count == 0 ? 1.0F : 0.0F;
    out[3] = static_cast<float>(std::log10((of + 1.0) / (count + 1.0)));
    if (at != nullptr) {
      ++at->count;
    } else {
      add(state, {state.previous, tag, 1});
    }
    if (++state.total >= kHalveAt) halve(state);
  }

  void add(TransitionState& state, const Pair& pair) {
    if (state.known == kPairsMax) {
      Pair* const pairs = pairs_of(state);
      // min_element takes the first of equals: the one known longest. What it counted leaves the total too.
      Pair* const rarest =
          std::min_element(pairs, pairs + kPairsMax, [](const Pair& a, const Pair& b) { return a.count < b.count; });
      state.total = static_cast<std::uint16_t>(state.total - rarest->count);
      std::copy(rarest + 1, pairs + kPairsMax, rarest);
      --state.known;
    } else if (state.known == capacity(state.slab_class)) {
      TransitionState larger = state;
      ++larger.slab_class;
      larger.handle = pools_[larger.slab_class - 1].allocate();
      if (state.slab_class != 0) {
        std::memcpy(pairs_of(larger), pairs_of(state), state.known * sizeof(Pair));
        pools_[state.slab_class - 1].release(state.handle);
      }
      state = larger;
    }
    pairs_of(state)[state.known++] = pair;
  }

  void halve(TransitionState& state) {
    Pair* const pairs = pairs_of(state);
    std::uint32_t total = 0;
    for (std::uint32_t i = 0; i < state.known; ++i) total += pairs[i].count /= 2;
    Pair* const kept = std::remove_if(pairs, pairs + state.known, [](const Pair& p) { return p.count == 0; });
    state.known = static_cast<std::uint8_t>(kept - pairs);
    state.total = static_cast<std::uint16_t>(total);
  }

  std::uint32_t other_key_;
  RecordPool pools_[kSlabClasses] = {RecordPool(4 * sizeof(Pair)),  RecordPool(8 * sizeof(Pair)),
                                     RecordPool(16 * sizeof(Pair)), RecordPool(32 * sizeof(Pair)),
                                     RecordPool(64 * sizeof(Pair)), RecordPool(128 * sizeof(Pair))};
};

}  // namespace

std::string transition_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (auto mistake = slot_mistake("key", spec.other_key, layout.keys.size()); !mistake.empty()) return mistake;
  if (spec.other_key != spec.key) return {};
  return fmt::format("key '{}' follows itself always; expected a key whose values change from event to event",
                     layout.keys[static_cast<std::size_t>(spec.key)]);
}

// As of rarity: it moves in factors of two.
std::vector<OperatorColumn> transition_columns(const FeatureSpec& /*spec*/) {
  return {{"count", 1}, {"of", 1}, {"novel", 1}, {"rarity", 0.3}};
}

std::size_t transition_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(TransitionState); }

std::unique_ptr<Operator> make_transition_operator(const FeatureSpec& spec) {
  return std::make_unique<TransitionOperator>(spec);
}

}  // namespace alcedo::features
