// Every step says false once the record is refused, with the reason noted; the happy path makes no messages and no
// allocations.
#include "contract/record_decoder.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "contract/fields/money.h"
#include "contract/fields/place_cell.h"
#include "contract/fields/siphash.h"
#include "contract/template_miner.h"
#include "core/check.h"

namespace alcedo::contract {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kShownBytesMax = 80;
constexpr std::int32_t kLargeExponent = 200;  // 19 digits and this exponent still fit a double

// A value as a message may show it: cut at a whole character, and without bytes that would act on a terminal.
std::string shown(std::string_view text) {
  std::string_view cut = text.substr(0, kShownBytesMax);
  if (cut.size() < text.size()) {
    while (!cut.empty() && (static_cast<unsigned char>(text[cut.size()]) & 0xC0U) == 0x80U) cut.remove_suffix(1);
  }
  std::string safe(cut);
  for (char& c : safe) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return cut.size() < text.size() ? safe + "…" : safe;
}

std::string found(const FieldValue& value) {
  switch (value.kind) {
    case ValueKind::kAbsent:
      return "nothing";
    case ValueKind::kNull:
      return "null";
    case ValueKind::kNumber:
      return shown(value.text);
    case ValueKind::kTrue:
      return "true";
    case ValueKind::kFalse:
      return "false";
    case ValueKind::kObject:
      return "an object";
    case ValueKind::kArray:
      return "an array";
    default:
      return fmt::format("\"{}\"", shown(value.text));
  }
}

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  return std::ranges::equal(text, lower,
                            [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; });
}

// An integer's decimal text without leading zeros; another number's shortest. `buffer` has 32 bytes.
std::string_view canonical_number(const FieldValue& value, char* buffer) {
  const std::string_view unsigned_text = value.text.substr(value.text.starts_with('-') ? 1 : 0);
  const bool canonical = value.number.whole_form && unsigned_text.front() >= '1' && unsigned_text.front() <= '9' &&
                         unsigned_text.back() >= '0';  // neither zeros nor '+' nor blanks around
  if (canonical) return value.text;
  const Scaled whole = scale(value.number, 0);
  const std::to_chars_result end = whole.fault == ScaleFault::kNone
                                       ? std::to_chars(buffer, buffer + 32, whole.value)
                                       : std::to_chars(buffer, buffer + 32, to_double(value.number, value.text));
  return {buffer, static_cast<std::size_t>(end.ptr - buffer)};
}

std::string_view copy_text(TextArena& arena, std::string_view text) {
  return text.empty() ? std::string_view("") : arena.copy(text);
}

}  // namespace

bool RecordDecoder::refuse(Reject reject, std::string message) {
  decoded_.events = 0;
  decoded_.reject = reject;
  decoded_.message = std::move(message);
  return false;
}

bool RecordDecoder::refuse_field(Reject reject, std::string_view name, const PlannedField* field,
                                 const FieldValue& value, std::string_view expected) {
  const bool hidden = field != nullptr && field->is_private && !value.missing();
  const bool empty_cell = value.kind == ValueKind::kNull && partition_.format != Format::kJson;
  return refuse(reject, fmt::format("field '{}': expected {}, found {}", name, expected,
                                    hidden       ? "a private value"
                                    : empty_cell ? "an empty cell"
                                                 : found(value)));
}

Decoded RecordDecoder::decode(std::string_view bytes, const RawRecord& record, std::size_t first_row) {
  if (bytes.size() >= Decoder::kRecordBytesMax) {
    refuse(Reject::kTooLong,
           fmt::format("the record has {} bytes or more; fewer are allowed", Decoder::kRecordBytesMax));
    return std::move(decoded_);
  }
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  const bool json = partition_.format == Format::kJson;
  if (bytes.find_first_not_of(json ? " \t\r\n" : "\r\n") == std::string_view::npos) return {};
  scratch_.values.resize(plan_.fields.size());
  scratch_.texts.resize(plan_.fields.size());
  scratch_.masked.resize(plan_.fields.size());
  scratch_.places.resize(plan_.cells.size());
  source_ = {scratch_.texts, {}, {}, scratch_.masked, scratch_.places};
  const bool is_read = json ? read_json(bytes) : partition_.format == Format::kCsv ? read_csv(bytes) : read_line(bytes);
  if (!is_read || !check_contract() || !read_time(record) || !read_texts() || !read_places() || !read_id(record)) {
    return std::move(decoded_);
  }
  read_label(record);
  if (plan_.keys_use_file && !partition_.file.empty()) source_.file = {copy_text(arena_, partition_.file), true};
  switch (plan_.spec.shape) {
    case Shape::kRecord:
      decode_record(record, first_row);
      break;
    case Shape::kLong:
      decode_long(record, first_row);
      break;
    case Shape::kWide:
      decode_wide(record, first_row);
      break;
  }
  return std::move(decoded_);
}

