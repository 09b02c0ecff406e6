// Feeds arbitrary bytes to the local log's recovery: no input may crash it or make it keep what does not verify.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ingest/local_log_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  alcedo::ingest::check_segment_invariants({reinterpret_cast<const char*>(data), size});
  return 0;
}
