// Votes and rules. Everything that learns here learns from integers in input order and shows itself only at ticks.
#include "decide/decider.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::decide {
namespace {

constexpr double kDayMs = 86'400'000;
// A rate needs some scores behind it before it may page: an estimate from fewer than this is noise.
constexpr std::uint64_t kScoresToFireMin = 200;
// A subset with fewer scores than this has no tail of its own yet.
constexpr std::uint64_t kSubsetScoresMin = 1000;
// Sketches fade when they hold this many: the tail of 0.1 % then still rests on more than a hundred scores.
constexpr std::uint64_t kSketchScoresMax = 1 << 18;
constexpr std::size_t kAboveMax = 65'536;
constexpr std::size_t kVotesMax = 32;

std::uint64_t meaning_in(std::uint64_t meaning, std::uint64_t edition) {
  return edition == 0 ? meaning : mix64(meaning ^ edition);
}

std::uint32_t all_voters(std::size_t votes) { return static_cast<std::uint32_t>((std::uint64_t{1} << votes) - 1); }

template <typename T>
bool names_differ(const std::vector<T>& named) {
  std::vector<std::string_view> names;
  for (const T& one : named) names.push_back(one.name);
  std::ranges::sort(names);
  return std::ranges::adjacent_find(names) == names.end();
}

}  // namespace

Decider::Decider(Options options)
    : options_(std::move(options)), detectors_(options_.detectors.size()), types_(options_.anomalies.size()) {
  CHECK(names_differ(options_.detectors) && names_differ(options_.anomalies));
  options_.entities.resize(options_.anomalies.size());
  for (const auto& anomaly : options_.anomalies) {
    CHECK(anomaly.votes.size() <= kVotesMax);
    for (const auto& vote : anomaly.votes) CHECK(vote.detector < options_.detectors.size() && vote.weight > 0);
  }
  update_rates();
}

bool Decider::frozen() const {
  return std::ranges::all_of(detectors_, &DetectorState::frozen) && std::ranges::all_of(types_, &TypeState::frozen);
}

bool Decider::voters_frozen(std::size_t type) const {
  return std::ranges::all_of(options_.anomalies[type].votes,
                             [&](const VoteSpec& vote) { return detectors_[vote.detector].frozen; });
}

double Decider::type_surprise(std::size_t type, std::uint32_t voters, float score) const {
  for (const auto& subset : types_[type].subsets) {
    if (subset.voters != voters) continue;
    if (subset.sketch.published() < std::min(kSubsetScoresMin, options_.calibrate_events / 4)) break;
    return subset.sketch.surprise(score);
  }
  return score;
}

void Decider::decide(std::int64_t time_ms, std::span<const float> raw, std::span<const std::uint64_t> keys,
                     std::span<float> surprises, std::span<TypeVerdict> verdicts) {
  for (std::size_t d = 0; d < detectors_.size(); ++d) {
    DetectorState& detector = detectors_[d];
    if (!detector.frozen) ++detector.events;
    if (std::isnan(raw[d])) {
      surprises[d] = raw[d];
      continue;
    }
    surprises[d] = static_cast<float>(detector.sketch.surprise(raw[d]));
    if (!detector.frozen) detector.sketch.add(raw[d]);
  }
  for (std::size_t t = 0; t < options_.anomalies.size(); ++t) {
    const AnomalySpec& anomaly = options_.anomalies[t];
    TypeState& type = types_[t];
    TypeVerdict& verdict = verdicts[t];
    verdict = {};
    if (!type.frozen) {
      if (type.events == 0) type.first_ms = time_ms;
      type.last_ms = std::max(type.last_ms, time_ms);
      ++type.events;
    }
    if (keys[t] == 0) continue;
    double sum = 0;
    double weights = 0;
    std::uint32_t voters = 0;
    for (std::size_t v = 0; v < anomaly.votes.size(); ++v) {
      const auto& vote = anomaly.votes[v];
      if (std::isnan(surprises[vote.detector])) {
        if (anomaly.weights_learnt) weights += vote.weight;
        continue;
      }
      voters |= 1U << v;
      sum += vote.weight * static_cast<double>(surprises[vote.detector]);
      weights += vote.weight;
    }
    if (voters == 0) continue;
    if (anomaly.weights_learnt) voters = all_voters(anomaly.votes.size());
    verdict.score = static_cast<float>(sum / weights);
    verdict.surprise = static_cast<float>(type_surprise(t, voters, verdict.score));
    verdict.provisional = !type.frozen;
    if (!type.frozen) {
      ++type.scored;
      auto it = std::ranges::find(type.subsets, voters, &Subset::voters);
      if (it == type.subsets.end()) it = type.subsets.insert(it, {voters, {}});
      it->sketch.add(verdict.score);
    }
    verdict.fired = fires(t, verdict);
    if (anomaly.for_ms > 0) {
      auto& above = type.above;
      if (!verdict.fired) {
        above.erase(keys[t]);
      } else {
        auto& state = above.try_emplace(keys[t], Above{time_ms, time_ms}).first->second;
        state.last_ms = std::max(state.last_ms, time_ms);
        verdict.fired = state.last_ms - state.since_ms >= anomaly.for_ms;
      }
    }
  }
}

