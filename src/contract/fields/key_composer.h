// Parts of an event -> the keys by which its entities are found.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"

namespace alcedo::contract {

/// A key part's text. Missing is not the same as empty: an empty text is a value.
struct PartText {
  std::string_view text;
  bool present = false;
};

/// Where each part of one key comes from, compiled.
struct ComposedKey {
  enum class From : std::uint8_t { kField, kFile, kMetric, kConstant };
  struct Part {
    From from = From::kField;
    std::uint32_t field = 0;  // kField: index of the planned field
    std::string constant;     // kConstant; escaped if the key has other parts
  };
  std::vector<Part> parts;
  bool uses_metric() const;
};

/// What one event offers. `fields` by planned field, `file` and `metric` missing where there is none.
struct KeySource {
  std::span<const PartText> fields;
  PartText file;
  PartText metric;
};

/// Sets `key` (written in place: it is a row's own). Texts in `source` must live as long as the batch (a key of one
/// part is that text itself; composed ones are copied into `arena`). In composite keys '|' and '\' inside a part are
/// written "\|" and "\\", so that different parts never make the same key. Key{hash 0} if a part is missing.
void compose_key(const ComposedKey& composed, const KeySource& source, TextArena& arena, Key& key);

/// `part` as it stands inside a composite key.
std::string escape_key_part(std::string_view part);

}  // namespace alcedo::contract
