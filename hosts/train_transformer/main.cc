// Trains a sequence model from a file of events, or says what libtorch and the runtime think of one: a process of its
// own.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "models/tensor_file.h"
#include "models/token_history.h"
#include "models/transformer.h"
#include "models/transformer_weights.h"
#include "torch_transformer.h"
#include "training_events.h"

namespace alcedo::training {
namespace {

using models::TokenHistory;
using models::TokenPlan;
using models::Transformer;
using models::TransformerWeights;

constexpr std::size_t kRowLength = 256;  // tokens; 63 of them look-back where an entity goes on from the row before
constexpr std::size_t kRowsABatch = 2;   // what one thread works off at a time
constexpr std::size_t kBatchesAStep = 4;
constexpr std::size_t kRounds = 20;            // looks at what is held out
constexpr std::size_t kPatience = 4;           // rounds without a better one
constexpr std::size_t kHoldoutMax = 50'000;    // events that are looked at for it
constexpr std::size_t kPlanRowsMax = 200'000;  // bins at quantiles need no more
constexpr std::size_t kVerifiedMax = 10'000;
constexpr double kDifferenceMax = 1e-3;

struct Options {
  std::string events, model, scores;
  std::size_t steps = 4'000, passes = 20, bins = 16, rows_max = 500'000;
  std::uint64_t seed = 1;
  double holdout = 0.1, learning_rate = 6e-3;
  int threads = 2;
};

template <typename... Values>
void say(fmt::format_string<Values...> format, Values&&... values) {
  std::fprintf(stderr, "%s\n", fmt::format(format, std::forward<Values>(values)...).c_str());
}

int failed(const std::string& message) {
  say("alcedo-train-transformer: {}", message);
  return 1;
}

/// Surprise and label logit by position, NaN where nothing was scored.
struct Scores {
  std::vector<float> surprise, label_logit;
  explicit Scores(std::size_t positions)
      : surprise(positions, std::numeric_limits<float>::quiet_NaN()),
        label_logit(positions, std::numeric_limits<float>::quiet_NaN()) {}
};

std::vector<Batch> batches_of(const Sequences& sequences, std::span<const PackedRow> rows) {
  std::vector<Batch> batches;
  for (std::size_t r = 0; r < rows.size(); r += kRowsABatch) {
    batches.emplace_back(sequences, rows.subspan(r, std::min(kRowsABatch, rows.size() - r)), kRowLength);
  }
  return batches;
}

/// What libtorch says of the events of rows [from, to).
TorchTransformer::Loss score_by_torch(TorchTransformer& net, const Sequences& sequences, std::size_t from,
                                      std::size_t to, Scores& scores) {
  constexpr std::size_t kRowsAtATime = 256;  // bounds memory
  const auto rows = pack(sequences, from, to, kRowLength, nullptr);
  TorchTransformer::Loss all;
  for (std::size_t r = 0; r < rows.size(); r += kRowsAtATime) {
    const auto batches = batches_of(sequences, std::span(rows).subspan(r, std::min(kRowsAtATime, rows.size() - r)));
    const auto scored = net.score(batches);
    for (std::size_t b = 0; b < batches.size(); ++b) {
      all.add(scored[b].loss);
      for (std::size_t i = 0; i < batches[b].position.size(); ++i) {
        scores.surprise[batches[b].position[i]] = scored[b].surprise[i];
        if (!scored[b].label_logit.empty()) scores.label_logit[batches[b].position[i]] = scored[b].label_logit[i];
      }
    }
  }
  return all;
}

/// What the runtime says of whole entities, in turn, until `positions_max` events are scored.
void score_by_runtime(const Transformer& model, const Sequences& sequences, std::size_t positions_max, Scores& scores) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  const std::unique_ptr<void, Free> ring(std::aligned_alloc(Transformer::kRingAlign, model.ring_bytes()));
  std::vector<std::byte> nothing(TokenHistory::bytes(sequences.fields));
  std::size_t done = 0;
  for (std::size_t e = 0; e < sequences.entities() && done < positions_max; ++e) {
    model.rebuild(ring.get(), TokenHistory(nothing, sequences.fields));
    for (std::size_t p = sequences.begin[e]; p < sequences.begin[e + 1] && done < positions_max; ++p, ++done) {
      models::SequenceScore score;
      const Transformer::Event event{
          ring.get(), std::span(sequences.tokens).subspan(p * sequences.fields, sequences.fields), &score};
      model.step(std::span(&event, 1));
      scores.surprise[p] = score.surprise;
      scores.label_logit[p] = score.label_logit;
    }
  }
}

/// The largest difference where both have scores, and over how many.
std::pair<double, std::size_t> difference(const Scores& a, const Scores& b) {
  double largest = 0;
  std::size_t compared = 0;
  const auto compare = [&](const std::vector<float>& x, const std::vector<float>& y) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]) || std::isnan(y[i])) continue;
      largest = std::max(largest, std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
      ++compared;
    }
  };
  compare(a.label_logit, b.label_logit);
  compared = 0;
  compare(a.surprise, b.surprise);
  return {largest, compared};
}

