// Feeds arbitrary lines to the template miner.
#include <cstddef>
#include <cstdint>

#include "contract/template_miner_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  alcedo::contract::check_template_miner({reinterpret_cast<const char*>(data), size});
  return 0;
}
