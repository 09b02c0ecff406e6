// The one way an operating error travels: a code to branch on and a message a user can act on.
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace alcedo {

enum class ErrorCode {
  kInvalidArgument,  // what the caller or the configuration says cannot be right
  kNotFound,
  kNotReady,
  kUnavailable,  // may work later: network, disk full
  kCorrupt,      // stored bytes fail their check
  kIo,
  kInternal,
};

/// What happened, where, what was expected and what to do: one message for a person.
struct Error {
  ErrorCode code;
  std::string message;
};

template <typename T = void>
using Result = std::expected<T, Error>;

/// For `return error(ErrorCode::kIo, "…");`
[[nodiscard]] inline std::unexpected<Error> error(ErrorCode code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

}  // namespace alcedo
