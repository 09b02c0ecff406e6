// Events are worked off in order, while the cache misses of those behind them are under way: first the keys' slots,
// then the entities' records, then what the records point to.
#include "features/stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/check.h"
#include "features/counter_rate.h"
#include "features/deviation.h"
#include "features/key_table.h"
#include "features/operators/operator.h"
#include "features/record_pool.h"
#include "features/stage_program.h"
#include "features/state/change_tracker.h"
#include "features/state/entity_codec.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

constexpr std::size_t kGroup = 32;
constexpr std::size_t kFound = 4 * kGroup;  // room for the entities found and not yet worked off; a power of two
constexpr std::uint32_t kNoEntity = 0xFFFFFFFF;
// In the table, the handle of an entity that is in the store: its key group and the epoch of its row.
constexpr std::uint32_t kCold = 0x80000000;
constexpr std::uint32_t kColdEpochMax = 0x00FFFFFF;
constexpr std::size_t kLooksPerEviction = 8;

bool is_cold(std::uint32_t handle) { return (handle & kCold) != 0; }
std::uint32_t cold_handle(std::uint8_t group, std::uint32_t epoch) {
  CHECK(epoch <= kColdEpochMax && group < kKeyGroups);
  return kCold | std::uint32_t{group} << 24U | epoch;
}
std::uint8_t cold_group(std::uint32_t handle) { return static_cast<std::uint8_t>((handle >> 24U) & 0x7FU); }

template <typename T>
T& part(std::byte* record, std::uint32_t offset) {
  return *reinterpret_cast<T*>(record + offset);
}

float stat_of(const CountTotals& t, Stat stat, double) {
  return stat == Stat::kCount ? static_cast<float>(t.count) : std::numeric_limits<float>::quiet_NaN();
}
float stat_of(const SumTotals& t, Stat stat, double) {
  switch (stat) {
    case Stat::kCount:
      return static_cast<float>(t.count);
    case Stat::kSum:
      return static_cast<float>(t.count == 0 ? 0 : t.sum);
    default:
      return static_cast<float>(t.count == 0 ? kMissing : t.sum / t.count);
  }
}
float stat_of(const MomentTotals& t, Stat stat, double shift) {
  if (t.count == 0) return stat == Stat::kCount || stat == Stat::kSum ? 0.0F : static_cast<float>(kMissing);
  switch (stat) {
    case Stat::kCount:
      return static_cast<float>(t.count);
    case Stat::kSum:
      return static_cast<float>(t.sum + t.count * shift);
    case Stat::kMean:
      return static_cast<float>(shift + t.sum / t.count);
    case Stat::kStd: {
      const double mean = t.sum / t.count;
      return static_cast<float>(std::sqrt(std::max(0.0, t.squares / t.count - mean * mean)));
    }
    case Stat::kMin:
      return t.min;
    case Stat::kMax:
      return t.max;
  }
  return static_cast<float>(kMissing);
}

template <typename Totals>
void read_window(const WindowRead& read, const Totals& t, double shift, std::span<float> out) {
  if constexpr (std::is_same_v<Totals, MomentTotals>) {
    // What stat_of() gives one by one, with one division for the mean: most plans that read moments read them all.
    if (read.all && t.count != 0) {
      const double mean = t.sum / t.count;
      out[read.column(Stat::kCount)] = static_cast<float>(t.count);
      out[read.column(Stat::kSum)] = static_cast<float>(t.sum + t.count * shift);
      out[read.column(Stat::kMean)] = static_cast<float>(shift + mean);
      out[read.column(Stat::kStd)] = static_cast<float>(std::sqrt(std::max(0.0, t.squares / t.count - mean * mean)));
      out[read.column(Stat::kMin)] = t.min;
      out[read.column(Stat::kMax)] = t.max;
      return;
    }
  }
  for (std::size_t stat = 0; stat < read.columns.size(); ++stat) {
    if (read.columns[stat] != WindowRead::kNoColumn)
      out[read.columns[stat]] = stat_of(t, static_cast<Stat>(stat), shift);
  }
}

}  // namespace

