// Feeds arbitrary bytes to every kind of decoder: whatever comes in, the answer is an event or a reason.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "contract/decoder_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static alcedo::contract::DecoderInvariants invariants;
  invariants.check({reinterpret_cast<const char*>(data), size});
  return 0;
}
