// simdjson finds the structure; scalars are read here, because money and keys need a number's text and not its double.
#include "contract/json_reader.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace alcedo::contract {
namespace {

namespace ondemand = simdjson::ondemand;
using simdjson::error_code;
using simdjson::SUCCESS;

constexpr std::size_t kPositionsMax = 64;

static_assert(RawBatch::kPadding > NameTable::kNameBytesMax);
static_assert(RawBatch::kPadding >= simdjson::SIMDJSON_PADDING && RawBatch::kPadding >= 8);

// The next quote or backslash. There is one within the record (simdjson has matched the quotes), and reading 8 bytes at
// once stays within the padding.
const char* find_quote_or_escape(const char* p) {
  constexpr std::uint64_t kOnes = 0x0101010101010101ULL, kHighs = 0x8080808080808080ULL;
  for (;; p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    const std::uint64_t quote = word ^ (kOnes * '"');
    const std::uint64_t escape = word ^ (kOnes * '\\');
    const std::uint64_t hit = (((quote - kOnes) & ~quote) | ((escape - kOnes) & ~escape)) & kHighs;
    if (hit != 0) return p + std::countr_zero(hit) / 8;
  }
}

std::string_view trimmed(std::string_view token) {
  while (!token.empty() &&
         (token.back() == ' ' || token.back() == '\t' || token.back() == '\n' || token.back() == '\r')) {
    token.remove_suffix(1);
  }
  return token;
}

}  // namespace

struct JsonReader::Impl {
  ondemand::parser parser;
  // Which name stood at each position of the last record: writers keep their order, so that one comparison mostly
  // suffices.
  std::array<std::int32_t, kPositionsMax> expected;

  // A value somebody wants (`to`) or just one that must be valid JSON (nullptr).
  error_code read_value(ondemand::value& value, FieldValue* to, int depth) {
    std::string_view token = value.raw_json_token();
    switch (token.front()) {
      case '"':
        return read_text(value, token, to);
      case '{':
      case '[':
        return read_nested(value, token.front(), to, depth);
      case 't':
        return read_literal(token, "true", ValueKind::kTrue, to);
      case 'f':
        return read_literal(token, "false", ValueKind::kFalse, to);
      case 'n':
        return read_literal(token, "null", ValueKind::kNull, to);
      default:
        break;
    }
    token = trimmed(token);
    NumberText number;
    if (!scan_json_number(token, number)) return simdjson::NUMBER_ERROR;
    if (to != nullptr) {
      to->kind = ValueKind::kNumber;
      to->text = token;
      to->number = number;
    }
    return SUCCESS;
  }

 private:
  static error_code read_literal(std::string_view token, std::string_view literal, ValueKind kind, FieldValue* to) {
    if (trimmed(token) != literal) return simdjson::TAPE_ERROR;
    if (to != nullptr) to->kind = kind;
    return SUCCESS;
  }

  static error_code read_text(ondemand::value& value, std::string_view token, FieldValue* to) {
    const char* const from = token.data() + 1;
    const char* const end = find_quote_or_escape(from);
    std::string_view text(from, static_cast<std::size_t>(end - from));
    if (*end == '"') {
      // Taken, not left to be skipped: simdjson 3.0 skips a string with a colon behind it as if it were a key.
      ondemand::raw_json_string taken;
      if (const error_code fault = value.get_raw_json_string().get(taken)) return fault;
    } else {
      if (const error_code fault = value.get_string().get(text)) return fault;
      // Escapes can spell half of a surrogate pair, which is no character.
      if (!simdjson::validate_utf8(text.data(), text.size())) return simdjson::UTF8_ERROR;
    }
    if (to != nullptr) {
      to->kind = ValueKind::kText;
      to->text = text;
    }
    return SUCCESS;
  }