bool RecordDecoder::read_json(std::string_view bytes) {
  std::string message;
  const Reject reject = scratch_.json.read(bytes, plan_.names, scratch_.values, message);
  return reject == Reject::kNone || refuse(reject, std::move(message));
}

bool RecordDecoder::read_csv(std::string_view bytes) {
  if (!simdjson::validate_utf8(bytes.data(), bytes.size()))
    return refuse(Reject::kInvalidUtf8, "the record is not valid UTF-8");
  switch (scratch_.csv.split(bytes, plan_.spec.delimiter)) {
    case CsvFault::kOpenQuote:
      return refuse(Reject::kMalformed, "not valid CSV: a quote is never closed");
    case CsvFault::kTextAfterQuote:
      return refuse(Reject::kMalformed, "not valid CSV: text after a closing quote");
    case CsvFault::kNone:
      break;
  }
  const auto cells = scratch_.csv.cells();
  if (cells.size() != partition_.num_columns) {
    return refuse(Reject::kColumnCount,
                  fmt::format("expected {} columns, found {}", partition_.num_columns, cells.size()));
  }
  take_cells(cells);
  return true;
}

bool RecordDecoder::read_line(std::string_view bytes) {
  if (!simdjson::validate_utf8(bytes.data(), bytes.size()))
    return refuse(Reject::kInvalidUtf8, "the line is not valid UTF-8");
  if (bytes.ends_with('\r')) bytes.remove_suffix(1);
  scratch_.cells.resize(partition_.num_columns);
  std::string why;
  if (!plan_.line.split(bytes, scratch_.cells, why)) {
    return refuse(Reject::kMalformed, fmt::format("the line does not fit \"{}\": {}", plan_.spec.line, why));
  }
  take_cells(scratch_.cells);
  return true;
}

void RecordDecoder::take_cells(std::span<const std::string_view> cells) {
  for (FieldValue& value : scratch_.values) value.kind = ValueKind::kAbsent;
  for (std::size_t column = 0; column < cells.size(); ++column) {
    const std::uint32_t field = partition_.field_of_column[column];
    if (field == kNoField) continue;
    scratch_.values[field].kind = cells[column].empty() ? ValueKind::kNull : ValueKind::kCell;
    scratch_.values[field].text = cells[column];
  }
}

bool RecordDecoder::check_contract() {
  for (std::size_t i = 0; i < plan_.contract_fields; ++i) {
    const PlannedField& field = plan_.fields[i];
    FieldValue& value = scratch_.values[i];
    if ((field.accepted & bit(value.kind)) != 0 &&
        (value.kind != ValueKind::kNumber || value.number.exponent < kLargeExponent))
      continue;
    if (!check_field(field, value)) return false;
  }
  return true;
}

bool RecordDecoder::check_field(const PlannedField& field, FieldValue& value) {
  const AvroField& type = field.type;
  const auto wrong = [&](Reject reject) { return refuse_field(reject, field.name, &field, value, type.type_text()); };
  if (value.kind == ValueKind::kCell) {
    // A cell is text until the contract says otherwise.
    if ((type.types & kAvroNumeric) != 0) {
      if (scan_csv_number(value.text, value.number)) {
        value.kind = ValueKind::kNumber;
      } else if (type.numeric() && is_not_finite_text(value.text)) {
        return wrong(Reject::kNotFinite);
      }
    }
    if (value.kind == ValueKind::kCell && (type.types & kAvroBoolean) != 0) {
      if (equals_ignoring_case(value.text, "true")) value.kind = ValueKind::kTrue;
      if (equals_ignoring_case(value.text, "false")) value.kind = ValueKind::kFalse;
    }
    if (value.kind == ValueKind::kCell && (type.types & (kAvroString | kAvroEnum)) != 0) value.kind = ValueKind::kText;
  }
  if (value.missing() && type.required()) return wrong(Reject::kMissingField);
  if ((field.allowed & bit(value.kind)) == 0) {
    // An empty cell is how CSV leaves a field out, which a default allows; JSON's null is a value of its own.
    if (value.kind == ValueKind::kNull && partition_.format != Format::kJson) return true;
    return wrong(Reject::kWrongType);
  }
  if (value.kind == ValueKind::kNumber) {
    if ((type.types & (kAvroFloat | kAvroDouble)) == 0) {
      const Scaled whole = scale(value.number, 0);
      constexpr std::int64_t kIntMin = std::numeric_limits<std::int32_t>::min(),
                             kIntMax = std::numeric_limits<std::int32_t>::max();
      if (whole.fault == ScaleFault::kInexact) return wrong(Reject::kWrongType);
      if (whole.fault == ScaleFault::kOutOfRange ||
          ((type.types & kAvroLong) == 0 && (whole.value < kIntMin || whole.value > kIntMax))) {
        return wrong(Reject::kOutOfRange);
      }
    } else if (value.number.exponent >= kLargeExponent && !std::isfinite(to_double(value.number, value.text))) {
      return wrong(Reject::kNotFinite);
    }
  }
  if (value.kind == ValueKind::kText && (type.types & kAvroString) == 0 && field.symbols.find(value.text) < 0) {
    return wrong(Reject::kWrongType);
  }
  return true;
}

