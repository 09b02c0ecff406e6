// Measures first, then writes once into the arena: no temporary strings on the hot path.
#include "contract/fields/key_composer.h"

#include <algorithm>
#include <cstring>

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

Key key_of(std::string_view text) { return {hash64(text), text, key_group(text)}; }

}  // namespace

bool ComposedKey::uses_metric() const {
  return std::ranges::any_of(parts, [](const Part& part) { return part.from == From::kMetric; });
}

std::string escape_key_part(std::string_view part) {
  std::string text(part.size() + escapes(part), '\0');
  write_part(text.data(), part, true);
  return text;
}

Key compose_key(const ComposedKey& key, const KeySource& source, TextArena& arena) {
  if (key.parts.size() == 1) {
    const PartText part = part_text(key.parts[0], source);
    return part.present ? key_of(part.text) : Key{};
  }
  std::size_t bytes = key.parts.size() - 1;
  std::size_t escaped = 0;
  for (const ComposedKey::Part& from : key.parts) {
    const PartText part = part_text(from, source);
    if (!part.present) return {};
    bytes += part.text.size();
    if (from.from != ComposedKey::From::kConstant) escaped += escapes(part.text);
  }
  char* const begin = arena.reserve(bytes + escaped);
  char* at = begin;
  for (const ComposedKey::Part& from : key.parts) {
    if (&from != key.parts.data()) *at++ = kJoin;
    at = write_part(at, part_text(from, source).text, escaped > 0 && from.from != ComposedKey::From::kConstant);
  }
  return key_of({begin, bytes + escaped});
}

}  // namespace alcedo::contract