struct KeyedStage::Impl {
  Impl(const FeaturePlan& plan, std::size_t stage)
      : forget_ms(plan.options().forget_ms),
        program(compile_stage(plan, stage)),
        records(program.record_bytes),
        pending(sizeof(PendingLevel)),
        counters(std::max<std::size_t>(1, program.numbers.size()) * sizeof(CounterReading)),
        lengths(program.grains_ms.begin(), program.grains_ms.end()),
        values(program.numbers.size()),
        from(program.grains_ms.size()),
        to(program.grains_ms.size()),
        decays(program.half_lives_ms.size()) {
    for (const OperatorStep& step : program.operators)
      operators.push_back(make_operator(plan.options().features[step.feature]));
    codec.emplace(plan, program, EntityMemory{rings, quartiles, pending, counters, operators});
    own_sources = match_parts(codec->schema(), codec->readers(), codec->schema());
    tracker.emplace(records, *codec);
  }

  std::int64_t forget_ms;  // FeatureOptions
  StageProgram program;
  KeyTable table;
  RecordPool records;
  RingStore rings;
  QuartileStore quartiles;
  RecordPool pending;
  RecordPool counters;
  std::vector<std::unique_ptr<Operator>> operators;  // by StageProgram::operators
  std::optional<EntityCodec> codec;
  PartSources own_sources;    // of rows that this very plan wrote
  PartSources other_sources;  // of rows of another plan, and which
  std::optional<std::uint64_t> other_plan;
  std::optional<ChangeTracker> tracker;
  ColdReader read_cold;
  std::optional<Error> fault;
  std::size_t num_cold = 0;
  std::uint32_t hand = RecordPool::kNone;         // the record that evict() looked at last
  std::uint32_t expiry_hand = RecordPool::kNone;  // and expire()
  std::vector<BucketLength> lengths;              // by StageProgram::grains_ms
  // Of the event at hand.
  std::vector<double> values;      // by StageProgram::numbers
  std::vector<std::int64_t> from;  // newest buckets before the event, by grain
  std::vector<std::int64_t> to;    // and after
  std::vector<double> decays;      // by half life

  std::uint32_t new_record(std::uint64_t hash, std::uint8_t group) {
    const std::uint32_t handle = records.allocate();
    std::memset(records.at(handle), 0, program.record_bytes);
    auto& header = part<EntityHeader>(records.at(handle), 0);
    header.hash = hash;
    header.group = group;
    tracker->note_created(header);
    return handle;
  }
  void free_record(std::uint32_t handle) {
    codec->release(records.at(handle));
    part<EntityHeader>(records.at(handle), 0).hash = 0;
    records.release(handle);
  }
  std::uint32_t entity_of(std::uint64_t hash, std::uint8_t group) {
    bool added = false;
    const std::uint32_t handle = table.find_or_add(hash, [&] { return new_record(hash, group); }, added);
    return is_cold(handle) ? bring_back(hash, handle) : handle;
  }
  std::uint32_t bring_back(std::uint64_t hash, std::uint32_t cold);
  void learn_label(const LabelInput& label);

  bool is_forgotten(const EntityHeader& header, std::int64_t tick_ms) const {
    return forget_ms > 0 && tick_ms > header.clock_ms && tick_ms - header.clock_ms > forget_ms;
  }
  void begin_anew(std::byte* record) const {
    codec->release(record);
    const EntityHeader kept = part<EntityHeader>(record, 0);
    std::memset(record, 0, program.record_bytes);
    auto& header = part<EntityHeader>(record, 0);
    header.hash = kept.hash;
    header.row_epoch = kept.row_epoch;
    header.mark = kept.mark;
    header.group = kept.group;
    header.used = 1;
  }

  std::string segment(std::uint8_t group, std::vector<std::pair<std::uint64_t, std::uint32_t>>& entities) const;
  Result<> load_row(const PartSources& sources, std::uint64_t hash, std::uint8_t group, std::string_view row,
                    std::uint32_t epoch);
  Result<> fill(std::uint32_t handle, const PartSources& sources, std::string_view row, std::uint32_t epoch);

