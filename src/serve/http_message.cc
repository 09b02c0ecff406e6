// No state between calls: a request that is not complete is read again from its first byte, which is cheap at these
// sizes.
#include "serve/http_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/json.h"

namespace alcedo::serve {
namespace {

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Answer";
  }
}

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, [&](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

ParseResult refuse(int status, std::string_view message) {
  return {Parsed::kRefused, 0, false, http_error(status, message)};
}

}  // namespace

HttpAnswer http_error(int status, std::string_view message) {
  JsonWriter json;
  json.begin_object().field("error", message).end_object();
  return {status, json.take()};
}

ParseResult parse_request(std::string_view in, HttpRequest& request) {
  const std::size_t head_end = in.substr(0, kHeadBytesMax).find("\r\n\r\n");
  if (head_end == std::string_view::npos) {
    if (in.size() < kHeadBytesMax) return {};
    return refuse(431, fmt::format("the request's head exceeds {} bytes", kHeadBytesMax));
  }
  const std::string_view head = in.substr(0, head_end);
  std::size_t line_end = std::min(head.find("\r\n"), head.size());
  const std::string_view first = head.substr(0, line_end);
  const std::size_t a = first.find(' ');
  const std::size_t b = first.rfind(' ');
  const std::string_view version = b == std::string_view::npos ? std::string_view() : first.substr(b + 1);
  if (a == 0 || a == b || (version != "HTTP/1.1" && version != "HTTP/1.0")) {
    return refuse(400, "expected an HTTP/1.1 request line, such as POST /get-online-features HTTP/1.1");
  }
  request.method = first.substr(0, a);
  const std::string_view target = first.substr(a + 1, b - a - 1);
  request.path = target.substr(0, target.find('?'));
  request.keep_alive = version == "HTTP/1.1";

  std::optional<std::size_t> length;
  bool expects = false;
  while (line_end < head.size()) {
    const std::size_t start = line_end + 2;
    line_end = std::min(head.find("\r\n", start), head.size());
    const std::string_view line = head.substr(start, line_end - start);
    const std::size_t colon = line.find(':');
    if (colon == 0 || colon == std::string_view::npos) return refuse(400, "a header line has no name and colon");
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    if (same_name(name, "content-length")) {
      std::size_t given = 0;
      const auto [stop, failed] = std::from_chars(value.data(), value.data() + value.size(), given);
      if (failed == std::errc::result_out_of_range) given = kBodyBytesMax + 1;
      if (failed == std::errc::invalid_argument || stop != value.data() + value.size() ||
          (length && *length != given)) {
        return refuse(400, "expected one Content-Length, a whole number of bytes");
      }
      length = given;
    } else if (same_name(name, "transfer-encoding")) {
      return refuse(411, "expected a Content-Length; chunked bodies are not taken");
    } else if (same_name(name, "connection")) {
      if (same_name(value, "close")) request.keep_alive = false;
      if (same_name(value, "keep-alive")) request.keep_alive = true;
    } else if (same_name(name, "expect")) {
      expects = same_name(value, "100-continue");
    }
  }
  const std::size_t body_bytes = length.value_or(0);
  if (body_bytes > kBodyBytesMax) {
    return refuse(413, fmt::format("the body exceeds {} bytes; ask for fewer entities at a time", kBodyBytesMax));
  }
  const std::size_t body_at = head_end + 4;
  if (in.size() - body_at < body_bytes) return {Parsed::kMore, 0, expects, {}};
  request.body = in.substr(body_at, body_bytes);
  return {Parsed::kRequest, body_at + body_bytes, false, {}};
}

std::string format_answer(const HttpAnswer& answer, bool keep_alive) {
  return fmt::format("HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{}",
                     answer.status, reason_of(answer.status), answer.body.size(),
                     keep_alive ? "" : "Connection: close\r\n", answer.body);
}

}  // namespace alcedo::serve
