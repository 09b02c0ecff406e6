// Raw log lines -> named fields, by a pattern that people can read: "{date} {time} {level} {component}: {message}".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::contract {

/// A pattern of fields and what stands between them.
///
/// Fields     `{name}` takes what stands before the first place where the text behind it fits, at least a byte; the
/// last
///            one takes the rest, which may be empty. `{name:2}` takes two words (1 to 9) with the blanks between them,
///            such as a date and a time. Fields must have text between them.
/// Text       Stands for itself; a blank is any run of blanks and tabs, and those that begin a line do not count. `{{`
/// and `}}` are braces. Cost       about 1 ns a byte; no allocation.
class LinePattern {
 public:
  static constexpr std::size_t kFieldsMax = 32;

  LinePattern() = default;
  /// Errors: kInvalidArgument, saying what is wrong with the pattern and where.
  static Result<LinePattern> create(std::string_view pattern);

  /// In the order of the pattern; none for a pattern that was not created.
  std::span<const std::string> names() const { return names_; }

  /// Splits `line` into one value a name (`values` has as many); false if it does not fit, and why in `message`.
  bool split(std::string_view line, std::span<std::string_view> values, std::string& message) const;

 private:
  struct Field {
    std::string before;  // text that stands before it; each run of blanks as one
    int words = 1;
  };
  std::vector<std::string> names_;
  std::vector<Field> fields_;
  std::string after_;  // text behind the last field
};

}  // namespace alcedo::contract
