// The sections that say what is judged and who hears of it: `detectors`, `anomalies`, `alerts`.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <utility>

#include "core/time.h"
#include "features/event_columns.h"
#include "pipeline/pipeline_file_sections.h"

namespace alcedo::pipeline {
namespace {

using decide::AnomalySpec;
using decide::FireRule;
using features::DeviationMethod;
using features::DeviationRequest;
using features::FeatureKind;
using models::DetectorKind;
using models::DetectorSpec;

constexpr std::string_view kDetectorsExample = "a map such as {habit_z: {zscore: [habit], side: above}}";
constexpr std::string_view kAnomaliesExample = "a map such as {unusual: {votes: {habit_z: 1}, fire: {budget: 40/day}}}";
constexpr std::string_view kVotesExample = "a map of detectors and their weights such as {habit_z: 1, spend_iqr: 2}";
constexpr std::string_view kFireExample = "{threshold: 6}, {rate: 0.1%}, {budget: 40/day} or always";
constexpr std::string_view kAlertsExample =
    "a list of routes such as [{to: pagerduty, when: {impact: high}}, {to: file, default: true}]";
constexpr std::string_view kFeatureExample = "features such as [habit, pace.events_1m]";

const std::vector<std::string> kKinds{"zscore", "iqr", "absent", "forest", "boosted", "sum"};  // by DetectorKind
const std::vector<std::string> kLaterKinds{"transformer", "rule"};
const std::vector<std::string> kImpacts{"low", "medium", "high"};
const std::vector<std::string> kLaterRouteKeys{"hold", "budget", "headers", "secret"};

std::uint32_t request_index(const DeviationRequest& wish, Draft& draft) {
  auto& requests = draft.pipeline.features.deviations;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].feature == wish.feature && requests[i].column == wish.column && requests[i].method == wish.method) {
      return static_cast<std::uint32_t>(i);
    }
  }
  requests.push_back(wish);
  return static_cast<std::uint32_t>(requests.size()) - 1;
}

// A column as it is: what is added up must be named, because a feature's columns have no common unit.
void read_summand(const YamlNode& node, std::size_t feature, Draft& draft, DetectorSpec& detector) {
  const std::string& name = draft.feature_names[feature];
  const auto& columns = draft.feature_columns[feature];
  const std::size_t dot = node.text.find('.');
  if (columns.empty()) {
    draft.mistakes.add(node, fmt::format("feature '{}' judges its number itself and has no columns to add up; use "
                                         "{{zscore: [{}]}}, or a feature of kind unusual",
                                         name, name));
  } else if (dot == std::string::npos) {
    draft.mistakes.add(node, fmt::format("a sum is of columns; expected one of feature '{}', such as {}.{}", name, name,
                                         columns.back()));
  } else if (const std::string column = node.text.substr(dot + 1);
             std::find(columns.begin(), columns.end(), column) == columns.end()) {
    draft.mistakes.add(node, unknown_name("column", column, fmt::format("of feature '{}'", name), columns));
  } else {
    detector.features.push_back(node.text);
  }
}

void read_wish(const YamlNode& node, Draft& draft, DetectorSpec& detector) {
  const std::size_t dot = node.text.find('.');
  const std::string name = node.text.substr(0, dot);
  const auto& names = draft.feature_names;
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    // Without the section, its absence is the one mistake.
    if (draft.has_features) draft.mistakes.add(node, unknown_name("feature", name, {}, names));
    return;
  }
  const auto index = static_cast<std::size_t>(found - names.begin());
  if (detector.kind == DetectorKind::kSum) {
    if (draft.feature_sound[index]) read_summand(node, index, draft, detector);
    return;
  }
  const bool learned = models::is_learned(detector.kind);
  if (!learned && draft.feature_sound[index] && features::is_of_event(draft.pipeline.features.features[index].kind)) {
    draft.mistakes.add(node, fmt::format("feature '{}' is of each event alone and has no history to deviate from; use "
                                         "a baseline or rolling feature of the same number",
                                         name));
    return;
  }
  DeviationRequest wish;
  wish.feature = static_cast<std::uint32_t>(index);
  wish.method = detector.kind == DetectorKind::kIqr ? DeviationMethod::kQuartiles : DeviationMethod::kEwma;
  if (dot != std::string::npos && draft.feature_sound[index]) {
    wish.column = node.text.substr(dot + 1);
    const auto& columns = draft.feature_columns[index];
    if (!learned && features::judges_its_number(draft.pipeline.features.features[index].kind)) {
      draft.mistakes.add(
          node, fmt::format("feature '{}' judges its number itself and has no columns to choose from; write '{}'", name,
                            name));
      return;
    }
    if (!learned && std::find(columns.begin(), columns.end(), wish.column) == columns.end()) {
      draft.mistakes.add(node, unknown_name("column", wish.column, fmt::format("of feature '{}'", name), columns));
      return;
    }
  }
  detector.features.push_back(node.text);
  if (learned) return;
  detector.requests.push_back(request_index(wish, draft));
}