/// Mean surprise of the nine tenths that surprise least: the better a model knows the others, the more the anomalies
/// among them cost it, which must not end its training.
double usual_surprise(const Scores& scores) {
  std::vector<float> sorted;
  for (const float x : scores.surprise) {
    if (!std::isnan(x)) sorted.push_back(x);
  }
  std::sort(sorted.begin(), sorted.end());
  sorted.resize(std::max<std::size_t>(sorted.size() * 9 / 10, 1), 0.0F);
  return std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(sorted.size());
}

Result<TokenPlan> learn_plan(const EventTable& table, const Sequences& sequences, std::size_t train_rows,
                             const Options& options) {
  Prng prng(options.seed);
  const double share = static_cast<double>(kPlanRowsMax) / static_cast<double>(train_rows);
  std::vector<float> columns;
  std::vector<std::int64_t> gaps;
  const std::size_t width = table.names.size();
  for (std::size_t p = 0; p < sequences.row.size(); ++p) {
    const std::size_t row = sequences.row[p];
    if (row >= train_rows || prng.uniform() >= share) continue;
    columns.insert(columns.end(), table.columns.begin() + static_cast<std::ptrdiff_t>(row * width),
                   table.columns.begin() + static_cast<std::ptrdiff_t>((row + 1) * width));
    gaps.push_back(sequences.gap_ms[p]);
  }
  return TokenPlan::learn(table.names, columns, gaps, options.bins);
}

/// Training starts where it would be without any past: each bin as likely as it is frequent.
void start_from_frequencies(TransformerWeights& weights, const Sequences& sequences, std::size_t train_rows) {
  std::vector<double> count(weights.plan.bins_total(), 0.5);
  for (std::size_t p = 0; p < sequences.row.size(); ++p) {
    if (sequences.row[p] >= train_rows) continue;
    for (std::size_t f = 0; f < sequences.fields; ++f)
      count[weights.plan.first_bin(f) + sequences.tokens[p * sequences.fields + f]] += 1;
  }
  for (std::size_t i = 0; i < count.size(); ++i) {
    weights.head_bias[i] = static_cast<float>(std::log(count[i] / static_cast<double>(train_rows)));
  }
}

