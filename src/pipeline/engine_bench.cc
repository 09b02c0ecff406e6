// What an event of pipelines/payments costs one core from its JSON bytes: up to the whole feature vector, and up to the
// verdict.
#include "pipeline/engine.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "contract/decoder.h"
#include "core/event.h"
#include "core/time.h"
#include "features/stage.h"
#include "ingest/simulate/simulate_source.h"
#include "pipeline/pipeline_file.h"
#include "pipeline/sequencer.h"
#include "pipeline/worker_pool.h"

namespace alcedo::pipeline {
namespace {

constexpr std::size_t kBatch = 1024;
constexpr std::size_t kPrefetchAhead = 16;

// Time that this thread ran, so that neighbours on the machine count less.
double thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// The parts that the runner puts together, without its threads, journal and ledger.
class Payments {
 public:
  static std::unique_ptr<Payments> create(std::int64_t cards) {
    auto loaded = load_pipeline(std::string(ALCEDO_SOURCE_DIR) + "/pipelines/payments/pipeline.yaml");
    if (!loaded || !loaded->mistakes.empty()) return nullptr;
    const std::string number = fmt::format("{}", cards);
    auto source = ingest::open_simulation(
        {"simulate", "payments", {{"cards", number}}, fmt::format("simulate:payments?cards={}", cards)});
    auto decoder = contract::Decoder::create(loaded->pipeline.events, {1, 2, 3});
    if (!source || !decoder || !decoder->open_partition(0, {})) return nullptr;
    auto plan = features::FeaturePlan::compile(loaded->pipeline.features);
    if (!plan) return nullptr;
    return std::unique_ptr<Payments>(
        new Payments(std::move(loaded->pipeline), *std::move(source), *std::move(decoder), *std::move(plan)));
  }

  /// Draws the next records; the load's cost, not the pipeline's.
  void draw() {
    raw_.clear();
    const auto drawn = source_->read(0, raw_, kBatch, std::chrono::milliseconds(0));
    if (!drawn || *drawn != ingest::ReadState::kMore) std::abort();
    raw_.pad();
  }
  /// Bytes -> rows in their order.
  void decode_and_admit() {
    batch_.reset(raw_.size(), 1);
    ticks_.clear();
    for (std::size_t i = 0; i < raw_.size(); ++i) {
      if (decoder_.decode(raw_, i, batch_, i, 0, scratch_).events != 1) std::abort();
    }
    for (std::uint32_t row = 0; row < raw_.size(); ++row) {
      if (row + kPrefetchAhead < raw_.size()) sequencer_.prefetch(batch_.header(row + kPrefetchAhead).id_hash);
      if (sequencer_.admit(batch_.header(row)) == Admission::kAccepted) batch_.order.push_back(row);
      if (auto tick = sequencer_.take_tick()) {
        tick->before = batch_.order.size();
        ticks_.push_back(*tick);
      }
    }
  }
  /// Rows -> vectors, as Engine::process() does it with one worker.
  void make_vectors() {
    vectors_.reset(batch_.rows(), plan_.columns().size());
    snapshots_.resize(batch_.rows());
    global_.begin_batch();
    std::size_t next_tick = 0;
    for (std::size_t i = 0; i < batch_.order.size(); ++i) {
      for (; next_tick < ticks_.size() && ticks_[next_tick].before <= i; ++next_tick) global_.tick();
      snapshots_[batch_.order[i]] = global_.add(batch_, batch_.order[i]);
    }
    for (; next_tick < ticks_.size(); ++next_tick) global_.tick();
    for (features::KeyedStage& stage : stages_) stage.process(batch_, batch_.order, global_, snapshots_, vectors_);
  }
  void make_verdicts() {
    if (!engine_) engine_ = *Engine::create(pipeline_, pool_);
    engine_->process(batch_, ticks_, output_);
  }

  std::size_t rows() const { return batch_.order.size(); }
  std::size_t columns() const { return plan_.columns().size(); }
  std::size_t entities() const {
    if (engine_) return engine_->entities();
    std::size_t sum = 0;
    for (const features::KeyedStage& stage : stages_) sum += stage.entities();
    return sum;
  }
  std::size_t state_bytes() const {
    if (engine_) return engine_->state_bytes();
    std::size_t sum = 0;
    for (const features::KeyedStage& stage : stages_) sum += stage.state_bytes();
    return sum;
  }

 private:
  Payments(Pipeline pipeline, std::unique_ptr<ingest::Source> source, contract::Decoder decoder,
           features::FeaturePlan plan)
      : pipeline_(std::move(pipeline)),
        source_(std::move(source)),
        decoder_(std::move(decoder)),
        plan_(std::move(plan)),
        sequencer_({pipeline_.events.lateness_ms, pipeline_.events.ahead_ms, pipeline_.duplicates, kSecondMs}),
        global_(plan_),
        batch_(decoder_.layout()) {
    for (std::size_t s = 0; s < plan_.stages().size(); ++s) stages_.emplace_back(plan_, s);
  }

  Pipeline pipeline_;
  std::unique_ptr<ingest::Source> source_;
  contract::Decoder decoder_;
  contract::Decoder::Scratch scratch_;
  features::FeaturePlan plan_;
  Sequencer sequencer_;
  features::GlobalBaselines global_;
  std::vector<features::KeyedStage> stages_;
  WorkerPool pool_{1};
  std::unique_ptr<Engine> engine_;
  RawBatch raw_;
  EventBatch batch_;
  std::vector<Tick> ticks_;
  std::vector<std::uint32_t> snapshots_;
  FeatureMatrix vectors_;
  EngineOutput output_;
};

// range(0): cards. Measured after three payments a card have been seen.
void BM_Payments(benchmark::State& state, bool verdicts) {
  auto payments = Payments::create(state.range(0));
  if (!payments) {
    state.SkipWithError("pipelines/payments was refused");
    return;
  }
  const auto work = [&] { verdicts ? payments->make_verdicts() : payments->make_vectors(); };
  for (std::int64_t events = 0; events < 3 * state.range(0); events += kBatch) {
    payments->draw();
    payments->decode_and_admit();
    work();
  }
  double decode_ns = 0;
  double work_ns = 0;
  std::size_t events = 0;
  for (auto _ : state) {
    payments->draw();
    const double begin_ns = thread_ns();
    payments->decode_and_admit();
    const double decoded_ns = thread_ns();
    work();
    const double end_ns = thread_ns();
    decode_ns += decoded_ns - begin_ns;
    work_ns += end_ns - decoded_ns;
    events += payments->rows();
    state.SetIterationTime((end_ns - begin_ns) * 1e-9);
  }
  const auto count = static_cast<double>(events);
  state.SetItemsProcessed(static_cast<std::int64_t>(events));
  state.counters["ns_per_event"] = (decode_ns + work_ns) / count;
  state.counters["decode_ns"] = decode_ns / count;
  state.counters["columns"] = static_cast<double>(payments->columns());
  state.counters["entities"] = static_cast<double>(payments->entities());
  state.counters["state_MB"] = static_cast<double>(payments->state_bytes()) / 1e6;
}
BENCHMARK_CAPTURE(BM_Payments, vectors, false)
    ->ArgName("cards")
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->MinTime(2)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Payments, verdicts, true)
    ->ArgName("cards")
    ->Arg(100'000)
    ->MinTime(2)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace alcedo::pipeline
