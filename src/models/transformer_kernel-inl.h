// A transformer's step for one kind of processor at a time: included once a target, never compiled alone.
//
// Every sum has one order, whatever the width of a register: outputs are lanes of their own, inputs go to four partial
// sums by their number modulo 4, which are added as (0 + 1) + (2 + 3), and lanes are added as a tree of halves. Nothing
// is contracted. So each path gives the same bits.
#if defined(ALCEDO_TRANSFORMER_KERNEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ALCEDO_TRANSFORMER_KERNEL_INL_H
#undef ALCEDO_TRANSFORMER_KERNEL_INL_H
#else
#define ALCEDO_TRANSFORMER_KERNEL_INL_H
#endif

#include <hwy/highway.h>

#include "models/transformer_kernel.h"

HWY_BEFORE_NAMESPACE();
namespace alcedo::models::transformer::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::CappedTag<float, kLanes>;
using Bits = hn::RebindToUnsigned<Tag>;
using Narrow = hn::Rebind<std::uint16_t, Tag>;
using V = hn::Vec<Tag>;
constexpr std::size_t kRegister = hn::MaxLanes(Tag());
constexpr std::size_t kParts = kLanes / kRegister;

/// 16 floats in as many registers as they need.
struct F16 {
  V part[kParts];
};

HWY_INLINE F16 load(const float* from) {
  F16 x;
  for (std::size_t i = 0; i < kParts; ++i) x.part[i] = hn::Load(Tag(), from + i * kRegister);
  return x;
}
HWY_INLINE F16 load_anywhere(const float* from) {
  F16 x;
  for (std::size_t i = 0; i < kParts; ++i) x.part[i] = hn::LoadU(Tag(), from + i * kRegister);
  return x;
}
HWY_INLINE F16 load(const std::uint16_t* from) {
  F16 x;
  for (std::size_t i = 0; i < kParts; ++i) {
    const auto bits = hn::PromoteTo(Bits(), hn::Load(Narrow(), from + i * kRegister));
    x.part[i] = hn::BitCast(Tag(), hn::ShiftLeft<16>(bits));
  }
  return x;
}
HWY_INLINE void store(F16 x, float* to) {
  for (std::size_t i = 0; i < kParts; ++i) hn::Store(x.part[i], Tag(), to + i * kRegister);
}
HWY_INLINE F16 all(float value) {
  F16 x;
  for (std::size_t i = 0; i < kParts; ++i) x.part[i] = hn::Set(Tag(), value);
  return x;
}
/// Lanes 0 to 7 are a, 8 to 15 are b: two heads side by side.
HWY_INLINE F16 halves(float a, float b) {
  F16 x;
  if constexpr (kParts == 1) {
    x.part[0] = hn::IfThenElse(hn::FirstN(Tag(), kLanes / 2), hn::Set(Tag(), a), hn::Set(Tag(), b));
  } else {
    for (std::size_t i = 0; i < kParts; ++i) x.part[i] = hn::Set(Tag(), i < kParts / 2 ? a : b);
  }
  return x;
}

#define ALCEDO_LANEWISE(name, expression)               \
  HWY_INLINE F16 name(F16 a, F16 b) {                   \
    F16 x;                                              \
    for (std::size_t i = 0; i < kParts; ++i) {          \
      x.part[i] = hn::expression(a.part[i], b.part[i]); \
    }                                                   \
    return x;                                           \
  }
ALCEDO_LANEWISE(operator+, Add)
ALCEDO_LANEWISE(operator-, Sub)
ALCEDO_LANEWISE(operator*, Mul)
ALCEDO_LANEWISE(operator/, Div)
ALCEDO_LANEWISE(larger, Max)
ALCEDO_LANEWISE(smaller, Min)
#undef ALCEDO_LANEWISE

