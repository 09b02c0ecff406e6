// Features in parallel by key, scores in parallel by row, decisions one after the other: only the last is
// order-sensitive across keys.
#include "pipeline/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "contract/fields/money.h"
#include "core/check.h"
#include "core/hash.h"
#include "core/time.h"
#include "features/operators/operator.h"
#include "features/state/segment.h"
#include "pipeline/pipeline_bundle.h"

namespace alcedo::pipeline {
namespace {

// Below this a second thread costs more than it brings.
constexpr std::size_t kParallelRowsMin = 192;
constexpr std::int64_t kForgetSilentMs = 7 * kDayMs;
// Positions of one input: its types' evidence first, then what its ticks cause.
constexpr std::uint32_t kTickIndexFirst = 1U << 16;
// Entities that each tick looks at: a million within the hour.
constexpr std::size_t kExpiryLooks = 300;
constexpr std::size_t kEvictShare = 4096;
constexpr std::size_t kReasonsOfModelMax = 3;
// State parts.
constexpr std::uint64_t kBaselinesPart = 1;
constexpr std::uint64_t kDeciderPart = 2;
constexpr std::uint64_t kFolderPart = 3;
constexpr std::uint64_t kSilenceParts = std::uint64_t{1} << 62U;

std::vector<models::DeviationDetector> make_detectors(const Pipeline& pipeline, const features::FeaturePlan& plan) {
  std::vector<models::DeviationDetector> detectors;
  for (const auto& spec : pipeline.detectors) {
    std::vector<models::DeviationColumns> columns;
    for (const std::uint32_t request : spec.requests) {
      for (const std::uint32_t index : plan.deviations_of(request)) {
        const auto& d = plan.deviations()[index];
        columns.push_back({d.name, d.seen, d.expected, d.spread, d.z, d.history, d.min_history});
      }
    }
    std::vector<std::uint32_t> summands;
    if (spec.kind == models::DetectorKind::kSum) {
      for (const std::string& name : spec.features) {
        const int column = plan.find_column(name);
        CHECK(column >= 0);  // the pipeline's file was checked for it
        summands.push_back(static_cast<std::uint32_t>(column));
      }
    }
    detectors.emplace_back(spec, std::move(columns), std::move(summands));
  }
  return detectors;
}

decide::IncidentFolder::Names names_of(const Pipeline& pipeline) {
  decide::IncidentFolder::Names names{pipeline.name, {}};
  for (const auto& anomaly : pipeline.anomalies) {
    const auto slot = anomaly.group >= 0 ? static_cast<std::size_t>(anomaly.group) : anomaly.by;
    names.keys.push_back(pipeline.features.layout.keys[slot]);
  }
  return names;
}

std::string watched_as(const Pipeline& pipeline, std::uint32_t type, const std::string& detector) {
  const auto& anomaly = pipeline.anomalies[type];
  const auto& keys = pipeline.features.layout.keys;
  return fmt::format("{}\n{}\n{}\n{}", anomaly.name, detector, keys[anomaly.by],
                     anomaly.group >= 0 ? keys[static_cast<std::size_t>(anomaly.group)] : "");
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(const Pipeline& pipeline, WorkerPool& pool) {
  auto plan = features::FeaturePlan::compile(pipeline.features);
  if (!plan) return std::unexpected(plan.error());
  if (auto mistake = learned_mistake(pipeline, *plan); !mistake.empty())
    return error(ErrorCode::kInvalidArgument, std::move(mistake));
  std::unique_ptr<Engine> engine(new Engine(pipeline, pool, std::move(*plan)));
  if (auto used = engine->use_bundle(); !used) return std::unexpected(used.error());
  return engine;
}

Result<> Engine::use_bundle() {
  if (!pipeline_.bundle) return {};
  auto learned = models::LearnedScorer::create(*pipeline_.bundle, pipeline_.detectors, plan_columns(plan_));
  if (!learned) return std::unexpected(learned.error());
  learned_ = std::move(*learned);
  if (pipeline_.bundle->calibration.empty()) return {};
  StateReader reader(pipeline_.bundle->calibration);
  decider_.load(reader, 0);
  if (reader.complete()) return {};
  return error(ErrorCode::kCorrupt,
               fmt::format("{}/{}: {}", pipeline_.bundle->directory, models::Bundle::kCalibration, reader.mistake()));
}

Engine::Engine(const Pipeline& pipeline, WorkerPool& pool, features::FeaturePlan plan)
    : pipeline_(pipeline),
      pool_(pool),
      plan_(std::move(plan)),
      event_columns_(plan_),
      global_(plan_),
      stages_(pool.workers()),
      rows_(pool.workers()),
      labels_(pool.workers()),
      detectors_(make_detectors(pipeline, plan_)),
      decider_(decider_options(pipeline)),
      folder_(names_of(pipeline), pipeline.anomalies) {
  for (auto& stages : stages_) {
    for (std::size_t s = 0; s < plan_.stages().size(); ++s) stages.emplace_back(plan_, s);
  }
  for (std::uint32_t t = 0; t < pipeline_.anomalies.size(); ++t) {
    for (const auto& vote : pipeline_.anomalies[t].votes) {
      const auto& detector = pipeline_.detectors[vote.detector];
      if (detector.kind == models::DetectorKind::kAbsent) {
        const std::uint64_t part = kSilenceParts | hash64(watched_as(pipeline_, t, detector.name)) >> 2U;
        watches_.push_back({t, vote.detector, part, decide::SilenceWatch(detector.absent_ms, kForgetSilentMs)});
      }
    }
  }
}

void Engine::process(const EventBatch& batch, std::span<const Tick> ticks, EngineOutput& out,
                     std::span<const LabelInput> labels) {
  const std::size_t rows = batch.rows();
  out.features.reset(rows, plan_.columns().size());
  out.raw.resize(rows * num_detectors());
  out.surprises.resize(rows * num_detectors());
  out.verdicts.resize(rows * num_types());
  out.changes.clear();
  snapshots_.resize(rows);

  global_.begin_batch();
  std::size_t next_tick = 0;
  std::size_t next_label = 0;
  // What comes before an event, in the order of inputs: a tick belongs to the input that caused it.
  const auto between = [&](std::size_t before) {
    for (;;) {
      const bool tick = next_tick < ticks.size() && ticks[next_tick].before <= before;
      const bool label = next_label < labels.size() && labels[next_label].before <= before;
      if (!tick && !label) return;
      if (tick && !(label && labels[next_label].sequence <= ticks[next_tick].sequence)) {
        global_.tick();
        ++next_tick;
      } else {
        global_.learn_label(labels[next_label++]);
      }
    }
  };
  for (std::size_t i = 0; i < batch.order.size(); ++i) {
    between(i);
    snapshots_[batch.order[i]] = global_.add(batch, batch.order[i]);
  }
  between(batch.order.size());

  const std::size_t workers = stages_.size();
  const auto features_of = [&](std::size_t w) {
    for (std::size_t s = 0; s < stages_[w].size(); ++s) {
      const std::uint32_t slot = plan_.stages()[s];
      auto& mine = rows_[w];
      mine.clear();
      for (const std::uint32_t row : batch.order) {
        if (batch.key(row, slot).group * workers / kKeyGroups == w) mine.push_back(row);
      }
      auto& told = labels_[w];
      told.clear();
      for (const LabelInput& label : labels) {
        if (label.entities[slot].group * workers / kKeyGroups == w) told.push_back(&label);
      }
      stages_[w][s].process(batch, mine, global_, snapshots_, out.features, told);
      if (vectors_) vectors_->write(s, batch, mine, out.features);
    }
  };
  const std::size_t n = batch.order.size();
  if (workers == 1 || n < kParallelRowsMin) {
    for (std::size_t w = 0; w < workers; ++w) features_of(w);
    score_rows(batch, 0, n, out);
  } else {
    pool_.run(features_of);
    pool_.run([&](std::size_t w) { score_rows(batch, n * w / workers, n * (w + 1) / workers, out); });
  }
  decide_rows(batch, ticks, out);
  if (!ticks.empty() && plan_.options().forget_ms > 0) {
    for (auto& stages : stages_) {
      for (auto& stage : stages) stage.expire(ticks.back().time_ms, kExpiryLooks + n / 4);
    }
  }
}

void Engine::keep_vectors(const features::VectorStore::Options& options) {
  vectors_ = std::make_unique<features::VectorStore>(plan_, options);
}

void Engine::score_rows(const EventBatch& batch, std::size_t first, std::size_t last, EngineOutput& out) const {
  for (std::size_t i = first; i < last; ++i) {
    const std::uint32_t row = batch.order[i];
    event_columns_.write(batch, row, out.features.row(row));
    const auto features = static_cast<const FeatureMatrix&>(out.features).row(row);
    float* raw = out.raw.data() + row * detectors_.size();
    for (std::size_t d = 0; d < detectors_.size(); ++d) raw[d] = detectors_[d].score(features).score;
  }
  learned_.score(out.features, std::span(batch.order).subspan(first, last - first), detectors_.size(), out.raw);
}

void Engine::decide_rows(const EventBatch& batch, std::span<const Tick> ticks, EngineOutput& out) {
  const std::size_t num_types = this->num_types();
  const std::size_t num_detectors = this->num_detectors();
  std::vector<std::uint64_t> keys(num_types);
  std::size_t next_tick = 0;
  for (std::size_t i = 0; i < batch.order.size(); ++i) {
    for (; next_tick < ticks.size() && ticks[next_tick].before <= i; ++next_tick) tick(ticks[next_tick], out);
    const std::uint32_t row = batch.order[i];
    const EventHeader& event = batch.header(row);
    for (std::size_t t = 0; t < num_types; ++t) keys[t] = batch.key(row, pipeline_.anomalies[t].by).hash;
    decider_.decide(event.time_ms, {out.raw.data() + row * num_detectors, num_detectors}, keys,
                    {out.surprises.data() + row * num_detectors, num_detectors},
                    {out.verdicts.data() + row * num_types, num_types});
    if (!watches_.empty()) watch_silence(batch, row, out);
    if (!alerting_) continue;
    for (std::size_t t = 0; t < num_types; ++t) {
      if (out.verdicts[row * num_types + t].fired) fold(batch, row, t, out);
    }
  }
  for (; next_tick < ticks.size(); ++next_tick) tick(ticks[next_tick], out);
}

void Engine::fold(const EventBatch& batch, std::uint32_t row, std::size_t type, EngineOutput& out) {
  const EventHeader& event = batch.header(row);
  const decide::AnomalySpec& anomaly = pipeline_.anomalies[type];
  const decide::TypeVerdict& verdict = out.verdicts[row * num_types() + type];
  decide::Evidence evidence;
  evidence.position = {event.sequence, static_cast<std::uint32_t>(type)};
  evidence.time_ms = event.time_ms;
  evidence.type = static_cast<std::uint32_t>(type);
  evidence.key = batch.key(row, anomaly.by).text;
  if (anomaly.group >= 0) {
    evidence.member = evidence.key;
    evidence.key = batch.key(row, static_cast<std::size_t>(anomaly.group)).text;
  }
  evidence.event_id = event.id;
  evidence.score = static_cast<double>(verdict.surprise);
  evidence.provisional = verdict.provisional;
  evidence.due_ns = event.due_ns;
  folder_.add(evidence, [&] { return explain(batch, row, type, out); }, out.changes);
}

void Engine::watch_silence(const EventBatch& batch, std::uint32_t row, EngineOutput& out) {
  const EventHeader& event = batch.header(row);
  for (Watch& watch : watches_) {
    const decide::AnomalySpec& anomaly = pipeline_.anomalies[watch.type];
    const Key& key = batch.key(row, anomaly.by);
    if (key.hash == 0) continue;
    const std::string_view group =
        anomaly.group >= 0 ? batch.key(row, static_cast<std::size_t>(anomaly.group)).text : std::string_view();
    if (watch.silence.seen(key.hash, key.text, group, event.time_ms)) {
      folder_.release(watch.type, anomaly.group >= 0 ? group : key.text, {event.sequence, watch.type}, event.time_ms,
                      out.changes);
    }
  }
}

void Engine::tick(const Tick& tick, EngineOutput& out) {
  decider_.tick(tick.time_ms);
  if (tick.sequence != tick_sequence_) {
    tick_sequence_ = tick.sequence;
    tick_index_ = kTickIndexFirst;
  }
  for (Watch& watch : watches_) {
    std::vector<decide::SilenceWatch::Silent> alarms;
    std::vector<decide::SilenceWatch::Silent> forgotten;
    watch.silence.tick(tick.time_ms, alarms, forgotten);
    const bool grouped = pipeline_.anomalies[watch.type].group >= 0;
    for (const auto& silent : alarms) {
      if (!alerting_) continue;
      decide::Evidence evidence;
      evidence.position = {tick.sequence, tick_index_++};
      evidence.time_ms = silent.since_ms;
      evidence.type = watch.type;
      evidence.key = grouped ? silent.group : silent.key;
      if (grouped) evidence.member = silent.key;
      evidence.pins = true;
      evidence.score = 1;
      const auto& detector = pipeline_.detectors[watch.detector];
      const auto tell = [&] {
        Reason reason{detector.name,
                      "silence",
                      static_cast<double>(tick.time_ms - silent.last_ms) / 1000,
                      static_cast<double>(detector.absent_ms) / 1000,
                      0,
                      1,
                      0,
                      {}};
        reason.text = fmt::format("silent since {}, expected an event at least every {}",
                                  format_iso_time(silent.last_ms), format_duration(detector.absent_ms));
        return decide::Explanation{{std::move(reason)}, {{detector.name, 1, 1, 0}}};
      };
      folder_.add(evidence, tell, out.changes);
    }
    for (const auto& gone : forgotten) {
      folder_.release(watch.type, grouped ? gone.group : gone.key, {tick.sequence, tick_index_++}, tick.time_ms,
                      out.changes);
    }
  }
  const std::size_t before = out.changes.size();
  folder_.tick({tick.sequence, tick_index_}, tick.time_ms, out.changes);
  tick_index_ += static_cast<std::uint32_t>(out.changes.size() - before);
}

double Engine::unit_of(const EventBatch& batch, std::uint32_t row, std::uint32_t feature, std::string_view column,
                       std::string* currency) const {
  const auto& spec = pipeline_.features.features[feature];
  if (spec.number < 0 || !pipeline_.features.layout.numbers[static_cast<std::size_t>(spec.number)].money) return 1;
  // Of operators' columns only what judges or ranks the number itself is in its unit.
  const bool in_unit = features::judges_its_number(spec.kind) || spec.kind == features::FeatureKind::kQuantiles;
  if (features::has_operator(spec.kind) && !in_unit) return 1;
  // Counts, ratios and gaps of a money feature are plain numbers.
  const std::string_view stat = column.substr(std::min(column.size(), column.rfind('.') + 1));
  const bool plain =
      column.find('.') != std::string_view::npos &&
      (stat.starts_with("events") || stat.starts_with("ratio") || stat.starts_with("gap") || stat.starts_with("count"));
  if (plain) return 1;
  const std::string_view key = batch.key(row, static_cast<std::size_t>(spec.key)).text;
  const auto bar = key.rfind('|');
  if (bar == std::string_view::npos) return 1;
  *currency = std::string(key.substr(bar + 1));
  return std::pow(10.0, std::max(0, contract::minor_unit_digits(*currency)));
}

decide::Explanation Engine::explain(const EventBatch& batch, std::uint32_t row, std::size_t type,
                                    const EngineOutput& out) const {
  decide::Explanation explanation;
  const auto features = out.features.row(row);
  struct Voter {
    double moved;
    std::size_t detector;
    double weight;
  };
  std::vector<Voter> voters;
  for (const auto& vote : pipeline_.anomalies[type].votes) {
    const double surprise = out.surprises[row * num_detectors() + vote.detector];
    if (!std::isnan(surprise)) voters.push_back({vote.weight * surprise, vote.detector, vote.weight});
  }
  std::stable_sort(voters.begin(), voters.end(), [](const Voter& a, const Voter& b) { return a.moved > b.moved; });
  // Where incidents are folded by group, the reason must say which member it is about.
  std::string who;
  if (pipeline_.anomalies[type].group >= 0) {
    std::string_view member = batch.key(row, pipeline_.anomalies[type].by).text;
    while (member.ends_with('|')) member.remove_suffix(1);
    who = fmt::format("{}: ", member);
  }
  for (const Voter& voter : voters) {
    explanation.votes.push_back({pipeline_.detectors[voter.detector].name, voter.weight,
                                 static_cast<double>(out.raw[row * num_detectors() + voter.detector]),
                                 static_cast<double>(out.surprises[row * num_detectors() + voter.detector])});
    if (learned_.has(voter.detector)) {
      explain_learned(batch, row, voter.detector, features, who, explanation);
    } else if (pipeline_.detectors[voter.detector].kind == models::DetectorKind::kSum) {
      explain_sum(voter.detector, features, who, explanation);
    } else {
      explain_deviation(batch, row, voter.detector, features, who, explanation);
    }
  }
  return explanation;
}

void Engine::explain_deviation(const EventBatch& batch, std::uint32_t row, std::size_t index,
                               std::span<const float> features, const std::string& who, decide::Explanation& to) const {
  const auto& detector = detectors_[index];
  const models::RawScore raw = detector.score(features);
  if (std::isnan(raw.score) || !(raw.score > 0)) return;
  const models::DeviationColumns& d = detector.deviations()[raw.which];
  std::string currency;
  const double unit = unit_of(batch, row, plan_.columns()[d.z].feature, d.name, &currency);
  Reason reason;
  reason.detector = detector.spec().name;
  reason.feature = d.name;
  reason.seen = static_cast<double>(features[d.seen]) / unit;
  reason.expected = static_cast<double>(features[d.expected]) / unit;
  reason.spread = static_cast<double>(features[d.spread]) / unit;
  reason.score = static_cast<double>(raw.score);
  reason.history = static_cast<double>(features[d.history]);
  const bool quartiles = detector.spec().kind == models::DetectorKind::kIqr;
  const std::string money = currency.empty() ? "" : " " + currency;
  const auto number = [&](double value) {
    return currency.empty() ? fmt::format("{:.4g}", value) : fmt::format("{:.2f}", value);
  };
  reason.text = fmt::format("{}{} {}{}, expected {} +- {} ({} {:.1f}{})", who, d.name, number(reason.seen), money,
                            number(reason.expected), number(reason.spread), quartiles ? "IQRs out:" : "z", reason.score,
                            reason.history < d.min_history ? ", from all entities: too little history of its own" : "");
  to.reasons.push_back(std::move(reason));
}

// The summands, the largest first.
void Engine::explain_sum(std::size_t index, std::span<const float> features, const std::string& who,
                         decide::Explanation& to) const {
  const auto& detector = detectors_[index];
  const float sum = detector.score(features).score;
  std::vector<std::uint32_t> columns = detector.columns();
  std::erase_if(columns, [&](std::uint32_t column) { return !(features[column] > 0); });
  std::ranges::stable_sort(columns, [&](std::uint32_t a, std::uint32_t b) { return features[a] > features[b]; });
  if (columns.size() > kReasonsOfModelMax) columns.resize(kReasonsOfModelMax);
  for (const std::uint32_t column : columns) {
    const std::string& name = plan_.columns()[column].name;
    Reason reason;
    reason.detector = detector.spec().name;
    reason.feature = name;
    reason.seen = static_cast<double>(features[column]);
    reason.score = reason.seen;
    // A surprise is a probability: said as such it needs no unit.
    const std::string rare = name.ends_with(".surprise") ? fmt::format(", once in {:.0f} of its own past",
                                                                       std::pow(10.0, std::min(reason.seen, 15.0)))
                                                         : std::string();
    reason.text = fmt::format("{}{} {:.2f}{} ({} {:.2f} in all)", who, name, reason.seen, rare, reason.detector, sum);
    to.reasons.push_back(std::move(reason));
  }
}

void Engine::explain_learned(const EventBatch& batch, std::uint32_t row, std::size_t index,
                             std::span<const float> features, const std::string& who, decide::Explanation& to) const {
  std::vector<models::Contribution> most;
  learned_.explain(index, features, most, kReasonsOfModelMax);
  for (const models::Contribution& one : most) {
    if (!(one.moved > 0)) continue;
    const auto& column = plan_.columns()[one.column];
    std::string currency;
    const double unit = unit_of(batch, row, column.feature, column.name, &currency);
    Reason reason;
    reason.detector = pipeline_.detectors[index].name;
    reason.feature = column.name;
    reason.seen = static_cast<double>(features[one.column]) / unit;
    reason.expected = static_cast<double>(one.usual) / unit;
    reason.score = static_cast<double>(one.moved);
    const auto number = [&](double value) {
      if (std::isnan(value)) return std::string("missing");
      return currency.empty() ? fmt::format("{:.4g}", value) : fmt::format("{:.2f} {}", value, currency);
    };
    reason.text = fmt::format("{}{} {}, usually {} ({} {:+.2f})", who, column.name, number(reason.seen),
                              number(reason.expected), reason.detector, reason.score);
    to.reasons.push_back(std::move(reason));
  }
}

void Engine::track_changes() {
  for (auto& stages : stages_) {
    for (auto& stage : stages) stage.track_changes();
  }
}

void Engine::begin_capture(std::uint32_t epoch, bool all) {
  for (auto& stages : stages_) {
    for (auto& stage : stages) stage.begin_capture(epoch, all);
  }
}

// Stage by stage and, since workers own ascending key groups, in the order of the rows' keys.
bool Engine::capture(std::size_t rows_max, features::CapturedRows& out) {
  const std::size_t end = out.rows.size() + rows_max;
  for (std::size_t s = 0; s < plan_.stages().size(); ++s) {
    for (auto& stages : stages_) {
      const std::size_t before = out.rows.size();
      const bool done = stages[s].capture(end > before ? end - before : 0, out);
      for (std::size_t i = before; i < out.rows.size(); ++i) out.rows[i].stage = static_cast<std::uint32_t>(s);
      if (!done) return false;
    }
  }
  return true;
}

void Engine::capture_lost() {
  for (auto& stages : stages_) {
    for (auto& stage : stages) stage.capture_lost();
  }
}

Result<> Engine::load_row(std::size_t stage, const features::StateSchema& schema, std::uint8_t group,
                          std::uint64_t entity, std::string_view row, std::uint32_t epoch, bool cold) {
  if (group >= kKeyGroups || entity == 0)
    return error(ErrorCode::kCorrupt, fmt::format("a row of key group {} and entity {:016x}", group, entity));
  features::KeyedStage& to = stages_[group * stages_.size() / kKeyGroups][stage];
  return cold ? to.add_cold(entity, group, epoch) : to.load_entity(schema, entity, group, row, epoch);
}

void Engine::save_parts(std::vector<StatePart>& parts) const {
  parts.push_back({kBaselinesPart, global_.save()});
  const auto add = [&](std::uint64_t id, const auto& state) {
    StatePart part{id, {}};
    StateWriter writer(part.bytes);
    state.save(writer);
    parts.push_back(std::move(part));
  };
  add(kDeciderPart, decider_);
  add(kFolderPart, folder_);
  for (const Watch& watch : watches_) add(watch.part, watch.silence);
}

Result<std::string> Engine::load_part(std::uint64_t id, StateReader& reader) {
  if (id == kBaselinesPart) {
    auto report = global_.load(reader.bytes(reader.left()));
    if (!report) return std::unexpected(report.error());
    return report->same_plan ? std::string() : "baselines over all entities: " + describe(*report);
  }
  if (id == kDeciderPart) {
    const auto report = decider_.load(reader);
    const auto changed = [](const auto& entry) { return entry.fate != decide::CalibrationReport::Fate::kKept; };
    const bool any = std::ranges::any_of(report.detectors, changed) || std::ranges::any_of(report.anomalies, changed);
    return any ? "calibration: " + describe(report) : std::string();
  }
  if (id == kFolderPart) {
    const auto loaded = folder_.load(reader);
    return loaded.ending == 0 ? std::string()
                              : fmt::format("{} of {} open incidents are of a type that is no more, and will resolve",
                                            loaded.ending, loaded.open);
  }
  const auto watch = std::ranges::find(watches_, id, &Watch::part);
  if (watch == watches_.end()) {
    reader.bytes(reader.left());
    return "who was silent is forgotten: a vote of an absent detector is no more";
  }
  watch->silence.load(reader);
  watch->loaded = true;
  return std::string();
}

void Engine::finish_load() {
  for (std::uint32_t t = 0; t < pipeline_.anomalies.size(); ++t) {
    const auto watches = [t](const Watch& watch) { return watch.type == t && watch.loaded; };
    if (std::ranges::none_of(watches_, watches)) folder_.unpin(t);
  }
}

void Engine::keep_cold(const ColdReader& read) {
  for (auto& stages : stages_) {
    for (std::uint32_t s = 0; s < stages.size(); ++s) {
      stages[s].keep_cold([read, s](std::uint64_t entity, std::uint8_t group, std::uint32_t epoch) {
        return read(s, group, entity, epoch);
      });
    }
  }
}

bool Engine::evict(std::size_t bytes_max, std::size_t rows, std::uint32_t published) {
  const std::size_t bytes = state_bytes();
  if (bytes <= bytes_max) return true;
  // Memory that is given back stays with the stage for others. Beyond the bound each batch gives back some more than it
  // may take, so that no batch pays for all.
  bool enough = true;
  for (auto& stages : stages_) {
    for (auto& stage : stages) {
      stage.evict(2 * rows + stage.resident() / kEvictShare, published);
      enough = enough && stage.free_records() >= std::min(rows, stage.resident() / 2);
    }
  }
  return enough;
}

std::size_t Engine::resident_entities() const {
  std::size_t sum = 0;
  for (const auto& stages : stages_) {
    for (const auto& stage : stages) sum += stage.resident();
  }
  return sum;
}

const Error* Engine::fault() const {
  for (const auto& stages : stages_) {
    for (const auto& stage : stages) {
      if (stage.fault()) return &*stage.fault();
    }
  }
  return nullptr;
}

std::size_t Engine::entities() const {
  std::size_t total = 0;
  for (const auto& worker : stages_) {
    for (const auto& stage : worker) total += stage.entities();
  }
  return total;
}

std::size_t Engine::state_bytes() const {
  std::size_t total = 0;
  for (const auto& worker : stages_) {
    for (const auto& stage : worker) total += stage.state_bytes();
  }
  return total;
}

}  // namespace alcedo::pipeline
