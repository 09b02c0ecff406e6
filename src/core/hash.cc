// Key groups exactly as Flink computes them, so that state moves between the hosts.
#include "core/hash.h"

namespace alcedo {
namespace {

std::int32_t java_hash_code(std::string_view text) {
  std::uint32_t h = 0;
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = p + text.size();
  const auto add = [&h](std::uint32_t unit) { h = 31 * h + unit; };
  while (p < end) {
    const unsigned char c = *p;
    if (c < 0x80) {
      add(c);
      ++p;
      continue;
    }
    int more = c >= 0xF0 && c <= 0xF4 ? 3 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xC2 && c < 0xE0 ? 1 : 0;
    std::uint32_t code = more == 3 ? c & 0x07U : more == 2 ? c & 0x0FU : c & 0x1FU;
    bool valid = more > 0 && end - p > more;
    for (int i = 1; valid && i <= more; ++i) {
      valid = (p[i] & 0xC0U) == 0x80U;
      code = (code << 6U) | (p[i] & 0x3FU);
    }
    valid = valid && !(more == 2 && (code < 0x800 || (code >= 0xD800 && code < 0xE000))) &&
            !(more == 3 && (code < 0x10000 || code > 0x10FFFF));
    if (!valid) {
      add(0xFFFD);
      ++p;
      continue;
    }
    if (code >= 0x10000) {
      add(0xD800 + ((code - 0x10000) >> 10U));
      add(0xDC00 + ((code - 0x10000) & 0x3FFU));
    } else {
      add(code);
    }
    p += more + 1;
  }
  return static_cast<std::int32_t>(h);
}

}  // namespace

std::uint8_t key_group(std::string_view text) {
  auto k = static_cast<std::uint32_t>(java_hash_code(text));
  k *= 0xcc9e2d51U;
  k = std::rotl(k, 15);
  k *= 0x1b873593U;
  k = std::rotl(k, 13);
  k = k * 5 + 0xe6546b64U;
  k ^= 4;
  k ^= k >> 16U;
  k *= 0x85ebca6bU;
  k ^= k >> 13U;
  k *= 0xc2b2ae35U;
  k ^= k >> 16U;
  auto h = static_cast<std::int32_t>(k);
  if (h == INT32_MIN) h = 0;
  return static_cast<std::uint8_t>((h < 0 ? -h : h) % kKeyGroups);
}

}  // namespace alcedo
