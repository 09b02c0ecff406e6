// The first page leaves at once; evidence that doubles or is ten times rarer is worth an update, each single one is
// not.
#include "decide/incident_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

#include "core/hash.h"
#include "core/time.h"

namespace alcedo::decide {
namespace {

constexpr std::uint64_t kPinsMax = 1U << 30U;

// A type's name may come twice for a key: where the type is about something else now, its old incidents still end.
auto place_of(const IncidentChange& incident) {
  return std::tuple<std::string_view, std::string_view, std::string_view>(incident.type, incident.key,
                                                                          incident.key_name);
}

std::string incident_id(std::uint32_t type, std::string_view key) { return fmt::format("{}|{}", type, key); }

}  // namespace

IncidentFolder::IncidentFolder(Names names, std::vector<AnomalySpec> anomalies)
    : names_(std::move(names)), anomalies_(std::move(anomalies)) {}

Severity IncidentFolder::severity_of(Impact impact, double score) {
  const bool extreme = score >= 6;  // one in a million
  switch (impact) {
    case Impact::kHigh:
      return extreme ? Severity::kCritical : Severity::kError;
    case Impact::kMedium:
      return extreme ? Severity::kError : Severity::kWarning;
    case Impact::kLow:
      return extreme ? Severity::kWarning : Severity::kInfo;
  }
  return Severity::kWarning;
}

std::int64_t IncidentFolder::quiet_at_ms(const Incident& incident) const {
  return incident.state.last_ms + (incident.type == kGone ? 0 : anomalies_[incident.type].quiet_ms);
}

void IncidentFolder::add(const Evidence& evidence, const std::function<Explanation()>& explain,
                         std::vector<IncidentChange>& out) {
  const AnomalySpec& anomaly = anomalies_[evidence.type];
  const std::string id = incident_id(evidence.type, evidence.key);
  const auto [it, opened] = open_.try_emplace(id);
  Incident& incident = it->second;
  IncidentChange& state = incident.state;
  if (opened) {
    incident.type = evidence.type;
    state.pipeline = names_.pipeline;
    state.type = anomaly.name;
    state.key = evidence.key;
    state.key_name = names_.keys[evidence.type];
    state.impact = anomaly.impact;
    state.runbook = anomaly.runbook;
    state.first_ms = state.last_ms = evidence.time_ms;
    state.first_event = evidence.event_id;
    state.due_ns = evidence.due_ns;
    std::uint64_t identity = hash_combine(hash64(state.pipeline), hash64(state.type));
    identity = hash_combine(identity, hash64(state.key));
    identity = hash_combine(identity, evidence.position.sequence);
    state.incident = fmt::format("alcedo-{}-{}-{:016x}", state.pipeline, state.type, identity);
    if (!evidence.pins) deadlines_.emplace(evidence.time_ms + anomaly.quiet_ms, id);
  }
  if (evidence.pins) ++incident.pins;
  state.first_ms = std::min(state.first_ms, evidence.time_ms);
  state.last_ms = std::max(state.last_ms, evidence.time_ms);
  ++state.evidence;
  if (!evidence.member.empty() &&
      std::find(state.members.begin(), state.members.end(), evidence.member) == state.members.end()) {
    // Beyond the shown ones a member may be counted again: an upper bound that needs no unbounded set.
    ++state.members_total;
    if (state.members.size() < kMembersShown) state.members.emplace_back(evidence.member);
  }
  const bool stronger = opened || evidence.score > state.score;
  const Severity severity = severity_of(anomaly.impact, std::max(evidence.score, state.score));
  const bool worse = !opened && severity > state.severity;
  // Scores are -log10 of a probability, so 1 more is ten times rarer: who was told of a lesser thing must hear of this.
  const bool rarer = !opened && evidence.score >= state.score + 1;
  // The score stays that of what was announced, so that the next announcement tells of anything stronger.
  const bool doubled = std::has_single_bit(state.evidence);  // 1, 2, 4, 8 ...
  if (!opened && !worse && !rarer && !doubled) return;
  if (stronger || state.reasons.empty()) {
    auto explanation = explain();
    state.reasons = std::move(explanation.reasons);
    state.votes = std::move(explanation.votes);
    state.provisional = evidence.provisional;
  }
  state.score = std::max(state.score, evidence.score);
  state.severity = severity;
  state.position = evidence.position;
  state.kind = opened ? IncidentChange::Kind::kOpen : IncidentChange::Kind::kUpdate;
  const std::string about = state.key.empty() ? state.pipeline : fmt::format("{} {}", state.key_name, state.key);
  state.summary = fmt::format("{}: {}{}", state.type, about,
                              state.reasons.empty() ? std::string() : fmt::format(": {}", state.reasons.front().text));
  if (state.evidence > 1)
    state.summary += fmt::format(" ({} events since {})", state.evidence, format_iso_time(state.first_ms));
  out.push_back(state);
}

void IncidentFolder::resolve(const std::string& id, Incident& incident, Position position,
                             std::vector<IncidentChange>& out) {
  IncidentChange change = std::move(incident.state);
  change.kind = IncidentChange::Kind::kResolve;
  change.position = position;
  change.due_ns = 0;
  open_.erase(id);
  out.push_back(std::move(change));
}

void IncidentFolder::release(std::uint32_t type, std::string_view key, Position position, std::int64_t time_ms,
                             std::vector<IncidentChange>& out) {
  const std::string id = incident_id(type, key);
  const auto it = open_.find(id);
  if (it == open_.end() || it->second.pins == 0) return;
  it->second.state.last_ms = std::max(it->second.state.last_ms, time_ms);
  if (--it->second.pins == 0) resolve(id, it->second, position, out);
}

void IncidentFolder::tick(Position position, std::int64_t time_ms, std::vector<IncidentChange>& out) {
  while (!deadlines_.empty() && deadlines_.top().first <= time_ms) {
    const auto [deadline, id] = deadlines_.top();
    deadlines_.pop();
    const auto it = open_.find(id);
    if (it == open_.end() || it->second.pins > 0) continue;
    const std::int64_t quiet_ms = quiet_at_ms(it->second);
    if (quiet_ms > deadline) {
      deadlines_.emplace(quiet_ms, id);
      continue;
    }
    resolve(id, it->second, position, out);
    ++position.index;
  }
}

void IncidentFolder::unpin(std::uint32_t type) {
  for (auto& [id, incident] : open_) {
    if (incident.type != type || incident.pins == 0) continue;
    incident.pins = 0;
    deadlines_.emplace(quiet_at_ms(incident), id);
  }
}

// What every announcement sets anew (kind, position) is not saved, nor the queue, which follows from the rest: exact
// deadlines resolve in the same order as those that lag behind, which are moved on first.
void IncidentFolder::save(StateWriter& writer) const {
  std::vector<const Incident*> sorted;
  sorted.reserve(open_.size());
  for (const auto& [id, incident] : open_) sorted.push_back(&incident);
  std::ranges::sort(sorted, {}, [](const Incident* incident) { return place_of(incident->state); });
  writer.varint(sorted.size());
  for (const Incident* incident : sorted) {
    const IncidentChange& state = incident->state;
    for (const std::string* text : {&state.type, &state.key, &state.key_name, &state.pipeline, &state.incident,
                                    &state.runbook, &state.first_event, &state.summary})
      writer.text(*text);
    writer.varint(static_cast<std::uint64_t>(incident->pins));
    writer.u8(static_cast<std::uint8_t>(state.impact));
    writer.u8(static_cast<std::uint8_t>(state.severity));
    writer.u8(state.provisional ? 1 : 0);
    writer.i64(state.first_ms);
    writer.i64(state.last_ms);
    writer.i64(state.due_ns);
    writer.varint(state.evidence);
    writer.f64(state.score);
    writer.varint(state.members_total);
    writer.varint(state.members.size());
    for (const std::string& member : state.members) writer.text(member);
    writer.varint(state.reasons.size());
    for (const Reason& reason : state.reasons) {
      writer.text(reason.detector);
      writer.text(reason.feature);
      for (const double x : {reason.seen, reason.expected, reason.spread, reason.score, reason.history}) writer.f64(x);
      writer.text(reason.text);
    }
    writer.varint(state.votes.size());
    for (const VoteRecord& vote : state.votes) {
      writer.text(vote.detector);
      for (const double x : {vote.weight, vote.score, vote.surprise}) writer.f64(x);
    }
  }
}

IncidentFolder::Incident IncidentFolder::load_incident(StateReader& reader) {
  Incident incident;
  IncidentChange& state = incident.state;
  for (std::string* text : {&state.type, &state.key, &state.key_name, &state.pipeline, &state.incident, &state.runbook,
                            &state.first_event, &state.summary})
    *text = reader.text();
  const std::uint64_t pins = reader.varint();
  const std::uint8_t impact = reader.u8();
  const std::uint8_t severity = reader.u8();
  const std::uint8_t provisional = reader.u8();
  if (pins > kPinsMax || impact > static_cast<std::uint8_t>(Impact::kHigh) ||
      severity > static_cast<std::uint8_t>(Severity::kCritical) || provisional > 1)
    reader.refuse("has an incident whose impact, severity or conditions are none that there are");
  incident.pins = static_cast<int>(pins);
  state.impact = static_cast<Impact>(impact);
  state.severity = static_cast<Severity>(severity);
  state.provisional = provisional != 0;
  state.first_ms = reader.time_ms();
  state.last_ms = reader.time_ms();
  state.due_ns = reader.i64();
  state.evidence = reader.varint();
  state.score = reader.f64();
  if (reader.ok() && (state.evidence == 0 || std::isnan(state.score)))
    reader.refuse("has an incident without evidence or score");
  state.members_total = reader.varint();
  const std::uint64_t members = reader.varint();
  if (members > kMembersShown)
    reader.refuse(fmt::format("has an incident that shows {} members; at most {} are", members, kMembersShown));
  for (std::uint64_t left = members; left != 0 && reader.ok(); --left) state.members.emplace_back(reader.text());
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    Reason& reason = state.reasons.emplace_back();
    reason.detector = reader.text();
    reason.feature = reader.text();
    for (double* x : {&reason.seen, &reason.expected, &reason.spread, &reason.score, &reason.history})
      *x = reader.f64();
    reason.text = reader.text();
  }
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    VoteRecord& vote = state.votes.emplace_back();
    vote.detector = reader.text();
    for (double* x : {&vote.weight, &vote.score, &vote.surprise}) *x = reader.f64();
  }
  return incident;
}

