// Lays weights out as the arithmetic reads them, and leads events and rebuilt histories through it.
#include "models/transformer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "core/check.h"

namespace alcedo::models {
namespace {

using transformer::kInner;
using transformer::kLanes;
using transformer::kWidth;
using transformer::kWindow;
using transformer::Ring;

static_assert(kWidth == TransformerWeights::kWidth && kWindow == TransformerWeights::kWindow);
static_assert(kInner == TransformerWeights::kInner && transformer::kLayers == TransformerWeights::kLayers);
static_assert(transformer::kHeads == TransformerWeights::kHeads && transformer::kFieldsMax >= TokenPlan::kFieldsMax);
static_assert(TokenHistory::kKept == transformer::kLayers * (kWindow - 1) + 1);

/// Numbers one after another, each beginning on a cache line. Offsets first: the memory may move while it grows.
class Packing {
 public:
  std::size_t add(std::span<const float> values) {
    const std::size_t at = numbers_.size();
    numbers_.insert(numbers_.end(), values.begin(), values.end());
    numbers_.resize((numbers_.size() + kLanes - 1) / kLanes * kLanes, 0.0F);
    return at;
  }
  /// [outputs][inputs] -> [outputs / 16][inputs][16]
  std::size_t add_transposed(std::span<const float> map, std::size_t outputs, std::size_t inputs) {
    std::vector<float> packed;
    packed.reserve(map.size());
    for (std::size_t group = 0; group < outputs; group += kLanes) {
      for (std::size_t i = 0; i < inputs; ++i) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) packed.push_back(map[(group + lane) * inputs + i]);
      }
    }
    return add(packed);
  }
  const std::vector<float>& numbers() const { return numbers_; }

 private:
  std::vector<float> numbers_;
};

template <typename F>
decltype(auto) with_ring(void* ring, Transformer::Storage storage, F f) {
  if (storage == Transformer::Storage::kFloat) return f(*static_cast<Ring<float>*>(ring));
  return f(*static_cast<Ring<std::uint16_t>*>(ring));
}

}  // namespace

void Transformer::Free::operator()(float* p) const { std::free(p); }

Result<Transformer> Transformer::create(const TransformerWeights& weights, const Options& options) {
  if (auto fine = weights.verify(); !fine) return std::unexpected(fine.error());
  Transformer made;
  made.plan_ = weights.plan;
  made.storage_ = options.storage;
  made.kernel_ = options.scalar ? &transformer::scalar_kernel() : &transformer::best_kernel();

  const TokenPlan& plan = made.plan_;
  const std::size_t fields = plan.fields();
  made.fields_ = std::make_unique<transformer::Field[]>(fields);
  std::size_t groups = 0;
  for (std::size_t f = 0; f < fields; ++f) {
    const std::size_t of_field = (plan.bins(f) + kLanes - 1) / kLanes;
    made.fields_[f] = {static_cast<std::uint32_t>(plan.first_bin(f)), static_cast<std::uint32_t>(plan.bins(f)),
                       static_cast<std::uint32_t>(groups), static_cast<std::uint32_t>(of_field)};
    groups += of_field;
  }
  std::vector<float> head(groups * kLanes * kWidth, 0.0F);
  std::vector<float> head_bias(groups * kLanes, transformer::kNever);
  for (std::size_t f = 0; f < fields; ++f) {
    const std::size_t from = plan.first_bin(f), to = made.fields_[f].first_group * kLanes;
    std::copy_n(weights.head.begin() + static_cast<std::ptrdiff_t>(from * kWidth), plan.bins(f) * kWidth,
                head.begin() + static_cast<std::ptrdiff_t>(to * kWidth));
    std::copy_n(weights.head_bias.begin() + static_cast<std::ptrdiff_t>(from), plan.bins(f),
                head_bias.begin() + static_cast<std::ptrdiff_t>(to));
  }

  Packing packing;
  struct LayerAt {
    std::size_t scale1, shift1, qkv, qkv_bias, distance, out, out_bias, scale2, shift2, up, up_bias, down, down_bias;
  };
  std::array<LayerAt, transformer::kLayers> layers_at{};
  for (std::size_t l = 0; l < transformer::kLayers; ++l) {
    const TransformerWeights::Layer& layer = weights.layers[l];
    LayerAt& at = layers_at[l];
    at.scale1 = packing.add(layer.norm1_scale);
    at.shift1 = packing.add(layer.norm1_shift);
    std::vector<float> qkv = layer.qkv, qkv_bias = layer.qkv_bias;
    const float shrink = 1.0F / std::sqrt(static_cast<float>(transformer::kHeadWidth));
    for (std::size_t i = 0; i < kWidth * kWidth; ++i) qkv[i] *= shrink;
    for (std::size_t i = 0; i < kWidth; ++i) qkv_bias[i] *= shrink;
    at.qkv = packing.add_transposed(qkv, 3 * kWidth, kWidth);
    at.qkv_bias = packing.add(qkv_bias);
    std::vector<float> distance;
    for (std::size_t h = 0; h < transformer::kHeads; ++h) {
      for (std::size_t j = 0; j < 2 * kWindow; ++j) {
        distance.push_back(layer.distance[h * kWindow + (2 * kWindow - 1 - j) % kWindow]);
      }
    }
    at.distance = packing.add(distance);
    at.out = packing.add_transposed(layer.out, kWidth, kWidth);
    at.out_bias = packing.add(layer.out_bias);
    at.scale2 = packing.add(layer.norm2_scale);
    at.shift2 = packing.add(layer.norm2_shift);
    at.up = packing.add_transposed(layer.up, kInner, kWidth);
    at.up_bias = packing.add(layer.up_bias);
    at.down = packing.add_transposed(layer.down, kWidth, kInner);
    at.down_bias = packing.add(layer.down_bias);
  }
  const std::size_t last_scale = packing.add(weights.norm_scale), last_shift = packing.add(weights.norm_shift);
  const std::size_t embedding = packing.add(weights.embedding);
  const std::size_t head_at = packing.add_transposed(head, groups * kLanes, kWidth),
                    head_bias_at = packing.add(head_bias);
  const std::size_t start = packing.add(weights.start);
  const std::size_t label = packing.add(weights.label);

  const std::vector<float>& numbers = packing.numbers();
  made.numbers_.reset(static_cast<float*>(std::aligned_alloc(64, numbers.size() * sizeof(float))));
  if (!made.numbers_) return error(ErrorCode::kUnavailable, "no memory for a transformer's weights");
  std::copy(numbers.begin(), numbers.end(), made.numbers_.get());
  const float* base = made.numbers_.get();
  for (std::size_t l = 0; l < transformer::kLayers; ++l) {
    const LayerAt& at = layers_at[l];
    made.model_.layers[l] = {.before_attention = {base + at.scale1, base + at.shift1},
                             .before_inner = {base + at.scale2, base + at.shift2},
                             .query_key_value = {base + at.qkv, base + at.qkv_bias},
                             .out = {base + at.out, base + at.out_bias},
                             .up = {base + at.up, base + at.up_bias},
                             .down = {base + at.down, base + at.down_bias},
                             .distance = base + at.distance};
  }
  made.model_.last = {base + last_scale, base + last_shift};
  made.model_.embedding = base + embedding;
  made.model_.head = {base + head_at, base + head_bias_at};
  made.model_.fields = made.fields_.get();
  made.model_.field_count = static_cast<std::uint32_t>(fields);
  made.model_.head_groups = static_cast<std::uint32_t>(groups);
  made.model_.label = weights.label.empty() ? nullptr : base + label;
  made.model_.label_bias = weights.label.empty() ? 0.0F : weights.label_bias[0];
  made.start_ = base + start;
  return made;
}