/// Folds halves onto each other until one lane is left.
template <typename Operation>
HWY_INLINE float fold(F16 x, Operation combine) {
  for (std::size_t left = kParts / 2; left > 0; left /= 2) {
    for (std::size_t i = 0; i < left; ++i) x.part[i] = combine(x.part[i], x.part[i + left]);
  }
#if HWY_TARGET == HWY_SCALAR
  return hn::GetLane(x.part[0]);
#else
  const auto lanes4 = [&] {
    if constexpr (kRegister == 16) {
      const hn::Half<Tag> eight;
      const hn::Half<hn::Half<Tag> > four;
      const auto y = combine(hn::LowerHalf(x.part[0]), hn::UpperHalf(eight, x.part[0]));
      return combine(hn::LowerHalf(y), hn::UpperHalf(four, y));
    } else if constexpr (kRegister == 8) {
      return combine(hn::LowerHalf(x.part[0]), hn::UpperHalf(hn::Half<Tag>(), x.part[0]));
    } else {
      return x.part[0];
    }
  }();
  const auto lanes2 = combine(lanes4, hn::Shuffle1032(lanes4));
  return hn::GetLane(combine(lanes2, hn::Shuffle2301(lanes2)));
#endif
}
struct AddOperation {
  template <typename X>
  HWY_INLINE X operator()(X a, X b) const {
    return hn::Add(a, b);
  }
};
struct MaxOperation {
  template <typename X>
  HWY_INLINE X operator()(X a, X b) const {
    return hn::Max(a, b);
  }
};
HWY_INLINE float sum(F16 x) { return fold(x, AddOperation()); }
HWY_INLINE float largest(F16 x) { return fold(x, MaxOperation()); }

/// e^x to 2 units in the last place for x in [-87, 87], 0 below, e^87 above. Source: Cephes, expf.
HWY_INLINE F16 exponential(F16 x) {
  F16 y;
  const Tag tag;
  for (std::size_t i = 0; i < kParts; ++i) {
    const V low = hn::Set(tag, -87.0F);
    const V clamped = hn::Min(hn::Max(x.part[i], low), hn::Set(tag, 87.0F));
    // Adding 1.5 x 2^23 rounds to a whole number and leaves it in the low bits.
    const V magic = hn::Set(tag, 12582912.0F);
    const V shifted = hn::Add(hn::Mul(clamped, hn::Set(tag, 1.44269504F)), magic);
    const V whole = hn::Sub(shifted, magic);
    V r = hn::Sub(clamped, hn::Mul(whole, hn::Set(tag, 0.693359375F)));
    r = hn::Add(r, hn::Mul(whole, hn::Set(tag, 2.12194440e-4F)));
    V p = hn::Set(tag, 1.9875691500e-4F);
    p = hn::Add(hn::Mul(p, r), hn::Set(tag, 1.3981999507e-3F));
    p = hn::Add(hn::Mul(p, r), hn::Set(tag, 8.3334519073e-3F));
    p = hn::Add(hn::Mul(p, r), hn::Set(tag, 4.1665795894e-2F));
    p = hn::Add(hn::Mul(p, r), hn::Set(tag, 1.6666665459e-1F));
    p = hn::Add(hn::Mul(p, r), hn::Set(tag, 5.0000001201e-1F));
    p = hn::Add(hn::Add(hn::Mul(p, hn::Mul(r, r)), r), hn::Set(tag, 1.0F));
    const auto power = hn::ShiftLeft<23>(hn::BitCast(Bits(), shifted));
    const V scaled = hn::BitCast(tag, hn::Add(hn::BitCast(Bits(), p), power));
    y.part[i] = hn::IfThenElseZero(hn::Ge(x.part[i], low), scaled);
  }
  return y;
}