bool RecordDecoder::read_time(const RawRecord& record) {
  std::optional<std::int64_t> time_ms;
  if (plan_.spec.time.unit == TimeUnit::kRow) {
    std::int64_t row = 0;
    if (!__builtin_add_overflow(partition_.first_row, record.offset, &row)) time_ms = plan_.time_reader.read_row(row);
    if (!time_ms)
      return refuse(Reject::kBadTime, fmt::format("row {}: expected {}", row, plan_.time_reader.expected()));
    time_ms_ = *time_ms;
    return true;
  }
  const PlannedField& field = plan_.fields[plan_.time];
  const FieldValue& value = scratch_.values[plan_.time];
  if (value.missing())
    return refuse_field(Reject::kMissingField, field.name, &field, value, plan_.time_reader.expected());
  time_ms = plan_.time_reader.read(value);
  if (!time_ms) return refuse_field(Reject::kBadTime, field.name, &field, value, plan_.time_reader.expected());
  time_ms_ = *time_ms;
  return true;
}

// Texts of key parts, the id and the metric: hashed where private, and copied to where the batch keeps them.
bool RecordDecoder::read_texts() {
  for (const std::uint32_t index : plan_.text_fields) {
    const PlannedField& field = plan_.fields[index];
    const FieldValue& value = scratch_.values[index];
    char buffer[32];
    std::string_view text;
    switch (value.kind) {
      case ValueKind::kAbsent:
      case ValueKind::kNull:
        scratch_.texts[index] = {};
        scratch_.masked[index] = {};
        continue;
      case ValueKind::kText:
      case ValueKind::kCell:
        text = value.text;
        break;
      case ValueKind::kNumber:
        text = canonical_number(value, buffer);
        break;
      case ValueKind::kTrue:
        text = "true";
        break;
      case ValueKind::kFalse:
        text = "false";
        break;
      default:
        return refuse_field(Reject::kWrongType, field.name, &field, value,
                            "a string, an integer or a boolean for a key");
    }
    if (field.has_masked) {
      mask_message(text, scratch_.message);
      scratch_.masked[index] = {copy_text(arena_, scratch_.message), true};
      if (!field.has_text) continue;
    }
    if (field.is_private) {
      char* const to = arena_.reserve(kPrivateTextBytes);
      write_private_text(secret_, text, to);
      scratch_.texts[index] = {{to, kPrivateTextBytes}, true};
    } else {
      scratch_.texts[index] = {copy_text(arena_, text), true};
    }
  }
  return true;
}

// A place that is missing or not on the globe has no cell, and so no key: that is for features to say, not a mistake.
bool RecordDecoder::read_places() {
  for (std::size_t i = 0; i < plan_.cells.size(); ++i) {
    double degrees[2];
    const std::uint32_t indices[2] = {plan_.cells[i].latitude, plan_.cells[i].longitude};
    for (int side = 0; side < 2; ++side) {
      const PlannedField& field = plan_.fields[indices[side]];
      if (!read_number(scratch_.values[indices[side]], &field, field.name, degrees[side])) return false;
    }
    char buffer[kCellTextBytes];
    const std::string_view cell = place_cell(degrees[0], degrees[1], buffer);
    scratch_.places[i] = cell.empty() ? PartText{} : PartText{copy_text(arena_, cell), true};
  }
  return true;
}

