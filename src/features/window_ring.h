// One window of one number of one entity: 60 aligned buckets, of which only the occupied ones take memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "features/record_pool.h"

namespace alcedo::features {

inline constexpr std::int64_t kBuckets = 60;

/// The aligned bucket that a time falls into; rounds down before 1970 too.
constexpr std::int64_t bucket_of(std::int64_t time_ms, std::int64_t grain_ms) {
  const std::int64_t quotient = time_ms / grain_ms;
  return quotient - (time_ms % grain_ms < 0 ? 1 : 0);
}

/// bucket_of() for one length of buckets, without the division that takes a processor as long as twenty additions.
class BucketLength {
 public:
  explicit BucketLength(std::int64_t grain_ms) : grain_ms_(grain_ms), inverse_(1.0 / static_cast<double>(grain_ms)) {}

  std::int64_t ms() const { return grain_ms_; }
  std::int64_t bucket_of(std::int64_t time_ms) const {
    // Within 35,000 years of 1970 the product is off by less than a half, which the remainder tells.
    constexpr std::int64_t kNear = std::int64_t{1} << 50;
    if (time_ms <= -kNear || time_ms >= kNear) return features::bucket_of(time_ms, grain_ms_);
    auto bucket = static_cast<std::int64_t>(static_cast<double>(time_ms) * inverse_);
    std::int64_t rest = time_ms - bucket * grain_ms_;
    for (; rest < 0; rest += grain_ms_) --bucket;
    for (; rest >= grain_ms_; rest -= grain_ms_) ++bucket;
    return bucket;
  }

