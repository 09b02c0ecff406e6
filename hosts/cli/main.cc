// The alcedo binary: parses the command line and hands over to one command.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "commands.h"

int main(int argc, char** argv) {
  using namespace alcedo::cli;
  // A receiver that hangs up must not end the process.
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("alcedo", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);

  CLI::App app{"Alcedo finds anomalies in event streams within milliseconds of their arrival."};
  app.name("alcedo");
  app.set_version_flag("--version", "alcedo " ALCEDO_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  alcedo demo                                         see it work on simulated payments and this machine's metrics\n"
      "  alcedo check pipelines/payments                     read a pipeline and say all its mistakes\n"
      "  alcedo replay pipelines/payments --source 'simulate:payments?events=1000000'\n"
      "  alcedo run pipelines/infrastructure --source host:  watch this machine\n"
      "Each command has its own --help with examples. Exit codes: 0 done, 1 failed, 2 usage or configuration.");
  int exit_code = kDone;
  add_run(app, exit_code);
  add_check(app, exit_code);
  add_demo(app, exit_code);
  add_replay(app, exit_code);
  add_evaluate(app, exit_code);
  add_bench(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    const int code = app.exit(problem);
    return code == 0 ? kDone : kUsage;
  }
  return exit_code;
}
