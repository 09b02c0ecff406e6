// Models of other libraries may come from anywhere: importing ends in trees that can be walked, or in a message.
#include <cstddef>
#include <cstdint>

#include "models/boosted_import_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  alcedo::models::check_boosted_import({reinterpret_cast<const char*>(data), size});
  return 0;
}
