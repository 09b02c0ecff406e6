// HTTP/1.1 on loopback for many small reads: one thread, so that serving takes at most one core from the engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"
#include "serve/http_message.h"

namespace alcedo::serve {

struct ListenAddress {
  std::string host;  // an IPv4 address of loopback
  std::uint16_t port = 0;
};

/// "127.0.0.1:8787", "localhost:0", ":8787" (loopback). Errors: kInvalidArgument; any address but loopback is refused,
/// since nobody is asked who they are yet.
Result<ListenAddress> parse_listen_address(std::string_view text);

/// Why our own: see docs/decisions/0010-http-of-our-own.md.
///
/// Bounds   heads and bodies as http_message.h says; `connections_max` at once, one more is answered 503 and closed; a
///          connection that is idle, stalled in a request, or does not take its answer for `idle_ms` is closed.
/// Threads  The handler runs on the server's thread, one request at a time: it must not block.
class HttpServer {
 public:
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;
  struct Options {
    std::size_t connections_max = 256;
    std::int64_t idle_ms = 60'000;
  };
  /// Port 0: any free one. Errors: kIo, naming address and port.
  static Result<std::unique_ptr<HttpServer>> start(const ListenAddress& address, Options options, Handler handler);
  virtual ~HttpServer() = default;  // stops, closing every connection
  virtual std::uint16_t port() const = 0;
};

}  // namespace alcedo::serve