bool RecordDecoder::read_id(const RawRecord& record) {
  if (plan_.id != kNoField) {
    const PartText id = scratch_.texts[plan_.id];
    if (id.present && !id.text.empty()) {
      id_ = id.text;
      id_hash_ = hash64(id_);
      return true;
    }
    // Only a contract can say that an event may come without its id.
    const PlannedField& field = plan_.fields[plan_.id];
    if (!field.in_contract || !field.type.nullable()) {
      return refuse_field(Reject::kMissingField, field.name, &field, scratch_.values[plan_.id], "the event's id");
    }
  }
  char number[24];
  char* at = number;
  if (partition_.file.empty()) {
    *at++ = 'p';
    at = std::to_chars(at, number + sizeof number, record.partition).ptr;
  }
  char* const colon = at;
  const std::size_t name_bytes =
      partition_.file.empty() ? static_cast<std::size_t>(colon - number) : partition_.file.size();
  char digits[24];
  const auto digit_bytes =
      static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, record.offset).ptr - digits);
  char* const to = arena_.reserve(name_bytes + 1 + digit_bytes);
  std::memcpy(to, partition_.file.empty() ? number : partition_.file.data(), name_bytes);
  to[name_bytes] = ':';
  std::memcpy(to + name_bytes + 1, digits, digit_bytes);
  id_ = {to, name_bytes + 1 + digit_bytes};
  return true;
}

void RecordDecoder::read_label(const RawRecord& record) {
  label_ = record.label;
  if (plan_.label == kNoField) return;
  char buffer[32];
  const auto text_of = [&](const FieldValue& value) -> std::string_view {
    switch (value.kind) {
      case ValueKind::kText:
      case ValueKind::kCell:
        return value.text;
      case ValueKind::kNumber:
        return canonical_number(value, buffer);
      case ValueKind::kTrue:
      case ValueKind::kObject:
      case ValueKind::kArray:
        return "true";
      default:
        return "";
    }
  };
  const FieldValue& value = scratch_.values[plan_.label];
  // Nothing is said by an absent column or a JSON null; an empty cell of a column that is there says "normal".
  if (value.kind == ValueKind::kAbsent || (value.kind == ValueKind::kNull && partition_.format == Format::kJson))
    return;
  if (says_normal(text_of(value))) {
    label_ = kNormal;
    return;
  }
  std::string_view type;
  if (plan_.label_type != kNoField) type = text_of(scratch_.values[plan_.label_type]);
  label_ = label_types_.label_of(type.empty() ? std::string_view("anomaly") : type);
}

bool RecordDecoder::read_number(const FieldValue& value, const PlannedField* field, std::string_view name,
                                double& number) {
  NumberText scanned = value.number;
  switch (value.kind) {
    case ValueKind::kAbsent:
    case ValueKind::kNull:
      number = kMissing;
      return true;
    case ValueKind::kNumber:
      break;
    case ValueKind::kCell:
      if (scan_csv_number(value.text, scanned)) break;
      return refuse_field(is_not_finite_text(value.text) ? Reject::kNotFinite : Reject::kWrongType, name, field, value,
                          "a number");
    default:
      return refuse_field(Reject::kWrongType, name, field, value, "a number");
  }
  number = to_double(scanned, value.text);
  return std::isfinite(number) ||
         refuse_field(Reject::kNotFinite, name, field, value, "a number that a double can hold");
}

bool RecordDecoder::read_amount(const PlannedField& field, double& number) {
  const FieldValue& value = scratch_.values[plan_.amount];
  if (!read_number(value, &field, field.name, number) || std::isnan(number)) return decoded_.reject == Reject::kNone;
  const FieldValue& currency = scratch_.values[plan_.currency];
  const PlannedField& currency_field = plan_.fields[plan_.currency];
  if ((currency.kind != ValueKind::kText && currency.kind != ValueKind::kCell) ||
      minor_unit_digits(currency.text) < 0) {
    return refuse_field(Reject::kBadMoney, currency_field.name, &currency_field, currency,
                        "an ISO 4217 code such as EUR");
  }
  NumberText amount = value.number;
  if (value.kind == ValueKind::kCell) CHECK(scan_csv_number(value.text, amount));  // read_number() has read it
  const Reject reject = read_money(amount, currency.text, number);
  if (reject == Reject::kNone) return true;
  return refuse_field(reject, field.name, &field, value,
                      reject == Reject::kOutOfRange
                          ? fmt::format("an amount below 2^53 of the smallest units of {}", currency.text)
                          : fmt::format("at most {} decimals for {}", minor_unit_digits(currency.text), currency.text));
}

