// Labels from a file beside the events: a row says which event, what it was, and when that became known.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "contract/decoder.h"
#include "core/event.h"
#include "core/result.h"
#include "ingest/source.h"
#include "pipeline/checkpointer.h"
#include "pipeline/pipeline_file.h"

namespace alcedo::pipeline {

/// Rows in ascending order of their files, several files merged by the time at which a label became known.
///
/// Threads  One at a time.
class LabelReader {
 public:
  struct Row {
    std::uint64_t id_hash = 0;
    std::int64_t known_ms = 0;
    std::int64_t offset = 0;
    std::int32_t partition = 0;  // of the source, from kPartitionBase
    Truth truth = 0;             // kTruthTold alone: a person looked and found nothing
  };
  /// Label records are told from events by their partitions, in the journal and in checkpoints.
  static constexpr std::int32_t kPartitionBase = 1 << 17;

  /// `source` must outlive the reader. Rows that are no labels go to `set_aside`.
  /// Errors: kInvalidArgument: a column that `labels` names is not there, with the nearest that is.
  using SetAside = std::function<Result<>(const RawBatch& raw, std::size_t i, const contract::Decoded& why)>;
  static Result<std::unique_ptr<LabelReader>> create(const Pipeline& pipeline, std::array<std::uint8_t, 16> secret,
                                                     ingest::Source& source, SetAside set_aside);
  ~LabelReader();

  /// Whether rows have a time of their own; if not, all are read at once, by load().
  bool has_times() const { return has_times_; }
  /// The next row in the order of known_ms, or null if none is there. Does not wait; what has grown since is seen after
  /// look_again().
  Result<const Row*> peek();
  void look_again();
  /// Takes the row that peek() gave.
  void take();
  /// All rows, by id: the truth that an event will be found to have. Of several the first that says "anomalous" counts.
  Result<> load();
  /// 0: no row.
  Truth find(std::uint64_t id_hash) const;

  /// How far each partition was taken, and going on from there, before the first peek().
  const std::map<std::int32_t, CheckpointRecord::Place>& places() const { return places_; }
  Result<> skip_to(const std::map<std::int32_t, CheckpointRecord::Place>& places, const std::atomic<bool>& stopping);

 private:
  struct Chunk;
  LabelReader(const Pipeline& pipeline, ingest::Source& source, contract::Decoder decoder, SetAside set_aside);
  Result<> fill(std::int32_t partition);

  std::vector<std::string> types_;  // that features ask for
  bool has_type_ = false;
  bool has_times_ = false;
  ingest::Source& source_;
  contract::Decoder decoder_;
  contract::Decoder::Scratch scratch_;
  SetAside set_aside_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
  Chunk* next_ = nullptr;
  std::map<std::int32_t, CheckpointRecord::Place> places_;
  std::vector<std::pair<std::uint64_t, Truth>> by_id_;  // ascending
};

/// Whether features of the pipeline wait for labels of a file.
bool reads_label_file(const Pipeline& pipeline);
/// The source of those labels, or null if none are read. `opened_ms` as of ingest::OpenOptions. Errors: as
/// open_sources().
Result<std::unique_ptr<ingest::Source>> open_labels(const Pipeline& pipeline, bool follow, std::int64_t opened_ms);

}  // namespace alcedo::pipeline
