// Anomaly types: which detectors vote, with what weight, and the one rule by which a type fires.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/verdict.h"

namespace alcedo::decide {

struct VoteSpec {
  std::uint32_t detector = 0;  // index into the pipeline's detectors
  double weight = 1;
};

struct FireRule {
  enum class Kind : std::uint8_t {
    kThreshold,  // type score (mean -log10 tail probability of its voters) at or above `value`
    kRate,       // `value` = share of normal events, 0.001 for 0.1 %
    kBudget,     // `value` events a day
    kAlways,     // whenever a voter speaks (absent, rules)
  };
  Kind kind = Kind::kAlways;
  double value = 0;
};

struct AnomalySpec {
  std::string name;
  std::uint32_t by = 0;  // key slot whose entity it is about
  int group = -1;        // key slot that incidents are folded by; -1: the entity
  std::vector<VoteSpec> votes;
  // Weights that were learnt from labels: a voter that abstains counts as one that sees nothing, and all rows share one
  // calibration. Else the mean is over the voters that speak, and each subset of them is calibrated by itself.
  bool weights_learnt = false;
  std::int64_t for_ms = 0;  // the score must stay above the threshold this long, event time
  FireRule fire;
  Impact impact = Impact::kMedium;
  std::string runbook;
  std::int64_t quiet_ms = 15 * 60'000;  // an incident resolves after this long without evidence
};

}  // namespace alcedo::decide
