// Counts stand in the order in which their values became known, so that forgetting needs no clock of its own.
#include "features/operators/rarity_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "features/record_pool.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kValuesMax = 32;
constexpr std::uint32_t kHalveAt = 256;
constexpr std::uint32_t kFirstValues = 4;
constexpr std::size_t kSavedValueBytes = 5;

struct RarityState {
  std::uint32_t handle;  // of the slab, in the pool of its class
  std::uint16_t of;
  std::uint8_t known;
  std::uint8_t slab_class;  // 0: no slab; else 4 << (class - 1) values
};

struct ValueCount {
  std::uint32_t tag;
  std::uint32_t count;
};

std::uint32_t capacity(std::uint8_t slab_class) { return slab_class == 0 ? 0 : kFirstValues << (slab_class - 1); }

class RarityOperator final : public Operator {
 public:
  explicit RarityOperator(const FeatureSpec& spec) : other_key_(static_cast<std::uint32_t>(spec.other_key)) {}

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const RarityState*>(bytes);
    if (state.slab_class == 0) return;
    const std::byte* slab = pools_[state.slab_class - 1].at(state.handle);
    for (std::uint32_t at = 0; at < state.known * sizeof(ValueCount); at += 64) __builtin_prefetch(slab + at, 1);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<RarityState*>(bytes);
    out[1] = static_cast<float>(state.of);
    const std::uint64_t hash = event.batch.key(event.row, other_key_).hash;
    if (hash == 0) return;
    const auto tag = static_cast<std::uint32_t>(hash >> 32U);
    ValueCount* values = values_of(state);
    ValueCount* const end = values + state.known;
    ValueCount* const at = std::find_if(values, end, [tag](const ValueCount& v) { return v.tag == tag; });
    const std::uint32_t count = at == end ? 0 : at->count;
    out[0] = static_cast<float>(count);
    out[2] = count == 0 ? 1.0F : 0.0F;
    out[3] = static_cast<float>(std::log10((state.of + 1.0) / (count + 1.0)));
    if (at != end) {
      ++at->count;
    } else {
      add(state, tag);
    }
    if (++state.of >= kHalveAt) halve(state);
  }

  // A known value: its tag and its count, which is below kHalveAt. `of` is the sum of the counts.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const RarityState*>(bytes);
    const ValueCount* const values = values_of(state);
    for (std::uint32_t i = 0; i < state.known; ++i) {
      writer.u32(values[i].tag);
      writer.u8(static_cast<std::uint8_t>(values[i].count));
    }
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    auto& state = *reinterpret_cast<RarityState*>(bytes);
    const std::size_t known = reader.left() / kSavedValueBytes;
    if (known > kValuesMax) return reader.refuse(fmt::format("has {} values; at most {} fit", known, kValuesMax));
    if (known == 0) return;
    while (capacity(state.slab_class) < known) ++state.slab_class;
    state.handle = pools_[state.slab_class - 1].allocate();
    std::uint32_t of = 0;
    for (std::uint32_t i = 0; i < known; ++i) {
      const std::uint32_t tag = reader.u32();
      const std::uint32_t count = reader.u8();
      values_of(state)[i] = {tag, count};
      if (count == 0) return reader.refuse("has a value that was never seen");
      of += count;
    }
    if (of >= kHalveAt) return reader.refuse(fmt::format("counts {} values; {} are halved", of, kHalveAt));
    state.known = static_cast<std::uint8_t>(known);
    state.of = static_cast<std::uint16_t>(of);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<RarityState*>(bytes);
    if (state.slab_class != 0) pools_[state.slab_class - 1].release(state.handle);
    state = RarityState{};
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = 0;
    for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  ValueCount* values_of(const RarityState& state) const {
    if (state.slab_class == 0) return nullptr;
    return reinterpret_cast<ValueCount*>(pools_[state.slab_class - 1].at(state.handle));
  }

  void add(RarityState& state, std::uint32_t tag) {
    if (state.known == kValuesMax) {
      ValueCount* const values = values_of(state);
      // min_element takes the first of equals: the one known longest. What it counted leaves the total too.
      ValueCount* const rarest =
          std::min_element(values, values + kValuesMax, [](const auto& a, const auto& b) { return a.count < b.count; });
      state.of = static_cast<std::uint16_t>(state.of - rarest->count);
      std::copy(rarest + 1, values + kValuesMax, rarest);
      --state.known;
    } else if (state.known == capacity(state.slab_class)) {
      RarityState larger = state;
      ++larger.slab_class;
      larger.handle = pools_[larger.slab_class - 1].allocate();
      if (state.slab_class != 0) {
        std::memcpy(values_of(larger), values_of(state), state.known * sizeof(ValueCount));
        pools_[state.slab_class - 1].release(state.handle);
      }
      state = larger;
    }
    values_of(state)[state.known++] = {tag, 1};
  }

  void halve(RarityState& state) {
    ValueCount* const values = values_of(state);
    std::uint32_t of = 0;
    for (std::uint32_t i = 0; i < state.known; ++i) of += values[i].count /= 2;
    ValueCount* const kept =
        std::remove_if(values, values + state.known, [](const ValueCount& v) { return v.count == 0; });
    state.known = static_cast<std::uint8_t>(kept - values);
    state.of = static_cast<std::uint16_t>(of);
  }

  std::uint32_t other_key_;
  RecordPool pools_[4] = {RecordPool(4 * sizeof(ValueCount)), RecordPool(8 * sizeof(ValueCount)),
                          RecordPool(16 * sizeof(ValueCount)), RecordPool(32 * sizeof(ValueCount))};
};

}  // namespace

std::string rarity_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  return slot_mistake("key", spec.other_key, layout.keys.size());
}

// A rarity moves in factors of two: less says nothing, however steady an entity was.
std::vector<OperatorColumn> rarity_columns(const FeatureSpec& /*spec*/) {
  return {{"count", 1}, {"of", 1}, {"novel", 1}, {"rarity", 0.3}};
}

std::size_t rarity_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(RarityState); }

std::unique_ptr<Operator> make_rarity_operator(const FeatureSpec& spec) {
  return std::make_unique<RarityOperator>(spec);
}

}  // namespace alcedo::features
