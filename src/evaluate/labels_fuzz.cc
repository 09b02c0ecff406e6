// Label files come from anywhere: whatever their bytes, reading them ends in labels or in a message.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "evaluate/labels.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto set = alcedo::evaluate::LabelSet::parse(text, "dir/machine.csv", {});
  if (set) {
    static_cast<void>(set->by_id("a"));
    for (const auto& window : set->windows())
      static_cast<void>(set->find("a", window.scope, "e", window.first, window.last));
  }
  return 0;
}
