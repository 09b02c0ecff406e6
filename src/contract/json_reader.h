// One JSON record -> the values of the fields somebody needs, in one pass.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "contract/decoder.h"
#include "contract/fields/field_value.h"
#include "contract/fields/name_table.h"

namespace alcedo::contract {

/// Reads objects with simdjson, the same reader again and again, so that nothing is allocated once warm.
///
/// All of the record is checked, not just the fields that are wanted: what is accepted is valid JSON. Of a name that
/// occurs twice the last value counts, as in most readers. Nesting deeper than kDepthMax is refused.
///
/// Source   RFC 8259; Langdale, Lemire, "Parsing gigabytes of JSON per second", VLDB Journal 2019 (simdjson).
/// Cost     about 1 ns a byte.
class JsonReader {
 public:
  static constexpr int kDepthMax = 128;

  JsonReader();
  JsonReader(JsonReader&&) noexcept;
  ~JsonReader();

  /// values[i] becomes the value of the field names.names()[i]; texts point into the record or into this reader, until
  /// the next read(). The record must be followed by RawBatch::kPadding readable bytes. On kMalformed and kInvalidUtf8
  /// `message` says why.
  Reject read(std::string_view record, const NameTable& names, std::span<FieldValue> values, std::string& message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::contract
