// A cell's code orders cells as their values are: negative, zero, positive; its magnitude is the logarithm's.
#include "features/operators/quantile_sketch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace alcedo::features {
namespace {

constexpr double kLeastMagnitude = 1e-300;
// Above the largest power of gamma that a double holds, so that codes of positive values stay positive.
constexpr std::int32_t kCodeOffset = 40'000;
// From here on all magnitudes fit in fewer cells than there may be (143 of 256), so that none are joined again.
constexpr std::uint32_t kLevelMax = 10;
constexpr std::uint32_t kValuesMax = std::numeric_limits<std::uint32_t>::max();

double log_gamma(std::uint32_t level) {
  static const double first = std::log(kSketchGamma);
  return std::ldexp(first, static_cast<int>(level));
}

std::int32_t joined(std::int32_t code) {
  if (code == 0) return 0;
  const std::int32_t power = (std::abs(code) - kCodeOffset + 1) >> 1;
  return code < 0 ? -(power + kCodeOffset) : power + kCodeOffset;
}

// What the cells of a level say: the value that is off by the same share from both ends, 2 gamma^power / (gamma + 1).
class CellValues {
 public:
  static const CellValues& at(std::uint32_t level) {
    static const auto all = []<std::size_t... Level>(std::index_sequence<Level...>) {
      return std::array<CellValues, kLevelMax + 1>{CellValues(Level)...};
    }(std::make_index_sequence<kLevelMax + 1>());
    return all[level];
  }
  double of(std::int32_t code) const {
    if (code == 0) return 0;
    const double magnitude = std::exp((std::abs(code) - kCodeOffset) * width_ + centre_);
    return code < 0 ? -magnitude : magnitude;
  }

 private:
  explicit CellValues(std::uint32_t level)
      : width_(log_gamma(level)), centre_(std::log(2 / (std::exp(log_gamma(level)) + 1))) {}

  double width_;
  double centre_;
};

std::size_t slot_of(std::int64_t pane) {
  const std::int64_t slot = pane % kSketchPanes;
  return static_cast<std::size_t>(slot < 0 ? slot + kSketchPanes : slot);
}

std::int32_t code_of(double x, std::uint32_t level) { return SketchCode(x).at(level); }

}  // namespace

SketchCode::SketchCode(double x) : power_(0), sign_(0) {
  const double magnitude = std::min(std::fabs(x), std::numeric_limits<double>::max());
  if (magnitude < kLeastMagnitude) return;
  static const double first = log_gamma(0);
  power_ = static_cast<std::int32_t>(std::ceil(std::log(magnitude) / first));
  sign_ = x < 0 ? -1 : 1;
}

std::int32_t SketchCode::at(std::uint32_t level) const {
  // Rounding up twice is rounding up once: cells joined in pairs hold exactly what their parts held.
  const std::int32_t at_level = (power_ + (1 << level) - 1) >> level;
  return sign_ * (at_level + kCodeOffset);
}

double sketch_error(int level) {
  const double gamma = std::exp(log_gamma(static_cast<std::uint32_t>(level)));
  return (gamma - 1) / (gamma + 1);
}

QuantileSketchStore::View QuantileSketchStore::view(std::uint32_t handle) const {
  const std::uint32_t size_class = handle >> kClassShift;
  std::byte* slab = pools_[size_class - 1].at(handle & kPlaceMask);
  View sketch{};
  sketch.capacity = kFirstCells << (size_class - 1);
  sketch.header = reinterpret_cast<Header*>(slab);
  sketch.codes = reinterpret_cast<std::int32_t*>(slab + sizeof(Header));
  sketch.totals = reinterpret_cast<std::uint32_t*>(sketch.codes + sketch.capacity);
  sketch.counts = sketch.totals + sketch.capacity;
  return sketch;
}

std::uint32_t QuantileSketchStore::create(std::int64_t newest_pane) {
  const std::uint32_t handle = 1U << kClassShift | pools_[0].allocate();
  *view(handle).header = {newest_pane, 0, 0, 0};
  return handle;
}

void QuantileSketchStore::release(std::uint32_t handle) {
  pools_[(handle >> kClassShift) - 1].release(handle & kPlaceMask);
}