  void prefetch_parts(const std::byte* record, const EventBatch& batch, std::uint32_t row) const;
  void update(std::uint32_t entity, const EventBatch& batch, std::uint32_t row, std::size_t prepared,
              const GlobalBaselines& global, std::uint32_t snapshot, std::span<float> out);
  void read_values(EntityHeader& header, const EventBatch& batch, std::uint32_t row);
  template <typename Totals>
  void update_rings(const NumberRings& number, std::byte* record, std::int64_t time_ms, bool moves,
                    std::span<float> out);
  void update_deviation(const DeviationStep& step, std::byte* record, std::int64_t time_ms, bool in_order,
                        const GlobalBaselines& global, std::uint32_t snapshot, double metric_step,
                        std::span<float> out);
};

void KeyedStage::Impl::prefetch_parts(const std::byte* record, const EventBatch& batch, std::uint32_t row) const {
  const std::int64_t time_ms = batch.header(row).time_ms;
  const std::int64_t clock_ms = reinterpret_cast<const EntityHeader*>(record)->clock_ms;
  const auto ring_parts = [&]<typename Totals>(const NumberRings& number, const Totals&) {
    for (const auto& window : number.rings) {
      const auto& ring = *reinterpret_cast<const Ring<Totals>*>(record + window.offset);
      if (ring.slab() == 0) continue;
      const BucketLength& length = lengths[window.grain];
      rings.prefetch(ring, length.bucket_of(clock_ms), length.bucket_of(std::max(time_ms, clock_ms)));
    }
  };
  for (const NumberRings& number : program.rings) {
    if (number.kind == RingKind::kCount) ring_parts(number, CountTotals{});
    if (number.kind == RingKind::kSum) ring_parts(number, SumTotals{});
    if (number.kind == RingKind::kMoments) ring_parts(number, MomentTotals{});
  }
  for (std::size_t i = 0; i < operators.size(); ++i)
    operators[i]->prefetch(record + program.operators[i].offset, batch, row);
  for (const DeviationStep& step : program.deviations) {
    if (step.method == DeviationMethod::kQuartiles)
      quartiles.prefetch(*reinterpret_cast<const QuartileState*>(record + step.offset));
  }
}

void KeyedStage::Impl::read_values(EntityHeader& header, const EventBatch& batch, std::uint32_t row) {
  const bool counter = (batch.header(row).flags & kEventCounter) != 0;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = batch.number(row, program.numbers[i]);
  if (!counter || values.empty()) return;
  if (header.counters == 0) {
    header.counters = counters.allocate() + 1;
    std::memset(counters.at(header.counters - 1), 0, values.size() * sizeof(CounterReading));
  }
  auto* readings = reinterpret_cast<CounterReading*>(counters.at(header.counters - 1));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = counter_rate(readings[i], values[i], batch.header(row).time_ms);
}

template <typename Totals>
void KeyedStage::Impl::update_rings(const NumberRings& number, std::byte* record, std::int64_t time_ms, bool moves,
                                    std::span<float> out) {
  const double x = number.number < 0 ? 0 : values[number.value];
  const bool present = !std::isnan(x);
  if (moves) {
    for (const auto& window : number.rings) {
      if (to[window.grain] > from[window.grain]) {
        rings.advance(part<Ring<Totals>>(record, window.offset), from[window.grain], to[window.grain]);
      }
    }
  }
  double shift = 0;
  if constexpr (std::is_same_v<Totals, MomentTotals>) {
    // Any value near the others serves as shift; when all windows have run empty, nothing depends on the old one.
    double& kept = part<double>(record, number.shift_offset);
    const auto is_empty = [&](const auto& window) { return part<Ring<Totals>>(record, window.offset).occupied == 0; };
    if (present && std::all_of(number.rings.rbegin(), number.rings.rend(), is_empty)) kept = x;
    shift = kept;
  }
  const auto read = [&](bool including) {
    for (const WindowRead& r : number.reads) {
      if (r.including == including) read_window(r, part<Ring<Totals>>(record, r.offset).totals, shift, out);
    }
    for (const RatioRead& r : number.ratios) {
      if (r.including != including) continue;
      const double few = part<Ring<Totals>>(record, number.rings[r.short_ring].offset).totals.count;
      const double many = part<Ring<Totals>>(record, number.rings[r.long_ring].offset).totals.count;
      out[r.column] = static_cast<float>(few * r.scale / (many + 1));
    }
  };
  read(false);
  if (present) {
    for (const auto& window : number.rings) {
      const std::int64_t bucket = moves ? to[window.grain] : lengths[window.grain].bucket_of(time_ms);
      // `to` is the newest bucket either way; too old for this window, the event may still count in a longer one.
      if (bucket > to[window.grain] - kBuckets)
        rings.add_value(part<Ring<Totals>>(record, window.offset), bucket, x, shift);
    }
  }
  read(true);
}