bool Decider::fires(std::size_t type, const TypeVerdict& verdict) const {
  const FireRule& rule = options_.anomalies[type].fire;
  switch (rule.kind) {
    case FireRule::Kind::kAlways:
      return verdict.score > 0;
    case FireRule::Kind::kThreshold:
      return verdict.score >= rule.value;
    case FireRule::Kind::kRate:
    case FireRule::Kind::kBudget:
      return types_[type].rate > 0 && verdict.surprise > 0 && verdict.surprise >= -std::log10(types_[type].rate);
  }
  return false;
}

void Decider::update_rates() {
  const auto estimated = [](const FireRule& rule) {
    return rule.kind == FireRule::Kind::kRate || rule.kind == FireRule::Kind::kBudget;
  };
  double sum = 0;
  for (std::size_t t = 0; t < types_.size(); ++t) {
    const FireRule& rule = options_.anomalies[t].fire;
    TypeState& type = types_[t];
    if (!estimated(rule)) {
      type.rate = 1;
      continue;
    }
    double rate = 0;
    if (rule.kind == FireRule::Kind::kRate) {
      rate = rule.value;
    } else {
      const double days = static_cast<double>(type.told_ms) / kDayMs;
      // Less than a minute of event time says nothing about a day.
      if (days > 60'000 / kDayMs && type.told_scored > 0) {
        rate = std::min(1.0, rule.value * days / static_cast<double>(type.told_scored));
      }
    }
    if (type.told_scored < std::min(kScoresToFireMin, options_.calibrate_events)) rate = 0;
    type.rate = rate;
    sum += rate;
  }
  if (options_.rate_max > 0 && sum > options_.rate_max) {
    for (std::size_t t = 0; t < types_.size(); ++t) {
      if (estimated(options_.anomalies[t].fire)) types_[t].rate *= options_.rate_max / sum;
    }
  }
}

void Decider::tick(std::int64_t time_ms) {
  for (auto& type : types_) {
    if (type.above.size() < kAboveMax) continue;
    std::erase_if(type.above, [&](const auto& entry) {
      return entry.second.last_ms < time_ms - static_cast<std::int64_t>(kDayMs);
    });
  }
  for (DetectorState& detector : detectors_) {
    if (detector.frozen || detector.events == 0) continue;
    detector.frozen = detector.events >= options_.calibrate_events / 2;
    if (detector.sketch.count() >= kSketchScoresMax) detector.sketch.fade(1);
    detector.sketch.publish(detector.frozen);
  }
  bool learning = false;
  for (std::size_t t = 0; t < types_.size(); ++t) {
    TypeState& type = types_[t];
    if (type.frozen || type.events == 0) continue;
    learning = true;
    type.frozen = type.events >= options_.calibrate_events;
    // From here on the voters' surprises no longer move under the subsets: what they learnt before counts little.
    if (!type.settled && voters_frozen(t)) {
      type.settled = true;
      for (auto& subset : type.subsets) subset.sketch.fade(4);
    }
    for (auto& subset : type.subsets) {
      if (subset.sketch.count() >= kSketchScoresMax) subset.sketch.fade(1);
      subset.sketch.publish(type.frozen);
    }
    type.told_scored = type.scored;
    type.told_ms = type.last_ms - type.first_ms;
  }
  if (learning) update_rates();
}

// --- State. The order of subsets cannot be seen, so the bytes have them by their voters.

struct Decider::Saved {
  struct SavedDetector {
    std::string name;
    std::uint64_t meaning = 0;
    DetectorState state;
  };
  struct Vote {
    std::string detector;
    double weight = 0;
  };
  struct SavedType {
    std::string name;
    std::string entity;
    FireRule fire;
    std::vector<Vote> votes;
    TypeState state;
  };
  std::vector<SavedDetector> detectors;
  std::vector<SavedType> types;
};

void Decider::save(StateWriter& writer) const {
  writer.varint(detectors_.size());
  for (std::size_t d = 0; d < detectors_.size(); ++d) {
    writer.text(options_.detectors[d].name);
    writer.u64(meaning_in(options_.detectors[d].meaning, options_.edition));
    writer.varint(detectors_[d].events);
    writer.u8(detectors_[d].frozen ? 1 : 0);
    detectors_[d].sketch.save(writer);
  }
  writer.varint(types_.size());
  for (std::size_t t = 0; t < types_.size(); ++t) save_type(t, writer);
}

