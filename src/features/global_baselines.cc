// One pass over all events in their order: integer histograms and one sum a feature, so that nothing but the events
// themselves decides a level or a total.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/hash.h"
#include "features/confirmed_rate.h"
#include "features/counter_rate.h"
#include "features/faded_count.h"
#include "features/key_table.h"
#include "features/log_histogram.h"
#include "features/record_pool.h"
#include "features/stage.h"

namespace alcedo::features {
namespace {

constexpr std::uint64_t kFewestValues = 100;  // below, there is no level
constexpr std::uint64_t kChangedShare = 20;   // a snapshot is made anew when 1/20 of the values are new

// One baseline's number over all entities.
struct Source {
  std::uint32_t feature = 0;
  std::uint32_t number = 0;
  std::uint32_t key = 0;
  LogHistogram histogram;
  std::uint64_t added = 0;  // since the newest snapshot
  // Rates of counters are an entity's own business, so their last readings are kept here too, only for entities that
  // have any.
  KeyTable counter_of;
};

// So many values are followed exactly; beyond, a sample of them.
constexpr std::size_t kSampledMax = 4096;
// So many of them may be frequent ones, which a sample of values would miss or overrate: of these, events are sampled.
constexpr std::size_t kFrequentMax = 1024;

// How many values one key had, over all of them, and how rare they usually were. The counts of the values themselves
// are with their stages, on other threads: here a sample of them is kept, exact up to kSampledMax.
struct TotalSource {
  std::uint32_t feature = 0;
  std::uint32_t key = 0;
  double half_life_ms = 0;
  FadedCount count{};
  std::uint64_t added = 0;  // since the newest snapshot
  KeyTable sampled;
  std::uint32_t thinned = 0;  // one of 2^thinned values, and of frequent ones one of as many events, is taken
  double frequent_from = std::numeric_limits<double>::infinity();  // counts above are frequent
  std::uint64_t seen = 0;                                          // events, for taking one of so many
  LogHistogram rarities;                                           // of what was taken, since the first snapshot

  bool takes_value(std::uint64_t hash) const { return thinned == 0 || mix64(hash) >> (64 - thinned) == 0; }
  bool takes_event() const { return (seen & ((std::uint64_t{1} << thinned) - 1)) == 0; }
};

// How many events of all entities were confirmed.
struct RateSource {
  std::uint32_t feature = 0;
  std::uint32_t key = 0;
  FeatureSpec spec;
  ConfirmedRate rate;
  bool changed = false;  // since the newest snapshot
};

struct TotalLevel {
  FadedCount count{};
  GlobalBaselines::Level rarity{kMissing, kMissing, 0};
};

}  // namespace

struct GlobalBaselines::Impl {
  Impl() = default;
  explicit Impl(const FeaturePlan& plan);
  /// The same sources, without any values.
  std::unique_ptr<Impl> anew() const;
  void save_source(std::size_t s, StateWriter& writer) const;
  void load_source(std::size_t s, StateReader& reader);
  void save_total(std::size_t t, StateWriter& writer) const;
  void load_total(std::size_t t, StateReader& reader);
  void start_levels();
  void save_rate(std::size_t r, StateWriter& writer) const;
  void load_rate(std::size_t r, StateReader& reader);
  void add_value(std::size_t t, std::uint64_t hash, std::int64_t time_ms);
  void thin(TotalSource& total);

