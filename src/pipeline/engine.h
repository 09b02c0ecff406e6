// (state, ordered inputs) -> verdicts and incidents: the stages of one pipeline in lockstep, without I/O, clock or
// randomness.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/label_input.h"
#include "core/result.h"
#include "core/verdict.h"
#include "decide/decider.h"
#include "decide/incident_folder.h"
#include "decide/silence.h"
#include "features/event_columns.h"
#include "features/plan.h"
#include "features/stage.h"
#include "features/vector_store.h"
#include "models/detector.h"
#include "models/learned_scorer.h"
#include "pipeline/checkpointer.h"
#include "pipeline/pipeline_file.h"
#include "pipeline/sequencer.h"
#include "pipeline/worker_pool.h"

namespace alcedo::pipeline {

/// What the engine says about the rows of one batch. Rows are those of the batch; only rows in its `order` are set.
struct EngineOutput {
  FeatureMatrix features;
  std::vector<float> raw;                     // rows x detectors: scores, NaN where a detector abstains
  std::vector<float> surprises;               // rows x detectors: -log10 tail probability
  std::vector<decide::TypeVerdict> verdicts;  // rows x types
  std::vector<IncidentChange> changes;        // of the batch, in position order
};

/// Threads  One at a time; it uses the pool's workers inside.
/// Repeats  The same inputs in the same order give bit-identical outputs, however they are cut into batches and for any
/// number of
///          workers.
class Engine {
 public:
  /// Errors: kInvalidArgument from the feature plan, or from a bundle that was trained on other features; kCorrupt: its
  /// calibration cannot be read.
  static Result<std::unique_ptr<Engine>> create(const Pipeline& pipeline, WorkerPool& pool);

  /// Takes the events in batch.order, and the ticks and labels that fall between them (each ascending in `before`).
  void process(const EventBatch& batch, std::span<const Tick> ticks, EngineOutput& out,
               std::span<const LabelInput> labels = {});

  /// What moved a type's score for a row of the batch that was just processed, strongest first. Cost: microseconds,
  /// allocates.
  decide::Explanation explain(const EventBatch& batch, std::uint32_t row, std::size_t type,
                              const EngineOutput& out) const;

  /// While off, evidence is seen and learnt from but opens no incident (warm-up).
  void set_alerting(bool on) { alerting_ = on; }

  /// From now on the newest vector of each entity is kept for readers of any thread; before the first batch. Without it
  /// vectors() is null and keeping costs nothing.
  void keep_vectors(const features::VectorStore::Options& options);
  const features::VectorStore* vectors() const { return vectors_.get(); }

  /// From now on what changed between captures is known; before the first batch.
  void track_changes();
  /// The state of all entities as it is now is to become epoch `epoch` of a CheckpointStore: what changed since the
  /// last capture, or all. Cost: constant.
  void begin_capture(std::uint32_t epoch, bool all);
  /// Appends up to `rows_max` rows of that state, and those that events overtook, in ascending order of stages and key
  /// groups. True: there are no more.
  bool capture(std::size_t rows_max, features::CapturedRows& out);
  /// The last capture came to nothing: the next one is of all entities.
  void capture_lost();
  /// Adds an entity's row of a checkpoint whose stage `stage` had this schema. `cold`: it stays in the store, where
  /// keep_cold()'s reader finds it; only with the plan that wrote it. Errors: as of KeyedStage::load_entity().
  Result<> load_row(std::size_t stage, const features::StateSchema& schema, std::uint8_t group, std::uint64_t entity,
                    std::string_view row, std::uint32_t epoch, bool cold);

  /// What rows of a stage hold; what would become of rows that hold something else.
  const features::StateSchema& schema(std::size_t stage) const { return stages_.front()[stage].schema(); }
  features::StateReport compare(std::size_t stage, const features::StateSchema& saved) const {
    return stages_.front()[stage].compare(saved);
  }
  /// Appends the state that is no entity's; ids are below 1000 or above 2^62. Cost: a copy; tens of KB.
  void save_parts(std::vector<StatePart>& parts) const;
  /// Takes one of them back, before the first batch. Returns what a person should know of it, or nothing. Errors:
  /// kCorrupt, or `reader` says what is wrong.
  Result<std::string> load_part(std::uint64_t id, StateReader& reader);
  /// When all rows and parts have been loaded.
  void finish_load();

