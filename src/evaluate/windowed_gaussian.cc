// Sums are kept so that a constant series has a deviation of exactly 0: a running sum of squares would not.
#include "evaluate/windowed_gaussian.h"

#include <cmath>

namespace alcedo::evaluate {
namespace {
constexpr double kDeviationOfConstant = 1e-6;  // what NAB puts in place of 0
}  // namespace

double WindowedGaussian::score(double value) {
  double result = 0;
  if (!values_.empty()) result = 1.0 - 0.5 * std::erfc(std::fabs(value - mean_) / deviation_ / std::sqrt(2.0));
  values_.push_back(value);
  if (values_.size() <= window_) {  // Welford's update
    const double delta = value - mean_;
    mean_ += delta / static_cast<double>(values_.size());
    squares_ += delta * (value - mean_);
  } else {
    if (values_.size() < window_ + step_) return result;
    values_.erase(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(step_));
    double sum = 0;  // of differences from one of the values: the mean of a constant is then that constant
    for (const double v : values_) sum += v - values_.front();
    mean_ = values_.front() + sum / static_cast<double>(values_.size());
    squares_ = 0;
    for (const double v : values_) squares_ += (v - mean_) * (v - mean_);
  }
  deviation_ = std::sqrt(squares_ / static_cast<double>(values_.size()));
  if (deviation_ == 0) deviation_ = kDeviationOfConstant;
  return result;
}

double WindowedGaussian::as_published(double score) { return std::round(score * 1e12) / 1e12; }

}  // namespace alcedo::evaluate
