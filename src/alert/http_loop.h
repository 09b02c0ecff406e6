// A loopback HTTP server whose answers can misbehave exactly: late, cut off, or reset. The mock of PagerDuty stands on
// it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"

namespace alcedo::alert {

struct HttpRequest {
  std::string method;
  std::string path;  // without the query
  std::string body;
};

struct HttpAnswer {
  enum class Ending : std::uint8_t {
    kAnswer,
    kClose,
    kReset
  };  // kClose, kReset: the connection ends without an answer
  int status = 200;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  std::int64_t delay_ms = 0;  // before the answer or the end
  Ending ending = Ending::kAnswer;
};

/// HTTP/1.1 with keep-alive, Content-Length and chunked bodies, on 127.0.0.1 only. For tests, benchmarks and demos, not
/// for the open network. Own code, since a library server owns its sockets and so can neither reset nor hang one of
/// them.
///
/// Cost     one thread, epoll; about 30,000 small requests/s on one core.
/// Bounds   heads of 64 KB, bodies of 4 MB, 1,000 connections; beyond that the connection is closed.
/// Threads  The handler runs on the server's thread, one request at a time.
class HttpLoop {
 public:
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;
  /// Port 0: any free one. Errors: kIo, naming the port.
  static Result<std::unique_ptr<HttpLoop>> start(std::uint16_t port, Handler handler);
  virtual ~HttpLoop() = default;  // stops, closing every connection
  virtual std::uint16_t port() const = 0;
};

}  // namespace alcedo::alert