std::size_t Transformer::ring_bytes() const {
  return storage_ == Storage::kFloat ? sizeof(Ring<float>) : sizeof(Ring<std::uint16_t>);
}

bool Transformer::stands_at(const void* ring, Storage storage, const TokenHistory& history) {
  return with_ring(const_cast<void*>(ring), storage, [&](const auto& r) { return r.chain == history.chain(); });
}

void Transformer::set_chain(void* ring, Storage storage, std::uint64_t chain) {
  with_ring(ring, storage, [&](auto& r) { r.chain = chain; });
}

void Transformer::rebuild(void* ring, const TokenHistory& history) const {
  CHECK(history.fields() == plan_.fields());
  std::memset(ring, 0, ring_bytes());
  const std::size_t kept = history.kept();
  with_ring(ring, storage_, [&](auto& r) {
    std::memcpy(r.hidden, start_, sizeof r.hidden);
    // An event's slot follows from its number, so that sums over slots have the same order as if nothing had been lost.
    r.count = history.count() - kept;
    r.chain = history.chain();
  });
  std::array<transformer::Event, TokenHistory::kKept> events;
  for (std::size_t i = 0; i < kept; ++i) events[i] = {ring, history.token(i).data(), nullptr, nullptr};
  (storage_ == Storage::kFloat ? kernel_->replay_float : kernel_->replay_bfloat16)(model_, events.data(), kept);
}

void Transformer::step(std::span<const Event> events) const {
  CHECK(events.size() <= kGroup);
  alignas(64) float surprises[kGroup][transformer::kFieldsMax];
  std::array<transformer::Event, kGroup> inner;
  const std::size_t fields = plan_.fields();
  for (std::size_t i = 0; i < events.size(); ++i) {
    CHECK(events[i].token.size() == fields);
    for (std::size_t f = 0; f < fields; ++f) CHECK(events[i].token[f] < fields_[f].bins);
    inner[i] = {events[i].ring, events[i].token.data(), surprises[i], &events[i].score->label_logit};
  }
  (storage_ == Storage::kFloat ? kernel_->step_float : kernel_->step_bfloat16)(model_, inner.data(), events.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    SequenceScore& score = *events[i].score;
    score.surprise = 0;
    score.field = 0;
    for (std::size_t f = 0; f < fields; ++f) {
      score.surprise += surprises[i][f];
      if (surprises[i][f] > surprises[i][score.field]) score.field = static_cast<std::uint32_t>(f);
    }
    score.field_surprise = surprises[i][score.field];
  }
}

}  // namespace alcedo::models