  StateSchema schema;  // parts are sources, then totals, then rates
  std::vector<Source> sources;
  std::vector<int> source_of;  // by feature; -1: not a baseline
  std::vector<Level> levels;   // snapshot by snapshot, sources within
  std::vector<TotalSource> totals;
  std::vector<int> total_of;             // by feature; -1: not a rarity by everyone
  std::vector<TotalLevel> total_levels;  // snapshot by snapshot, totals within
  std::vector<RateSource> rates;
  std::vector<int> rate_of;        // by feature; -1: counts no confirmed events
  std::vector<Level> rate_levels;  // snapshot by snapshot, rates within
  std::uint32_t newest = 0;
  RecordPool readings{sizeof(CounterReading)};
  RecordPool samples{sizeof(FadedCount)};
};

GlobalBaselines::Impl::Impl(const FeaturePlan& plan) {
  const auto& layout = plan.options().layout;
  const auto& features = plan.options().features;
  schema.layout_hash = layout_hash(layout);
  source_of.assign(features.size(), -1);
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    if (features[f].kind != FeatureKind::kBaseline) continue;
    source_of[f] = static_cast<int>(sources.size());
    Source& source = sources.emplace_back();
    source.feature = f;
    source.number = static_cast<std::uint32_t>(features[f].number);
    source.key = static_cast<std::uint32_t>(features[f].key);
    schema.features.push_back({features[f].name, feature_fingerprint(features[f], layout)});
    const std::string meaning = fmt::format("baseline|{}|{}|{}", features[f].name,
                                            number_name(layout, features[f].number), layout.keys[source.key]);
    schema.parts.push_back({features[f].name, hash64(meaning), 0});
  }
  total_of.assign(features.size(), -1);
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    if (features[f].kind != FeatureKind::kGlobalRarity) continue;
    total_of[f] = static_cast<int>(totals.size());
    TotalSource& total = totals.emplace_back();
    total.feature = f;
    total.key = static_cast<std::uint32_t>(features[f].key);
    total.half_life_ms = static_cast<double>(features[f].half_life_ms);
    schema.features.push_back({features[f].name, feature_fingerprint(features[f], layout)});
    const std::string meaning =
        fmt::format("total|{}|{}|{}", features[f].name, layout.keys[total.key], features[f].half_life_ms);
    schema.parts.push_back({features[f].name, hash64(meaning), 0});
  }
  rate_of.assign(features.size(), -1);
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    if (features[f].kind != FeatureKind::kConfirmed) continue;
    rate_of[f] = static_cast<int>(rates.size());
    const auto key = static_cast<std::uint32_t>(features[f].key);
    rates.push_back({f, key, features[f], ConfirmedRate(features[f])});
    const std::uint64_t fingerprint = feature_fingerprint(features[f], layout);
    schema.features.push_back({features[f].name, fingerprint});
    schema.parts.push_back({features[f].name, hash64(fmt::format("rate|{}|{}", features[f].name, fingerprint)), 0});
  }
  schema.finish();
  start_levels();
}

void GlobalBaselines::Impl::start_levels() {
  levels.assign(sources.size(), Level{kMissing, kMissing, 0});
  total_levels.assign(totals.size(), TotalLevel{});
  rate_levels.assign(rates.size(), Level{kMissing, kMissing, 0});
}

std::unique_ptr<GlobalBaselines::Impl> GlobalBaselines::Impl::anew() const {
  auto made = std::make_unique<Impl>();
  made->schema = schema;
  made->source_of = source_of;
  for (const Source& source : sources) {
    Source& same = made->sources.emplace_back();
    same.feature = source.feature;
    same.number = source.number;
    same.key = source.key;
  }
  made->total_of = total_of;
  for (const TotalSource& total : totals) {
    TotalSource& same = made->totals.emplace_back();
    same.feature = total.feature;
    same.key = total.key;
    same.half_life_ms = total.half_life_ms;
  }
  made->rate_of = rate_of;
  for (const RateSource& rate : rates)
    made->rates.push_back({rate.feature, rate.key, rate.spec, ConfirmedRate(rate.spec)});
  made->start_levels();
  return made;
}

// Sample and hold: a value is followed from its first taken event on, so that one which becomes frequent is soon known.
// Source: C. Estan, G. Varghese, "New directions in traffic measurement and accounting", SIGCOMM 2002.
void GlobalBaselines::Impl::add_value(std::size_t t, std::uint64_t hash, std::int64_t time_ms) {
  TotalSource& total = totals[t];
  ++total.seen;
  const bool takes_value = total.takes_value(hash);
  const bool takes_event = total.takes_event();
  std::uint32_t handle = total.sampled.find(hash);
  const bool is_new = handle == KeyTable::kNone && (takes_value || takes_event);
  if (is_new) {
    bool added = false;
    handle = total.sampled.find_or_add(hash, [&] { return samples.allocate(); }, added);
    *reinterpret_cast<FadedCount*>(samples.at(handle)) = FadedCount{};
  }
  if (handle != KeyTable::kNone) {
    auto& own = *reinterpret_cast<FadedCount*>(samples.at(handle));
    const double count = own.at(time_ms, total.half_life_ms);
    const FadedCount& level = total_levels[newest * totals.size() + t].count;
    const bool taken = count > total.frequent_from ? takes_event : takes_value;
    // Before the first snapshot nothing is known of how rare a value is.
    if (taken && level.weight != 0) {
      const double of = std::max(count, level.at(time_ms, total.half_life_ms));
      const double rarity = std::log10((of + 1) / (count + 1));
      if (std::isfinite(rarity)) total.rarities.add(rarity);  // loaded counts may be anything
    }
    own.add(time_ms, total.half_life_ms);
  }
  total.count.add(time_ms, total.half_life_ms);
  ++total.added;
  if (is_new && total.sampled.size() > kSampledMax) thin(total);
}

