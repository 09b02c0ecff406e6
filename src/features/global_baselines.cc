// One pass over all events in their order: integer histograms and one sum a feature, so that nothing but the events
// themselves decides a level or a total.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

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

// How many values one key had, over all of them.
struct TotalSource {
  std::uint32_t feature = 0;
  std::uint32_t key = 0;
  double half_life_ms = 0;
  FadedCount count{};
  std::uint64_t added = 0;  // since the newest snapshot
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

  StateSchema schema;  // parts are sources, then totals
  std::vector<Source> sources;
  std::vector<int> source_of;  // by feature; -1: not a baseline
  std::vector<Level> levels;   // snapshot by snapshot, sources within
  std::vector<TotalSource> totals;
  std::vector<int> total_of;             // by feature; -1: not a rarity by everyone
  std::vector<FadedCount> total_levels;  // snapshot by snapshot, totals within
  std::uint32_t newest = 0;
  RecordPool readings{sizeof(CounterReading)};
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
  schema.finish();
  start_levels();
}

void GlobalBaselines::Impl::start_levels() {
  levels.assign(sources.size(), Level{kMissing, kMissing, 0});
  total_levels.assign(totals.size(), FadedCount{});
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
  for (const TotalSource& total : totals)
    made->totals.push_back({.feature = total.feature, .key = total.key, .half_life_ms = total.half_life_ms});
  made->start_levels();
  return made;
}

// The count, values since the newest snapshot, and that snapshot; nothing if it saw none.
void GlobalBaselines::Impl::save_total(std::size_t t, StateWriter& writer) const {
  const TotalSource& total = totals[t];
  const FadedCount& level = total_levels[newest * totals.size() + t];
  if (total.count.weight == 0) return;
  writer.f64(total.count.weight);
  writer.i64(total.count.clock_ms);
  writer.varint(total.added);
  writer.f64(level.weight);
  writer.i64(level.clock_ms);
}

void GlobalBaselines::Impl::load_total(std::size_t t, StateReader& reader) {
  if (reader.left() == 0) return;
  TotalSource& total = totals[t];
  total.count.weight = reader.f64();
  total.count.clock_ms = reader.time_ms();
  total.added = reader.varint();
  total_levels[t].weight = reader.f64();
  total_levels[t].clock_ms = reader.time_ms();
  if (total.count.weight == 0) return reader.refuse("counts nothing at a time of its own");
  if (total.added > UINT64_MAX / kChangedShare) return reader.refuse("counts more values than there can be");
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
    if (part < loaded->sources.size()) {
      loaded->load_source(part, source);
    } else {
      loaded->load_total(part - loaded->sources.size(), source);
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
  for (TotalSource& total : impl.totals) {
    if (batch.key(row, total.key).hash == 0) continue;
    total.count.add(batch.header(row).time_ms, total.half_life_ms);
    ++total.added;
  }
  return impl.newest;
}

void GlobalBaselines::tick() {
  Impl& impl = *impl_;
  const auto changed = [](const Source& source) {
    return source.histogram.count() >= kFewestValues && source.added * kChangedShare >= source.histogram.count();
  };
  const auto grown = [](const TotalSource& total) {
    return total.added != 0 && static_cast<double>(total.added * kChangedShare) >= total.count.weight;
  };
  if (std::none_of(impl.sources.begin(), impl.sources.end(), changed) &&
      std::none_of(impl.totals.begin(), impl.totals.end(), grown))
    return;
  const std::size_t base = impl.newest * impl.sources.size();
  for (std::size_t s = 0; s < impl.sources.size(); ++s) {
    Level level = impl.levels[base + s];
    Source& source = impl.sources[s];
    if (changed(source)) {
      level.location = source.histogram.quantile(0.5);
      level.spread = (source.histogram.quantile(0.75) - source.histogram.quantile(0.25)) / 1.349;
      level.count = source.histogram.count();
      source.added = 0;
    }
    impl.levels.push_back(level);
  }
  const std::size_t total_base = impl.newest * impl.totals.size();
  for (std::size_t t = 0; t < impl.totals.size(); ++t) {
    FadedCount level = impl.total_levels[total_base + t];
    TotalSource& total = impl.totals[t];
    if (grown(total)) {
      level = total.count;
      total.added = 0;
    }
    impl.total_levels.push_back(level);
  }
  ++impl.newest;
}

double GlobalBaselines::total(std::uint32_t snapshot, std::size_t feature, std::int64_t time_ms) const {
  const int total = impl_->total_of[feature];
  if (total < 0) return 0;
  const auto t = static_cast<std::size_t>(total);
  return impl_->total_levels[snapshot * impl_->totals.size() + t].at(time_ms, impl_->totals[t].half_life_ms);
}

GlobalBaselines::Level GlobalBaselines::level(std::uint32_t snapshot, std::size_t feature) const {
  const int source = impl_->source_of[feature];
  if (source < 0) return {kMissing, kMissing, 0};
  return impl_->levels[snapshot * impl_->sources.size() + static_cast<std::size_t>(source)];
}

}  // namespace alcedo::features
