// The hour at hand is held in 64 bits in the record and only hours at rest in floats: they are rounded once a visit and
// not once an event, and most events touch no slab.
#include "features/operators/season_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/time.h"
#include "features/deviation.h"
#include "features/record_pool.h"

namespace alcedo::features {
namespace {

constexpr std::uint32_t kHours = 168;
// As many values of its own say as much of an hour's variance as all hours' does.
constexpr double kVarianceWeight = 4;
// The landmark moves before floats run out of exponents.
constexpr double kLandmarkHalfLives = 32;
// Cells come in blocks of one size and not in slabs that grow: entities that began together would grow together, and
// leave as much memory behind as they take.
constexpr std::uint32_t kBlockCells = 12;
constexpr std::uint32_t kBlocks = kHours / kBlockCells;

struct Cell {
  double weight = 0;
  double mean = 0;
  double squares = 0;
};

// An hour that is not at hand.
struct RestingCell {
  float weight;  // times 2^(half-lives from the landmark to its last value): resting, it need not be touched
  float mean;
  float deviation;  // sqrt(squares / weight)
};
static_assert(sizeof(RestingCell) == 12);

struct SeasonState {
  EwmaState level;  // of all hours
  Cell open;        // decayed to the entity's clock
  double within_squares;
  double within_weight;
  std::int64_t landmark_ms;
  std::uint64_t resting[3];       // hours that have a RestingCell, by bits; cells stand in the hours' order
  std::uint32_t blocks[kBlocks];  // handles; as many as the cells fill
  std::uint32_t open_hour;        // 1 + hour; 0: none
  std::uint32_t reserved;
};
static_assert(sizeof(SeasonState) == 168);

// 0 is Monday 00:00 UTC; 1970 began on a Thursday.
std::uint32_t hour_of_week(std::int64_t time_ms) {
  const std::int64_t hours = time_ms >= 0 ? time_ms / kHourMs : -((-time_ms + kHourMs - 1) / kHourMs);
  const std::int64_t since_monday = (hours + 3 * 24) % kHours;
  return static_cast<std::uint32_t>(since_monday < 0 ? since_monday + kHours : since_monday);
}

bool is_resting(const SeasonState& state, std::uint32_t hour) {
  return (state.resting[hour / 64] >> (hour % 64) & 1U) != 0;
}

std::uint32_t cells_before(const SeasonState& state, std::uint32_t hour) {
  std::uint32_t cells = 0;
  for (std::uint32_t word = 0; word < hour / 64; ++word)
    cells += static_cast<std::uint32_t>(std::popcount(state.resting[word]));
  const std::uint64_t below = (std::uint64_t{1} << (hour % 64)) - 1;
  return cells + static_cast<std::uint32_t>(std::popcount(state.resting[hour / 64] & below));
}

std::uint32_t cells_of(const SeasonState& state) {
  std::uint32_t cells = 0;
  for (const std::uint64_t word : state.resting) cells += static_cast<std::uint32_t>(std::popcount(word));
  return cells;
}

enum Column : std::uint8_t { kSeen, kExpected, kSpread, kZ, kHistory };

class SeasonOperator final : public Operator {
 public:
  explicit SeasonOperator(const FeatureSpec& spec) : half_life_ms_(static_cast<double>(spec.half_life_ms)) {
    rules_.min_history = spec.min_history;
    rules_.accept_ms = spec.accept_ms > 0 ? spec.accept_ms : std::max<std::int64_t>(1, spec.half_life_ms / 8);
  }

  void prefetch(const std::byte* bytes, const EventBatch& batch, std::uint32_t row) const override {
    const auto& state = *reinterpret_cast<const SeasonState*>(bytes);
    const std::uint32_t hour = hour_of_week(batch.header(row).time_ms);
    if (state.open_hour == hour + 1) return;
    const std::uint32_t place = cells_before(state, hour);
    // Where it is, or will be put; the hour that it takes the place of is most often its neighbour.
    if (place < cells_of(state)) __builtin_prefetch(&cell_at(state, place), 1);
  }

  void update(std::byte* bytes, const EventView& event, std::span<float> out) override {
    auto& state = *reinterpret_cast<SeasonState*>(bytes);
    if (event.first) state.landmark_ms = event.time_ms;
    if (event.in_order && event.time_ms > event.clock_ms) decay(state, event.clock_ms, event.time_ms);
    const double x = event.value;
    const bool learns = event.in_order && !std::isnan(x);
    const std::uint32_t hour = hour_of_week(event.time_ms);
    const std::int64_t now_ms = std::max(event.time_ms, event.clock_ms);
    if (learns && state.open_hour != hour + 1) open(state, hour, now_ms);
    const Cell cell = state.open_hour == hour + 1 ? state.open : resting_cell(state, hour, now_ms);
    const DeviationReading reading = read(state, cell, x, event.step);
    out[kSeen] = static_cast<float>(x);
    out[kExpected] = static_cast<float>(reading.expected);
    out[kSpread] = static_cast<float>(reading.spread);
    out[kZ] = static_cast<float>(reading.z);
    out[kHistory] = static_cast<float>(state.level.history);
    if (learns) learn(state, x, reading.z, event.time_ms);
  }