/// The natural logarithm of normal positive numbers, to 2 units in the last place. Source: Cephes, logf.
HWY_INLINE F16 logarithm(F16 x) {
  F16 y;
  const Tag tag;
  for (std::size_t i = 0; i < kParts; ++i) {
    // x = m 2^e with m in [sqrt(1/2), sqrt(2)).
    const Bits bits;
    const auto raw = hn::Sub(hn::BitCast(bits, x.part[i]), hn::Set(bits, 0x3F3504F3U));
    const auto exponent = hn::ShiftRight<23>(hn::BitCast(hn::RebindToSigned<Tag>(), raw));
    const V e = hn::ConvertTo(tag, exponent);
    const auto mantissa = hn::Add(hn::And(raw, hn::Set(bits, 0x007FFFFFU)), hn::Set(bits, 0x3F3504F3U));
    const V m = hn::Sub(hn::BitCast(tag, mantissa), hn::Set(tag, 1.0F));
    const V square = hn::Mul(m, m);
    V p = hn::Set(tag, 7.0376836292e-2F);
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, -1.1514610310e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, 1.1676998740e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, -1.2420140846e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, 1.4249322787e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, -1.6668057665e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, 2.0000714765e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, -2.4999993993e-1F));
    p = hn::Add(hn::Mul(p, m), hn::Set(tag, 3.3333331174e-1F));
    p = hn::Mul(hn::Mul(p, m), square);
    p = hn::Add(p, hn::Mul(e, hn::Set(tag, -2.12194440e-4F)));
    p = hn::Sub(p, hn::Mul(square, hn::Set(tag, 0.5F)));
    y.part[i] = hn::Add(hn::Add(m, p), hn::Mul(e, hn::Set(tag, 0.693359375F)));
  }
  return y;
}

/// 16 outputs of a linear map for B inputs x[b][inputs], without bias.
template <std::size_t kInputs, std::size_t B>
HWY_INLINE void multiply(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT x, F16 (&y)[B]) {
  F16 partial[4][B];
  for (std::size_t p = 0; p < 4; ++p) {
    const F16 w = load(weights + p * kLanes);
    for (std::size_t b = 0; b < B; ++b) partial[p][b] = w * all(x[b * kInputs + p]);
  }
  for (std::size_t i = 4; i < kInputs; i += 4) {
    for (std::size_t p = 0; p < 4; ++p) {
      const F16 w = load(weights + (i + p) * kLanes);
      for (std::size_t b = 0; b < B; ++b) partial[p][b] = partial[p][b] + w * all(x[b * kInputs + i + p]);
    }
  }
  for (std::size_t b = 0; b < B; ++b) y[b] = (partial[0][b] + partial[1][b]) + (partial[2][b] + partial[3][b]);
}

HWY_INLINE void normalize(const Norm& norm, const float* x, float* y) {
  const F16 a = load(x), b = load(x + kLanes);
  const F16 mean = all(sum(a + b) * (1.0F / kWidth));
  const F16 c = a - mean, d = b - mean;
  const F16 variance = all(sum(c * c + d * d) * (1.0F / kWidth) + kNormEpsilon);
  F16 root;
  for (std::size_t i = 0; i < kParts; ++i) root.part[i] = hn::Sqrt(variance.part[i]);
  const F16 scale = all(1.0F) / root;
  store(c * scale * load(norm.scale) + load(norm.shift), y);
  store(d * scale * load(norm.scale + kLanes) + load(norm.shift + kLanes), y + kLanes);
}

HWY_INLINE float stored(float x, const float*) { return x; }
/// Rounded to nearest, ties to even.
HWY_INLINE std::uint16_t stored(float x, const std::uint16_t*) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}

/// Puts an event's key and value into its slot.
template <typename S>
HWY_INLINE void remember(S (&keys)[kWidth][kWindow], S (&values)[kWindow][kWidth], std::size_t slot,
                         const float* HWY_RESTRICT qkv) {
  for (std::size_t i = 0; i < kWidth; ++i) keys[i][slot] = stored(qkv[kWidth + i], &keys[0][0]);
  for (std::size_t i = 0; i < kWidth; ++i) values[slot][i] = stored(qkv[2 * kWidth + i], &keys[0][0]);
}

