// The past lies in one piece, so that neighbours are compared many at once: it grows towards the end of its buffer, and
// is moved to the front when it gets there, a fifth of the buffer's length apart.
#include "features/operators/discord_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "features/deviation.h"
#include "features/operators/own_past.h"
#include "features/operators/unusual_operator.h"

namespace alcedo::features {
namespace {

// Shapes compared at once.
constexpr std::uint32_t kLanes = 16;
// Values of each after which shapes that are too far already are given up.
constexpr std::uint32_t kStretch = 8;
constexpr std::uint32_t kFirstCapacity = 64;
// Kept values end here: their squares must be floats.
constexpr double kKeptMax = 1e18;

struct DiscordState {
  EwmaState level;
  OwnPastState past;
  double first;              // values are kept as their distance from it: floats are exact enough for that
  std::uint32_t buffer;      // handle, if there is any value
  std::uint16_t size_class;  // 1 + index of the buffer's pool; 0: none
  std::uint16_t reserved;
  std::uint32_t end;  // values lie before it, the last past_values of them count
  std::uint32_t reserved2;
};

// The least sum of squared differences between `shape` and a stretch of `values` that begins at one of the first
// `starts` places; infinite if none is finite.
float nearest(const float* values, std::uint32_t starts, const float* shape, std::uint32_t length) {
  float best = std::numeric_limits<float>::infinity();
  std::uint32_t at = 0;
  for (; at + kLanes <= starts; at += kLanes) {
    float sums[kLanes] = {};
    bool hopeless = false;
    for (std::uint32_t from = 0; from < length && !hopeless; from += kStretch) {
      const std::uint32_t to = std::min(length, from + kStretch);
      for (std::uint32_t j = from; j < to; ++j) {
        const float* row = values + at + j;
        const float wanted = shape[j];
        for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
          const float off = row[lane] - wanted;
          sums[lane] += off * off;
        }
      }
      hopeless = std::none_of(sums, sums + kLanes, [&](float sum) { return sum < best; });
    }
    if (hopeless) continue;
    for (const float sum : sums) best = sum < best ? sum : best;
  }
  for (; at < starts; ++at) {
    float sum = 0;
    for (std::uint32_t j = 0; j < length && sum < best; ++j) {
      const float off = values[at + j] - shape[j];
      sum += off * off;
    }
    best = sum < best ? sum : best;
  }
  return best;
}

enum Column : std::uint8_t { kDistance, kSurprise };

class DiscordOperator final : public Operator {
 public:
  explicit DiscordOperator(const FeatureSpec& spec)
      : length_(spec.shape_values),
        past_values_(spec.past_values),
        half_life_ms_(static_cast<double>(spec.half_life_ms)),
        min_history_(spec.min_history),
        own_past_(half_life_ms_ * kOwnPastHalfLives) {
    const std::uint32_t last = (past_values_ + std::max(past_values_ / 4, kFirstCapacity) + 1) / 2 * 2;
    for (std::uint32_t capacity = kFirstCapacity; capacity < last; capacity *= 2) capacities_.push_back(capacity);
    capacities_.push_back(last);
    pools_.reserve(capacities_.size());
    for (const std::uint32_t capacity : capacities_) pools_.emplace_back(capacity * sizeof(float));
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<DiscordState*>(bytes);
    out[kDistance] = out[kSurprise] = static_cast<float>(kMissing);
    if (event.in_order && event.time_ms > event.clock_ms) {
      decay_ewma(state.level, std::exp2(-static_cast<double>(event.time_ms - event.clock_ms) / half_life_ms_),
                 pending_);
    }
    // A shape is an order of values: a late one has no place in it.
    if (!event.in_order || std::isnan(event.value)) return;
    if (state.size_class == 0) state.first = std::isfinite(event.value) ? event.value : 0;
    const auto x = static_cast<float>(std::clamp(event.value - state.first, -kKeptMax, kKeptMax));
    // The surprise is that of the column as it can be read.
    out[kDistance] = static_cast<float>(distance_of(state, x, event.step));
    const auto distance = static_cast<double>(out[kDistance]);
    out[kSurprise] = static_cast<float>(own_past_.surprise(state.past, distance, event.time_ms, min_history_));
    own_past_.learn(state.past, distance, event.time_ms);
    learn_ewma(state.level, event.value, kMissing, event.time_ms, {}, pending_);
    keep(state, x);
  }

