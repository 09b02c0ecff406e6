// A value forgotten from the list was older than all that stayed: a window that does not reach back to it holds listed
// values only, and one that does holds more than the list.
#include "features/operators/distinct_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/hash.h"
#include "core/time.h"
#include "features/operators/window_spans.h"
#include "features/record_pool.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kFirstValues = 4;
constexpr std::uint32_t kRows = 64;
constexpr std::uint32_t kRanks = 16;  // the last holds all higher ones

struct DistinctState {
  std::uint32_t list;    // handle in the pool of its class
  std::uint32_t sketch;  // handle + 1; 0: none
  std::uint8_t known;
  std::uint8_t list_class;  // 0: no list; else kFirstValues << (class - 1) values
  std::uint16_t spare;
  std::uint32_t spare_2;
};

struct ValueTime {
  std::uint32_t tag;
  std::uint32_t unit;  // of the newest event with the value; unit_from()
};

struct Sketch {
  std::int64_t base;                  // the unit that a cell holds as 1
  std::int64_t forgotten;             // newest unit of the values that the list forgot
  std::int32_t cells[kRanks][kRows];  // newest unit - base + 1; 0: never
};
constexpr std::int64_t kRebaseAt = std::int64_t{1} << 30;

std::uint32_t capacity(std::uint8_t list_class) { return list_class == 0 ? 0 : kFirstValues << (list_class - 1); }

void add_to(Sketch& sketch, std::uint32_t tag, std::int64_t unit) {
  const std::uint32_t row = tag % kRows;
  const auto rank = std::min(static_cast<std::uint32_t>(std::countl_zero(tag)), kRanks - 1);
  std::int32_t& cell = sketch.cells[rank][row];
  cell = std::max(cell, static_cast<std::int32_t>(unit - sketch.base + 1));
}

// Keeps cells within 32 bits; what lies before `oldest` is in no window any more.
void rebase(Sketch& sketch, std::int64_t oldest) {
  const std::int64_t shift = oldest - sketch.base;
  for (auto& rank : sketch.cells) {
    for (std::int32_t& cell : rank) cell = static_cast<std::int32_t>(std::max<std::int64_t>(0, cell - shift));
  }
  sketch.base = oldest;
}

// Of n values each falls into one cell: a given one of rank r with probability p(r) = 2^-(r + 1) / rows, so it is empty
// with exp(-n p). The likeliest n is the root of
//   sum over r of  occupied p / (exp(n p) - 1)  -  (rows - occupied) p,
// which falls and is convex in n, so that Newton's steps end up below the root and climb.
double likeliest_number(const std::uint32_t (&occupied)[kRanks]) {
  constexpr double kLast = 1.0 / (std::uint64_t{kRows} << (kRanks - 1));
  const auto probability = [](std::uint32_t rank) { return rank == kRanks - 1 ? kLast : 0.5 / kRows / (1U << rank); };
  double empty = 0;
  std::uint32_t middle = 0;  // the rank that is nearest to half full says about how many there are
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    empty += (kRows - occupied[rank]) * probability(rank);
    const auto off = [&](std::uint32_t r) { return std::abs(static_cast<int>(2 * occupied[r]) - int{kRows}); };
    if (off(rank) < off(middle)) middle = rank;
  }
  const double share_empty = std::max(0.5, static_cast<double>(kRows - occupied[middle])) / kRows;
  double n = std::max(1.0, -std::log(share_empty) / probability(middle));
  if (empty == 0) return n;  // every cell is occupied: no root
  for (int step = 0; step < 32; ++step) {
    double value = -empty;
    double slope = 0;
    double grown = std::expm1(n * kLast);  // exp(n p) - 1 of the rank at hand; (1 + e)^2 - 1 = e (e + 2)
    for (std::uint32_t rank = kRanks; rank-- > 0 && grown < 1e6;) {
      if (occupied[rank] != 0) {
        const double p = probability(rank);
        const double inverse = 1 / grown;
        const double term = occupied[rank] * p * inverse;
        value += term;
        slope -= term * p * (1 + inverse);
      }
      if (rank < kRanks - 1) grown *= grown + 2;  // the last two ranks are equally likely
    }
    const double next = slope == 0 ? n : std::max(n / 4, n - value / slope);
    // Each step squares what is left of the error.
    const bool done = std::fabs(next - n) <= 1e-3 * n;
    n = next;
    if (done) break;
  }
  return n;
}

