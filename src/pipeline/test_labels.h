// For tests only: payments at terminals, some of them frauds, with the truth in each row or in a file of its own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/prng.h"
#include "core/time.h"
#include "pipeline/pipeline_file.h"

namespace alcedo::pipeline {

struct TestPayment {
  std::int64_t time_ms = 0;
  std::string id, terminal, card;
  std::string kind;           // of fraud; "": none
  std::int64_t known_ms = 0;  // of a fraud: when it is reported
};

/// Some terminals are taken over for days, and some cards are stolen. Times ascend; known times are `delay_ms` later,
/// or with `scattered` anything from an hour to twice that.
inline std::vector<TestPayment> test_payments(std::uint64_t seed, std::size_t count, std::int64_t delay_ms,
                                              bool scattered, std::uint64_t cards = 25) {
  Prng random(seed);
  std::vector<TestPayment> all;
  double now = 1.7e12;
  for (std::size_t i = 0; i < count; ++i) {
    now += 400'000 * random.exponential();
    TestPayment one;
    one.time_ms = static_cast<std::int64_t>(now);
    one.id = "p" + std::to_string(i);
    const std::uint64_t terminal = random.below(9);
    const std::uint64_t card = random.below(cards);
    one.terminal = "T" + std::to_string(terminal);
    one.card = "C" + std::to_string(card);
    const auto week = static_cast<std::uint64_t>(now / 6e8);
    if (week % 9 == terminal && random.uniform() < 0.5) one.kind = "takeover";
    if (week % 25 == card && random.uniform() < 0.5) one.kind = "stolen";
    if (random.uniform() < 0.01) one.kind = "other";
    one.known_ms = one.time_ms + delay_ms;
    if (scattered)
      one.known_ms =
          one.time_ms + kHourMs + static_cast<std::int64_t>(random.below(2 * static_cast<std::uint64_t>(delay_ms)));
    all.push_back(std::move(one));
  }
  return all;
}

/// The rows, with the truth in them or not.
inline std::string payments_csv(const std::vector<TestPayment>& all, bool with_truth) {
  std::string text = with_truth ? "id,at,terminal,card,amount,kind\n" : "id,at,terminal,card,amount\n";
  for (const TestPayment& one : all) {
    const std::int64_t amount = 10 + one.time_ms % 37 + (one.kind.empty() ? 0 : one.time_ms % 90);
    text += one.id + "," + std::to_string(one.time_ms) + "," + one.terminal + "," + one.card + "," +
            std::to_string(amount) + (with_truth ? "," + one.kind : "") + "\n";
  }
  return text;
}

/// Labels of the frauds, as they are reported.
inline std::string labels_csv(std::vector<TestPayment> all, bool with_times) {
  std::erase_if(all, [](const TestPayment& one) { return one.kind.empty(); });
  std::ranges::stable_sort(all, {}, &TestPayment::known_ms);
  std::string text = with_times ? "reason,id,reported\n" : "id,reason\n";
  for (const TestPayment& one : all) {
    text += with_times ? one.kind + "," + one.id + "," + std::to_string(one.known_ms) + "\n"
                       : one.id + "," + one.kind + "\n";
  }
  return text;
}

/// `labels` is that section; paths in it are relative to `folder`.
inline Pipeline labels_pipeline(const std::string& folder, const std::string& labels) {
  auto loaded = parse_pipeline(
      "pipeline: frauds\n"
      "events: {format: csv, id: id, time: {field: at, unit: ms}, ahead: none}\n"
      "labels: " +
          labels +
          "\n"
          "entities: {terminal: terminal, card: card}\n"
          "features:\n"
          "  risk: {confirmed: any, by: terminal, windows: [1d, 7d, 30d], prior: 5}\n"
          "  stolen: {confirmed: stolen, by: card, windows: [1d, 2d], prior: 5}\n"
          "  size: {baseline: amount, by: card}\n"
          "detectors: {risk_z: {zscore: [risk.share_7d], side: above}, size_z: {zscore: [size, stolen.share_2d]}}\n"
          "anomalies: {fraud: {votes: {risk_z: 1, size_z: 1}, fire: {rate: 1%}}}\n"
          "alerts: [{to: file, default: true}]\n",
      folder + "/pipeline.yaml");
  EXPECT_TRUE(loaded.mistakes.empty()) << format_mistakes("frauds", loaded.text, loaded.mistakes);
  loaded.pipeline.calibrate_events = 1500;
  return loaded.pipeline;
}

}  // namespace alcedo::pipeline
