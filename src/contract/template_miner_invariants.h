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

/// Returns whether a miner took the bytes as its state. If so, it works on, and can be saved and loaded again with the
/// same bytes; if not, it is as it was. Aborts where that does not hold.
inline bool check_template_state(std::string_view bytes) {
  const TemplateMiner::Options tight{.templates_max = 20, .children_max = 3, .leaf_max = 2};
  const auto saved = [](const TemplateMiner& miner) {
    std::string written;
    StateWriter writer(written);
    miner.save(writer);
    return written;
  };
  TemplateMiner miner(tight), again(tight);
  miner.mine("was there before");
  const std::string before = saved(miner);
  StateReader reader(bytes);
  miner.load(reader);
  const bool accepted = reader.ok();
  CHECK(accepted || saved(miner) == before);
  const std::string written = saved(miner);
  StateReader second(written);
  again.load(second);
  CHECK(second.complete() && saved(again) == written && again.state_bytes() == miner.state_bytes());
  for (const std::string_view masked : {"a b c", "a <*> c", "", "was there now", "x y z u"}) {
    const std::uint32_t id = miner.mine(masked);
    CHECK(id == again.mine(masked) && id <= miner.size() && miner.size() <= tight.templates_max);
  }
  CHECK(saved(again) == saved(miner));
  for (std::uint32_t id = 0; id <= miner.size(); ++id) {
    CHECK(miner.name(id).size() <= TemplateMiner::kNameBytesMax && miner.name(id) == again.name(id));
    CHECK(miner.text(id).size() <= kMaskedBytesMax + kTokensMax * kWildcard.size());
  }
  return accepted && reader.complete();
}

}  // namespace alcedo::contract
