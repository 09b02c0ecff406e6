// The sections that say what is measured, by what: `entities`, `score`, `windows`, `features`.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/time.h"
#include "features/event_columns.h"
#include "features/operators/discord_operator.h"
#include "features/operators/operator.h"
#include "pipeline/pipeline_file_sections.h"

namespace alcedo::pipeline {
namespace {

using contract::KeyPart;
using contract::Shape;
using features::FeatureKind;
using features::FeatureSpec;

constexpr std::int64_t kWindowUnitMs = 60;  // 60 buckets of whole milliseconds
constexpr std::int64_t kWindowMsMax = 90 * kDayMs;
// Windows of what was confirmed: labels come days later.
constexpr std::int64_t kConfirmedWindowMsMax = 366 * kDayMs;
constexpr std::string_view kAnyLabel = "any";
constexpr std::size_t kWindowsMax = 8;
constexpr std::string_view kWindowsExample = "windows in ascending order such as [1m, 5m, 1h]";
constexpr std::string_view kEntitiesExample = "a map such as {card: card_id, merchant: merchant_id}";
constexpr std::string_view kPartsExample =
    "a field, a list of fields, file, metric, {template: FIELD}, {cell: [LATITUDE, LONGITUDE]}, or a constant "
    "\"=text\"";
constexpr std::string_view kWithinExample =
    "an entity or a field that makes a group of several, such as merchant_category";
// What a feature is by that belongs to no entity.
constexpr std::string_view kEveryone = "everyone";
// A group of five has four others to compare with: less than a history of one's own needs, as they are all of now.
constexpr std::uint32_t kPeersMin = 5;
// How far an entity mostly is from its usual takes more values to know than where its usual is.
constexpr std::uint32_t kOwnPastMin = 100;
constexpr std::string_view kFeaturesExample = "a map such as {habit: {baseline: amount, by: card}}";

// What a kind of feature is written as, and what it may say beside `by`, `half_life` and `min_history`.
struct KindWord {
  std::string name;
  FeatureKind kind;
  bool has_windows = false;
};
const std::vector<KindWord> kKindWords{
    {"rolling", FeatureKind::kRolling, true},         {"velocity", FeatureKind::kVelocity, true},
    {"baseline", FeatureKind::kBaseline, false},      {"geo", FeatureKind::kGeo, false},
    {"rarity", FeatureKind::kRarity, false},          {"context", FeatureKind::kContext, false},
    {"correlation", FeatureKind::kCorrelation, true}, {"distinct", FeatureKind::kDistinct, true},
    {"quantiles", FeatureKind::kQuantiles, true},     {"season", FeatureKind::kSeason, false},
    {"robust", FeatureKind::kRobust, false},          {"cusum", FeatureKind::kCusum, false},
    {"deviation", FeatureKind::kPeers, false},        {"transition", FeatureKind::kTransition, false},
    {"confirmed", FeatureKind::kConfirmed, true},     {"value", FeatureKind::kValue, false},
    {"calendar", FeatureKind::kCalendar, false},      {"discord", FeatureKind::kDiscord, false},
    {"unusual", FeatureKind::kUnusual, false},
};
const std::vector<std::string> kKinds = [] {
  std::vector<std::string> names;
  for (const KindWord& word : kKindWords) names.push_back(word.name);
  return names;
}();
const std::vector<std::string> kLaterKinds{"histogram"};
const std::vector<std::string> kLaterStats{"p50", "p90", "p95", "p99", "median", "iqr", "rate", "distinct", "skew"};

bool is_metric_shape(const Draft& draft) { return draft.pipeline.events.shape != Shape::kRecord; }

// Whether both are numbers is checked with the contract.
KeyPart read_cell(const YamlNode& node, Draft& draft) {
  constexpr std::string_view kExample = "two numeric fields in degrees, such as {cell: [latitude, longitude]}";
  const auto parts = read_scalars(node, draft.mistakes, kExample);
  if (parts.size() != 2) {
    if (!parts.empty()) draft.mistakes.add(node, fmt::format("expected {}", kExample));
    return {KeyPart::Kind::kCell, "?", "?"};
  }
  const auto latitude = draft.field(*parts[0], FieldUse::kNumber);
  const auto longitude = draft.field(*parts[1], FieldUse::kNumber);
  return {KeyPart::Kind::kCell, latitude.value_or("?"), longitude.value_or("?")};
}

KeyPart read_part(const YamlNode& node, Draft& draft) {
  if (node.kind == YamlNode::Kind::kMap) {
    MapReader map(node, draft.mistakes, kPartsExample);
    if (const YamlNode* place = map.take("cell")) {
      map.finish("key", "of a key's part");
      return read_cell(*place, draft);
    }
    const YamlNode* field = map.need("template", "the field with the message");
    map.finish("key", "of a key's part");
    return {KeyPart::Kind::kTemplate, field == nullptr ? "?" : draft.field(*field, FieldUse::kKey).value_or("?")};
  }
  const contract::EventsSpec& events = draft.pipeline.events;
  if (node.text.starts_with('=')) {
    if (node.text.size() == 1) draft.mistakes.add(node, "an empty constant; expected \"=text\"");
    return {KeyPart::Kind::kConstant, node.text.substr(1)};
  }
  if (node.text == "file") return {KeyPart::Kind::kFileName, {}};
  const bool metric_field = events.shape == Shape::kLong && node.text == events.metric_field;
  if (is_metric_shape(draft) && (node.text == "metric" || metric_field)) return {KeyPart::Kind::kMetric, {}};
  return {KeyPart::Kind::kField, draft.field(node, FieldUse::kKey).value_or("?")};
}

// The parts of a key: scalars, and maps that say how a part is made.
std::vector<const YamlNode*> key_parts(const YamlNode& node, Draft& draft) {
  const auto is_map = [](const YamlNode& item) { return item.kind == YamlNode::Kind::kMap; };
  if (is_map(node)) return {&node};
  if (std::none_of(node.items.begin(), node.items.end(), is_map)) {
    return read_scalars(node, draft.mistakes, kPartsExample);
  }
  std::vector<const YamlNode*> parts;
  for (const YamlNode& item : node.items) {
    if (parts.size() >= kEntriesMax) {
      draft.mistakes.add(node, fmt::format("{} parts; at most {} are allowed", node.items.size(), kEntriesMax));
      break;
    }
    if (is_map(item) || (item.is_scalar() && !item.text.empty())) {
      parts.push_back(&item);
    } else {
      draft.mistakes.add(item, fmt::format("expected {}, found {}", kPartsExample,
                                           item.is_scalar() ? "an empty text" : described(item)));
    }
  }
  return parts;
}

std::vector<std::int64_t> read_windows(const YamlNode& node, Draft& draft, std::int64_t max_ms = kWindowMsMax) {
  std::vector<std::int64_t> windows;
  for (const YamlNode* item : read_scalars(node, draft.mistakes, kWindowsExample)) {
    const auto window_ms = read_duration(*item, draft.mistakes, kWindowUnitMs, max_ms, "5m");
    if (!window_ms) continue;
    if (*window_ms % kWindowUnitMs != 0) {
      const std::int64_t below_ms = *window_ms / kWindowUnitMs * kWindowUnitMs;
      draft.mistakes.add(
          *item,
          fmt::format("a window is 60 buckets of whole milliseconds, so a multiple of 60ms; nearest to {}: {} or {}",
                      in_quotes(item->text), format_duration(below_ms), format_duration(below_ms + kWindowUnitMs)));
    } else if (!windows.empty() && *window_ms <= windows.back()) {
      draft.mistakes.add(*item, fmt::format("windows must ascend, but {} comes after {}", in_quotes(item->text),
                                            format_duration(windows.back())));
    } else {
      windows.push_back(*window_ms);
    }
  }
  if (windows.size() > kWindowsMax) {
    draft.mistakes.add(node, fmt::format("{} windows; at most {} are allowed", windows.size(), kWindowsMax));
  }
  return windows;
}

// Slot of a number, made when it is first needed.
int number_slot(const std::string& field, Draft& draft) {
  contract::EventsSpec& events = draft.pipeline.events;
  for (std::size_t i = 0; i < events.numbers.size(); ++i) {
    if (events.numbers[i].field == field) return static_cast<int>(i);
  }
  events.numbers.push_back({field, !is_metric_shape(draft) && field == events.money_amount});
  return static_cast<int>(events.numbers.size()) - 1;
}

// An amount is never added up across currencies: its key is the entity's and the currency's.
int money_slot(std::size_t entity, Draft& draft) {
  contract::EventsSpec& events = draft.pipeline.events;
  const contract::KeySpec& plain = events.keys[entity];
  const auto is_currency = [&events](const KeyPart& part) {
    return part.kind == KeyPart::Kind::kField && part.text == events.money_currency;
  };
  if (std::any_of(plain.parts.begin(), plain.parts.end(), is_currency)) return static_cast<int>(entity);
  contract::KeySpec money = plain;
  money.name += "/currency";
  for (std::size_t i = draft.pipeline.entities.size(); i < events.keys.size(); ++i) {
    if (events.keys[i].name == money.name) return static_cast<int>(i);
  }
  money.parts.push_back({KeyPart::Kind::kField, events.money_currency});
  events.keys.push_back(std::move(money));
  return static_cast<int>(events.keys.size()) - 1;
}

std::vector<std::string> columns_of(const FeatureSpec& feature, const contract::EventsSpec& events) {
  std::vector<std::string> names;
  std::vector<std::string> windows;
  for (const std::int64_t window_ms : feature.windows_ms) windows.push_back(format_duration(window_ms));
  if (feature.kind == FeatureKind::kRolling) {
    for (const features::Stat stat : feature.stats) {
      for (const std::string& window : windows) {
        names.push_back(fmt::format("{}_{}", features::kStatNames[static_cast<std::size_t>(stat)], window));
      }
    }
  } else if (features::has_operator(feature.kind)) {
    // One that judges its number is named alone, as a baseline is.
    if (features::judges_its_number(feature.kind)) return names;
    for (const auto& column : features::operator_columns(feature)) {
      // What an operator says about a column of its own ("r_1h.z") comes with that column.
      if (column.name.find('.') == std::string::npos) names.push_back(column.name);
    }
  } else if (features::is_of_event(feature.kind)) {
    EventLayout layout;
    for (const contract::NumberSpec& number : events.numbers) layout.numbers.push_back({number.field, number.money});
    return features::event_column_names(feature, layout);
  } else if (feature.kind == FeatureKind::kVelocity) {
    for (const std::string& window : windows) names.push_back("events_" + window);
    if (feature.number >= 0) {
      for (const std::string& window : windows) names.push_back("amount_" + window);
    }
    for (std::size_t i = 0; i + 1 < windows.size(); ++i)
      names.push_back(fmt::format("ratio_{}_{}", windows[i], windows[i + 1]));
    if (windows.size() > 2) names.push_back(fmt::format("ratio_{}_{}", windows.front(), windows.back()));
    names.emplace_back("gap_s");
  }
  return names;
}

// The slot of a numeric field of a record. False after a mistake.
bool read_numeric_field(const YamlNode& node, Draft& draft, FieldUse use, int& slot) {
  const auto field = draft.field(node, use);
  if (!field) return false;
  const auto& hidden = draft.pipeline.events.private_fields;
  if (std::find(hidden.begin(), hidden.end(), *field) != hidden.end()) {
    draft.mistakes.add(
        node, fmt::format("field {} is private: only its hash is known, so it is no number", in_quotes(*field)));
    return false;
  }
  slot = number_slot(*field, draft);
  return true;
}

// Latitude and longitude. False after a mistake.
bool read_place(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  if (is_metric_shape(draft)) {
    draft.mistakes.add(node, "a place is two numbers of one event: it needs events of shape record");
    return false;
  }
  const auto parts = read_scalars(node, draft.mistakes, "two numeric fields in degrees, such as [latitude, longitude]");
  if (parts.size() != 2) {
    if (!parts.empty())
      draft.mistakes.add(node, "expected two numeric fields in degrees, such as [latitude, longitude]");
    return false;
  }
  const bool latitude = read_numeric_field(*parts[0], draft, FieldUse::kNumber, feature.number);
  return read_numeric_field(*parts[1], draft, FieldUse::kNumber, feature.number_2) && latitude;
}

// Slots of a metric's value and of its name, which tells feature.metrics from all others.
void choose_metrics(Draft& draft, FeatureSpec& feature) {
  auto& events = draft.pipeline.events;
  feature.number = number_slot(events.value_field, draft);
  const auto is_name = [](const contract::KeySpec& key) {
    return key.parts.size() == 1 && key.parts[0].kind == KeyPart::Kind::kMetric;
  };
  const auto at = std::find_if(events.keys.begin(), events.keys.end(), is_name);
  feature.other_key = static_cast<int>(at - events.keys.begin());
  if (at == events.keys.end()) events.keys.push_back({"metric name", {{KeyPart::Kind::kMetric, {}}}});
}

// Two numbers of a record, or two metrics by name. False after a mistake.
bool read_couple(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  const std::string_view expected =
      is_metric_shape(draft) ? "the names of two metrics, such as [cpu_busy_ratio, pressure_cpu_ratio], or "
                               "one metric and within, the group whose members are compared"
                             : "two numeric fields, such as [latency_ms, size_bytes], or one and within, the "
                               "group whose members are compared";
  const auto parts = read_scalars(node, draft.mistakes, expected);
  if (parts.size() != 2) {
    if (!parts.empty()) draft.mistakes.add(node, fmt::format("expected {}", expected));
    return false;
  }
  if (!is_metric_shape(draft)) {
    const bool first = read_numeric_field(*parts[0], draft, FieldUse::kNumber, feature.number);
    return read_numeric_field(*parts[1], draft, FieldUse::kNumber, feature.number_2) && first;
  }
  feature.metrics = {parts[0]->text, parts[1]->text};
  choose_metrics(draft, feature);
  return true;
}

// One number of a record, or one metric by name, of the members of a group. False after a mistake.
bool read_twin(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  if (node.kind == YamlNode::Kind::kList) {
    draft.mistakes.add(node, fmt::format("within compares the same {} of several members: expected one, found a list",
                                         is_metric_shape(draft) ? "metric" : "numeric field"));
    return false;
  }
  if (!is_metric_shape(draft)) return read_numeric_field(node, draft, FieldUse::kNumber, feature.number);
  const auto metric = read_text(node, draft.mistakes, "the name of a metric, such as cpu_busy_ratio");
  if (!metric) return false;
  feature.metrics = {*metric};
  choose_metrics(draft, feature);
  return true;
}

// Slot of the key that the node names: an entity's, or that of a field, made when it is first needed. -1 after a
// mistake.
int read_value_key(const YamlNode& node, std::string_view expected, Draft& draft) {
  const auto name = read_text(node, draft.mistakes, expected);
  if (!name) return -1;
  const auto& entities = draft.pipeline.entities;
  const auto entity = std::find(entities.begin(), entities.end(), *name);
  if (entity != entities.end()) return static_cast<int>(entity - entities.begin());
  const auto field = draft.field(node, FieldUse::kKey);
  if (!field) return -1;
  auto& keys = draft.pipeline.events.keys;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto& parts = keys[i].parts;
    if (parts.size() != 1 || parts[0].kind != KeyPart::Kind::kField || parts[0].text != *field) continue;
    return static_cast<int>(i);
  }
  keys.push_back({"field " + *field, {{KeyPart::Kind::kField, *field}}});
  return static_cast<int>(keys.size()) - 1;
}

// The number that a feature is about. False after a mistake.
bool read_number(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  const contract::EventsSpec& events = draft.pipeline.events;
  const bool counts = feature.kind == FeatureKind::kVelocity &&
                      (node.kind == YamlNode::Kind::kNull || (node.is_scalar() && node.text == "events"));
  if (counts) return true;
  const std::string expected = fmt::format("{}{}", is_metric_shape(draft) ? "value" : "a numeric field",
                                           feature.kind == FeatureKind::kVelocity ? ", or events to only count" : "");
  const auto name = read_text(node, draft.mistakes, expected);
  if (!name) return false;
  if (is_metric_shape(draft)) {
    if (*name != "value" && *name != events.value_field) {
      draft.mistakes.add(node, fmt::format("an event of shape {} has one number: expected {}, found {}",
                                           events.shape == Shape::kLong ? "long" : "wide", expected, in_quotes(*name)));
      return false;
    }
    feature.number = number_slot(events.value_field, draft);
    return true;
  }
  const FieldUse use = *name == events.money_amount ? FieldUse::kMoney : FieldUse::kNumber;
  return read_numeric_field(node, draft, use, feature.number);
}

// Which labels count. False after a mistake.
bool read_label_type(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  const LabelsSpec& labels = draft.pipeline.labels;
  const auto type = read_text(node, draft.mistakes, "any, or a type of labels such as stolen_card");
  if (!type) return false;
  if (!labels.delay_ms) {
    draft.mistakes.add(node,
                       "needs labels with a delay: when it is known of an event whether it was anomalous, such as "
                       "labels: {field: is_fraud, delay: 7d}");
    return false;
  }
  if (labels.in_file()) {
    const std::string& id = draft.pipeline.events.id_field;
    if (id.empty() || (!labels.join.empty() && labels.join != id)) {
      draft.mistakes.add(node,
                         fmt::format("labels of a file find their events by id; expected {}",
                                     id.empty() ? std::string("an 'id' of the events") : "labels: {join: " + id + "}"));
      return false;
    }
  }
  feature.delay_ms = *labels.delay_ms;
  if (*type == kAnyLabel) return true;
  const bool carried = labels.from.empty();  // then the source knows
  if (labels.type_field.empty() && !carried) {
    draft.mistakes.add(node, fmt::format("labels have no 'type': expected {}, found {}", kAnyLabel, in_quotes(*type)));
    return false;
  }
  auto& types = draft.pipeline.events.label_types;
  const auto at = std::find(types.begin(), types.end(), *type);
  feature.label_type = static_cast<int>(at - types.begin());
  if (at != types.end()) return true;
  if (types.size() >= kTruthTypesMax) {
    draft.mistakes.add(node, fmt::format("features ask for more than {} types of labels", kTruthTypesMax));
    return false;
  }
  types.push_back(*type);
  return true;
}

// What a feature of this kind is of. False after a mistake.
bool read_subject(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  switch (feature.kind) {
    case FeatureKind::kGeo:
      return read_place(node, draft, feature);
    case FeatureKind::kDistinct:
    case FeatureKind::kRarity:
      feature.other_key = read_value_key(node, "an entity or a field, such as merchant", draft);
      return feature.other_key >= 0;
    case FeatureKind::kTransition:
      feature.other_key = read_value_key(node, "an entity or a field, such as template", draft);
      return feature.other_key >= 0;
    case FeatureKind::kConfirmed:
      return read_label_type(node, draft, feature);
    case FeatureKind::kTwins:
      return read_twin(node, draft, feature);
    case FeatureKind::kCorrelation:
      return read_couple(node, draft, feature);
    case FeatureKind::kContext:
      if (node.kind == YamlNode::Kind::kNull || (node.is_scalar() && node.text == "events")) return true;
      draft.mistakes.add(node, fmt::format("expected events, found {}", described(node)));
      return false;
    default:
      return read_number(node, draft, feature);
  }
}

// Values of many metrics in one statistic would mean nothing.
void check_metric_key(const YamlNode& at, std::size_t entity, const FeatureSpec& feature, Draft& draft) {
  const contract::EventsSpec& events = draft.pipeline.events;
  const bool picks_metrics = feature.kind == FeatureKind::kCorrelation || feature.kind == FeatureKind::kTwins;
  if (!is_metric_shape(draft) || feature.number < 0 || picks_metrics) return;
  if (events.shape == Shape::kWide && events.values.size() == 1) return;
  const auto& parts = events.keys[entity].parts;
  const bool tells_metrics_apart =
      std::any_of(parts.begin(), parts.end(), [](const KeyPart& part) { return part.kind == KeyPart::Kind::kMetric; });
  if (tells_metrics_apart) return;
  draft.mistakes.add(
      at,
      fmt::format("{} does not tell metrics apart, so their values would be mixed; use an entity with the part metric",
                  entity < draft.pipeline.entities.size() ? fmt::format("entity '{}'", draft.pipeline.entities[entity])
                                                          : events.keys[entity].name));
}

// The group that the feature's members are compared within. False after a mistake.
bool read_group(const YamlNode& within, std::uint32_t member, Draft& draft, FeatureSpec& feature) {
  const int slot = read_value_key(within, kWithinExample, draft);
  if (slot < 0) return false;
  if (slot == static_cast<int>(member)) {
    draft.mistakes.add(
        within, fmt::format("{} is also what the feature is by; expected {}", in_quotes(within.text), kWithinExample));
    return false;
  }
  feature.member_key = static_cast<int>(member);
  feature.key = slot;
  check_metric_key(within, static_cast<std::size_t>(slot), feature, draft);
  return true;
}

// Numbers that models see as they are, or the time's place in the week. False after a mistake.
bool read_of_event(const YamlNode& node, Draft& draft, FeatureSpec& feature) {
  if (feature.kind == FeatureKind::kCalendar) {
    if (node.kind == YamlNode::Kind::kNull || (node.is_scalar() && node.text == "time")) return true;
    draft.mistakes.add(node, fmt::format("expected time, found {}", described(node)));
    return false;
  }
  bool sound = true;
  for (const YamlNode* item :
       read_scalars(node, draft.mistakes, "numeric fields such as [amount, size_bytes], or value of a metric")) {
    FeatureSpec one;
    if (!read_number(*item, draft, one)) {
      sound = false;
    } else if (std::ranges::find(feature.numbers, one.number) != feature.numbers.end()) {
      draft.mistakes.add(*item, fmt::format("{} is listed twice", in_quotes(item->text)));
      sound = false;
    } else {
      feature.numbers.push_back(one.number);
    }
  }
  return sound && !feature.numbers.empty();
}

// Index into kKindWords.
std::optional<std::size_t> read_kind(MapReader& map, Draft& draft, const YamlNode*& what) {
  std::optional<std::size_t> kind;
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    const YamlNode* found = map.peek(kKinds[i]);
    if (found == nullptr) continue;
    if (kind) {
      draft.mistakes.add_at_key(*found, fmt::format("a feature is one of {}, not two of them", listed(kKinds)));
      return std::nullopt;
    }
    kind = i;
    what = found;
  }
  if (kind) {
    map.take(kKinds[*kind]);
    return kind;
  }
  // Is one of its keys a kind that is misspelt, or of a later version?
  static const std::vector<std::string> kOptions{"by",          "stats",  "windows", "against", "half_life", "accept",
                                                 "min_history", "within", "prior",   "length",  "history"};
  for (const YamlNode& item : map.node().items) {
    if (std::find(kOptions.begin(), kOptions.end(), item.key) != kOptions.end()) continue;
    draft.mistakes.add_at_key(item, unknown_name("kind of feature", item.key, {}, kKinds, kLaterKinds));
    return std::nullopt;
  }
  draft.mistakes.add(
      map.node(),
      fmt::format("expected a kind and what it is of, such as {{baseline: amount}}. Kinds: {}", listed(kKinds)));
  return std::nullopt;
}