  // The landmark; with a history also the hour at hand, what hours know of within, which hours rest, their cells in the
  // hours' order, and the level.
  void save(const std::byte* bytes, std::int64_t /*clock_ms*/, StateWriter& writer) const override {
    const auto& state = *reinterpret_cast<const SeasonState*>(bytes);
    if (state.level.history == 0) {
      if (state.landmark_ms != 0) writer.i64(state.landmark_ms);
      return;
    }
    writer.i64(state.landmark_ms);
    writer.u8(static_cast<std::uint8_t>(state.open_hour));
    writer.f64(state.open.weight);
    writer.f64(state.open.mean);
    writer.f64(state.open.squares);
    writer.f64(state.within_squares);
    writer.f64(state.within_weight);
    for (const std::uint64_t word : state.resting) writer.u64(word);
    for (std::uint32_t i = 0; i < cells_of(state); ++i) {
      const RestingCell& cell = cell_at(state, i);
      writer.f32(cell.weight);
      writer.f32(cell.mean);
      writer.f32(cell.deviation);
    }
    save_ewma(state.level, pending_, writer);
  }

  void load(std::byte* bytes, std::int64_t /*clock_ms*/, StateReader& reader) override {
    if (reader.left() == 0) return;
    auto& state = *reinterpret_cast<SeasonState*>(bytes);
    state.landmark_ms = reader.time_ms();
    if (reader.left() == 0) return;
    state.open_hour = reader.u8();
    if (state.open_hour > kHours)
      return reader.refuse(fmt::format("is at hour {}; a week has {}", state.open_hour, kHours));
    state.open.weight = reader.f64();
    state.open.mean = reader.f64();
    state.open.squares = reader.f64();
    state.within_squares = reader.f64();
    state.within_weight = reader.f64();
    SeasonState rest{};
    for (std::uint64_t& word : rest.resting) word = reader.u64();
    if (rest.resting[2] >> (kHours - 128) != 0)
      return reader.refuse(fmt::format("knows hours beyond the {} of a week", kHours));
    const std::uint32_t cells = cells_of(rest);
    if (reader.left() < cells * sizeof(RestingCell)) return reader.refuse("ends before it is complete");
    std::copy(std::begin(rest.resting), std::end(rest.resting), state.resting);
    for (std::uint32_t i = 0; i < cells; ++i) {
      if (i % kBlockCells == 0) state.blocks[i / kBlockCells] = blocks_.allocate();
      RestingCell& cell = cell_at(state, i);
      cell.weight = reader.f32();
      cell.mean = reader.f32();
      cell.deviation = reader.f32();
    }
    load_ewma(state.level, pending_, reader);
    if (state.level.history == 0) reader.refuse("knows hours without a history");
  }

  void release(std::byte* bytes) override {
    auto& state = *reinterpret_cast<SeasonState*>(bytes);
    forget_hours(state);
    clear_ewma(state.level, pending_);
    state = SeasonState{};
  }

  std::size_t reserved_bytes() const override { return pending_.reserved_bytes() + blocks_.reserved_bytes(); }

 private:
  RestingCell& cell_at(const SeasonState& state, std::uint32_t place) const {
    return reinterpret_cast<RestingCell*>(blocks_.at(state.blocks[place / kBlockCells]))[place % kBlockCells];
  }

  double half_lives(std::int64_t from_ms, std::int64_t to_ms) const {
    return static_cast<double>(to_ms - from_ms) / half_life_ms_;
  }

  void decay(SeasonState& state, std::int64_t from_ms, std::int64_t to_ms) {
    const double factor = std::exp2(-half_lives(from_ms, to_ms));
    decay_ewma(state.level, factor, pending_);
    if (state.level.history == 0) {
      forget_hours(state);
      state.landmark_ms = to_ms;
      return;
    }
    state.open.weight *= factor;
    state.open.squares *= factor;
    if (state.open.weight < kForgottenWeight) state.open = Cell{};
    state.within_squares *= factor;
    state.within_weight *= factor;
    if (half_lives(state.landmark_ms, to_ms) <= kLandmarkHalfLives) return;
    const double moved = std::exp2(-half_lives(state.landmark_ms, to_ms));
    for (std::uint32_t i = 0; i < cells_of(state); ++i) {
      RestingCell& cell = cell_at(state, i);
      cell.weight = static_cast<float>(static_cast<double>(cell.weight) * moved);
    }
    state.landmark_ms = to_ms;
  }