// What was forgotten leaves first; then half of the values that are not frequent do, until a quarter is free.
void GlobalBaselines::Impl::thin(TotalSource& total) {
  std::vector<std::uint64_t> leave;
  const auto left = [&](std::uint32_t handle) {
    return reinterpret_cast<const FadedCount*>(samples.at(handle))->at(total.count.clock_ms, total.half_life_ms);
  };
  const auto drop = [&](auto&& leaves) {
    leave.clear();
    total.sampled.for_each([&](std::uint64_t hash, std::uint32_t handle) {
      if (leaves(hash, left(handle))) leave.push_back(hash);
    });
    for (const std::uint64_t hash : leave) samples.release(total.sampled.erase(hash));
  };
  drop([](std::uint64_t, double count) { return count == 0; });
  if (total.sampled.size() <= kSampledMax / 4 * 3) return;
  std::vector<double> counts;
  total.sampled.for_each([&](std::uint64_t, std::uint32_t handle) { counts.push_back(left(handle)); });
  const auto frequent = counts.begin() + kFrequentMax;
  std::nth_element(counts.begin(), frequent, counts.end(), std::greater<>());
  total.frequent_from = *frequent;
  while (total.sampled.size() > kSampledMax / 4 * 3 && total.thinned < 63) {
    ++total.thinned;
    total.rarities.halve();  // what is taken from now on stands for twice as much
    drop([&](std::uint64_t hash, double count) { return count <= total.frequent_from && !total.takes_value(hash); });
  }
}

// The count, values since the newest snapshot, that snapshot, the histogram of rarities, how the sample is taken, and
// the sample by ascending key; nothing if it saw none.
void GlobalBaselines::Impl::save_total(std::size_t t, StateWriter& writer) const {
  const TotalSource& total = totals[t];
  const TotalLevel& level = total_levels[newest * totals.size() + t];
  if (total.count.weight == 0) return;
  writer.f64(total.count.weight);
  writer.i64(total.count.clock_ms);
  writer.varint(total.added);
  writer.f64(level.count.weight);
  writer.i64(level.count.clock_ms);
  writer.f64(level.rarity.location);
  writer.f64(level.rarity.spread);
  writer.varint(level.rarity.count);
  total.rarities.save(writer);
  writer.varint(total.seen);
  writer.u8(static_cast<std::uint8_t>(total.thinned));
  writer.f64(total.frequent_from);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> values;
  total.sampled.for_each([&](std::uint64_t hash, std::uint32_t handle) { values.emplace_back(hash, handle); });
  std::ranges::sort(values);
  writer.varint(values.size());
  for (const auto& [hash, handle] : values) {
    const auto& count = *reinterpret_cast<const FadedCount*>(samples.at(handle));
    writer.u64(hash);
    writer.f64(count.weight);
    writer.i64(count.clock_ms);
  }
}