std::optional<DetectorKind> read_kind(MapReader& map, Draft& draft, const YamlNode*& what) {
  std::optional<DetectorKind> kind;
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    const YamlNode* found = map.peek(kKinds[i]);
    if (found == nullptr) continue;
    if (kind) {
      draft.mistakes.add_at_key(*found, fmt::format("a detector is one of {}, not two of them", listed(kKinds)));
      return std::nullopt;
    }
    kind = static_cast<DetectorKind>(i);
    what = found;
  }
  if (kind) {
    map.take(kKinds[static_cast<std::size_t>(*kind)]);
    return kind;
  }
  static const std::vector<std::string> kOptions{"side", "min_change", "target"};
  for (const YamlNode& item : map.node().items) {
    if (std::find(kOptions.begin(), kOptions.end(), item.key) != kOptions.end()) continue;
    draft.mistakes.add_at_key(item, unknown_name("kind of detector", item.key, {}, kKinds, kLaterKinds));
    return std::nullopt;
  }
  draft.mistakes.add(map.node(), fmt::format("expected a kind and its features, such as {{zscore: [habit]}}. Kinds: {}",
                                             listed(kKinds)));
  return std::nullopt;
}

void read_detector(const YamlNode& node, Draft& draft, DetectorSpec& detector) {
  static const std::vector<std::string> kSides{"both", "above", "below"};
  static const std::vector<std::string> kTargets{"any", "type"};
  Mistakes& mistakes = draft.mistakes;
  MapReader map(node, mistakes, "a map such as {zscore: [habit], side: above}");
  if (!map.is_map()) return;
  const YamlNode* what = nullptr;
  const auto kind = read_kind(map, draft, what);
  if (!kind) return;
  detector.kind = *kind;
  if (*kind == DetectorKind::kAbsent) {
    detector.absent_ms = read_duration(*what, mistakes, 1, 366 * kDayMs, "2m").value_or(0);
  } else if (models::is_learned(*kind)) {
    const bool all = what->is_scalar() && what->text == "all";
    if (!all) {
      for (const YamlNode* item : read_scalars(*what, mistakes, "all, or features such as [habit, pace.events_1m]"))
        read_wish(*item, draft, detector);
    }
    if (const YamlNode* target = *kind == DetectorKind::kBoosted ? map.take("target") : nullptr)
      detector.by_type = read_choice(*target, mistakes, "target", kTargets).value_or(0) == 1;
  } else if (*kind == DetectorKind::kSum) {
    for (const YamlNode* item : read_scalars(*what, mistakes, "columns such as [shape.surprise, level.surprise]"))
      read_wish(*item, draft, detector);
  } else {
    for (const YamlNode* item : read_scalars(*what, mistakes, kFeatureExample)) read_wish(*item, draft, detector);
    if (const YamlNode* side = map.take("side")) {
      detector.side = static_cast<models::Side>(read_choice(*side, mistakes, "side", kSides).value_or(0));
    }
    if (const YamlNode* change = map.take("min_change")) {
      detector.min_change = read_percent(*change, mistakes, 1000, "20%").value_or(0);
    }
  }
  map.finish("key", fmt::format("of {} detector", *kind == DetectorKind::kZscore    ? "a zscore"
                                                  : *kind == DetectorKind::kIqr     ? "an iqr"
                                                  : *kind == DetectorKind::kForest  ? "a forest"
                                                  : *kind == DetectorKind::kBoosted ? "a boosted"
                                                  : *kind == DetectorKind::kSum     ? "a sum"
                                                                                    : "an absent"));
}

