// Reads an Avro record schema (.avsc): which fields an event has, of what type, and which of them must be there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::contract {

/// The types of Avro that an event's JSON or CSV form can take, as bits: a union allows several.
enum AvroType : std::uint16_t {
  kAvroNull = 1,
  kAvroBoolean = 2,
  kAvroInt = 4,
  kAvroLong = 8,
  kAvroFloat = 16,
  kAvroDouble = 32,
  kAvroString = 64,  // also bytes, fixed and uuid: text in JSON
  kAvroEnum = 128,
  kAvroArray = 256,   // array, and what is inside is not looked at
  kAvroObject = 512,  // map or nested record, and what is inside is not looked at
};
inline constexpr std::uint16_t kAvroNumeric = kAvroInt | kAvroLong | kAvroFloat | kAvroDouble;
inline constexpr std::uint16_t kAvroIntegral = kAvroInt | kAvroLong;

enum class AvroLogical : std::uint8_t { kNone, kDate, kTimestampMillis, kTimestampMicros };

struct AvroField {
  std::string name;
  std::uint16_t types = 0;  // AvroType bits
  AvroLogical logical = AvroLogical::kNone;
  std::vector<std::string> symbols;  // of an enum
  bool has_default = false;

  bool nullable() const { return (types & kAvroNull) != 0; }
  /// An event without the field is not one of this contract.
  bool required() const { return !nullable() && !has_default; }
  /// Can be a number slot. (A union of a number and text cannot.)
  bool numeric() const { return (types & kAvroNumeric) != 0 && (types & ~(kAvroNumeric | kAvroNull)) == 0; }
  /// Can be a key part or an id: text, an enum, an integer, a boolean.
  bool textual() const {
    return (types & ~kAvroNull) != 0 && (types & (kAvroFloat | kAvroDouble | kAvroArray | kAvroObject)) == 0;
  }
  /// "long", "string or null", "enum (a, b, c)": for messages.
  std::string type_text() const;
};

struct AvroSchema {
  std::string name;
  std::vector<AvroField> fields;  // in the schema's order

  const AvroField* find(std::string_view field) const;  // nullptr if there is none
  std::vector<std::string> field_names() const;
};

/// Primitive types, unions, enums, named types used again, logical types timestamp-millis, timestamp-micros (also
/// local-) and date; doc, default, aliases and unknown attributes are tolerated. Arrays, maps and nested records may
/// occur but are only checked to be one. A decimal on bytes or fixed is refused: JSON events carry money as a number,
/// so the contract should say double or string.
///
/// Source   Apache Avro 1.11 specification.
/// Errors   kInvalidArgument: every mistake, a line each, "PATH: fields[3] 'amount': …"; syntax errors as
///          "PATH:LINE:COLUMN: …".
Result<AvroSchema> parse_avro_schema(std::string_view json, std::string_view path);

/// The same for a file. Errors: also kNotFound, kIo, naming the path and the system's reason.
Result<AvroSchema> read_avro_schema(const std::string& path);

}  // namespace alcedo::contract