void RecordDecoder::write_header(const RawRecord& record, std::size_t row, std::uint32_t part, MetricTraits metric) {
  EventHeader& header = out_.header(row);
  header.time_ms = time_ms_;
  header.arrival_ms = record.arrival_ms;
  header.due_ns = record.due_ns;
  header.offset = record.offset;
  header.partition = record.partition;
  header.part = part;
  // The parts of a wide record share its id, and must not be taken for duplicates of each other.
  header.id_hash = plan_.spec.shape == Shape::kWide && id_hash_ != 0 ? hash_combine(id_hash_, part) : id_hash_;
  header.id = id_;
  header.label = label_;
  header.flags = metric.counter ? kEventCounter : 0;
  header.step = metric.step;
}

bool RecordDecoder::decode_record(const RawRecord& record, std::size_t row) {
  const auto numbers = out_.numbers(row);
  for (std::size_t i = 0; i < plan_.numbers.size(); ++i) {
    const NumberSlot slot = plan_.numbers[i];
    const PlannedField& field = plan_.fields[slot.field];
    if (!(slot.money ? read_amount(field, numbers[i])
                     : read_number(scratch_.values[slot.field], &field, field.name, numbers[i]))) {
      return false;
    }
  }
  write_header(record, row, 0, {});
  const auto keys = out_.keys(row);
  for (std::size_t k = 0; k < plan_.keys.size(); ++k) compose_key(plan_.keys[k], source_, arena_, keys[k]);
  decoded_.events = 1;
  return true;
}

bool RecordDecoder::decode_long(const RawRecord& record, std::size_t row) {
  const PlannedField& metric_field = plan_.fields[plan_.metric];
  const PlannedField& value_field = plan_.fields[plan_.value];
  const FieldValue& value = scratch_.values[plan_.value];
  source_.metric = scratch_.texts[plan_.metric];
  if (!source_.metric.present || source_.metric.text.empty()) {
    return refuse_field(Reject::kMissingField, metric_field.name, &metric_field, scratch_.values[plan_.metric],
                        "the metric's name");
  }
  // A null is a sample that says "no value"; a record without the field is not a sample.
  if (value.kind == ValueKind::kNull || (value.kind == ValueKind::kAbsent && plan_.has_contract)) return true;
  double number = 0;
  if (value.kind == ValueKind::kAbsent) {
    return refuse_field(Reject::kMissingField, value_field.name, &value_field, value, "a number");
  }
  if (!read_number(value, &value_field, value_field.name, number)) return false;
  write_header(record, row, 0, plan_.traits_of(source_.metric.text));
  std::ranges::fill(out_.numbers(row), number);
  const auto keys = out_.keys(row);
  for (std::size_t k = 0; k < plan_.keys.size(); ++k) compose_key(plan_.keys[k], source_, arena_, keys[k]);
  decoded_.events = 1;
  return true;
}

bool RecordDecoder::decode_wide(const RawRecord& record, std::size_t first_row) {
  std::uint32_t events = 0;
  for (std::uint32_t part = 0; part < partition_.wide_metrics.size(); ++part) {
    const WideMetric& metric = partition_.wide_metrics[part];
    FieldValue value;
    const PlannedField* field = nullptr;
    if (metric.field != kNoField) {
      value = scratch_.values[metric.field];
      field = &plan_.fields[metric.field];
    } else {
      value.text = scratch_.csv.cells()[metric.column];
      value.kind = value.text.empty() ? ValueKind::kNull : ValueKind::kCell;
    }
    if (value.missing()) continue;
    double number = 0;
    if (!read_number(value, field, metric.name, number)) return false;
    const std::size_t row = first_row + events;
    write_header(record, row, part, metric.traits);
    std::ranges::fill(out_.numbers(row), number);
    const auto keys = out_.keys(row);
    source_.metric = {};
    for (std::size_t k = 0; k < plan_.keys.size(); ++k) {
      const bool own = plan_.keys[k].uses_metric();
      if (own && !source_.metric.present) source_.metric = {copy_text(arena_, metric.name), true};
      if (own || events == 0) {
        compose_key(plan_.keys[k], source_, arena_, keys[k]);
      } else {
        keys[k] = out_.key(first_row, k);
      }
    }
    ++events;
  }
  decoded_.events = events;
  return true;
}

}  // namespace alcedo::contract
