// Every mistake of a pipeline's events section that only the contract or a header can reveal is found here, before the
// first event.
#include "contract/event_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "contract/fields/field_value.h"
#include "contract/fields/name_pattern.h"
#include "core/nearest_name.h"

namespace alcedo::contract {
namespace {

constexpr std::uint16_t kAnyKind = 0xFFFF;
constexpr std::size_t kColumnsShownMax = 30;

std::string did_you_mean(std::string_view name, std::span<const std::string> known) {
  const std::string nearest = nearest_name(name, known);
  return nearest.empty() ? std::string() : fmt::format("; did you mean '{}'?", nearest);
}

std::uint16_t allowed_kinds(const AvroField& field) {
  std::uint16_t kinds = 0;
  const auto allow = [&](unsigned types, ValueKind kind) {
    if ((field.types & types) != 0) kinds |= bit(kind);
  };
  allow(kAvroNull, ValueKind::kNull);
  allow(kAvroBoolean, ValueKind::kTrue);
  allow(kAvroBoolean, ValueKind::kFalse);
  allow(kAvroNumeric, ValueKind::kNumber);
  allow(kAvroString | kAvroEnum, ValueKind::kText);
  allow(kAvroArray, ValueKind::kArray);
  allow(kAvroObject, ValueKind::kObject);
  // Whether an absent field is a mistake is a question of its own (a default), not of its type.
  return kinds | bit(ValueKind::kAbsent);
}

std::uint16_t accepted_kinds(const AvroField& field) {
  unsigned kinds = allowed_kinds(field);
  if (field.required()) kinds &= ~static_cast<unsigned>(bit(ValueKind::kAbsent));
  if ((field.types & kAvroString) == 0) kinds &= ~static_cast<unsigned>(bit(ValueKind::kText));  // a symbol?
  if ((field.types & (kAvroFloat | kAvroDouble)) == 0)
    kinds &= ~static_cast<unsigned>(bit(ValueKind::kNumber));  // whole?
  return static_cast<std::uint16_t>(kinds);
}

// Gathers fields and mistakes while the spec is walked once.
class PlanCompiler {
 public:
  PlanCompiler(const EventsSpec& spec, EventPlan& plan) : spec_(spec), plan_(plan) {}

  void add_contract(const AvroSchema& schema) {
    plan_.has_contract = true;
    for (const AvroField& field : schema.fields) {
      PlannedField planned;
      planned.name = field.name;
      planned.in_contract = true;
      planned.type = field;
      planned.symbols = NameTable(field.symbols);
      planned.allowed = allowed_kinds(field);
      planned.accepted = accepted_kinds(field);
      planned.must_be_column = field.required();
      plan_.fields.push_back(std::move(planned));
      contract_names_.push_back(field.name);
    }
    plan_.contract_fields = plan_.fields.size();
  }

  // The index of a field that the pipeline names; `what` says where it does. kNoField if the contract does not have it.
  std::uint32_t use(std::string_view name, std::string_view what) {
    if (const std::uint32_t index = find(name); index != kNoField) {
      plan_.fields[index].must_be_column = true;
      return index;
    }
    if (plan_.has_contract) {
      mistake("{} '{}' is not a field of the contract{}", what, name, did_you_mean(name, contract_names_));
      return kNoField;
    }
    return add(name, true);
  }

  // Labels may be columns that only evaluation data has: beside the contract, and absent elsewhere.
  std::uint32_t use_label(std::string_view name) {
    const std::uint32_t index = find(name);
    return index == kNoField ? add(name, false) : index;
  }

  void need_number(std::uint32_t index, std::string_view what) {
    if (index == kNoField) return;
    const PlannedField& field = plan_.fields[index];
    if (field.in_contract && !field.type.numeric()) {
      mistake("{} '{}' must be a number; the contract says {}", what, field.name, field.type.type_text());
    }
    refuse_private(index, what);
  }

  void need_text(std::uint32_t index, std::string_view what) {
    if (index == kNoField) return;
    PlannedField& field = plan_.fields[index];
    if (field.in_contract && !field.type.textual()) {
      mistake("{} '{}' must be a string, an enum, an integer or a boolean; the contract says {}", what, field.name,
              field.type.type_text());
    }
    field.has_text = true;
  }

  void refuse_private(std::uint32_t index, std::string_view what) {
    if (index != kNoField && plan_.fields[index].is_private) {
      mistake("{} '{}' is private: only its hash exists here, so it can be part of a key or the id and nothing else",
              what, plan_.fields[index].name);
    }
  }

