// Measures first, then writes once into the arena: no temporary strings on the hot path.
#include "contract/fields/key_composer.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace alcedo::contract {
namespace {

constexpr char kJoin = '|';
constexpr char kEscape = '\\';

std::size_t escapes(std::string_view text) {
  std::size_t count = 0;
  for (const char c : text) count += static_cast<std::size_t>(c == kJoin) + static_cast<std::size_t>(c == kEscape);
  return count;
}

PartText part_text(const ComposedKey::Part& part, const KeySource& source) {
  switch (part.from) {
    case ComposedKey::From::kField:
      return source.fields[part.field];
    case ComposedKey::From::kFile:
      return source.file;
    case ComposedKey::From::kMetric:
      return source.metric;
    case ComposedKey::From::kMasked:
      return source.masked[part.field];
    case ComposedKey::From::kCell:
      return source.cells[part.field];
    case ComposedKey::From::kConstant:
      break;
  }
  return {part.constant, true};
}

char* write_part(char* to, std::string_view text, bool escaped) {
  if (text.empty()) return to;
  if (!escaped) {
    std::memcpy(to, text.data(), text.size());
    return to + text.size();
  }
  for (const char c : text) {
    if (c == kJoin || c == kEscape) *to++ = kEscape;
    *to++ = c;
  }
  return to;
}

void set_key(Key& key, std::string_view text) {
  key.hash = hash64(text);
  key.text = text;
  key.group = key_group(text);
}

}  // namespace

bool ComposedKey::uses_metric() const {
  return std::ranges::any_of(parts, [](const Part& part) { return part.from == From::kMetric; });
}

std::string escape_key_part(std::string_view part) {
  std::string text(part.size() + escapes(part), '\0');
  write_part(text.data(), part, true);
  return text;
}

std::pair<std::size_t, std::size_t> find_key_part(std::string_view key, std::size_t index) {
  std::size_t begin = 0;
  std::size_t at = 0;
  for (;; ++at) {
    if (at < key.size() && key[at] == kEscape) {
      ++at;
    } else if (at >= key.size() || key[at] == kJoin) {
      if (index-- == 0) return {begin, std::min(at, key.size())};
      CHECK(at < key.size());
      begin = at + 1;
    }
  }
}

void unescape_key_part(std::string_view escaped, std::string& part) {
  part.clear();
  for (std::size_t i = 0; i < escaped.size(); ++i) {
    if (escaped[i] == kEscape && i + 1 < escaped.size()) ++i;
    part += escaped[i];
  }
}

void compose_key(const ComposedKey& composed, const KeySource& source, TextArena& arena, Key& key) {
  if (composed.parts.size() == 1) {
    const PartText part = part_text(composed.parts[0], source);
    if (part.present) {
      set_key(key, part.text);
    } else {
      key = {};
    }
    return;
  }
  std::size_t bytes = composed.parts.size() - 1;
  std::size_t escaped = 0;
  for (const ComposedKey::Part& from : composed.parts) {
    const PartText part = part_text(from, source);
    if (!part.present) {
      key = {};
      return;
    }
    bytes += part.text.size();
    if (from.from != ComposedKey::From::kConstant) escaped += escapes(part.text);
  }
  char* const begin = arena.reserve(bytes + escaped);
  char* at = begin;
  for (const ComposedKey::Part& from : composed.parts) {
    if (&from != composed.parts.data()) *at++ = kJoin;
    at = write_part(at, part_text(from, source).text, escaped > 0 && from.from != ComposedKey::From::kConstant);
  }
  set_key(key, {begin, bytes + escaped});
}

}  // namespace alcedo::contract