class DistinctOperator final : public Operator {
 public:
  explicit DistinctOperator(const FeatureSpec& spec)
      : other_key_(static_cast<std::uint32_t>(spec.other_key)),
        including_(spec.including),
        spans_(spec.windows_ms),
        first_(spans_.size()) {}

  void prefetch(const std::byte* bytes, std::int64_t /*time_ms*/) const override {
    const auto& state = *reinterpret_cast<const DistinctState*>(bytes);
    if (state.list_class != 0) {
      const std::byte* list = lists_[state.list_class - 1].at(state.list);
      for (std::uint32_t at = 0; at < state.known * sizeof(ValueTime); at += 64) __builtin_prefetch(list + at, 1);
    }
    // The rest is read in a row, which the processor sees.
    if (state.sketch != 0) __builtin_prefetch(sketches_.at(state.sketch - 1), 1);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<DistinctState*>(bytes);
    const std::int64_t clock = spans_.unit_of(std::max(event.clock_ms, event.time_ms));
    for (std::size_t window = 0; window < first_.size(); ++window) first_[window] = spans_.first(window, clock);
    const std::int64_t oldest = oldest_at(clock);
    forget_before(state, oldest, spans_.unit_of(event.clock_ms), clock);
    if (!including_) read(state, clock, out);
    const std::uint64_t hash = event.batch.key(event.row, other_key_).hash;
    const std::int64_t unit = spans_.unit_of(event.time_ms);
    if (hash != 0 && unit >= oldest) {
      add(state, static_cast<std::uint32_t>(mix64(hash) >> 32U), unit, oldest, clock);
    }
    if (including_) read(state, clock, out);
  }

  // How many values are listed; by ascending tag each one's tag and age (in units, from the clock's to its newest).
  // With a sketch also the age of what was forgotten, by rank the rows that a window still sees, and their ages.
  void save(const std::byte* bytes, std::int64_t clock_ms, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const DistinctState*>(bytes);
    if (state.known == 0) return;
    const std::int64_t clock = spans_.unit_of(clock_ms);
    const auto age_of = [&](std::int64_t unit) { return static_cast<std::uint64_t>(clock - unit); };
    std::array<ValueTime, kDistinctExact> values;
    const auto end = std::copy_n(list_of(state), state.known, values.begin());
    std::sort(values.begin(), end, [](const ValueTime& a, const ValueTime& b) { return a.tag < b.tag; });
    writer.u8(state.known);
    for (auto value = values.begin(); value != end; ++value) {
      writer.u32(value->tag);
      writer.varint(age_of(unit_from(value->unit, clock)));
    }
    if (state.sketch == 0) return;
    const Sketch& sketch = sketch_of(state);
    writer.varint(age_of(sketch.forgotten));
    const std::int64_t least = std::max<std::int64_t>(1, oldest_at(clock) - sketch.base + 1);
    for (const auto& rank : sketch.cells) {
      std::uint64_t rows = 0;
      for (std::uint32_t row = 0; row < kRows; ++row) rows |= std::uint64_t{rank[row] >= least} << row;
      writer.u64(rows);
    }
    for (const auto& rank : sketch.cells) {
      for (const std::int32_t cell : rank) {
        if (cell >= least) writer.varint(age_of(sketch.base + cell - 1));
      }
    }
  }