  template <typename... Args>
  void mistake(fmt::format_string<Args...> format, Args&&... args) {
    mistakes_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  void mistake_text(std::string text) { mistakes_.push_back(std::move(text)); }

  void compile() {
    check_form();
    compile_line();
    for (const std::string& name : spec_.private_fields) {
      if (const std::uint32_t index = use(name, "private field"); index != kNoField)
        plan_.fields[index].is_private = true;
    }
    compile_time();
    if (!spec_.id_field.empty()) need_text(plan_.id = use(spec_.id_field, "id"), "id");
    compile_money();
    if (spec_.shape == Shape::kLong) {
      need_text(plan_.metric = use(spec_.metric_field, "metric"), "metric");
      refuse_private(plan_.metric, "metric");
      need_number(plan_.value = use(spec_.value_field, "value"), "value");
    }
    compile_keys();
    compile_numbers();
    if (!spec_.label_field.empty()) refuse_private(plan_.label = use_label(spec_.label_field), "label");
    if (!spec_.label_type_field.empty())
      refuse_private(plan_.label_type = use_label(spec_.label_type_field), "label type");
    // Last: what is not used for anything else is a metric.
    if (spec_.shape == Shape::kWide) compile_wide();
    for (std::uint32_t i = 0; i < plan_.fields.size(); ++i) {
      if (plan_.fields[i].has_text || plan_.fields[i].has_masked) plan_.text_fields.push_back(i);
    }
    std::vector<std::string> names;
    names.reserve(plan_.fields.size());
    for (const PlannedField& field : plan_.fields) names.push_back(field.name);
    plan_.names = NameTable(names);
  }

  const std::vector<std::string>& mistakes() const { return mistakes_; }

 private:
  std::uint32_t find(std::string_view name) const {
    const auto at = std::ranges::find(plan_.fields, name, &PlannedField::name);
    return at == plan_.fields.end() ? kNoField : static_cast<std::uint32_t>(at - plan_.fields.begin());
  }

  std::uint32_t add(std::string_view name, bool must_be_column) {
    PlannedField field;
    field.name = name;
    field.allowed = kAnyKind;
    field.must_be_column = must_be_column;
    plan_.fields.push_back(std::move(field));
    return static_cast<std::uint32_t>(plan_.fields.size() - 1);
  }

  void check_form() {
    if (spec_.delimiter == '"' || spec_.delimiter == '\n' || spec_.delimiter == '\r' || spec_.delimiter == '\0') {
      mistake_text(
          "delimiter: a quote, a line end or nothing cannot separate cells; expected a character such as ',' or ';'");
    }
    if (spec_.shape == Shape::kRecord && !spec_.counters.empty()) {
      mistake_text("counters name metrics: they need shape long or wide");
    }
    if (spec_.shape == Shape::kRecord && !spec_.steps.empty()) {
      mistake_text("steps name metrics: they need shape long or wide");
    }
    if (spec_.shape != Shape::kWide && !spec_.values.empty())
      mistake_text("values lists the metrics of a wide record: it needs shape wide");
    if (spec_.money_amount.empty() != spec_.money_currency.empty()) {
      mistake_text("money needs both an amount and a currency field");
    }
    if (spec_.label_field.empty() && !spec_.label_type_field.empty()) mistake_text("label_type needs label beside it");
  }

  void compile_line() {
    if (spec_.line.empty()) return;
    auto line = LinePattern::create(spec_.line);
    if (line) {
      plan_.line = std::move(*line);
    } else {
      mistake_text(line.error().message);
    }
  }

  void compile_time() {
    AvroLogical logical = AvroLogical::kNone;
    if (spec_.time.unit != TimeUnit::kRow) {
      if (spec_.time.field.empty()) {
        mistake_text("time: which field is it? Or, for rows without one: {row: 1m, start: 2024-01-01}");
        return;
      }
      plan_.time = use(spec_.time.field, "time");
      refuse_private(plan_.time, "time");
      if (plan_.time != kNoField && plan_.fields[plan_.time].in_contract) {
        const AvroField& type = plan_.fields[plan_.time].type;
        logical = type.logical;
        if ((type.types & (kAvroNumeric | kAvroString)) == 0) {
          mistake("time '{}' must be a number or a string; the contract says {}", type.name, type.type_text());
        }
      }
    }
    auto reader = TimeReader::create(spec_.time, logical);
    if (reader) {
      plan_.time_reader = std::move(*reader);
    } else {
      mistake_text(reader.error().message);
    }
  }

  void compile_money() {
    if (spec_.money_amount.empty() || spec_.money_currency.empty()) return;
    need_number(plan_.amount = use(spec_.money_amount, "money amount"), "money amount");
    plan_.currency = use(spec_.money_currency, "money currency");
    refuse_private(plan_.currency, "money currency");
    if (plan_.currency != kNoField && plan_.fields[plan_.currency].in_contract &&
        (plan_.fields[plan_.currency].type.types & (kAvroString | kAvroEnum)) == 0) {
      mistake("money currency '{}' must be a string or an enum; the contract says {}", spec_.money_currency,
              plan_.fields[plan_.currency].type.type_text());
    }
  }

  void compile_keys() {
    for (const KeySpec& spec : spec_.keys) {
      const std::string what = fmt::format("entity {}:", spec.name);
      ComposedKey key;
      if (spec.parts.empty()) mistake("{} has no parts", what);
      for (const KeyPart& from : spec.parts) {
        ComposedKey::Part part;
        switch (from.kind) {
          case KeyPart::Kind::kField:
            part.field = use(from.text, what);
            need_text(part.field, what);
            break;
          case KeyPart::Kind::kFileName:
            part.from = ComposedKey::From::kFile;
            plan_.keys_use_file = true;
            break;
          case KeyPart::Kind::kMetric:
            part.from = ComposedKey::From::kMetric;
            if (spec_.shape == Shape::kRecord) mistake("{} only long and wide records have a metric name", what);
            break;
          case KeyPart::Kind::kTemplate:
            part.from = ComposedKey::From::kMasked;
            part.field = use(from.text, what);
            refuse_private(part.field, "template of");
            if (part.field != kNoField) {
              PlannedField& field = plan_.fields[part.field];
              if (field.in_contract && (field.type.types & (kAvroString | kAvroEnum)) == 0) {
                mistake("{} the template of '{}' needs a string; the contract says {}", what, field.name,
                        field.type.type_text());
              }
              field.has_masked = true;
            }
            break;
          case KeyPart::Kind::kCell:
            part.from = ComposedKey::From::kCell;
            part.field = cell(from, what);
            break;
          case KeyPart::Kind::kConstant:
            part.from = ComposedKey::From::kConstant;
            part.constant = spec.parts.size() > 1 ? escape_key_part(from.text) : from.text;
            break;
        }
        key.parts.push_back(std::move(part));
      }
      plan_.keys.push_back(std::move(key));
      plan_.layout.keys.push_back(spec.name);
    }
  }

  // Index into plan_.cells; keys of the same place share it.
  std::uint32_t cell(const KeyPart& part, std::string_view what) {
    const std::string of = fmt::format("{} cell of", what);
    const CellFields place{use(part.text, of), use(part.longitude, of)};
    for (const std::uint32_t field : {place.latitude, place.longitude}) {
      need_number(field, of);
      if (field != kNoField) plan_.fields[field].in_cell = true;
    }
    const auto same = [&](const CellFields& c) {
      return c.latitude == place.latitude && c.longitude == place.longitude;
    };
    const auto at = std::ranges::find_if(plan_.cells, same);
    if (at != plan_.cells.end()) return static_cast<std::uint32_t>(at - plan_.cells.begin());
    plan_.cells.push_back(place);
    return static_cast<std::uint32_t>(plan_.cells.size() - 1);
  }

  void compile_numbers() {
    for (const NumberSpec& spec : spec_.numbers) {
      const std::string name = spec.field.empty() ? "value" : spec.field;
      plan_.layout.numbers.push_back({name, spec.money});
      if (spec_.shape != Shape::kRecord) {
        if (spec.money) mistake("number {}: money is for shape record, where an event has a currency", name);
        continue;
      }
      NumberSlot slot{use(spec.field, "number"), spec.money};
      need_number(slot.field, "number");
      if (spec.money && (plan_.amount == kNoField || slot.field != plan_.amount)) {
        mistake("number {}: to be money it must be the amount of the money section", name);
      }
      plan_.numbers.push_back(slot);
    }
  }

  void compile_wide() {
    for (const std::string& name : spec_.values) {
      const std::uint32_t index = use(name, "value");
      need_number(index, "value");
      if (index != kNoField) plan_.wide_metrics.push_back({name, index, 0, plan_.traits_of(name)});
    }
    if (!spec_.values.empty() || !plan_.has_contract) return;
    for (std::uint32_t i = 0; i < plan_.contract_fields; ++i) {
      const PlannedField& field = plan_.fields[i];
      const bool used = field.has_text || field.has_masked || field.in_cell || field.is_private || i == plan_.time ||
                        i == plan_.label || i == plan_.label_type || i == plan_.amount || i == plan_.currency;
      if (!used && field.type.numeric()) plan_.wide_metrics.push_back({field.name, i, 0, plan_.traits_of(field.name)});
    }
    if (plan_.wide_metrics.empty())
      mistake_text("shape wide: the contract has no number that is not already time, id, key or label");
  }

  const EventsSpec& spec_;
  EventPlan& plan_;
  std::vector<std::string> contract_names_;
  std::vector<std::string> mistakes_;
};

}  // namespace

MetricTraits EventPlan::traits_of(std::string_view name) const {
  MetricTraits traits;
  traits.counter =
      std::ranges::any_of(spec.counters, [&](const auto& pattern) { return matches_pattern(pattern, name); });
  const auto fits = [&](const MetricStep& step) { return matches_pattern(step.pattern, name); };
  if (const auto at = std::ranges::find_if(spec.steps, fits); at != spec.steps.end()) {
    traits.step = static_cast<float>(at->step);
  }
  return traits;
}

Result<EventPlan> EventPlan::compile(const EventsSpec& spec) {
  EventPlan plan(*TimeReader::create({}));
  plan.spec = spec;
  PlanCompiler compiler(spec, plan);
  std::string where = "events";
  if (!spec.contract_path.empty()) {
    auto schema = read_avro_schema(spec.contract_path);
    if (!schema) return std::unexpected(schema.error());
    compiler.add_contract(*schema);
    where = spec.contract_path;
  }
  compiler.compile();
  if (compiler.mistakes().empty()) return plan;
  std::string message;
  for (const std::string& mistake : compiler.mistakes()) {
    message += fmt::format("{}{}: {}", message.empty() ? "" : "\n", where, mistake);
  }
  return error(ErrorCode::kInvalidArgument, std::move(message));
}

Result<PartitionPlan> PartitionPlan::compile(const EventPlan& plan, const PartitionInfo& info, std::int64_t first_row) {
  PartitionPlan partition;
  partition.file = info.file;
  partition.format = info.format;
  partition.first_row = first_row;
  partition.wide_metrics = plan.wide_metrics;
  const std::string where = info.file.empty() ? "events" : info.file;
  if (info.format == Format::kJson) {
    if (plan.spec.shape == Shape::kWide && plan.wide_metrics.empty()) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: wide JSON records need a contract, or `values` with the names of their metrics", where));
    }
    return partition;
  }
  std::vector<std::string> mistakes;
  const std::vector<std::string> header =
      info.format == Format::kText ? std::vector(plan.line.names().begin(), plan.line.names().end()) : info.header;
  if (info.format == Format::kText && header.empty()) {
    mistakes.push_back(fmt::format("{}: lines of text need `line`, which says how a line becomes fields", where));
  } else if (header.empty()) {
    mistakes.push_back(fmt::format("{}: CSV without column names; it needs a header line or `columns`", where));
  }
  partition.num_columns = header.size();
  partition.field_of_column.assign(header.size(), kNoField);
  std::vector<bool> found(plan.fields.size(), false);
  std::vector<std::string> seen;
  for (std::size_t column = 0; column < header.size(); ++column) {
    const std::string& name = header[column];
    const int index = plan.names.find(name);
    const bool again = std::ranges::find(seen, name) != seen.end();
    seen.push_back(name);
    if (index >= 0) {
      if (again) mistakes.push_back(fmt::format("{}: column '{}' is there twice", where, name));
      found[static_cast<std::size_t>(index)] = true;
      partition.field_of_column[column] = static_cast<std::uint32_t>(index);
    } else if (plan.spec.shape == Shape::kWide && plan.wide_metrics.empty() && !name.empty()) {
      if (again) mistakes.push_back(fmt::format("{}: column '{}' is there twice", where, name));
      partition.wide_metrics.push_back({name, kNoField, static_cast<std::uint32_t>(column), plan.traits_of(name)});
    }
  }
  for (std::size_t i = 0; i < plan.fields.size() && !header.empty(); ++i) {
    const PlannedField& field = plan.fields[i];
    if (found[i] || !field.must_be_column) continue;
    const std::span shown(header.data(), std::min(header.size(), kColumnsShownMax));
    mistakes.push_back(fmt::format(
        "{}: there is no {} '{}' among {}{}{}", where, info.format == Format::kText ? "field" : "column", field.name,
        fmt::join(shown, ", "), shown.size() < header.size() ? ", …" : "", did_you_mean(field.name, header)));
  }
  if (plan.spec.shape == Shape::kWide && partition.wide_metrics.empty() && mistakes.empty()) {
    mistakes.push_back(fmt::format("{}: no column is left to be a metric", where));
  }
  if (mistakes.empty()) return partition;
  return error(ErrorCode::kInvalidArgument, fmt::format("{}", fmt::join(mistakes, "\n")));
}

}  // namespace alcedo::contract