void Decider::save_type(std::size_t index, StateWriter& writer) const {
  const AnomalySpec& anomaly = options_.anomalies[index];
  const TypeState& type = types_[index];
  writer.text(anomaly.name);
  writer.text(options_.entities[index]);
  writer.u8(static_cast<std::uint8_t>(anomaly.fire.kind));
  writer.f64(anomaly.fire.value);
  writer.varint(anomaly.votes.size());
  for (const VoteSpec& vote : anomaly.votes) {
    writer.text(options_.detectors[vote.detector].name);
    writer.f64(vote.weight);
  }
  writer.varint(type.events);
  writer.i64(type.first_ms);
  writer.i64(type.last_ms);
  writer.varint(type.scored);
  writer.varint(type.told_scored);
  writer.i64(type.told_ms);
  writer.u8(static_cast<std::uint8_t>((type.settled ? 1U : 0U) | (type.frozen ? 2U : 0U)));
  std::vector<const Subset*> subsets;
  for (const Subset& subset : type.subsets) subsets.push_back(&subset);
  std::ranges::sort(subsets, {}, &Subset::voters);
  writer.varint(subsets.size());
  for (const Subset* subset : subsets) {
    writer.u32(subset->voters);
    subset->sketch.save(writer);
  }
  std::vector<std::pair<std::uint64_t, Above>> above(type.above.begin(), type.above.end());
  std::ranges::sort(above, {}, [](const auto& entry) { return entry.first; });
  writer.varint(above.size());
  for (const auto& [key, state] : above) {
    writer.u64(key);
    writer.i64(state.since_ms);
    writer.i64(state.last_ms);
  }
}

Decider::Saved Decider::load_saved(StateReader& reader) {
  Saved saved;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    auto& detector = saved.detectors.emplace_back();
    detector.name = reader.text();
    detector.meaning = reader.u64();
    detector.state.events = reader.varint();
    const std::uint8_t frozen = reader.u8();
    if (frozen > 1) reader.refuse("has a detector that is neither frozen nor not");
    detector.state.frozen = frozen != 0;
    detector.state.sketch.load(reader);
  }
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    auto& type = saved.types.emplace_back();
    TypeState& state = type.state;
    type.name = reader.text();
    type.entity = reader.text();
    const std::uint8_t kind = reader.u8();
    if (kind > static_cast<std::uint8_t>(FireRule::Kind::kAlways)) reader.refuse("has an unknown kind of fire rule");
    type.fire = {static_cast<FireRule::Kind>(kind), reader.f64()};
    const std::uint64_t votes = reader.varint();
    if (votes > kVotesMax) reader.refuse(fmt::format("has a type with {} votes; at most {} fit", votes, kVotesMax));
    for (std::uint64_t v = 0; v < votes && reader.ok(); ++v) {
      const std::string_view detector = reader.text();
      type.votes.push_back({std::string(detector), reader.f64()});
    }
    state.events = reader.varint();
    state.first_ms = reader.time_ms();
    state.last_ms = reader.time_ms();
    state.scored = reader.varint();
    state.told_scored = reader.varint();
    state.told_ms = reader.i64();
    const std::uint8_t flags = reader.u8();
    if (flags > 3) reader.refuse("has a type in an unknown state of calibration");
    state.settled = (flags & 1U) != 0;
    state.frozen = (flags & 2U) != 0;
    for (std::uint64_t more = reader.varint(); more != 0 && reader.ok(); --more) {
      const std::uint32_t voters = reader.u32();
      if (voters >= std::uint64_t{1} << votes || voters <= (state.subsets.empty() ? 0 : state.subsets.back().voters))
        reader.refuse("has subsets of voters that are not of its votes, or not in ascending order");
      if (!reader.ok()) break;
      state.subsets.push_back({voters, {}});
      state.subsets.back().sketch.load(reader);
    }
    std::uint64_t before = 0;
    for (std::uint64_t more = reader.varint(); more != 0 && reader.ok(); --more) {
      const std::uint64_t key = reader.u64();
      const std::int64_t since_ms = reader.time_ms();
      const std::int64_t last_ms = reader.time_ms();
      if (reader.ok() && key <= before) reader.refuse("has entities above a threshold that are not in ascending order");
      if (reader.ok()) state.above.emplace(key, Above{since_ms, last_ms});
      before = key;
    }
  }
  if (reader.ok() && !(names_differ(saved.detectors) && names_differ(saved.types)))
    reader.refuse("has two detectors or two types of one name");
  return saved;
}

