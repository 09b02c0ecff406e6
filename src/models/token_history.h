// What an entity's sequence model can never lose: its last tokens, from which everything else about it is computed
// again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/state_stream.h"
#include "models/token_plan.h"

namespace alcedo::models {

/// The last 63 tokens of one entity, how many there ever were, a hash of all of them, and when the last one came: a
/// view of bytes that the caller keeps among the entity's state. Two layers that each look at 32 events see 2 x (32 -
/// 1) + 1 = 63.
///
/// Shapes   bytes(fields) = 24 + 63 x fields, of any alignment; a token is fields bytes. All bytes zero: an entity
/// without events. Threads  as the bytes.
class TokenHistory {
 public:
  static constexpr std::size_t kKept = 63;
  static constexpr std::size_t bytes(std::size_t fields) { return kHeader + kKept * fields; }

  /// state is bytes(fields) long and outlives the view.
  TokenHistory(std::span<std::byte> state, std::size_t fields);

  std::uint64_t count() const { return header(kCountAt); }
  /// Differs where any token ever differed, but for a chance of 2^-64: by it a cache knows whether it stands where this
  /// history does.
  std::uint64_t chain() const { return header(kChainAt); }
  std::size_t fields() const { return fields_; }
  std::size_t kept() const { return count() < kKept ? static_cast<std::size_t>(count()) : kKept; }
  /// The i-th oldest of those kept.
  std::span<const std::uint8_t> token(std::size_t i) const;

  /// Time since the newest event so far, for TokenPlan::tokenize; not negative. kNoGap if there was none.
  std::int64_t gap_ms(std::int64_t time_ms) const;

  void push(std::span<const std::uint8_t> token, std::int64_t time_ms);

  /// Canonical: equal histories have equal bytes. Oldest token first.
  void save(StateWriter& out) const;
  /// Reads what save() wrote; refuses through the reader what no history under this plan can be, and is then empty.
  void load(StateReader& in, const TokenPlan& plan);

 private:
  static constexpr std::size_t kCountAt = 0, kChainAt = 8, kTimeAt = 16, kHeader = 24;

  std::uint64_t header(std::size_t at) const;
  void set_header(std::size_t at, std::uint64_t x);
  std::uint8_t* slot(std::uint64_t number) const;

  std::byte* state_;
  std::size_t fields_;
};

}  // namespace alcedo::models