IncidentFolder::Loaded IncidentFolder::load(StateReader& reader) {
  std::vector<Incident> loaded;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    Incident incident = load_incident(reader);
    if (!reader.ok()) break;
    if (!loaded.empty() && place_of(incident.state) <= place_of(loaded.back().state))
      reader.refuse("has open incidents that are not in the order of type and key");
    loaded.push_back(std::move(incident));
  }
  if (!reader.ok()) return {};
  open_.clear();
  deadlines_ = {};
  Loaded result;
  for (Incident& incident : loaded) {
    const auto spec = std::ranges::find(anomalies_, incident.state.type, &AnomalySpec::name);
    const auto type = static_cast<std::uint32_t>(spec - anomalies_.begin());
    const bool goes_on = spec != anomalies_.end() && names_.keys[type] == incident.state.key_name;
    incident.type = goes_on ? type : kGone;
    if (!goes_on) incident.pins = 0;
    const std::string id =
        goes_on ? incident_id(type, incident.state.key)
                : fmt::format("gone|{}|{}|{}", incident.state.type, incident.state.key_name, incident.state.key);
    if (incident.pins == 0) deadlines_.emplace(quiet_at_ms(incident), id);
    open_.emplace(id, std::move(incident));
    ++result.open;
    result.ending += goes_on ? 0 : 1;
  }
  return result;
}

}  // namespace alcedo::decide
