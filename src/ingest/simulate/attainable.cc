// Runs the likelihood scorer beside the simplest baseline over one stream.
#include "ingest/simulate/attainable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/check.h"
#include "ingest/simulate/likelihood.h"
#include "ingest/simulate/payments.h"

namespace alcedo::ingest::simulate {
namespace {

/// z of a card's amount against all its amounts before; 0 until there are five.
class AmountZScore {
 public:
  explicit AmountZScore(std::uint32_t cards) : cards_(cards) {}
  double score(const Payment& payment) {
    Moments& card = cards_[payment.card];
    const double amount = static_cast<double>(payment.amount_minor) * 0.01;
    double z = 0;
    if (card.count >= 5) z = (amount - card.mean) / std::sqrt(card.squares / (card.count - 1) + 1e-9);
    card.count += 1;
    const double deviation = amount - card.mean;
    card.mean += deviation / card.count;
    card.squares += deviation * (amount - card.mean);
    return z;
  }

 private:
  struct Moments {
    double count = 0;
    double mean = 0;
    double squares = 0;
  };
  std::vector<Moments> cards_;
};

struct Scored {
  float likelihood;
  float amount;
  Story story;
};

template <typename Score>
double threshold(const std::vector<Scored>& all, double false_positive_rate, Score score) {
  std::vector<float> normal;
  for (const Scored& one : all) {
    if (!is_attack(one.story)) normal.push_back(score(one));
  }
  const auto above = static_cast<std::ptrdiff_t>(static_cast<double>(normal.size()) * false_positive_rate);
  CHECK(above < static_cast<std::ptrdiff_t>(normal.size()));
  std::nth_element(normal.begin(), normal.begin() + above, normal.end(), std::greater<>());
  return normal[static_cast<std::size_t>(above)];
}

}  // namespace

Attainable measure_attainable(const Parameters& parameters, std::uint64_t warm_up, std::uint64_t payments,
                              double false_positive_rate) {
  CHECK(payments > 0 && false_positive_rate > 0 && false_positive_rate < 1);
  Payments stream(parameters);
  LikelihoodScorer likelihood(stream.shared_population());
  AmountZScore amount(parameters.cards);
  std::vector<Scored> all;
  all.reserve(payments);
  Attainable out;
  Payment payment;
  for (std::uint64_t i = 0; i < warm_up + payments; ++i) {
    stream.next(payment);
    const double log_ratio = likelihood.score(payment);
    const double z = amount.score(payment);
    if (i < warm_up) continue;
    all.push_back({static_cast<float>(log_ratio), static_cast<float>(z), payment.story});
    if (log_ratio < -8 || log_ratio >= 8) continue;
    auto& bin = out.calibration[static_cast<std::size_t>((log_ratio + 8) / 2)];
    ++bin.payments;
    bin.expected += 1 / (1 + std::exp(-log_ratio));
    bin.observed += is_attack(payment.story) ? 1 : 0;
  }
  for (auto& bin : out.calibration) {
    if (bin.payments == 0) continue;
    bin.expected /= static_cast<double>(bin.payments);
    bin.observed /= static_cast<double>(bin.payments);
  }

  out.payments = payments;
  out.threshold_log = threshold(all, false_positive_rate, [](const Scored& one) { return one.likelihood; });
  const double amount_threshold = threshold(all, false_positive_rate, [](const Scored& one) { return one.amount; });
  std::uint64_t hits = 0, amount_hits = 0;
  for (const Scored& one : all) {
    auto& story = out.stories[static_cast<std::size_t>(one.story)];
    const bool flagged = one.likelihood > out.threshold_log;
    const bool flagged_amount = one.amount > amount_threshold;
    ++story.payments;
    story.flagged += flagged ? 1 : 0;
    story.flagged_amount += flagged_amount ? 1 : 0;
    if (!is_attack(one.story)) {
      out.normal_flagged += flagged ? 1 : 0;
      continue;
    }
    ++out.anomalous;
    hits += flagged ? 1 : 0;
    amount_hits += flagged_amount ? 1 : 0;
  }
  if (out.anomalous > 0) {
    out.true_positive_rate = static_cast<double>(hits) / static_cast<double>(out.anomalous);
    out.true_positive_rate_amount = static_cast<double>(amount_hits) / static_cast<double>(out.anomalous);
  }
  return out;
}

std::string as_markdown(const Attainable& attainable) {
  std::string text =
      "| story | label | payments | share | flagged by likelihood ratio | by amount z-score "
      "|\n|---|---|---|---|---|---|\n";
  const auto percent = [](std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  };
  for (std::size_t s = 0; s < kStories; ++s) {
    const auto& story = attainable.stories[s];
    text += fmt::format("| {} | {} | {} | {:.3f} % | {:.2f} % | {:.2f} % |\n", kStoryNames[s],
                        is_attack(static_cast<Story>(s)) ? "anomalous" : "normal", story.payments,
                        percent(story.payments, attainable.payments), percent(story.flagged, story.payments),
                        percent(story.flagged_amount, story.payments));
  }
  text += fmt::format("| all anomalous | | {} | {:.3f} % | {:.2f} % | {:.2f} % |\n", attainable.anomalous,
                      percent(attainable.anomalous, attainable.payments), 100 * attainable.true_positive_rate,
                      100 * attainable.true_positive_rate_amount);
  return text;
}

}  // namespace alcedo::ingest::simulate
