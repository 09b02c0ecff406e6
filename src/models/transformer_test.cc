// A step from a ring has to say what attention over the whole stream says, on every path with the same bits, and after
// any loss.
#include "models/transformer.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "models/test_sequences.h"

namespace alcedo::models {
namespace {

using testing::OwnedHistory;
using testing::plan_with_bins;
using testing::random_tokens;

struct AlignedFree {
  void operator()(void* p) const { std::free(p); }
};
using RingMemory = std::unique_ptr<void, AlignedFree>;
RingMemory ring_of(const Transformer& model) {
  return RingMemory(std::aligned_alloc(Transformer::kRingAlign, model.ring_bytes()));
}

std::span<const std::uint8_t> token_at(std::span<const std::uint8_t> tokens, std::size_t fields, std::size_t i) {
  return tokens.subspan(i * fields, fields);
}

// Weights that are far from where training starts: biases by distance and of all kinds, a sharp attention.
TransformerWeights rough_weights(TokenPlan plan, std::uint64_t seed, bool with_label) {
  auto weights = TransformerWeights::random(std::move(plan), seed, with_label);
  Prng prng(seed + 1);
  TransformerWeights::for_each(weights, [&](const std::string& name, const auto&, std::vector<float>& values) {
    const double noise = name.ends_with("distance") ? 1.0 : name.starts_with("layers.") ? 0.15 : 0.3;
    for (float& x : values) x += static_cast<float>(noise * prng.normal());
  });
  return weights;
}

// ---- the oracle: banded attention over all of a stream, in double, straight from the definition in
// transformer_weights.h ----

using Vector = std::vector<double>;

Vector linear(const std::vector<float>& map, const std::vector<float>& bias, const Vector& x) {
  Vector y(bias.begin(), bias.end());
  for (std::size_t o = 0; o < y.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += static_cast<double>(map[o * x.size() + i]) * x[i];
  }
  return y;
}

Vector norm(const std::vector<float>& scale, const std::vector<float>& shift, const Vector& x) {
  double mean = 0, variance = 0;
  for (const double v : x) mean += v / 32;
  for (const double v : x) variance += (v - mean) * (v - mean) / 32;
  Vector y(32);
  for (std::size_t i = 0; i < 32; ++i) {
    y[i] = (x[i] - mean) / std::sqrt(variance + 1e-5) * static_cast<double>(scale[i]) + static_cast<double>(shift[i]);
  }
  return y;
}

struct Expected {
  double surprise = 0, label = 0;
  Vector fields;
};

std::vector<Expected> whole_stream(const TransformerWeights& w, std::span<const std::uint8_t> tokens) {
  const std::size_t fields = w.plan.fields(), n = tokens.size() / fields;
  std::vector<Vector> x(n, Vector(32, 0));
  for (std::size_t t = 0; t < n; ++t) {
    for (std::size_t f = 0; f < fields; ++f) {
      const std::size_t row = w.plan.first_bin(f) + tokens[t * fields + f];
      for (std::size_t i = 0; i < 32; ++i) x[t][i] += static_cast<double>(w.embedding[row * 32 + i]);
    }
  }
  for (const auto& layer : w.layers) {
    std::vector<Vector> qkv;
    for (std::size_t t = 0; t < n; ++t)
      qkv.push_back(linear(layer.qkv, layer.qkv_bias, norm(layer.norm1_scale, layer.norm1_shift, x[t])));
    for (std::size_t t = 0; t < n; ++t) {
      const std::size_t first = t >= 31 ? t - 31 : 0;
      Vector mixed(32, 0);
      for (std::size_t h = 0; h < 4; ++h) {
        Vector share;
        double total = 0;
        for (std::size_t s = first; s <= t; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < 8; ++i) score += qkv[t][h * 8 + i] * qkv[s][32 + h * 8 + i];
          share.push_back(std::exp(score / std::sqrt(8.0) + static_cast<double>(layer.distance[h * 32 + (t - s)])));
          total += share.back();
        }
        for (std::size_t s = first; s <= t; ++s) {
          for (std::size_t i = 0; i < 8; ++i) mixed[h * 8 + i] += share[s - first] / total * qkv[s][64 + h * 8 + i];
        }
      }
      const Vector out = linear(layer.out, layer.out_bias, mixed);
      for (std::size_t i = 0; i < 32; ++i) x[t][i] += out[i];
      Vector wide = linear(layer.up, layer.up_bias, norm(layer.norm2_scale, layer.norm2_shift, x[t]));
      for (double& v : wide) v = v / (1 + std::exp(-v));
      const Vector down = linear(layer.down, layer.down_bias, wide);
      for (std::size_t i = 0; i < 32; ++i) x[t][i] += down[i];
    }
  }
  std::vector<Expected> expected(n);
  Vector hidden(w.start.begin(), w.start.end());
  for (std::size_t t = 0; t < n; ++t) {
    const Vector logits = linear(w.head, w.head_bias, hidden);
    for (std::size_t f = 0; f < fields; ++f) {
      double total = 0;
      for (std::size_t b = 0; b < w.plan.bins(f); ++b) total += std::exp(logits[w.plan.first_bin(f) + b]);
      const double part = std::log(total) - logits[w.plan.first_bin(f) + tokens[t * fields + f]];
      expected[t].fields.push_back(part);
      expected[t].surprise += part;
    }
    hidden = norm(w.norm_scale, w.norm_shift, x[t]);
    if (!w.label.empty()) {
      expected[t].label = static_cast<double>(w.label_bias[0]);
      for (std::size_t i = 0; i < 32; ++i) expected[t].label += static_cast<double>(w.label[i]) * hidden[i];
    }
  }
  return expected;
}

// ---- steps ----

std::vector<SequenceScore> steps(const Transformer& model, std::span<const std::uint8_t> tokens, std::size_t group) {
  const std::size_t fields = model.plan().fields(), n = tokens.size() / fields;
  OwnedHistory empty(fields);
  const RingMemory ring = ring_of(model);
  model.rebuild(ring.get(), empty.view());
  std::vector<SequenceScore> scores(n);
  std::vector<Transformer::Event> events;
  for (std::size_t i = 0; i < n; ++i) {
    events.push_back({ring.get(), token_at(tokens, fields, i), &scores[i]});
    if (events.size() < group && i + 1 < n) continue;
    model.step(events);
    events.clear();
  }
  return scores;
}

bool same_bits(const SequenceScore& a, const SequenceScore& b) {
  return std::bit_cast<std::uint32_t>(a.surprise) == std::bit_cast<std::uint32_t>(b.surprise) &&
         std::bit_cast<std::uint32_t>(a.label_logit) == std::bit_cast<std::uint32_t>(b.label_logit) &&
         std::bit_cast<std::uint32_t>(a.field_surprise) == std::bit_cast<std::uint32_t>(b.field_surprise) &&
         a.field == b.field;
}

constexpr std::size_t kLong = 300;  // many times around a ring

TEST(TransformerTest, AStepSaysWhatAttentionOverTheWholeStreamSays) {
  for (const std::vector<std::size_t>& bins : {std::vector<std::size_t>{4, 3},
                                               {17, 2, 32, 9},
                                               {16, 16, 16, 16, 16, 16, 16, 31},
                                               std::vector<std::size_t>(20, 7)}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const auto weights = rough_weights(plan_with_bins(bins), seed, seed != 2);
      const auto model = *Transformer::create(weights, {.storage = Transformer::Storage::kFloat});
      const auto tokens = random_tokens(weights.plan, kLong, seed);
      const auto expected = whole_stream(weights, tokens);
      const auto seen = steps(model, tokens, 1);
      for (std::size_t t = 0; t < kLong; ++t) {
        ASSERT_NEAR(seen[t].surprise, expected[t].surprise, 2e-6 * (10 + expected[t].surprise))
            << "event " << t << " seed " << seed;
        if (seed == 2) {
          ASSERT_TRUE(std::isnan(seen[t].label_logit));
        } else {
          ASSERT_NEAR(seen[t].label_logit, expected[t].label, 2e-5) << "event " << t << " seed " << seed;
        }
        const auto& fields = expected[t].fields;
        const double largest = *std::max_element(fields.begin(), fields.end());
        ASSERT_NEAR(seen[t].field_surprise, largest, 2e-5);
        ASSERT_NEAR(fields[seen[t].field], largest, 2e-5);
      }
    }
  }
}

