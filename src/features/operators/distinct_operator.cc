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
#include "features/operators/unit_mask.h"
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

// The values of a list: their tags and units (of the newest event with the value; unit_from()), side by side.
struct List {
  std::uint32_t* tags;
  std::uint32_t* units;
};

// How many rows each rank occupies in one window, kept up as cells come and leave: most events change few of them.
struct WindowRows {
  std::int64_t newest;    // bucket
  std::uint64_t buckets;  // bit (bucket & 63): those that cells came to
  float number;           // estimated of `occupied`
  std::uint32_t known;    // whether it is
  std::uint8_t occupied[kRanks];
  std::uint8_t in_bucket[64][kRanks];  // of which by the bucket of the cell's unit, bucket & 63
};

struct Sketch {                       // behind it a WindowRows for each window
  std::int64_t base;                  // the unit that a cell holds as 1
  std::int64_t forgotten;             // newest unit of the values that the list forgot
  std::int32_t cells[kRanks][kRows];  // newest unit - base + 1; 0: never
};
constexpr std::int64_t kRebaseAt = std::int64_t{1} << 30;

std::uint32_t capacity(std::uint8_t list_class) { return list_class == 0 ? 0 : kFirstValues << (list_class - 1); }
constexpr std::size_t list_bytes(std::uint32_t values) { return values * 2 * sizeof(std::uint32_t); }

std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(mix64(hash) >> 32U); }
std::uint32_t rank_of(std::uint32_t tag) {
  return std::min(static_cast<std::uint32_t>(std::countl_zero(tag)), kRanks - 1);
}

// Keeps cells within 32 bits; what lies before `oldest` is in no window any more.
void rebase(Sketch& sketch, std::int64_t oldest) {
  const std::int64_t shift = oldest - sketch.base;
  for (auto& rank : sketch.cells) {
    for (std::int32_t& cell : rank) cell = static_cast<std::int32_t>(std::max<std::int64_t>(0, cell - shift));
  }
  sketch.base = oldest;
}

// Of n values each falls into one cell: a given one of rank r with probability p(r) = 2^-(r + 1) / rows (the last two
// ranks are equally likely), so it is empty with exp(-n p). The likeliest n is the root of
//   sum over r of  occupied p / (exp(n p) - 1)  -  (rows - occupied) p,
// which falls in n. It is looked for on a grid of kSteps numbers an octave, and between two of them on a straight line:
// within 0.1 % of the root.
class LikeliestNumber {
 public:
  LikeliestNumber() {
    for (int at = 0; at < kGrid; ++at) numbers_[at] = std::exp2(static_cast<double>(at) / kSteps);
    for (int octave = -static_cast<int>(kLast); octave <= kGrid / kSteps; ++octave) {
      for (int step = 0; step < kSteps; ++step) {
        const double n_p = std::exp2(octave + static_cast<double>(step) / kSteps) * kFirst;
        inverses_[step][octave + static_cast<int>(kLast)] = 1 / std::expm1(n_p);
      }
    }
    for (std::uint32_t occupied = 0; occupied <= kRows; ++occupied) {
      const double share_empty = std::max(0.5, static_cast<double>(kRows - occupied)) / kRows;
      from_rows_[occupied] = -std::log(share_empty) / kFirst;
    }
  }