void KeyedStage::Impl::update_deviation(const DeviationStep& step, std::byte* record, std::int64_t time_ms,
                                        bool in_order, const GlobalBaselines& global, std::uint32_t snapshot,
                                        double metric_step, std::span<float> out) {
  double x = step.baseline ? values[step.value] : static_cast<double>(out[step.seen]);
  if (step.baseline) out[step.seen] = static_cast<float>(x);
  const bool quartile = step.method == DeviationMethod::kQuartiles;
  const double least = step.in_metric_steps ? std::max(step.rules.step, metric_step) : step.rules.step;
  DeviationReading reading{};
  std::uint32_t history = 0;
  if (quartile) {
    const auto& state = part<QuartileState>(record, step.offset);
    history = state.history;
    reading = quartiles.read(state, x, least, step.rules.min_history);
  } else {
    auto& state = part<EwmaState>(record, step.offset);
    if (in_order) decay_ewma(state, decays[step.decay], pending);
    history = state.history;
    reading = read_ewma(state, x, least, step.rules.min_history);
  }
  const double own_z = reading.z;
  if (step.baseline && history < step.rules.min_history) {
    const GlobalBaselines::Level level = global.level(snapshot, step.feature);
    if (!std::isnan(level.location)) {
      const double half = 0.5 * 1.349 * level.spread;
      reading = quartile ? read_quartiles(level.location - half, level.location, level.location + half, x, least)
                         : read_level(level.location, level.spread, x, least);
    }
  }
  out[step.expected] = static_cast<float>(reading.expected);
  out[step.spread] = static_cast<float>(reading.spread);
  out[step.z] = static_cast<float>(reading.z);
  out[step.history] = static_cast<float>(history);
  if (!in_order || std::isnan(x)) return;
  if (quartile) {
    quartiles.learn(part<QuartileState>(record, step.offset), x);
  } else {
    learn_ewma(part<EwmaState>(record, step.offset), x, own_z, time_ms, step.rules, pending);
  }
}

