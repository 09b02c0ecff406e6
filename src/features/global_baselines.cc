// One pass over all events in their order: integer histograms, so that nothing but the events themselves decides a
// level.
#include <algorithm>
#include <cmath>
#include <vector>

#include "features/counter_rate.h"
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

}  // namespace

struct GlobalBaselines::Impl {
  std::vector<Source> sources;
  std::vector<int> source_of;  // by feature; -1: not a baseline
  std::vector<Level> levels;   // snapshot by snapshot, sources within
  std::uint32_t newest = 0;
  RecordPool readings{sizeof(CounterReading)};
};

GlobalBaselines::GlobalBaselines(const FeaturePlan& plan) : impl_(std::make_unique<Impl>()) {
  const auto& features = plan.options().features;
  impl_->source_of.assign(features.size(), -1);
  for (std::uint32_t f = 0; f < features.size(); ++f) {
    if (features[f].kind != FeatureKind::kBaseline) continue;
    impl_->source_of[f] = static_cast<int>(impl_->sources.size());
    Source& source = impl_->sources.emplace_back();
    source.feature = f;
    source.number = static_cast<std::uint32_t>(features[f].number);
    source.key = static_cast<std::uint32_t>(features[f].key);
  }
  impl_->levels.assign(impl_->sources.size(), Level{kMissing, kMissing, 0});
}
GlobalBaselines::GlobalBaselines(GlobalBaselines&&) noexcept = default;
GlobalBaselines::~GlobalBaselines() = default;

void GlobalBaselines::begin_batch() {
  Impl& impl = *impl_;
  const auto newest = impl.levels.begin() + static_cast<std::ptrdiff_t>(impl.newest * impl.sources.size());
  impl.levels.erase(impl.levels.begin(), newest);
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
  return impl.newest;
}

void GlobalBaselines::tick() {
  Impl& impl = *impl_;
  const auto changed = [](const Source& source) {
    return source.histogram.count() >= kFewestValues && source.added * kChangedShare >= source.histogram.count();
  };
  if (std::none_of(impl.sources.begin(), impl.sources.end(), changed)) return;
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
  ++impl.newest;
}

GlobalBaselines::Level GlobalBaselines::level(std::uint32_t snapshot, std::size_t feature) const {
  const int source = impl_->source_of[feature];
  if (source < 0) return {kMissing, kMissing, 0};
  return impl_->levels[snapshot * impl_->sources.size() + static_cast<std::size_t>(source)];
}

}  // namespace alcedo::features
