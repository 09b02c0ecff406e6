// A sequence model as it is trained and kept: its bins and its weights, in the layout that training frameworks use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "models/tensor_file.h"
#include "models/token_plan.h"

namespace alcedo::models {

/// Weights of a causal transformer over an entity's tokens.
///
///   x = sum of the embeddings of the token's bins
///   twice: x += out(attention(norm(x))), x += down(silu(up(norm(x))))
///   hidden = norm(x); next event: softmax(head(hidden)) a field; this event's label: label . hidden + bias
///
/// attention is causal over the last 32 events, the event itself included, with 4 heads of width 8, scores divided by
/// sqrt(8), and a bias a head by distance: there are no positions, so a stream may be of any length. norm is layer
/// normalisation with epsilon 1e-5. `start` takes the place of hidden before an entity's first event.
///
/// Shapes   all row-major, linear maps [outputs][inputs]. R = plan.bins_total().
struct TransformerWeights {
  static constexpr std::size_t kWidth = 32, kHeads = 4, kWindow = 32, kInner = 128, kLayers = 2;

  struct Layer {
    std::vector<float> norm1_scale, norm1_shift;  // [32]
    std::vector<float> qkv, qkv_bias;             // [96][32]: queries, keys, values, a head after another; [96]
    std::vector<float> distance;                  // [4][32]: what a head adds to the score of an event so many before
    std::vector<float> out, out_bias;             // [32][32], [32]
    std::vector<float> norm2_scale, norm2_shift;  // [32]
    std::vector<float> up, up_bias;               // [128][32], [128]
    std::vector<float> down, down_bias;           // [32][128], [32]
  };

  TokenPlan plan;
  std::vector<float> embedding;  // [R][32]
  std::vector<float> start;      // [32]
  std::array<Layer, kLayers> layers;
  std::vector<float> norm_scale, norm_shift;  // [32]
  std::vector<float> head, head_bias;         // [R][32], [R]
  std::vector<float> label, label_bias;       // [32], [1]; both empty: no label head

  /// Calls f(name, shape, values) for each tensor, always in the same order; the label head only where it is there.
  template <typename Self, typename F>
  static void for_each(Self& self, F f);

  /// Every size as above, every number finite and at most 1e6 in magnitude, so that no score can be NaN.
  /// Errors: kInvalidArgument, naming the tensor.
  Result<> verify() const;

  /// To and from safetensors; file_to_weights verifies. Errors: kCorrupt, kNotFound, as TensorFile; another version or
  /// kind of model.
  TensorFile to_file() const;
  static Result<TransformerWeights> from_file(const TensorFile& file);
  static Result<TransformerWeights> read(const std::string& path);

  /// Seeded noise of the size that training starts from.
  static TransformerWeights random(TokenPlan plan, std::uint64_t seed, bool with_label);
};

template <typename Self, typename F>
void TransformerWeights::for_each(Self& self, F f) {
  using Shape = std::vector<std::uint64_t>;
  const std::uint64_t rows = self.plan.bins_total();
  f(std::string("embedding"), Shape{rows, kWidth}, self.embedding);
  f(std::string("start"), Shape{kWidth}, self.start);
  for (std::size_t l = 0; l < kLayers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    auto& layer = self.layers[l];
    f(prefix + "norm1.weight", Shape{kWidth}, layer.norm1_scale);
    f(prefix + "norm1.bias", Shape{kWidth}, layer.norm1_shift);
    f(prefix + "qkv.weight", Shape{3 * kWidth, kWidth}, layer.qkv);
    f(prefix + "qkv.bias", Shape{3 * kWidth}, layer.qkv_bias);
    f(prefix + "distance", Shape{kHeads, kWindow}, layer.distance);
    f(prefix + "out.weight", Shape{kWidth, kWidth}, layer.out);
    f(prefix + "out.bias", Shape{kWidth}, layer.out_bias);
    f(prefix + "norm2.weight", Shape{kWidth}, layer.norm2_scale);
    f(prefix + "norm2.bias", Shape{kWidth}, layer.norm2_shift);
    f(prefix + "up.weight", Shape{kInner, kWidth}, layer.up);
    f(prefix + "up.bias", Shape{kInner}, layer.up_bias);
    f(prefix + "down.weight", Shape{kWidth, kInner}, layer.down);
    f(prefix + "down.bias", Shape{kWidth}, layer.down_bias);
  }
  f(std::string("norm.weight"), Shape{kWidth}, self.norm_scale);
  f(std::string("norm.bias"), Shape{kWidth}, self.norm_shift);
  f(std::string("head.weight"), Shape{rows, kWidth}, self.head);
  f(std::string("head.bias"), Shape{rows}, self.head_bias);
  if (!self.label.empty()) {
    f(std::string("label.weight"), Shape{kWidth}, self.label);
    f(std::string("label.bias"), Shape{1}, self.label_bias);
  }
}

}  // namespace alcedo::models