std::optional<double> read_budget(const YamlNode& node, Draft& draft) {
  constexpr std::string_view kPerDay = "/day";
  if (node.is_scalar() && node.text.ends_with(kPerDay)) {
    std::string_view digits(node.text.data(), node.text.size() - kPerDay.size());
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    double value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code == std::errc() && end == digits.data() + digits.size() && std::isfinite(value) && value > 0) return value;
  }
  draft.mistakes.add(node, fmt::format("expected a number of events a day such as 40/day, found {}", described(node)));
  return std::nullopt;
}

std::optional<FireRule> read_fire(const YamlNode& node, Draft& draft) {
  Mistakes& mistakes = draft.mistakes;
  if (node.is_scalar()) {
    if (node.text == "always") return FireRule{FireRule::Kind::kAlways, 0};
    mistakes.add(node, fmt::format("expected one of {}, found {}", kFireExample, described(node)));
    return std::nullopt;
  }
  MapReader map(node, mistakes, kFireExample);
  if (!map.is_map()) return std::nullopt;
  const YamlNode* threshold = map.take("threshold");
  const YamlNode* rate = map.take("rate");
  const YamlNode* budget = map.take("budget");
  map.finish("way to fire");
  if (node.items.size() != 1) {
    mistakes.add(node, fmt::format("expected exactly one of {}, found {}", kFireExample,
                                   node.items.empty() ? "none" : "several"));
    return std::nullopt;
  }
  std::optional<double> value;
  FireRule::Kind kind = FireRule::Kind::kThreshold;
  if (threshold != nullptr)
    value = read_positive(*threshold, mistakes, "a score above 0 such as 6 (the mean -log10 tail probability)");
  if (rate != nullptr) {
    kind = FireRule::Kind::kRate;
    value = read_percent(*rate, mistakes, 0.5, "0.1%");
    if (value && draft.pipeline.rate_max > 0 && *value > draft.pipeline.rate_max) {
      mistakes.add(*rate, fmt::format("{} is above rate_max ({:g}%), which caps the sum of all types",
                                      in_quotes(rate->text), draft.pipeline.rate_max * 100));
    }
  }
  if (budget != nullptr) {
    kind = FireRule::Kind::kBudget;
    value = read_budget(*budget, draft);
  }
  if (!value) return std::nullopt;
  return FireRule{kind, *value};
}

// The detector that a vote names. "fraud.card_testing", what a boosted detector says of one labelled type, becomes a
// score of its own when it is first named.
std::optional<std::uint32_t> voter(const YamlNode& vote, Draft& draft) {
  const auto& names = draft.detector_names;
  const auto index_of = [&](std::string_view name) { return std::find(names.begin(), names.end(), name); };
  if (const auto found = index_of(vote.key); found != names.end())
    return static_cast<std::uint32_t>(found - names.begin());
  if (!draft.has_detectors) return std::nullopt;
  const std::size_t dot = vote.key.find('.');
  const std::string model = vote.key.substr(0, dot);
  const auto found = index_of(model);
  if (dot == std::string::npos || found == names.end()) {
    draft.mistakes.add_at_key(vote, unknown_name("detector", vote.key, {}, names));
    return std::nullopt;
  }
  auto& detectors = draft.pipeline.detectors;
  const DetectorSpec& of = detectors[static_cast<std::size_t>(found - names.begin())];
  if (of.kind != DetectorKind::kBoosted || !of.by_type || dot + 1 == vote.key.size()) {
    draft.mistakes.add_at_key(vote, fmt::format("detector '{}' has one score; only a boosted one with target: type "
                                                "has one a labelled type, such as fraud.card_testing",
                                                model));
    return std::nullopt;
  }
  DetectorSpec score;
  score.name = vote.key;
  score.kind = of.kind;
  score.features = of.features;
  score.model = model;
  score.output = vote.key.substr(dot + 1);
  detectors.push_back(std::move(score));
  draft.detector_names.push_back(vote.key);
  return static_cast<std::uint32_t>(detectors.size()) - 1;
}

void read_votes(const YamlNode& node, Draft& draft, AnomalySpec& anomaly) {
  MapReader map(node, draft.mistakes, kVotesExample);
  if (!map.is_map()) return;
  if (node.items.empty()) draft.mistakes.add(node, fmt::format("expected {}, found an empty map", kVotesExample));
  for (const YamlNode& item : node.items) {
    const auto detector = voter(item, draft);
    const auto weight = read_positive(item, draft.mistakes, "a weight above 0 such as 1");
    if (detector && weight) anomaly.votes.push_back({*detector, *weight});
    if (anomaly.votes.size() >= kEntriesMax) break;
  }
}

