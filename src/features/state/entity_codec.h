// One entity's state to a row and back: every part by its meaning, never by where it stands in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "features/deviation.h"
#include "features/operators/operator.h"
#include "features/record_pool.h"
#include "features/stage_program.h"
#include "features/state/segment.h"
#include "features/window_ring.h"

namespace alcedo::features {

/// The memory that the handles of a stage's records point into.
struct EntityMemory {
  RingStore& rings;
  QuartileStore& quartiles;
  RecordPool& pending;
  RecordPool& counters;
  std::span<const std::unique_ptr<Operator>> operators;
};

/// Row: i64 clock, then for each part of the schema, in its order, a length and that many bytes; a part that is as in a
/// new entity has none. Equal state gives equal bytes. The layout of each part: docs/features.md, "State".
///
/// Threads  One at a time.
class EntityCodec {
 public:
  /// All arguments must outlive the codec.
  EntityCodec(const FeaturePlan& plan, const StageProgram& program, EntityMemory memory);

  const StateSchema& schema() const { return schema_; }
  /// By part: the features that read it, as indices into schema().features.
  const std::vector<std::vector<std::uint32_t>>& readers() const { return readers_; }

  /// Appends the record's row.
  void save(const std::byte* record, std::string& row) const;
  /// Fills a record that is all zero. If the reader says no afterwards, the record holds nothing that release() cannot
  /// free.
  void load(std::byte* record, const PartSources& sources, StateReader& row) const;
  /// Gives back all memory outside of the record.
  void release(std::byte* record) const;

 private:
  enum class PartKind : std::uint8_t { kCounter, kShift, kWindow, kOperator, kDeviation };
  struct Part {
    PartKind kind;
    std::uint32_t index;       // into the program's numbers, rings, operators or deviations
    std::uint32_t window = 0;  // kWindow: into NumberRings::rings
  };
  struct SavedRing;

  void add_part(Part part, std::string name, std::string_view meaning, std::uint8_t encoding,
                std::vector<std::uint32_t> readers);
  void save_part(const Part& part, const std::byte* record, StateWriter& writer) const;
  template <typename Totals>
  void save_ring(const Ring<Totals>& ring, StateWriter& writer) const;
  static SavedRing read_ring(RingKind kind, std::string_view bytes, std::int64_t newest, const std::string& name,
                             StateReader& row);
  template <typename Totals>
  void load_rings(std::uint32_t number, std::byte* record, const PartSources& sources,
                  std::span<const std::string_view> slices, StateReader& row) const;
  void load_deviation(const DeviationStep& step, std::byte* record, StateReader& reader) const;

  const StageProgram& program_;
  EntityMemory memory_;
  StateSchema schema_;
  std::vector<Part> parts_;
  std::vector<std::vector<std::uint32_t>> readers_;
  std::vector<std::uint32_t> shift_part_;  // by NumberRings: its part; the parts of its windows follow
};

}  // namespace alcedo::features