  // The first value, those of the past, whether there is a past of distances, that, and the level.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const DiscordState*>(bytes);
    if (state.size_class == 0) return;
    writer.f64(state.first);
    const std::uint32_t count = kept(state);
    writer.varint(count);
    writer.bytes(values(state) + (state.end - count), count * sizeof(float));
    writer.u8(state.past.history != 0 ? 1 : 0);
    own_past_.save(state.past, writer);
    save_ewma(state.level, pending_, writer);
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<DiscordState*>(bytes);
    state.first = reader.f64();
    const std::uint64_t count = reader.varint();
    if (count == 0 || count > past_values_)
      return reader.refuse(fmt::format("has {} values; expected 1 to {}", count, past_values_));
    const std::string_view kept_values = reader.bytes(static_cast<std::size_t>(count) * sizeof(float));
    if (!reader.ok()) return;
    std::uint32_t size_class = 0;
    while (capacities_[size_class] < count) ++size_class;
    state.buffer = pools_[size_class].allocate();
    state.size_class = static_cast<std::uint16_t>(size_class + 1);
    state.end = static_cast<std::uint32_t>(count);
    std::memcpy(values(state), kept_values.data(), kept_values.size());
    const std::uint8_t has_past = reader.u8();
    if (has_past > 1) return reader.refuse("does not say whether it has a past of distances");
    if (has_past == 1) own_past_.load(state.past, reader);
    load_ewma(state.level, pending_, reader);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<DiscordState*>(bytes);
    if (state.size_class != 0) pools_[state.size_class - 1U].release(state.buffer);
    own_past_.clear(state.past);
    clear_ewma(state.level, pending_);
    state = DiscordState{};
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = pending_.reserved_bytes() + own_past_.reserved_bytes();
    for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  float* values(const DiscordState& state) const {
    return reinterpret_cast<float*>(pools_[state.size_class - 1U].at(state.buffer));
  }
  std::uint32_t kept(const DiscordState& state) const { return std::min(state.end, past_values_); }

  double distance_of(const DiscordState& state, float x, double step) const {
    if (state.size_class == 0 || !(state.level.weight > 0)) return kMissing;
    const std::uint32_t count = kept(state);
    // Neighbours do not overlap the newest shape, and there are as many of them as a shape has values.
    if (count + 2 < 3 * length_) return kMissing;
    const std::uint32_t starts = count + 2 - 2 * length_;
    const float* begin = values(state) + (state.end - count);
    float shape[kShapeValuesMax];
    std::copy_n(begin + (count - (length_ - 1)), length_ - 1, shape);
    shape[length_ - 1] = x;
    const auto least = static_cast<double>(nearest(begin, starts, shape, length_));
    const double variance = state.level.squares / state.level.weight + floor_squared(state.level.mean, step);
    return std::min(std::sqrt(least / length_ / variance), kScoreMax);
  }

  void keep(DiscordState& state, float x) {
    if (state.size_class == 0) {
      state.buffer = pools_[0].allocate();
      state.size_class = 1;
      state.end = 0;
    } else if (state.end == capacities_[state.size_class - 1U]) {
      make_room(state);
    }
    values(state)[state.end++] = x;
  }

  void make_room(DiscordState& state) {
    const std::uint32_t count = kept(state);
    if (state.size_class < capacities_.size()) {
      const std::uint32_t wider = pools_[state.size_class].allocate();
      auto* to = reinterpret_cast<float*>(pools_[state.size_class].at(wider));
      std::copy_n(values(state) + (state.end - count), count, to);
      pools_[state.size_class - 1U].release(state.buffer);
      state.buffer = wider;
      ++state.size_class;
    } else {
      std::memmove(values(state), values(state) + (state.end - count), count * sizeof(float));
    }
    state.end = count;
  }

  std::uint32_t length_;
  std::uint32_t past_values_;
  double half_life_ms_;
  std::uint32_t min_history_;
  OwnPast own_past_;
  std::vector<std::uint32_t> capacities_;  // by size class
  std::vector<RecordPool> pools_;
  RecordPool pending_{sizeof(PendingLevel)};  // of loaded levels only: this one learns all values alike
};

}  // namespace

std::string discord_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (auto mistake = slot_mistake("number", spec.number, layout.numbers.size()); !mistake.empty()) return mistake;
  if (spec.shape_values < kShapeValuesMin || spec.shape_values > kShapeValuesMax)
    return fmt::format("a shape of {} values; expected {} to {}", spec.shape_values, kShapeValuesMin, kShapeValuesMax);
  if (spec.past_values < 4 * spec.shape_values || spec.past_values > kPastValuesMax)
    return fmt::format("a history of {} values; expected 4 times the shape's {} to {}", spec.past_values,
                       spec.shape_values, kPastValuesMax);
  return {};
}

std::vector<OperatorColumn> discord_columns(const FeatureSpec& /*spec*/) { return {{"distance", 0}, {"surprise", 0}}; }

std::size_t discord_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(DiscordState); }

std::unique_ptr<Operator> make_discord_operator(const FeatureSpec& spec) {
  return std::make_unique<DiscordOperator>(spec);
}

}  // namespace alcedo::features
