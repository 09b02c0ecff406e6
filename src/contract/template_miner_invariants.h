// What must hold of mining whatever the lines are: one list for the fuzzer and for the replay of its corpus.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "contract/template_miner.h"
#include "core/check.h"

namespace alcedo::contract {

/// Aborts where masks or ids leave their bounds, or a repeat gives something else.
inline void check_template_miner(std::string_view lines) {
  const TemplateMiner::Options tight{.templates_max = 20, .children_max = 3, .leaf_max = 2};
  TemplateMiner miner(tight), again(tight);
  std::string masked;
  for (std::string_view rest = lines; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    mask_message(rest.substr(0, end), masked);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    CHECK(masked.size() <= kMaskedBytesMax);
    CHECK(!masked.starts_with(' ') && !masked.ends_with(' ') && masked.find("  ") == std::string::npos);
    CHECK(static_cast<std::size_t>(std::ranges::count(masked, ' ')) < kTokensMax);
    const std::uint32_t id = miner.mine(masked);
    CHECK(id == again.mine(masked));
    CHECK(id <= miner.size() && miner.size() <= tight.templates_max);
    CHECK(miner.name(id).size() <= TemplateMiner::kNameBytesMax);
    CHECK(miner.text(id).size() <= kMaskedBytesMax + kTokensMax * kWildcard.size());
  }
}

}  // namespace alcedo::contract
