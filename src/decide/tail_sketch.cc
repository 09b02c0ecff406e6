// Log buckets straight from a float's bits: exponent and the top five bits of the mantissa.
#include "decide/tail_sketch.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace alcedo::decide {
namespace {

constexpr double kAssumedTailIndex = 3;

}  // namespace

TailSketch::TailSketch() : counts_(kBuckets, 0) {}

int TailSketch::bucket_of(float score) {
  constexpr auto kFirst = static_cast<std::uint32_t>((127 + kLowestExponent) << kOctaveBits);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score) >> (23 - kOctaveBits);
  if (!(score > 0) || bits < kFirst) return 0;
  return std::min(static_cast<int>(bits - kFirst) + 1, kBuckets - 1);
}

double TailSketch::lower_edge(int bucket) {
  if (bucket == 0) return 0;
  const auto bits =
      static_cast<std::uint32_t>((127 + kLowestExponent) << kOctaveBits) + static_cast<std::uint32_t>(bucket - 1);
  return std::bit_cast<float>(bits << (23 - kOctaveBits));
}

void TailSketch::add(float score) {
  ++counts_[static_cast<std::size_t>(bucket_of(score))];
  ++count_;
  ++fresh_;
}

void TailSketch::fade(int halvings) {
  count_ = 0;
  for (auto& n : counts_) {
    n >>= halvings;
    count_ += n;
  }
}

void TailSketch::publish(bool last) {
  if (fresh_ == 0 || (!last && fresh_ < published_ / 50 + 1)) return;
  published_ = count_;
  fresh_ = 0;
  surprise_at_edge_.resize(kBuckets + 1);
  // Half a score more than was ever seen, so that the surprise of a new extreme stays finite where no tail could be
  // fitted.
  const double total = static_cast<double>(count_) + 0.5;
  std::uint64_t above = 0;
  int tail_bucket = kBuckets;
  const std::uint64_t wanted = std::max<std::uint64_t>(20, count_ / 100);
  surprise_at_edge_[kBuckets] = static_cast<float>(-std::log10(0.5 / total));
  for (int b = kBuckets - 1; b >= 0; --b) {
    above += counts_[static_cast<std::size_t>(b)];
    surprise_at_edge_[static_cast<std::size_t>(b)] =
        static_cast<float>(-std::log10((static_cast<double>(above) + 0.5) / total));
    if (tail_bucket == kBuckets && above >= wanted) tail_bucket = b;
  }
  surprise_at_edge_[0] = 0;
  tail_index_ = 0;
  if (count_ < 100) return;
  if (tail_bucket < 2) {
    int highest = kBuckets - 1;
    while (highest > 0 && counts_[static_cast<std::size_t>(highest)] == 0) --highest;
    const int from = std::min(std::max(highest, bucket_of(1)) + 1, kBuckets - 1);
    tail_from_ = lower_edge(from);
    tail_surprise_ = surprise_at_edge_[static_cast<std::size_t>(from)];
    tail_index_ = kAssumedTailIndex;
    return;
  }
  const double from = lower_edge(tail_bucket);
  double log_excess = 0;
  std::uint64_t exceeding = 0;
  for (int b = tail_bucket; b < kBuckets; ++b) {
    const auto n = counts_[static_cast<std::size_t>(b)];
    if (n == 0) continue;
    const double middle = b + 1 < kBuckets ? std::sqrt(lower_edge(b) * lower_edge(b + 1)) : lower_edge(b);
    log_excess += static_cast<double>(n) * std::log(middle / from);
    exceeding += n;
  }
  const double xi = std::clamp(log_excess / static_cast<double>(exceeding), 0.02, 2.0);
  tail_from_ = from;
  tail_surprise_ = surprise_at_edge_[static_cast<std::size_t>(tail_bucket)];
  tail_index_ = 1 / xi;
}

double TailSketch::surprise(float score) const {
  if (published_ == 0 || !(score > 0)) return 0;
  if (tail_index_ > 0 && score >= tail_from_) {
    return tail_surprise_ + tail_index_ * std::log10(static_cast<double>(score) / tail_from_);
  }
  const int b = bucket_of(score);
  const double low = lower_edge(b);
  const double high = b + 1 < kBuckets ? lower_edge(b + 1) : low * 2;
  const double share = std::clamp((static_cast<double>(score) - low) / (high - low), 0.0, 1.0);
  const double at_low = surprise_at_edge_[static_cast<std::size_t>(b)];
  const double at_high = surprise_at_edge_[static_cast<std::size_t>(b) + 1];
  return at_low + share * (at_high - at_low);
}

}  // namespace alcedo::decide
