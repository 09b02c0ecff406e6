// What happens to bytes on their way: cut short, or changed in places. Tests give such copies to whoever reads state.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/prng.h"

namespace alcedo {

/// Calls cut(view) with the bytes up to each length below their own (a spread of `cuts_max` where they are more), and
/// changed(copy) with `changes` copies in which one to three bytes are others.
template <typename Cut, typename Changed>
void each_damage(std::string_view bytes, std::uint64_t seed, std::size_t cuts_max, std::size_t changes, Cut cut,
                 Changed changed) {
  const std::size_t cuts = std::min(cuts_max, bytes.size());
  for (std::size_t i = 0; i < cuts; ++i) cut(bytes.substr(0, bytes.size() * i / cuts));
  if (!bytes.empty()) cut(bytes.substr(0, bytes.size() - 1));
  Prng random(seed);
  for (std::size_t i = 0; i < changes && !bytes.empty(); ++i) {
    std::string copy(bytes);
    for (std::uint64_t left = 1 + random.below(3); left != 0; --left) {
      char& at = copy[random.below(copy.size())];
      // A single bit, the bytes that mean the most to a reader, or anything.
      const std::uint64_t how = random.below(4);
      if (how == 0) at = static_cast<char>(at ^ (1 << random.below(8)));
      if (how == 1) at = static_cast<char>(random.below(2) == 0 ? 0x00 : 0xFF);
      if (how >= 2) at = static_cast<char>(random.below(256));
    }
    changed(copy);
  }
}

}  // namespace alcedo
