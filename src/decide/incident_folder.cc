// The first page leaves at once; evidence that doubles or is ten times rarer is worth an update, each single one is
// not.
#include "decide/incident_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/hash.h"
#include "core/time.h"

namespace alcedo::decide {
namespace {

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
  if (!opened && !worse && !rarer && state.evidence < incident.announce_at) return;
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
  while (incident.announce_at <= state.evidence) incident.announce_at *= 2;
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
    const std::int64_t quiet_at_ms = it->second.state.last_ms + anomalies_[it->second.type].quiet_ms;
    if (quiet_at_ms > deadline) {
      deadlines_.emplace(quiet_at_ms, id);
      continue;
    }
    resolve(id, it->second, position, out);
    ++position.index;
  }
}

}  // namespace alcedo::decide
