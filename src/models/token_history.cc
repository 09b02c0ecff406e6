// A ring whose place follows from the count, so that a history has one form and no head to keep.
#include "models/token_history.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::models {

TokenHistory::TokenHistory(std::span<std::byte> state, std::size_t fields) : state_(state.data()), fields_(fields) {
  CHECK(state.size() == bytes(fields));
}

std::uint64_t TokenHistory::header(std::size_t at) const {
  std::uint64_t x;
  std::memcpy(&x, state_ + at, sizeof x);
  return x;
}

void TokenHistory::set_header(std::size_t at, std::uint64_t x) { std::memcpy(state_ + at, &x, sizeof x); }

std::uint8_t* TokenHistory::slot(std::uint64_t number) const {
  return reinterpret_cast<std::uint8_t*>(state_ + kHeader) + number % kKept * fields_;
}

std::span<const std::uint8_t> TokenHistory::token(std::size_t i) const { return {slot(count() - kept() + i), fields_}; }

std::int64_t TokenHistory::gap_ms(std::int64_t time_ms) const {
  if (count() == 0) return TokenPlan::kNoGap;
  const auto last = std::bit_cast<std::int64_t>(header(kTimeAt));
  if (time_ms <= last) return 0;
  std::int64_t gap;
  return __builtin_sub_overflow(time_ms, last, &gap) ? std::numeric_limits<std::int64_t>::max() : gap;
}

void TokenHistory::push(std::span<const std::uint8_t> token, std::int64_t time_ms) {
  CHECK(token.size() == fields_);
  const std::uint64_t number = count();
  const auto last = std::bit_cast<std::int64_t>(header(kTimeAt));
  const std::string_view text(reinterpret_cast<const char*>(token.data()), token.size());
  std::memcpy(slot(number), token.data(), fields_);
  set_header(kChainAt, hash_combine(chain(), hash64(text)));
  set_header(kTimeAt, std::bit_cast<std::uint64_t>(number == 0 ? time_ms : std::max(time_ms, last)));
  set_header(kCountAt, number + 1);
}

void TokenHistory::save(StateWriter& out) const {
  out.varint(count());
  if (count() == 0) return;
  out.u64(chain());
  out.i64(std::bit_cast<std::int64_t>(header(kTimeAt)));
  for (std::size_t i = 0; i < kept(); ++i) out.bytes(token(i).data(), fields_);
}

void TokenHistory::load(StateReader& in, const TokenPlan& plan) {
  CHECK(plan.fields() == fields_);
  std::memset(state_, 0, bytes(fields_));
  const std::uint64_t number = in.varint();
  if (number == 0) return;
  const std::uint64_t kept_tokens = std::min<std::uint64_t>(number, kKept);
  const std::uint64_t chain_of_all = in.u64();
  const std::uint64_t last = std::bit_cast<std::uint64_t>(in.time_ms());
  const std::string_view tokens = in.bytes(static_cast<std::size_t>(kept_tokens) * fields_);
  if (!in.ok()) return;
  std::uint64_t chain_of_kept = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (static_cast<std::uint8_t>(tokens[i]) >= plan.bins(i % fields_)) {
      in.refuse("holds a token with a bin that the model does not have");
      return;
    }
    if (i % fields_ == 0) chain_of_kept = hash_combine(chain_of_kept, hash64(tokens.substr(i, fields_)));
  }
  if (number <= kKept && chain_of_kept != chain_of_all) {
    in.refuse("holds tokens that are not those it counts");
    return;
  }
  for (std::uint64_t i = 0; i < kept_tokens; ++i) {
    std::memcpy(slot(number - kept_tokens + i), tokens.data() + i * fields_, fields_);
  }
  set_header(kCountAt, number);
  set_header(kChainAt, chain_of_all);
  set_header(kTimeAt, last);
}

}  // namespace alcedo::models
