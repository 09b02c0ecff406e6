// Parts of an event -> the keys by which its entities are found.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
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
  enum class From : std::uint8_t { kField, kFile, kMetric, kConstant, kMasked, kCell };
  struct Part {
    From from = From::kField;
    std::uint32_t field = 0;  // kField, kMasked: index of the planned field; kCell: of the plan's cells
    std::string constant;     // kConstant; escaped if the key has other parts
  };
  std::vector<Part> parts;
  bool uses_metric() const;
};

/// What one event offers. `fields` and `masked` (their messages without parameters) by planned field, `cells` (places)
/// by the plan's cells, `file` and `metric` missing where there is none.
struct KeySource {
  std::span<const PartText> fields;
  PartText file;
  PartText metric;
  std::span<const PartText> masked;
  std::span<const PartText> cells{};
};

/// Sets `key` (written in place: it is a row's own). Texts in `source` must live as long as the batch (a key of one
/// part is that text itself; composed ones are copied into `arena`). In composite keys '|' and '\' inside a part are
/// written "\|" and "\\", so that different parts never make the same key. Key{hash 0} if a part is missing.
void compose_key(const ComposedKey& composed, const KeySource& source, TextArena& arena, Key& key);

/// `part` as it stands inside a composite key.
std::string escape_key_part(std::string_view part);

/// Where the part at `index` stands in a composite key's text: its first byte and the one behind it, still escaped.
/// There is such a part.
std::pair<std::size_t, std::size_t> find_key_part(std::string_view key, std::size_t index);
/// The reverse of escape_key_part(), into `part`.
void unescape_key_part(std::string_view escaped, std::string& part);

}  // namespace alcedo::contract
