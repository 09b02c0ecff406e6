// Turns raw scores into tail probabilities while no trained calibration exists: learnt from the stream, then frozen.
#pragma once

#include <cstdint>
#include <vector>

#include "core/state_stream.h"

namespace alcedo::decide {

/// Integer histogram of scores >= 0 in log buckets of about 2 %, with a Pareto tail fitted above its 99 % quantile.
///
/// Where fewer than 20 scores are above 0 there is nothing to fit: beyond the highest seen, and at least 1, a tail with
/// the index of Student's t with 3 degrees of freedom is assumed, so that a first extreme after a long calm is not
/// lost.
///
/// Source   Hill, "A simple general approach to inference about the tail of a distribution", 1975, on bucketed scores.
/// Repeats  Counts are integers: any order of add() and merge() gives the same sketch.
/// Cost     add() and surprise() a few ns; publish() about 20 us; 8 KB.
class TailSketch {
 public:
  TailSketch();

  void add(float score);
  /// What was added so far becomes what surprise() answers from. Does nothing while less than 2 % is new, unless it is
  /// the last time.
  void publish(bool last = false);

  /// Divides all counts by 2^halvings, rounding down: what is older weighs less. The published answers stay until the
  /// next publish().
  void fade(int halvings);

  /// -log10 of the share of published scores at or above `score`; continuous and non-decreasing in it; 0 while nothing
  /// is published.
  double surprise(float score) const;
  /// Scores added and not faded; those that surprise() knows of.
  std::uint64_t count() const { return count_; }
  std::uint64_t published() const { return published_; }

  /// The counts and what was published of them, 160 bytes to 11 KB. Equal sketches give equal bytes.
  void save(StateWriter& writer) const;
  /// Replaces everything by what was saved; refuses what add(), fade() and publish() could not have left. Throw the
  /// sketch away after a refusal.
  void load(StateReader& reader);

 private:
  static constexpr int kOctaveBits = 5;
  static constexpr int kLowestExponent = -10;
  static constexpr int kBuckets = 1 + (40 << kOctaveBits);
  static int bucket_of(float score);
  static double lower_edge(int bucket);
  void load_published(StateReader& reader);

  std::vector<std::uint32_t> counts_;
  std::vector<float> surprise_at_edge_;  // at each bucket's lower edge, as of publish()
  std::uint64_t count_ = 0;
  std::uint64_t published_ = 0;
  std::uint64_t fresh_ = 0;   // added since publish()
  double tail_from_ = 0;      // Pareto beyond this score
  double tail_surprise_ = 0;  // at tail_from_
  double tail_index_ = 0;     // 1 / xi; 0: no tail fitted yet
};

}  // namespace alcedo::decide
