// Event times in all the ways in which people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contract/avro_schema.h"
#include "contract/events_spec.h"
#include "contract/fields/field_value.h"
#include "core/result.h"

namespace alcedo::contract {

/// Reads one TimeSpec's times as Unix milliseconds, fractions of a millisecond cut off toward the past.
///
/// TimeUnit::kIso also reads numbers: in the unit of the contract's logical type, else by magnitude (below 10^11
/// seconds, below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds: right from 1973 to 5138). Numbers may
/// come as text. Nothing here reads a locale or a time zone: English month names, UTC unless the text says otherwise.
class TimeReader {
 public:
  /// Errors: kInvalidArgument: a format with an unknown directive or without a full date; no step for kRow.
  static Result<TimeReader> create(const TimeSpec& spec, AvroLogical logical = AvroLogical::kNone);

  /// nullopt: not a time of this form, or not between the years 0001 and 9999. `value` is not missing.
  std::optional<std::int64_t> read(const FieldValue& value) const;
  /// For kRow.
  std::optional<std::int64_t> read_row(std::int64_t row) const;

  /// For messages: "an ISO 8601 time or Unix time", "Unix milliseconds", ...
  std::string expected() const;

 private:
  struct Directive {
    char letter;   // of a '%' directive; 0 for literal text
    char literal;  // ' ' is any run of blanks
  };
  TimeReader() = default;
  std::optional<std::int64_t> read_number(const NumberText& number) const;
  std::optional<std::int64_t> read_format(std::string_view text) const;

  TimeSpec spec_;
  AvroLogical logical_ = AvroLogical::kNone;
  std::vector<Directive> format_;
};

}  // namespace alcedo::contract