  double of(const std::uint8_t (&occupied)[kRanks]) const {
    double weights[kLast + 1];  // occupied p, the last two ranks together
    double empty = 0;
    std::uint32_t middle = 0;  // the rank that is nearest to half full says about how many there are
    int nearest = kRows + 1;
    double p = kFirst;
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      const int rows = occupied[rank];
      if (rank <= kLast) {
        weights[rank] = rows * p;
      } else {
        p += p;  // as likely as the rank before
        weights[kLast] += rows * p;
      }
      empty += (static_cast<int>(kRows) - rows) * p;
      const int off = std::abs(2 * rows - static_cast<int>(kRows));
      if (off < nearest) {
        nearest = off;
        middle = rank;
      }
      p *= 0.5;
    }
    const double guess =
        std::max(1.0, std::ldexp(from_rows_[occupied[middle]], static_cast<int>(std::min(middle, kLast))));
    if (empty == 0) return guess;  // every cell is occupied: no root
    const auto value = [&](int at) {
      const double* const inverses = &inverses_[at % kSteps][at / kSteps];
      double sum = -empty;
      for (std::uint32_t rank = 0; rank <= kLast; ++rank) sum += weights[rank] * inverses[kLast - rank];
      return sum;
    };
    int octave = 0;
    const double part = std::frexp(guess, &octave);  // in [0.5, 1)
    const int near = (octave - 1) * kSteps + static_cast<int>((2 * part - 1) * kSteps);
    int at = std::clamp(near, 0, kGrid - 2);
    double here = value(at);
    if (here > 0) {
      for (double next; at < kGrid - 2; ++at, here = next) {
        next = value(at + 1);
        if (next <= 0) return between(at, here, next);
      }
      return numbers_[at];
    }
    for (double before; at > 0; --at, here = before) {
      before = value(at - 1);
      if (before > 0) return between(at - 1, before, here);
    }
    return numbers_[0];
  }

 private:
  static constexpr int kSteps = 16;
  static constexpr int kGrid = 24 * kSteps;           // up to 2^24
  static constexpr std::uint32_t kLast = kRanks - 2;  // the last rank that is half as likely as the one before
  static constexpr double kFirst = 0.5 / kRows;

  double between(int at, double above, double below) const {
    return numbers_[at] + (numbers_[at + 1] - numbers_[at]) * (above / (above - below));
  }

  double numbers_[kGrid];
  double inverses_[kSteps][kLast + 1 + kGrid / kSteps];  // of exp(n p) - 1, by n p's step and octave
  double from_rows_[kRows + 1];                          // the number that so many of the first rank's rows say
};

class DistinctOperator final : public Operator {
 public:
  explicit DistinctOperator(const FeatureSpec& spec)
      : other_key_(static_cast<std::uint32_t>(spec.other_key)),
        including_(spec.including),
        spans_(spec.windows_ms),
        first_(spans_.size()),
        newest_(spans_.size()),
        sketches_(sizeof(Sketch) + spans_.size() * sizeof(WindowRows)) {}

  void prefetch(const std::byte* bytes, const EventBatch& batch, std::uint32_t row) const override {
    const auto& state = *reinterpret_cast<const DistinctState*>(bytes);
    if (state.list_class != 0) {
      const std::byte* list = lists_[state.list_class - 1].at(state.list);
      for (std::size_t at = 0; at < list_bytes(capacity(state.list_class)); at += 64) __builtin_prefetch(list + at, 1);
    }
    if (state.sketch == 0) return;
    const std::uint32_t tag = tag_of(batch.key(row, other_key_).hash);
    const Sketch& sketch = sketch_of(state);
    __builtin_prefetch(&sketch, 1);
    __builtin_prefetch(&sketch.cells[rank_of(tag)][tag % kRows], 1);
    const WindowRows* const all = rows_of(state);
    const std::int64_t unit = spans_.unit_of(batch.header(row).time_ms);
    for (std::size_t window = 0; window < spans_.size(); ++window) {
      const WindowRows& rows = all[window];
      const std::int64_t bucket = spans_.bucket(window, unit);
      __builtin_prefetch(&rows, 1);
      __builtin_prefetch(&rows.in_bucket[bucket & 63], 1);
      __builtin_prefetch(&rows.in_bucket[(bucket - kBuckets) & 63], 1);
    }
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<DistinctState*>(bytes);
    const std::int64_t clock = spans_.unit_of(std::max(event.clock_ms, event.time_ms));
    move_to(clock);
    forget_before(state, spans_.unit_of(event.clock_ms), clock);
    if (!including_) read(state, clock, out);
    const std::uint64_t hash = event.batch.key(event.row, other_key_).hash;
    const std::int64_t unit = spans_.unit_of(event.time_ms);
    if (hash != 0 && unit >= oldest_) add(state, tag_of(hash), unit, clock);
    if (including_) read(state, clock, out);
  }

