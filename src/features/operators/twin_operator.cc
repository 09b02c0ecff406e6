// A member's buckets are cleared when it speaks again, not when the group's clock moves: until then what is older than
// the window, or newer than the member, is passed over.
#include "features/operators/twin_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/hash.h"
#include "core/time.h"
#include "features/counter_rate.h"
#include "features/deviation.h"
#include "features/operators/pair_correlation.h"
#include "features/record_pool.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kMembersMax = 32;
constexpr std::uint32_t kColumnsPerWindow = 6;
// A tenth: what of a correlation over 60 pairs is noise.
constexpr double kStep = 0.1;

enum Column : std::uint8_t { kR, kPairs, kExpected, kSpread, kZ, kHistory };

struct TwinState {
  std::uint32_t slab;  // 1 + handle of the members' handles; 0: the group had none yet
  std::uint32_t known;
};

struct Bucket {
  double sum;
  std::uint64_t count;
};

// Followed by a Window for each of the feature's.
struct Member {
  std::uint64_t hash;
  std::int64_t seen_ms;   // the newest event with the number
  std::int64_t clear_ms;  // the group's clock when it spoke last: its buckets are right up to there
  CounterReading reading;
};

struct Window {
  EwmaState learnt;  // of r
  Bucket buckets[kBuckets];
};

Bucket& at(Window& window, std::int64_t bucket) {
  return window.buckets[static_cast<std::size_t>((bucket % kBuckets + kBuckets) % kBuckets)];
}
const Bucket& at(const Window& window, std::int64_t bucket) { return at(const_cast<Window&>(window), bucket); }