void GlobalBaselines::Impl::load_total(std::size_t t, StateReader& reader) {
  if (reader.left() == 0) return;
  TotalSource& total = totals[t];
  TotalLevel& level = total_levels[t];
  total.count.weight = reader.f64();
  total.count.clock_ms = reader.time_ms();
  total.added = reader.varint();
  level.count.weight = reader.f64();
  level.count.clock_ms = reader.time_ms();
  level.rarity.location = reader.f64();
  level.rarity.spread = reader.f64();
  level.rarity.count = reader.varint();
  total.rarities.load(reader);
  total.seen = reader.varint();
  total.thinned = reader.u8();
  total.frequent_from = reader.f64();
  const std::uint64_t values = reader.varint();
  if (!reader.ok()) return;
  if (total.count.weight == 0) return reader.refuse("counts nothing at a time of its own");
  if (total.added > UINT64_MAX / kChangedShare) return reader.refuse("counts more values than there can be");
  if (total.thinned > 63) return reader.refuse("takes fewer values than one of 2^63");
  if (values > kSampledMax) return reader.refuse(fmt::format("follows {} values; at most {} fit", values, kSampledMax));
  std::uint64_t before = 0;
  for (std::uint64_t i = 0; i < values; ++i) {
    const std::uint64_t hash = reader.u64();
    const FadedCount count{reader.f64(), reader.time_ms()};
    if (!reader.ok()) return;
    if (hash <= before) return reader.refuse("has values that are not in ascending order");
    // Counts are sorted.
    if (!std::isfinite(count.weight)) return reader.refuse("follows a value with a count that is no number");
    before = hash;
    bool added = false;
    const std::uint32_t handle = total.sampled.find_or_add(hash, [&] { return samples.allocate(); }, added);
    *reinterpret_cast<FadedCount*>(samples.at(handle)) = count;
  }
}

// Whether it has changed since the newest snapshot, that snapshot, and the rate; nothing if it counted none.
void GlobalBaselines::Impl::save_rate(std::size_t r, StateWriter& writer) const {
  if (!rates[r].rate.started()) return;
  const Level& level = rate_levels[newest * rates.size() + r];
  writer.u8(rates[r].changed ? 1 : 0);
  writer.f64(level.location);
  writer.varint(level.count);
  rates[r].rate.save(writer);
}

void GlobalBaselines::Impl::load_rate(std::size_t r, StateReader& reader) {
  if (reader.left() == 0) return;
  const std::uint8_t changed = reader.u8();
  if (changed > 1) return reader.refuse("has a rate that is neither changed nor not");
  rates[r].changed = changed == 1;
  rate_levels[r].location = reader.f64();
  rate_levels[r].count = reader.varint();
  rates[r].rate.load(reader);
}

// Histogram, values since the newest snapshot, that snapshot, and the last readings of counters by ascending key.
void GlobalBaselines::Impl::save_source(std::size_t s, StateWriter& writer) const {
  const Source& source = sources[s];
  source.histogram.save(writer);
  writer.varint(source.added);
  const Level& level = levels[newest * sources.size() + s];
  writer.f64(level.location);
  writer.f64(level.spread);
  writer.varint(level.count);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> entities;
  source.counter_of.for_each([&](std::uint64_t hash, std::uint32_t handle) { entities.emplace_back(hash, handle); });
  std::ranges::sort(entities);
  writer.varint(entities.size());
  for (const auto& [hash, handle] : entities) {
    const auto& reading = *reinterpret_cast<const CounterReading*>(readings.at(handle));
    writer.u64(hash);
    writer.u8(reading.known == 0 ? 0 : 1);
    if (reading.known == 0) continue;
    writer.f64(reading.value);
    writer.i64(reading.time_ms);
  }
}

void GlobalBaselines::Impl::load_source(std::size_t s, StateReader& reader) {
  Source& source = sources[s];
  source.histogram.load(reader);
  source.added = reader.varint();
  levels[s].location = reader.f64();
  levels[s].spread = reader.f64();
  levels[s].count = reader.varint();
  // Both are multiplied.
  if (source.added > UINT64_MAX / kChangedShare) return reader.refuse("counts more values than there can be");
  std::uint64_t before = 0;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    const std::uint64_t hash = reader.u64();
    CounterReading reading{0, 0, reader.u8()};
    if (reading.known > 1) return reader.refuse("has a reading that is neither known nor unknown");
    if (reading.known == 1) {
      reading.value = reader.f64();
      reading.time_ms = reader.time_ms();
    }
    if (!reader.ok()) return;
    if (hash <= before) return reader.refuse("has readings that are not in ascending order");
    before = hash;
    bool added = false;
    const std::uint32_t handle = source.counter_of.find_or_add(hash, [&] { return readings.allocate(); }, added);
    *reinterpret_cast<CounterReading*>(readings.at(handle)) = reading;
  }
}

