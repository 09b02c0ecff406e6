// Writes JSON. One writer for alerts, reports, scores and --json, so that escaping and number forms are the same
// everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace alcedo {

/// Appends `text` as a JSON string, quotes included. Invalid UTF-8 becomes U+FFFD, so the result is always valid JSON.
void append_json_string(std::string& out, std::string_view text);

/// Appends the shortest decimal that reads back as `value`; null for NaN and infinities.
void append_json_number(std::string& out, double value);

/// Builds one document; commas are its business. Misuse (a value without a key in an object) is a bug of the caller.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(double number);
  JsonWriter& value(std::int64_t number);
  JsonWriter& value(std::uint64_t number);
  JsonWriter& value(int number) { return value(static_cast<std::int64_t>(number)); }
  JsonWriter& value(unsigned number) { return value(static_cast<std::uint64_t>(number)); }
  JsonWriter& value(bool flag);
  JsonWriter& null();
  /// A document that is already JSON.
  JsonWriter& raw(std::string_view json);
  template <typename T>
  JsonWriter& field(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }
  const std::string& text() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  JsonWriter& open(char c);
  JsonWriter& close(char c);
  void separate();
  std::string out_;
  bool comma_ = false;
};

}  // namespace alcedo