/// Looks back over the window, the event in `slot` included. qkv[96] -> mixed[32].
template <typename S>
HWY_INLINE void attend(const Layer& layer, const S (&keys)[kWidth][kWindow], const S (&values)[kWindow][kWidth],
                       std::size_t slot, std::size_t filled, const float* HWY_RESTRICT qkv, float* HWY_RESTRICT mixed) {
  HWY_ALIGN float weight[kHeads][kWindow];
  float share[kHeads];
  F16 score[kHeads][2];
  for (std::size_t h = 0; h < kHeads; ++h) {
    for (std::size_t i = 0; i < kHeadWidth; ++i) {
      const std::size_t row = h * kHeadWidth + i;
      const F16 q = all(qkv[row]);
      const F16 a = q * load(&keys[row][0]), b = q * load(&keys[row][kLanes]);
      score[h][0] = i == 0 ? a : score[h][0] + a;
      score[h][1] = i == 0 ? b : score[h][1] + b;
    }
    const float* distance = layer.distance + h * 2 * kWindow + (kWindow - 1 - slot);
    score[h][0] = score[h][0] + load_anywhere(distance);
    score[h][1] = score[h][1] + load_anywhere(distance + kLanes);
  }
  if (HWY_UNLIKELY(filled < kWindow)) {
    HWY_ALIGN float never[kWindow];
    for (std::size_t s = 0; s < kWindow; ++s) never[s] = (slot - s) % kWindow < filled ? 0.0F : kNever;
    for (std::size_t h = 0; h < kHeads; ++h) {
      score[h][0] = score[h][0] + load(never);
      score[h][1] = score[h][1] + load(never + kLanes);
    }
  }
  for (std::size_t h = 0; h < kHeads; ++h) {
    const F16 top = all(largest(larger(score[h][0], score[h][1])));
    const F16 a = exponential(score[h][0] - top), b = exponential(score[h][1] - top);
    share[h] = 1.0F / sum(a + b);
    store(a, weight[h]);
    store(b, weight[h] + kLanes);
  }
  for (std::size_t g = 0; g < 2; ++g) {
    const float* first = weight[2 * g];
    const float* second = weight[2 * g + 1];
    F16 partial[4];
    for (std::size_t p = 0; p < 4; ++p) partial[p] = halves(first[p], second[p]) * load(&values[p][g * kLanes]);
    for (std::size_t s = 4; s < kWindow; s += 4) {
      for (std::size_t p = 0; p < 4; ++p) {
        partial[p] = partial[p] + halves(first[s + p], second[s + p]) * load(&values[s + p][g * kLanes]);
      }
    }
    const F16 total = (partial[0] + partial[1]) + (partial[2] + partial[3]);
    store(total * halves(share[2 * g], share[2 * g + 1]), mixed + g * kLanes);
  }
}

/// How much of an event is computed: what later events need of it falls off with the layers.
enum class Depth {
  kFirstKeys,   // key and value of the first layer: what events beyond the last 32 leave
  kSecondKeys,  // those of the second too: what all but the newest leave
  kAll,
};