std::string GlobalBaselines::save() const {
  std::string body;
  StateWriter writer(body);
  impl_->schema.save(writer);
  std::string source;
  for (std::size_t s = 0; s < impl_->sources.size(); ++s) {
    source.clear();
    StateWriter source_writer(source);
    impl_->save_source(s, source_writer);
    writer.text(source);
  }
  for (std::size_t t = 0; t < impl_->totals.size(); ++t) {
    source.clear();
    StateWriter total_writer(source);
    impl_->save_total(t, total_writer);
    writer.text(source);
  }
  for (std::size_t r = 0; r < impl_->rates.size(); ++r) {
    source.clear();
    StateWriter rate_writer(source);
    impl_->save_rate(r, rate_writer);
    writer.text(source);
  }
  return seal_segment(SegmentContent::kBaselines, body);
}

Result<StateReport> GlobalBaselines::load(std::string_view segment) {
  const auto body = open_segment(SegmentContent::kBaselines, segment);
  if (!body) return std::unexpected(body.error());
  const auto corrupt = [](std::string_view what) {
    return error(ErrorCode::kCorrupt, fmt::format("state segment of the baselines: {}", what));
  };
  StateReader reader(*body);
  const StateSchema saved = StateSchema::load(reader);
  if (!reader.ok()) return corrupt(reader.mistake());
  auto loaded = impl_->anew();
  std::vector<std::vector<std::uint32_t>> readers;
  for (std::uint32_t p = 0; p < loaded->schema.parts.size(); ++p) readers.push_back({p});
  PartSources sources = match_parts(loaded->schema, readers, saved);
  for (std::size_t p = 0; p < saved.parts.size(); ++p) {
    const std::string_view bytes = reader.text();
    const auto at = std::ranges::find(sources.of, static_cast<int>(p));
    if (!reader.ok() || at == sources.of.end()) continue;
    StateReader source(bytes);
    const auto part = static_cast<std::size_t>(at - sources.of.begin());
    const std::size_t totals = loaded->sources.size();
    const std::size_t rates = totals + loaded->totals.size();
    if (part < totals) {
      loaded->load_source(part, source);
    } else if (part < rates) {
      loaded->load_total(part - totals, source);
    } else {
      loaded->load_rate(part - rates, source);
    }
    if (!source.complete()) return corrupt(fmt::format("{}: {}", saved.parts[p].name, source.mistake()));
  }
  if (!reader.complete()) return corrupt(reader.mistake());
  for (const Source& source : loaded->sources) sources.report.entities += source.counter_of.size();
  impl_ = std::move(loaded);
  return std::move(sources.report);
}

GlobalBaselines::GlobalBaselines(const FeaturePlan& plan) : impl_(std::make_unique<Impl>(plan)) {}
GlobalBaselines::GlobalBaselines(GlobalBaselines&&) noexcept = default;
GlobalBaselines::~GlobalBaselines() = default;

void GlobalBaselines::begin_batch() {
  Impl& impl = *impl_;
  const auto newest = impl.levels.begin() + static_cast<std::ptrdiff_t>(impl.newest * impl.sources.size());
  impl.levels.erase(impl.levels.begin(), newest);
  const auto totals = impl.total_levels.begin() + static_cast<std::ptrdiff_t>(impl.newest * impl.totals.size());
  impl.total_levels.erase(impl.total_levels.begin(), totals);
  const auto rates = impl.rate_levels.begin() + static_cast<std::ptrdiff_t>(impl.newest * impl.rates.size());
  impl.rate_levels.erase(impl.rate_levels.begin(), rates);
  impl.newest = 0;
}

std::uint32_t GlobalBaselines::add(const EventBatch& batch, std::uint32_t row) {
  Impl& impl = *impl_;
  for (Source& source : impl.sources) {
    double x = batch.number(row, source.number);
    const std::uint64_t hash = batch.key(row, source.key).hash;
    if (hash == 0) continue;
    if ((batch.header(row).flags & kEventCounter) != 0) {
      bool added = false;
      const std::uint32_t handle = source.counter_of.find_or_add(hash, [&] { return impl.readings.allocate(); }, added);
      auto& last = *reinterpret_cast<CounterReading*>(impl.readings.at(handle));
      if (added) last = CounterReading{};
      x = counter_rate(last, x, batch.header(row).time_ms);
    }
    if (std::isnan(x)) continue;
    source.histogram.add(x);
    ++source.added;
  }
  for (std::size_t t = 0; t < impl.totals.size(); ++t) {
    const std::uint64_t hash = batch.key(row, impl.totals[t].key).hash;
    if (hash != 0) impl.add_value(t, hash, batch.header(row).time_ms);
  }
  for (RateSource& source : impl.rates) {
    if (batch.key(row, source.key).hash == 0) continue;
    const EventHeader& event = batch.header(row);
    const bool seen = source.rate.advance(event.time_ms);
    const bool told = (event.truth & kTruthTold) != 0;
    const bool counted =
        told && source.rate.learn(event.time_ms + source.spec.delay_ms, confirms(source.spec, event.truth));
    source.changed = source.changed || seen || counted;
  }
  return impl.newest;
}

