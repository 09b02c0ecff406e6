// What the sections of a pipeline file share while it is read: names already declared, and the fields that events have.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "contract/avro_schema.h"
#include "pipeline/pipeline_file.h"
#include "pipeline/yaml_reader.h"

namespace alcedo::pipeline {

/// What is known of the events' fields beforehand: from the contract, or from `columns` (then without types).
struct FieldTable {
  std::string origin;  // "payment.avsc", "columns"
  std::vector<contract::AvroField> fields;

  const contract::AvroField* find(std::string_view name) const;  // null if there is none
  std::vector<std::string> names() const;
};

enum class FieldUse : std::uint8_t { kAny, kKey, kNumber, kMoney, kTime };

/// A pipeline in the making. Names are registered even where their definitions are wrong, so that one mistake is
/// reported once.
struct Draft {
  Pipeline pipeline;
  Mistakes mistakes;
  std::string folder;                     // of the file; relative paths start there
  std::optional<FieldTable> fields;       // unset: not known beforehand, any name may exist
  std::vector<std::string> label_fields;  // no feature may know them
  std::vector<std::int64_t> windows_ms;
  bool has_entities = false;  // the section is there: an unknown name is a mistake of its own
  bool has_features = false;
  bool has_detectors = false;
  std::vector<std::string> feature_names;
  std::vector<std::vector<std::string>>
      feature_columns;  // of each feature; empty: a baseline, or its definition is wrong
  std::vector<bool> feature_sound;
  std::vector<std::string> detector_names;
  std::vector<std::string> anomaly_names;

  /// A path as the file says it -> as this process must open it.
  std::string resolve(std::string_view path) const;
  /// The field that the node names, checked against what is known of the fields. nullopt after a mistake.
  std::optional<std::string> field(const YamlNode& node, FieldUse use);
  /// Key slot of the entity that the node names. nullopt after a mistake.
  std::optional<std::uint32_t> entity(const YamlNode& node);
};

void read_events(Draft& draft, MapReader& top);
void read_labels(Draft& draft, MapReader& top);
void read_entities(Draft& draft, MapReader& top);
void read_score(Draft& draft, MapReader& top);
void read_features(Draft& draft, MapReader& top);  // and windows
void read_detectors(Draft& draft, MapReader& top);
void read_anomalies(Draft& draft, MapReader& top);
void read_alerts(Draft& draft, MapReader& top);

}  // namespace alcedo::pipeline
