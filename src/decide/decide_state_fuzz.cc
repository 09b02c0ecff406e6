// Feeds arbitrary bytes to the loading of what decisions rest on: none may crash it, or leave what cannot be saved.
#include <cstddef>
#include <cstdint>

#include "decide/decide_state_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  alcedo::decide::check_decide_state({reinterpret_cast<const char*>(data), size});
  return 0;
}