  // How many values are listed; by ascending tag each one's tag and age (in units, from the clock's to its newest).
  // With a sketch also the age of what was forgotten, by rank the rows that a window still sees, and their ages.
  void save(const std::byte* bytes, std::int64_t clock_ms, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const DistinctState*>(bytes);
    if (state.known == 0) return;
    const std::int64_t clock = spans_.unit_of(clock_ms);
    const auto age_of = [&](std::int64_t unit) { return static_cast<std::uint64_t>(clock - unit); };
    const List list = list_of(state);
    std::array<std::pair<std::uint32_t, std::uint32_t>, kDistinctExact> values;
    for (std::uint32_t i = 0; i < state.known; ++i) values[i] = {list.tags[i], list.units[i]};
    std::sort(values.begin(), values.begin() + state.known);
    writer.u8(state.known);
    for (std::uint32_t i = 0; i < state.known; ++i) {
      writer.u32(values[i].first);
      writer.varint(age_of(unit_from(values[i].second, clock)));
    }
    if (state.sketch == 0) return;
    const Sketch& sketch = sketch_of(state);
    writer.varint(age_of(sketch.forgotten));
    std::int64_t oldest = clock;
    for (std::size_t window = 0; window < spans_.size(); ++window)
      oldest = std::min(oldest, spans_.first(window, clock));
    const std::int64_t least = std::max<std::int64_t>(1, oldest - sketch.base + 1);
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
    move_to(clock);
    const auto age_max = static_cast<std::uint64_t>(clock - oldest_);
    const std::uint32_t known = reader.u8();
    if (known == 0 || known > kDistinctExact)
      return reader.refuse(fmt::format("has {} values; expected 1 to {}", known, kDistinctExact));
    std::array<std::uint32_t, kDistinctExact> tags;
    std::array<std::uint32_t, kDistinctExact> units;
    std::uint64_t longest = 0;
    for (std::uint32_t i = 0; i < known && reader.ok(); ++i) {
      tags[i] = reader.u32();
      const std::uint64_t age = reader.varint();
      if (age > age_max) return reader.refuse("has a value that is in no window");
      if (i != 0 && tags[i] <= tags[i - 1]) return reader.refuse("lists its values out of order");
      units[i] = static_cast<std::uint32_t>(clock - static_cast<std::int64_t>(age));
      longest = std::max(longest, age);
    }
    if (!reader.ok()) return;
    while (capacity(state.list_class) < known) ++state.list_class;
    state.list = lists_[state.list_class - 1].allocate();
    state.known = static_cast<std::uint8_t>(known);
    const List list = list_of(state);
    std::copy_n(tags.begin(), known, list.tags);
    std::copy_n(units.begin(), known, list.units);
    if (reader.left() != 0) load_sketch(state, clock, longest, reader);
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
  List list_of(const DistinctState& state) const {
    if (state.list_class == 0) return {nullptr, nullptr};
    auto* const tags = reinterpret_cast<std::uint32_t*>(lists_[state.list_class - 1].at(state.list));
    return {tags, tags + capacity(state.list_class)};
  }
  Sketch& sketch_of(const DistinctState& state) const {
    return *reinterpret_cast<Sketch*>(sketches_.at(state.sketch - 1));
  }
  WindowRows* rows_of(const DistinctState& state) const {
    return reinterpret_cast<WindowRows*>(sketches_.at(state.sketch - 1) + sizeof(Sketch));
  }

  void move_to(std::int64_t clock) {
    oldest_ = clock;
    for (std::size_t window = 0; window < first_.size(); ++window) {
      newest_[window] = spans_.bucket(window, clock);
      first_[window] = (newest_[window] - (kBuckets - 1)) * spans_.grain(window);
      oldest_ = std::min(oldest_, first_[window]);
    }
  }

  void create_sketch(DistinctState& state) {
    state.sketch = sketches_.allocate() + 1;
    Sketch& sketch = sketch_of(state);
    std::memset(&sketch, 0, sizeof(Sketch) + spans_.size() * sizeof(WindowRows));
    sketch.base = oldest_;
    sketch.forgotten = oldest_;
    for (std::size_t window = 0; window < spans_.size(); ++window) rows_of(state)[window].newest = newest_[window];
  }

  // What leaves the windows as of move_to().
  void advance_sketch(const DistinctState& state) {
    WindowRows* const all = rows_of(state);
    for (std::size_t window = 0; window < spans_.size(); ++window) {
      WindowRows& rows = all[window];
      const std::int64_t moved = newest_[window] - rows.newest;
      if (moved == 0) continue;
      std::uint64_t leaving = rows.buckets;
      if (moved < kBuckets) {
        const std::uint64_t span = (std::uint64_t{1} << moved) - 1;
        leaving &= std::rotl(span, static_cast<int>((rows.newest - (kBuckets - 1)) & 63));
      }
      rows.newest = newest_[window];
      if (leaving == 0) continue;
      rows.buckets &= ~leaving;
      rows.known = 0;
      for (std::uint64_t left = leaving; left != 0; left &= left - 1) {
        auto& bucket = rows.in_bucket[std::countr_zero(left)];
        for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
          rows.occupied[rank] = static_cast<std::uint8_t>(rows.occupied[rank] - bucket[rank]);
          bucket[rank] = 0;
        }
      }
    }
  }

