// Votes that tell anomalies apart get the weight; those that do not get none.
#include "training/vote_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/prng.h"

namespace alcedo::training {
namespace {

TEST(VoteWeightsTest, TheVoterThatKnowsCarriesTheVote) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Prng random(seed);
    VoteExamples examples;
    for (int i = 0; i < 20'000; ++i) {
      const bool positive = i % 100 == 0;
      // Surprises of normal rows are exponential: -log10 of a uniform number.
      const auto surprise = [&] { return static_cast<float>(random.exponential() / std::log(10.0)); };
      examples.surprises.push_back(surprise() + (positive ? 3.0F : 0.0F));
      examples.surprises.push_back(surprise());
      examples.surprises.push_back(random.below(4) == 0 ? std::numeric_limits<float>::quiet_NaN()
                                                        : surprise() + (positive ? 0.7F : 0.0F));
      examples.positive.push_back(positive ? 1 : 0);
    }
    const auto weights = learn_vote_weights(examples, 3);
    EXPECT_EQ(weights[0], 1) << "seed " << seed;
    EXPECT_LT(weights[1], 0.15) << "seed " << seed;
    EXPECT_GT(weights[2], weights[1]) << "seed " << seed;
    EXPECT_LT(weights[2], 0.8) << "seed " << seed;
    EXPECT_EQ(learn_vote_weights(examples, 3), weights);
  }
}

TEST(VoteWeightsTest, WhereNothingHelpsAllCountTheSame) {
  VoteExamples examples;
  for (int i = 0; i < 1000; ++i) {
    examples.surprises.insert(examples.surprises.end(), {i % 10 == 0 ? 0.0F : 1.0F, i % 10 == 0 ? 0.0F : 1.0F});
    examples.positive.push_back(i % 10 == 0 ? 1 : 0);
  }
  EXPECT_EQ(learn_vote_weights(examples, 2), (std::vector<double>{1, 1}));
}

}  // namespace
}  // namespace alcedo::training
