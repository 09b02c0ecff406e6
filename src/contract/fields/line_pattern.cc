// A field ends where the text behind it first fits: no backtracking, so a hostile line costs no more than its length
// times the pattern's longest text.
#include "contract/fields/line_pattern.h"

#include <fmt/format.h>

#include <algorithm>

namespace alcedo::contract {
namespace {

constexpr std::size_t kNone = std::string_view::npos;
constexpr std::size_t kTextBytesMax = 64;
constexpr std::size_t kNameBytesMax = 64;

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::size_t skip_blanks(std::string_view line, std::size_t at) {
  while (at < line.size() && is_blank(line[at])) ++at;
  return at;
}

// Where `text`, which begins at `at`, ends; kNone if it does not stand there.
std::size_t end_of(std::string_view text, std::string_view line, std::size_t at) {
  for (const char c : text) {
    if (c == ' ') {
      const std::size_t next = skip_blanks(line, at);
      if (next == at) return kNone;
      at = next;
    } else {
      if (at >= line.size() || line[at] != c) return kNone;
      ++at;
    }
  }
  return at;
}

struct Place {
  std::size_t begin = kNone;
  std::size_t end = kNone;
};

Place find(std::string_view text, std::string_view line, std::size_t from) {
  for (std::size_t at = from; at < line.size(); ++at) {
    if (text.front() == ' ' ? !is_blank(line[at]) : line[at] != text.front()) continue;
    if (const std::size_t end = end_of(text, line, at); end != kNone) return {at, end};
    if (text.front() == ' ') at = skip_blanks(line, at) - 1;  // no later blank of this run does better
  }
  return {};
}

std::string named(std::string_view text) { return fmt::format("\"{}\"", text); }

}  // namespace

Result<LinePattern> LinePattern::create(std::string_view pattern) {
  const auto wrong = [&](std::string_view why) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("line {}: {}; expected fields with text between them, such as \"{{date}} {{time}} "
                             "{{level}}: {{message}}\"",
                             named(pattern), why));
  };
  LinePattern made;
  std::string text;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    const bool doubled = at + 1 < pattern.size() && pattern[at + 1] == c;
    if ((c == '{' || c == '}') && doubled) {
      text += c;
      ++at;
    } else if (c == '}') {
      return wrong("a '}' without its '{' (a brace of the lines themselves is written twice)");
    } else if (is_blank(c)) {
      if (text.empty() || text.back() != ' ') text += ' ';
    } else if (c != '{') {
      if (static_cast<unsigned char>(c) < 0x20) return wrong("a control character");
      text += c;
    } else {
      const std::size_t close = pattern.find('}', at);
      if (close == kNone) return wrong("a '{' without its '}'");
      std::string_view name = pattern.substr(at + 1, close - at - 1);
      Field field;
      if (const std::size_t colon = name.find(':'); colon != kNone) {
        const std::string_view words = name.substr(colon + 1);
        if (words.size() != 1 || words[0] < '1' || words[0] > '9') {
          return wrong(fmt::format("after ':' the number of words of a field is expected, 1 to 9, found {}",
                                   named(words.substr(0, kNameBytesMax))));
        }
        field.words = words[0] - '0';
        name = name.substr(0, colon);
      }
      if (name.empty() || name.size() > kNameBytesMax || name.find_first_of("{ \t") != kNone) {
        return wrong(fmt::format("{} is no name for a field", named(name.substr(0, kNameBytesMax))));
      }
      if (std::ranges::find(made.names_, name) != made.names_.end()) {
        return wrong(fmt::format("field {} stands twice", named(name)));
      }
      if (!made.names_.empty() && text.empty()) {
        return wrong(fmt::format("nothing stands between {} and {}", named(made.names_.back()), named(name)));
      }
      if (made.names_.size() == kFieldsMax) return wrong(fmt::format("more than {} fields", kFieldsMax));
      if (made.names_.empty() && text.starts_with(' ')) text.erase(0, 1);
      field.before = std::move(text);
      text.clear();
      made.names_.emplace_back(name);
      made.fields_.push_back(std::move(field));
      at = close;
    }
    if (text.size() > kTextBytesMax) return wrong(fmt::format("more than {} bytes between fields", kTextBytesMax));
  }
  if (made.names_.empty()) return wrong("it has no field");
  made.after_ = std::move(text);
  return made;
}

bool LinePattern::split(std::string_view line, std::span<std::string_view> values, std::string& message) const {
  const std::string& before = fields_.front().before;
  std::size_t at = end_of(before, line, skip_blanks(line, 0));
  if (at == kNone) {
    message = fmt::format("expected {} before field '{}'", named(before), names_.front());
    return false;
  }
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    const bool last = i + 1 == fields_.size();
    const std::string_view behind = last ? std::string_view(after_) : std::string_view(fields_[i + 1].before);
    // Words but the last are skipped; only then may the text behind begin.
    std::size_t from = at;
    for (int word = 1; word < fields_[i].words; ++word) {
      while (from < line.size() && !is_blank(line[from])) ++from;
      from = skip_blanks(line, from);
    }
    if (last && behind.empty()) {
      values[i] = line.substr(at);
      return true;
    }
    // At least a byte of its own.
    Place place = find(behind, line, std::min(from + 1, line.size()));
    if (last) {
      while (place.end != kNone && place.end != line.size()) {
        place = find(behind, line, std::max(place.begin + 1, skip_blanks(line, place.begin)));
      }
    }
    if (place.begin == kNone) {
      message = fmt::format("expected {} behind field '{}'", named(behind), names_[i]);
      return false;
    }
    values[i] = line.substr(at, place.begin - at);
    at = place.end;
  }
  return true;
}

}  // namespace alcedo::contract
