// The mock as a program of its own, so that it outlives an alcedo that a test kills.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "alert/pagerduty_mock.h"

namespace {

// Written whole and renamed, so that who waits for the file never reads half a number.
bool write_port(const std::string& path, unsigned port) {
  const std::string draft = path + ".new";
  std::FILE* file = std::fopen(draft.c_str(), "w");
  if (file == nullptr) return false;
  const bool written = std::fprintf(file, "%u\n", port) > 0;
  return std::fclose(file) == 0 && written && std::rename(draft.c_str(), path.c_str()) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "A PagerDuty Events API v2 on 127.0.0.1 that enforces lengths, life cycle and 120 calls a minute.\n"
      "Ask it: GET /mock/log, GET /mock/incidents. Script it: POST /mock/faults\n"
      "  '[{\"kind\": \"status\", \"status\": 429, \"retry_after_s\": 1, \"count\": 3}, {\"kind\": "
      "\"accept_reset\"}]'\n"
      "  kinds: status, hang, reset, close, accept_reset. Forget: POST /mock/reset."};
  alcedo::alert::PagerDutyMock::Options options;
  std::string port_file;
  bool no_rate_limit = false;
  app.add_option("--port", options.port, "Port on 127.0.0.1; 0 takes any free one")->capture_default_str();
  app.add_option("--port-file", port_file, "Write the port to this file once it listens");
  app.add_option("--log", options.log_path, "Append each accepted event to this file, one JSON object a line");
  app.add_option("--calls-per-minute", options.calls_per_minute, "Accepted events a minute for each routing key")
      ->capture_default_str();
  app.add_flag("--no-rate-limit", no_rate_limit, "Accept any number of events a minute");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  options.rate_limited = !no_rate_limit;

  // Blocked before the mock's thread starts, so that sigwait below is the only one to get them.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  auto mock = alcedo::alert::PagerDutyMock::start(options);
  if (!mock) {
    fmt::print(stderr, "pagerduty_mock: {}\n", mock.error().message);
    return 1;
  }
  if (!port_file.empty() && !write_port(port_file, (*mock)->port())) {
    fmt::print(stderr, "pagerduty_mock: {} cannot be written ({})\n", port_file, std::strerror(errno));
    return 1;
  }
  fmt::print("listening on 127.0.0.1:{}\n", (*mock)->port());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  const auto totals = (*mock)->totals();
  fmt::print("{} events accepted, {} incidents opened, {} refused, {} over the limit\n", totals.accepted, totals.opened,
             totals.rejected, totals.limited);
  return 0;
}
