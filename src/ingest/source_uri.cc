// Reads "scheme:path?key=value&..." as people type it: a plain file name is a file, whatever characters it has.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "core/nearest_name.h"
#include "ingest/source.h"

namespace alcedo::ingest {
namespace {

const std::array<std::string, 4> kSchemes = {"file", "stdin", "host", "simulate"};

// What RFC 3986 allows as a scheme; anything else before a colon is part of a file's name.
bool is_scheme(std::string_view text) {
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text.front())) == 0) return false;
  return std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '-' || c == '.';
  });
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

// '?' is also a pattern's letter: options begin only where a name and '=' follow it.
bool begins_options(std::string_view text) {
  std::size_t name = 0;
  while (name < text.size() && (std::isalnum(static_cast<unsigned char>(text[name])) != 0 || text[name] == '_')) ++name;
  return name > 0 && name < text.size() && text[name] == '=';
}

}  // namespace

Result<SourceUri> SourceUri::parse(std::string_view text) {
  SourceUri uri;
  uri.text = text;
  if (text.empty())
    return error(ErrorCode::kInvalidArgument, "the source is empty; give a file, stdin:, host: or simulate:payments");
  const std::size_t colon = text.find(':');
  const std::string_view before = text.substr(0, colon);
  if (colon == std::string_view::npos || !is_scheme(before)) {
    uri.scheme = "file";
  } else if (std::ranges::find(kSchemes, before) != kSchemes.end()) {
    uri.scheme = before;
    text.remove_prefix(colon + 1);
  } else {
    const std::string nearest = nearest_name(before, kSchemes);
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: unknown source \"{}:\"; known are {}:{}{}", uri.text, before, fmt::join(kSchemes, ":, "),
                    nearest.empty() ? "" : fmt::format("; did you mean \"{}:\"?", nearest),
                    fmt::format(" (for a file of this name: file:{})", uri.text)));
  }
  const bool is_file = uri.scheme == "file";
  if (is_file && text.starts_with("///")) text.remove_prefix(2);  // file:///var/log/x

  std::string_view options;
  for (std::size_t at = text.find('?'); at != std::string_view::npos; at = text.find('?', at + 1)) {
    if (is_file && !begins_options(text.substr(at + 1))) continue;
    options = text.substr(at + 1);
    text = text.substr(0, at);
    break;
  }
  uri.path = text;
  if (is_file && uri.path.empty()) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: no file is named; give file:PATH", uri.text));
  }
  while (!options.empty()) {
    const std::size_t end = options.find('&');
    const std::string_view option = options.substr(0, end);
    options = end == std::string_view::npos ? std::string_view{} : options.substr(end + 1);
    if (option.empty()) continue;
    const std::size_t equals = option.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: option \"{}\" has no value; expected name=value", uri.text, option));
    }
    const std::string name(option.substr(0, equals));
    auto value = percent_decoded(option.substr(equals + 1));
    if (!value) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: in option \"{}\" a '%' is not followed by two hexadecimal digits; write '%' as %25",
                               uri.text, name));
    }
    if (std::ranges::any_of(uri.options, [&](const auto& known) { return known.first == name; })) {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}: option \"{}\" is given twice", uri.text, name));
    }
    uri.options.emplace_back(name, std::move(*value));
  }
  return uri;
}

}  // namespace alcedo::ingest
