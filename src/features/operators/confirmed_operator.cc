// One sorted list of grains holds what is known and what will be: a window's totals change only when the clock enters
// another grain, or when something becomes known later than it should have.
#include "features/operators/confirmed_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/time.h"
#include "features/record_pool.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kFirstGrains = 4;
constexpr std::uint8_t kClasses = 13;
constexpr std::uint32_t kGrainsMax = kFirstGrains << (kClasses - 1);
// Grains that a window and the delay may need, so that what comes late or early has room beside them.
constexpr std::int64_t kGrainsAskedMax = 16'000;
// How far from the clock a grain may lie: it is kept in 32 bits.
constexpr std::int64_t kAwayMax = std::int64_t{1} << 30;
constexpr std::int64_t kGrainMsMax = std::int64_t{1} << 31;

struct Counted {
  std::uint32_t known;
  std::uint32_t confirmed;
};

struct ConfirmedState {
  std::int64_t last_ms;  // when the newest confirmation became known, of those in grains before the clock's
  std::uint32_t has_last;
  std::uint32_t list;  // handle in the pool of its class
  std::uint32_t size;
  std::uint32_t list_class;  // 0: no list; else kFirstGrains << (class - 1)
  // A Counted a window follows.
};

struct Grain {
  std::uint32_t at;       // the low bits of its number; number_of()
  std::uint32_t last_ms;  // of its newest confirmation, from the grain's begin + 1; 0: none
  Counted counted;
};

std::uint32_t capacity(std::uint32_t list_class) { return list_class == 0 ? 0 : kFirstGrains << (list_class - 1); }

std::int64_t number_of(std::uint32_t at, std::int64_t clock) {
  return clock + static_cast<std::int32_t>(at - static_cast<std::uint32_t>(clock));
}

