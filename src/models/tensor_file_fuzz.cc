// Model files may come from anywhere: whatever their bytes, reading them ends in tensors or in a message.
#include <cstddef>
#include <cstdint>

#include "models/tensor_file_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  alcedo::models::check_tensor_file({reinterpret_cast<const char*>(data), size});
  return 0;
}
