// Rings are read in their widest form first, so that state of bare sums serves a plan that reads moments, and the other
// way round: a feature that is added or removed must not cost its neighbours their windows.
#include "features/state/entity_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/hash.h"
#include "core/time.h"
#include "features/counter_rate.h"

namespace alcedo::features {
namespace {

template <typename T>
T& at(std::byte* record, std::uint32_t offset) {
  return *reinterpret_cast<T*>(record + offset);
}
template <typename T>
const T& at(const std::byte* record, std::uint32_t offset) {
  return *reinterpret_cast<const T*>(record + offset);
}

template <typename T>
bool is_zero(const T& state) {
  constexpr T kZero{};
  return std::memcmp(&state, &kZero, sizeof state) == 0;
}

// Most buckets of most windows hold one event, whose other numbers follow from its value.
bool is_single(const MomentTotals& t) {
  const double square = t.sum * t.sum;
  return t.count == 1 && std::memcmp(&square, &t.squares, sizeof square) == 0 &&
         std::memcmp(&t.min, &t.max, sizeof t.min) == 0;
}

void save_bucket(const CountTotals& t, StateWriter& writer) { writer.varint(t.count); }
void save_bucket(const SumTotals& t, StateWriter& writer) {
  writer.varint(t.count);
  writer.f64(t.sum);
}
void save_bucket(const MomentTotals& t, StateWriter& writer) {
  const bool single = is_single(t);
  writer.varint(std::uint64_t{t.count} << 1U | (single ? 0U : 1U));
  writer.f64(t.sum);
  writer.f32(t.min);
  if (single) return;
  writer.f32(t.max);
  writer.f64(t.squares);
}

// Of two or more buckets: what the buckets do not tell. Sums depend on all that ever left the window.
void save_totals(const CountTotals& /*t*/, StateWriter& /*writer*/) {}
void save_totals(const SumTotals& t, StateWriter& writer) { writer.f64(t.sum); }
void save_totals(const MomentTotals& t, StateWriter& writer) {
  writer.f64(t.sum);
  writer.f64(t.squares);
  writer.f32(t.min);
  writer.f32(t.max);
}

std::uint32_t read_count(std::uint64_t count, StateReader& reader) {
  if (count == 0 || count > 0xFFFFFFFFU) reader.refuse(fmt::format("has a bucket of {} events", count));
  return static_cast<std::uint32_t>(count);
}

MomentTotals read_bucket(RingKind kind, StateReader& reader) {
  MomentTotals t;
  std::uint64_t count = reader.varint();
  if (kind == RingKind::kMoments) {
    const bool single = (count & 1U) == 0;
    count >>= 1U;
    t.sum = reader.f64();
    t.min = t.max = reader.f32();
    t.squares = t.sum * t.sum;
    if (single && count != 1) reader.refuse(fmt::format("has {} events in a bucket of one", count));
    if (!single) {
      t.max = reader.f32();
      t.squares = reader.f64();
    }
  } else if (kind == RingKind::kSum) {
    t.sum = reader.f64();
  }
  t.count = read_count(count, reader);
  return t;
}

// A bucket of bare sums as one of moments: as if all its values were their mean. Exact for one value.
MomentTotals widened(const MomentTotals& t, double shift) {
  const double n = t.count;
  const double mean = t.sum / n;
  MomentTotals wide;
  wide.count = t.count;
  wide.sum = t.sum - n * shift;
  wide.squares = n * (mean - shift) * (mean - shift);
  wide.min = wide.max = static_cast<float>(mean);
  return wide;
}

template <typename Totals>
Totals converted(const MomentTotals& t, RingKind from, double from_shift, double to_shift);
template <>
CountTotals converted(const MomentTotals& t, RingKind /*from*/, double /*from_shift*/, double /*to_shift*/) {
  return {t.count};
}
template <>
SumTotals converted(const MomentTotals& t, RingKind from, double from_shift, double /*to_shift*/) {
  return {from == RingKind::kMoments ? t.sum + t.count * from_shift : t.sum, t.count, 0};
}
template <>
MomentTotals converted(const MomentTotals& t, RingKind from, double /*from_shift*/, double to_shift) {
  return from == RingKind::kSum ? widened(t, to_shift) : t;
}

template <typename Totals>
constexpr RingKind kind_of_totals() {
  if constexpr (std::is_same_v<Totals, CountTotals>) return RingKind::kCount;
  if constexpr (std::is_same_v<Totals, SumTotals>) return RingKind::kSum;
  return RingKind::kMoments;
}

}  // namespace

struct EntityCodec::SavedRing {
  std::uint64_t occupied = 0;
  MomentTotals totals;
  std::array<MomentTotals, 64> buckets;
};

EntityCodec::EntityCodec(const FeaturePlan& plan, const StageProgram& program, EntityMemory memory)
    : program_(program), memory_(memory) {
  const EventLayout& layout = plan.options().layout;
  const auto& features = plan.options().features;
  schema_.key = layout.keys[program.key];
  schema_.layout_hash = layout_hash(layout);
  std::vector<std::uint32_t> place(features.size());  // in schema_.features
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    if (static_cast<std::uint32_t>(features[f].key) != program.key) continue;
    place[f] = static_cast<std::uint32_t>(schema_.features.size());
    schema_.features.push_back({features[f].name, feature_fingerprint(features[f], layout)});
  }
  for (std::uint32_t i = 0; i < program.numbers.size(); ++i) {
    const std::string number = number_name(layout, static_cast<int>(program.numbers[i]));
    add_part({PartKind::kCounter, i}, "last reading of " + number, "counter|" + number, 0, {});
  }
  for (std::uint32_t i = 0; i < program.rings.size(); ++i) {
    const NumberRings& rings = program.rings[i];
    const std::string number = number_name(layout, rings.number);
    const std::string what = rings.number < 0                 ? "events"
                             : rings.kind == RingKind::kCount ? "count of " + number
                                                              : number;
    shift_part_.push_back(static_cast<std::uint32_t>(parts_.size()));
    add_part({PartKind::kShift, i}, "origin of " + what, "shift|" + what, 0, {});
    for (std::uint32_t w = 0; w < rings.rings.size(); ++w) {
      const std::int64_t window = rings.rings[w].window_ms;
      std::vector<std::uint32_t> readers;
      for (std::uint32_t f = 0; f < features.size(); ++f) {
        const FeatureSpec& spec = features[f];
        const bool reads = static_cast<std::uint32_t>(spec.key) == program.key && !has_operator(spec.kind) &&
                           spec.kind != FeatureKind::kBaseline && share_rings(spec, rings);
        if (reads && std::ranges::find(spec.windows_ms, window) != spec.windows_ms.end()) readers.push_back(place[f]);
      }
      add_part({PartKind::kWindow, i, w}, fmt::format("{} over {}", what, format_duration(window)),
               fmt::format("window|{}|{}|{}", rings.kind == RingKind::kCount, what, window),
               static_cast<std::uint8_t>(rings.kind), std::move(readers));
    }
  }
  for (std::uint32_t i = 0; i < program.operators.size(); ++i) {
    const std::uint32_t f = program.operators[i].feature;
    add_part({PartKind::kOperator, i}, features[f].name,
             fmt::format("operator|{}|{}|{}", features[f].name, schema_.features[place[f]].fingerprint,
                         memory_.operators[i]->state_version()),
             0, {place[f]});
  }
  for (std::uint32_t i = 0; i < program.deviations.size(); ++i) {
    const DeviationStep& step = program.deviations[i];
    const FeatureSpec& spec = features[step.feature];
    const bool ewma = step.method == DeviationMethod::kEwma;
    // What a history has learned does not depend on how many values it needs, or how long a new level must last.
    std::string meaning =
        fmt::format("history|{}|{}|{}|{}|{}|{}", ewma, static_cast<int>(spec.kind), number_name(layout, spec.number),
                    plan.columns()[step.seen].name, spec.including, ewma ? spec.half_life_ms : 0);
    if (has_operator(spec.kind)) meaning += fmt::format("|{}", schema_.features[place[step.feature]].fingerprint);
    const std::string& column = step.baseline ? spec.name : plan.columns()[step.seen].name;
    add_part({PartKind::kDeviation, i}, ewma ? column : column + ".iqr", meaning, 0, {place[step.feature]});
  }
  schema_.finish();
}