void QuantileSketchStore::advance(std::uint32_t handle, std::int64_t newest_pane) {
  const View sketch = view(handle);
  Header& header = *sketch.header;
  const std::int64_t moved = std::min(newest_pane - header.newest_pane, kSketchPanes);
  if (moved == 0) return;
  header.newest_pane = newest_pane;
  for (std::int64_t pane = newest_pane - moved + 1; pane <= newest_pane; ++pane) {
    std::uint32_t* const leaving = sketch.counts + slot_of(pane) * sketch.capacity;
    for (std::uint32_t i = 0; i < header.cells; ++i) {
      sketch.totals[i] -= leaving[i];
      header.values -= leaving[i];
    }
    std::fill_n(leaving, header.cells, 0U);
  }
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < header.cells; ++i) {
    if (sketch.totals[i] == 0) continue;
    if (kept != i) {
      sketch.codes[kept] = sketch.codes[i];
      sketch.totals[kept] = sketch.totals[i];
      for (std::int64_t slot = 0; slot < kSketchPanes; ++slot) {
        std::uint32_t* const counts = sketch.counts + slot * sketch.capacity;
        counts[kept] = counts[i];
      }
    }
    ++kept;
  }
  header.cells = static_cast<std::uint16_t>(kept);
}

void QuantileSketchStore::grow(std::uint32_t& handle) {
  const std::uint32_t size_class = (handle >> kClassShift) + 1;
  const std::uint32_t larger = size_class << kClassShift | pools_[size_class - 1].allocate();
  const View from = view(handle);
  const View to = view(larger);
  *to.header = *from.header;
  const std::uint32_t cells = from.header->cells;
  std::copy_n(from.codes, cells, to.codes);
  std::copy_n(from.totals, cells, to.totals);
  for (std::int64_t slot = 0; slot < kSketchPanes; ++slot)
    std::copy_n(from.counts + slot * from.capacity, cells, to.counts + slot * to.capacity);
  release(handle);
  handle = larger;
}

void QuantileSketchStore::join_pairs(const View& sketch) {
  Header& header = *sketch.header;
  ++header.level;
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < header.cells; ++i) {
    const std::int32_t code = joined(sketch.codes[i]);
    const bool joins = kept > 0 && sketch.codes[kept - 1] == code;
    const std::uint32_t to = joins ? kept - 1 : kept++;
    const auto move = [&](std::uint32_t* counts) { counts[to] = counts[i] + (joins ? counts[to] : 0); };
    sketch.codes[to] = code;
    move(sketch.totals);
    for (std::int64_t slot = 0; slot < kSketchPanes; ++slot) move(sketch.counts + slot * sketch.capacity);
  }
  header.cells = static_cast<std::uint16_t>(kept);
}

void QuantileSketchStore::add(std::uint32_t& handle, const SketchCode& x, std::int64_t pane) {
  View sketch = view(handle);
  // One value more or less would not be seen, and counts stay within 32 bits.
  if (sketch.header->values == kValuesMax) return;
  std::int32_t code = x.at(sketch.header->level);
  const auto place_of = [&] {
    return static_cast<std::uint32_t>(std::lower_bound(sketch.codes, sketch.codes + sketch.header->cells, code) -
                                      sketch.codes);
  };
  std::uint32_t at = place_of();
  if (at == sketch.header->cells || sketch.codes[at] != code) {
    if (sketch.header->cells == sketch.capacity) {
      if (sketch.capacity < kSketchCells) {
        grow(handle);
        sketch = view(handle);
      } else {
        while (sketch.header->cells == sketch.capacity) join_pairs(sketch);
        code = x.at(sketch.header->level);
        at = place_of();
      }
    }
    if (at == sketch.header->cells || sketch.codes[at] != code) {
      const std::uint32_t cells = sketch.header->cells++;
      std::copy_backward(sketch.codes + at, sketch.codes + cells, sketch.codes + cells + 1);
      sketch.codes[at] = code;
      for (std::int64_t row = 0; row <= kSketchPanes; ++row) {  // the totals stand before the panes' counts
        std::uint32_t* const counts = sketch.totals + row * sketch.capacity;
        std::copy_backward(counts + at, counts + cells, counts + cells + 1);
        counts[at] = 0;
      }
    }
  }
  ++sketch.header->values;
  ++sketch.totals[at];
  ++sketch.counts[slot_of(pane) * sketch.capacity + at];
}

void QuantileSketchStore::quantiles(std::uint32_t handle, std::span<const double> shares, std::span<double> out) const {
  const View sketch = view(handle);
  const std::uint64_t count = sketch.header->values;
  if (count == 0) {
    std::fill(out.begin(), out.end(), std::numeric_limits<double>::quiet_NaN());
    return;
  }
  const CellValues& cells_say = CellValues::at(sketch.header->level);
  std::uint32_t at = 0;
  std::uint64_t behind = sketch.totals[0];  // values in cells up to `at`
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const double place = shares[i] * static_cast<double>(count - 1);
    const auto below = static_cast<std::uint64_t>(place);
    // Eight cells at a time, while they all lie below: sums that the compiler adds side by side.
    while (at + 8 < sketch.header->cells) {
      std::uint32_t ahead = 0;  // all values are fewer than 2^32
      for (std::uint32_t next = 1; next <= 8; ++next) ahead += sketch.totals[at + next];
      if (behind + ahead > below) break;
      behind += ahead;
      at += 8;
    }
    while (behind <= below) behind += sketch.totals[++at];
    const double low = cells_say.of(sketch.codes[at]);
    const double share_above = place - static_cast<double>(below);
    const bool same_cell = share_above == 0 || behind > below + 1;
    // Every cell holds a value, so the next order statistic is in the next one.
    const double high = same_cell ? low : cells_say.of(sketch.codes[at + 1]);
    out[i] = low + share_above * (high - low);
  }
}