// How long a shape is, and how far back its like is looked for.
void read_shape(MapReader& map, Draft& draft, FeatureSpec& feature) {
  if (const YamlNode* item = map.take("length")) {
    const auto length = read_integer(*item, draft.mistakes, features::kShapeValuesMin, features::kShapeValuesMax);
    if (length) feature.shape_values = static_cast<std::uint32_t>(*length);
  }
  if (const YamlNode* item = map.take("history")) {
    const auto history = read_integer(*item, draft.mistakes, 4 * feature.shape_values, features::kPastValuesMax);
    if (history) feature.past_values = static_cast<std::uint32_t>(*history);
  }
}

void read_feature(const YamlNode& node, Draft& draft, std::size_t index) {
  static const std::vector<std::string> kAgainst{"past", "including"};
  static const std::vector<std::string> kStats(std::begin(features::kStatNames), std::end(features::kStatNames));
  Mistakes& mistakes = draft.mistakes;
  MapReader map(node, mistakes, "a map such as {baseline: amount, by: card}");
  if (!map.is_map()) return;
  const YamlNode* what = nullptr;
  const auto word = read_kind(map, draft, what);
  if (!word) return;
  FeatureKind kind = kKindWords[*word].kind;
  const YamlNode* within = nullptr;
  if (kind == FeatureKind::kPeers) within = map.need("within", kWithinExample);
  if (kind == FeatureKind::kCorrelation) within = map.take("within");
  if (kind == FeatureKind::kCorrelation && within != nullptr) kind = FeatureKind::kTwins;
  const bool grouped = kind == FeatureKind::kPeers || kind == FeatureKind::kTwins;

  FeatureSpec feature;
  feature.name = node.key;
  feature.kind = kind;
  if (features::is_of_event(kind)) {
    const bool sound = read_of_event(*what, draft, feature);
    map.finish("key", fmt::format("of a {} feature, which is of each event alone", kKinds[*word]));
    draft.feature_columns[index] = columns_of(feature, draft.pipeline.events);
    draft.feature_sound[index] = sound;
    draft.pipeline.features.features[index] = std::move(feature);
    return;
  }
  bool sound = read_subject(*what, draft, feature);

  std::optional<std::uint32_t> entity = draft.pipeline.score.by;
  const YamlNode* by = map.take("by");
  const bool everyone = kind == FeatureKind::kRarity && by != nullptr && by->is_scalar() && by->text == kEveryone;
  if (by != nullptr && !everyone && by->is_scalar() && by->text == kEveryone) {
    draft.mistakes.add(*by, fmt::format("only a rarity is by {}; expected an entity", kEveryone));
    entity.reset();
  } else if (by != nullptr && !everyone) {
    entity = draft.entity(*by);
  }
  if (everyone) {
    feature.kind = kind = FeatureKind::kGlobalRarity;
    std::swap(feature.key, feature.other_key);  // each value is an entity of its own
  } else if (entity && *entity < draft.pipeline.entities.size()) {
    if (grouped) {
      sound = within != nullptr && read_group(*within, *entity, draft, feature) && sound;
    } else {
      feature.key = static_cast<int>(*entity);
      check_metric_key(by != nullptr ? *by : node, *entity, feature, draft);
    }
    if (kind == FeatureKind::kTransition && feature.other_key == feature.key) {
      draft.mistakes.add(*what,
                         fmt::format("{} is also what the feature is by, so it follows itself always; expected an "
                                     "entity or a field that changes from event to event",
                                     in_quotes(what->text)));
      sound = false;
    }
    const bool money =
        feature.number >= 0 && draft.pipeline.events.numbers[static_cast<std::size_t>(feature.number)].money;
    if (money && feature.key >= 0) feature.key = money_slot(static_cast<std::size_t>(feature.key), draft);
  } else {
    sound = false;
  }

  if (kind == FeatureKind::kRolling) {
    if (const YamlNode* stats = map.take("stats")) {
      for (const YamlNode* item : read_scalars(*stats, mistakes, fmt::format("statistics ({})", listed(kStats)))) {
        if (const auto stat = read_choice(*item, mistakes, "statistic", kStats, kLaterStats)) {
          feature.stats.push_back(static_cast<features::Stat>(*stat));
        }
      }
      sound = sound && !feature.stats.empty();
    } else {
      for (std::size_t i = 0; i < kStats.size(); ++i) feature.stats.push_back(static_cast<features::Stat>(i));
    }
  }
  if (kKindWords[*word].has_windows) {
    const YamlNode* windows = map.take("windows");
    const bool confirmed = kind == FeatureKind::kConfirmed;
    feature.windows_ms = confirmed ? std::vector<std::int64_t>{kDayMs, 7 * kDayMs, 30 * kDayMs} : draft.windows_ms;
    if (windows != nullptr)
      feature.windows_ms = read_windows(*windows, draft, confirmed ? kConfirmedWindowMsMax : kWindowMsMax);
    sound = sound && !feature.windows_ms.empty();
    const bool has_including = kind == FeatureKind::kRolling || kind == FeatureKind::kVelocity ||
                               kind == FeatureKind::kDistinct || kind == FeatureKind::kQuantiles;
    if (const YamlNode* against = has_including ? map.take("against") : nullptr) {
      feature.including = read_choice(*against, mistakes, "value", kAgainst).value_or(0) == 1;
    }
  }
  if (const YamlNode* item = map.take("half_life")) {
    feature.half_life_ms = read_duration(*item, mistakes, 1, 3650 * kDayMs, "14d").value_or(feature.half_life_ms);
  }
  if (const YamlNode* item = map.take("accept")) {
    feature.accept_ms = read_duration(*item, mistakes, 1, 3650 * kDayMs, "2d").value_or(feature.accept_ms);
  }
  if (kind == FeatureKind::kPeers) feature.min_history = kPeersMin;
  if (kind == FeatureKind::kDiscord || kind == FeatureKind::kUnusual) feature.min_history = kOwnPastMin;
  if (kind == FeatureKind::kDiscord) read_shape(map, draft, feature);
  // Few known events are leant on everyone's rate already.
  const std::uint32_t least = kind == FeatureKind::kConfirmed ? 1 : 2;
  if (kind == FeatureKind::kConfirmed) {
    feature.min_history = least;
    if (const YamlNode* item = map.take("prior")) {
      feature.prior = read_positive(*item, mistakes, "how many events at everyone's rate are added, such as 20")
                          .value_or(feature.prior);
    }
    EventLayout layout;
    layout.label_types = draft.pipeline.events.label_types;
    if (const auto wrong = features::operator_mistake(feature, layout); sound && !wrong.empty()) {
      mistakes.add(node, wrong);
      sound = false;
    }
  }
  if (const YamlNode* item = map.take("min_history")) {
    feature.min_history =
        static_cast<std::uint32_t>(read_integer(*item, mistakes, least, 1'000'000).value_or(feature.min_history));
  }
  map.finish("key", fmt::format("of a {} feature", kKinds[*word]), kLaterKinds);

  draft.feature_columns[index] = columns_of(feature, draft.pipeline.events);
  draft.feature_sound[index] = sound;
  draft.pipeline.features.features[index] = std::move(feature);
}

}  // namespace