class TwinOperator final : public Operator {
 public:
  explicit TwinOperator(const FeatureSpec& spec)
      : spec_(spec),
        metric_(spec.metrics.empty() ? 0 : hash64(spec.metrics[0])),
        rules_{kStep, spec.min_history,
               spec.accept_ms > 0 ? spec.accept_ms : std::max<std::int64_t>(1, spec.half_life_ms / 8)},
        members_(sizeof(Member) + spec.windows_ms.size() * sizeof(Window)) {}

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const TwinState*>(bytes);
    if (state.slab != 0) __builtin_prefetch(groups_.at(state.slab - 1));
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<TwinState*>(bytes);
    const std::uint64_t hash = event.batch.key(event.row, static_cast<std::size_t>(spec_.member_key)).hash;
    if (hash == 0) return;
    if (metric_ != 0 && event.batch.key(event.row, static_cast<std::size_t>(spec_.other_key)).hash != metric_) return;
    double x = event.batch.number(event.row, static_cast<std::size_t>(spec_.number));
    if (std::isnan(x)) return;
    const std::int64_t now_ms = std::max(event.clock_ms, event.time_ms);
    std::uint32_t place = place_of(state, hash);
    const bool known = place < state.known && member(state, place).hash == hash;
    const bool in_order = !known || event.time_ms >= member(state, place).seen_ms;
    if (known && in_order) pass_time(state, place, event.time_ms);
    for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w)
      judge(state, known ? place : state.known, w, event.time_ms, now_ms, in_order, out.subspan(w * kColumnsPerWindow));
    if (!known && !add(state, hash, event.time_ms, now_ms, place)) return;
    Member& own = member(state, place);
    if ((event.batch.header(event.row).flags & kEventCounter) != 0) x = counter_rate(own.reading, x, event.time_ms);
    for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) {
      const std::int64_t grain_ms = spec_.windows_ms[w] / kBuckets;
      const std::int64_t newest = bucket_of(now_ms, grain_ms);
      const std::int64_t right = bucket_of(own.clear_ms, grain_ms);
      for (std::int64_t b = std::max(right + 1, newest - kBuckets + 1); b <= newest; ++b)
        at(window(own, w), b) = Bucket{};
      const std::int64_t bucket = bucket_of(event.time_ms, grain_ms);
      if (std::isnan(x) || bucket <= newest - kBuckets) continue;
      at(window(own, w), bucket).sum += x;
      ++at(window(own, w), bucket).count;
    }
    own.clear_ms = now_ms;
    own.seen_ms = std::max(own.seen_ms, event.time_ms);
  }

  // A member, by ascending hash: hash, the two times, a counter's reading (u8 known, then f64 and time), and for each
  // window u8 (bit 0: r was learnt, 1: it deviates), what was learnt, the occupied slots of the ring, their sums and
  // counts.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const TwinState*>(bytes);
    for (std::uint32_t i = 0; i < state.known; ++i) {
      const Member& one = member(state, i);
      writer.u64(one.hash);
      writer.i64(one.seen_ms);
      writer.i64(one.clear_ms);
      writer.u8(one.reading.known == 0 ? 0 : 1);
      if (one.reading.known != 0) {
        writer.f64(one.reading.value);
        writer.i64(one.reading.time_ms);
      }
      for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) save_window(window(one, w), writer);
    }
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    auto& state = *reinterpret_cast<TwinState*>(bytes);
    std::uint64_t before = 0;
    while (reader.left() != 0) {
      if (state.known == kMembersMax) return reader.refuse(fmt::format("has more than {} members", kMembersMax));
      const std::uint64_t hash = reader.u64();
      const std::int64_t seen_ms = reader.time_ms();
      const std::int64_t clear_ms = reader.time_ms();
      CounterReading reading{0, 0, reader.u8()};
      if (reading.known > 1) return reader.refuse("has a reading that is neither known nor unknown");
      if (reading.known == 1) {
        reading.value = reader.f64();
        reading.time_ms = reader.time_ms();
      }
      if (!reader.ok()) return;
      if (hash <= before) return reader.refuse("has members that are not in ascending order");
      before = hash;
      insert(state, state.known, {hash, seen_ms, clear_ms, reading});
      for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) {
        load_window(window(member(state, state.known - 1), w), reader);
        if (!reader.ok()) return;
      }
    }
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<TwinState*>(bytes);
    for (std::uint32_t i = 0; i < state.known; ++i) release_member(state, i);
    if (state.slab != 0) groups_.release(state.slab - 1);
    state = TwinState{};
  }

  std::size_t reserved_bytes() const override {
    return groups_.reserved_bytes() + members_.reserved_bytes() + pending_.reserved_bytes();
  }

 private:
  std::uint32_t* handles(const TwinState& state) const {
    return reinterpret_cast<std::uint32_t*>(groups_.at(state.slab - 1));
  }
  Member& member(const TwinState& state, std::uint32_t place) const {
    return *reinterpret_cast<Member*>(members_.at(handles(state)[place]));
  }
  static Window& window(Member& member, std::size_t w) { return reinterpret_cast<Window*>(&member + 1)[w]; }
  static const Window& window(const Member& member, std::size_t w) {
    return reinterpret_cast<const Window*>(&member + 1)[w];
  }

  // Of the first member whose hash is not below.
  std::uint32_t place_of(const TwinState& state, std::uint64_t hash) const {
    std::uint32_t place = 0;
    while (place < state.known && member(state, place).hash < hash) ++place;
    return place;
  }

  // What the member learnt fades up to its event.
  void pass_time(const TwinState& state, std::uint32_t place, std::int64_t time_ms) {
    Member& own = member(state, place);
    if (time_ms == own.seen_ms) return;
    const double factor =
        std::exp2(-static_cast<double>(time_ms - own.seen_ms) / static_cast<double>(spec_.half_life_ms));
    for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) decay_ewma(window(own, w).learnt, factor, pending_);
  }

  // `own`: the member's place, or the number of members if it is none of them yet.
  void judge(const TwinState& state, std::uint32_t own, std::size_t w, std::int64_t time_ms, std::int64_t now_ms,
             bool in_order, std::span<float> out) {
    out[kPairs] = 0;
    out[kHistory] = 0;
    if (own == state.known) return;
    const std::int64_t grain_ms = spec_.windows_ms[w] / kBuckets;
    const std::int64_t newest = bucket_of(now_ms, grain_ms);
    // Bucket by bucket, the oldest first: the members' means in the order of their hashes, so that sums have one order.
    std::array<double, kBuckets> sums{};
    std::array<std::uint32_t, kBuckets> others{};
    std::array<double, kBuckets> means{};
    const auto each_bucket = [&](const Member& one, auto&& visit) {
      const std::int64_t last = std::min(newest, bucket_of(one.clear_ms, grain_ms));
      for (std::int64_t b = newest - kBuckets + 1; b <= last; ++b) {
        const Bucket& bucket = at(window(one, w), b);
        if (bucket.count != 0)
          visit(static_cast<std::size_t>(b - newest + kBuckets - 1), bucket.sum / static_cast<double>(bucket.count));
      }
    };
    for (std::uint32_t i = 0; i < state.known; ++i) {
      if (i == own) continue;
      each_bucket(member(state, i), [&](std::size_t b, double mean) {
        sums[b] += mean;
        ++others[b];
      });
    }
    std::array<bool, kBuckets> has{};
    each_bucket(member(state, own), [&](std::size_t b, double mean) {
      means[b] = mean;
      has[b] = others[b] != 0;
    });
    const PairCorrelation correlation = correlate_pairs([&](auto&& visit) {
      for (std::size_t b = 0; b < static_cast<std::size_t>(kBuckets); ++b) {
        if (has[b]) visit(means[b], sums[b] / others[b]);
      }
    });
    out[kR] = static_cast<float>(correlation.r);
    out[kPairs] = static_cast<float>(correlation.pairs);
    EwmaState& learnt = window(member(state, own), w).learnt;
    const auto r = static_cast<double>(out[kR]);
    const DeviationReading reading = read_ewma(learnt, r, kStep, spec_.min_history);
    out[kExpected] = static_cast<float>(reading.expected);
    out[kSpread] = static_cast<float>(reading.spread);
    out[kZ] = static_cast<float>(reading.z);
    out[kHistory] = static_cast<float>(learnt.history);
    if (in_order && !std::isnan(r)) learn_ewma(learnt, r, reading.z, time_ms, rules_, pending_);
  }

  // False: the group is full, and the newcomer is itself the one silent longest.
  bool add(TwinState& state, std::uint64_t hash, std::int64_t time_ms, std::int64_t now_ms, std::uint32_t& place) {
    if (state.known == kMembersMax) {
      std::uint32_t silent = 0;
      const auto age = [&](std::uint32_t i) { return std::pair(member(state, i).seen_ms, member(state, i).hash); };
      for (std::uint32_t i = 1; i < state.known; ++i) silent = age(i) < age(silent) ? i : silent;
      if (std::pair(time_ms, hash) < age(silent)) return false;
      release_member(state, silent);
      std::uint32_t* const all = handles(state);
      std::copy(all + silent + 1, all + state.known, all + silent);
      --state.known;
      if (silent < place) --place;
    }
    insert(state, place, {hash, time_ms, now_ms, {}});
    return true;
  }

  void insert(TwinState& state, std::uint32_t place, const Member& newcomer) {
    if (state.slab == 0) state.slab = groups_.allocate() + 1;
    const std::uint32_t handle = members_.allocate();
    std::byte* const record = members_.at(handle);
    std::memset(record, 0, sizeof(Member) + spec_.windows_ms.size() * sizeof(Window));
    std::memcpy(record, &newcomer, sizeof newcomer);
    std::uint32_t* const all = handles(state);
    std::copy_backward(all + place, all + state.known, all + state.known + 1);
    all[place] = handle;
    ++state.known;
  }

  void release_member(const TwinState& state, std::uint32_t place) {
    for (std::size_t w = 0; w < spec_.windows_ms.size(); ++w) {
      const std::uint32_t level = window(member(state, place), w).learnt.pending;
      if (level != 0) pending_.release(level - 1);
    }
    members_.release(handles(state)[place]);
  }

  void save_window(const Window& window, StateWriter& writer) const {
    const EwmaState& learnt = window.learnt;
    const bool knows = learnt.history != 0 || learnt.weight != 0;
    writer.u8(static_cast<std::uint8_t>((knows ? 1U : 0U) | (learnt.pending != 0 ? 2U : 0U)));
    if (knows) {
      writer.f64(learnt.weight);
      writer.f64(learnt.mean);
      writer.f64(learnt.squares);
      writer.u32(learnt.history);
    }
    if (learnt.pending != 0) {
      PendingLevel level;
      std::memcpy(&level, pending_.at(learnt.pending - 1), sizeof level);
      writer.f64(level.mean);
      writer.f64(level.squares);
      writer.i64(level.since_ms);
      writer.u32(level.count);
    }
    std::uint64_t occupied = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(kBuckets); ++i)
      occupied |= std::uint64_t{window.buckets[i].count != 0 ? 1U : 0U} << i;
    writer.u64(occupied);
    for (const Bucket& bucket : window.buckets) {
      if (bucket.count == 0) continue;
      writer.f64(bucket.sum);
      writer.varint(bucket.count);
    }
  }

  void load_window(Window& window, StateReader& reader) {
    EwmaState& learnt = window.learnt;
    const std::uint8_t has = reader.u8();
    if (has > 3) return reader.refuse("says what it learnt in a way that is not known");
    if ((has & 1U) != 0) {
      learnt.weight = reader.f64();
      learnt.mean = reader.f64();
      learnt.squares = reader.f64();
      learnt.history = reader.u32();
    }
    if ((has & 2U) != 0) {
      PendingLevel level{};
      level.mean = reader.f64();
      level.squares = reader.f64();
      level.since_ms = reader.time_ms();
      level.count = reader.u32();
      if (!reader.ok()) return;
      learnt.pending = pending_.allocate() + 1;
      std::memcpy(pending_.at(learnt.pending - 1), &level, sizeof level);
    }
    const std::uint64_t occupied = reader.u64();
    if (occupied >> kBuckets != 0) return reader.refuse("has buckets beside its 60");
    for (std::size_t i = 0; i < static_cast<std::size_t>(kBuckets); ++i) {
      if ((occupied >> i & 1U) == 0) continue;
      window.buckets[i].sum = reader.f64();
      window.buckets[i].count = reader.varint();
      if (reader.ok() && window.buckets[i].count == 0) return reader.refuse("has a bucket of 0 values");
    }
  }

  FeatureSpec spec_;
  std::uint64_t metric_;  // 0: every event with the number
  EwmaRules rules_;
  RecordPool groups_{kMembersMax * sizeof(std::uint32_t)};
  RecordPool members_;
  RecordPool pending_{sizeof(PendingLevel)};
};

}  // namespace