  void forget_hours(SeasonState& state) {
    for (std::uint32_t i = 0; i < cells_of(state); i += kBlockCells) blocks_.release(state.blocks[i / kBlockCells]);
    std::fill(std::begin(state.resting), std::end(state.resting), 0);
    state.open = Cell{};
    state.within_squares = 0;
    state.within_weight = 0;
  }

  Cell resting_cell(const SeasonState& state, std::uint32_t hour, std::int64_t now_ms) const {
    if (!is_resting(state, hour)) return {};
    const RestingCell& kept = cell_at(state, cells_before(state, hour));
    const double weight = static_cast<double>(kept.weight) * std::exp2(-half_lives(state.landmark_ms, now_ms));
    if (weight < kForgottenWeight) return {};
    const auto deviation = static_cast<double>(kept.deviation);
    return {weight, static_cast<double>(kept.mean), deviation * deviation * weight};
  }

  // Puts the hour at hand to rest and takes up another.
  void open(SeasonState& state, std::uint32_t hour, std::int64_t now_ms) {
    if (state.open_hour != 0 && state.open.weight > 0) {
      const std::uint32_t closing = state.open_hour - 1U;
      if (!is_resting(state, closing)) insert(state, closing);
      const double scale = std::exp2(half_lives(state.landmark_ms, now_ms));
      cell_at(state, cells_before(state, closing)) = {
          static_cast<float>(state.open.weight * scale), static_cast<float>(state.open.mean),
          static_cast<float>(std::sqrt(state.open.squares / state.open.weight))};
    }
    state.open = resting_cell(state, hour, now_ms);
    state.open_hour = static_cast<std::uint8_t>(hour + 1);
  }

  void insert(SeasonState& state, std::uint32_t hour) {
    const std::uint32_t count = cells_of(state);
    if (count % kBlockCells == 0) state.blocks[count / kBlockCells] = blocks_.allocate();
    const std::uint32_t place = cells_before(state, hour);
    for (std::uint32_t i = count; i > place; --i) cell_at(state, i) = cell_at(state, i - 1);
    state.resting[hour / 64] |= std::uint64_t{1} << (hour % 64);
  }

  DeviationReading read(const SeasonState& state, const Cell& cell, double x, double step) const {
    const EwmaState& level = state.level;
    if (!(level.weight > 0)) return {kMissing, kMissing, kMissing};
    const double whole = level.squares / level.weight;
    const double within = (state.within_squares + whole) / (state.within_weight + 1);
    const double between = std::max(0.0, whole - within);
    const double trust = cell.weight * between / (cell.weight * between + within + floor_squared(level.mean, step));
    const double expected = level.mean + trust * (cell.mean - level.mean);
    const double own = (cell.squares + kVarianceWeight * within) / (cell.weight + kVarianceWeight);
    const double spread = std::sqrt(own + (1 - trust) * between + whole / level.weight + floor_squared(expected, step));
    const bool judged = level.history >= rules_.min_history && !std::isnan(x);
    return {expected, spread, judged ? std::clamp((x - expected) / spread, -kScoreMax, kScoreMax) : kMissing};
  }

  void learn(SeasonState& state, double x, double z, std::int64_t time_ms) {
    const bool deviates = std::fabs(z) > kDeviates;  // NaN does not
    learn_ewma(state.level, x, z, time_ms, rules_, pending_);
    if (deviates &&
        state.level.pending == 0) {  // the pending level was accepted: what the hours knew is of the old one
      forget_hours(state);
      return;
    }
    const double w = deviates ? kSlowWeight : 1;
    const double before = state.open.weight;
    state.open.weight += w;
    const double distance = x - state.open.mean;
    const double share = w / state.open.weight;
    const double squares = distance * distance * (before * share);
    state.open.mean += distance * share;
    state.open.squares += squares;
    if (before == 0) return;
    state.within_squares += squares;
    state.within_weight += w;
  }

  double half_life_ms_;
  EwmaRules rules_;
  RecordPool pending_{sizeof(PendingLevel)};
  RecordPool blocks_{kBlockCells * sizeof(RestingCell)};
};

}  // namespace

std::string season_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  return slot_mistake("number", spec.number, layout.numbers.size());
}

std::vector<OperatorColumn> season_columns(const FeatureSpec& /*spec*/) {
  return {{"seen", 0}, {"expected", 0}, {"spread", 0}, {"z", 0}, {"history", 1}};
}

std::size_t season_state_bytes(const FeatureSpec& /*spec*/) { return sizeof(SeasonState); }

std::unique_ptr<Operator> make_season_operator(const FeatureSpec& spec) {
  return std::make_unique<SeasonOperator>(spec);
}

}  // namespace alcedo::features
