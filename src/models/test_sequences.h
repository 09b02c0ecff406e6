// Plans, tokens and histories for tests of sequence models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/prng.h"
#include "models/token_history.h"
#include "models/token_plan.h"

namespace alcedo::models::testing {

/// Columns with so many bins each, and a gap with the last so many: edges at 0, 1, 2 and so on.
inline TokenPlan plan_with_bins(const std::vector<std::size_t>& bins) {
  std::vector<TokenPlan::Field> columns;
  std::vector<float> edges;
  for (std::size_t f = 0; f < bins.size(); ++f) {
    edges.clear();
    for (std::size_t i = 0; i + 2 < bins[f]; ++i) edges.push_back(static_cast<float>(i));
    if (f + 1 < bins.size()) columns.push_back({"column " + std::to_string(f), edges});
  }
  auto plan = TokenPlan::create(std::move(columns), edges);
  CHECK(plan.has_value());
  return *plan;
}

/// count tokens one after another, each bin uniform.
inline std::vector<std::uint8_t> random_tokens(const TokenPlan& plan, std::size_t count, std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::uint8_t> tokens;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t f = 0; f < plan.fields(); ++f)
      tokens.push_back(static_cast<std::uint8_t>(prng.below(plan.bins(f))));
  }
  return tokens;
}

/// A history with memory of its own.
class OwnedHistory {
 public:
  explicit OwnedHistory(std::size_t fields) : bytes_(TokenHistory::bytes(fields)), fields_(fields) {}
  TokenHistory view() { return {bytes_, fields_}; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::size_t fields_;
};

}  // namespace alcedo::models::testing
