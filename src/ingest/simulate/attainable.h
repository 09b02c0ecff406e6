// Measures what is attainable on the simulated payments, so that a detector's result can be read against it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "ingest/simulate/parameters.h"
#include "ingest/simulate/payment.h"

namespace alcedo::ingest::simulate {

struct Attainable {
  struct PerStory {
    std::uint64_t payments = 0;
    std::uint64_t flagged = 0;         // by the likelihood ratio
    std::uint64_t flagged_amount = 0;  // by the plain z-score of the amount within the card
  };
  std::uint64_t payments = 0;
  std::uint64_t anomalous = 0;
  std::uint64_t normal_flagged = 0;
  double threshold_log = 0;       // of the likelihood ratio
  double true_positive_rate = 0;  // over all anomalous payments, at the asked false-positive rate
  double true_positive_rate_amount = 0;
  std::array<PerStory, kStories> stories{};
  /// By log ratio from -8 in steps of 2 up to 8: expected and observed share of anomalous payments, and how many.
  struct Calibration {
    double expected = 0;
    double observed = 0;
    std::uint64_t payments = 0;
  };
  std::array<Calibration, 8> calibration{};
};

/// Scores `payments` payments after `warm_up` others that only teach. The threshold is the quantile of the normal
/// payments' scores (hard negatives among them) at which `false_positive_rate` of them lie above. Cost  2 us and 9
/// bytes a payment, 400 bytes a card.
Attainable measure_attainable(const Parameters& parameters, std::uint64_t warm_up, std::uint64_t payments,
                              double false_positive_rate);

/// The table of docs/simulator.md.
std::string as_markdown(const Attainable& attainable);

}  // namespace alcedo::ingest::simulate