void EntityCodec::add_part(Part part, std::string name, std::string_view meaning, std::uint8_t encoding,
                           std::vector<std::uint32_t> readers) {
  parts_.push_back(part);
  schema_.parts.push_back({std::move(name), hash64(meaning), encoding});
  readers_.push_back(std::move(readers));
}

void EntityCodec::save(const std::byte* record, std::string& row) const {
  StateWriter writer(row);
  writer.i64(at<EntityHeader>(record, 0).clock_ms);
  std::string bytes;
  for (const Part& part : parts_) {
    bytes.clear();
    StateWriter part_writer(bytes);
    save_part(part, record, part_writer);
    writer.text(bytes);
  }
}

void EntityCodec::save_part(const Part& part, const std::byte* record, StateWriter& writer) const {
  switch (part.kind) {
    case PartKind::kCounter: {
      const std::uint32_t handle = at<EntityHeader>(record, 0).counters;
      if (handle == 0) return;
      const auto& reading = reinterpret_cast<const CounterReading*>(memory_.counters.at(handle - 1))[part.index];
      if (reading.known == 0) return;
      writer.f64(reading.value);
      writer.i64(reading.time_ms);
      return;
    }
    case PartKind::kShift: {
      const NumberRings& number = program_.rings[part.index];
      if (number.kind != RingKind::kMoments) return;
      // Without a value in any window nothing depends on it, and the next value replaces it.
      const bool empty = std::ranges::all_of(number.rings, [&](const NumberRings::Window& window) {
        return at<Ring<MomentTotals>>(record, window.offset).occupied == 0;
      });
      if (!empty) writer.f64(at<double>(record, number.shift_offset));
      return;
    }
    case PartKind::kWindow: {
      const NumberRings& number = program_.rings[part.index];
      const std::uint32_t offset = number.rings[part.window].offset;
      if (number.kind == RingKind::kCount) save_ring(at<Ring<CountTotals>>(record, offset), writer);
      if (number.kind == RingKind::kSum) save_ring(at<Ring<SumTotals>>(record, offset), writer);
      if (number.kind == RingKind::kMoments) save_ring(at<Ring<MomentTotals>>(record, offset), writer);
      return;
    }
    case PartKind::kOperator:
      memory_.operators[part.index]->save(record + program_.operators[part.index].offset,
                                          at<EntityHeader>(record, 0).clock_ms, writer);
      return;
    case PartKind::kDeviation: {
      const DeviationStep& step = program_.deviations[part.index];
      if (step.method == DeviationMethod::kQuartiles) {
        const auto& state = at<QuartileState>(record, step.offset);
        memory_.quartiles.save(state, writer);
        return;
      }
      const auto& state = at<EwmaState>(record, step.offset);
      if (!is_zero(state)) save_ewma(state, memory_.pending, writer);
      return;
    }
  }
}

