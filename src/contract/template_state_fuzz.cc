// Feeds arbitrary bytes to the loading of templates: none may crash a miner, or leave one that cannot be saved again.
#include <cstddef>
#include <cstdint>

#include "contract/template_miner_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  alcedo::contract::check_template_state({reinterpret_cast<const char*>(data), size});
  return 0;
}
