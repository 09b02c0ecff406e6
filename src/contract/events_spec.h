// What a pipeline says about its events: the `events:` section and what entities and features need of each event.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace alcedo::contract {

enum class Shape : std::uint8_t {
  kRecord,  // a record is an event; fields by name
  kLong,    // a record is one sample of one metric: a metric name, a value, labels
  kWide,    // a record is one sample of many metrics: each numeric column becomes an event of its own
};

enum class Format : std::uint8_t { kJson, kCsv, kText };

enum class TimeUnit : std::uint8_t { kIso, kSeconds, kMilliseconds, kMicroseconds, kNanoseconds, kFormat, kRow };

struct TimeSpec {
  std::string field;               // empty for kRow
  TimeUnit unit = TimeUnit::kIso;  // kIso also reads plain numbers: the unit is then taken from their magnitude
  std::string format;              // kFormat: strptime-like, %Y %m %d %H %M %S %f %z %b %y %p %I %j, UTC unless %z
  std::int64_t start_ms = 0;       // kRow: time of row 0; kSeconds and finer: added (an epoch other than 1970)
  std::int64_t step_ms = 0;        // kRow
};

/// A key is made of parts, joined by '|' in its text. A part that is missing makes the whole key missing.
struct KeyPart {
  enum class Kind : std::uint8_t { kField, kFileName, kMetric, kConstant, kTemplate, kCell };
  Kind kind = Kind::kField;
  std::string text;  // the field's name, or the constant; kTemplate: the field with the message; kCell: the latitude
  std::string longitude{};  // kCell: the field with it
};

struct KeySpec {
  std::string name;  // the entity's
  std::vector<KeyPart> parts;
};

struct NumberSpec {
  std::string field;   // contract field; for kLong and kWide always the value
  bool money = false;  // read as a decimal, kept as whole minor units of the event's currency (ISO 4217 exponents)
};

/// Metrics whose smaller changes mean little: a deviation's spread never falls below what rounding to `step` would give
/// it.
struct MetricStep {
  std::string pattern;  // glob over metric names
  double step = 0;      // > 0, in the metric's own unit; a counter's is of its rate a second
};

struct EventsSpec {
  Shape shape = Shape::kRecord;
  std::string contract_path;         // .avsc; empty: no contract, fields as they come (long, wide, CSV)
  std::optional<Format> format;      // unset: by file name (.csv, .tsv, else JSON)
  char delimiter = ',';              // CSV
  std::vector<std::string> columns;  // CSV without a header line: its columns
  std::string line;                  // text: how a line becomes fields (LinePattern)
  std::string id_field;              // empty: events have no id
  TimeSpec time;
  std::int64_t lateness_ms = 0;
  std::optional<std::int64_t> ahead_ms = 300'000;  // unset: `ahead: none`
  std::string money_amount, money_currency;        // both or neither
  std::vector<std::string> private_fields;         // become keyed hashes in the decoder
  std::string metric_field = "__name__";           // kLong
  std::string value_field = "value";               // kLong
  std::vector<std::string> values;    // kWide: columns that are metrics; empty: all that are not time, id, key, label
  std::vector<std::string> counters;  // glob patterns over metric names
  std::vector<MetricStep> steps;      // kLong, kWide: the first pattern that fits counts
  std::string label_field;            // a column that tells the truth: for `evaluate`, and after a delay for features
  std::string label_type_field;       // a column with the anomaly's type, read where label_field says anomalous
  // Compiled from entities and features by the pipeline:
  std::vector<KeySpec> keys;
  std::vector<NumberSpec> numbers;
  std::vector<std::string> label_types;  // that features ask for by name
};

}  // namespace alcedo::contract