TEST(TransformerTest, EveryPathAndEveryGroupingGivesTheSameBits) {
  const auto weights = rough_weights(plan_with_bins({17, 2, 32, 16, 9}), 4, true);
  const auto tokens = random_tokens(weights.plan, kLong, 4);
  const std::int64_t all = hwy::SupportedTargets();
  std::string paths;
  for (const auto storage : {Transformer::Storage::kFloat, Transformer::Storage::kBfloat16}) {
    const auto scalar = *Transformer::create(weights, {.storage = storage, .scalar = true});
    const auto expected = steps(scalar, tokens, 1);
    // Lower bits are better targets: what is supported is taken away one by one.
    for (std::int64_t left = all; left != 0; left &= left - 1) {
      hwy::SetSupportedTargetsForTest(left);
      hwy::GetChosenTarget().Update(left);
      const auto model = *Transformer::create(weights, {.storage = storage});
      paths += std::string(model.path()) + " ";
      for (const std::size_t group : {1, 2, 3, 4}) {
        const auto seen = steps(model, tokens, group);
        for (std::size_t t = 0; t < kLong; ++t) {
          ASSERT_TRUE(same_bits(seen[t], expected[t])) << model.path() << " group " << group << " event " << t << ": "
                                                       << seen[t].surprise << " and " << expected[t].surprise;
        }
      }
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  RecordProperty("paths", paths);
#if defined(__x86_64__)
  EXPECT_NE(paths.find("SSSE3"), std::string::npos) << paths;
#endif
}

TEST(TransformerTest, ARingRebuiltFromTheLastTokensIsTheRingThatWasLost) {
  for (const auto storage : {Transformer::Storage::kFloat, Transformer::Storage::kBfloat16}) {
    const auto weights = rough_weights(plan_with_bins({17, 5, 9}), 5, true);
    const auto model = *Transformer::create(weights, {.storage = storage});
    const std::size_t fields = weights.plan.fields();
    const auto tokens = random_tokens(weights.plan, kLong, 5);
    const auto expected = steps(model, tokens, 1);
    OwnedHistory owned(fields);
    TokenHistory history = owned.view();
    const RingMemory kept = ring_of(model), rebuilt = ring_of(model);
    model.rebuild(kept.get(), history);
    for (std::size_t t = 0; t < kLong; ++t) {
      std::memset(rebuilt.get(), 0xA5, model.ring_bytes());  // whatever was there before
      model.rebuild(rebuilt.get(), history);
      ASSERT_TRUE(Transformer::stands_at(rebuilt.get(), storage, history));
      SequenceScore score, cold;
      const auto token = token_at(tokens, fields, t);
      model.step(
          std::array{Transformer::Event{kept.get(), token, &score}, Transformer::Event{rebuilt.get(), token, &cold}});
      history.push(token, static_cast<std::int64_t>(t));
      Transformer::set_chain(kept.get(), storage, history.chain());
      Transformer::set_chain(rebuilt.get(), storage, history.chain());
      ASSERT_TRUE(same_bits(score, expected[t])) << t;
      ASSERT_TRUE(same_bits(cold, expected[t])) << t;
      ASSERT_EQ(std::memcmp(kept.get(), rebuilt.get(), model.ring_bytes()), 0) << t;
    }
  }
}

// The 63rd token back still matters and no earlier one does: the history is as long as it must be, and no longer.
TEST(TransformerTest, LooksBackOver63EventsExactly) {
  const auto weights = rough_weights(plan_with_bins({8, 8}), 6, false);
  const auto model = *Transformer::create(weights, {.storage = Transformer::Storage::kFloat});
  auto tokens = random_tokens(weights.plan, 100, 6);
  const float before = steps(model, tokens, 1).back().surprise;
  const auto with_changed = [&](std::size_t back) {
    auto changed = tokens;
    changed[(99 - back) * 2] = static_cast<std::uint8_t>((changed[(99 - back) * 2] + 3) % 8);
    return steps(model, changed, 1).back().surprise;
  };
  EXPECT_NE(with_changed(63), before);
  EXPECT_EQ(with_changed(64), before);
}

TEST(TransformerTest, RoundedKeysAndValuesStayNear) {
  double worst = 0, sum = 0;
  std::size_t n = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const auto weights = rough_weights(plan_with_bins({16, 16, 16, 16}), seed, true);
    const auto tokens = random_tokens(weights.plan, kLong, seed);
    const auto exact = steps(*Transformer::create(weights, {.storage = Transformer::Storage::kFloat}), tokens, 1);
    const auto rounded = steps(*Transformer::create(weights, {.storage = Transformer::Storage::kBfloat16}), tokens, 1);
    for (std::size_t t = 0; t < kLong; ++t, ++n) {
      const double difference = std::fabs(static_cast<double>(exact[t].surprise - rounded[t].surprise));
      worst = std::max(worst, difference);
      sum += difference;
    }
  }
  RecordProperty("mean_difference", std::to_string(sum / static_cast<double>(n)));
  RecordProperty("worst_difference", std::to_string(worst));
  EXPECT_GT(worst, 0.0);
  EXPECT_LT(worst, 0.1);
  EXPECT_LT(sum / static_cast<double>(n), 0.01);
}

TEST(TransformerTest, StaysFiniteWhateverTheWeights) {
  for (const float extreme : {1e6F, -1e6F, 1e-30F}) {
    auto weights = TransformerWeights::random(plan_with_bins({8, 20, 8}), 7, true);
    Prng prng(8);
    TransformerWeights::for_each(weights, [&](const std::string&, const auto&, std::vector<float>& values) {
      for (float& x : values) x = prng.below(2) == 0 ? extreme : -extreme;
    });
    const auto model = *Transformer::create(weights, {});
    for (const SequenceScore& score : steps(model, random_tokens(weights.plan, 100, 9), 4)) {
      ASSERT_TRUE(std::isfinite(score.surprise)) << extreme;
      ASSERT_TRUE(std::isfinite(score.label_logit)) << extreme;
      ASSERT_GE(score.surprise, 0.0F);
    }
  }
}

TEST(TransformerTest, RefusesWeightsThatDoNotFit) {
  auto weights = TransformerWeights::random(plan_with_bins({8, 8}), 1, false);
  weights.layers[1].up.pop_back();
  const auto made = Transformer::create(weights, {});
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(made.error().message.find("layers.1.up.weight"), std::string::npos) << made.error().message;
}

}  // namespace
}  // namespace alcedo::models
