// The sections that say what an event is: `events` and `labels`.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "contract/fields/line_pattern.h"
#include "core/time.h"
#include "pipeline/pipeline_file_sections.h"

namespace alcedo::pipeline {
namespace {

using contract::EventsSpec;
using contract::Shape;
using contract::TimeUnit;

constexpr std::string_view kEventsExample = "a map such as {contract: payment.avsc, id: payment_id, time: occurred_at}";
constexpr std::string_view kTimeExample =
    "a field, {field: NAME, unit: ms}, {field: NAME, format: \"%Y-%m-%d\"} or {row: 1m, start: 2025-01-01T00:00:00Z}";
constexpr std::string_view kLineExample =
    "how a line becomes fields, such as \"{date} {time} {level} {component}: {message}\"";
constexpr std::int64_t kLatenessMsMax = 7 * kDayMs;
constexpr std::int64_t kDuplicatesMax = 100'000'000;

bool in_range(std::int64_t value, std::int64_t min, std::int64_t max) { return value >= min && value <= max; }

void read_time_format(const YamlNode& node, Draft& draft, contract::TimeSpec& time) {
  constexpr std::string_view kDirectives = "YmdHMSfzbypIj%";
  const auto format = read_text(node, draft.mistakes, "a time format such as \"%d/%m/%Y %H:%M\"");
  if (!format) return;
  bool any = false;
  for (std::size_t i = 0; i < format->size(); ++i) {
    if ((*format)[i] != '%') continue;
    ++i;
    if (i >= format->size() || kDirectives.find((*format)[i]) == std::string_view::npos) {
      const std::string directive = format->substr(i - 1, 2);
      draft.mistakes.add(
          node, fmt::format("unknown directive {} in a time format. Known: %Y %m %d %H %M %S %f %z %b %y %p %I %j %%",
                            in_quotes(directive)));
      return;
    }
    any = any || (*format)[i] != '%';
  }
  if (!any) {
    draft.mistakes.add(node,
                       fmt::format("a time format needs directives such as %Y-%m-%d, found {}", in_quotes(*format)));
    return;
  }
  time.unit = TimeUnit::kFormat;
  time.format = *format;
}

void read_time(const YamlNode& node, Draft& draft) {
  static const std::vector<std::string> kUnits{"iso", "s", "ms", "us", "ns"};
  static constexpr std::array kUnitValues{TimeUnit::kIso, TimeUnit::kSeconds, TimeUnit::kMilliseconds,
                                          TimeUnit::kMicroseconds, TimeUnit::kNanoseconds};
  contract::TimeSpec& time = draft.pipeline.events.time;
  const YamlNode* field = &node;
  bool says_unit = false;
  if (!node.is_scalar()) {
    MapReader map(node, draft.mistakes, kTimeExample);
    if (!map.is_map()) return;
    const YamlNode* row = map.take("row");
    field = map.take("field");
    const YamlNode* unit = map.take("unit");
    const YamlNode* format = map.take("format");
    const YamlNode* start = map.take("start");
    map.finish("key", "of a time");
    if ((row == nullptr) == (field == nullptr)) {
      draft.mistakes.add(node, fmt::format("expected either 'field' or 'row': {}", kTimeExample));
      return;
    }
    if (row != nullptr) {
      time.unit = TimeUnit::kRow;
      time.step_ms = read_duration(*row, draft.mistakes, 1, kDayMs * 366, "1m").value_or(kMinuteMs);
      for (const YamlNode* other : {unit, format}) {
        if (other != nullptr) draft.mistakes.add_at_key(*other, "has no meaning where time is counted in rows");
      }
    } else if (unit != nullptr && format != nullptr) {
      draft.mistakes.add_at_key(*format, "a time has a unit or a format, not both");
    } else if (unit != nullptr) {
      if (const auto choice = read_choice(*unit, draft.mistakes, "unit", kUnits)) time.unit = kUnitValues[*choice];
    } else if (format != nullptr) {
      read_time_format(*format, draft, time);
    }
    says_unit = unit != nullptr || format != nullptr;
    if (start != nullptr) {
      if (row == nullptr && (unit == nullptr || time.unit == TimeUnit::kIso)) {
        draft.mistakes.add_at_key(*start, "an epoch of its own needs a unit: s, ms, us or ns");
      } else if (const auto text = read_text(*start, draft.mistakes, "a time such as 2025-01-01T00:00:00Z")) {
        if (const auto start_ms = parse_iso_time_ms(*text)) {
          time.start_ms = *start_ms;
        } else {
          draft.mistakes.add(*start,
                             fmt::format("expected a time such as 2025-01-01T00:00:00Z, found {}", in_quotes(*text)));
        }
      }
    }
  }
  if (field == nullptr) return;
  if (const auto name = draft.field(*field, FieldUse::kTime)) {
    time.field = *name;
    if (!says_unit && draft.fields) {
      const contract::AvroField* known = draft.fields->find(*name);
      if (known != nullptr && known->logical == contract::AvroLogical::kTimestampMillis)
        time.unit = TimeUnit::kMilliseconds;
      if (known != nullptr && known->logical == contract::AvroLogical::kTimestampMicros)
        time.unit = TimeUnit::kMicroseconds;
    }
  }
}

void read_money(const YamlNode& node, Draft& draft) {
  constexpr std::string_view kExample = "[AMOUNT, CURRENCY], two fields such as [amount, currency]";
  const auto parts = read_scalars(node, draft.mistakes, kExample);
  if (parts.empty()) return;
  if (parts.size() != 2 || node.items.size() != 2) {
    draft.mistakes.add(node, fmt::format("expected {}", kExample));
    return;
  }
  EventsSpec& events = draft.pipeline.events;
  events.money_amount = draft.field(*parts[0], FieldUse::kMoney).value_or(parts[0]->text);
  events.money_currency = draft.field(*parts[1], FieldUse::kKey).value_or(parts[1]->text);
}

void read_delimiter(const YamlNode& node, Draft& draft) {
  constexpr std::string_view kExample = "one character such as \";\", or tab";
  const auto text = read_text(node, draft.mistakes, kExample);
  if (!text) return;
  if (*text == "tab" || *text == "\t") {
    draft.pipeline.events.delimiter = '\t';
  } else if (text->size() == 1 && *text != "\"" && *text != "\n" && *text != "\r" &&
             static_cast<unsigned char>((*text)[0]) < 0x80) {
    draft.pipeline.events.delimiter = (*text)[0];
  } else {
    draft.mistakes.add(node, fmt::format("expected {}, found {}", kExample, in_quotes(*text)));
  }
}

// Where the names of the fields come from, before any of them is used.
void read_fields(const YamlNode* schema_file, const YamlNode* columns, const YamlNode* line, Draft& draft) {
  EventsSpec& events = draft.pipeline.events;
  if (line != nullptr) {
    if (const auto text = read_text(*line, draft.mistakes, kLineExample)) {
      if (const auto pattern = contract::LinePattern::create(*text)) {
        events.line = *text;
        FieldTable table;
        table.origin = "line";
        for (const std::string& name : pattern->names()) {
          contract::AvroField field;
          field.name = name;
          table.fields.push_back(std::move(field));
        }
        draft.fields = std::move(table);
      } else {
        draft.mistakes.add(*line, pattern.error().message);
      }
    }
  }
  if (columns != nullptr) {
    FieldTable table;
    table.origin = "columns";
    for (const YamlNode* column :
         read_scalars(*columns, draft.mistakes, "the names of the columns, such as [time, value]")) {
      events.columns.push_back(column->text);
      contract::AvroField field;
      field.name = column->text;
      table.fields.push_back(std::move(field));
    }
    if (!table.fields.empty()) draft.fields = std::move(table);
  }
  if (schema_file == nullptr) return;
  const auto path = read_text(*schema_file, draft.mistakes, "an Avro schema file such as payment.avsc");
  if (!path) return;
  events.contract_path = draft.resolve(*path);
  draft.fields.reset();
  std::error_code code;
  const auto bytes = std::filesystem::is_regular_file(events.contract_path, code) && !code
                         ? std::filesystem::file_size(events.contract_path, code)
                         : 0;
  if (code || bytes == 0 || bytes > kFileBytesMax) {
    // The whole path: a person has to find that file.
    constexpr std::size_t kPathBytesMax = 4096;
    draft.mistakes.add(*schema_file,
                       fmt::format("cannot read the contract {}: {}", in_quotes(events.contract_path, kPathBytesMax),
                                   code         ? code.message()
                                   : bytes == 0 ? "it is no file, or empty"
                                                : "it is larger than 1 MiB"));
    return;
  }
  auto schema = contract::read_avro_schema(events.contract_path);
  if (schema) {
    draft.fields = FieldTable{*path, std::move(schema->fields)};
    return;
  }
  std::string_view rest = schema.error().message;  // a line each
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    if (end > 0) draft.mistakes.add(*schema_file, rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

void read_shape(MapReader& map, Draft& draft) {
  static const std::vector<std::string> kShapes{"record", "long", "wide"};
  static const std::vector<std::string> kFormats{"json", "csv", "text"};
  EventsSpec& events = draft.pipeline.events;
  if (const YamlNode* node = map.take("shape")) {
    events.shape = static_cast<Shape>(read_choice(*node, draft.mistakes, "shape", kShapes).value_or(0));
  }
  if (const YamlNode* node = map.take("format")) {
    if (const auto choice = read_choice(*node, draft.mistakes, "format", kFormats)) {
      events.format = static_cast<contract::Format>(*choice);
    }
  }
}

void read_steps(const YamlNode& node, Draft& draft) {
  static constexpr std::string_view kExample = R"(a map of patterns over metric names, such as {"*_ratio": 0.1})";
  if (node.kind != YamlNode::Kind::kMap) {
    draft.mistakes.add(node, fmt::format("expected {}, found {}", kExample, described(node)));
    return;
  }
  for (const YamlNode& item : node.items) {
    const auto step = read_positive(item, draft.mistakes, "a number above 0 in the metric's unit, such as 0.1");
    if (step) draft.pipeline.events.steps.push_back({item.key, *step});
  }
}

void read_metric_keys(MapReader& map, Draft& draft) {
  EventsSpec& events = draft.pipeline.events;
  const auto only = [&draft](const YamlNode* node, bool allowed, std::string_view where) {
    if (node != nullptr && !allowed)
      draft.mistakes.add_at_key(*node, fmt::format("has a meaning only with shape: {}", where));
    return node != nullptr && allowed;
  };
  const bool is_long = events.shape == Shape::kLong;
  const bool is_wide = events.shape == Shape::kWide;
  const YamlNode* metric = map.take("metric");
  const YamlNode* value = map.take("value");
  const YamlNode* values = map.take("values");
  const YamlNode* counters = map.take("counters");
  const YamlNode* steps = map.take("steps");
  if (only(metric, is_long, "long")) {
    events.metric_field = draft.field(*metric, FieldUse::kKey).value_or(metric->text);
  } else if (is_long && draft.fields && metric == nullptr) {
    if (draft.fields->find(events.metric_field) == nullptr) {
      draft.mistakes.add(map.node(), "missing 'metric': the field with the metric's name");
    }
  }
  if (only(value, is_long, "long")) {
    events.value_field = draft.field(*value, FieldUse::kNumber).value_or(value->text);
  } else if (is_long && draft.fields && value == nullptr) {
    if (draft.fields->find(events.value_field) == nullptr) {
      draft.mistakes.add(map.node(), "missing 'value': the field with the metric's value");
    }
  }
  if (only(values, is_wide, "wide")) {
    for (const YamlNode* item :
         read_scalars(*values, draft.mistakes, "the columns that are metrics, such as [cpu, memory]")) {
      if (const auto field = draft.field(*item, FieldUse::kNumber)) events.values.push_back(*field);
    }
  }
  if (only(counters, is_long || is_wide, "long or wide")) {
    for (const YamlNode* item :
         read_scalars(*counters, draft.mistakes, "patterns over metric names, such as [\"*_total\"]")) {
      events.counters.push_back(item->text);
    }
  }
  if (only(steps, is_long || is_wide, "long or wide")) read_steps(*steps, draft);
}

void read_duplicates(const YamlNode* node, Draft& draft) {
  const bool has_id = !draft.pipeline.events.id_field.empty();
  if (!has_id) draft.pipeline.duplicates = 0;
  if (node == nullptr) return;
  if (node->is_scalar() && (node->text == "off" || node->text == "0")) {
    draft.pipeline.duplicates = 0;
    return;
  }
  std::int64_t count = -1;
  if (node->is_scalar()) {
    std::string digits = node->text;
    std::erase(digits, '_');
    if (!digits.empty() && digits.size() < 12 && digits.find_first_not_of("0123456789") == std::string::npos) {
      count = std::stoll(digits);
    }
  }
  if (!in_range(count, 1, kDuplicatesMax)) {
    draft.mistakes.add(*node,
                       fmt::format("expected how many events back an id is remembered (1 to {}) or off, found {}",
                                   kDuplicatesMax, described(*node)));
  } else if (!has_id) {
    draft.mistakes.add_at_key(*node, "needs an 'id': without one, no event is a duplicate");
  } else {
    draft.pipeline.duplicates = static_cast<std::uint64_t>(count);
  }
}

}  // namespace

void read_events(Draft& draft, MapReader& top) {
  const YamlNode* section = top.need("events", kEventsExample);
  if (section == nullptr) return;
  Mistakes& mistakes = draft.mistakes;
  EventsSpec& events = draft.pipeline.events;
  events.lateness_ms = 30 * kSecondMs;
  MapReader map(*section, mistakes, kEventsExample);
  if (!map.is_map()) return;

  read_shape(map, draft);
  const YamlNode* schema_file = map.take("contract");
  const YamlNode* columns = map.take("columns");
  const YamlNode* delimiter = map.take("delimiter");
  const YamlNode* line = map.take("line");
  read_fields(schema_file, columns, line, draft);
  if (delimiter != nullptr) read_delimiter(*delimiter, draft);
  for (const YamlNode* csv_only : {columns, delimiter}) {
    if (csv_only == nullptr) continue;
    if (events.format.value_or(contract::Format::kCsv) != contract::Format::kCsv || line != nullptr) {
      mistakes.add_at_key(*csv_only, "has a meaning only with format: csv");
    }
  }
  if (line != nullptr && events.format.value_or(contract::Format::kText) != contract::Format::kText) {
    mistakes.add_at_key(*line, "has a meaning only with format: text");
  }
  if (line != nullptr && !events.format) events.format = contract::Format::kText;
  if (line == nullptr && events.format == contract::Format::kText) {
    mistakes.add(*section, fmt::format("missing 'line': {}", kLineExample));
  }
  if (!events.format && (columns != nullptr || delimiter != nullptr)) events.format = contract::Format::kCsv;

  if (const YamlNode* node = map.take("id")) events.id_field = draft.field(*node, FieldUse::kKey).value_or("?");
  if (const YamlNode* node = map.need("time", kTimeExample)) read_time(*node, draft);
  if (const YamlNode* node = map.take("lateness")) {
    events.lateness_ms = read_duration(*node, mistakes, 0, kLatenessMsMax, "30s").value_or(events.lateness_ms);
  }
  if (const YamlNode* node = map.take("ahead")) {
    if (node->is_scalar() && node->text == "none") {
      events.ahead_ms.reset();
    } else {
      events.ahead_ms = read_duration(*node, mistakes, 0, 366 * kDayMs, "5m (or none)").value_or(*events.ahead_ms);
    }
  }
  if (const YamlNode* node = map.take("money")) read_money(*node, draft);
  if (const YamlNode* node = map.take("private")) {
    for (const YamlNode* item : read_scalars(*node, mistakes, "fields such as [card_id]")) {
      if (const auto field = draft.field(*item, FieldUse::kKey)) events.private_fields.push_back(*field);
    }
  }
  read_metric_keys(map, draft);
  if (const YamlNode* node = map.take("label")) events.label_field = draft.field(*node, FieldUse::kAny).value_or("?");
  if (const YamlNode* node = map.take("label_type")) {
    events.label_type_field = draft.field(*node, FieldUse::kAny).value_or("?");
    if (events.label_field.empty())
      mistakes.add_at_key(*node, "needs a 'label': the field that says whether there is a type");
  }
  read_duplicates(map.take("duplicates"), draft);
  map.finish("key");
}

namespace {

constexpr std::string_view kLabelsExample =
    "a map such as {field: is_fraud, delay: 7d} or {from: file:chargebacks.csv, join: payment_id, type: reason}";

// Where labels come from. `at` is `from` or `field`.
void read_labels_from(const YamlNode& at, bool is_field, Draft& draft) {
  constexpr std::string_view kFromExample = "file:PATH or field:NAME";
  LabelsSpec& labels = draft.pipeline.labels;
  EventsSpec& events = draft.pipeline.events;
  const auto text = read_text(at, draft.mistakes, is_field ? "the events' field with the label" : kFromExample);
  if (!text) return;
  if (!labels.from.empty()) {
    draft.mistakes.add(at, fmt::format("{} says already that '{}' tells the truth; keep one of the two",
                                       is_field && events.label_field.empty() ? "from" : "events.label",
                                       is_field && events.label_field.empty() ? labels.from : events.label_field));
    return;
  }
  if (is_field || text->starts_with("field:")) {
    YamlNode field = at;  // the part after "field:" is what must exist
    if (!is_field) field.text = text->substr(6);
    events.label_field = draft.field(field, FieldUse::kAny).value_or("?");
    labels.from = is_field ? "field:" + *text : *text;
    return;
  }
  const std::size_t colon = text->find(':');
  const std::string scheme = colon == std::string::npos ? "file" : text->substr(0, colon);
  const std::string path = colon == std::string::npos ? *text : text->substr(colon + 1);
  if (scheme != "file" || path.empty()) {
    draft.mistakes.add(at, fmt::format("expected {}, found {}", kFromExample, in_quotes(*text)));
  } else {
    labels.from = draft.resolve(path);
  }
}

// When features learn of a label.
void read_labels_times(MapReader& map, Draft& draft) {
  constexpr std::int64_t kTimeMsMax = 3660 * kDayMs;
  LabelsSpec& labels = draft.pipeline.labels;
  if (const YamlNode* node = map.take("delay"))
    labels.delay_ms = read_duration(*node, draft.mistakes, 0, kTimeMsMax, "7d").value_or(0);
  const YamlNode* known = map.take("known");
  const YamlNode* keep = map.take("keep");
  for (const YamlNode* node : {known, keep}) {
    if (node == nullptr) continue;
    if (!labels.in_file()) {
      draft.mistakes.add_at_key(*node, "has a meaning only with from: file:PATH");
    } else if (!labels.delay_ms) {
      draft.mistakes.add_at_key(*node,
                                "needs a 'delay': how long after an event its label is usually known, such as 7d");
    }
  }
  if (known != nullptr) {
    labels.known_field =
        read_text(*known, draft.mistakes, "the labels' column with the time at which each became known").value_or("?");
  }
  if (keep != nullptr)
    labels.keep_ms = read_duration(*keep, draft.mistakes, kMinuteMs, kTimeMsMax, "30d").value_or(labels.keep_ms);
}

}  // namespace

void read_labels(Draft& draft, MapReader& top) {
  LabelsSpec& labels = draft.pipeline.labels;
  EventsSpec& events = draft.pipeline.events;
  if (!events.label_field.empty()) {
    labels.from = "field:" + events.label_field;
    labels.type_field = events.label_type_field;
  }
  const auto hide = [&] {
    for (const std::string& field : {events.label_field, events.label_type_field}) {
      if (!field.empty()) draft.label_fields.push_back(field);
    }
  };
  const YamlNode* section = top.take("labels");
  if (section == nullptr) return hide();
  Mistakes& mistakes = draft.mistakes;
  MapReader map(*section, mistakes, kLabelsExample);
  if (!map.is_map()) return hide();
  const YamlNode* from = map.take("from");
  const YamlNode* in_events = map.take("field");
  const YamlNode* join = map.take("join");
  const YamlNode* type = map.take("type");
  if (from != nullptr) read_labels_from(*from, false, draft);
  if (in_events != nullptr) read_labels_from(*in_events, true, draft);
  if (join != nullptr) {
    labels.join = draft.field(*join, FieldUse::kKey).value_or("?");
    if (labels.from.starts_with("field:"))
      mistakes.add_at_key(*join, "has no meaning where the label is a field of the event");
  }
  if (type != nullptr) {
    if (labels.from.starts_with("field:")) {
      events.label_type_field = draft.field(*type, FieldUse::kAny).value_or("?");
      labels.type_field = events.label_type_field;
    } else {
      labels.type_field = read_text(*type, mistakes, "the labels' column with the type").value_or("");
    }
  }
  if (const YamlNode* node = map.take("complete")) labels.complete = read_bool(*node, mistakes).value_or(false);
  read_labels_times(map, draft);
  map.finish("key");
  hide();
}

}  // namespace alcedo::pipeline