// What fires an anomaly must fit what its voters say: silence has no probability, a score is there at every event.
void check_voters(const YamlNode& node, const YamlNode* for_node, std::optional<FireRule> fire,
                  const AnomalySpec& anomaly, Draft& draft) {
  const auto is_absent = [&draft](const decide::VoteSpec& vote) {
    return draft.pipeline.detectors[vote.detector].kind == DetectorKind::kAbsent;
  };
  const auto absent = std::count_if(anomaly.votes.begin(), anomaly.votes.end(), is_absent);
  if (anomaly.votes.empty()) return;
  const bool all = absent == static_cast<std::ptrdiff_t>(anomaly.votes.size());
  if (absent > 0 && !all) {
    draft.mistakes.add_at_key(
        node, "mixes absent with other detectors; silence is not an event, so it needs an anomaly of its own");
  } else if (all && fire && fire->kind != FireRule::Kind::kAlways) {
    draft.mistakes.add_at_key(node, "is about silence, which has no probability; expected fire: always");
  } else if (!all && fire && fire->kind == FireRule::Kind::kAlways) {
    draft.mistakes.add_at_key(
        node,
        fmt::format("fire: always would fire at every event, because its detectors score every event; expected {}",
                    "{threshold: 6}, {rate: 0.1%} or {budget: 40/day}"));
  }
  if (all && for_node != nullptr) {
    draft.mistakes.add_at_key(*for_node,
                              "has no meaning for silence; how long it lasts is said by the absent detector");
  }
}

void read_anomaly(const YamlNode& node, Draft& draft, AnomalySpec& anomaly) {
  Mistakes& mistakes = draft.mistakes;
  MapReader map(node, mistakes, kAnomaliesExample);
  if (!map.is_map()) return;
  anomaly.by = draft.pipeline.score.by;
  if (const YamlNode* item = map.take("by")) anomaly.by = draft.entity(*item).value_or(0);
  if (const YamlNode* item = map.need("votes", kVotesExample)) read_votes(*item, draft, anomaly);
  const YamlNode* for_node = map.take("for");
  if (for_node != nullptr) anomaly.for_ms = read_duration(*for_node, mistakes, 0, 7 * kDayMs, "2m").value_or(0);
  std::optional<FireRule> fire;
  if (const YamlNode* item = map.need("fire", kFireExample)) fire = read_fire(*item, draft);
  anomaly.fire = fire.value_or(FireRule{});
  if (const YamlNode* item = map.take("impact")) {
    anomaly.impact = static_cast<Impact>(read_choice(*item, mistakes, "impact", kImpacts).value_or(1));
  }
  if (const YamlNode* item = map.take("group")) {
    if (const auto entity = draft.entity(*item)) anomaly.group = static_cast<int>(*entity);
  }
  if (const YamlNode* item = map.take("runbook")) {
    constexpr std::string_view kUrl = "a URL such as https://wiki.example.com/runbook";
    const auto url = read_text(*item, mistakes, kUrl);
    if (url && !url->starts_with("https://") && !url->starts_with("http://")) {
      mistakes.add(*item, fmt::format("expected {}, found {}", kUrl, in_quotes(*url)));
    } else if (url) {
      anomaly.runbook = *url;
    }
  }
  if (const YamlNode* item = map.take("quiet")) {
    anomaly.quiet_ms = read_duration(*item, mistakes, 1, 366 * kDayMs, "15m").value_or(anomaly.quiet_ms);
  }
  map.finish("key", "of an anomaly");
  check_voters(node, for_node, fire, anomaly, draft);
}

void read_when(const YamlNode& node, Draft& draft, alert::RouteSpec& route) {
  MapReader map(node, draft.mistakes, "a map such as {impact: high} or {type: card_testing}");
  if (!map.is_map()) return;
  const YamlNode* impact = map.take("impact");
  const YamlNode* type = map.take("type");
  map.finish("condition");
  if (node.items.empty()) draft.mistakes.add(node, "expected {impact: high}, {type: T} or both, found an empty map");
  if (impact != nullptr) {
    if (const auto choice = read_choice(*impact, draft.mistakes, "impact", kImpacts))
      route.when_impact = static_cast<Impact>(*choice);
  }
  if (type != nullptr) {
    for (const YamlNode* item : read_scalars(*type, draft.mistakes, "types of anomaly such as [card_testing]")) {
      const auto& names = draft.anomaly_names;
      if (std::find(names.begin(), names.end(), item->text) != names.end()) {
        route.when_types.push_back(item->text);
      } else if (!names.empty()) {
        draft.mistakes.add(*item, unknown_name("anomaly", item->text, {}, names));
      }
    }
  }
}

