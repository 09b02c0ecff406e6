// Members stand sorted by their numbers, so that median, MAD and quartiles of all but one are read, not computed; the
// order is a function of what is known, so equal state has equal bytes.
#include "features/operators/peer_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "features/counter_rate.h"
#include "features/deviation.h"
#include "features/record_pool.h"

namespace alcedo::features {
namespace {

// Makes the MAD of a normal distribution its standard deviation: 1 / quantile(3/4).
constexpr double kMadToSigma = 1.4826;
constexpr std::uint32_t kMembersMax = 64;
constexpr std::uint32_t kFirstMembers = 4;
constexpr std::uint32_t kSlabClasses = 5;

enum Column : std::uint8_t { kSeen, kExpected, kSpread, kZ, kMembers, kIqrSpread, kIqrZ };

struct PeerState {
  std::uint32_t handle;  // of the slab, in the pool of its class
  std::uint16_t known;
  std::uint8_t slab_class;  // 0: no slab; else 4 << (class - 1) members
  std::uint8_t reserved;
};

struct Member {
  std::uint64_t hash;
  double level;          // NaN: a counter that was read once has no rate yet
  std::int64_t seen_ms;  // the newest event with the number
  double reading;        // of a counter at seen_ms; NaN: the newest number was no counter's
};

std::uint32_t capacity(std::uint8_t slab_class) { return slab_class == 0 ? 0 : kFirstMembers << (slab_class - 1); }

// Without a level last, ties by hash.
bool before(const Member& a, const Member& b) {
  const bool a_missing = std::isnan(a.level);
  const bool b_missing = std::isnan(b.level);
  if (a_missing != b_missing) return b_missing;
  if (!a_missing && a.level != b.level) return a.level < b.level;
  return a.hash < b.hash;
}

// The levels of a group without one of its members, ascending.
class Others {
 public:
  Others(const Member* members, std::uint32_t with_level, std::uint32_t without)
      : members_(members), size_(with_level - (without < with_level ? 1 : 0)), without_(without) {}

  std::uint32_t size() const { return size_; }
  double operator[](std::uint32_t i) const { return members_[i + (i >= without_ ? 1 : 0)].level; }
  double quantile(double p) const {
    const double place = p * (size_ - 1);
    const auto below = static_cast<std::uint32_t>(place);
    const std::uint32_t above = std::min(below + 1, size_ - 1);
    const Others& x = *this;
    return x[below] + (place - below) * (x[above] - x[below]);
  }
  double median() const {
    const Others& x = *this;
    return size_ % 2 == 0 ? 0.5 * (x[size_ / 2 - 1] + x[size_ / 2]) : x[size_ / 2];
  }
  // The median distance from the median. From the middle outwards the distances ascend on either side: they are merged
  // up to their own middle.
  double mad(double median) const {
    const Others& x = *this;
    const std::uint32_t middle = size_ / 2;
    std::uint32_t below = middle;  // one above the next
    std::uint32_t above = middle;
    double nearer = 0;
    double distance = 0;
    for (std::uint32_t taken = 0; taken <= middle; ++taken) {
      nearer = distance;
      const double down = below > 0 ? median - x[below - 1] : std::numeric_limits<double>::infinity();
      const double up = above < size_ ? x[above] - median : std::numeric_limits<double>::infinity();
      distance = std::min(down, up);
      if (down < up) {
        --below;
      } else {
        ++above;
      }
    }
    return size_ % 2 == 0 ? 0.5 * (nearer + distance) : distance;
  }

 private:
  const Member* members_;
  std::uint32_t size_;
  std::uint32_t without_;  // its place; at or behind the last level: none is left out
};

class PeerOperator final : public Operator {
 public:
  explicit PeerOperator(const FeatureSpec& spec)
      : number_(static_cast<std::uint32_t>(spec.number)),
        member_key_(static_cast<std::uint32_t>(spec.member_key)),
        min_history_(spec.min_history) {}

  void prefetch(const std::byte* bytes, const EventBatch& /*batch*/, std::uint32_t /*row*/) const override {
    const auto& state = *reinterpret_cast<const PeerState*>(bytes);
    if (state.slab_class == 0) return;
    const std::byte* slab = pools_[state.slab_class - 1].at(state.handle);
    for (std::uint32_t at = 0; at < state.known * sizeof(Member); at += 64) __builtin_prefetch(slab + at, 1);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<PeerState*>(bytes);
    const std::uint64_t hash = event.batch.key(event.row, member_key_).hash;
    if (hash == 0) return;
    const double raw = event.batch.number(event.row, number_);
    const bool counter = (event.batch.header(event.row).flags & kEventCounter) != 0;
    Member* const members = members_of(state);
    std::uint32_t place = 0;
    while (place < state.known && members[place].hash != hash) ++place;
    const bool known = place < state.known;
    const Member last = known ? members[place] : Member{hash, kMissing, event.time_ms, kMissing};
    double x = raw;
    if (counter) {
      CounterReading reading{last.reading, last.seen_ms, std::isnan(last.reading) ? 0U : 1U};
      x = counter_rate(reading, raw, event.time_ms);
    }
    judge(state, place, x, event.step, out);
    if (std::isnan(raw) || event.time_ms < last.seen_ms) return;
    Member newest{hash, std::isnan(x) ? last.level : x, event.time_ms, counter ? raw : kMissing};
    if (known) {
      move(state, place, newest);
    } else {
      add(state, newest);
    }
  }