  error_code read_nested(ondemand::value& value, char opening, FieldValue* to, int depth) {
    if (depth >= kDepthMax) return simdjson::DEPTH_ERROR;
    if (opening == '{') {
      ondemand::object object;
      if (const error_code fault = value.get_object().get(object)) return fault;
      for (auto field : object) {
        std::string_view key;
        ondemand::value inner;
        if (const error_code fault = field.unescaped_key().get(key)) return fault;
        if (const error_code fault = field.value().get(inner)) return fault;
        if (const error_code fault = read_value(inner, nullptr, depth + 1)) return fault;
      }
    } else {
      ondemand::array array;
      if (const error_code fault = value.get_array().get(array)) return fault;
      for (auto element : array) {
        ondemand::value inner;
        if (const error_code fault = element.get(inner)) return fault;
        if (const error_code fault = read_value(inner, nullptr, depth + 1)) return fault;
      }
    }
    if (to != nullptr) to->kind = opening == '{' ? ValueKind::kObject : ValueKind::kArray;
    return SUCCESS;
  }
};

JsonReader::JsonReader() : impl_(std::make_unique<Impl>()) { impl_->expected.fill(-1); }
JsonReader::JsonReader(JsonReader&&) noexcept = default;
JsonReader::~JsonReader() = default;

Reject JsonReader::read(std::string_view record, const NameTable& names, std::span<FieldValue> values,
                        std::string& message) {
  for (FieldValue& value : values) value.kind = ValueKind::kAbsent;
  ondemand::parser& parser = impl_->parser;
  std::size_t position = 0;
  const auto walk = [&]() -> error_code {
    // Capacity doubles, so that records which get a little longer each time do not allocate each time.
    if (record.size() > parser.capacity()) {
      if (const error_code fault = parser.allocate(std::bit_ceil(std::max<std::size_t>(record.size(), 4096))))
        return fault;
    }
    ondemand::document document;
    ondemand::object object;
    if (const error_code fault =
            parser.iterate(record.data(), record.size(), record.size() + RawBatch::kPadding).get(document)) {
      return fault;
    }
    if (const error_code fault = document.get_object().get(object)) return fault;
    for (auto maybe_field : object) {
      if (maybe_field.error() != SUCCESS) return maybe_field.error();
      // By reference: copying simdjson's small structs right after they were written costs a store-forwarding stall
      // each.
      ondemand::field&& field = std::move(maybe_field).value_unsafe();
      const char* const from = field.key().raw();
      int index = position < kPositionsMax ? impl_->expected[position] : -1;
      if (!names.is_quoted_name(index, from)) {
        const char* const end = find_quote_or_escape(from);
        std::string_view key(from, static_cast<std::size_t>(end - from));
        if (*end != '"') {
          if (const error_code fault = field.unescaped_key().get(key)) return fault;
        }
        index = names.find(key);
        if (position < kPositionsMax) impl_->expected[position] = index;
      }
      ++position;
      FieldValue* const to = index < 0 ? nullptr : &values[static_cast<std::size_t>(index)];
      if (const error_code fault = impl_->read_value(field.value(), to, 1)) return fault;
    }
    return document.current_location().error() == simdjson::OUT_OF_BOUNDS ? SUCCESS : simdjson::TRAILING_CONTENT;
  };
  const error_code fault = walk();
  switch (fault) {
    case SUCCESS:
      return Reject::kNone;
    case simdjson::UTF8_ERROR:
      message = "the record is not valid UTF-8";
      return Reject::kInvalidUtf8;
    case simdjson::INCORRECT_TYPE:
      message = "expected a JSON object, found another JSON value";
      break;
    case simdjson::DEPTH_ERROR:
      message = fmt::format("not valid here: JSON nested deeper than {}", kDepthMax);
      break;
    case simdjson::NUMBER_ERROR:
      message = "not valid JSON: a value that is neither a number nor a literal";
      break;
    default:
      message = fmt::format("not valid JSON: {}", simdjson::error_message(fault));
      break;
  }
  return Reject::kMalformed;
}

}  // namespace alcedo::contract