void KeyedStage::Impl::update(std::uint32_t entity, const EventBatch& batch, std::uint32_t row, std::size_t prepared,
                              const GlobalBaselines& global, std::uint32_t snapshot, std::span<float> out) {
  std::byte* record = records.at(entity);
  tracker->note_change(entity, record);
  auto& header = part<EntityHeader>(record, 0);
  header.used = 1;
  const std::int64_t time_ms = batch.header(row).time_ms;
  if (header.started != 0 && is_forgotten(header, batch.header(row).tick_ms)) begin_anew(record);
  const bool first = header.started == 0;
  if (first) header.clock_ms = time_ms;
  header.started = 1;
  const bool in_order = time_ms >= header.clock_ms;
  const bool moves = time_ms > header.clock_ms;
  const std::int64_t elapsed_ms = in_order ? time_ms - header.clock_ms : 0;

  read_values(header, batch, row);
  for (std::size_t g = 0; g < from.size(); ++g) {
    from[g] = lengths[g].bucket_of(header.clock_ms);
    to[g] = moves ? lengths[g].bucket_of(time_ms) : from[g];
  }
  const float gap_s =
      first || !in_order ? static_cast<float>(kMissing) : static_cast<float>(static_cast<double>(elapsed_ms) / 1000.0);
  for (const std::uint32_t column : program.gap_columns) out[column] = gap_s;
  for (const NumberRings& number : program.rings) {
    switch (number.kind) {
      case RingKind::kCount:
        update_rings<CountTotals>(number, record, time_ms, moves, out);
        break;
      case RingKind::kSum:
        update_rings<SumTotals>(number, record, time_ms, moves, out);
        break;
      case RingKind::kMoments:
        update_rings<MomentTotals>(number, record, time_ms, moves, out);
        break;
    }
  }
  const auto metric_step = static_cast<double>(batch.header(row).step);
  EventView view{batch, row, time_ms, header.clock_ms, first, in_order, prepared};
  for (std::size_t i = 0; i < operators.size(); ++i) {
    const OperatorStep& step = program.operators[i];
    view.value = step.value < 0 ? kMissing : values[static_cast<std::size_t>(step.value)];
    view.step = std::max(step.step, metric_step);
    if (step.reads_total) {
      const GlobalBaselines::Level level = global.level(snapshot, step.feature);
      view.total = global.total(snapshot, step.feature, time_ms);
      view.usual = level.location;
      view.usual_spread = level.spread;
      view.usual_of = static_cast<double>(level.count);
    }
    operators[i]->update(record + step.offset, view, out.subspan(step.first_column, step.columns));
  }
  for (std::size_t h = 0; h < decays.size(); ++h) {
    decays[h] = elapsed_ms == 0
                    ? 1.0
                    : std::exp2(-static_cast<double>(elapsed_ms) / static_cast<double>(program.half_lives_ms[h]));
  }
  if (in_order) header.clock_ms = time_ms;
  for (const DeviationStep& step : program.deviations) {
    update_deviation(step, record, time_ms, in_order, global, snapshot, metric_step, out);
  }
}

// Whoever is not here, or forgotten as of the last tick, has no history that a label could change. An entity that later
// events of this batch have begun is not here yet.
void KeyedStage::Impl::learn_label(const LabelInput& label) {
  const std::uint64_t hash = label.entities[program.key].hash;
  if (hash == 0) return;
  std::uint32_t handle = table.find(hash);
  if (handle == KeyTable::kNone) return;
  if (is_cold(handle)) handle = bring_back(hash, handle);
  std::byte* record = records.at(handle);
  auto& header = part<EntityHeader>(record, 0);
  if (header.started == 0 || is_forgotten(header, label.tick_ms)) return;
  tracker->note_change(handle, record);
  const LabelView view{label.event_ms, label.known_ms, header.clock_ms, label.truth};
  for (std::size_t i = 0; i < operators.size(); ++i)
    operators[i]->learn_label(record + program.operators[i].offset, view);
}

KeyedStage::KeyedStage(const FeaturePlan& plan, std::size_t stage) : impl_(std::make_unique<Impl>(plan, stage)) {}
KeyedStage::KeyedStage(KeyedStage&&) noexcept = default;
KeyedStage::~KeyedStage() = default;