// Returns why the type begins anew; empty: it was taken over.
std::string Decider::take_type(std::size_t index, Saved& saved, const std::vector<bool>& kept_detectors) {
  const AnomalySpec& anomaly = options_.anomalies[index];
  auto& from = *std::ranges::find(saved.types, anomaly.name, &Saved::SavedType::name);
  if (from.entity != options_.entities[index])
    return fmt::format("it is about {}, and was about {}", options_.entities[index], from.entity);
  if (from.fire.kind != anomaly.fire.kind) return "its kind of fire rule has changed";
  if (from.votes.size() != anomaly.votes.size()) return "its votes have changed";
  std::vector<std::size_t> place;  // by saved vote: the vote here
  for (const auto& vote : from.votes) {
    std::size_t at = 0;
    for (; at < anomaly.votes.size(); ++at) {
      const VoteSpec& mine = anomaly.votes[at];
      if (options_.detectors[mine.detector].name == vote.detector && mine.weight == vote.weight &&
          std::ranges::find(place, at) == place.end())
        break;
    }
    if (at == anomaly.votes.size()) return "its votes have changed";
    place.push_back(at);
  }
  for (const VoteSpec& vote : anomaly.votes) {
    if (!kept_detectors[vote.detector])
      return fmt::format("its voter {} began anew", options_.detectors[vote.detector].name);
  }
  for (Subset& subset : from.state.subsets) {
    std::uint32_t voters = 0;
    for (std::size_t v = 0; v < place.size(); ++v) voters |= (subset.voters >> v & 1U) << place[v];
    subset.voters = voters;
  }
  // Who was above another threshold is not known to be above this one.
  if (anomaly.for_ms == 0 || from.fire.value != anomaly.fire.value) from.state.above.clear();
  types_[index] = std::move(from.state);
  return {};
}

CalibrationReport Decider::load(StateReader& reader, std::uint64_t edition) {
  using Fate = CalibrationReport::Fate;
  Saved saved = load_saved(reader);
  if (!reader.ok()) return {};
  CalibrationReport report;
  std::vector<bool> kept(detectors_.size(), false);
  for (std::size_t d = 0; d < detectors_.size(); ++d) {
    const Detector& detector = options_.detectors[d];
    auto& entry = report.detectors.emplace_back(detector.name, Fate::kKept, std::string());
    const auto from = std::ranges::find(saved.detectors, detector.name, &Saved::SavedDetector::name);
    if (from == saved.detectors.end()) {
      entry.fate = Fate::kAdded;
    } else if (from->meaning != meaning_in(detector.meaning, edition)) {
      entry.fate = Fate::kReset;
      entry.why = "what it looks at has changed";
    } else {
      kept[d] = true;
      detectors_[d] = std::move(from->state);
    }
  }
  for (std::size_t t = 0; t < types_.size(); ++t) {
    auto& entry = report.anomalies.emplace_back(options_.anomalies[t].name, Fate::kKept, std::string());
    if (std::ranges::find(saved.types, entry.name, &Saved::SavedType::name) == saved.types.end()) {
      entry.fate = Fate::kAdded;
    } else {
      entry.why = take_type(t, saved, kept);
      if (!entry.why.empty()) entry.fate = Fate::kReset;
    }
    // Where no voter moves any more, nothing that will be learnt has to fade for it.
    if (entry.fate != Fate::kKept && types_[t].events == 0) types_[t].settled = voters_frozen(t);
  }
  for (const auto& gone : saved.detectors) {
    if (std::ranges::find(options_.detectors, gone.name, &Detector::name) == options_.detectors.end())
      report.detectors.push_back({gone.name, Fate::kRemoved, {}});
  }
  for (const auto& gone : saved.types) {
    if (std::ranges::find(options_.anomalies, gone.name, &AnomalySpec::name) == options_.anomalies.end())
      report.anomalies.push_back({gone.name, Fate::kRemoved, {}});
  }
  update_rates();
  return report;
}

std::string describe(const CalibrationReport& report) {
  using Fate = CalibrationReport::Fate;
  const auto listed = [](std::string_view what, const std::vector<CalibrationReport::Entry>& entries) {
    std::string text;
    for (const auto& [fate, verb] : {std::pair(Fate::kKept, "kept"), std::pair(Fate::kAdded, "added"),
                                     std::pair(Fate::kReset, "reset"), std::pair(Fate::kRemoved, "removed")}) {
      bool first = true;
      for (const auto& entry : entries) {
        if (entry.fate != fate) continue;
        text += first ? fmt::format("{} {} {}", text.empty() ? "" : ";", verb, entry.name) : ", " + entry.name;
        if (!entry.why.empty()) text += fmt::format(" ({})", entry.why);
        first = false;
      }
    }
    return fmt::format("{}:{}", what, text.empty() ? " none" : text);
  };
  return listed("detectors", report.detectors) + "; " + listed("anomalies", report.anomalies);
}

}  // namespace alcedo::decide