class ConfirmedOperator final : public Operator {
 public:
  explicit ConfirmedOperator(const FeatureSpec& spec) : spec_(spec), spans_(spec) {
    for (std::uint8_t c = 0; c < kClasses; ++c) lists_.emplace_back((kFirstGrains << c) * sizeof(Grain));
  }

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const ConfirmedState*>(bytes);
    if (state.size == 0) return;
    const Grain* list = list_of(state);
    __builtin_prefetch(list, 1);
    __builtin_prefetch(list + state.size - 1, 1);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<ConfirmedState*>(bytes);
    const std::int64_t now_ms = std::max(event.clock_ms, event.time_ms);
    const std::int64_t now = spans_.grain_of(now_ms);
    advance(state, spans_.grain_of(event.clock_ms), now);
    read(state, now_ms, event, out);
    const Truth truth = event.batch.header(event.row).truth;
    if ((truth & kTruthTold) == 0) return;
    learn(state, now, event.time_ms + spec_.delay_ms, confirms(spec_, truth));
  }

  // The event was counted as one without a label, at its time + delay, whether that has come or not. Its truth is known
  // at another time now, and it counts there.
  void learn_label(std::byte* bytes, const LabelView& label) override {
    if (!confirms(spec_, label.truth)) return;
    auto& state = *reinterpret_cast<ConfirmedState*>(bytes);
    const std::int64_t clock = spans_.grain_of(label.clock_ms);
    take_back(state, clock, spans_.grain_of(label.event_ms + spec_.delay_ms));
    learn(state, clock, label.known_ms, true);
  }

  // A flag and the age of the newest confirmation; how many grains; each one's distance from the one before (of the
  // first from where the longest window begins), known, confirmed, and with any the newest one's place in it.
  void save(const std::byte* bytes, std::int64_t clock_ms, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const ConfirmedState*>(bytes);
    if (state.size == 0 && state.has_last == 0) return;
    writer.u8(state.has_last == 0 ? 0 : 1);
    if (state.has_last != 0) writer.varint(static_cast<std::uint64_t>(clock_ms - state.last_ms));
    writer.varint(state.size);
    const std::int64_t clock = spans_.grain_of(clock_ms);
    std::int64_t before = clock - spans_.longest - 1;
    const Grain* list = list_of(state);
    for (std::uint32_t i = 0; i < state.size; ++i) {
      const std::int64_t number = number_of(list[i].at, clock);
      writer.varint(static_cast<std::uint64_t>(number - before));
      before = number;
      writer.varint(list[i].counted.known);
      writer.varint(list[i].counted.confirmed);
      if (list[i].counted.confirmed != 0) writer.varint(list[i].last_ms);
    }
  }

  void load(std::byte* bytes, std::int64_t clock_ms, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<ConfirmedState*>(bytes);
    const std::int64_t clock = spans_.grain_of(clock_ms);
    const std::uint8_t has_last = reader.u8();
    if (has_last > 1) return reader.refuse("has a newest confirmation that is neither there nor not");
    if (has_last == 1) {
      const std::uint64_t age = reader.varint();
      if (age > static_cast<std::uint64_t>(StateReader::kTimeLimitMs))
        return reader.refuse("has a confirmation older than any time");
      state.last_ms = clock_ms - static_cast<std::int64_t>(age);
      state.has_last = 1;
      if (spans_.grain_of(state.last_ms) >= clock) return reader.refuse("knows a confirmation before its time");
    }
    const std::uint64_t size = reader.varint();
    if (size > kGrainsMax) return reader.refuse(fmt::format("has {} grains; at most {} fit", size, kGrainsMax));
    if (size == 0 && has_last == 0) return reader.refuse("has bytes that say nothing");
    std::int64_t before = clock - spans_.longest - 1;
    std::uint64_t known = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      const std::uint64_t step = reader.varint();
      Grain grain{0, 0, {}};
      const std::uint64_t grain_known = reader.varint();
      const std::uint64_t grain_confirmed = reader.varint();
      const std::uint64_t last = grain_confirmed == 0 ? 0 : reader.varint();
      if (!reader.ok()) return;
      known += std::min<std::uint64_t>(grain_known, UINT32_MAX);
      if (step == 0 || step > static_cast<std::uint64_t>(2 * kAwayMax))
        return reader.refuse("lists its grains out of order");
      before += static_cast<std::int64_t>(step);
      if (before - clock > kAwayMax) return reader.refuse("has a grain too far from its clock");
      if (grain_known == 0 || grain_known > UINT32_MAX || known > UINT32_MAX || grain_confirmed > grain_known)
        return reader.refuse(fmt::format("has {} confirmed of {} known", grain_confirmed, grain_known));
      if (grain_confirmed != 0 && (last == 0 || last > static_cast<std::uint64_t>(spans_.grain_ms)))
        return reader.refuse("has a confirmation outside of its grain");
      grain.at = static_cast<std::uint32_t>(before);
      grain.last_ms = static_cast<std::uint32_t>(last);
      grain.counted = {static_cast<std::uint32_t>(grain_known), static_cast<std::uint32_t>(grain_confirmed)};
      insert(state, state.size, grain);
      count(state, before, clock, grain.counted);
    }
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<ConfirmedState*>(bytes);
    if (state.list_class != 0) lists_[state.list_class - 1].release(state.list);
    std::memset(bytes, 0, confirmed_state_bytes(spec_));
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = 0;
    for (const RecordPool& pool : lists_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  Grain* list_of(const ConfirmedState& state) const {
    if (state.list_class == 0) return nullptr;
    return reinterpret_cast<Grain*>(lists_[state.list_class - 1].at(state.list));
  }
  static Counted* totals_of(ConfirmedState& state) { return reinterpret_cast<Counted*>(&state + 1); }
  static const Counted* totals_of(const ConfirmedState& state) { return reinterpret_cast<const Counted*>(&state + 1); }

  // Index of the first grain at or after `number`.
  std::uint32_t find(const ConfirmedState& state, std::int64_t number, std::int64_t clock) const {
    const Grain* list = list_of(state);
    // What is added mostly belongs at the end.
    if (state.size == 0 || number_of(list[state.size - 1].at, clock) < number) return state.size;
    const Grain* at = std::partition_point(list, list + state.size,
                                           [&](const Grain& grain) { return number_of(grain.at, clock) < number; });
    return static_cast<std::uint32_t>(at - list);
  }

  // Adds what became known in a grain to the windows that cover it.
  void count(ConfirmedState& state, std::int64_t number, std::int64_t clock, const Counted& counted) const {
    if (number >= clock) return;
    Counted* totals = totals_of(state);
    for (std::size_t window = 0; window < spans_.grains.size(); ++window) {
      if (number < clock - spans_.grains[window]) continue;
      totals[window].known += counted.known;
      totals[window].confirmed += counted.confirmed;
    }
  }

  void confirmed_at(ConfirmedState& state, std::int64_t time_ms) const {
    if (state.has_last != 0 && state.last_ms >= time_ms) return;
    state.has_last = 1;
    state.last_ms = time_ms;
  }

  // The clock enters another grain: what was known in those that it left is seen from now on.
  void advance(ConfirmedState& state, std::int64_t from, std::int64_t to) {
    if (to == from || state.size == 0) return;
    Counted* totals = totals_of(state);
    const Grain* list = list_of(state);
    for (std::size_t window = 0; window < spans_.grains.size(); ++window) {
      const std::int64_t leaves_before = std::min(from, to - spans_.grains[window]);
      for (std::uint32_t i = find(state, from - spans_.grains[window], from); i < state.size; ++i) {
        if (number_of(list[i].at, from) >= leaves_before) break;
        totals[window].known -= list[i].counted.known;
        totals[window].confirmed -= list[i].counted.confirmed;
      }
    }
    for (std::uint32_t i = find(state, from, from); i < state.size; ++i) {
      const std::int64_t number = number_of(list[i].at, from);
      if (number >= to) break;
      count(state, number, to, list[i].counted);
      if (list[i].last_ms != 0) confirmed_at(state, number * spans_.grain_ms + list[i].last_ms - 1);
    }
    // Relative to where they were counted from: the clock may leap further than 32 bits tell.
    const std::uint32_t gone = find(state, to - spans_.longest, from);
    if (gone != 0) erase(state, 0, gone);
  }

  void read(const ConfirmedState& state, std::int64_t now_ms, const EventView& event, std::span<float> out) const {
    const Counted* totals = totals_of(state);
    std::size_t column = 0;
    for (std::size_t window = 0; window < spans_.grains.size(); ++window) {
      const double known = totals[window].known;
      const double confirmed = totals[window].confirmed;
      const double rate = event.usual;
      const double weight = known + spec_.prior;
      const double share = weight > 0 ? (confirmed + spec_.prior * rate) / weight : kMissing;
      const double spread = weight > 0 ? std::sqrt(rate * (1 - rate) / weight) : kMissing;
      out[column++] = static_cast<float>(confirmed);
      out[column++] = static_cast<float>(known);
      out[column++] = static_cast<float>(share);
      out[column++] = static_cast<float>(rate);
      out[column++] = static_cast<float>(spread);
      out[column++] = static_cast<float>(known < spec_.min_history ? kMissing : (share - rate) / spread);
      out[column++] = static_cast<float>(known);
    }
    out[column] =
        static_cast<float>(state.has_last == 0 ? kMissing : static_cast<double>(now_ms - state.last_ms) / 1000);
  }

  // The truth of one event is known as of `known_ms`.
  void learn(ConfirmedState& state, std::int64_t clock, std::int64_t known_ms, bool confirmed) {
    const std::int64_t number = spans_.grain_of(known_ms);
    if (confirmed && number < clock) confirmed_at(state, known_ms);
    if (number < clock - spans_.longest || number - clock > kAwayMax) return;
    const Counted one{1, confirmed ? 1U : 0U};
    const std::uint32_t at = find(state, number, clock);
    if (at == state.size || number_of(list_of(state)[at].at, clock) != number) {
      if (state.size == kGrainsMax) return;
      insert(state, at, {static_cast<std::uint32_t>(number), 0, {}});
    }
    Grain& grain = list_of(state)[at];
    grain.counted.known += one.known;
    grain.counted.confirmed += one.confirmed;
    if (confirmed) {
      const auto place = static_cast<std::uint32_t>(known_ms - number * spans_.grain_ms + 1);
      grain.last_ms = std::max(grain.last_ms, place);
    }
    count(state, number, clock, one);
  }

  void take_back(ConfirmedState& state, std::int64_t clock, std::int64_t number) {
    const std::uint32_t at = find(state, number, clock);
    if (at == state.size) return;
    Grain& grain = list_of(state)[at];
    if (number_of(grain.at, clock) != number || grain.counted.known == grain.counted.confirmed) return;
    --grain.counted.known;
    if (number < clock) {
      Counted* totals = totals_of(state);
      for (std::size_t window = 0; window < spans_.grains.size(); ++window)
        totals[window].known -= number >= clock - spans_.grains[window] ? 1 : 0;
    }
    if (grain.counted.known == 0) erase(state, at, 1);
  }

  void insert(ConfirmedState& state, std::uint32_t at, const Grain& grain) {
    if (state.size == capacity(state.list_class)) resize(state, state.list_class + 1);
    Grain* list = list_of(state);
    std::memmove(list + at + 1, list + at, (state.size - at) * sizeof(Grain));
    list[at] = grain;
    ++state.size;
  }

  void erase(ConfirmedState& state, std::uint32_t first, std::uint32_t count) {
    Grain* list = list_of(state);
    std::memmove(list + first, list + first + count, (state.size - first - count) * sizeof(Grain));
    state.size -= count;
    // Slabs that are mostly empty are given back, with room for as many again.
    std::uint32_t wanted = state.list_class;
    while (wanted > 1 && state.size <= capacity(wanted) / 4) --wanted;
    if (state.size == 0) wanted = 0;
    if (wanted != state.list_class) resize(state, wanted);
  }

  void resize(ConfirmedState& state, std::uint32_t list_class) {
    ConfirmedState other = state;
    other.list_class = list_class;
    if (list_class != 0) {
      other.list = lists_[list_class - 1].allocate();
      if (state.list_class != 0) std::memcpy(list_of(other), list_of(state), state.size * sizeof(Grain));
    }
    if (state.list_class != 0) lists_[state.list_class - 1].release(state.list);
    state.list = list_class == 0 ? 0 : other.list;
    state.list_class = list_class;
  }

  FeatureSpec spec_;
  ConfirmedSpans spans_;
  std::vector<RecordPool> lists_;  // by class
};

}  // namespace

