// Level-triggered epoll. A connection is read only while none of its answers waits for the client to take it, so a
// client that sends and never reads costs one request's memory.
#include "serve/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "core/time.h"

namespace alcedo::serve {
namespace {

struct Connection {
  int fd = -1;
  std::string in;
  std::string out;
  std::size_t sent = 0;
  std::int64_t active_ns = 0;  // when it last got further
  bool continued = false;      // "100 Continue" was sent for the request in `in`
  bool close_after_out = false;
  bool blocked = false;  // `out` waits for the client to read
};

class EpollServer final : public HttpServer {
 public:
  EpollServer(Options options, Handler handler) : options_(options), handler_(std::move(handler)) {}
  ~EpollServer() override {
    if (thread_.joinable()) {
      const std::uint64_t one = 1;
      (void)!::write(stop_fd_, &one, sizeof one);
      thread_.join();
    }
    for (const auto& [fd, connection] : connections_) ::close(fd);
    for (const int fd : {listen_fd_, epoll_fd_, stop_fd_}) {
      if (fd >= 0) ::close(fd);
    }
  }
  std::uint16_t port() const override { return port_; }

  Result<> start(const ListenAddress& where) {
    listen_fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    stop_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int one = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(where.port);
    socklen_t length = sizeof address;
    const bool good = listen_fd_ >= 0 && epoll_fd_ >= 0 && stop_fd_ >= 0 &&
                      ::inet_pton(AF_INET, where.host.c_str(), &address.sin_addr) == 1 &&
                      ::setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                      ::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                      ::listen(listen_fd_, 256) == 0 &&
                      ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
                      watch(listen_fd_, EPOLLIN, EPOLL_CTL_ADD) && watch(stop_fd_, EPOLLIN, EPOLL_CTL_ADD);
    if (!good) {
      return error(ErrorCode::kIo, fmt::format("cannot listen on {}:{}: {}; choose another port, or 0 for a free one",
                                               where.host, where.port, std::strerror(errno)));
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
    return {};
  }

 private:
  bool watch(int fd, std::uint32_t events, int operation) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    return ::epoll_ctl(epoll_fd_, operation, fd, &event) == 0;
  }

  void run() {
    std::array<epoll_event, 64> events{};
    const auto sweep_ms = static_cast<int>(std::clamp<std::int64_t>(options_.idle_ms / 4, 10, 1000));
    std::int64_t swept_ns = steady_ns();
    while (true) {
      const int count =
          ::epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), connections_.empty() ? -1 : sweep_ms);
      for (int i = 0; i < count; ++i) {
        const auto& event = events[static_cast<std::size_t>(i)];
        if (event.data.fd == stop_fd_) return;
        if (event.data.fd == listen_fd_) {
          accept_all();
        } else if (const auto found = connections_.find(event.data.fd); found != connections_.end()) {
          if (!serve(found->second, event.events)) drop(event.data.fd);
        }
      }
      if (const std::int64_t now_ns = steady_ns(); now_ns - swept_ns >= sweep_ms * 1'000'000LL) {
        swept_ns = now_ns;
        drop_idle(now_ns);
      }
    }
  }

  void accept_all() {
    while (true) {
      const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int one = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      if (connections_.size() >= options_.connections_max) {
        const std::string full =
            format_answer(http_error(503, fmt::format("{} connections are open, the most there may be; try again later",
                                                      options_.connections_max)),
                          false);
        (void)!::send(fd, full.data(), full.size(), MSG_NOSIGNAL);
        ::close(fd);
        continue;
      }
      if (!watch(fd, EPOLLIN, EPOLL_CTL_ADD)) {
        ::close(fd);
        continue;
      }
      Connection connection;
      connection.fd = fd;
      connection.active_ns = steady_ns();
      connections_.emplace(fd, std::move(connection));
    }
  }

  // False: the connection has ended.
  bool serve(Connection& c, std::uint32_t events) {
    if ((events & EPOLLERR) != 0) return false;
    bool ended = false;
    if ((events & (EPOLLIN | EPOLLHUP)) != 0 && !c.blocked) {
      const ssize_t n = ::recv(c.fd, block_.data(), block_.size(), 0);
      if (n > 0) c.in.append(block_.data(), static_cast<std::size_t>(n));
      ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    }
    // A client that has shut its sending side still gets the answers to what it sent.
    return advance(c) && !ended;
  }

  bool advance(Connection& c) {
    while (true) {
      if (!flush(c)) return false;
      if (c.blocked) return true;
      if (c.close_after_out) return false;
      if (c.in.empty()) return true;
      HttpRequest request;
      ParseResult result = parse_request(c.in, request);
      if (result.parsed == Parsed::kMore) {
        if (!result.wants_continue || c.continued) return true;
        c.continued = true;
        c.out = "HTTP/1.1 100 Continue\r\n\r\n";
        continue;
      }
      c.continued = false;
      c.active_ns = steady_ns();
      if (result.parsed == Parsed::kRefused) {
        c.close_after_out = true;
        c.out = format_answer(result.refusal, false);
        continue;
      }
      c.in.erase(0, result.consumed);
      c.close_after_out = !request.keep_alive;
      c.out = format_answer(handler_(request), request.keep_alive);
    }
  }

  bool flush(Connection& c) {
    while (c.sent < c.out.size()) {
      const ssize_t n = ::send(c.fd, c.out.data() + c.sent, c.out.size() - c.sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        if (!c.blocked) watch(c.fd, EPOLLOUT, EPOLL_CTL_MOD);
        c.blocked = true;
        return true;
      }
      if (n < 0) return false;
      c.sent += static_cast<std::size_t>(n);
      c.active_ns = steady_ns();
    }
    c.out.clear();
    c.sent = 0;
    if (c.blocked) watch(c.fd, EPOLLIN, EPOLL_CTL_MOD);
    c.blocked = false;
    return true;
  }

  void drop_idle(std::int64_t now_ns) {
    std::vector<int> idle;
    for (const auto& [fd, c] : connections_) {
      if (now_ns - c.active_ns > options_.idle_ms * 1'000'000) idle.push_back(fd);
    }
    for (const int fd : idle) drop(fd);
  }

  void drop(int fd) {
    ::close(fd);
    connections_.erase(fd);
  }

  const Options options_;
  const Handler handler_;
  int listen_fd_ = -1;
  int epoll_fd_ = -1;
  int stop_fd_ = -1;
  std::uint16_t port_ = 0;
  std::map<int, Connection> connections_;
  std::array<char, 65536> block_;
  std::thread thread_;
};

}  // namespace

Result<ListenAddress> parse_listen_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  ListenAddress address;
  const std::string_view port = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  const auto [stop, failed] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || failed != std::errc() || stop != port.data() + port.size()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("'{}': expected ADDRESS:PORT, such as 127.0.0.1:8787; port 0 takes a free one", text));
  }
  const std::string host(text.substr(0, colon));
  address.host = host.empty() || host == "localhost" ? "127.0.0.1" : host;
  in_addr parsed{};
  if (::inet_pton(AF_INET, address.host.c_str(), &parsed) != 1 || (ntohl(parsed.s_addr) >> 24) != 127) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("'{}': only loopback is served (127.0.0.1:{}), because there is no authentication yet; put "
                    "a proxy that has it in front to be reached from other machines",
                    text, port));
  }
  return address;
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const ListenAddress& address, Options options, Handler handler) {
  auto server = std::make_unique<EpollServer>(options, std::move(handler));
  if (auto ok = server->start(address); !ok) return std::unexpected(ok.error());
  return server;
}

}  // namespace alcedo::serve
