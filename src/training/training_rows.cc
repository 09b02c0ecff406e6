// Which rows stay is a function of their place in the stream, so a second run keeps the same ones.
#include "training/training_rows.h"

#include <algorithm>

#include "core/check.h"
#include "core/hash.h"

namespace alcedo::training {
namespace {

bool stays(std::uint64_t number, int halvings) { return (mix64(number) & ((std::uint64_t{1} << halvings) - 1)) == 0; }

}  // namespace

TrainingRows::TrainingRows(std::size_t columns, std::size_t detectors, std::size_t types, std::size_t rows_max)
    : columns_(columns), detectors_(detectors), types_(types), rows_max_(rows_max) {
  CHECK(rows_max >= 2);
}

void TrainingRows::add(std::span<const float> features, std::span<const float> raw, std::span<const std::uint8_t> keys,
                       Label label, std::int64_t time_ms) {
  CHECK(features.size() == columns_ && raw.size() == detectors_ && keys.size() == types_);
  const std::uint64_t number = seen_++;
  const bool anomalous = label >= kFirstLabelType;
  if (!anomalous && !stays(number, halvings_)) return;
  features_.insert(features_.end(), features.begin(), features.end());
  raw_.insert(raw_.end(), raw.begin(), raw.end());
  keys_.insert(keys_.end(), keys.begin(), keys.end());
  labels_.push_back(label);
  times_ms_.push_back(time_ms);
  numbers_.push_back(number);
  thinnable_ += anomalous ? 0 : 1;
  while (size() > rows_max_ && thinnable_ > 1 && halvings_ < 30) thin();
}

void TrainingRows::thin() {
  ++halvings_;
  std::size_t to = 0;
  thinnable_ = 0;
  for (std::size_t row = 0; row < size(); ++row) {
    const bool anomalous = is_anomalous(row);
    if (!anomalous && !stays(numbers_[row], halvings_)) continue;
    if (to != row) {
      const auto move = [&](auto& values, std::size_t width) {
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * width), width,
                    values.begin() + static_cast<std::ptrdiff_t>(to * width));
      };
      move(features_, columns_);
      move(raw_, detectors_);
      move(keys_, types_);
      move(labels_, 1);
      move(times_ms_, 1);
      move(numbers_, 1);
    }
    thinnable_ += anomalous ? 0 : 1;
    ++to;
  }
  features_.resize(to * columns_);
  raw_.resize(to * detectors_);
  keys_.resize(to * types_);
  labels_.resize(to);
  times_ms_.resize(to);
  numbers_.resize(to);
}

}  // namespace alcedo::training