  void load(std::byte* bytes, std::int64_t clock_ms, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<DistinctState*>(bytes);
    const std::int64_t clock = spans_.unit_of(clock_ms);
    const std::int64_t oldest = oldest_at(clock);
    const auto age_max = static_cast<std::uint64_t>(clock - oldest);
    const std::uint32_t known = reader.u8();
    if (known == 0 || known > kDistinctExact)
      return reader.refuse(fmt::format("has {} values; expected 1 to {}", known, kDistinctExact));
    std::array<ValueTime, kDistinctExact> values;
    std::uint64_t longest = 0;
    for (std::uint32_t i = 0; i < known && reader.ok(); ++i) {
      values[i].tag = reader.u32();
      const std::uint64_t age = reader.varint();
      if (age > age_max) return reader.refuse("has a value that is in no window");
      if (i != 0 && values[i].tag <= values[i - 1].tag) return reader.refuse("lists its values out of order");
      values[i].unit = static_cast<std::uint32_t>(clock - static_cast<std::int64_t>(age));
      longest = std::max(longest, age);
    }
    if (!reader.ok()) return;
    while (capacity(state.list_class) < known) ++state.list_class;
    state.list = lists_[state.list_class - 1].allocate();
    state.known = static_cast<std::uint8_t>(known);
    std::copy_n(values.begin(), known, list_of(state));
    if (reader.left() != 0) load_sketch(state, clock, oldest, longest, reader);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<DistinctState*>(bytes);
    if (state.list_class != 0) lists_[state.list_class - 1].release(state.list);
    if (state.sketch != 0) sketches_.release(state.sketch - 1);
    state = DistinctState{};
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = sketches_.reserved_bytes();
    for (const RecordPool& pool : lists_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  ValueTime* list_of(const DistinctState& state) const {
    if (state.list_class == 0) return nullptr;
    return reinterpret_cast<ValueTime*>(lists_[state.list_class - 1].at(state.list));
  }
  Sketch& sketch_of(const DistinctState& state) const {
    return *reinterpret_cast<Sketch*>(sketches_.at(state.sketch - 1));
  }

  // The first unit of all windows.
  std::int64_t oldest_at(std::int64_t clock) const {
    std::int64_t oldest = clock;
    for (std::size_t window = 0; window < spans_.size(); ++window)
      oldest = std::min(oldest, spans_.first(window, clock));
    return oldest;
  }

  // `longest`: the age of the oldest listed value. While there is a sketch the list is full, of nothing older than what
  // it forgot: so it stays full until the sketch is given up.
  void load_sketch(DistinctState& state, std::int64_t clock, std::int64_t oldest, std::uint64_t longest,
                   StateReader& reader) {
    if (state.known != kDistinctExact)
      return reader.refuse(
          fmt::format("has a sketch beside {} values; it begins beyond {}", state.known, kDistinctExact));
    const auto age_max = static_cast<std::uint64_t>(clock - oldest);
    const std::uint64_t forgotten = reader.varint();
    if (forgotten > age_max) return reader.refuse("has a sketch that no window needs");
    if (forgotten < longest) return reader.refuse("forgot a value that is newer than a listed one");
    std::array<std::uint64_t, kRanks> rows{};
    for (std::uint64_t& rank : rows) rank = reader.u64();
    if (!reader.ok()) return;
    state.sketch = sketches_.allocate() + 1;
    Sketch& sketch = sketch_of(state);
    std::memset(&sketch, 0, sizeof sketch);
    sketch.base = oldest;
    sketch.forgotten = clock - static_cast<std::int64_t>(forgotten);
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      for (std::uint64_t left = rows[rank]; left != 0 && reader.ok(); left &= left - 1) {
        const std::uint64_t age = reader.varint();
        if (age > age_max) return reader.refuse("has a value that is in no window");
        sketch.cells[rank][std::countr_zero(left)] = static_cast<std::int32_t>(age_max - age + 1);
      }
    }
  }

  void forget_before(DistinctState& state, std::int64_t oldest, std::int64_t clock_before, std::int64_t clock) {
    if (state.sketch != 0) {
      Sketch& sketch = sketch_of(state);
      if (sketch.forgotten < oldest) {
        sketches_.release(state.sketch - 1);
        state.sketch = 0;
      } else if (clock - sketch.base >= kRebaseAt) {
        rebase(sketch, oldest);
      }
    }
    if (state.known == 0 || clock == clock_before) return;
    ValueTime* const values = list_of(state);
    ValueTime* const kept = std::remove_if(values, values + state.known, [&](const ValueTime& value) {
      return unit_from(value.unit, clock_before) < oldest;
    });
    state.known = static_cast<std::uint8_t>(kept - values);
    if (state.known != 0) return;
    lists_[state.list_class - 1].release(state.list);
    state.list_class = 0;
  }

  void read(const DistinctState& state, std::int64_t clock, std::span<float> out) const {
    const ValueTime* const values = list_of(state);
    for (std::size_t window = 0; window < first_.size(); ++window) {
      if (state.sketch != 0 && sketch_of(state).forgotten >= first_[window]) {
        out[window] = estimate(sketch_of(state), first_[window]);
        continue;
      }
      const auto is_in = [&](const ValueTime& value) { return unit_from(value.unit, clock) >= first_[window]; };
      out[window] = static_cast<float>(std::count_if(values, values + state.known, is_in));
    }
  }

  static float estimate(const Sketch& sketch, std::int64_t first) {
    const auto least = static_cast<std::int32_t>(std::max<std::int64_t>(1, first - sketch.base + 1));
    std::uint32_t occupied[kRanks];
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      std::int32_t in = 0;
      for (const std::int32_t cell : sketch.cells[rank]) in += cell >= least ? 1 : 0;
      occupied[rank] = static_cast<std::uint32_t>(in);
    }
    return static_cast<float>(std::max<double>(kDistinctExact + 1, std::round(likeliest_number(occupied))));
  }