void KeyedStage::process(const EventBatch& batch, std::span<const std::uint32_t> rows, const GlobalBaselines& global,
                         std::span<const std::uint32_t> snapshots, FeatureMatrix& out,
                         std::span<const LabelInput* const> labels) {
  Impl& impl = *impl_;
  const std::uint32_t key = impl.program.key;
  std::array<std::uint32_t, kFound> found;
  const auto prefetch_slot = [&](std::size_t i) { impl.table.prefetch(batch.key(rows[i], key).hash); };
  const auto find = [&](std::size_t i) {
    const Key& at = batch.key(rows[i], key);
    found[i % kFound] = at.hash == 0 ? kNoEntity : impl.entity_of(at.hash, at.group);
    if (at.hash == 0) return;
    const std::byte* record = impl.records.at(found[i % kFound]);
    for (std::size_t line = 0; line < impl.program.record_bytes; line += 64) __builtin_prefetch(record + line, 1);
  };
  const auto prefetch_parts = [&](std::size_t i) {
    const std::uint32_t entity = found[i % kFound];
    if (entity != kNoEntity) impl.prefetch_parts(impl.records.at(entity), batch, rows[i]);
  };
  const auto update = [&](std::size_t i) {
    for (; !labels.empty() && labels[0]->sequence < batch.header(rows[i]).sequence; labels = labels.subspan(1))
      impl.learn_label(*labels[0]);
    const std::uint32_t entity = found[i % kFound];
    if (entity != kNoEntity)
      impl.update(entity, batch, rows[i], i % kGroup, global, snapshots[rows[i]], out.row(rows[i]));
  };
  const std::size_t n = rows.size();
  if (n == 1) {  // there is nothing to do meanwhile
    find(0);
    for (const auto& one : impl.operators) one->prepare(batch, rows);
    update(0);
    return;
  }
  for (std::size_t begin = 0; begin < n + 3 * kGroup; begin += kGroup) {
    const auto for_group = [&](std::size_t ahead, const auto& step) {
      if (begin < ahead * kGroup) return;
      const std::size_t first = begin - ahead * kGroup;
      for (std::size_t i = first; i < std::min(first + kGroup, n); ++i) step(i);
    };
    for_group(0, prefetch_slot);
    for_group(1, find);
    for_group(2, prefetch_parts);
    if (begin >= 3 * kGroup) {
      const std::size_t first = begin - 3 * kGroup;
      for (const auto& one : impl.operators) one->prepare(batch, rows.subspan(first, std::min(kGroup, n - first)));
    }
    for_group(3, update);
  }
  for (const LabelInput* label : labels) impl.learn_label(*label);
}

std::string KeyedStage::Impl::segment(std::uint8_t group,
                                      std::vector<std::pair<std::uint64_t, std::uint32_t>>& entities) const {
  std::ranges::sort(entities);
  std::string body;
  StateWriter writer(body);
  writer.u8(group);
  codec->schema().save(writer);
  writer.varint(entities.size());
  std::string row;
  for (const auto& [hash, handle] : entities) {
    row.clear();
    codec->save(records.at(handle), row);
    writer.u64(hash);
    writer.text(row);
  }
  return seal_segment(SegmentContent::kKeyGroup, body);
}

Result<> KeyedStage::Impl::fill(std::uint32_t handle, const PartSources& sources, std::string_view row,
                                std::uint32_t epoch) {
  std::byte* record = records.at(handle);
  StateReader reader(row);
  codec->load(record, sources, reader);
  auto& header = part<EntityHeader>(record, 0);
  if (!reader.complete()) {
    return error(ErrorCode::kCorrupt, fmt::format("state of '{}': the row of entity {:016x} {}", codec->schema().key,
                                                  header.hash, reader.mistake()));
  }
  if (epoch == 0) {
    tracker->note_change(handle, record);
  } else {
    tracker->note_loaded(header, epoch);
  }
  return {};
}

std::uint32_t KeyedStage::Impl::bring_back(std::uint64_t hash, std::uint32_t cold) {
  const std::uint8_t group = cold_group(cold);
  const std::uint32_t epoch = cold & kColdEpochMax;
  const std::uint32_t handle = new_record(hash, group);
  auto row = read_cold(hash, group, epoch);
  Result<> filled = row ? fill(handle, own_sources, *row, epoch) : std::unexpected(row.error());
  // The entity goes on from nothing, so that the batch can be finished; the fault keeps its verdicts from leaving.
  if (!filled && !fault) fault = filled.error();
  table.replace(hash, handle);
  --num_cold;
  return handle;
}

Result<> KeyedStage::Impl::load_row(const PartSources& sources, std::uint64_t hash, std::uint8_t group,
                                    std::string_view row, std::uint32_t epoch) {
  if (table.find(hash) != KeyTable::kNone) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("state of '{}': entity {:016x} is here already; forget it before its state is loaded",
                             codec->schema().key, hash));
  }
  const std::uint32_t handle = entity_of(hash, group);
  auto filled = fill(handle, sources, row, epoch);
  if (!filled) free_record(table.erase(hash));
  return filled;
}

const StateSchema& KeyedStage::schema() const { return impl_->codec->schema(); }

StateReport KeyedStage::compare(const StateSchema& saved) const {
  return match_parts(schema(), impl_->codec->readers(), saved).report;
}