/// Advances B rings; before[b] is what the heads read of the past, after[b] of the present (Depth::kAll only).
/// Not inlined: each copy of it costs a compiler seconds, and a call costs an event nothing.
template <typename S, std::size_t B>
HWY_NOINLINE void advance(const Model& model, const Event* events, Depth depth, float (&before)[B][kWidth],
                          float (&after)[B][kWidth]) {
  HWY_ALIGN float x[B][kWidth];
  HWY_ALIGN float y[B][kWidth];
  HWY_ALIGN float wide[B][kInner];
  static_assert(kInner >= 3 * kWidth);
  HWY_ALIGN float qkv[B][3 * kWidth];
  std::size_t slot[B], filled[B];
  for (std::size_t b = 0; b < B; ++b) {
    auto& ring = *static_cast<Ring<S>*>(events[b].ring);
    slot[b] = ring.count++ % kWindow;
    if (ring.filled < kWindow) ++ring.filled;
    filled[b] = ring.filled;
    const std::uint8_t* token = events[b].token;
    const float* row = model.embedding + (model.fields[0].first_row + token[0]) * kWidth;
    F16 low = load(row), high = load(row + kLanes);
    for (std::size_t f = 1; f < model.field_count; ++f) {
      row = model.embedding + (model.fields[f].first_row + token[f]) * kWidth;
      low = low + load(row);
      high = high + load(row + kLanes);
    }
    store(low, x[b]);
    store(high, x[b] + kLanes);
  }
  F16 out[B];
  for (std::size_t l = 0; l < kLayers; ++l) {
    const Layer& layer = model.layers[l];
    for (std::size_t b = 0; b < B; ++b) normalize(layer.before_attention, x[b], y[b]);
    const bool keys_only = (l == 0 && depth == Depth::kFirstKeys) || (l == 1 && depth == Depth::kSecondKeys);
    for (std::size_t g = keys_only ? kWidth / kLanes : 0; g < 3 * kWidth / kLanes; ++g) {
      multiply<kWidth>(layer.query_key_value.weights + g * kWidth * kLanes, &y[0][0], out);
      const F16 bias = load(layer.query_key_value.bias + g * kLanes);
      for (std::size_t b = 0; b < B; ++b) store(out[b] + bias, qkv[b] + g * kLanes);
    }
    for (std::size_t b = 0; b < B; ++b) {
      auto& ring = *static_cast<Ring<S>*>(events[b].ring);
      remember<S>(ring.keys[l], ring.values[l], slot[b], qkv[b]);
      if (!keys_only) attend<S>(layer, ring.keys[l], ring.values[l], slot[b], filled[b], qkv[b], y[b]);
    }
    if (keys_only) return;
    for (std::size_t g = 0; g < kWidth / kLanes; ++g) {
      multiply<kWidth>(layer.out.weights + g * kWidth * kLanes, &y[0][0], out);
      const F16 bias = load(layer.out.bias + g * kLanes);
      for (std::size_t b = 0; b < B; ++b) store(load(x[b] + g * kLanes) + (out[b] + bias), x[b] + g * kLanes);
    }
    for (std::size_t b = 0; b < B; ++b) normalize(layer.before_inner, x[b], y[b]);
    for (std::size_t g = 0; g < kInner / kLanes; ++g) {
      multiply<kWidth>(layer.up.weights + g * kWidth * kLanes, &y[0][0], out);
      const F16 bias = load(layer.up.bias + g * kLanes);
      for (std::size_t b = 0; b < B; ++b) {
        const F16 z = out[b] + bias;
        store(z / (all(1.0F) + exponential(all(0.0F) - z)), wide[b] + g * kLanes);
      }
    }
    for (std::size_t g = 0; g < kWidth / kLanes; ++g) {
      multiply<kInner>(layer.down.weights + g * kInner * kLanes, &wide[0][0], out);
      const F16 bias = load(layer.down.bias + g * kLanes);
      for (std::size_t b = 0; b < B; ++b) store(load(x[b] + g * kLanes) + (out[b] + bias), x[b] + g * kLanes);
    }
  }
  for (std::size_t b = 0; b < B; ++b) {
    auto& ring = *static_cast<Ring<S>*>(events[b].ring);
    std::memcpy(before[b], ring.hidden, sizeof ring.hidden);
    normalize(model.last, x[b], after[b]);
    std::memcpy(ring.hidden, after[b], sizeof ring.hidden);
  }
}

