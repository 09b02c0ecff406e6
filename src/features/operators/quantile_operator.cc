// The list stands sorted by value, so that any window's quantiles are one pass over it; a value forgotten from it was
// older than all that stayed, so a window that does not reach back to it is wholly in the list.
#include "features/operators/quantile_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/time.h"
#include "features/operators/quantile_sketch.h"
#include "features/operators/unit_mask.h"
#include "features/operators/window_spans.h"
#include "features/record_pool.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kFirstValues = 4;
constexpr std::int64_t kPaneBuckets = 10;
static_assert((kSketchPanes - 1) * kPaneBuckets == kBuckets);
constexpr std::array<double, 3> kShares{0.25, 0.5, 0.75};
constexpr std::uint32_t kNone = 0xFFFFFFFF;

struct QuantileState {     // behind it a sketch's handle for each window; 0: none
  std::int64_t forgotten;  // newest unit of the values that the list forgot
  std::uint32_t list;      // handle in the pool of its class
  std::uint8_t known;
  std::uint8_t list_class;     // 0: no list; else kFirstValues << (class - 1) values
  std::uint8_t has_forgotten;  // whether a window's panes reach back to `forgotten`
  std::uint8_t spare;
};

std::uint32_t capacity(std::uint8_t list_class) { return list_class == 0 ? 0 : kFirstValues << (list_class - 1); }

constexpr std::size_t list_bytes(std::uint32_t values) { return values * (sizeof(double) + sizeof(std::uint32_t)); }

struct List {
  double* values;        // ascending
  std::uint32_t* units;  // of the values; unit_from()
};

