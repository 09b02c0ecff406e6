// Projected gradient descent: few voters, a convex loss, and the same steps on every machine.
#include "training/vote_weights.h"

#include <algorithm>
#include <cmath>

namespace alcedo::training {
namespace {

constexpr std::size_t kNormalRowsMax = 200'000;
constexpr int kSteps = 300;
// A surprise beyond this says no more: one wild voter must not carry the fit.
constexpr float kSurpriseMax = 8;
constexpr double kShrink = 1e-3;
constexpr double kLeast = 0.02;  // of the largest weight: below, a voter only adds noise

}  // namespace

std::vector<double> learn_vote_weights(const VoteExamples& examples, std::size_t voters) {
  const std::size_t rows = examples.positive.size();
  const auto positives = static_cast<std::size_t>(std::ranges::count(examples.positive, 1));
  const std::size_t step = std::max<std::size_t>(1, (rows - positives) / kNormalRowsMax);
  std::vector<double> x;
  std::vector<double> y;
  std::size_t normal = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    const bool positive = examples.positive[i] != 0;
    if (!positive && normal++ % step != 0) continue;
    for (std::size_t v = 0; v < voters; ++v) {
      const float surprise = examples.surprises[i * voters + v];
      x.push_back(std::isnan(surprise) ? 0 : static_cast<double>(std::min(surprise, kSurpriseMax)));
    }
    y.push_back(positive ? 1 : 0);
  }
  const std::size_t n = y.size();
  // Per positive row, so that the shrinking weighs the same whatever their share.
  const double positive_weight = 1 / static_cast<double>(std::max<std::size_t>(1, positives));
  const double normal_weight = positive_weight * static_cast<double>(step);
  std::vector<double> weights(voters, 1.0 / static_cast<double>(voters));
  std::vector<double> momentum(voters + 1);
  std::vector<double> square(voters + 1);
  std::vector<double> gradient(voters + 1);
  double bias = -std::log(static_cast<double>(std::max<std::size_t>(1, (n - positives) * step)) /
                          static_cast<double>(std::max<std::size_t>(1, positives)));
  for (int k = 1; k <= kSteps; ++k) {
    std::ranges::fill(gradient, 0);
    for (std::size_t i = 0; i < n; ++i) {
      double sum = bias;
      for (std::size_t v = 0; v < voters; ++v) sum += weights[v] * x[i * voters + v];
      const double off = (1 / (1 + std::exp(-sum)) - y[i]) * (y[i] > 0 ? positive_weight : normal_weight);
      for (std::size_t v = 0; v < voters; ++v) gradient[v] += off * x[i * voters + v];
      gradient[voters] += off;
    }
    for (std::size_t v = 0; v < voters; ++v) gradient[v] += kShrink * weights[v];
    // Adam's steps, then back to weights that are allowed.
    const double rate = 0.1 / std::sqrt(1 + k / 50.0);
    for (std::size_t v = 0; v <= voters; ++v) {
      momentum[v] = 0.9 * momentum[v] + 0.1 * gradient[v];
      square[v] = 0.99 * square[v] + 0.01 * gradient[v] * gradient[v];
      const double move =
          rate * (momentum[v] / (1 - std::pow(0.9, k))) / (std::sqrt(square[v] / (1 - std::pow(0.99, k))) + 1e-9);
      double& value = v < voters ? weights[v] : bias;
      value -= move;
      if (v < voters) value = std::max(0.0, value);
    }
  }
  const double most = *std::ranges::max_element(weights);
  if (!(most > 0)) return std::vector<double>(voters, 1);
  for (double& weight : weights) weight = weight < kLeast * most ? 0 : std::round(weight / most * 1000) / 1000;
  return weights;
}

}  // namespace alcedo::training