std::string KeyedStage::save_group(std::uint8_t group) const {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> entities;
  impl_->table.for_each([&](std::uint64_t hash, std::uint32_t handle) {
    if (is_cold(handle)) return;
    if (part<EntityHeader>(impl_->records.at(handle), 0).group == group) entities.emplace_back(hash, handle);
  });
  return impl_->segment(group, entities);
}

void KeyedStage::save_groups(const std::function<void(std::uint8_t, std::string)>& write) const {
  std::array<std::vector<std::pair<std::uint64_t, std::uint32_t>>, kKeyGroups> groups;
  impl_->table.for_each([&](std::uint64_t hash, std::uint32_t handle) {
    if (is_cold(handle)) return;
    groups[part<EntityHeader>(impl_->records.at(handle), 0).group].emplace_back(hash, handle);
  });
  for (std::size_t group = 0; group < groups.size(); ++group) {
    if (groups[group].empty()) continue;
    write(static_cast<std::uint8_t>(group), impl_->segment(static_cast<std::uint8_t>(group), groups[group]));
    groups[group] = {};
  }
}

Result<StateReport> KeyedStage::load(std::string_view segment) {
  Impl& impl = *impl_;
  const auto body = open_segment(SegmentContent::kKeyGroup, segment);
  if (!body) return std::unexpected(body.error());
  const std::string& key = schema().key;
  const auto corrupt = [&](std::string_view what) {
    return error(ErrorCode::kCorrupt, fmt::format("state segment of '{}': {}", key, what));
  };
  StateReader reader(*body);
  const std::uint8_t group = reader.u8();
  const StateSchema saved = StateSchema::load(reader);
  if (!reader.ok()) return corrupt(reader.mistake());
  if (saved.key != key) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("state segment: holds entities of '{}'; expected '{}'", saved.key, key));
  }
  if (group >= kKeyGroups) return corrupt(fmt::format("key group {}; there are {}", group, kKeyGroups));
  PartSources sources = match_parts(schema(), impl.codec->readers(), saved);
  std::vector<std::uint64_t> added;
  const auto load_entities = [&]() -> Result<> {
    std::uint64_t before = 0;
    for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
      const std::uint64_t hash = reader.u64();
      const std::string_view row = reader.text();
      if (!reader.ok()) break;
      if (hash <= before) return corrupt("its entities are not in ascending order");
      before = hash;
      if (auto loaded = impl.load_row(sources, hash, group, row, 0); !loaded) return loaded;
      added.push_back(hash);
    }
    return reader.complete() ? Result<>() : corrupt(reader.mistake());
  };
  if (auto loaded = load_entities(); !loaded) {
    for (const std::uint64_t hash : added) forget(hash);
    return std::unexpected(loaded.error());
  }
  sources.report.entities = added.size();
  return std::move(sources.report);
}

std::optional<std::uint8_t> KeyedStage::group_of(std::uint64_t key_hash) const {
  const std::uint32_t handle = impl_->table.find(key_hash);
  if (handle == KeyTable::kNone) return std::nullopt;
  if (is_cold(handle)) return cold_group(handle);
  return part<EntityHeader>(impl_->records.at(handle), 0).group;
}

bool KeyedStage::save_entity(std::uint64_t key_hash, std::string& row) const {
  const std::uint32_t handle = impl_->table.find(key_hash);
  if (handle == KeyTable::kNone || is_cold(handle)) return false;
  impl_->codec->save(impl_->records.at(handle), row);
  return true;
}

Result<> KeyedStage::load_entity(const StateSchema& saved, std::uint64_t key_hash, std::uint8_t group,
                                 std::string_view row, std::uint32_t epoch) {
  CHECK(key_hash != 0 && group < kKeyGroups);
  Impl& impl = *impl_;
  if (saved.plan_hash == schema().plan_hash) return impl.load_row(impl.own_sources, key_hash, group, row, epoch);
  if (impl.other_plan != saved.plan_hash) {
    impl.other_sources = match_parts(schema(), impl.codec->readers(), saved);
    impl.other_plan = saved.plan_hash;
  }
  return impl.load_row(impl.other_sources, key_hash, group, row, epoch);
}