class QuantileOperator final : public Operator {
 public:
  explicit QuantileOperator(const FeatureSpec& spec)
      : including_(spec.including),
        spans_(spec.windows_ms),
        first_(spans_.size()),
        pane_first_(spans_.size()),
        pane_(spans_.size()) {
    for (std::size_t window = 0; window < spans_.size(); ++window)
      panes_.emplace_back(kPaneBuckets * spans_.grain(window));
  }

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const QuantileState*>(bytes);
    if (state.list_class == 0) return;
    const std::byte* list = lists_[state.list_class - 1].at(state.list);
    for (std::size_t at = 0; at < list_bytes(capacity(state.list_class)); at += 64) __builtin_prefetch(list + at, 1);
    if (state.has_forgotten == 0) return;
    const auto* sketches = reinterpret_cast<const std::uint32_t*>(bytes + sizeof(QuantileState));
    for (std::size_t window = 0; window < spans_.size(); ++window) {
      if (sketches[window] != 0) sketches_.prefetch(sketches[window]);
    }
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<QuantileState*>(bytes);
    auto* const sketches = reinterpret_cast<std::uint32_t*>(bytes + sizeof(QuantileState));
    const std::int64_t clock = spans_.unit_of(std::max(event.clock_ms, event.time_ms));
    move_to(clock);
    move_sketches(state, sketches);
    forget_listed(state, spans_.unit_of(event.clock_ms), clock);
    if (!including_) read(state, sketches, clock, out);
    const std::int64_t unit = spans_.unit_of(event.time_ms);
    // -0 becomes 0, so that no two values are equal and yet told apart.
    if (!std::isnan(event.value) && unit >= oldest_) add(state, sketches, event.value + 0.0, unit, clock);
    if (including_) read(state, sketches, clock, out);
  }

  // How many values are listed, and each one with its age (in units, from the clock's), as they stand in the list. With
  // sketches also the age of what was forgotten, which says whose windows they are, and the sketches.
  void save(const std::byte* bytes, std::int64_t clock_ms, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const QuantileState*>(bytes);
    if (state.known == 0) return;
    const auto* const sketches = reinterpret_cast<const std::uint32_t*>(bytes + sizeof(QuantileState));
    const std::int64_t clock = spans_.unit_of(clock_ms);
    const List list = list_of(state);
    writer.u8(state.known);
    for (std::uint32_t i = 0; i < state.known; ++i) {
      writer.f64(list.values[i]);
      writer.varint(static_cast<std::uint64_t>(clock - unit_from(list.units[i], clock)));
    }
    if (state.has_forgotten == 0) return;
    writer.varint(static_cast<std::uint64_t>(clock - state.forgotten));
    for (std::size_t window = 0; window < spans_.size(); ++window) {
      if (sketches[window] != 0) sketches_.save(sketches[window], writer);
    }
  }

  void load(std::byte* bytes, std::int64_t clock_ms, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<QuantileState*>(bytes);
    const std::int64_t clock = spans_.unit_of(clock_ms);
    move_to(clock);
    const auto age_max = static_cast<std::uint64_t>(clock - oldest_);
    const std::uint32_t known = reader.u8();
    if (known == 0 || known > kQuantileExact)
      return reader.refuse(fmt::format("has {} values; expected 1 to {}", known, kQuantileExact));
    std::array<double, kQuantileExact> values;
    std::array<std::uint64_t, kQuantileExact> ages;
    for (std::uint32_t i = 0; i < known && reader.ok(); ++i) {
      values[i] = reader.f64();
      ages[i] = reader.varint();
      if (std::isnan(values[i])) return reader.refuse("has a missing value among those in its windows");
      if (ages[i] > age_max) return reader.refuse("has a value that is in no window");
      const bool follows =
          i == 0 || values[i] > values[i - 1] || (values[i] == values[i - 1] && ages[i] <= ages[i - 1]);
      if (!follows) return reader.refuse("lists its values out of order");
    }
    if (!reader.ok()) return;
    while (capacity(state.list_class) < known) ++state.list_class;
    state.list = lists_[state.list_class - 1].allocate();
    state.known = static_cast<std::uint8_t>(known);
    const List list = list_of(state);
    for (std::uint32_t i = 0; i < known; ++i) {
      list.values[i] = values[i];
      list.units[i] = static_cast<std::uint32_t>(clock - static_cast<std::int64_t>(ages[i]));
    }
    if (reader.left() == 0) return;
    const std::uint64_t longest = *std::max_element(ages.begin(), ages.begin() + known);
    load_sketches(state, reinterpret_cast<std::uint32_t*>(bytes + sizeof(QuantileState)), clock, longest, reader);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<QuantileState*>(bytes);
    auto* const sketches = reinterpret_cast<std::uint32_t*>(bytes + sizeof(QuantileState));
    if (state.list_class != 0) lists_[state.list_class - 1].release(state.list);
    state = QuantileState{};
    for (std::size_t window = 0; window < spans_.size(); ++window) {
      if (sketches[window] != 0) sketches_.release(sketches[window]);
      sketches[window] = 0;
    }
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = sketches_.reserved_bytes();
    for (const RecordPool& pool : lists_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  List list_of(const QuantileState& state) const {
    if (state.list_class == 0) return {nullptr, nullptr};
    std::byte* list = lists_[state.list_class - 1].at(state.list);
    return {reinterpret_cast<double*>(list),
            reinterpret_cast<std::uint32_t*>(list + capacity(state.list_class) * sizeof(double))};
  }

  void move_to(std::int64_t clock) {
    oldest_ = clock;
    for (std::size_t window = 0; window < first_.size(); ++window) {
      first_[window] = spans_.first(window, clock);
      const std::int64_t first_pane = pane_of(window, first_[window]);
      pane_first_[window] = first_pane * panes_[window].ms();
      pane_[window] = first_pane + kSketchPanes - 1;
      oldest_ = std::min(oldest_, pane_first_[window]);
    }
  }

  // `longest`: the age of the oldest listed value. While there are sketches the list is full, of nothing older than
  // what it forgot: so it stays full until the last sketch is given up, and each window that reaches back has one.
  void load_sketches(QuantileState& state, std::uint32_t* sketches, std::int64_t clock, std::uint64_t longest,
                     StateReader& reader) {
    if (state.known != kQuantileExact)
      return reader.refuse(
          fmt::format("has sketches beside {} values; they begin beyond {}", state.known, kQuantileExact));
    const std::uint64_t forgotten = reader.varint();
    if (forgotten > static_cast<std::uint64_t>(clock - oldest_))
      return reader.refuse("has sketches that no window needs");
    if (forgotten < longest) return reader.refuse("forgot a value that is newer than a listed one");
    state.forgotten = clock - static_cast<std::int64_t>(forgotten);
    state.has_forgotten = 1;
    for (std::size_t window = 0; window < first_.size() && reader.ok(); ++window) {
      if (state.forgotten >= pane_first_[window])
        sketches[window] = sketches_.load(pane_[window], pane_of(window, state.forgotten), reader);
    }
  }

  void move_sketches(QuantileState& state, std::uint32_t* sketches) {
    if (state.has_forgotten == 0) return;
    bool any = false;
    for (std::size_t window = 0; window < first_.size(); ++window) {
      if (sketches[window] == 0) continue;
      if (state.forgotten >= pane_first_[window]) {
        sketches_.advance(sketches[window], pane_[window]);
        any = true;
      } else {
        sketches_.release(sketches[window]);
        sketches[window] = 0;
      }
    }
    state.has_forgotten = any ? 1 : 0;
  }

  void forget_listed(QuantileState& state, std::int64_t clock_before, std::int64_t clock) {
    if (state.known == 0 || clock == clock_before) return;
    const List list = list_of(state);
    const std::uint64_t stays = not_older(list.units, state.known, clock_before, clock_before - oldest_);
    if (stays == first_bits(state.known)) return;
    std::uint8_t kept = 0;
    for (std::uint64_t left = stays; left != 0; left &= left - 1, ++kept) {
      list.values[kept] = list.values[std::countr_zero(left)];
      list.units[kept] = list.units[std::countr_zero(left)];
    }
    state.known = kept;
    if (kept != 0) return;
    lists_[state.list_class - 1].release(state.list);
    state.list_class = 0;
  }

  void read(const QuantileState& state, const std::uint32_t* sketches, std::int64_t clock, std::span<float> out) const {
    for (std::size_t window = 0; window < first_.size(); ++window) {
      std::array<double, 3> quartiles{};
      if (state.has_forgotten != 0 && state.forgotten >= first_[window]) {
        sketches_.quantiles(sketches[window], kShares, quartiles);
      } else {
        read_list(state, first_[window], clock, quartiles);
      }
      for (std::size_t i = 0; i < quartiles.size(); ++i)
        out[i * first_.size() + window] = static_cast<float>(quartiles[i]);
      out[kShares.size() * first_.size() + window] = static_cast<float>(quartiles[2] - quartiles[0]);
    }
  }

  void read_list(const QuantileState& state, std::int64_t first, std::int64_t clock,
                 std::array<double, 3>& quartiles) const {
    const List list = list_of(state);
    const std::uint64_t in = not_older(list.units, state.known, clock, clock - first);
    if (in == 0) {
      quartiles.fill(kMissing);
      return;
    }
    const auto count = static_cast<std::uint32_t>(std::popcount(in));
    const bool all = count == state.known;
    for (std::size_t i = 0; i < kShares.size(); ++i) {
      const double place = kShares[i] * static_cast<double>(count - 1);
      const auto below = static_cast<std::uint32_t>(place);
      const std::uint32_t at = all ? below : nth_bit(in, below);
      const std::uint64_t behind = in & ~first_bits(at + 1);
      const double low = list.values[at];
      const double high = behind == 0 ? low : list.values[std::countr_zero(behind)];
      quartiles[i] = low + (place - static_cast<double>(below)) * (high - low);
    }
  }

  void add(QuantileState& state, std::uint32_t* sketches, double x, std::int64_t unit, std::int64_t clock) {
    std::uint32_t least = kNone;  // the place of the value that leaves the list
    if (state.known == kQuantileExact) {
      const List list = list_of(state);
      const std::uint32_t age = largest_age(list.units, state.known, clock);
      // Of equals the least value goes.
      least = static_cast<std::uint32_t>(
          std::countr_zero(equal_to(list.units, state.known, static_cast<std::uint32_t>(clock) - age)));
      const std::int64_t least_unit = clock - static_cast<std::int64_t>(age);
      // A late value may itself be the one to forget.
      const std::int64_t forgotten = std::min(least_unit, unit);
      if (state.has_forgotten == 0 || forgotten > state.forgotten) {
        state.forgotten = forgotten;
        begin_sketches(state, sketches, clock);
      }
      count_in_sketches(sketches, x, unit);
      if (unit < least_unit || (unit == least_unit && x <= list.values[least])) return;
    } else {
      if (state.has_forgotten != 0) count_in_sketches(sketches, x, unit);
      if (state.known == capacity(state.list_class)) grow(state);
    }
    const List list = list_of(state);
    auto at = static_cast<std::uint32_t>(std::upper_bound(list.values, list.values + state.known, x) - list.values);
    // Of equals the newest stands last: so the list is one of values and times, and not of the order in which they
    // came.
    while (at > 0 && list.values[at - 1] == x && unit_from(list.units[at - 1], clock) > unit) --at;
    // Only what stands between the place that becomes free and the one that is taken moves.
    const std::uint32_t hole = least == kNone ? state.known++ : least;
    if (at <= hole) {
      std::copy_backward(list.values + at, list.values + hole, list.values + hole + 1);
      std::copy_backward(list.units + at, list.units + hole, list.units + hole + 1);
    } else {
      --at;
      std::copy(list.values + hole + 1, list.values + at + 1, list.values + hole);
      std::copy(list.units + hole + 1, list.units + at + 1, list.units + hole);
    }
    list.values[at] = x;
    list.units[at] = static_cast<std::uint32_t>(unit);
  }

  std::int64_t pane_of(std::size_t window, std::int64_t unit) const { return panes_[window].bucket_of(unit); }

  /// For each window whose panes reach back to what is being forgotten for the first time: until now the list held all
  /// of their values, and what it holds is no older than what is being forgotten.
  void begin_sketches(QuantileState& state, std::uint32_t* sketches, std::int64_t clock) {
    const List list = list_of(state);
    for (std::size_t window = 0; window < first_.size(); ++window) {
      if (sketches[window] != 0 || state.forgotten < pane_first_[window]) continue;
      sketches[window] = sketches_.create(pane_[window]);
      state.has_forgotten = 1;
      for (std::uint32_t i = 0; i < state.known; ++i) {
        sketches_.add(sketches[window], SketchCode(list.values[i]), pane_of(window, unit_from(list.units[i], clock)));
      }
    }
  }

  void count_in_sketches(std::uint32_t* sketches, double x, std::int64_t unit) {
    const SketchCode code(x);
    for (std::size_t window = 0; window < first_.size(); ++window) {
      if (sketches[window] != 0 && unit >= pane_first_[window])
        sketches_.add(sketches[window], code, pane_of(window, unit));
    }
  }

  void grow(QuantileState& state) {
    QuantileState larger = state;
    ++larger.list_class;
    larger.list = lists_[larger.list_class - 1].allocate();
    if (state.list_class != 0) {
      const List from = list_of(state);
      const List to = list_of(larger);
      std::copy_n(from.values, state.known, to.values);
      std::copy_n(from.units, state.known, to.units);
      lists_[state.list_class - 1].release(state.list);
    }
    state = larger;
  }

  bool including_;
  WindowSpans spans_;
  std::vector<BucketLength> panes_;  // by window, units
  // As of the clock at hand, move_to():
  std::vector<std::int64_t> first_;       // by window: its first unit
  std::vector<std::int64_t> pane_first_;  // first unit of the pane that holds it
  std::vector<std::int64_t> pane_;        // last of the 7 panes that begin with that one
  std::int64_t oldest_ = 0;               // the first unit of all windows' panes
  RecordPool lists_[5] = {RecordPool(list_bytes(4)), RecordPool(list_bytes(8)), RecordPool(list_bytes(16)),
                          RecordPool(list_bytes(32)), RecordPool(list_bytes(64))};
  QuantileSketchStore sketches_;
};

}  // namespace

std::string quantile_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (auto mistake = slot_mistake("number", spec.number, layout.numbers.size()); !mistake.empty()) return mistake;
  return WindowSpans::mistake(spec.windows_ms);
}

std::vector<OperatorColumn> quantile_columns(const FeatureSpec& spec) {
  std::vector<OperatorColumn> columns;
  for (const char* stat : {"p25_", "p50_", "p75_", "iqr_"}) {
    for (const std::int64_t window : spec.windows_ms) columns.push_back({stat + format_duration(window), 0});
  }
  return columns;
}

std::size_t quantile_state_bytes(const FeatureSpec& spec) {
  return (sizeof(QuantileState) + spec.windows_ms.size() * sizeof(std::uint32_t) + 7) / 8 * 8;
}

std::unique_ptr<Operator> make_quantile_operator(const FeatureSpec& spec) {
  return std::make_unique<QuantileOperator>(spec);
}

}  // namespace alcedo::features