// The key itself is a secret and has no place in a file that is shared.
void read_routing_key(const YamlNode& node, Draft& draft, alert::RouteSpec& route) {
  constexpr std::string_view kExample = "env:NAME or file:PATH, where the routing key is kept";
  const auto text = read_text(node, draft.mistakes, kExample);
  if (!text) return;
  if (text->starts_with("env:") && text->size() > 4) {
    route.routing_key = *text;
  } else if (text->starts_with("file:") && text->size() > 5) {
    route.routing_key = "file:" + draft.resolve(std::string_view(*text).substr(5));
  } else {
    // Not echoed: it may be the secret.
    draft.mistakes.add(node, fmt::format("expected {}; a key written here would be shared with the file", kExample));
  }
}

void read_route(const YamlNode& node, Draft& draft, alert::RouteSpec& route, std::set<std::string>& names) {
  static const std::vector<std::string> kTargets{"pagerduty", "file"};
  static const std::vector<std::string> kLaterTargets{"webhook", "slack", "email", "console", "kafka", "opsgenie"};
  Mistakes& mistakes = draft.mistakes;
  MapReader map(node, mistakes, "a map such as {to: file, default: true}");
  if (!map.is_map()) return;
  const YamlNode* to = map.need("to", "pagerduty or file");
  const YamlNode* name = map.take("name");
  const YamlNode* when = map.take("when");
  const YamlNode* is_default = map.take("default");
  std::optional<std::size_t> target;
  if (to != nullptr) target = read_choice(*to, mistakes, "target", kTargets, kLaterTargets);
  if (target) {
    route.kind = static_cast<alert::RouteSpec::Kind>(*target);
    route.name = kTargets[*target];
  }
  if (name != nullptr) {
    YamlNode named = *name;  // the same rule as for names that are keys
    named.key = name->is_scalar() ? name->text : "";
    named.key_at = name->at;
    if (check_name(named, mistakes, "a route")) route.name = name->text;
  }
  if (!route.name.empty() && !names.insert(route.name).second) {
    mistakes.add(name != nullptr ? *name : node,
                 fmt::format("a route named '{}' is there already; give this one a 'name' of its own", route.name));
  }
  if (is_default != nullptr) route.is_default = read_bool(*is_default, mistakes).value_or(true);
  if (when != nullptr) read_when(*when, draft, route);
  if (when != nullptr && route.is_default) {
    mistakes.add_at_key(*when, "the default route takes what no other takes, so it has no 'when'");
  } else if (when == nullptr && is_default == nullptr) {
    mistakes.add(node, "expected 'when', or 'default: true'; a route without either would take everything");
  } else if (when == nullptr && !route.is_default) {
    mistakes.add(node, "expected 'when', since this is not the default route");
  }
  if (target == 0) {
    route.routing_key = "env:PAGERDUTY_ROUTING_KEY";
    if (const YamlNode* item = map.take("key")) read_routing_key(*item, draft, route);
    if (const YamlNode* item = map.take("url")) {
      constexpr std::string_view kUrl = "a URL such as https://events.eu.pagerduty.com";
      const auto url = read_text(*item, mistakes, kUrl);
      if (url && !url->starts_with("https://") && !url->starts_with("http://")) {
        mistakes.add(*item, fmt::format("expected {}, found {}", kUrl, in_quotes(*url)));
      } else if (url) {
        route.url = *url;
      }
    }
  } else if (target == 1) {
    if (const YamlNode* item = map.take("path")) {
      if (const auto path = read_text(*item, mistakes, "a path such as alerts.ndjson"))
        route.path = draft.resolve(*path);
    }
  } else {
    for (const std::string_view key : {"key", "url", "path"}) map.take(key);  // which of them depends on the target
  }
  map.finish("key", target ? fmt::format("of a {} route", kTargets[*target]) : "of a route", kLaterRouteKeys);
}

}  // namespace

