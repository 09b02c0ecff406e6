// Load for bench/feature_reads.py: reads features from Alcedo and hashes from Redis at a fixed rate with the same
// client.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/json.h"
#include "core/time.h"

namespace {

// Bytes of the first whole answer in `in`, 0 while it is not whole, -1 if it is not a good one.
using AnswerBytes = std::function<std::ptrdiff_t(std::string_view in)>;

std::ptrdiff_t http_answer_bytes(std::string_view in) {
  const std::size_t head = in.find("\r\n\r\n");
  if (head == std::string_view::npos) return 0;
  constexpr std::string_view kLength = "Content-Length: ";
  const std::size_t at = in.find(kLength);
  std::size_t length = 0;
  if (!in.starts_with("HTTP/1.1 200") || at > head) return -1;
  std::from_chars(in.data() + at + kLength.size(), in.data() + head, length);
  return in.size() < head + 4 + length ? 0 : static_cast<std::ptrdiff_t>(head + 4 + length);
}

// An array of bulk strings, as HGETALL answers; an empty one is a key that is not there.
std::ptrdiff_t redis_answer_bytes(std::string_view in) {
  std::size_t at = 0;
  const auto number = [&](char kind, long& n) {
    const std::size_t end = in.find("\r\n", at);
    if (end == std::string_view::npos) return 0;
    if (in[at] != kind) return -1;
    std::from_chars(in.data() + at + 1, in.data() + end, n);
    at = end + 2;
    return 1;
  };
  long items = 0;
  if (const int got = number('*', items); got != 1) return got;
  if (items <= 0) return -1;
  for (long i = 0; i < items; ++i) {
    long size = 0;
    if (const int got = number('$', size); got != 1) return got;
    at += static_cast<std::size_t>(size) + 2;
    if (in.size() < at) return 0;
  }
  return static_cast<std::ptrdiff_t>(at);
}

struct Outcome {
  std::vector<std::int64_t> from_due_ns;
  std::vector<std::int64_t> from_send_ns;
  std::size_t bytes = 0;
  std::string failure;
};

// One keep-alive connection. A read that is late makes the next ones late, and their latency counts from when they were
// due: a slow server does not slow its load.
Outcome read_at_rate(std::uint16_t port, const std::vector<std::string>& requests, const AnswerBytes& answer_bytes,
                     double rate, double seconds, std::int64_t from_ns) {
  Outcome outcome;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    outcome.failure = fmt::format("port {}: {}", port, std::strerror(errno));
    ::close(fd);
    return outcome;
  }
  const auto count = static_cast<std::size_t>(rate * seconds);
  outcome.from_due_ns.reserve(count);
  outcome.from_send_ns.reserve(count);
  std::string in;
  std::vector<char> block(65536);
  for (std::size_t i = 0; i < count && outcome.failure.empty(); ++i) {
    const auto due_ns = from_ns + static_cast<std::int64_t>(static_cast<double>(i) * 1e9 / rate);
    if (const std::int64_t wait_ns = due_ns - alcedo::steady_ns(); wait_ns > 0) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(wait_ns));
    }
    // 7919 is prime: all requests come by, and no two neighbours in a row.
    const std::string& request = requests[i * 7919 % requests.size()];
    const std::int64_t sent_ns = alcedo::steady_ns();
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
      outcome.failure = fmt::format("port {}: a request was not taken", port);
    }
    in.clear();
    while (outcome.failure.empty()) {
      const ssize_t n = ::recv(fd, block.data(), block.size(), 0);
      if (n <= 0) {
        outcome.failure = fmt::format("port {}: the connection ended", port);
        break;
      }
      in.append(block.data(), static_cast<std::size_t>(n));
      const std::ptrdiff_t whole = answer_bytes(in);
      if (whole < 0) outcome.failure = fmt::format("port {}: unexpected answer {}", port, in.substr(0, 300));
      if (whole > 0) break;
    }
    const std::int64_t now_ns = alcedo::steady_ns();
    outcome.from_due_ns.push_back(now_ns - due_ns);
    outcome.from_send_ns.push_back(now_ns - sent_ns);
    outcome.bytes = in.size();
  }
  ::close(fd);
  return outcome;
}

void add_quantiles(alcedo::JsonWriter& json, std::string_view name, std::vector<std::int64_t> ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double q) {
    const auto i = static_cast<std::size_t>(q * static_cast<double>(ns.size()));
    return static_cast<double>(ns[std::min(i, ns.size() - 1)]) / 1e6;
  };
  json.key(name).begin_object();
  json.field("p50", at(0.5)).field("p99", at(0.99)).field("p999", at(0.999)).field("max", at(1)).end_object();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Reads by HTTP and from Redis at a fixed rate; latencies as JSON. bench/feature_reads.py runs it."};
  std::uint16_t http = 0;
  std::uint16_t redis = 0;
  std::string bodies;
  double rate = 1000;
  double seconds = 30;
  app.add_option("--http", http, "port of alcedo run --listen")->required();
  app.add_option("--redis", redis, "port of redis-server, which has a hash of the name 'entity:I' for line I")
      ->required();
  app.add_option("--bodies", bodies, "a request body for /get-online-features a line")->required();
  app.add_option("--rate", rate, "reads a second of each")->capture_default_str();
  app.add_option("--seconds", seconds, "how long")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::vector<std::string> http_requests;
  std::vector<std::string> redis_requests;
  std::ifstream file(bodies);
  for (std::string line; std::getline(file, line);) {
    http_requests.push_back(fmt::format(
        "POST /get-online-features HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{}", line.size(), line));
    const std::string key = fmt::format("entity:{}", redis_requests.size());
    redis_requests.push_back(fmt::format("*2\r\n$7\r\nHGETALL\r\n${}\r\n{}\r\n", key.size(), key));
  }
  if (http_requests.empty()) {
    fmt::print(stderr, "{}: expected a request body a line\n", bodies);
    return 2;
  }
  // The two are half an interval apart, so that neither waits for the other's client.
  const std::int64_t from_ns = alcedo::steady_ns() + 100'000'000;
  Outcome of_redis;
  std::thread other([&] {
    of_redis = read_at_rate(redis, redis_requests, redis_answer_bytes, rate, seconds,
                            from_ns + static_cast<std::int64_t>(0.5e9 / rate));
  });
  const Outcome of_http = read_at_rate(http, http_requests, http_answer_bytes, rate, seconds, from_ns);
  other.join();
  for (const auto* outcome : {&of_http, static_cast<const Outcome*>(&of_redis)}) {
    if (outcome->failure.empty()) continue;
    fmt::print(stderr, "{}\n", outcome->failure);
    return 1;
  }
  alcedo::JsonWriter json;
  json.begin_object().field("rate", rate).field("reads", static_cast<std::uint64_t>(of_http.from_due_ns.size()));
  for (const auto& [name, outcome] : {std::pair<const char*, const Outcome*>{"alcedo", &of_http},
                                      std::pair<const char*, const Outcome*>{"redis", &of_redis}}) {
    json.key(name).begin_object().field("answer_bytes", static_cast<std::uint64_t>(outcome->bytes));
    add_quantiles(json, "from_due_ms", outcome->from_due_ns);
    add_quantiles(json, "from_send_ms", outcome->from_send_ns);
    json.end_object();
  }
  json.end_object();
  fmt::print("{}\n", json.text());
  return 0;
}