void read_entities(Draft& draft, MapReader& top) {
  const YamlNode* section = top.need("entities", kEntitiesExample);
  if (section == nullptr) return;
  MapReader map(*section, draft.mistakes, kEntitiesExample);
  if (!map.is_map()) return;
  if (section->items.empty())
    draft.mistakes.add(*section, fmt::format("expected {}, found an empty map", kEntitiesExample));
  for (const YamlNode& item : section->items) {
    if (draft.pipeline.entities.size() >= kEntriesMax) break;
    const bool named = check_name(item, draft.mistakes, "an entity");
    if (item.key == kEveryone) {
      draft.mistakes.add_at_key(
          item, fmt::format("the name '{}' is taken: it is what a rarity over all entities is by", kEveryone));
    }
    contract::KeySpec key;
    key.name = item.key;
    if (!named && item.kind == YamlNode::Kind::kNull) {
      // the name swallowed the field
    } else
      for (const YamlNode* part : key_parts(item, draft)) key.parts.push_back(read_part(*part, draft));
    draft.pipeline.entities.push_back(item.key);
    draft.pipeline.events.keys.push_back(std::move(key));
    draft.has_entities = true;
  }
}

void read_score(Draft& draft, MapReader& top) {
  static const std::vector<std::string> kAt{"event"};
  static const std::vector<std::string> kOrders{"arrival"};
  const YamlNode* section = top.take("score");
  if (section == nullptr) return;
  MapReader map(*section, draft.mistakes, "a map such as {by: card}");
  if (!map.is_map()) return;
  if (const YamlNode* node = map.take("by")) draft.pipeline.score.by = draft.entity(*node).value_or(0);
  if (const YamlNode* node = map.take("at")) {
    if (node->is_scalar() && (node->text.starts_with("every") || node->text == "silence")) {
      draft.mistakes.add(*node,
                         fmt::format("{} belongs to a later version. Known: {}", in_quotes(node->text), listed(kAt)));
    } else {
      read_choice(*node, draft.mistakes, "moment", kAt);
    }
  }
  if (const YamlNode* node = map.take("order")) {
    if (node->is_scalar() && node->text == "event_time") {
      draft.mistakes.add(
          *node, fmt::format("{} belongs to a later version. Known: {}", in_quotes(node->text), listed(kOrders)));
    } else {
      read_choice(*node, draft.mistakes, "order", kOrders);
    }
  }
  map.finish("key");
}

void read_features(Draft& draft, MapReader& top) {
  draft.windows_ms = {kMinuteMs, 5 * kMinuteMs, kHourMs};
  if (const YamlNode* node = top.take("windows")) draft.windows_ms = read_windows(*node, draft);
  const YamlNode* section = top.take("features");
  if (section == nullptr) return;
  MapReader map(*section, draft.mistakes, kFeaturesExample);
  if (!map.is_map()) return;
  draft.has_features = true;
  const std::size_t count = std::min(section->items.size(), kEntriesMax);
  draft.feature_columns.resize(count);
  draft.feature_sound.resize(count, false);
  draft.pipeline.features.features.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const YamlNode& item = section->items[i];
    check_name(item, draft.mistakes, "a feature");
    draft.feature_names.push_back(item.key);
    read_feature(item, draft, i);
  }
}

}  // namespace alcedo::pipeline