void read_detectors(Draft& draft, MapReader& top) {
  static const std::vector<std::string> kReserved{"zscore",  "iqr",         "absent", "forest",
                                                  "boosted", "transformer", "rule",   "ensemble"};
  const YamlNode* section = top.need("detectors", kDetectorsExample);
  if (section == nullptr) return;
  MapReader map(*section, draft.mistakes, kDetectorsExample);
  if (!map.is_map()) return;
  if (section->items.empty())
    draft.mistakes.add(*section, fmt::format("expected {}, found an empty map", kDetectorsExample));
  draft.has_detectors = true;
  bool needs_features = false;
  for (const YamlNode& item : section->items) {
    if (draft.detector_names.size() >= kEntriesMax) break;
    if (std::find(kReserved.begin(), kReserved.end(), item.key) != kReserved.end()) {
      draft.mistakes.add(
          item.key_at, fmt::format("{} is the name of a kind (evaluate reports the best of each kind under it); choose "
                                   "another such as '{}_1'",
                                   in_quotes(item.key), item.key));
    } else {
      check_name(item, draft.mistakes, "a detector");
    }
    DetectorSpec detector;
    detector.name = item.key;
    read_detector(item, draft, detector);
    needs_features = needs_features || (item.kind == YamlNode::Kind::kMap && detector.kind != DetectorKind::kAbsent);
    draft.detector_names.push_back(item.key);
    draft.pipeline.detectors.push_back(std::move(detector));
  }
  if (needs_features && !draft.has_features && top.take("features") == nullptr) {
    draft.mistakes.add(top.node(), "missing 'features': a map such as {habit: {baseline: amount, by: card}}");
  }
}

void read_anomalies(Draft& draft, MapReader& top) {
  const YamlNode* section = top.need("anomalies", kAnomaliesExample);
  if (section == nullptr) return;
  MapReader map(*section, draft.mistakes, kAnomaliesExample);
  if (!map.is_map()) return;
  if (section->items.empty())
    draft.mistakes.add(*section, fmt::format("expected {}, found an empty map", kAnomaliesExample));
  std::set<std::uint32_t> voters;
  for (const YamlNode& item : section->items) {
    if (draft.anomaly_names.size() >= kEntriesMax) break;
    check_name(item, draft.mistakes, "an anomaly");
    AnomalySpec anomaly;
    anomaly.name = item.key;
    read_anomaly(item, draft, anomaly);
    for (const decide::VoteSpec& vote : anomaly.votes) voters.insert(vote.detector);
    draft.anomaly_names.push_back(item.key);
    draft.pipeline.anomalies.push_back(std::move(anomaly));
  }
  // A score that nobody votes with is still reported; silence without an entity is nothing.
  const YamlNode* detectors = top.take("detectors");
  for (std::uint32_t i = 0; i < draft.pipeline.detectors.size(); ++i) {
    if (draft.pipeline.detectors[i].kind != DetectorKind::kAbsent || voters.contains(i)) continue;
    draft.mistakes.add_at_key(detectors->items[i],
                              "no anomaly uses this absent detector; it needs one, whose 'by' says who falls silent");
  }
}

void read_alerts(Draft& draft, MapReader& top) {
  const YamlNode* section = top.need("alerts", kAlertsExample);
  if (section == nullptr) return;
  if (section->kind != YamlNode::Kind::kList || section->items.empty()) {
    draft.mistakes.add(*section,
                       fmt::format("expected {}, found {}", kAlertsExample,
                                   section->kind == YamlNode::Kind::kList ? "an empty list" : described(*section)));
    return;
  }
  if (section->items.size() > kEntriesMax) {
    draft.mistakes.add(*section, fmt::format("{} routes; at most {} are allowed", section->items.size(), kEntriesMax));
  }
  std::set<std::string> names;
  const YamlNode* first_default = nullptr;
  for (std::size_t i = 0; i < std::min(section->items.size(), kEntriesMax); ++i) {
    alert::RouteSpec route;
    read_route(section->items[i], draft, route, names);
    if (route.is_default && first_default != nullptr) {
      draft.mistakes.add(section->items[i],
                         fmt::format("a second default route; the first is in line {}", first_default->at.line));
    } else if (route.is_default) {
      first_default = &section->items[i];
    }
    draft.pipeline.routes.push_back(std::move(route));
  }
  if (first_default == nullptr) {
    draft.mistakes.add_at_key(*section,
                              "no default route: one of them needs 'default: true' to take what no other takes");
  }
}

}  // namespace alcedo::pipeline
