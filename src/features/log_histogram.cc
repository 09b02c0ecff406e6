// A cell is the exponent and the upper mantissa bits of the double itself: no logarithm, the same on every machine.
#include "features/log_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace alcedo::features {
namespace {

constexpr int kCellBits = 5;  // 32 cells an octave
constexpr int kExponentMin = -64;
constexpr int kExponentEnd = 64;
constexpr std::size_t kSide = std::size_t{kExponentEnd - kExponentMin} << kCellBits;
constexpr std::uint64_t kFirst = (std::uint64_t{1023 + kExponentMin}) << kCellBits;
constexpr std::uint64_t kHalveAt = std::uint64_t{1} << 20;

// Lower edge of cell `i` above zero; i == kSide is the upper edge of the last.
double edge(std::size_t i) { return std::bit_cast<double>((kFirst + i) << (52 - kCellBits)); }

}  // namespace

LogHistogram::LogHistogram() : cells_(2 * kSide + 1) {}

void LogHistogram::add(double x) {
  const std::uint64_t bits = std::bit_cast<std::uint64_t>(std::fabs(x)) >> (52 - kCellBits);
  std::size_t cell = kSide;
  if (bits >= kFirst) {
    const std::size_t from_zero = std::min<std::size_t>(bits - kFirst, kSide - 1);
    cell = x > 0 ? kSide + 1 + from_zero : kSide - 1 - from_zero;
  }
  ++cells_[cell];
  if (++count_ >= kHalveAt) halve();
}

void LogHistogram::halve() {
  count_ = 0;
  for (std::uint32_t& c : cells_) {
    c /= 2;
    count_ += c;
  }
}

void LogHistogram::save(StateWriter& writer) const {
  writer.varint(static_cast<std::uint64_t>(std::ranges::count_if(cells_, [](std::uint32_t c) { return c != 0; })));
  std::size_t next = 0;
  for (std::size_t cell = 0; cell < cells_.size(); ++cell) {
    if (cells_[cell] == 0) continue;
    writer.varint(cell - next);
    writer.varint(cells_[cell]);
    next = cell + 1;
  }
}

void LogHistogram::load(StateReader& reader) {
  std::ranges::fill(cells_, 0);
  count_ = 0;
  std::size_t next = 0;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    const std::uint64_t gap = reader.varint();
    const std::uint64_t count = reader.varint();
    if (!reader.ok()) return;
    if (next >= cells_.size() || gap >= cells_.size() - next) return reader.refuse("has a cell beyond the last one");
    if (count == 0 || count >= kHalveAt || count_ + count >= kHalveAt)
      return reader.refuse("has counts that would have been halved");
    next += static_cast<std::size_t>(gap);
    cells_[next++] = static_cast<std::uint32_t>(count);
    count_ += count;
  }
}

double LogHistogram::quantile(double p) const {
  const double rank = p * static_cast<double>(count_);
  double below = 0;
  std::size_t cell = 0;
  for (; cell + 1 < cells_.size(); ++cell) {
    if (cells_[cell] != 0 && below + cells_[cell] >= rank) break;
    below += cells_[cell];
  }
  if (cell == kSide) return 0;
  const double share = std::clamp((rank - below) / std::max(1.0, static_cast<double>(cells_[cell])), 0.0, 1.0);
  if (cell > kSide) {
    const double low = edge(cell - kSide - 1);
    return low + share * (edge(cell - kSide) - low);
  }
  const double high = -edge(kSide - 1 - cell);
  const double low = -edge(kSide - cell);
  return low + share * (high - low);
}

}  // namespace alcedo::features
