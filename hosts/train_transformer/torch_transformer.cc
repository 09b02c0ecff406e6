// The only file that includes libtorch: forward, loss and optimiser of the transformer.
#include "torch_transformer.h"

#include <torch/torch.h>

#include <atomic>
#include <cmath>
#include <exception>
#include <map>
#include <string>
#include <thread>
#include <utility>

namespace alcedo::training {
namespace {

namespace F = torch::nn::functional;
using models::TransformerWeights;
using torch::Tensor;

constexpr std::int64_t kWidth = TransformerWeights::kWidth;
constexpr std::int64_t kHeads = TransformerWeights::kHeads;
constexpr std::int64_t kHeadWidth = kWidth / kHeads;
constexpr std::int64_t kWindow = TransformerWeights::kWindow;
constexpr double kGradientMax = 1.0;
constexpr double kDecay = 0.01;

}  // namespace

struct TorchTransformer::State {
  TransformerWeights shapes;  // plan and names; its numbers are those at the start
  std::map<std::string, Tensor> parameters;
  std::vector<std::int64_t> first_bin, bins;
  double label_weight = 1;
  int threads = 1;
  std::unique_ptr<torch::optim::AdamW> optimizer;
  Tensor distance_of;  // [32, 32 x 64]: one-hot, which bias a query of a block adds to a key of two
  Tensor in_band;      // [32, 64]

  Tensor parameter(const std::string& name) const { return parameters.at(name); }

  Tensor norm(const Tensor& x, const std::string& name) const {
    return torch::layer_norm(x, {kWidth}, parameter(name + ".weight"), parameter(name + ".bias"), 1e-5);
  }

  Tensor linear(const Tensor& x, const std::string& name) const {
    return torch::linear(x, parameter(name + ".weight"), parameter(name + ".bias"));
  }

  // What each query of a block may see: 0, or so little that nothing comes of it.
  Tensor mask(const Batch& batch) const {
    const auto rows = static_cast<std::int64_t>(batch.rows), blocks = static_cast<std::int64_t>(batch.length) / kWindow;
    const Tensor piece =
        torch::from_blob(const_cast<std::int32_t*>(batch.piece.data()), {rows, blocks, kWindow}, torch::kInt32);
    const Tensor two = torch::cat({before(piece), piece}, 2);
    const Tensor same = piece.unsqueeze(3).eq(two.unsqueeze(2));  // [rows, blocks, 32, 64]
    return same.logical_and(in_band).logical_not().to(torch::kFloat32).mul(-1e9).unsqueeze(2);
  }

  // Each block's predecessor; zeros before the first.
  static Tensor before(const Tensor& blocks) {
    return torch::cat({torch::zeros_like(blocks.narrow(1, 0, 1)), blocks.narrow(1, 0, blocks.size(1) - 1)}, 1);
  }

  Tensor attention(const Tensor& x, const Tensor& masked, const std::string& layer) const {
    const std::int64_t rows = x.size(0), length = x.size(1), blocks = length / kWindow;
    const Tensor qkv = linear(x, layer + "qkv").view({rows, blocks, kWindow, 3, kHeads, kHeadWidth});
    const Tensor q = qkv.select(3, 0).transpose(2, 3);  // [rows, blocks, heads, 32, 8]
    const Tensor k = qkv.select(3, 1).transpose(2, 3);
    const Tensor v = qkv.select(3, 2).transpose(2, 3);
    const Tensor k2 = torch::cat({before(k), k}, 3), v2 = torch::cat({before(v), v}, 3);
    const Tensor bias = parameter(layer + "distance").matmul(distance_of).view({kHeads, kWindow, 2 * kWindow});
    const Tensor scores =
        torch::matmul(q, k2.transpose(3, 4)).mul(1.0 / std::sqrt(static_cast<double>(kHeadWidth))) + bias + masked;
    const Tensor mixed = torch::matmul(torch::softmax(scores, -1), v2);
    return linear(mixed.transpose(2, 3).reshape({rows, length, kWidth}), layer + "out");
  }

