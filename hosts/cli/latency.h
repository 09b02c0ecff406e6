// Latencies of delivered alerts, gathered on the delivery thread and read as percentiles.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <vector>

namespace alcedo::cli {

/// Threads  Any. Cost: 8 bytes a sample, bounded.
class LatencyRecorder {
 public:
  void add(std::int64_t latency_ns) {
    const std::scoped_lock lock(mutex_);
    if (samples_.size() < kSamplesMax) samples_.push_back(static_cast<double>(latency_ns) / 1e6);
  }
  struct Summary {
    std::size_t samples = 0;
    double p50_ms = NAN, p90_ms = NAN, p99_ms = NAN, p999_ms = NAN, max_ms = NAN;  // p999: NaN below 10,000 samples
  };
  Summary summary() const {
    std::vector<double> sorted;
    {
      const std::scoped_lock lock(mutex_);
      sorted = samples_;
    }
    Summary out;
    out.samples = sorted.size();
    if (sorted.empty()) return out;
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&](double q) {
      const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
      return sorted[std::max<std::size_t>(rank, 1) - 1];
    };
    out.p50_ms = at(0.5);
    out.p90_ms = at(0.9);
    out.p99_ms = at(0.99);
    if (sorted.size() >= 10'000) out.p999_ms = at(0.999);
    out.max_ms = sorted.back();
    return out;
  }

 private:
  static constexpr std::size_t kSamplesMax = 10'000'000;
  mutable std::mutex mutex_;
  std::vector<double> samples_;
};

}  // namespace alcedo::cli
