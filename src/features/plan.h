// Which features a pipeline asks for, and the columns, stages and state that they compile to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/result.h"

namespace alcedo::features {

/// The numbers are part of saved state's fingerprints: new kinds come last.
enum class FeatureKind : std::uint8_t {
  kRolling,   // stats of a number over windows
  kVelocity,  // events and amount a window, ratios of the windows' rates, gap since the last event
  kBaseline,  // a number against its own history
  // Worked by operators (operator.h):
  kGeo,           // speed from the last place, distance from the learnt home
  kDistinct,      // how many different values of another key in each window
  kQuantiles,     // quartiles of a number in each window
  kRarity,        // how often the entity showed this value of another key, against how often it showed any
  kCorrelation,   // Pearson's correlation of two numbers over windows
  kContext,       // how much history the entity has, how late the event is, how many of its numbers are missing
  kSeason,        // a number against its own hour of the week
  kRobust,        // a number against median and MAD of its last 64 values
  kCusum,         // slow shifts of a number's level
  kPeers,         // a member's number against the newest ones of the other members of its group
  kTwins,         // Pearson's correlation of a member with the mean of the other members of its group, and its break
  kGlobalRarity,  // how often any entity showed this value: the stage is the value's
  kTransition,    // how usual this value of another key is after the entity's previous one
  kConfirmed,     // how many of the entity's events turned out anomalous, by labels that became known later
  // Of the event alone (event_columns.h):
  kValue = 17,     // its own numbers
  kCalendar = 18,  // the hour of its day, the day of its week
  // Worked by operators too:
  kDiscord,  // the shape of a number's newest values against all shapes of its past
  kUnusual,  // how rare a number's distance from its level is, by the entity's own past
};

enum class Stat : std::uint8_t { kCount, kSum, kMean, kStd, kMin, kMax };
inline constexpr std::string_view kStatNames[] = {"count", "sum", "mean", "std", "min", "max"};

struct FeatureSpec {
  std::string name;
  FeatureKind kind = FeatureKind::kRolling;
  int number = -1;  // slot in EventLayout::numbers; -1: events are only counted (velocity without a number)
  int key = -1;     // slot in EventLayout::keys: the entity; -1 for kinds that are of the event alone
  int number_2 =
      -1;  // kGeo: the longitude's slot (number is the latitude's), degrees; kCorrelation: the second number's
  // kDistinct, kRarity, kTransition: slot of the key whose values are looked at; kCorrelation, kTwins: of the metric's
  // name
  int other_key = -1;
  // kPeers, kTwins: slot of the key that tells the members of a group apart; key is the group's
  int member_key = -1;
  std::vector<std::string>
      metrics;               // kCorrelation, kTwins of a long or wide stream: the two metrics' names, or the one
  std::vector<Stat> stats;   // kRolling
  std::vector<int> numbers;  // kValue: slots in EventLayout::numbers
  // kRolling, kVelocity, kDistinct, kQuantiles, kCorrelation, kTwins, kConfirmed; ascending, each a multiple of 60 ms
  std::vector<std::int64_t> windows_ms;
  bool including = false;  // windows read after the event is added, instead of the past only
  // kBaseline, and the deviations that detectors ask of other columns:
  std::int64_t half_life_ms = 14 * 86'400'000LL;
  std::int64_t accept_ms = 0;  // a new level is accepted after deviating this long; 0: half_life / 8
  // kSeason, kRobust, kCusum use them too.
  std::uint32_t min_history = 20;  // values before a deviation counts; below, the global baseline serves (baselines
                                   // only); kPeers: other members; kConfirmed: events whose truth is known
  // kConfirmed:
  int label_type = -1;        // index into EventLayout::label_types; -1: any
  std::int64_t delay_ms = 0;  // an event's truth is known so long after it
  double prior = 20;          // events at everyone's rate that are added to the entity's own
  // kDiscord:
  std::uint32_t shape_values = 8;     // how many of the newest values make a shape
  std::uint32_t past_values = 4'000;  // among how many of the last values it is looked for
};

enum class DeviationMethod : std::uint8_t {
  kEwma,       // distance from the decayed mean in decayed standard deviations
  kQuartiles,  // distance beyond the quartiles of the last 64 values, in multiples of the IQR
};

/// Whether the feature judges its number itself: then it is a deviation of its own, asked for by the feature's name
/// alone.
constexpr bool judges_its_number(FeatureKind kind) {
  return kind == FeatureKind::kBaseline || kind == FeatureKind::kSeason || kind == FeatureKind::kRobust ||
         kind == FeatureKind::kPeers;
}

/// A detector's wish: how far is this column from the entity's own history of it? For a feature that judges its number
/// itself the column is that number; for others each of the feature's columns.
struct DeviationRequest {
  std::uint32_t feature = 0;  // index into FeatureOptions::features
  std::string column;         // "" for all of the feature's, or one such as "events_1m"
  DeviationMethod method = DeviationMethod::kEwma;
};

struct FeatureOptions {
  EventLayout layout;
  std::vector<FeatureSpec> features;
  std::vector<DeviationRequest> deviations;
  // An entity whose newest event is older than this at a tick is forgotten: its next event is its first. 0: never.
  std::int64_t forget_ms = 0;
};

/// Deviation::request of a feature's own judgement of its number that no detector asked for.
inline constexpr std::uint32_t kNoRequest = 0xFFFFFFFF;

/// The columns of one deviation in the feature matrix.
struct Deviation {
  std::uint32_t request = 0;  // which DeviationRequest asked first, or kNoRequest; equal requests share one Deviation
  std::uint32_t feature = 0;
  std::string name;  // "habit", or "pace.events_1m"
  DeviationMethod method = DeviationMethod::kEwma;
  std::uint32_t seen = 0;      // column with the value itself
  std::uint32_t expected = 0;  // mean, or median
  std::uint32_t spread = 0;    // standard deviation, or IQR
  std::uint32_t z = 0;         // signed; NaN: no opinion
  std::uint32_t history = 0;   // values behind it; below min_history the global baseline served
  std::uint32_t min_history = 0;
  bool by_operator = false;  // the feature's operator writes all its columns, from state of its own
};

struct Column {
  std::string name;  // "spend.count_1m", "habit.expected", "pace.events_1m.z"
  std::uint32_t feature = 0;
};

/// Columns, in this order: each feature's own (rolling: stat by stat, windows within; velocity: events, amounts,
/// ratios, gap_s; baseline: seen, expected, spread, z, history), then the deviations asked for, in the order of the
/// requests. Deviations: the features' own first (baseline; season, robust and peers, whose columns an operator
/// writes), then in the order of the requests.
///
/// Immutable; shared by all workers.
class FeaturePlan {
 public:
  /// Errors: kInvalidArgument, naming feature and what is wrong (a slot out of range, no windows, an unknown column). A
  /// name must not be empty, used twice, or hold a '.'.
  static Result<FeaturePlan> compile(FeatureOptions options);

  const FeatureOptions& options() const { return options_; }
  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<Deviation>& deviations() const { return deviations_; }
  /// Deviations that serve request `i`, as indices into deviations().
  const std::vector<std::uint32_t>& deviations_of(std::size_t request) const { return by_request_[request]; }
  int find_column(std::string_view name) const;  // -1 if there is none
  /// Key slots that have a stage, in order.
  const std::vector<std::uint32_t>& stages() const { return stages_; }
  /// Estimated state of one entity of a stage, bytes, with sparse windows.
  std::size_t state_bytes_per_entity(std::size_t stage) const;

 private:
  FeatureOptions options_;
  std::vector<Column> columns_;
  std::vector<Deviation> deviations_;
  std::vector<std::vector<std::uint32_t>> by_request_;
  std::vector<std::uint32_t> stages_;
};

}  // namespace alcedo::features
