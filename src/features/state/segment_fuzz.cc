// Feeds arbitrary bytes to the loading of state: no segment may crash a stage, or leave one that cannot be saved again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "features/state/segment.h"
#include "features/state/segment_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace alcedo::features;
  static const auto plan = FeaturePlan::compile(testing::state_options(false));
  CHECK(plan.has_value());
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check_state_invariants(*plan, bytes);
  // A checksum is out of a fuzzer's reach, and hides what lies behind it.
  constexpr std::size_t kHeaderBytes = 32;
  if (size < kHeaderBytes) return 0;
  for (const auto content : {SegmentContent::kKeyGroup, SegmentContent::kBaselines})
    check_state_invariants(*plan, seal_segment(content, bytes.substr(kHeaderBytes)));
  return 0;
}