template <typename Totals>
void EntityCodec::save_ring(const Ring<Totals>& ring, StateWriter& writer) const {
  if (ring.occupied == 0) return;
  writer.u64(ring.occupied);
  if (!std::has_single_bit(ring.occupied)) save_totals(ring.totals, writer);
  memory_.rings.for_each_bucket(ring, [&](const Totals& bucket) { save_bucket(bucket, writer); });
}

EntityCodec::SavedRing EntityCodec::read_ring(RingKind kind, std::string_view bytes, std::int64_t newest,
                                              const std::string& name, StateReader& row) {
  SavedRing ring;
  if (bytes.empty()) return ring;
  StateReader reader(bytes);
  ring.occupied = reader.u64();
  const std::uint64_t window = std::rotl((std::uint64_t{1} << kBuckets) - 1, static_cast<int>((newest - 59) & 63));
  if (ring.occupied == 0 || (ring.occupied & ~window) != 0)
    reader.refuse("has buckets outside of the 60 that end at its clock");
  const int count = std::popcount(ring.occupied);
  if (count > 1 && kind != RingKind::kCount) {
    ring.totals.sum = reader.f64();
    if (kind == RingKind::kMoments) {
      ring.totals.squares = reader.f64();
      ring.totals.min = reader.f32();
      ring.totals.max = reader.f32();
    }
  }
  for (int i = 0; i < count && reader.ok(); ++i) {
    ring.buckets[static_cast<std::size_t>(i)] = read_bucket(kind, reader);
    ring.totals.count += ring.buckets[static_cast<std::size_t>(i)].count;
  }
  if (!reader.complete()) row.refuse(fmt::format("{}: {}", name, reader.mistake()));
  return ring;
}

