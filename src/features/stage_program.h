// What one stage does with an event, compiled from the plan: which rings, which columns, and where in an entity's
// record each part is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "features/deviation.h"
#include "features/plan.h"

namespace alcedo::features {

/// What a number's rings must know: the least that its readers need, in ascending order of memory.
enum class RingKind : std::uint8_t { kCount, kSum, kMoments };

/// The columns that one feature reads from one ring.
struct WindowRead {
  static constexpr std::uint32_t kNoColumn = 0xFFFFFFFF;
  std::uint32_t offset = 0;  // of the ring in the record
  bool including = false;
  bool all = false;  // every statistic is read
  std::array<std::uint32_t, std::size(kStatNames)> columns = {kNoColumn, kNoColumn, kNoColumn,
                                                              kNoColumn, kNoColumn, kNoColumn};
  std::uint32_t& column(Stat stat) { return columns[static_cast<std::size_t>(stat)]; }
  std::uint32_t column(Stat stat) const { return columns[static_cast<std::size_t>(stat)]; }
};

/// A column that compares the event rates of two windows.
struct RatioRead {
  std::uint32_t column = 0;
  std::uint32_t short_ring = 0;
  std::uint32_t long_ring = 0;
  double scale = 1;  // long window / short window
  bool including = false;
};

/// All windows of one number (or of bare events) at one stage; features of the same number share them. Bare counts of a
/// number have rings of their own: from counts no sums could be made when a feature that reads sums is added later.
struct NumberRings {
  struct Window {
    std::uint32_t offset = 0;  // of its Ring in the record
    std::uint32_t grain = 0;   // index into StageProgram::grains_ms
    std::int64_t window_ms = 0;
  };
  int number = -1;          // number slot, or -1: every event counts
  std::uint32_t value = 0;  // index into StageProgram::numbers
  RingKind kind = RingKind::kCount;
  std::uint32_t shift_offset = 0;  // kMoments: a double in the record
  std::vector<Window> rings;       // ascending windows
  std::vector<WindowRead> reads;
  std::vector<RatioRead> ratios;
};

/// A deviation and its state in the record.
struct DeviationStep {
  DeviationMethod method = DeviationMethod::kEwma;
  bool baseline = false;     // of a raw number: writes `seen` itself, and is served by the global baseline while cold
  std::uint32_t value = 0;   // baseline: index into StageProgram::numbers
  std::uint32_t offset = 0;  // of its state in the record
  std::uint32_t decay = 0;   // kEwma: index into StageProgram::half_lives_ms
  std::uint32_t feature = 0;
  std::uint32_t seen = 0, expected = 0, spread = 0, z = 0, history = 0;
  EwmaRules rules;
  bool in_metric_steps = false;  // the column is in the metric's own unit: the event's step counts too
};

/// Start of every record.
struct EntityHeader {
  std::int64_t clock_ms;    // time of the newest accepted event
  std::uint64_t hash;       // of its key; 0: a record that is free
  std::uint32_t counters;   // 1 + handle of the last counter readings; 0: the entity never had a counter
  std::uint32_t row_epoch;  // of the checkpoint that has its newest row; 0: none
  std::uint32_t mark;       // whether its newest row has been captured: ChangeTracker's
  std::uint8_t started;     // 0: made for an event that is not yet worked off
  std::uint8_t group;       // the key group, which moves between workers as one
  std::uint8_t used;        // since the last search for cold entities
  std::uint8_t reserved;
};
static_assert(sizeof(EntityHeader) == 32);

/// A feature that an operator works.
struct OperatorStep {
  std::uint32_t feature = 0;
  std::uint32_t offset = 0;        // of its state in the record
  std::uint32_t first_column = 0;  // its columns stand together
  std::uint32_t columns = 0;
  int value = -1;            // index into StageProgram::numbers; -1: the operator reads no such number
  double step = 0;           // the number's least step, as far as the plan knows
  bool reads_total = false;  // EventView::total and usual
};

struct StageProgram {
  std::uint32_t key = 0;
  std::size_t record_bytes = 0;
  std::vector<std::uint32_t> numbers;  // slots that the stage reads
  std::vector<std::int64_t> grains_ms;
  std::vector<std::int64_t> half_lives_ms;
  std::vector<NumberRings> rings;
  std::vector<OperatorStep> operators;
  std::vector<DeviationStep> deviations;
  std::vector<std::uint32_t> gap_columns;
};

StageProgram compile_stage(const FeaturePlan& plan, std::size_t stage);

/// Whether a rolling or velocity feature reads these rings.
bool share_rings(const FeatureSpec& spec, const NumberRings& rings);

/// Record, key and a few occupied buckets and values.
std::size_t estimated_entity_bytes(const StageProgram& program);

/// Names of columns, and the pairs of windows whose rates velocity compares: neighbours, and the shortest with the
/// longest.
std::vector<std::pair<std::size_t, std::size_t>> ratio_windows(const FeatureSpec& spec);
std::string stat_column(const FeatureSpec& spec, Stat stat, std::int64_t window_ms);
std::string velocity_column(const FeatureSpec& spec, std::string_view what, std::int64_t window_ms);
std::string ratio_column(const FeatureSpec& spec, std::int64_t short_ms, std::int64_t long_ms);

}  // namespace alcedo::features