template <std::size_t B>
HWY_INLINE void surprise(const Model& model, const Event* events, const float (&hidden)[B][kWidth]) {
  // Sums and the logits of what came, a field each; lanes past the last field hold 1 and 0.
  HWY_ALIGN float total[B][kFieldsMax];
  HWY_ALIGN float rest[B][kFieldsMax];
  const std::size_t padded = (model.field_count + kLanes - 1) / kLanes * kLanes;
  for (std::size_t b = 0; b < B; ++b) {
    for (std::size_t f = model.field_count; f < padded; ++f) total[b][f] = 1.0F, rest[b][f] = 0.0F;
  }
  HWY_ALIGN float logits[2 * kLanes];
  for (std::size_t f = 0; f < model.field_count; ++f) {
    const Field& field = model.fields[f];
    F16 low[B], high[B];
    const float* weights = model.head.weights + field.first_group * (kWidth * kLanes);
    const float* bias = model.head.bias + field.first_group * kLanes;
    multiply<kWidth>(weights, &hidden[0][0], low);
    if (field.groups == 2) multiply<kWidth>(weights + kWidth * kLanes, &hidden[0][0], high);
    for (std::size_t b = 0; b < B; ++b) {
      low[b] = low[b] + load(bias);
      high[b] = field.groups == 2 ? high[b] + load(bias + kLanes) : all(kNever);
      store(low[b], logits);
      store(high[b], logits + kLanes);
      const float top = largest(larger(low[b], high[b]));
      total[b][f] = sum(exponential(low[b] - all(top)) + exponential(high[b] - all(top)));
      rest[b][f] = top - logits[events[b].token[f]];
    }
  }
  for (std::size_t b = 0; b < B; ++b) {
    for (std::size_t f = 0; f < padded; f += kLanes) {
      store(logarithm(load(total[b] + f)) + load(rest[b] + f), total[b] + f);
    }
    std::memcpy(events[b].surprise, total[b], model.field_count * sizeof(float));
  }
}

template <typename S, std::size_t B>
void step(const Model& model, const Event* events) {
  HWY_ALIGN float before[B][kWidth];
  HWY_ALIGN float after[B][kWidth];
  advance<S>(model, events, Depth::kAll, before, after);
  surprise<B>(model, events, before);
  for (std::size_t b = 0; b < B; ++b) {
    if (model.label == nullptr) continue;
    const F16 product = load(after[b]) * load(model.label) + load(after[b] + kLanes) * load(model.label + kLanes);
    *events[b].label = sum(product) + model.label_bias;
  }
}

template <typename S>
void step_all(const Model& model, const Event* events, std::size_t count) {
  for (; count >= kGroup; events += kGroup, count -= kGroup) step<S, kGroup>(model, events);
  for (; count > 0; ++events, --count) step<S, 1>(model, events);
}

template <typename S, std::size_t B>
void replay_some(const Model& model, const Event* events, Depth depth) {
  HWY_ALIGN float before[B][kWidth];
  HWY_ALIGN float after[B][kWidth];
  advance<S>(model, events, depth, before, after);
}

template <typename S>
const Event* replay_to(const Model& model, const Event* events, const Event* end, Depth depth) {
  for (; static_cast<std::size_t>(end - events) >= kGroup; events += kGroup) {
    replay_some<S, kGroup>(model, events, depth);
  }
  for (; events < end; ++events) replay_some<S, 1>(model, events, depth);
  return events;
}

template <typename S>
void replay(const Model& model, const Event* events, std::size_t count) {
  const Event* const end = events + count;
  if (count > kWindow) events = replay_to<S>(model, events, end - kWindow, Depth::kFirstKeys);
  if (count > 1) events = replay_to<S>(model, events, end - 1, Depth::kSecondKeys);
  replay_to<S>(model, events, end, Depth::kAll);
}

inline const Kernel& kernel() {
  static constexpr Kernel kKernel{&step_all<float>, &step_all<std::uint16_t>, &replay<float>, &replay<std::uint16_t>,
                                  HWY_STR(HWY_NAMESPACE)};
  return kKernel;
}

}  // namespace alcedo::models::transformer::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
