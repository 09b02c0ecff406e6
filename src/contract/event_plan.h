// What a pipeline says of its events, checked against its contract and resolved to indices: what decoding one record
// needs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "contract/avro_schema.h"
#include "contract/decoder.h"
#include "contract/events_spec.h"
#include "contract/fields/key_composer.h"
#include "contract/fields/line_pattern.h"
#include "contract/fields/name_table.h"
#include "contract/fields/time_reader.h"
#include "core/event.h"
#include "core/result.h"

namespace alcedo::contract {

inline constexpr std::uint32_t kNoField = UINT32_MAX;

/// A field that the contract checks or the pipeline uses.
struct PlannedField {
  std::string name;
  bool in_contract = false;
  AvroField type;              // in_contract
  NameTable symbols;           // of an enum
  std::uint16_t allowed = 0;   // ValueKind bits that the contract allows; all without one
  std::uint16_t accepted = 0;  // of these, the ones that need no look at the value
  bool is_private = false;
  bool has_text = false;        // part of a key, the id, the metric name: its text is copied into the batch
  bool has_masked = false;      // a message whose template is part of a key: so is what is left without parameters
  bool in_cell = false;         // latitude or longitude of a place whose cell is part of a key
  bool must_be_column = false;  // a CSV file without this column is refused
};

/// What the pipeline says of a metric by its name.
struct MetricTraits {
  bool counter = false;
  float step = 0;
};

/// One metric of a wide record.
struct WideMetric {
  std::string name;
  std::uint32_t field = kNoField;  // planned field, or
  std::uint32_t column = 0;        // CSV column
  MetricTraits traits;
};

struct NumberSlot {
  std::uint32_t field = kNoField;
  bool money = false;
};

/// A place whose cell is part of a key.
struct CellFields {
  std::uint32_t latitude = kNoField;
  std::uint32_t longitude = kNoField;
};

/// Immutable once compiled.
struct EventPlan {
  /// Errors: kNotFound, kIo, kInvalidArgument: all mistakes, a line each, with the nearest name that exists.
  static Result<EventPlan> compile(const EventsSpec& spec);

  explicit EventPlan(TimeReader reader) : time_reader(std::move(reader)) {}

  EventsSpec spec;
  bool has_contract = false;
  std::vector<PlannedField> fields;  // the contract's first, in its order
  std::size_t contract_fields = 0;   // how many of them are the contract's
  NameTable names;                   // of fields
  TimeReader time_reader;
  LinePattern line;  // without fields: lines of text have no meaning here
  std::uint32_t time = kNoField, id = kNoField, amount = kNoField, currency = kNoField, metric = kNoField,
                value = kNoField, label = kNoField, label_type = kNoField;
  std::vector<std::uint32_t> text_fields;  // fields with has_text or has_masked
  std::vector<NumberSlot> numbers;         // kRecord: one a slot
  std::vector<ComposedKey> keys;
  std::vector<CellFields> cells;
  std::vector<WideMetric> wide_metrics;  // kWide, where the pipeline or the contract names them
  EventLayout layout;
  bool keys_use_file = false;

  MetricTraits traits_of(std::string_view name) const;
};

/// What one partition adds to the plan.
struct PartitionPlan {
  /// Errors: kInvalidArgument: all missing columns, a line each, with the nearest name.
  static Result<PartitionPlan> compile(const EventPlan& plan, const PartitionInfo& info, std::int64_t first_row);

  std::string file;
  Format format = Format::kJson;
  std::int64_t first_row = 0;
  std::size_t num_columns = 0;                 // CSV; of text the fields of a line
  std::vector<std::uint32_t> field_of_column;  // planned field or kNoField
  std::vector<WideMetric> wide_metrics;        // kWide
};

}  // namespace alcedo::contract
