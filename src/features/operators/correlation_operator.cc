// Series that are sampled at different moments are aligned by the mean of each bucket; only buckets with both count.
#include "features/operators/correlation_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/hash.h"
#include "core/time.h"
#include "features/operators/pair_correlation.h"
#include "features/record_pool.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

struct Bucket {
  double sum[2];
  std::uint32_t count[2];
};

struct CorrelationState {
  std::uint32_t slab;  // 1 + handle; 0: the entity had neither metric
  std::uint32_t reserved;
};

class CorrelationOperator final : public Operator {
 public:
  explicit CorrelationOperator(const FeatureSpec& spec)
      : spec_(spec), pool_(spec.windows_ms.size() * static_cast<std::size_t>(kBuckets) * sizeof(Bucket)) {
    for (const std::string& metric : spec.metrics) metrics_.push_back(hash64(metric));
  }

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const CorrelationState*>(bytes);
    if (state.slab == 0) return;
    const std::byte* slab = pool_.at(state.slab - 1);
    const std::size_t size = spec_.windows_ms.size() * static_cast<std::size_t>(kBuckets) * sizeof(Bucket);
    for (std::size_t at = 0; at < size; at += 64) __builtin_prefetch(slab + at);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<CorrelationState*>(bytes);
    double x[2] = {kMissing, kMissing};
    read(event, x);
    if (state.slab == 0) {
      for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) out[2 * w + 1] = 0;
      if (std::isnan(x[0]) && std::isnan(x[1])) return;
      new_slab(state);
    }
    for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) {
      auto* buckets = reinterpret_cast<Bucket*>(pool_.at(state.slab - 1)) + w * static_cast<std::size_t>(kBuckets);
      const std::int64_t grain_ms = spec_.windows_ms[w] / kBuckets;
      const std::int64_t before = bucket_of(event.clock_ms, grain_ms);
      const std::int64_t newest = std::max(before, bucket_of(event.time_ms, grain_ms));
      // What leaves the window makes room for the buckets that come.
      for (std::int64_t b = std::max(before + 1, newest - kBuckets + 1); b <= newest; ++b) at(buckets, b) = Bucket{};
      correlate(buckets, newest, out.subspan(2 * w, 2));
      const std::int64_t bucket = bucket_of(event.time_ms, grain_ms);
      if (bucket <= newest - kBuckets) continue;
      for (int side = 0; side < 2; ++side) {
        if (std::isnan(x[side])) continue;
        at(buckets, bucket).sum[side] += x[side];
        ++at(buckets, bucket).count[side];
      }
    }
  }

  // By window: for either metric the occupied slots of the ring, then for each of them, in the slots' order, n count
  // and sum. What left a window was cleared, so a slot tells the bucket.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const CorrelationState*>(bytes);
    if (state.slab == 0) return;
    const auto* const slab = reinterpret_cast<const Bucket*>(pool_.at(state.slab - 1));
    const std::size_t buckets = spec_.windows_ms.size() * static_cast<std::size_t>(kBuckets);
    // As before the first value: no pair, and none to come from what is here.
    if (std::all_of(slab, slab + buckets, [](const Bucket& b) { return b.count[0] == 0 && b.count[1] == 0; })) return;
    for (const Bucket* window = slab; window != slab + buckets; window += kBuckets) {
      for (std::size_t side = 0; side < 2; ++side) {
        std::uint64_t occupied = 0;
        for (std::size_t slot = 0; slot < kBuckets; ++slot)
          occupied |= std::uint64_t{window[slot].count[side] != 0} << slot;
        writer.u64(occupied);
        for (std::uint64_t left = occupied; left != 0; left &= left - 1) {
          const Bucket& bucket = window[std::countr_zero(left)];
          writer.varint(bucket.count[side]);
          writer.f64(bucket.sum[side]);
        }
      }
    }
  }

  // 16 bytes a window are read at least, and 1,440 allocated.
  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<CorrelationState*>(bytes);
    if (reader.left() < spec_.windows_ms.size() * 2 * sizeof(std::uint64_t))
      return reader.refuse("ends before it is complete");
    auto* const slab = new_slab(state);
    bool any = false;
    for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) {
      for (std::size_t side = 0; side < 2; ++side) {
        const std::uint64_t occupied = reader.u64();
        if (occupied >> kBuckets != 0)
          return reader.refuse(fmt::format("has buckets beyond the {} of a window", kBuckets));
        any |= occupied != 0;
        for (std::uint64_t left = occupied; left != 0 && reader.ok(); left &= left - 1) {
          Bucket& bucket =
              slab[w * static_cast<std::size_t>(kBuckets) + static_cast<std::size_t>(std::countr_zero(left))];
          const std::uint64_t count = reader.varint();
          if (count == 0 || count > 0xFFFFFFFFU) return reader.refuse(fmt::format("has a bucket of {} values", count));
          bucket.count[side] = static_cast<std::uint32_t>(count);
          bucket.sum[side] = reader.f64();
        }
      }
    }
    if (!any) reader.refuse("has windows without a value");
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<CorrelationState*>(bytes);
    if (state.slab != 0) pool_.release(state.slab - 1);
    state = CorrelationState{};
  }

  std::size_t reserved_bytes() const override { return pool_.reserved_bytes(); }

 private:
  Bucket* new_slab(CorrelationState& state) {
    state.slab = pool_.allocate() + 1;
    std::byte* const slab = pool_.at(state.slab - 1);
    std::memset(slab, 0, spec_.windows_ms.size() * static_cast<std::size_t>(kBuckets) * sizeof(Bucket));
    return reinterpret_cast<Bucket*>(slab);
  }

  static Bucket& at(Bucket* buckets, std::int64_t bucket) {
    return buckets[static_cast<std::size_t>((bucket % kBuckets + kBuckets) % kBuckets)];
  }

  void read(const EventView& event, double (&x)[2]) const {
    const double value = event.batch.number(event.row, static_cast<std::size_t>(spec_.number));
    if (metrics_.empty()) {
      x[0] = value;
      x[1] = event.batch.number(event.row, static_cast<std::size_t>(spec_.number_2));
      return;
    }
    const std::uint64_t metric = event.batch.key(event.row, static_cast<std::size_t>(spec_.other_key)).hash;
    for (std::size_t side = 0; side < 2; ++side) {
      if (metric == metrics_[side]) x[side] = value;
    }
  }

  // Buckets go from the oldest on, so that the order of the sums is that of time, not of the ring.
  static void correlate(Bucket* buckets, std::int64_t newest, std::span<float> out) {
    const PairCorrelation correlation = correlate_pairs([&](auto&& visit) {
      for (std::int64_t b = newest - kBuckets + 1; b <= newest; ++b) {
        const Bucket& bucket = at(buckets, b);
        if (bucket.count[0] != 0 && bucket.count[1] != 0)
          visit(bucket.sum[0] / bucket.count[0], bucket.sum[1] / bucket.count[1]);
      }
    });
    out[0] = static_cast<float>(correlation.r);
    out[1] = static_cast<float>(correlation.pairs);
  }

  FeatureSpec spec_;
  std::vector<std::uint64_t> metrics_;
  RecordPool pool_;
};

}  // namespace

std::string correlation_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (spec.windows_ms.empty()) return "no windows; expected one or more, such as 1h";
  if (auto mistake = slot_mistake("number", spec.number, layout.numbers.size()); !mistake.empty()) return mistake;
  if (spec.metrics.empty()) return slot_mistake("number", spec.number_2, layout.numbers.size());
  if (spec.metrics.size() != 2) return fmt::format("{} metrics; expected two", spec.metrics.size());
  return slot_mistake("key", spec.other_key, layout.keys.size());
}

std::vector<OperatorColumn> correlation_columns(const FeatureSpec& spec) {
  std::vector<OperatorColumn> columns;
  for (const std::int64_t window_ms : spec.windows_ms) {
    // A tenth: what of a correlation over 60 pairs is noise.
    columns.push_back({"r_" + format_duration(window_ms), 0.1});
    columns.push_back({"pairs_" + format_duration(window_ms), 1});
  }
  return columns;
}

std::size_t correlation_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(CorrelationState); }

std::unique_ptr<Operator> make_correlation_operator(const FeatureSpec& spec) {
  return std::make_unique<CorrelationOperator>(spec);
}

}  // namespace alcedo::features
