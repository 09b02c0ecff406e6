// Votes and rules. Everything that learns here learns from integers in input order and shows itself only at ticks.
#include "decide/decider.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace alcedo::decide {
namespace {

constexpr double kDayMs = 86'400'000;
// A rate needs some scores behind it before it may page: an estimate from fewer than this is noise.
constexpr std::uint64_t kScoresToFireMin = 200;
// A subset with fewer scores than this has no tail of its own yet.
constexpr std::uint64_t kSubsetScoresMin = 1000;
// Sketches fade when they hold this many: the tail of 0.1 % then still rests on more than a hundred scores.
constexpr std::uint64_t kSketchScoresMax = 1 << 18;
constexpr std::size_t kAboveMax = 65'536;

}  // namespace

Decider::Decider(Options options)
    : options_(std::move(options)),
      detectors_(options_.num_detectors),
      subsets_(options_.anomalies.size()),
      rates_(options_.anomalies.size(), 0),
      above_(options_.anomalies.size()),
      scored_(options_.anomalies.size(), 0) {
  for (const auto& anomaly : options_.anomalies) {
    CHECK(anomaly.votes.size() <= 32);
    for (const auto& vote : anomaly.votes) CHECK(vote.detector < options_.num_detectors && vote.weight > 0);
  }
  update_rates();
}

double Decider::type_surprise(std::size_t type, std::uint32_t voters, float score) const {
  for (const auto& subset : subsets_[type]) {
    if (subset.voters != voters) continue;
    if (subset.sketch.published() < std::min(kSubsetScoresMin, options_.calibrate_events / 4)) break;
    return subset.sketch.surprise(score);
  }
  return score;
}

void Decider::decide(std::int64_t time_ms, std::span<const float> raw, std::span<const std::uint64_t> keys,
                     std::span<float> surprises, std::span<TypeVerdict> verdicts) {
  if (!frozen_) {
    if (events_ == 0) first_ms_ = time_ms;
    last_ms_ = std::max(last_ms_, time_ms);
    ++events_;
  }
  for (std::size_t d = 0; d < detectors_.size(); ++d) {
    if (std::isnan(raw[d])) {
      surprises[d] = raw[d];
      continue;
    }
    surprises[d] = static_cast<float>(detectors_[d].surprise(raw[d]));
    if (!detectors_frozen_) detectors_[d].add(raw[d]);
  }
  for (std::size_t t = 0; t < options_.anomalies.size(); ++t) {
    const AnomalySpec& anomaly = options_.anomalies[t];
    TypeVerdict& verdict = verdicts[t];
    verdict = {};
    if (keys[t] == 0) continue;
    double sum = 0;
    double weights = 0;
    std::uint32_t voters = 0;
    for (std::size_t v = 0; v < anomaly.votes.size(); ++v) {
      const auto& vote = anomaly.votes[v];
      if (std::isnan(surprises[vote.detector])) continue;
      voters |= 1U << v;
      sum += vote.weight * static_cast<double>(surprises[vote.detector]);
      weights += vote.weight;
    }
    if (voters == 0) continue;
    verdict.score = static_cast<float>(sum / weights);
    verdict.surprise = static_cast<float>(type_surprise(t, voters, verdict.score));
    verdict.provisional = !frozen_;
    if (!frozen_) {
      ++scored_[t];
      auto it =
          std::find_if(subsets_[t].begin(), subsets_[t].end(), [&](const Subset& s) { return s.voters == voters; });
      if (it == subsets_[t].end()) {
        subsets_[t].push_back({voters, {}});
        it = subsets_[t].end() - 1;
      }
      it->sketch.add(verdict.score);
    }
    verdict.fired = fires(t, verdict);
    if (anomaly.for_ms > 0) {
      auto& above = above_[t];
      if (!verdict.fired) {
        above.erase(keys[t]);
      } else {
        auto& state = above.try_emplace(keys[t], Above{time_ms, time_ms}).first->second;
        state.last_ms = std::max(state.last_ms, time_ms);
        verdict.fired = state.last_ms - state.since_ms >= anomaly.for_ms;
      }
    }
  }
}

bool Decider::fires(std::size_t type, const TypeVerdict& verdict) const {
  const FireRule& rule = options_.anomalies[type].fire;
  switch (rule.kind) {
    case FireRule::Kind::kAlways:
      return verdict.score > 0;
    case FireRule::Kind::kThreshold:
      return verdict.score >= rule.value;
    case FireRule::Kind::kRate:
    case FireRule::Kind::kBudget:
      return rates_[type] > 0 && verdict.surprise > 0 && verdict.surprise >= -std::log10(rates_[type]);
  }
  return false;
}

void Decider::update_rates() {
  double sum = 0;
  for (std::size_t t = 0; t < rates_.size(); ++t) {
    const AnomalySpec& anomaly = options_.anomalies[t];
    double rate = 0;
    if (anomaly.fire.kind == FireRule::Kind::kRate) {
      rate = anomaly.fire.value;
    } else if (anomaly.fire.kind == FireRule::Kind::kBudget) {
      const double days = static_cast<double>(last_ms_ - first_ms_) / kDayMs;
      // Less than a minute of event time says nothing about a day.
      if (days > 60'000 / kDayMs && scored_[t] > 0) {
        rate = std::min(1.0, anomaly.fire.value * days / static_cast<double>(scored_[t]));
      }
    } else {
      rates_[t] = 1;
      continue;
    }
    if (scored_[t] < std::min(kScoresToFireMin, options_.calibrate_events)) rate = 0;
    rates_[t] = rate;
    sum += rate;
  }
  if (options_.rate_max > 0 && sum > options_.rate_max) {
    for (std::size_t t = 0; t < rates_.size(); ++t) {
      const auto kind = options_.anomalies[t].fire.kind;
      if (kind == FireRule::Kind::kRate || kind == FireRule::Kind::kBudget) rates_[t] *= options_.rate_max / sum;
    }
  }
}

void Decider::tick(std::int64_t time_ms) {
  for (auto& above : above_) {
    if (above.size() < kAboveMax) continue;
    std::erase_if(
        above, [&](const auto& entry) { return entry.second.last_ms < time_ms - static_cast<std::int64_t>(kDayMs); });
  }
  if (frozen_ || events_ == 0) return;
  frozen_ = events_ >= options_.calibrate_events;
  if (!detectors_frozen_) {
    detectors_frozen_ = events_ >= options_.calibrate_events / 2;
    for (auto& sketch : detectors_) {
      if (sketch.count() >= kSketchScoresMax) sketch.fade(1);
      sketch.publish(detectors_frozen_);
    }
    // From here on the voters' surprises no longer move under the subsets: what they learnt before counts little.
    if (detectors_frozen_) {
      for (auto& type : subsets_) {
        for (auto& subset : type) subset.sketch.fade(4);
      }
    }
  }
  for (auto& type : subsets_) {
    for (auto& subset : type) {
      if (subset.sketch.count() >= kSketchScoresMax) subset.sketch.fade(1);
      subset.sketch.publish(frozen_);
    }
  }
  update_rates();
}

}  // namespace alcedo::decide