ConfirmedSpans::ConfirmedSpans(const FeatureSpec& spec) {
  std::int64_t common = 0;
  for (const std::int64_t window : spec.windows_ms) common = std::gcd(common, window);
  grain_ms = std::max<std::int64_t>(1, common / kBuckets);
  for (const std::int64_t window : spec.windows_ms) {
    grains.push_back(window / grain_ms);
    longest = std::max(longest, grains.back());
  }
}

std::int64_t ConfirmedSpans::grain_of(std::int64_t time_ms) const { return bucket_of(time_ms, grain_ms); }

std::string confirmed_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (spec.windows_ms.empty()) return "no windows; expected one or more, such as 7d";
  if (spec.label_type >= static_cast<int>(std::min(layout.label_types.size(), kTruthTypesMax)))
    return fmt::format("label type {} does not exist; there are {}", spec.label_type, layout.label_types.size());
  if (spec.delay_ms < 0) return "delay must not be less than 0";
  if (!(spec.prior >= 0) || !std::isfinite(spec.prior)) return "prior must be a number that is not less than 0";
  for (const std::int64_t window : spec.windows_ms) {
    if (window <= 0 || window % kBuckets != 0) return {};  // FeaturePlan says so
  }
  const ConfirmedSpans spans(spec);
  if (spans.grain_ms > kGrainMsMax) return "a window is longer than four years";
  const std::int64_t asked = spans.longest + spec.delay_ms / spans.grain_ms;
  if (asked <= kGrainsAskedMax) return {};
  return fmt::format(
      "its longest window and the delay are {} times {}, the 60th part of what divides all windows; expected at most "
      "{}, "
      "as with 1d, 7d, 30d",
      asked, format_duration(spans.grain_ms), kGrainsAskedMax);
}

std::vector<OperatorColumn> confirmed_columns(const FeatureSpec& spec) {
  std::vector<OperatorColumn> columns;
  for (const std::int64_t window : spec.windows_ms) {
    const std::string length = format_duration(window);
    columns.push_back({"confirmed_" + length, 1});
    columns.push_back({"known_" + length, 1});
    const std::string share = "share_" + length;
    columns.push_back({share, 0});
    columns.push_back({share + ".expected", 0});
    columns.push_back({share + ".spread", 0});
    columns.push_back({share + ".z", 0});
    columns.push_back({share + ".history", 1});
  }
  columns.push_back({"since_s", 0});
  return columns;
}

std::size_t confirmed_state_bytes(const FeatureSpec& spec) {
  return sizeof(ConfirmedState) + spec.windows_ms.size() * sizeof(Counted);
}

std::unique_ptr<Operator> make_confirmed_operator(const FeatureSpec& spec) {
  return std::make_unique<ConfirmedOperator>(spec);
}

}  // namespace alcedo::features
