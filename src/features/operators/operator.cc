// Which operator works which kind of feature: the one list to extend by a kind.
#include "features/operators/operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "features/operators/confirmed_operator.h"
#include "features/operators/context_operator.h"
#include "features/operators/correlation_operator.h"
#include "features/operators/cusum_operator.h"
#include "features/operators/discord_operator.h"
#include "features/operators/distinct_operator.h"
#include "features/operators/geo_operator.h"
#include "features/operators/global_rarity_operator.h"
#include "features/operators/peer_operator.h"
#include "features/operators/quantile_operator.h"
#include "features/operators/rarity_operator.h"
#include "features/operators/robust_operator.h"
#include "features/operators/season_operator.h"
#include "features/operators/transition_operator.h"
#include "features/operators/twin_operator.h"
#include "features/operators/unusual_operator.h"

namespace alcedo::features {
namespace {

struct OperatorKind {
  FeatureKind kind;
  std::string (*mistake)(const FeatureSpec&, const EventLayout&);
  std::vector<OperatorColumn> (*columns)(const FeatureSpec&);
  std::size_t (*state_bytes)(const FeatureSpec&);
  std::unique_ptr<Operator> (*make)(const FeatureSpec&);
};

constexpr OperatorKind kOperatorKinds[] = {
    {FeatureKind::kGeo, geo_mistake, geo_columns, geo_state_bytes, make_geo_operator},
    {FeatureKind::kDistinct, distinct_mistake, distinct_columns, distinct_state_bytes, make_distinct_operator},
    {FeatureKind::kQuantiles, quantile_mistake, quantile_columns, quantile_state_bytes, make_quantile_operator},
    {FeatureKind::kRarity, rarity_mistake, rarity_columns, rarity_state_bytes, make_rarity_operator},
    {FeatureKind::kCorrelation, correlation_mistake, correlation_columns, correlation_state_bytes,
     make_correlation_operator},
    {FeatureKind::kContext, context_mistake, context_columns, context_state_bytes, make_context_operator},
    {FeatureKind::kSeason, season_mistake, season_columns, season_state_bytes, make_season_operator},
    {FeatureKind::kRobust, robust_mistake, robust_columns, robust_state_bytes, make_robust_operator},
    {FeatureKind::kCusum, cusum_mistake, cusum_columns, cusum_state_bytes, make_cusum_operator},
    {FeatureKind::kPeers, peer_mistake, peer_columns, peer_state_bytes, make_peer_operator},
    {FeatureKind::kTwins, twin_mistake, twin_columns, twin_state_bytes, make_twin_operator},
    {FeatureKind::kGlobalRarity, global_rarity_mistake, global_rarity_columns, global_rarity_state_bytes,
     make_global_rarity_operator},
    {FeatureKind::kTransition, transition_mistake, transition_columns, transition_state_bytes,
     make_transition_operator},
    {FeatureKind::kConfirmed, confirmed_mistake, confirmed_columns, confirmed_state_bytes, make_confirmed_operator},
    {FeatureKind::kDiscord, discord_mistake, discord_columns, discord_state_bytes, make_discord_operator},
    {FeatureKind::kUnusual, unusual_mistake, unusual_columns, unusual_state_bytes, make_unusual_operator},
};

const OperatorKind* find_kind(FeatureKind kind) {
  for (const OperatorKind& one : kOperatorKinds) {
    if (one.kind == kind) return &one;
  }
  return nullptr;
}

const OperatorKind& kind_of(const FeatureSpec& spec) {
  const OperatorKind* kind = find_kind(spec.kind);
  CHECK(kind != nullptr);
  return *kind;
}

}  // namespace

bool has_operator(FeatureKind kind) { return find_kind(kind) != nullptr; }

std::string operator_mistake(const FeatureSpec& spec, const EventLayout& layout) {
  return kind_of(spec).mistake(spec, layout);
}

std::vector<OperatorColumn> operator_columns(const FeatureSpec& spec) { return kind_of(spec).columns(spec); }

std::size_t operator_state_bytes(const FeatureSpec& spec) { return kind_of(spec).state_bytes(spec); }

std::unique_ptr<Operator> make_operator(const FeatureSpec& spec) {
  const OperatorKind& kind = kind_of(spec);
  auto made = kind.make(spec);
  made->state_bytes_ = kind.state_bytes(spec);
  return made;
}

// What has memory outside of its record has handles in it, and a handle must never leave the process.
void Operator::save(const std::byte* state, std::int64_t /*clock_ms*/, StateWriter& writer) const {
  CHECK(reserved_bytes() == 0);
  const bool empty = std::all_of(state, state + state_bytes_, [](std::byte b) { return b == std::byte{0}; });
  if (!empty) writer.bytes(state, state_bytes_);
}

void Operator::load(std::byte* state, std::int64_t /*clock_ms*/, StateReader& reader) {
  CHECK(reserved_bytes() == 0);
  if (reader.left() == 0) return;
  const std::string_view bytes = reader.bytes(state_bytes_);
  if (!reader.ok()) return;
  std::memcpy(state, bytes.data(), bytes.size());
}

void Operator::release(std::byte* /*state*/) { CHECK(reserved_bytes() == 0); }

std::string slot_mistake(std::string_view what, int slot, std::size_t slots) {
  if (slot >= 0 && static_cast<std::size_t>(slot) < slots) return {};
  return fmt::format("{} slot {} does not exist; there are {}", what, slot, slots);
}

}  // namespace alcedo::features
