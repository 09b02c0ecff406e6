// The subcommands of the alcedo binary: each adds itself to the parser and leaves its exit code.
#pragma once

#include <CLI/CLI.hpp>

namespace alcedo::cli {

/// Exit codes of every command.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;

void add_check(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_replay(CLI::App& app, int& exit_code);
void add_train(CLI::App& app, int& exit_code);
void add_evaluate(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_demo(CLI::App& app, int& exit_code);
void add_features(CLI::App& app, int& exit_code);

}  // namespace alcedo::cli