  // [scored, 32] twice: what was known before each scored event, and after it.
  std::pair<Tensor, Tensor> hidden(const Batch& batch) const {
    const auto rows = static_cast<std::int64_t>(batch.rows), length = static_cast<std::int64_t>(batch.length);
    const auto fields = static_cast<std::int64_t>(batch.fields);
    TORCH_CHECK(length % kWindow == 0);
    std::vector<std::int64_t> flat(batch.tokens.size());
    for (std::size_t i = 0; i < flat.size(); ++i) flat[i] = first_bin[i % batch.fields] + batch.tokens[i];
    const Tensor index = torch::from_blob(flat.data(), {rows * length, fields}, torch::kInt64).clone();
    const Tensor offsets = torch::arange(0, rows * length * fields, fields, torch::kInt64);
    Tensor x = std::get<0>(torch::embedding_bag(parameter("embedding"), index.reshape(-1), offsets, false, 0))
                   .view({rows, length, kWidth});
    const Tensor masked = mask(batch);
    for (std::size_t l = 0; l < TransformerWeights::kLayers; ++l) {
      const std::string layer = "layers." + std::to_string(l) + ".";
      x = x + attention(norm(x, layer + "norm1"), masked, layer);
      x = x + linear(torch::silu(linear(norm(x, layer + "norm2"), layer + "up")), layer + "down");
    }
    const Tensor all = norm(x, "norm");
    const Tensor is_first =
        torch::from_blob(const_cast<std::uint8_t*>(batch.first.data()), {rows, length, 1}, torch::kUInt8)
            .to(torch::kBool);
    const Tensor shifted = torch::cat({torch::zeros({rows, 1, kWidth}), all.narrow(1, 0, length - 1)}, 1);
    const Tensor past = torch::where(is_first, parameter("start").view({1, 1, kWidth}), shifted);
    const Tensor scored = torch::from_blob(const_cast<std::int64_t*>(batch.scored.data()),
                                           {static_cast<std::int64_t>(batch.scored.size())}, torch::kInt64);
    return {past.reshape({rows * length, kWidth}).index_select(0, scored),
            all.reshape({rows * length, kWidth}).index_select(0, scored)};
  }

  // -ln p of each scored event, [scored].
  Tensor surprises(const Batch& batch, const Tensor& past) const {
    const Tensor logits = linear(past, "head");
    const auto count = static_cast<std::int64_t>(batch.scored.size());
    Tensor total = torch::zeros({count});
    std::vector<std::int64_t> target(batch.scored.size());
    for (std::size_t f = 0; f < batch.fields; ++f) {
      for (std::size_t i = 0; i < target.size(); ++i) {
        target[i] = batch.tokens[static_cast<std::size_t>(batch.scored[i]) * batch.fields + f];
      }
      const Tensor of_field = torch::log_softmax(logits.narrow(1, first_bin[f], bins[f]), 1);
      const Tensor came = torch::from_blob(target.data(), {count, 1}, torch::kInt64).clone();
      total = total - of_field.gather(1, came).squeeze(1);
    }
    return total;
  }

  Tensor label_logits(const Tensor& present) const {
    return present.matmul(parameter("label.weight")) + parameter("label.bias");
  }

  // The labels' part, a sum; undefined where none is known.
  Tensor label_loss(const Batch& batch, const Tensor& logits, Loss& loss) const {
    std::vector<float> target, weight;
    for (const std::int8_t label : batch.label) {
      target.push_back(label == 1 ? 1.0F : 0.0F);
      weight.push_back(label < 0 ? 0.0F : label == 1 ? static_cast<float>(label_weight) : 1.0F);
      if (label >= 0) ++loss.labelled;
    }
    if (loss.labelled == 0) return {};
    const auto count = static_cast<std::int64_t>(target.size());
    return torch::binary_cross_entropy_with_logits(logits, torch::from_blob(target.data(), {count}).clone(),
                                                   torch::from_blob(weight.data(), {count}).clone(), {},
                                                   at::Reduction::Sum);
  }

  bool has_label() const { return !shapes.label.empty(); }