void GlobalBaselines::learn_label(const LabelInput& label) {
  for (RateSource& source : impl_->rates) {
    if (label.entities[source.key].hash == 0 || !confirms(source.spec, label.truth)) continue;
    const bool counted = source.rate.learn_label(label.event_ms + source.spec.delay_ms, label.known_ms);
    source.changed = source.changed || counted;
  }
}

namespace {

GlobalBaselines::Level level_of(const LogHistogram& histogram) {
  return {histogram.quantile(0.5), (histogram.quantile(0.75) - histogram.quantile(0.25)) / 1.349, histogram.count()};
}

}  // namespace

void GlobalBaselines::tick() {
  Impl& impl = *impl_;
  const auto changed = [](const Source& source) {
    return source.histogram.count() >= kFewestValues && source.added * kChangedShare >= source.histogram.count();
  };
  const auto grown = [](const TotalSource& total) {
    return total.added != 0 && static_cast<double>(total.added * kChangedShare) >= total.count.weight;
  };
  if (std::none_of(impl.sources.begin(), impl.sources.end(), changed) &&
      std::none_of(impl.totals.begin(), impl.totals.end(), grown) &&
      std::ranges::none_of(impl.rates, &RateSource::changed))
    return;
  const std::size_t base = impl.newest * impl.sources.size();
  for (std::size_t s = 0; s < impl.sources.size(); ++s) {
    Level level = impl.levels[base + s];
    Source& source = impl.sources[s];
    if (changed(source)) {
      level = level_of(source.histogram);
      source.added = 0;
    }
    impl.levels.push_back(level);
  }
  const std::size_t total_base = impl.newest * impl.totals.size();
  for (std::size_t t = 0; t < impl.totals.size(); ++t) {
    TotalLevel level = impl.total_levels[total_base + t];
    TotalSource& total = impl.totals[t];
    if (grown(total)) {
      level.count = total.count;
      if (total.rarities.count() >= kFewestValues) level.rarity = level_of(total.rarities);
      total.added = 0;
    }
    impl.total_levels.push_back(level);
  }
  const std::size_t rate_base = impl.newest * impl.rates.size();
  for (std::size_t r = 0; r < impl.rates.size(); ++r) {
    Level level = impl.rate_levels[rate_base + r];
    RateSource& source = impl.rates[r];
    if (source.changed) level = {source.rate.rate(), kMissing, source.rate.known()};
    source.changed = false;
    impl.rate_levels.push_back(level);
  }
  ++impl.newest;
}

double GlobalBaselines::total(std::uint32_t snapshot, std::size_t feature, std::int64_t time_ms) const {
  const int total = impl_->total_of[feature];
  if (total < 0) return 0;
  const auto t = static_cast<std::size_t>(total);
  return impl_->total_levels[snapshot * impl_->totals.size() + t].count.at(time_ms, impl_->totals[t].half_life_ms);
}

GlobalBaselines::Level GlobalBaselines::level(std::uint32_t snapshot, std::size_t feature) const {
  const int source = impl_->source_of[feature];
  if (const int rate = impl_->rate_of[feature]; rate >= 0)
    return impl_->rate_levels[snapshot * impl_->rates.size() + static_cast<std::size_t>(rate)];
  if (const int total = impl_->total_of[feature]; total >= 0)
    return impl_->total_levels[snapshot * impl_->totals.size() + static_cast<std::size_t>(total)].rarity;
  if (source < 0) return {kMissing, kMissing, 0};
  return impl_->levels[snapshot * impl_->sources.size() + static_cast<std::size_t>(source)];
}

}  // namespace alcedo::features