bool KeyedStage::forget(std::uint64_t key_hash) {
  Impl& impl = *impl_;
  const std::uint32_t handle = impl.table.erase(key_hash);
  if (handle == KeyTable::kNone) return false;
  if (is_cold(handle)) {
    impl.tracker->note_forgotten(key_hash, cold_group(handle));
    --impl.num_cold;
    return true;
  }
  impl.tracker->note_forgotten(impl.records.at(handle));
  impl.free_record(handle);
  return true;
}

void KeyedStage::track_changes() {
  CHECK(entities() == 0);
  impl_->tracker->start();
}

void KeyedStage::begin_capture(std::uint32_t epoch, bool all) { impl_->tracker->begin(epoch, all); }

bool KeyedStage::capture(std::size_t rows_max, CapturedRows& out) { return impl_->tracker->capture(rows_max, out); }

void KeyedStage::capture_lost() {
  impl_->tracker->lost([this](std::uint64_t hash) { return impl_->table.find(hash) != KeyTable::kNone; });
}

std::size_t KeyedStage::changed() const { return impl_->tracker->changed(); }

void KeyedStage::keep_cold(ColdReader read) { impl_->read_cold = std::move(read); }

Result<> KeyedStage::add_cold(std::uint64_t key_hash, std::uint8_t group, std::uint32_t epoch) {
  CHECK(key_hash != 0 && impl_->read_cold);
  bool added = false;
  impl_->table.find_or_add(key_hash, [&] { return cold_handle(group, epoch); }, added);
  if (!added) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("state of '{}': entity {:016x} is here already", schema().key, key_hash));
  }
  ++impl_->num_cold;
  return {};
}

// The clock of page replacement: a second chance for what was used since the hand last passed.
std::size_t KeyedStage::evict(std::size_t entities_max, std::uint32_t published) {
  Impl& impl = *impl_;
  if (!impl.read_cold || impl.tracker->capturing_all()) return 0;
  std::size_t evicted = 0;
  for (std::size_t looks = 0; looks < entities_max * kLooksPerEviction && evicted < entities_max; ++looks) {
    impl.hand = impl.records.after(impl.hand);
    if (impl.hand == RecordPool::kNone) continue;
    auto& header = part<EntityHeader>(impl.records.at(impl.hand), 0);
    if (header.hash == 0) continue;
    if (header.used != 0) {
      header.used = 0;
      continue;
    }
    if (!impl.tracker->is_clean(header) || header.row_epoch > published) continue;
    impl.table.replace(header.hash, cold_handle(header.group, header.row_epoch));
    impl.free_record(impl.hand);
    ++impl.num_cold;
    ++evicted;
  }
  return evicted;
}

void KeyedStage::expire(std::int64_t tick_ms, std::size_t looks) {
  Impl& impl = *impl_;
  if (impl.forget_ms == 0) return;
  for (std::size_t i = 0; i < looks; ++i) {
    impl.expiry_hand = impl.records.after(impl.expiry_hand);
    if (impl.expiry_hand == RecordPool::kNone) continue;
    const auto& header = part<EntityHeader>(impl.records.at(impl.expiry_hand), 0);
    if (header.hash != 0 && header.started != 0 && impl.is_forgotten(header, tick_ms)) forget(header.hash);
  }
}

std::size_t KeyedStage::resident() const { return impl_->table.size() - impl_->num_cold; }

std::size_t KeyedStage::free_records() const { return impl_->records.free_records(); }

const std::optional<Error>& KeyedStage::fault() const { return impl_->fault; }

std::size_t KeyedStage::entities() const { return impl_->table.size(); }

std::size_t KeyedStage::state_bytes() const {
  std::size_t operator_bytes = 0;
  for (const auto& one : impl_->operators) operator_bytes += one->reserved_bytes();
  return operator_bytes + impl_->table.reserved_bytes() + impl_->records.reserved_bytes() +
         impl_->rings.reserved_bytes() + impl_->quartiles.reserved_bytes() + impl_->pending.reserved_bytes() +
         impl_->counters.reserved_bytes();
}

}  // namespace alcedo::features
