// Decodes one record: values -> contract -> time, id, numbers, keys, label of each of its events.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "contract/csv_reader.h"
#include "contract/decoder.h"
#include "contract/event_plan.h"
#include "contract/fields/field_value.h"
#include "contract/fields/label_types.h"
#include "contract/json_reader.h"

namespace alcedo::contract {

/// Memory that decoding reuses from record to record.
struct DecodeMemory {
  JsonReader json;
  CsvReader csv;
  std::vector<FieldValue> values;       // by planned field
  std::vector<PartText> texts;          // by planned field; set for those with has_text
  std::vector<PartText> masked;         // by planned field; set for those with has_masked
  std::vector<PartText> places;         // by the plan's cells
  std::vector<std::string_view> cells;  // of a line of text
  std::string message;                  // being masked
};

/// Lives for one record. See Decoder::decode for what it promises.
class RecordDecoder {
 public:
  RecordDecoder(const EventPlan& plan, const PartitionPlan& partition, const std::array<std::uint8_t, 16>& secret,
                LabelTypes& label_types, DecodeMemory& scratch, EventBatch& out, TextArena& arena)
      : plan_(plan),
        partition_(partition),
        secret_(secret),
        label_types_(label_types),
        scratch_(scratch),
        out_(out),
        arena_(arena) {}

  Decoded decode(std::string_view bytes, const RawRecord& record, std::size_t first_row);

 private:
  bool read_json(std::string_view bytes);
  bool read_csv(std::string_view bytes);
  bool read_line(std::string_view bytes);
  void take_cells(std::span<const std::string_view> cells);
  bool check_contract();
  bool check_field(const PlannedField& field, FieldValue& value);
  bool read_time(const RawRecord& record);
  bool read_texts();
  bool read_places();
  bool read_id(const RawRecord& record);
  void read_label(const RawRecord& record);
  bool read_number(const FieldValue& value, const PlannedField* field, std::string_view name, double& number);
  bool read_amount(const PlannedField& field, double& number);
  bool decode_record(const RawRecord& record, std::size_t row);
  bool decode_long(const RawRecord& record, std::size_t row);
  bool decode_wide(const RawRecord& record, std::size_t first_row);
  void write_header(const RawRecord& record, std::size_t row, std::uint32_t part, MetricTraits metric);

  bool refuse(Reject reject, std::string message);
  bool refuse_field(Reject reject, std::string_view name, const PlannedField* field, const FieldValue& value,
                    std::string_view expected);

  const EventPlan& plan_;
  const PartitionPlan& partition_;
  const std::array<std::uint8_t, 16>& secret_;
  LabelTypes& label_types_;
  DecodeMemory& scratch_;
  EventBatch& out_;
  TextArena& arena_;
  Decoded decoded_;
  KeySource source_;
  std::int64_t time_ms_ = 0;
  std::string_view id_;
  std::uint64_t id_hash_ = 0;
  Label label_ = kUnlabelled;
};

}  // namespace alcedo::contract
