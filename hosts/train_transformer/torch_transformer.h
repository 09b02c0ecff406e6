// The transformer of models/transformer_weights.h in libtorch, to be trained: its one face to the rest, without
// libtorch's headers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/transformer_weights.h"
#include "training_events.h"

namespace alcedo::training {

/// Banded causal attention over whole rows of tokens, in blocks of 32 queries against 64 keys.
///
/// Threads  one at a time; computes on as many threads of its own as it is told.
/// Repeats  the same bits for the same batches on one machine, whatever the number of threads.
/// Errors   libtorch's exceptions (std::exception).
class TorchTransformer {
 public:
  /// label_weight: how much a positive label counts beside a negative one.
  TorchTransformer(const models::TransformerWeights& weights, int threads, double label_weight);
  ~TorchTransformer();
  TorchTransformer(const TorchTransformer&) = delete;
  TorchTransformer& operator=(const TorchTransformer&) = delete;

  /// Sums over what was scored.
  struct Loss {
    double surprise = 0;  // nats
    double label = 0;     // nats, positive labels weighted
    std::size_t scored = 0, labelled = 0;
    void add(const Loss& other);
    double surprise_mean() const { return surprise / static_cast<double>(scored > 0 ? scored : 1); }
    double label_mean() const { return label / static_cast<double>(labelled > 0 ? labelled : 1); }
  };

  /// One step of AdamW against the mean loss of all batches together. Batches are worked off beside each other.
  Loss train(std::span<const Batch> batches, double learning_rate);

  /// What this model says of each scored event.
  struct Scored {
    Loss loss;
    std::vector<float> surprise;
    std::vector<float> label_logit;  // empty without a label head
  };
  std::vector<Scored> score(std::span<const Batch> batches);

  models::TransformerWeights weights() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace alcedo::training
