// Bytes of a client -> one HTTP request, and an answer -> bytes: the part of a server that reads what strangers send.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace alcedo::serve {

inline constexpr std::size_t kHeadBytesMax = 16 * 1024;
inline constexpr std::size_t kBodyBytesMax = 1024 * 1024;

struct HttpRequest {
  std::string method;
  std::string path;  // without the query
  std::string body;
  bool keep_alive = true;
};

struct HttpAnswer {
  int status = 200;
  std::string body;  // JSON
};

/// {"error": MESSAGE}
HttpAnswer http_error(int status, std::string_view message);

enum class Parsed : std::uint8_t {
  kMore,     // the request is not complete yet
  kRequest,  // `request` is set, `consumed` bytes belong to it
  kRefused,  // `refusal` is the answer after which the connection ends
};

struct ParseResult {
  Parsed parsed = Parsed::kMore;
  std::size_t consumed = 0;
  bool wants_continue = false;  // kMore: the head is whole and the client waits for "100 Continue"
  HttpAnswer refusal;
};

/// Takes the first request of `in`: HTTP/1.0 and 1.1 with a Content-Length. Refused: 400 what is no HTTP, 411 chunked
/// bodies, 413 bodies over kBodyBytesMax, 431 heads over kHeadBytesMax. Two lengths that differ, or a length beside a
/// transfer coding, are refused too: what one end takes for a body the other must not take for a request.
ParseResult parse_request(std::string_view in, HttpRequest& request);

/// The whole answer with its head.
std::string format_answer(const HttpAnswer& answer, bool keep_alive);

}  // namespace alcedo::serve
