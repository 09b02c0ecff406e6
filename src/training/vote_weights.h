// How much each voter's surprise should count, where labels can tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace alcedo::training {

struct VoteExamples {
  std::vector<float> surprises;        // row-major, one a voter; NaN: it abstained
  std::vector<std::uint8_t> positive;  // by row
};

/// Weights in [0, 1], the largest 1, that separate the positive rows best: a logistic regression on the surprises with
/// no weight below 0, rows as frequent as they stand here. A voter that adds nothing gets 0.
///
/// Repeats  Deterministic. Cost: 300 passes over the examples, thinned to 200,000 rows.
std::vector<double> learn_vote_weights(const VoteExamples& examples, std::size_t voters);

}  // namespace alcedo::training