 private:
  std::int64_t grain_ms_;
  double inverse_;
};

/// What a bucket, and the whole window, knows of its values. Three kinds, so that a plan pays only for what it reads.
/// `spare` is the slab's handle in a window's totals and unused in a bucket.
struct CountTotals {
  std::uint32_t count = 0;
};
struct SumTotals {
  double sum = 0;
  std::uint32_t count = 0;
  std::uint32_t spare = 0;
};
struct MomentTotals {
  double sum = 0;      // of value - shift
  double squares = 0;  // of (value - shift)^2
  std::uint32_t count = 0;
  float min = 0;
  float max = 0;
  std::uint32_t spare = 0;
};
static_assert(sizeof(CountTotals) == 4 && sizeof(SumTotals) == 16 && sizeof(MomentTotals) == 32);

inline void assign(CountTotals& t, double, double) { t.count = 1; }
inline void assign(SumTotals& t, double x, double) {
  t.sum = x;
  t.count = 1;
}
inline void assign(MomentTotals& t, double x, double shift) {
  const double d = x - shift;
  t.sum = d;
  t.squares = d * d;
  t.count = 1;
  t.min = t.max = static_cast<float>(x);
}
inline void add(CountTotals& t, double, double) { ++t.count; }
inline void add(SumTotals& t, double x, double) {
  t.sum += x;
  ++t.count;
}
inline void add(MomentTotals& t, double x, double shift) {
  const double d = x - shift;
  t.sum += d;
  t.squares += d * d;
  ++t.count;
  t.min = std::min(t.min, static_cast<float>(x));
  t.max = std::max(t.max, static_cast<float>(x));
}
inline void merge(CountTotals& t, const CountTotals& b) { t.count += b.count; }
inline void merge(SumTotals& t, const SumTotals& b) {
  t.sum += b.sum;
  t.count += b.count;
}
inline void merge(MomentTotals& t, const MomentTotals& b) {
  t.sum += b.sum;
  t.squares += b.squares;
  t.count += b.count;
  t.min = std::min(t.min, b.min);
  t.max = std::max(t.max, b.max);
}

// What leaves is subtracted. The answer says whether the rest must be summed anew: an extreme left, or what left was so
// much larger than what stays that its rounding errors would stay too.
inline constexpr double kOutweighs = 1024;
inline bool subtract(CountTotals& t, const CountTotals& b) {
  t.count -= b.count;
  return false;
}
inline bool subtract(SumTotals& t, const SumTotals& b) {
  t.sum -= b.sum;
  t.count -= b.count;
  return std::fabs(b.sum) > kOutweighs * std::fabs(t.sum);
}
inline bool subtract(MomentTotals& t, const MomentTotals& b) {
  t.sum -= b.sum;
  t.squares -= b.squares;
  t.count -= b.count;
  return b.min <= t.min || b.max >= t.max;
}

template <typename Totals>
struct Ring {
  std::uint64_t occupied = 0;  // bit (bucket & 63)
  Totals totals;
  std::uint32_t& slab() { return totals.spare; }
  std::uint32_t slab() const { return totals.spare; }
};
template <>
struct Ring<CountTotals> {
  std::uint64_t occupied = 0;
  CountTotals totals;
  std::uint32_t spare = 0;
  std::uint32_t& slab() { return spare; }
  std::uint32_t slab() const { return spare; }
};
static_assert(sizeof(Ring<CountTotals>) == 16 && sizeof(Ring<SumTotals>) == 24 && sizeof(Ring<MomentTotals>) == 40);

/// The buckets of all rings of a stage. A ring with one occupied bucket needs none here: its totals are the bucket.
/// From two on they stand in a slab of 2, 4, 8, 16 or 32 in the order of their slots, found by counting bits; at more
/// than 32 the ring is hot and gets all 64 slots.
///
/// Source   measured prototype: docs/features.md.
/// Repeats  Content depends on the ring's own events only.
/// Cost     add(): constant. advance(): the buckets that leave, and the occupied ones where an extreme leaves.
class RingStore {
 public:
  /// Forgets the buckets that leave the window when its newest bucket moves from `from` to `to` > `from`.
  template <typename Totals>
  void advance(Ring<Totals>& ring, std::int64_t from, std::int64_t to) {
    if (ring.occupied == 0) return;
    std::uint64_t leaving = ring.occupied;
    if (to - from < kBuckets) {
      const std::uint64_t span = (std::uint64_t{1} << (to - from)) - 1;
      leaving = std::rotl(span, static_cast<int>((from - (kBuckets - 1)) & 63)) & ring.occupied;
      if (leaving == 0) return;
    }
    const std::uint64_t staying = ring.occupied & ~leaving;
    if (staying == 0) {
      if (ring.slab() != 0) release(ring);
      ring.totals = Totals{};
      ring.slab() = 0;
      ring.occupied = 0;
      return;
    }
    if (std::has_single_bit(staying)) {
      const Totals last = *bucket(ring, staying);
      release(ring);
      ring.totals = last;
      ring.slab() = 0;
      ring.occupied = staying;
      return;
    }
    bool again = false;
    for (std::uint64_t left = leaving; left != 0; left &= left - 1) {
      again |= subtract(ring.totals, *bucket(ring, left & -left));
    }
    compact(ring, staying);
    if (again) sum_again(ring);
  }

  /// Counts `x` in `bucket_id`, which must lie within the 60 buckets that end at the ring's newest.
  template <typename Totals>
  void add_value(Ring<Totals>& ring, std::int64_t bucket_id, double x, double shift) {
    const std::uint64_t bit = std::uint64_t{1} << (bucket_id & 63);
    if (ring.occupied == 0) {
      assign(ring.totals, x, shift);
      ring.occupied = bit;
      return;
    }
    if (ring.occupied != bit) {
      if ((ring.occupied & bit) != 0) {
        add(*bucket(ring, bit), x, shift);
      } else {
        assign(*insert(ring, bit), x, shift);
      }
    }
    add(ring.totals, x, shift);
  }