int train(const Options& options) {
  auto table = EventTable::read(options.events);
  if (!table) return failed(table.error().message);
  const std::size_t rows_given = table->rows();
  table->subsample(options.rows_max, options.seed);
  Sequences sequences(*table);
  const std::size_t rows = table->rows();
  const auto train_rows = static_cast<std::size_t>(std::floor(static_cast<double>(rows) * (1 - options.holdout)));
  if (train_rows == 0) return failed("no rows are left to train on");
  auto plan = learn_plan(*table, sequences, train_rows, options);
  if (!plan) return failed(plan.error().message);
  sequences.tokenize(*table, *plan);

  // A label head needs both kinds to learn from.
  double positives = 0, negatives = 0;
  for (std::size_t p = 0; p < rows; ++p) {
    if (sequences.row[p] >= train_rows) continue;
    positives += sequences.label[p] == 1 ? 1 : 0;
    negatives += sequences.label[p] == 0 ? 1 : 0;
  }
  const bool with_label = positives > 0 && negatives > 0;
  const double label_weight = with_label ? std::clamp(negatives / positives, 1.0, 100.0) : 1.0;
  auto weights = TransformerWeights::random(*plan, options.seed, with_label);
  start_from_frequencies(weights, sequences, train_rows);
  say("{} of {} events of {} entities, {} columns in {} bins; {} events held out{}", rows, rows_given,
      sequences.entities(), plan->columns(), plan->bins_total(), rows - train_rows,
      with_label ? fmt::format("; {:.0f} positive and {:.0f} negative labels", positives, negatives) : "");

  TorchTransformer net(weights, options.threads, label_weight);
  Prng prng(options.seed + 1);
  const auto begun = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(); };
  double best = std::numeric_limits<double>::infinity();
  std::size_t best_step = 0, step = 0, rounds_since = 0;
  TransformerWeights best_weights = weights;
  const std::size_t holdout_end = std::min(rows, train_rows + kHoldoutMax);
  std::vector<PackedRow> packed;
  std::size_t next_row = 0;
  const auto take = [&] {
    if (next_row >= packed.size()) {
      packed = pack(sequences, 0, train_rows, kRowLength, &prng);
      next_row = 0;
    }
    const auto taken =
        std::span(packed).subspan(next_row, std::min(kRowsABatch * kBatchesAStep, packed.size() - next_row));
    next_row += taken.size();
    return batches_of(sequences, taken);
  };
  auto batches = take();
  const std::size_t steps_a_pass = (packed.size() + kRowsABatch * kBatchesAStep - 1) / (kRowsABatch * kBatchesAStep);
  const std::size_t steps = std::min(options.steps, options.passes * steps_a_pass);
  while (step < steps && rounds_since < kPatience) {
    TorchTransformer::Loss learnt;
    const std::size_t until = std::min(step + (steps + kRounds - 1) / kRounds, steps);
    for (; step < until; ++step) {
      // Warm up over a twentieth, then down along a cosine to a twentieth.
      const double done = static_cast<double>(step) / static_cast<double>(steps);
      const double rate =
          options.learning_rate * std::min(20 * done + 0.01, 1.0) * (0.525 + 0.475 * std::cos(std::numbers::pi * done));
      learnt.add(net.train(batches, rate));
      batches = take();
    }
    Scores scores(rows);
    const auto held = score_by_torch(net, sequences, train_rows, holdout_end, scores);
    const double usual = usual_surprise(scores);
    const double loss = held.scored > 0 ? usual + held.label_mean() : learnt.surprise_mean() + learnt.label_mean();
    say("step {}/{}, {:.0f} s: {:.4f} nats an event; held out {:.4f}, {:.4f} without the tenth that surprises most{}",
        step, steps, seconds(), learnt.surprise_mean(), held.surprise_mean(), usual,
        with_label ? fmt::format("; {:.4f} a label, {:.4f} held out", learnt.label_mean(), held.label_mean()) : "");
    if (!std::isfinite(loss)) return failed("training diverged: the loss is no number");
    ++rounds_since;
    if (loss < best) {
      best = loss;
      best_step = step;
      best_weights = net.weights();
      rounds_since = 0;
    }
  }
  if (rounds_since == kPatience)
    say("no better for {} rounds: stopped; the weights are those of step {}", kPatience, best_step);
  if (with_label) best_weights.label_bias[0] -= static_cast<float>(std::log(label_weight));

  if (const auto written = best_weights.to_file().write(options.model); !written)
    return failed(written.error().message);
  const auto read = TransformerWeights::read(options.model);
  if (!read) return failed(read.error().message);
  const auto runtime = Transformer::create(*read, {.storage = Transformer::Storage::kFloat});
  if (!runtime) return failed(runtime.error().message);
  TorchTransformer exported(*read, options.threads, 1.0);
  Scores by_torch(rows), by_runtime(rows);
  score_by_torch(exported, sequences, train_rows, rows, by_torch);
  score_by_runtime(*runtime, sequences, kVerifiedMax, by_runtime);
  const auto [largest, compared] = difference(by_torch, by_runtime);
  fmt::print(
      "{{\"model\":\"{}\",\"events\":{},\"entities\":{},\"steps\":{},\"best_step\":{},\"holdout_loss\":{:.6f},"
      "\"seconds\":{:.1f},"
      "\"compared\":{},\"difference_max\":{:.3g}}}\n",
      "transformer", rows, sequences.entities(), step, best_step, best, seconds(), compared, largest);
  if (largest > kDifferenceMax) {
    return failed(fmt::format("the runtime's scores of {} differ from training's by {:.3g}: do not use it",
                              options.model, largest));
  }
  return 0;
}

