// One thread and level-triggered epoll: the least that keeps thousands of requests a second apart from each other.
#include "alert/http_loop.h"

#include <arpa/inet.h>
#include <fcntl.h>
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
#include <string_view>
#include <thread>

#include "core/time.h"

namespace alcedo::alert {
namespace {

constexpr std::size_t kHeadBytesMax = 64 * 1024;
constexpr std::size_t kBodyBytesMax = 4 * 1024 * 1024;
constexpr std::size_t kConnectionsMax = 1000;

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 202:
      return "Accepted";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 429:
      return "Too Many Requests";
    case 500:
      return "Internal Server Error";
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

enum class Parsed : std::uint8_t { kMore, kRequest, kBad };

// The state of one client, from bytes to bytes.
struct Connection {
  int fd = -1;
  std::string in;
  std::string out;
  bool waiting = false;  // an answer is being delayed: nothing more is read from `in`
  std::int64_t answer_at_ns = 0;
  HttpAnswer answer;
  bool keep_alive = true;
  bool continued = false;  // "100 Continue" was sent for the request in `in`
  bool close_after_out = false;
  bool blocked = false;  // `out` waits for the client to read
};

// Takes a chunked body that starts at `at`; `end` is set behind it.
Parsed take_chunked(std::string_view in, std::size_t at, std::string& body, std::size_t& end) {
  body.clear();
  while (true) {
    const std::size_t line_end = in.find("\r\n", at);
    if (line_end == std::string_view::npos) return in.size() - at > 1024 ? Parsed::kBad : Parsed::kMore;
    std::size_t size = 0;
    const auto [stop, failed] = std::from_chars(in.data() + at, in.data() + line_end, size, 16);
    if (failed != std::errc() || stop == in.data() + at || size > kBodyBytesMax || body.size() + size > kBodyBytesMax) {
      return Parsed::kBad;
    }
    at = line_end + 2;
    if (in.size() < at + size + 2) return Parsed::kMore;
    if (in.substr(at + size, 2) != "\r\n") return Parsed::kBad;  // also: trailers are not taken
    body.append(in.substr(at, size));
    at += size + 2;
    if (size == 0) {
      end = at;
      return Parsed::kRequest;
    }
  }
}

// Takes the first request out of c.in.
Parsed take_request(Connection& c, HttpRequest& request) {
  const std::string_view in = c.in;
  const std::size_t head_end = in.find("\r\n\r\n");
  if (head_end == std::string_view::npos) return in.size() > kHeadBytesMax ? Parsed::kBad : Parsed::kMore;
  const std::string_view head = in.substr(0, head_end);
  std::size_t line_end = std::min(head.find("\r\n"), head.size());
  const std::string_view first = head.substr(0, line_end);
  const std::size_t a = first.find(' ');
  const std::size_t b = first.rfind(' ');
  if (a == std::string_view::npos || a == b || !first.substr(b + 1).starts_with("HTTP/1.")) return Parsed::kBad;
  request.method = first.substr(0, a);
  const std::string_view target = first.substr(a + 1, b - a - 1);
  request.path = target.substr(0, target.find('?'));
  c.keep_alive = first.ends_with("1.1");

  std::size_t length = 0;
  bool chunked = false;
  bool expects = false;
  while (line_end < head.size()) {
    const std::size_t start = line_end + 2;
    line_end = std::min(head.find("\r\n", start), head.size());
    const std::string_view line = head.substr(start, line_end - start);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return Parsed::kBad;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    if (same_name(name, "content-length")) {
      const auto [stop, failed] = std::from_chars(value.data(), value.data() + value.size(), length);
      if (failed != std::errc() || stop != value.data() + value.size() || length > kBodyBytesMax) return Parsed::kBad;
    } else if (same_name(name, "transfer-encoding")) {
      chunked = same_name(value, "chunked");
      if (!chunked) return Parsed::kBad;
    } else if (same_name(name, "connection")) {
      if (same_name(value, "close")) c.keep_alive = false;
      if (same_name(value, "keep-alive")) c.keep_alive = true;
    } else if (same_name(name, "expect")) {
      expects = same_name(value, "100-continue");
    }
  }
  const std::size_t body_at = head_end + 4;
  std::size_t end = body_at + length;
  Parsed parsed = Parsed::kRequest;
  if (chunked) {
    parsed = take_chunked(in, body_at, request.body, end);
  } else if (in.size() < end) {
    parsed = Parsed::kMore;
  } else {
    request.body = in.substr(body_at, length);
  }
  if (parsed == Parsed::kMore && expects && !c.continued) {
    c.continued = true;
    c.out += "HTTP/1.1 100 Continue\r\n\r\n";
  }
  if (parsed == Parsed::kRequest) {
    c.continued = false;
    c.in.erase(0, end);
  }
  return parsed;
}

class EpollHttpLoop final : public HttpLoop {
 public:
  explicit EpollHttpLoop(Handler handler) : handler_(std::move(handler)) {}
  ~EpollHttpLoop() override {
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

  Result<> start(std::uint16_t port) {
    listen_fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    stop_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int one = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    socklen_t length = sizeof address;
    const bool good = listen_fd_ >= 0 && epoll_fd_ >= 0 && stop_fd_ >= 0 &&
                      ::setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                      ::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                      ::listen(listen_fd_, 256) == 0 &&
                      ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
                      watch(listen_fd_, EPOLLIN, EPOLL_CTL_ADD) && watch(stop_fd_, EPOLLIN, EPOLL_CTL_ADD);
    if (!good) {
      return error(ErrorCode::kIo, fmt::format("cannot listen on 127.0.0.1:{} ({})", port, std::strerror(errno)));
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
    while (true) {
      const int count = ::epoll_wait(epoll_fd_, events.data(), static_cast<int>(events.size()), wait_ms());
      for (int i = 0; i < count; ++i) {
        const int fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd == stop_fd_) return;
        if (fd == listen_fd_) {
          accept_all();
        } else if (const auto found = connections_.find(fd); found != connections_.end()) {
          serve(found->second, events[static_cast<std::size_t>(i)].events);
        }
      }
      answer_delayed();
    }
  }

  int wait_ms() const {
    std::int64_t until_ns = -1;
    for (const auto& [fd, c] : connections_) {
      if (c.waiting && (until_ns < 0 || c.answer_at_ns < until_ns)) until_ns = c.answer_at_ns;
    }
    if (until_ns < 0) return -1;
    return static_cast<int>(std::max<std::int64_t>(0, (until_ns - steady_ns() + 999'999) / 1'000'000));
  }

  void accept_all() {
    while (true) {
      const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int one = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      if (connections_.size() >= kConnectionsMax || !watch(fd, EPOLLIN, EPOLL_CTL_ADD)) {
        ::close(fd);
        continue;
      }
      Connection connection;
      connection.fd = fd;
      connections_.emplace(fd, std::move(connection));
    }
  }

  void serve(Connection& c, std::uint32_t events) {
    bool ended = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if ((events & EPOLLIN) != 0) {
      std::array<char, 65536> block;
      while (true) {
        const ssize_t n = ::recv(c.fd, block.data(), block.size(), 0);
        if (n > 0) {
          c.in.append(block.data(), static_cast<std::size_t>(n));
          if (c.in.size() > kHeadBytesMax + 2 * kBodyBytesMax) return drop(c);
          if (static_cast<std::size_t>(n) < block.size()) break;
          continue;
        }
        if (n < 0 && errno == EINTR) continue;
        ended = ended || n == 0 || errno != EAGAIN;
        break;
      }
    }
    // A client that was killed after its last byte has made its request all the same.
    const int fd = c.fd;
    advance(c);
    if (const auto found = connections_.find(fd); ended && found != connections_.end()) drop(found->second);
  }

  // Answers what can be answered. `c` may be gone afterwards.
  void advance(Connection& c) {
    while (!c.waiting && !c.close_after_out) {
      HttpRequest request;
      const Parsed parsed = take_request(c, request);
      if (parsed == Parsed::kMore) break;
      if (parsed == Parsed::kBad) {
        c.keep_alive = false;
        c.answer = {.status = 400, .body = R"({"status":"invalid request"})", .headers = {}};
      } else {
        c.answer = handler_(request);
      }
      if (c.answer.delay_ms > 0) {
        c.waiting = true;
        c.answer_at_ns = steady_ns() + c.answer.delay_ms * 1'000'000;
      } else if (!give_answer(c)) {
        return;
      }
    }
    flush(c);
  }

  // False: the connection is gone.
  bool give_answer(Connection& c) {
    c.waiting = false;
    if (c.answer.ending == HttpAnswer::Ending::kReset) {
      // With a linger of 0 s a close sends RST.
      const linger now{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    if (c.answer.ending != HttpAnswer::Ending::kAnswer) {
      drop(c);
      return false;
    }
    c.out += fmt::format("HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", c.answer.status,
                         reason_of(c.answer.status), c.answer.body.size());
    for (const auto& [name, value] : c.answer.headers) c.out += fmt::format("{}: {}\r\n", name, value);
    if (!c.keep_alive) c.out += "Connection: close\r\n";
    c.out += "\r\n";
    c.out += c.answer.body;
    c.close_after_out = !c.keep_alive;
    return true;
  }

  void answer_delayed() {
    const std::int64_t now_ns = steady_ns();
    std::vector<int> ready;
    for (const auto& [fd, c] : connections_) {
      if (c.waiting && c.answer_at_ns <= now_ns) ready.push_back(fd);
    }
    for (const int fd : ready) {
      const auto found = connections_.find(fd);
      if (found != connections_.end() && give_answer(found->second)) advance(found->second);
    }
  }

  void flush(Connection& c) {
    while (!c.out.empty()) {
      const ssize_t n = ::send(c.fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        watch(c.fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        c.blocked = true;
        return;
      }
      if (n < 0) return drop(c);
      c.out.erase(0, static_cast<std::size_t>(n));
    }
    if (c.close_after_out) return drop(c);
    if (c.blocked) {
      c.blocked = false;
      watch(c.fd, EPOLLIN, EPOLL_CTL_MOD);
    }
  }

  void drop(Connection& c) {
    const int fd = c.fd;
    ::close(fd);
    connections_.erase(fd);
  }

  const Handler handler_;
  int listen_fd_ = -1;
  int epoll_fd_ = -1;
  int stop_fd_ = -1;
  std::uint16_t port_ = 0;
  std::map<int, Connection> connections_;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<HttpLoop>> HttpLoop::start(std::uint16_t port, Handler handler) {
  auto loop = std::make_unique<EpollHttpLoop>(std::move(handler));
  if (auto ok = loop->start(port); !ok) return std::unexpected(ok.error());
  return loop;
}

}  // namespace alcedo::alert
