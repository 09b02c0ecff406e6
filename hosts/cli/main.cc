// The alcedo binary: parses the command line and hands over to one command.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <system_error>

#include "commands.h"
#include "core/nearest_name.h"
#include "terminal.h"

int main(int argc, char** argv) {
  using namespace alcedo::cli;
  using alcedo::nearest_name;
  // A receiver that hangs up must not end the process.
  ::signal(SIGPIPE, SIG_IGN);
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("alcedo", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);

  CLI::App app{"Alcedo finds anomalies in event streams within milliseconds of their arrival."};
  app.name("alcedo");
  app.set_version_flag("--version", "alcedo " ALCEDO_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  alcedo demo                                         see it work on simulated payments and this machine's "
      "metrics\n"
      "  alcedo check pipelines/payments                     read a pipeline and say all its mistakes\n"
      "  alcedo replay pipelines/payments --source 'simulate:payments?events=1000000'\n"
      "  alcedo run pipelines/infrastructure --source host: --pages-to-file   watch this machine, page nobody\n"
      "Each command has its own --help with examples. Exit codes: 0 done, 1 failed, 2 usage or configuration.");
  int exit_code = kDone;
  add_run(app, exit_code);
  add_check(app, exit_code);
  add_demo(app, exit_code);
  add_replay(app, exit_code);
  add_train(app, exit_code);
  add_evaluate(app, exit_code);
  add_bench(app, exit_code);
  add_features(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const std::system_error& problem) {  // fmt's word for a stdout that takes no more
    complain(fmt::format("cannot write the result: {}", problem.code().message()));
    return kFailed;
  } catch (const CLI::ParseError& problem) {
    if (problem.get_exit_code() == 0)
      return app.exit(problem) == 0 && flush_stdout() ? kDone : kFailed;  // --help, --version
    const auto given = app.get_subcommands();
    if (given.empty() && argc > 1 && argv[1][0] != '-') {
      std::vector<std::string> known;
      for (const auto* command : app.get_subcommands({})) known.push_back(command->get_name());
      const auto near = nearest_name(argv[1], known);
      complain(fmt::format("no command '{}'{} Known are {}", argv[1],
                           near.empty() ? "." : fmt::format("; did you mean '{}'?", near), fmt::join(known, ", ")));
    } else {
      complain(given.empty() ? std::string("a command is needed, such as: alcedo demo") : std::string(problem.what()));
    }
    fmt::print(stderr, "Run 'alcedo {}--help' for what there is, with examples.\n",
               given.empty() ? "" : given.front()->get_name() + " ");
    return kUsage;
  }
  return flush_stdout() || exit_code != kDone ? exit_code : kFailed;
}