int score(const Options& options) {
  auto table = EventTable::read(options.events);
  if (!table) return failed(table.error().message);
  const auto weights = TransformerWeights::read(options.model);
  if (!weights) return failed(weights.error().message);
  for (std::size_t i = 0; i < weights->plan.columns(); ++i) {
    if (table->names.size() != weights->plan.columns() || table->names[i] != weights->plan.field(i).name) {
      return failed(fmt::format("{} has other columns than {} was trained on", options.events, options.model));
    }
  }
  Sequences sequences(*table);
  sequences.tokenize(*table, weights->plan);
  const std::size_t rows = table->rows();
  TorchTransformer net(*weights, options.threads, 1.0);
  Scores by_torch(rows), by_runtime(rows);
  const auto loss = score_by_torch(net, sequences, 0, rows, by_torch);
  const auto model = Transformer::create(*weights, {.storage = Transformer::Storage::kFloat});
  if (!model) return failed(model.error().message);
  score_by_runtime(*model, sequences, rows, by_runtime);
  const auto [largest, compared] = difference(by_torch, by_runtime);
  if (!options.scores.empty()) {
    models::TensorFile file;
    const auto put = [&](const std::string& name, const std::vector<float>& by_position) {
      std::vector<float> by_row(rows);
      for (std::size_t p = 0; p < rows; ++p) by_row[sequences.row[p]] = by_position[p];
      file.put<float>(name, {rows}, by_row);
    };
    put("surprise", by_runtime.surprise);
    put("surprise.libtorch", by_torch.surprise);
    if (!weights->label.empty()) {
      put("label_logit", by_runtime.label_logit);
      put("label_logit.libtorch", by_torch.label_logit);
    }
    if (const auto written = file.write(options.scores); !written) return failed(written.error().message);
  }
  fmt::print("{{\"events\":{},\"mean_surprise\":{:.6f},\"compared\":{},\"difference_max\":{:.3g}}}\n", rows,
             loss.surprise_mean(), compared, largest);
  return largest > kDifferenceMax
             ? failed(fmt::format("the runtime's scores differ from libtorch's by {:.3g}", largest))
             : 0;
}

int run(int argc, char** argv) {
  CLI::App app("Trains the transformer detector's model, or scores events by it in libtorch and in the runtime.",
               "alcedo-train-transformer");
  app.require_subcommand(1);
  Options options;
  CLI::App& train_command = *app.add_subcommand("train", "learns from EVENTS, writes MODEL (both safetensors)");
  train_command
      .add_option("EVENTS", options.events,
                  "entity I64 [N], time_ms I64 [N], columns F32 [N,K], label I8 [N]; text columns")
      ->required();
  train_command.add_option("MODEL", options.model)->required();
  train_command.add_option("--steps", options.steps, "at most so many steps, of some 1,500 events each")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  train_command.add_option("--passes", options.passes, "at most so many times over the events")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000));
  train_command.add_option("--bins", options.bins, "at most so many bins a column")
      ->capture_default_str()
      ->check(CLI::Range(4, 32));
  train_command.add_option("--events-max", options.rows_max, "entities are left out, by seed, beyond so many events")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000'000));
  train_command.add_option("--holdout", options.holdout, "share of the events, the last ones, to stop by")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.9));
  train_command.add_option("--seed", options.seed)->capture_default_str();
  train_command.add_option("--learning-rate", options.learning_rate)
      ->capture_default_str()
      ->check(CLI::Range(1e-6, 1.0));
  CLI::App& score_command =
      *app.add_subcommand("score", "scores EVENTS by MODEL, writes SCORES, and compares libtorch with the runtime");
  score_command.add_option("EVENTS", options.events)->required();
  score_command.add_option("MODEL", options.model)->required();
  score_command.add_option("SCORES", options.scores,
                           "surprise F32 [N], surprise.libtorch F32 [N], label_logit where the model has it");
  for (CLI::App* command : {&train_command, &score_command}) {
    command->add_option("--threads", options.threads)->capture_default_str()->check(CLI::Range(1, 256));
  }
  CLI11_PARSE(app, argc, argv);
  return train_command.parsed() ? train(options) : score(options);
}

}  // namespace
}  // namespace alcedo::training

int main(int argc, char** argv) {
  try {
    return alcedo::training::run(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "alcedo-train-transformer: %s\n", exception.what());
    return 1;
  }
}
