// One field of one record as its format shows it, before anything is known of its meaning.
#pragma once

#include <cstdint>
#include <string_view>

#include "contract/fields/number_text.h"

namespace alcedo::contract {

enum class ValueKind : std::uint8_t {
  kAbsent,
  kNull,  // JSON null, an empty CSV cell
  kText,
  kNumber,
  kTrue,
  kFalse,
  kObject,
  kArray,
  kCell,  // CSV text that may yet turn out to be a number
};
constexpr std::uint16_t bit(ValueKind kind) { return static_cast<std::uint16_t>(1U << static_cast<unsigned>(kind)); }

struct FieldValue {
  ValueKind kind = ValueKind::kAbsent;
  std::string_view text;  // kText, kCell: the text, unescaped; kNumber: as written. Lives until the next record is read
  NumberText number;      // kNumber

  bool missing() const { return kind == ValueKind::kAbsent || kind == ValueKind::kNull; }
};

}  // namespace alcedo::contract