void QuantileSketchStore::save(std::uint32_t handle, StateWriter& writer) const {
  const View sketch = view(handle);
  const Header& header = *sketch.header;
  writer.u8(static_cast<std::uint8_t>(header.level));
  writer.varint(header.cells);
  for (std::uint32_t i = 0; i < header.cells; ++i) {
    writer.u32(static_cast<std::uint32_t>(sketch.codes[i]));
    for (std::int64_t pane = header.newest_pane - kSketchPanes + 1; pane <= header.newest_pane; ++pane)
      writer.varint(sketch.counts[slot_of(pane) * sketch.capacity + i]);
  }
}

std::uint32_t QuantileSketchStore::load(std::int64_t newest_pane, std::int64_t needed_pane, StateReader& reader) {
  const std::uint32_t level = reader.u8();
  const std::uint64_t cells = reader.varint();
  constexpr std::size_t kCellBytes = sizeof(std::int32_t) + kSketchPanes;
  if (level > kLevelMax) {
    reader.refuse(fmt::format("joined its cells {} times; {} are enough for any", level, kLevelMax));
  } else if (cells == 0 || cells > kSketchCells) {
    reader.refuse(fmt::format("has {} cells; expected 1 to {}", cells, kSketchCells));
  } else if (reader.left() < cells * kCellBytes) {
    reader.refuse("ends before it is complete");
  }
  if (!reader.ok()) return 0;
  std::uint32_t size_class = 1;
  while (kFirstCells << (size_class - 1) < cells) ++size_class;
  const std::uint32_t handle = size_class << kClassShift | pools_[size_class - 1].allocate();
  const View sketch = view(handle);
  // The codes of the least and the largest magnitude at this level; all others lie between them.
  const std::int32_t code_least = code_of(kLeastMagnitude, level);
  const std::int32_t code_most = code_of(std::numeric_limits<double>::max(), level);
  std::uint64_t values = 0;
  std::uint64_t needed = 0;
  for (std::uint32_t i = 0; i < cells && reader.ok(); ++i) {
    const auto code = static_cast<std::int32_t>(reader.u32());
    const std::int64_t magnitude = std::abs(std::int64_t{code});
    if (code != 0 && (magnitude < code_least || magnitude > code_most))
      reader.refuse("has a cell that holds no number");
    if (i != 0 && code <= sketch.codes[i - 1]) reader.refuse("has cells out of order");
    std::uint64_t total = 0;
    for (std::int64_t pane = newest_pane - kSketchPanes + 1; pane <= newest_pane; ++pane) {
      // The sum cannot wrap: 1792 counts of 32 bits.
      const std::uint64_t count = std::min<std::uint64_t>(reader.varint(), std::uint64_t{kValuesMax} + 1);
      sketch.counts[slot_of(pane) * sketch.capacity + i] = static_cast<std::uint32_t>(count);
      total += count;
      if (pane >= needed_pane) needed += count;
    }
    values += total;
    if (total == 0) reader.refuse("has a cell without values");
    sketch.codes[i] = code;
    sketch.totals[i] = static_cast<std::uint32_t>(total);
  }
  if (values > kValuesMax) reader.refuse(fmt::format("counts {} values; at most {} are counted", values, kValuesMax));
  if (needed == 0) reader.refuse("has a sketch without the value that it began with");
  if (!reader.ok()) {
    release(handle);
    return 0;
  }
  *sketch.header = {newest_pane, static_cast<std::uint32_t>(values), static_cast<std::uint16_t>(cells),
                    static_cast<std::uint16_t>(level)};
  return handle;
}

void QuantileSketchStore::prefetch(std::uint32_t handle) const {
  const View sketch = view(handle);
  __builtin_prefetch(sketch.header, 1);
  __builtin_prefetch(sketch.totals, 1);
}

std::size_t QuantileSketchStore::reserved_bytes() const {
  std::size_t bytes = 0;
  for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
  return bytes;
}

}  // namespace alcedo::features
