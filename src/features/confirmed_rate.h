// Everyone's share of confirmed events, which an entity with few of its own is judged by.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/state_stream.h"
#include "features/operators/confirmed_operator.h"
#include "features/plan.h"

namespace alcedo::features {

/// Of all entities together what the longest window of a confirmed feature counts, at the newest time of any event.
///
/// Threads  One at a time. Cost: a comparison an event; 24 bytes a grain.
class ConfirmedRate {
 public:
  explicit ConfirmedRate(const FeatureSpec& spec) : spans_(spec) {}

  bool started() const { return started_; }
  /// Events of the window whose truth is known.
  std::uint64_t known() const { return known_; }
  /// (confirmed + 1/2) / (known + 1): never 0 or 1, so that it has a spread; NaN while nothing is known.
  double rate() const {
    if (known_ == 0) return kMissing;
    return (static_cast<double>(confirmed_) + 0.5) / (static_cast<double>(known_) + 1);
  }

  /// The time of an event. True: rate() may have changed.
  bool advance(std::int64_t time_ms) {
    if (started_ && time_ms <= clock_ms_) return false;
    const std::int64_t from = started_ ? spans_.grain_of(clock_ms_) : spans_.grain_of(time_ms);
    clock_ms_ = time_ms;
    started_ = true;
    const std::int64_t to = spans_.grain_of(time_ms);
    if (to == from || grains_.empty()) return false;
    std::size_t gone = 0;
    for (const Grain& grain : grains_) {
      if (grain.number >= to) break;
      const bool leaves = grain.number < to - spans_.longest;
      gone += leaves ? 1 : 0;
      if (grain.number < from && leaves) {
        known_ -= grain.known;
        confirmed_ -= grain.confirmed;
      } else if (grain.number >= from && !leaves) {
        known_ += grain.known;
        confirmed_ += grain.confirmed;
      }
    }
    grains_.erase(grains_.begin(), grains_.begin() + static_cast<std::ptrdiff_t>(gone));
    return true;
  }

  /// The truth of an event is known as of `known_ms`; after advance(). True: rate() has changed.
  bool learn(std::int64_t known_ms, bool confirmed) {
    const std::int64_t clock = spans_.grain_of(clock_ms_);
    const std::int64_t number = spans_.grain_of(known_ms);
    if (number < clock - spans_.longest) return false;
    auto at = grains_.end();
    if (!grains_.empty() && number <= grains_.back().number)
      at = std::ranges::lower_bound(grains_, number, {}, &Grain::number);
    if (at == grains_.end() || at->number != number) {
      if (grains_.size() == kGrainsMax) return false;
      at = grains_.insert(at, {number, 0, 0});
    }
    ++at->known;
    at->confirmed += confirmed ? 1 : 0;
    if (number >= clock) return false;
    ++known_;
    confirmed_ += confirmed ? 1 : 0;
    return true;
  }

  /// An event that was counted without a label, as of its time + delay, is known to be anomalous as of `known_ms`.
  /// True: rate() may have changed.
  bool learn_label(std::int64_t counted_ms, std::int64_t known_ms) {
    if (!started_) return false;
    const std::int64_t number = spans_.grain_of(counted_ms);
    const auto at = std::ranges::lower_bound(grains_, number, {}, &Grain::number);
    if (at != grains_.end() && at->number == number && at->known > at->confirmed) {
      --at->known;
      if (number < spans_.grain_of(clock_ms_)) --known_;
      if (at->known == 0) grains_.erase(at);
    }
    learn(known_ms, true);
    return true;
  }

  void save(StateWriter& writer) const {
    writer.i64(clock_ms_);
    writer.varint(grains_.size());
    for (const Grain& grain : grains_) {
      writer.i64(grain.number);
      writer.varint(grain.known);
      writer.varint(grain.confirmed);
    }
  }
  /// Into an object that has not started.
  void load(StateReader& reader) {
    clock_ms_ = reader.time_ms();
    started_ = true;
    const std::int64_t clock = spans_.grain_of(clock_ms_);
    const std::uint64_t size = reader.varint();
    if (size > kGrainsMax) return reader.refuse("has a rate of more grains than fit");
    for (std::uint64_t i = 0; i < size && reader.ok(); ++i) {
      const Grain grain{reader.i64(), reader.varint(), reader.varint()};
      if (!reader.ok()) return;
      const bool ordered = i == 0 ? grain.number >= clock - spans_.longest : grain.number > grains_.back().number;
      if (!ordered) return reader.refuse("has a rate whose grains are out of order");
      if (grain.known == 0 || grain.known > UINT32_MAX || grain.confirmed > grain.known)
        return reader.refuse("has a rate with more confirmed events than known ones");
      grains_.push_back(grain);
      if (grain.number >= clock) continue;
      known_ += grain.known;
      confirmed_ += grain.confirmed;
    }
  }

 private:
  static constexpr std::size_t kGrainsMax = 16'384;
  struct Grain {
    std::int64_t number = 0;
    std::uint64_t known = 0;
    std::uint64_t confirmed = 0;
  };
  ConfirmedSpans spans_;
  bool started_ = false;
  std::int64_t clock_ms_ = 0;
  std::uint64_t known_ = 0;
  std::uint64_t confirmed_ = 0;
  std::vector<Grain> grains_;  // ascending
};

}  // namespace alcedo::features
