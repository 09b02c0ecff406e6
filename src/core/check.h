// Stops the process where a bug is found, in release builds too, so that a broken invariant never reaches a verdict.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace alcedo::internal {
[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}
}  // namespace alcedo::internal

/// For bugs only: an operating error returns Result, bad data is counted and set aside.
#define CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::alcedo::internal::check_failed(#condition, __FILE__, __LINE__))
