// Feeds arbitrary bytes to the HTTP reader: it asks for more, takes a request that lies within them, or refuses.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/check.h"
#include "serve/http_message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace alcedo::serve;
  std::string_view in(reinterpret_cast<const char*>(data), size);
  while (!in.empty()) {
    HttpRequest request;
    const ParseResult result = parse_request(in, request);
    if (result.parsed == Parsed::kRefused) CHECK(result.refusal.status >= 400 && !result.refusal.body.empty());
    if (result.parsed != Parsed::kRequest) break;
    CHECK(result.consumed > 0 && result.consumed <= in.size() && request.body.size() <= kBodyBytesMax);
    in.remove_prefix(result.consumed);
  }
  return 0;
}