  using ColdReader = std::function<Result<std::string>(std::uint32_t stage, std::uint8_t group, std::uint64_t entity,
                                                       std::uint32_t epoch)>;
  /// Entities that were not used lately may leave memory: evict(). `read` is called by any worker.
  void keep_cold(const ColdReader& read);
  /// Between two batches: if the state of entities exceeds `bytes_max`, gives back so many cold ones that the next
  /// batch of `rows` finds room without more memory. Only such as are in the store as of epoch `published`. False: not
  /// enough could be given back.
  bool evict(std::size_t bytes_max, std::size_t rows, std::uint32_t published);
  std::size_t resident_entities() const;
  /// A cold entity could not be read: the outputs since then are of no use.
  const Error* fault() const;

  const features::FeaturePlan& plan() const { return plan_; }
  const decide::Decider& decider() const { return decider_; }
  std::size_t num_detectors() const { return pipeline_.detectors.size(); }
  std::size_t num_types() const { return pipeline_.anomalies.size(); }
  std::size_t open_incidents() const { return folder_.open(); }
  std::size_t entities() const;
  std::size_t state_bytes() const;

 private:
  Engine(const Pipeline& pipeline, WorkerPool& pool, features::FeaturePlan plan);
  Result<> use_bundle();
  void score_rows(const EventBatch& batch, std::size_t first, std::size_t last, EngineOutput& out) const;
  void explain_deviation(const EventBatch& batch, std::uint32_t row, std::size_t detector,
                         std::span<const float> features, const std::string& who, decide::Explanation& to) const;
  void explain_sum(std::size_t index, std::span<const float> features, const std::string& who,
                   decide::Explanation& to) const;
  void explain_learned(const EventBatch& batch, std::uint32_t row, std::size_t detector,
                       std::span<const float> features, const std::string& who, decide::Explanation& to) const;
  void decide_rows(const EventBatch& batch, std::span<const Tick> ticks, EngineOutput& out);
  void tick(const Tick& tick, EngineOutput& out);
  void fold(const EventBatch& batch, std::uint32_t row, std::size_t type, EngineOutput& out);
  void watch_silence(const EventBatch& batch, std::uint32_t row, EngineOutput& out);
  /// Divides money by its currency's minor units; 1 for everything else.
  double unit_of(const EventBatch& batch, std::uint32_t row, std::uint32_t feature, std::string_view column,
                 std::string* currency) const;

  struct Watch {  // one `absent` vote of one type
    std::uint32_t type = 0;
    std::uint32_t detector = 0;
    std::uint64_t part = 0;  // its StatePart::id
    decide::SilenceWatch silence;
    bool loaded = false;
  };

  Pipeline pipeline_;
  WorkerPool& pool_;
  features::FeaturePlan plan_;
  features::EventColumns event_columns_;
  features::GlobalBaselines global_;
  std::vector<std::vector<features::KeyedStage>> stages_;  // [worker][stage]
  std::unique_ptr<features::VectorStore> vectors_;         // null: nobody reads
  std::vector<std::vector<std::uint32_t>> rows_;           // [worker] scratch
  std::vector<std::vector<const LabelInput*>> labels_;     // [worker] scratch
  std::vector<std::uint32_t> snapshots_;
  std::vector<models::DeviationDetector> detectors_;  // by detector; empty wishes for absent ones
  models::LearnedScorer learned_;
  std::vector<Watch> watches_;
  decide::Decider decider_;
  decide::IncidentFolder folder_;
  std::uint64_t tick_sequence_ = 0;  // numbers what one input's ticks cause
  std::uint32_t tick_index_ = 0;
  bool alerting_ = true;
};

}  // namespace alcedo::pipeline