template <typename Totals>
void EntityCodec::load_rings(std::uint32_t number, std::byte* record, const PartSources& sources,
                             std::span<const std::string_view> slices, StateReader& row) const {
  constexpr RingKind kTo = kind_of_totals<Totals>();
  const NumberRings& rings = program_.rings[number];
  const std::int64_t clock_ms = at<EntityHeader>(record, 0).clock_ms;
  const auto source_of = [&](std::uint32_t part) { return sources.of[part]; };
  // The windows of a number are all of one kind, so any tells it.
  RingKind from = kTo;
  for (std::uint32_t w = 0; w < rings.rings.size(); ++w) {
    const int source = source_of(shift_part_[number] + 1 + w);
    if (source < 0) continue;
    const std::uint8_t encoding = sources.encodings[static_cast<std::size_t>(source)];
    const bool known =
        encoding <= static_cast<std::uint8_t>(RingKind::kMoments) && (encoding == 0) == (kTo == RingKind::kCount);
    if (!known)
      return row.refuse(fmt::format("{}: has encoding {}", schema_.parts[shift_part_[number] + 1 + w].name, encoding));
    from = static_cast<RingKind>(encoding);
  }
  double from_shift = 0;
  if (const int source = source_of(shift_part_[number]); source >= 0) {
    const std::string_view bytes = slices[static_cast<std::size_t>(source)];
    StateReader reader(bytes);
    if (!bytes.empty()) from_shift = reader.f64();
    if (!reader.complete())
      return row.refuse(fmt::format("{}: {}", schema_.parts[shift_part_[number]].name, reader.mistake()));
  }
  std::vector<SavedRing> saved(rings.rings.size());
  double to_shift = from_shift;
  for (std::uint32_t w = 0; w < rings.rings.size(); ++w) {
    const int source = source_of(shift_part_[number] + 1 + w);
    if (source < 0) continue;
    const std::int64_t newest = bucket_of(clock_ms, program_.grains_ms[rings.rings[w].grain]);
    saved[w] = read_ring(from, slices[static_cast<std::size_t>(source)], newest,
                         schema_.parts[shift_part_[number] + 1 + w].name, row);
    if (!row.ok()) return;
    // Whole, so that sums of whole numbers stay exact.
    if (from == RingKind::kSum && saved[w].occupied != 0)
      to_shift = std::round(saved[w].buckets[0].sum / saved[w].buckets[0].count);
  }
  if (!std::isfinite(to_shift)) to_shift = 0;
  if constexpr (kTo == RingKind::kMoments) at<double>(record, rings.shift_offset) = to_shift;
  for (std::uint32_t w = 0; w < rings.rings.size(); ++w) {
    const SavedRing& ring = saved[w];
    if (ring.occupied == 0) continue;
    std::array<Totals, 64> buckets;
    const int count = std::popcount(ring.occupied);
    for (int i = 0; i < count; ++i) {
      buckets[static_cast<std::size_t>(i)] =
          converted<Totals>(ring.buckets[static_cast<std::size_t>(i)], from, from_shift, to_shift);
    }
    Totals totals = converted<Totals>(ring.totals, from, from_shift, to_shift);
    if constexpr (kTo == RingKind::kMoments) {
      if (from == RingKind::kSum) {
        const double sum = totals.sum;
        totals = buckets[0];
        for (int i = 1; i < count; ++i) merge(totals, buckets[static_cast<std::size_t>(i)]);
        totals.sum = sum;
      }
    }
    memory_.rings.restore(at<Ring<Totals>>(record, rings.rings[w].offset), ring.occupied, buckets.data(), totals);
  }
}