  // Calls work(i) for each i < count, on several threads; the first exception comes out again.
  template <typename Work>
  void in_parallel(std::size_t count, Work work) const {
    std::atomic<std::size_t> next = 0;
    std::vector<std::exception_ptr> thrown(static_cast<std::size_t>(threads));
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        try {
          for (std::size_t i = next++; i < count; i = next++) work(i);
        } catch (...) {
          thrown[static_cast<std::size_t>(t)] = std::current_exception();
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (const std::exception_ptr& exception : thrown) {
      if (exception) std::rethrow_exception(exception);
    }
  }
};

TorchTransformer::TorchTransformer(const TransformerWeights& weights, int threads, double label_weight)
    : state_(std::make_unique<State>()) {
  // Batches are spread over threads here; within one, libtorch would wait more than it computes.
  at::set_num_threads(1);
  at::globalContext().setDeterministicAlgorithms(true, false);
  State& state = *state_;
  state.shapes = weights;
  state.label_weight = label_weight;
  state.threads = threads;
  std::vector<Tensor> decaying, free;
  TransformerWeights::for_each(
      weights, [&](const std::string& name, const std::vector<std::uint64_t>& shape, const std::vector<float>& values) {
        const std::vector<std::int64_t> sizes(shape.begin(), shape.end());
        Tensor tensor = torch::from_blob(const_cast<float*>(values.data()), sizes).clone().set_requires_grad(true);
        const bool is_map = shape.size() == 2 && name.ends_with(".weight") && name != "head.weight";
        (is_map ? decaying : free).push_back(tensor);
        state.parameters.emplace(name, tensor);
      });
  auto groups = std::vector<torch::optim::OptimizerParamGroup>{};
  groups.emplace_back(decaying,
                      std::make_unique<torch::optim::AdamWOptions>(torch::optim::AdamWOptions().weight_decay(kDecay)));
  groups.emplace_back(free, std::make_unique<torch::optim::AdamWOptions>(torch::optim::AdamWOptions().weight_decay(0)));
  state.optimizer = std::make_unique<torch::optim::AdamW>(groups, torch::optim::AdamWOptions().betas({0.9, 0.98}));
  for (std::size_t f = 0; f < weights.plan.fields(); ++f) {
    state.first_bin.push_back(static_cast<std::int64_t>(weights.plan.first_bin(f)));
    state.bins.push_back(static_cast<std::int64_t>(weights.plan.bins(f)));
  }
  // Query i of a block and key j of its two blocks are i + 32 - j events apart.
  Tensor one_hot = torch::zeros({kWindow, kWindow * 2 * kWindow});
  state.in_band = torch::zeros({kWindow, 2 * kWindow}, torch::kBool);
  for (std::int64_t i = 0; i < kWindow; ++i) {
    for (std::int64_t j = 0; j < 2 * kWindow; ++j) {
      const std::int64_t distance = i + kWindow - j;
      if (distance < 0 || distance >= kWindow) continue;
      one_hot[distance][i * 2 * kWindow + j] = 1.0F;
      state.in_band[i][j] = true;
    }
  }
  state.distance_of = one_hot;
}

TorchTransformer::~TorchTransformer() = default;

void TorchTransformer::Loss::add(const Loss& other) {
  surprise += other.surprise;
  label += other.label;
  scored += other.scored;
  labelled += other.labelled;
}

TorchTransformer::Loss TorchTransformer::train(std::span<const Batch> batches, double learning_rate) {
  State& state = *state_;
  std::size_t scored = 0, labelled = 0;
  for (const Batch& batch : batches) {
    scored += batch.scored.size();
    for (const std::int8_t label : batch.label) labelled += label >= 0 ? 1U : 0U;
  }
  std::vector<Tensor> parameters;
  for (const auto& [name, tensor] : state.parameters) parameters.push_back(tensor);
  std::vector<Loss> losses(batches.size());
  std::vector<std::vector<Tensor>> gradients(batches.size());
  state.in_parallel(batches.size(), [&](std::size_t i) {
    const Batch& batch = batches[i];
    Loss& loss = losses[i];
    loss.scored = batch.scored.size();
    if (loss.scored == 0) return;
    const auto [past, present] = state.hidden(batch);
    const Tensor surprise = state.surprises(batch, past).sum();
    loss.surprise = surprise.item<double>();
    Tensor total = surprise / static_cast<double>(scored);
    if (state.has_label()) {
      if (const Tensor label = state.label_loss(batch, state.label_logits(present), loss); label.defined()) {
        loss.label = label.item<double>();
        total = total + label / static_cast<double>(labelled);
      }
    }
    gradients[i] = torch::autograd::grad({total}, parameters, {}, false, false, true);
  });
  // One after another, so that the sum does not tell which thread was first.
  Loss all;
  for (Tensor& parameter : parameters) parameter.mutable_grad() = torch::zeros_like(parameter);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    all.add(losses[i]);
    for (std::size_t p = 0; p < gradients[i].size(); ++p) {
      if (gradients[i][p].defined()) parameters[p].mutable_grad().add_(gradients[i][p]);
    }
  }
  torch::nn::utils::clip_grad_norm_(parameters, kGradientMax);
  for (auto& group : state.optimizer->param_groups()) group.options().set_lr(learning_rate);
  state.optimizer->step();
  return all;
}

std::vector<TorchTransformer::Scored> TorchTransformer::score(std::span<const Batch> batches) {
  const State& state = *state_;
  std::vector<Scored> all(batches.size());
  state.in_parallel(batches.size(), [&](std::size_t i) {
    const torch::NoGradGuard no_grad;
    const Batch& batch = batches[i];
    Scored& scored = all[i];
    scored.loss.scored = batch.scored.size();
    if (batch.scored.empty()) return;
    const auto [past, present] = state.hidden(batch);
    const Tensor surprises = state.surprises(batch, past).contiguous();
    scored.loss.surprise = surprises.sum().item<double>();
    scored.surprise.assign(surprises.data_ptr<float>(), surprises.data_ptr<float>() + surprises.numel());
    if (!state.has_label()) return;
    const Tensor logits = state.label_logits(present).contiguous();
    scored.label_logit.assign(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
    if (const Tensor label = state.label_loss(batch, logits, scored.loss); label.defined()) {
      scored.loss.label = label.item<double>();
    }
  });
  return all;
}

TransformerWeights TorchTransformer::weights() const {
  TransformerWeights weights = state_->shapes;
  TransformerWeights::for_each(weights, [&](const std::string& name, const auto&, std::vector<float>& values) {
    const Tensor tensor = state_->parameter(name).detach().contiguous();
    TORCH_CHECK(static_cast<std::size_t>(tensor.numel()) == values.size());
    values.assign(tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel());
  });
  return weights;
}

}  // namespace alcedo::training