  void add(DistinctState& state, std::uint32_t tag, std::int64_t unit, std::int64_t oldest, std::int64_t clock) {
    if (state.sketch != 0) add_to(sketch_of(state), tag, unit);
    ValueTime* values = list_of(state);
    ValueTime* const end = values + state.known;
    ValueTime* const at = std::find_if(values, end, [tag](const ValueTime& value) { return value.tag == tag; });
    if (at != end) {
      at->unit = static_cast<std::uint32_t>(std::max(unit_from(at->unit, clock), unit));
      return;
    }
    const ValueTime added{tag, static_cast<std::uint32_t>(unit)};
    if (state.known < kDistinctExact) {
      if (state.known == capacity(state.list_class)) grow(state);
      list_of(state)[state.known++] = added;
      return;
    }
    if (state.sketch == 0) {
      state.sketch = sketches_.allocate() + 1;
      Sketch& sketch = sketch_of(state);
      std::memset(&sketch, 0, sizeof sketch);
      sketch.base = oldest;
      sketch.forgotten = oldest;
      for (const ValueTime* value = values; value != end; ++value)
        add_to(sketch, value->tag, unit_from(value->unit, clock));
      add_to(sketch, tag, unit);
    }
    // Of equals the least tag goes: so the list is one of values and times, and not of the order in which they came.
    const auto rank = [clock](const ValueTime& value) { return std::pair(unit_from(value.unit, clock), value.tag); };
    ValueTime* const least =
        std::min_element(values, end, [&rank](const ValueTime& a, const ValueTime& b) { return rank(a) < rank(b); });
    const std::int64_t least_unit = unit_from(least->unit, clock);
    Sketch& sketch = sketch_of(state);
    sketch.forgotten = std::max(sketch.forgotten, std::min(least_unit, unit));
    // A late value may itself be the one to forget.
    if (rank(added) > rank(*least)) *least = added;
  }

  void grow(DistinctState& state) {
    DistinctState larger = state;
    ++larger.list_class;
    larger.list = lists_[larger.list_class - 1].allocate();
    if (state.list_class != 0) {
      std::memcpy(list_of(larger), list_of(state), state.known * sizeof(ValueTime));
      lists_[state.list_class - 1].release(state.list);
    }
    state = larger;
  }

  std::uint32_t other_key_;
  bool including_;
  WindowSpans spans_;
  std::vector<std::int64_t> first_;  // of the event at hand, by window
  RecordPool lists_[3] = {RecordPool(4 * sizeof(ValueTime)), RecordPool(8 * sizeof(ValueTime)),
                          RecordPool(16 * sizeof(ValueTime))};
  RecordPool sketches_{sizeof(Sketch)};
};

}  // namespace

std::string distinct_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (auto mistake = slot_mistake("key", spec.other_key, layout.keys.size()); !mistake.empty()) return mistake;
  return WindowSpans::mistake(spec.windows_ms);
}

std::vector<OperatorColumn> distinct_columns(const FeatureSpec& spec) {
  std::vector<OperatorColumn> columns;
  for (const std::int64_t window : spec.windows_ms) columns.push_back({"distinct_" + format_duration(window), 1});
  return columns;
}

std::size_t distinct_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(DistinctState); }

std::unique_ptr<Operator> make_distinct_operator(const FeatureSpec& spec) {
  return std::make_unique<DistinctOperator>(spec);
}

}  // namespace alcedo::features