void EntityCodec::load_deviation(const DeviationStep& step, std::byte* record, StateReader& reader) const {
  if (step.method == DeviationMethod::kQuartiles) {
    memory_.quartiles.load(at<QuartileState>(record, step.offset), reader);
  } else {
    load_ewma(at<EwmaState>(record, step.offset), memory_.pending, reader);
  }
}

void EntityCodec::load(std::byte* record, const PartSources& sources, StateReader& row) const {
  auto& header = at<EntityHeader>(record, 0);
  header.clock_ms = row.time_ms();
  header.started = 1;
  std::vector<std::string_view> slices(sources.encodings.size());
  for (std::string_view& slice : slices) slice = row.text();
  if (!row.complete()) return;
  for (std::uint32_t i = 0; i < program_.rings.size() && row.ok(); ++i) {
    const RingKind kind = program_.rings[i].kind;
    if (kind == RingKind::kCount) load_rings<CountTotals>(i, record, sources, slices, row);
    if (kind == RingKind::kSum) load_rings<SumTotals>(i, record, sources, slices, row);
    if (kind == RingKind::kMoments) load_rings<MomentTotals>(i, record, sources, slices, row);
  }
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const Part& part = parts_[p];
    if (part.kind == PartKind::kWindow || part.kind == PartKind::kShift || sources.of[p] < 0) continue;
    const std::string_view bytes = slices[static_cast<std::size_t>(sources.of[p])];
    if (bytes.empty()) continue;
    StateReader reader(bytes);
    if (part.kind == PartKind::kOperator) {
      memory_.operators[part.index]->load(record + program_.operators[part.index].offset, header.clock_ms, reader);
    } else if (part.kind == PartKind::kDeviation) {
      load_deviation(program_.deviations[part.index], record, reader);
    } else {
      CounterReading reading{reader.f64(), reader.time_ms(), 1};
      if (header.counters == 0) {
        header.counters = memory_.counters.allocate() + 1;
        std::memset(memory_.counters.at(header.counters - 1), 0, program_.numbers.size() * sizeof reading);
      }
      reinterpret_cast<CounterReading*>(memory_.counters.at(header.counters - 1))[part.index] = reading;
    }
    if (!reader.complete()) return row.refuse(fmt::format("{}: {}", schema_.parts[p].name, reader.mistake()));
  }
}

void EntityCodec::release(std::byte* record) const {
  auto& header = at<EntityHeader>(record, 0);
  if (header.counters != 0) memory_.counters.release(header.counters - 1);
  header.counters = 0;
  for (const NumberRings& number : program_.rings) {
    for (const NumberRings::Window& window : number.rings) {
      if (number.kind == RingKind::kCount) memory_.rings.clear(at<Ring<CountTotals>>(record, window.offset));
      if (number.kind == RingKind::kSum) memory_.rings.clear(at<Ring<SumTotals>>(record, window.offset));
      if (number.kind == RingKind::kMoments) memory_.rings.clear(at<Ring<MomentTotals>>(record, window.offset));
    }
  }
  for (std::size_t i = 0; i < memory_.operators.size(); ++i)
    memory_.operators[i]->release(record + program_.operators[i].offset);
  for (const DeviationStep& step : program_.deviations) {
    if (step.method == DeviationMethod::kQuartiles) {
      memory_.quartiles.clear(at<QuartileState>(record, step.offset));
    } else {
      clear_ewma(at<EwmaState>(record, step.offset), memory_.pending);
    }
  }
}

}  // namespace alcedo::features
