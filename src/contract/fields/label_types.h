// Truth that travels in a column: which values say "anomalous", and the names of the types seen so far.
#pragma once

#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"

namespace alcedo::contract {

/// 0, 0.0, false, no, normal (any case) and nothing at all say "normal"; every other value says "anomalous".
bool says_normal(std::string_view value);

/// Numbers for type names, in the order in which they are first asked for: when decoders run in parallel that order can
/// differ between runs, so names are what counts.
///
/// Threads  All calls may run together.
class LabelTypes {
 public:
  static constexpr std::size_t kTypesMax = 1000;  // a free-text column is not a type; beyond this they are all "other"

  Label label_of(std::string_view type);
  std::vector<std::string> names() const;

 private:
  mutable std::shared_mutex mutex_;
  std::vector<std::string> names_;
};

}  // namespace alcedo::contract