  // `unit` lies in the longest window.
  void set_cell(const DistinctState& state, std::uint32_t rank, std::uint32_t row, std::int64_t unit) {
    Sketch& sketch = sketch_of(state);
    std::int32_t& cell = sketch.cells[rank][row];
    const auto added = static_cast<std::int32_t>(unit - sketch.base + 1);
    if (added <= cell) return;
    const std::int64_t before = cell == 0 ? INT64_MIN : sketch.base + cell - 1;
    cell = added;
    WindowRows* const all = rows_of(state);
    for (std::size_t window = 0; window < spans_.size(); ++window) {
      WindowRows& rows = all[window];
      if (unit < first_[window]) continue;
      if (before >= first_[window]) {
        --rows.in_bucket[spans_.bucket(window, before) & 63][rank];
      } else {
        ++rows.occupied[rank];
        rows.known = 0;
      }
      const std::int64_t bucket = spans_.bucket(window, unit) & 63;
      rows.buckets |= std::uint64_t{1} << bucket;
      ++rows.in_bucket[bucket][rank];
    }
  }

  void add_to_sketch(const DistinctState& state, std::uint32_t tag, std::int64_t unit) {
    set_cell(state, rank_of(tag), tag % kRows, unit);
  }

  // `longest`: the age of the oldest listed value. While there is a sketch the list is full, of nothing older than what
  // it forgot: so it stays full until the sketch is given up.
  void load_sketch(DistinctState& state, std::int64_t clock, std::uint64_t longest, StateReader& reader) {
    if (state.known != kDistinctExact)
      return reader.refuse(
          fmt::format("has a sketch beside {} values; it begins beyond {}", state.known, kDistinctExact));
    const auto age_max = static_cast<std::uint64_t>(clock - oldest_);
    const std::uint64_t forgotten = reader.varint();
    if (forgotten > age_max) return reader.refuse("has a sketch that no window needs");
    if (forgotten < longest) return reader.refuse("forgot a value that is newer than a listed one");
    std::array<std::uint64_t, kRanks> rows{};
    for (std::uint64_t& rank : rows) rank = reader.u64();
    if (!reader.ok()) return;
    create_sketch(state);
    sketch_of(state).forgotten = clock - static_cast<std::int64_t>(forgotten);
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      for (std::uint64_t left = rows[rank]; left != 0 && reader.ok(); left &= left - 1) {
        const std::uint64_t age = reader.varint();
        if (age > age_max) return reader.refuse("has a value that is in no window");
        set_cell(state, rank, static_cast<std::uint32_t>(std::countr_zero(left)),
                 clock - static_cast<std::int64_t>(age));
      }
    }
  }

  void forget_before(DistinctState& state, std::int64_t clock_before, std::int64_t clock) {
    if (clock == clock_before) return;
    if (state.sketch != 0) {
      Sketch& sketch = sketch_of(state);
      if (sketch.forgotten < oldest_) {
        sketches_.release(state.sketch - 1);
        state.sketch = 0;
      } else {
        if (clock - sketch.base >= kRebaseAt) rebase(sketch, oldest_);
        advance_sketch(state);
      }
    }
    if (state.known == 0) return;
    const List list = list_of(state);
    const std::uint64_t stays = not_older(list.units, state.known, clock_before, clock_before - oldest_);
    if (stays == first_bits(state.known)) return;
    std::uint8_t kept = 0;
    for (std::uint64_t left = stays; left != 0; left &= left - 1, ++kept) {
      list.tags[kept] = list.tags[std::countr_zero(left)];
      list.units[kept] = list.units[std::countr_zero(left)];
    }
    state.known = kept;
    if (kept != 0) return;
    lists_[state.list_class - 1].release(state.list);
    state.list_class = 0;
  }

  void read(const DistinctState& state, std::int64_t clock, std::span<float> out) const {
    const List list = list_of(state);
    for (std::size_t window = 0; window < first_.size(); ++window) {
      if (state.sketch != 0 && sketch_of(state).forgotten >= first_[window]) {
        out[window] = estimate(rows_of(state)[window]);
        continue;
      }
      const std::uint64_t in = not_older(list.units, state.known, clock, clock - first_[window]);
      out[window] = static_cast<float>(std::popcount(in));
    }
  }

  static float estimate(WindowRows& rows) {
    static const LikeliestNumber likeliest;
    if (rows.known == 0) {
      rows.number = static_cast<float>(std::max<double>(kDistinctExact + 1, std::round(likeliest.of(rows.occupied))));
      rows.known = 1;
    }
    return rows.number;
  }

  void add(DistinctState& state, std::uint32_t tag, std::int64_t unit, std::int64_t clock) {
    if (state.sketch != 0) add_to_sketch(state, tag, unit);
    const List list = list_of(state);
    if (const std::uint64_t at = equal_to(list.tags, state.known, tag); at != 0) {
      std::uint32_t& kept = list.units[std::countr_zero(at)];
      kept = static_cast<std::uint32_t>(std::max(unit_from(kept, clock), unit));
      return;
    }
    if (state.known < kDistinctExact) {
      if (state.known == capacity(state.list_class)) grow(state);
      const List room = list_of(state);
      room.tags[state.known] = tag;
      room.units[state.known++] = static_cast<std::uint32_t>(unit);
      return;
    }
    if (state.sketch == 0) {
      create_sketch(state);
      for (std::uint32_t i = 0; i < state.known; ++i)
        add_to_sketch(state, list.tags[i], unit_from(list.units[i], clock));
      add_to_sketch(state, tag, unit);
    }
    // Of equals the least tag goes: so the list is one of values and times, and not of the order in which they came.
    const std::uint32_t age = largest_age(list.units, state.known, clock);
    const std::uint64_t oldest = equal_to(list.units, state.known, static_cast<std::uint32_t>(clock) - age);
    std::uint32_t least = static_cast<std::uint32_t>(std::countr_zero(oldest));
    for (std::uint64_t left = oldest & (oldest - 1); left != 0; left &= left - 1) {
      const auto other = static_cast<std::uint32_t>(std::countr_zero(left));
      if (list.tags[other] < list.tags[least]) least = other;
    }
    const std::int64_t least_unit = clock - static_cast<std::int64_t>(age);
    Sketch& sketch = sketch_of(state);
    sketch.forgotten = std::max(sketch.forgotten, std::min(least_unit, unit));
    // A late value may itself be the one to forget.
    if (std::pair(unit, tag) <= std::pair(least_unit, list.tags[least])) return;
    list.tags[least] = tag;
    list.units[least] = static_cast<std::uint32_t>(unit);
  }

  void grow(DistinctState& state) {
    DistinctState larger = state;
    ++larger.list_class;
    larger.list = lists_[larger.list_class - 1].allocate();
    if (state.list_class != 0) {
      const List from = list_of(state);
      const List to = list_of(larger);
      std::copy_n(from.tags, state.known, to.tags);
      std::copy_n(from.units, state.known, to.units);
      lists_[state.list_class - 1].release(state.list);
    }
    state = larger;
  }

  std::uint32_t other_key_;
  bool including_;
  WindowSpans spans_;
  // As of the clock at hand, move_to():
  std::vector<std::int64_t> first_;   // by window: its first unit
  std::vector<std::int64_t> newest_;  // and its newest bucket
  std::int64_t oldest_ = 0;           // the first unit of all windows
  RecordPool lists_[3] = {RecordPool(list_bytes(4)), RecordPool(list_bytes(8)), RecordPool(list_bytes(16))};
  RecordPool sketches_;
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
