// Any bytes as a pipeline file: never a crash, and every mistake stands somewhere.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "pipeline/pipeline_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view yaml(reinterpret_cast<const char*>(data), size);
  const auto loaded = alcedo::pipeline::parse_pipeline(yaml, "/nonexistent/pipeline.yaml");
  for (const auto& mistake : loaded.mistakes) {
    if (mistake.line < 1 || mistake.column < 1 || mistake.message.empty()) std::abort();
  }
  alcedo::pipeline::format_mistakes("pipeline.yaml", yaml, loaded.mistakes);
  return 0;
}
