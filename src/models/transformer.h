// A trained sequence model ready to score: one step an event, from what its entity's last events left behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "core/result.h"
#include "models/token_history.h"
#include "models/token_plan.h"
#include "models/transformer_kernel.h"
#include "models/transformer_weights.h"

namespace alcedo::models {

/// What a model says of one event. Higher is stranger.
struct SequenceScore {
  float surprise = 0;  // -ln p of the event's token given the entity's past: the sum over its fields
  float label_logit =
      std::numeric_limits<float>::quiet_NaN();  // log odds of a label, of the past and the event; NaN: no label head
  float field_surprise = 0;                     // the largest part of it
  std::uint32_t field = 0;                      // and whose it is
};

/// A causal transformer of two layers of width 32 with attention over 32 events, run one event at a time: keys and
/// values of an entity's last 32 events are kept in a ring, so that an event costs one step instead of a window. With
/// biases by distance instead of positions the steps are exactly banded attention over the entity's whole stream.
///
/// Cost     some 60,000 multiply-adds a step, and no allocation; see docs/performance.md. A ring is ring_bytes().
/// Threads  const, any; a ring belongs to one thread at a time.
/// Repeats  The same bits for the same tokens on every processor, in every grouping, and whether a ring was kept or
/// rebuilt. Source   Vaswani et al., "Attention Is All You Need", 2017; biases by distance: Raffel et al., 2020 (T5).
class Transformer {
 public:
  /// How a ring keeps keys and values. bfloat16 halves it; what a model says then differs by what rounding to 8 bits
  /// does.
  enum class Storage : std::uint8_t { kFloat, kBfloat16 };

  struct Options {
    Storage storage = Storage::kBfloat16;
    bool scalar = false;  // without vector instructions: for comparison
  };

  /// Errors: kInvalidArgument, as TransformerWeights::verify().
  static Result<Transformer> create(const TransformerWeights& weights, const Options& options);

  const TokenPlan& plan() const { return plan_; }
  bool has_label() const { return model_.label != nullptr; }
  Storage storage() const { return storage_; }
  /// The instructions that it runs on: "N_AVX3".
  const char* path() const { return kernel_->name; }

  std::size_t ring_bytes() const;
  static constexpr std::size_t kRingAlign = 64;
  static constexpr std::size_t kGroup = transformer::kGroup;

  /// Makes memory of ring_bytes() a ring that stands where `history` does, bit for bit as if it had seen all events.
  void rebuild(void* ring, const TokenHistory& history) const;
  /// Whether the ring stands there already.
  static bool stands_at(const void* ring, Storage storage, const TokenHistory& history);
  /// Says where a ring stands after the events that it is about to see.
  static void set_chain(void* ring, Storage storage, std::uint64_t chain);

  struct Event {
    void* ring;
    std::span<const std::uint8_t> token;
    SequenceScore* score;
  };
  /// Scores up to kGroup events, in order, and advances their rings; a ring may occur more than once. Bins must be the
  /// plan's.
  void step(std::span<const Event> events) const;

 private:
  struct Free {
    void operator()(float* p) const;
  };

  Transformer() = default;

  TokenPlan plan_;
  Storage storage_ = Storage::kBfloat16;
  const transformer::Kernel* kernel_ = nullptr;
  transformer::Model model_{};
  std::unique_ptr<float[], Free> numbers_;  // all that model_ points to
  std::unique_ptr<transformer::Field[]> fields_;
  const float* start_ = nullptr;
};

}  // namespace alcedo::models
