// How an event's numbers become the small integers that a sequence model reads: bins learnt from training rows, kept
// with its weights.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"

namespace alcedo::models {

/// Bins of K columns and of the time since the entity's last event. A token is one event: K + 1 bins, the gap's last.
///
/// Bins      0 is "missing" (NaN; for the gap: the entity's first event). A number x is in bin 1 + the count of edges
/// that are <= x, so
///           n edges make n + 2 bins. Edges of a column lie at quantiles of what training saw; a value that is heavy by
///           itself (zeros, a flag, a constant) has a bin of its own. Edges of the gap are evenly spaced in its
///           logarithm.
/// Repeats   comparisons of 32-bit floats only: the same bins on every machine.
/// Threads   const, any.
class TokenPlan {
 public:
  static constexpr std::size_t kColumnsMax = 63;
  static constexpr std::size_t kFieldsMax = kColumnsMax + 1;
  static constexpr std::size_t kBinsMax = 32;
  static constexpr std::size_t kEdgesMax = kBinsMax - 2;
  static constexpr std::int64_t kNoGap = INT64_MIN;  // an entity's first event

  /// A field and its edges, ascending and finite.
  struct Field {
    std::string name;
    std::vector<float> edges;
  };

  /// Errors: kInvalidArgument, naming the field, where a plan could not have been learnt: no column or too many, too
  /// many edges, edges that are not finite or do not ascend, a name that is empty, taken, or not one line.
  static Result<TokenPlan> create(std::vector<Field> columns, std::vector<float> gap_edges);

  /// Learns bins. rows is row-major, one row an event, names.size() floats each; gaps_ms is kNoGap for an entity's
  /// first event and may be of any length. At most bins_max bins a field. Costs a sort a column; takes any number of
  /// rows, but 100,000 are plenty. Errors: kInvalidArgument as above, or bins_max not in [4, kBinsMax], or no row.
  static Result<TokenPlan> learn(std::span<const std::string> names, std::span<const float> rows,
                                 std::span<const std::int64_t> gaps_ms, std::size_t bins_max);

  std::size_t columns() const { return fields_.size() - 1; }
  /// Columns and the gap: the bytes of a token.
  std::size_t fields() const { return fields_.size(); }
  const Field& field(std::size_t f) const { return fields_[f]; }
  /// Bins of a field, the missing one included.
  std::size_t bins(std::size_t f) const { return fields_[f].edges.size() + 2; }
  /// Bins of all fields, and where the first of field f stands among them.
  std::size_t bins_total() const { return first_bin_.back(); }
  std::size_t first_bin(std::size_t f) const { return first_bin_[f]; }

  /// Writes the token of an event. columns has columns() floats, token fields() bytes; gap_ms is kNoGap for a first
  /// event, and what is not positive is one bin. About 10 ns a field.
  void tokenize(std::span<const float> columns, std::int64_t gap_ms, std::span<std::uint8_t> token) const;

  /// Equal for equal plans: tokens written by one can be read by the other.
  std::uint64_t fingerprint() const { return fingerprint_; }

  /// What a bin holds, for a person: "missing", "< 3", "3 to 8", ">= 8".
  std::string describe(std::size_t field, std::size_t bin) const;

 private:
  /// Padded with NaN, which is never <= x, so that a look-up has no branches.
  struct alignas(64) Edges {
    std::array<float, kBinsMax> at;
  };

  std::uint8_t bin(std::size_t f, float x) const;

  std::vector<Field> fields_;
  std::vector<Edges> edges_;
  std::vector<std::size_t> first_bin_;  // one more than fields
  std::uint64_t fingerprint_ = 0;
};

}  // namespace alcedo::models