std::string twin_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (spec.windows_ms.empty()) return "no windows; expected one or more, such as 1h";
  if (auto mistake = slot_mistake("number", spec.number, layout.numbers.size()); !mistake.empty()) return mistake;
  if (auto mistake = slot_mistake("key", spec.member_key, layout.keys.size()); !mistake.empty()) return mistake;
  if (spec.member_key == spec.key)
    return fmt::format("key '{}' is both the group and its member: no member would have a twin",
                       layout.keys[static_cast<std::size_t>(spec.key)]);
  if (spec.metrics.empty()) return {};
  if (spec.metrics.size() != 1) return fmt::format("{} metrics; expected one", spec.metrics.size());
  return slot_mistake("key", spec.other_key, layout.keys.size());
}

std::vector<OperatorColumn> twin_columns(const FeatureSpec& spec) {
  std::vector<OperatorColumn> columns;
  for (const std::int64_t window_ms : spec.windows_ms) {
    const std::string r = "r_" + format_duration(window_ms);
    columns.insert(columns.end(), {{r, kStep},
                                   {"pairs_" + format_duration(window_ms), 1},
                                   {r + ".expected", 0},
                                   {r + ".spread", 0},
                                   {r + ".z", 0},
                                   {r + ".history", 1}});
  }
  return columns;
}

std::size_t twin_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(TwinState); }

std::unique_ptr<Operator> make_twin_operator(const FeatureSpec& spec) { return std::make_unique<TwinOperator>(spec); }

}  // namespace alcedo::features
