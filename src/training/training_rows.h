// What training sees of a stream: feature rows, the detectors' raw scores and what is known of the truth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/event.h"

namespace alcedo::training {

/// Collects rows in stream order. Past rows_max it keeps every other row that is not labelled anomalous, again and
/// again: the kept ones then stand for 2, 4, ... rows.
///
/// Repeats  The same rows keep the same rows. Memory: 4 bytes a column and a detector, and 24, for each row.
/// Threads  One at a time.
class TrainingRows {
 public:
  TrainingRows(std::size_t columns, std::size_t detectors, std::size_t types, std::size_t rows_max);

  /// keys: by anomaly type whether the event has the entity that the type is about.
  void add(std::span<const float> features, std::span<const float> raw, std::span<const std::uint8_t> keys, Label label,
           std::int64_t time_ms);

  std::size_t size() const { return times_ms_.size(); }
  std::size_t columns() const { return columns_; }
  std::uint64_t seen() const { return seen_; }
  /// How many rows of the stream a row stands for.
  std::uint32_t weight(std::size_t row) const { return is_anomalous(row) ? 1 : 1U << halvings_; }

  std::span<const float> features(std::size_t row) const { return {features_.data() + row * columns_, columns_}; }
  std::span<const float> raw(std::size_t row) const { return {raw_.data() + row * detectors_, detectors_}; }
  std::span<float> raw(std::size_t row) { return {raw_.data() + row * detectors_, detectors_}; }
  bool has_key(std::size_t row, std::size_t type) const { return keys_[row * types_ + type] != 0; }
  Label label(std::size_t row) const { return labels_[row]; }
  bool is_anomalous(std::size_t row) const { return labels_[row] >= kFirstLabelType; }
  std::int64_t time_ms(std::size_t row) const { return times_ms_[row]; }

 private:
  void thin();

  std::size_t columns_, detectors_, types_, rows_max_;
  int halvings_ = 0;
  std::uint64_t seen_ = 0;
  std::size_t thinnable_ = 0;
  std::vector<float> features_, raw_;
  std::vector<std::uint8_t> keys_;
  std::vector<Label> labels_;
  std::vector<std::int64_t> times_ms_;
  std::vector<std::uint64_t> numbers_;  // of a row in the stream
};

}  // namespace alcedo::training