  // A member: hash, level, time of its newest number, a counter's reading; in the order in which they stand.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const PeerState*>(bytes);
    const Member* const members = members_of(state);
    for (std::uint32_t i = 0; i < state.known; ++i) {
      writer.u64(members[i].hash);
      writer.f64(members[i].level);
      writer.i64(members[i].seen_ms);
      writer.f64(members[i].reading);
    }
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    auto& state = *reinterpret_cast<PeerState*>(bytes);
    const std::size_t known = reader.left() / sizeof(Member);
    if (known > kMembersMax) return reader.refuse(fmt::format("has {} members; at most {} fit", known, kMembersMax));
    if (known == 0) return;
    while (capacity(state.slab_class) < known) ++state.slab_class;
    state.handle = pools_[state.slab_class - 1].allocate();
    Member* const members = members_of(state);
    for (std::uint32_t i = 0; i < known; ++i) {
      members[i].hash = reader.u64();
      members[i].level = reader.f64();
      members[i].seen_ms = reader.time_ms();
      members[i].reading = reader.f64();
      if (i > 0 && !before(members[i - 1], members[i])) return reader.refuse("has members that are not in order");
      const auto same = [&](const Member& m) { return m.hash == members[i].hash; };
      if (std::any_of(members, members + i, same)) return reader.refuse("has a member twice");
    }
    state.known = static_cast<std::uint16_t>(known);
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<PeerState*>(bytes);
    if (state.slab_class != 0) pools_[state.slab_class - 1].release(state.handle);
    state = PeerState{};
  }

  std::size_t reserved_bytes() const override {
    std::size_t bytes = 0;
    for (const RecordPool& pool : pools_) bytes += pool.reserved_bytes();
    return bytes;
  }

 private:
  Member* members_of(const PeerState& state) const {
    if (state.slab_class == 0) return nullptr;
    return reinterpret_cast<Member*>(pools_[state.slab_class - 1].at(state.handle));
  }

  void judge(const PeerState& state, std::uint32_t own, double x, double step, std::span<float> out) const {
    const Member* const members = members_of(state);
    std::uint32_t with_level = state.known;
    while (with_level > 0 && std::isnan(members[with_level - 1].level)) --with_level;
    const Others others(members, with_level, own);
    out[kSeen] = static_cast<float>(x);
    out[kMembers] = static_cast<float>(others.size());
    if (others.size() == 0) return;
    const double median = others.median();
    const DeviationReading about = read_level(median, kMadToSigma * others.mad(median), x, step);
    const DeviationReading beyond = read_quartiles(others.quantile(0.25), median, others.quantile(0.75), x, step);
    const bool enough = others.size() >= min_history_;
    out[kExpected] = static_cast<float>(median);
    out[kSpread] = static_cast<float>(about.spread);
    out[kZ] = static_cast<float>(enough ? about.z : kMissing);
    out[kIqrSpread] = static_cast<float>(beyond.spread);
    out[kIqrZ] = static_cast<float>(enough ? beyond.z : kMissing);
  }

  // A known member has a new level: it walks to its place.
  void move(PeerState& state, std::uint32_t place, const Member& member) {
    Member* const members = members_of(state);
    for (; place > 0 && before(member, members[place - 1]); --place) members[place] = members[place - 1];
    for (; place + 1 < state.known && before(members[place + 1], member); ++place) members[place] = members[place + 1];
    members[place] = member;
  }

  void add(PeerState& state, const Member& member) {
    if (state.known == kMembersMax) {
      Member* const members = members_of(state);
      const auto older = [](const Member& a, const Member& b) {
        return a.seen_ms != b.seen_ms ? a.seen_ms < b.seen_ms : a.hash < b.hash;
      };
      Member* const silent = std::min_element(members, members + kMembersMax, older);
      if (older(member, *silent)) return;  // it is itself the one silent longest
      return move(state, static_cast<std::uint32_t>(silent - members), member);
    }
    if (state.known == capacity(state.slab_class)) {
      PeerState larger = state;
      ++larger.slab_class;
      larger.handle = pools_[larger.slab_class - 1].allocate();
      if (state.slab_class != 0) {
        std::memcpy(members_of(larger), members_of(state), state.known * sizeof(Member));
        pools_[state.slab_class - 1].release(state.handle);
      }
      state = larger;
    }
    move(state, state.known++, member);
  }

  std::uint32_t number_;
  std::uint32_t member_key_;
  std::uint32_t min_history_;
  RecordPool pools_[kSlabClasses] = {RecordPool(4 * sizeof(Member)), RecordPool(8 * sizeof(Member)),
                                     RecordPool(16 * sizeof(Member)), RecordPool(32 * sizeof(Member)),
                                     RecordPool(64 * sizeof(Member))};
};

}  // namespace

std::string peer_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  if (auto mistake = slot_mistake("number", spec.number, layout.numbers.size()); !mistake.empty()) return mistake;
  if (auto mistake = slot_mistake("key", spec.member_key, layout.keys.size()); !mistake.empty()) return mistake;
  if (spec.member_key != spec.key) return {};
  return fmt::format("key '{}' is both the group and its member: no member would have a peer",
                     layout.keys[static_cast<std::size_t>(spec.key)]);
}

std::vector<OperatorColumn> peer_columns(const FeatureSpec& /*spec*/) {
  return {{"seen", 0}, {"expected", 0}, {"spread", 0}, {"z", 0}, {"members", 1}, {"iqr.spread", 0}, {"iqr.z", 0}};
}

std::size_t peer_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(PeerState); }

std::unique_ptr<Operator> make_peer_operator(const FeatureSpec& spec) { return std::make_unique<PeerOperator>(spec); }

}  // namespace alcedo::features