  /// Starts the cache misses of advance(ring, from, to) and of an event in bucket `to` >= `from`.
  template <typename Totals>
  void prefetch(const Ring<Totals>& ring, std::int64_t from, std::int64_t to) const {
    if (ring.slab() == 0 || to - from >= kBuckets) return;
    const Totals* const buckets = slab_of(ring);
    const auto touch = [](const Totals* bucket) { __builtin_prefetch(bucket, 1); };
    if (size_class(ring) <= kReadWholeLog2) {
      const std::size_t bytes = sizeof(Totals) << size_class(ring);
      for (std::size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch(reinterpret_cast<const std::byte*>(buckets) + at, 1);
      return;
    }
    touch(buckets + rank(ring, std::uint64_t{1} << (to & 63)));
    // What leaves first is what is oldest.
    const std::uint64_t oldest = first_from(ring.occupied, (from - (kBuckets - 1)) & 63);
    touch(buckets + rank(ring, oldest));
  }

  /// Calls `f(totals)` for each occupied bucket, in the order of the bits of `occupied`.
  template <typename Totals, typename F>
  void for_each_bucket(const Ring<Totals>& ring, F f) const {
    if (ring.slab() == 0) {
      if (ring.occupied != 0) f(ring.totals);
      return;
    }
    for (std::uint64_t left = ring.occupied; left != 0; left &= left - 1) f(*bucket(ring, left & -left));
  }

  /// Fills an empty ring: a bucket for each bit of `occupied`, in the order of the bits, and the totals of two or more.
  template <typename Totals>
  void restore(Ring<Totals>& ring, std::uint64_t occupied, const Totals* buckets, const Totals& totals) {
    ring.occupied = occupied;
    const int count = std::popcount(occupied);
    ring.totals = count == 1 ? buckets[0] : totals;
    ring.slab() = 0;
    if (count < 2) return;
    const int needed = count > 32 ? kDense : static_cast<int>(std::bit_width(static_cast<unsigned>(count - 1)));
    ring.slab() = allocate<Totals>(needed);
    for (std::uint64_t left = occupied; left != 0; left &= left - 1) *bucket(ring, left & -left) = *buckets++;
  }

  /// Empties the ring and gives its memory back.
  template <typename Totals>
  void clear(Ring<Totals>& ring) {
    if (ring.slab() != 0) release(ring);
    ring = Ring<Totals>{};
  }

  std::size_t reserved_bytes() const {
    std::size_t bytes = 0;
    for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  // A slab's handle: size class from 1 (two buckets) to 6 (all 64 slots) above, place in the pool of its byte size
  // below. 0: none.
  static constexpr int kClassShift = 29;
  static constexpr std::uint32_t kPlaceMask = (1U << kClassShift) - 1;
  static constexpr int kDense = 6;
  static constexpr int kSmallestBytesLog2 = 3;
  static constexpr int kReadWholeLog2 = 3;  // of slabs of up to 8 buckets most lines are touched

  /// The first bit of `bits` (not 0) from `place` on, around.
  static std::uint64_t first_from(std::uint64_t bits, std::int64_t place) {
    const std::uint64_t behind = bits & (~std::uint64_t{0} << place);
    const std::uint64_t from = behind != 0 ? behind : bits;
    return from & -from;
  }

  template <typename Totals>
  RecordPool& pool(int size_class) {
    return pools_[static_cast<std::size_t>(std::countr_zero(sizeof(Totals)) + size_class - kSmallestBytesLog2)];
  }
  template <typename Totals>
  const RecordPool& pool(int size_class) const {
    return pools_[static_cast<std::size_t>(std::countr_zero(sizeof(Totals)) + size_class - kSmallestBytesLog2)];
  }
  template <typename Totals>
  static int size_class(const Ring<Totals>& ring) {
    return static_cast<int>(ring.slab() >> kClassShift);
  }
  template <typename Totals>
  Totals* slab_at(std::uint32_t slab) const {
    const int at_class = static_cast<int>(slab >> kClassShift);
    return reinterpret_cast<Totals*>(pool<Totals>(at_class).at(slab & kPlaceMask));
  }
  template <typename Totals>
  Totals* slab_of(const Ring<Totals>& ring) const {
    return slab_at<Totals>(ring.slab());
  }
  template <typename Totals>
  std::uint32_t allocate(int size_class) {
    return (static_cast<std::uint32_t>(size_class) << kClassShift) | pool<Totals>(size_class).allocate();
  }
  template <typename Totals>
  void release(Ring<Totals>& ring) {
    pool<Totals>(size_class(ring)).release(ring.slab() & kPlaceMask);
  }

  template <typename Totals>
  static int rank(const Ring<Totals>& ring, std::uint64_t bit) {
    return size_class(ring) == kDense ? std::countr_zero(bit) : std::popcount(ring.occupied & (bit - 1));
  }
  /// The bucket of an occupied bit; the ring has a slab.
  template <typename Totals>
  Totals* bucket(const Ring<Totals>& ring, std::uint64_t bit) const {
    return slab_of(ring) + rank(ring, bit);
  }

  /// Room for a bucket that is not occupied yet, in a ring that has at least one.
  template <typename Totals>
  Totals* insert(Ring<Totals>& ring, std::uint64_t bit) {
    const int occupied = std::popcount(ring.occupied);
    const int at = std::popcount(ring.occupied & (bit - 1));
    if (occupied == 1) {
      const std::uint32_t slab = allocate<Totals>(1);
      slab_at<Totals>(slab)[1 - at] = ring.totals;
      ring.slab() = slab;
    } else if (const int from = size_class(ring); from < kDense && occupied == 1 << from) {
      const std::uint32_t slab = allocate<Totals>(from + 1);
      const Totals* old = slab_of(ring);
      Totals* larger = slab_at<Totals>(slab);
      if (from + 1 == kDense) {
        for (std::uint64_t left = ring.occupied; left != 0; left &= left - 1) larger[std::countr_zero(left)] = *old++;
      } else {
        std::copy(old, old + occupied, larger);
      }
      release(ring);
      ring.slab() = slab;
    }
    ring.occupied |= bit;
    Totals* buckets = slab_of(ring);
    if (size_class(ring) == kDense) return buckets + std::countr_zero(bit);
    if (occupied > 1) std::copy_backward(buckets + at, buckets + occupied, buckets + occupied + 1);
    return buckets + at;
  }

  /// Keeps only the buckets of `staying` (two or more), in a smaller slab where they fill a quarter or less.
  template <typename Totals>
  void compact(Ring<Totals>& ring, std::uint64_t staying) {
    const int from = size_class(ring);
    const int count = std::popcount(staying);
    Totals* buckets = slab_of(ring);
    if (from == kDense) {
      ring.occupied = staying;
      if (count > 16) return;
      const std::uint32_t slab = allocate<Totals>(5);
      Totals* to = slab_at<Totals>(slab);
      buckets = slab_of(ring);
      for (std::uint64_t left = staying; left != 0; left &= left - 1) *to++ = buckets[std::countr_zero(left)];
      release(ring);
      ring.slab() = slab;
      return;
    }
    int to = 0;
    int at = 0;
    for (std::uint64_t left = ring.occupied; left != 0; left &= left - 1, ++at) {
      if ((staying & left & -left) == 0) continue;
      if (to != at) buckets[to] = buckets[at];
      ++to;
    }
    ring.occupied = staying;
    if (from == 1 || count > (1 << from) / 4) return;
    const int smaller = static_cast<int>(std::bit_width(static_cast<unsigned>(count)));
    if (smaller >= from) return;
    const std::uint32_t slab = allocate<Totals>(smaller);
    buckets = slab_of(ring);
    std::copy(buckets, buckets + count, slab_at<Totals>(slab));
    release(ring);
    ring.slab() = slab;
  }

  template <typename Totals>
  void sum_again(Ring<Totals>& ring) {
    std::uint64_t left = ring.occupied;
    Totals totals = *bucket(ring, left & -left);
    for (left &= left - 1; left != 0; left &= left - 1) merge(totals, *bucket(ring, left & -left));
    const std::uint32_t slab = ring.slab();
    ring.totals = totals;
    ring.slab() = slab;
  }

  std::array<RecordPool, 9> pools_{RecordPool(8),   RecordPool(16),  RecordPool(32),   RecordPool(64),  RecordPool(128),
                                   RecordPool(256), RecordPool(512), RecordPool(1024), RecordPool(2048)};
};

}  // namespace alcedo::features
