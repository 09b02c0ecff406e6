// The best that any detector could do on the simulated payments: a likelihood ratio by the generator's own densities.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ingest/simulate/payment.h"
#include "ingest/simulate/population.h"

namespace alcedo::ingest::simulate {

/// Scores each payment by the intensity of anomalous over normal payments like it, given everything before it.
///
/// Model    The stream is a superposition of marked point processes, so the probability that a payment is anomalous is
/// the share of
///          the anomalous processes in the conditional intensity at its time and marks. The scorer knows the population
///          (homes, habits, favourites, schedules, the devices at the start) and every parameter, but no label, no
///          episode and nothing that happens later.
/// Hidden   Which stories are under way is filtered: a payment that may belong to a story leaves a hypothesis with the
///          probability that it does and that the story goes on; holidays and new phones are filtered in the same way.
/// Approximations
///          Hypotheses are updated one by one as if the others' weights were fixed (soft association, as in a PDA
///          filter); a holiday's length counts as exponential; a hypothesis under 1e-10 (a card's: 1e-7) is dropped,
///          and beyond 24 (8) at one merchant (card) the weakest; nothing is learnt from how long a card has been
///          silent. Each can only lower the scorer's own result, so what it reaches is attainable.
/// Source   D. Daley, D. Vere-Jones, "An Introduction to the Theory of Point Processes", 2003, chapter 7 (conditional
///          intensities); Y. Bar-Shalom, T. Fortmann, "Tracking and Data Association", 1988 (soft association).
/// Cost     about 1 us a payment; 300 bytes a card.
/// Threads  One at a time.
class LikelihoodScorer {
 public:
  explicit LikelihoodScorer(std::shared_ptr<const Population> population);
  ~LikelihoodScorer();

  /// Natural log of the ratio; payments must come in the generator's order. Reads neither story, episode nor number.
  /// -1000 where no anomalous process could have made the payment.
  double score(const Payment& payment);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::ingest::simulate
