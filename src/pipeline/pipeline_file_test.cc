// What a pipeline file means, and what a person is told who wrote it wrong.
#include "pipeline/pipeline_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/prng.h"
#include "core/time.h"

namespace alcedo::pipeline {
namespace {

namespace fs = std::filesystem;
using contract::KeyPart;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kSource = ALCEDO_SOURCE_DIR;

std::string read_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// "line:column: message" lines.
std::string lines_of(const std::string& file, const std::vector<Mistake>& mistakes) {
  std::ostringstream lines;
  for (const Mistake& m : mistakes) lines << file << ':' << m.line << ':' << m.column << ": " << m.message << '\n';
  return lines.str();
}

constexpr std::string_view kPayments = R"(
pipeline: payments
events: {id: payment_id, time: occurred_at, money: [amount, currency], private: [card_id]}
entities: {card: card_id, place: [merchant_id, country], local: [card_id, currency], all: "=all"}
score: {by: card, order: arrival}
features:
  spend: {rolling: amount, by: card, stats: [sum, max], windows: [5m, 1h]}
  habit: {baseline: amount, by: card, half_life: 7d, accept: 1d, min_history: 5}
  pace:  {velocity: amount, by: card, against: including}
  crowd: {velocity: events, by: place}
  quiet: {velocity: ~, by: all, windows: 1h}
  local: {baseline: amount, by: local}
  km:    {rolling: distance}
detectors:
  z:    {zscore: [habit, pace.events_1m, spend], side: above, min_change: 20%}
  q:    {iqr: habit}
  z2:   {zscore: [pace.events_1m, habit, quiet.gap_s, pace.ratio_1m_1h]}
  gone: {absent: 2m}
anomalies:
  odd:  {votes: {z: 1, q: 2.5}, for: 2m, fire: {rate: 0.1%}, impact: high, group: place, runbook: "https://x.org/r", quiet: 1h}
  many: {by: place, votes: {z2: 1}, fire: {budget: 40/day}}
  sure: {votes: {z: 1}, fire: {threshold: 6.5}, impact: low}
  down: {by: all, votes: {gone: 1}, fire: always}
alerts:
  - {to: pagerduty, when: {impact: high, type: [odd, down]}}
  - {to: pagerduty, name: second, when: {type: many}, key: "file:keys/pd", url: "http://127.0.0.1:1"}
  - {to: file, default: true, path: out/alerts.ndjson}
rate_max: 0.3%
calibrate_events: 5000
forget: 30d
)";

LoadedPipeline parse_payments() { return parse_pipeline(kPayments, "folder/pipeline.yaml"); }

TEST(PipelineFileTest, EventsAndDefaults) {
  const auto loaded = parse_payments();
  ASSERT_EQ(lines_of("", loaded.mistakes), "");
  const Pipeline& p = loaded.pipeline;
  EXPECT_EQ(p.name, "payments");
  EXPECT_EQ(p.path, "folder/pipeline.yaml");
  EXPECT_EQ(loaded.text, kPayments);
  EXPECT_EQ(p.events.shape, contract::Shape::kRecord);
  EXPECT_EQ(p.events.id_field, "payment_id");
  EXPECT_EQ(p.events.time.field, "occurred_at");
  EXPECT_EQ(p.events.time.unit, contract::TimeUnit::kIso);
  EXPECT_EQ(p.events.lateness_ms, 30'000);
  EXPECT_EQ(p.events.ahead_ms, 300'000);
  EXPECT_FALSE(p.events.format.has_value());
  EXPECT_EQ(p.events.money_amount, "amount");
  EXPECT_EQ(p.events.money_currency, "currency");
  EXPECT_THAT(p.events.private_fields, ElementsAre("card_id"));
  EXPECT_EQ(p.duplicates, 1'000'000U);
  EXPECT_EQ(p.calibrate_events, 5'000U);
  EXPECT_EQ(p.features.forget_ms, 30 * kDayMs);
  EXPECT_DOUBLE_EQ(p.rate_max, 0.003);
  EXPECT_EQ(p.score.by, 0U);
}

TEST(PipelineFileTest, KeysHaveASlotAnEntityThenOneAMoneyKeyedEntity) {
  const auto loaded = parse_payments();
  const Pipeline& p = loaded.pipeline;
  EXPECT_THAT(p.entities, ElementsAre("card", "place", "local", "all"));
  // local holds the currency already: it needs no slot of its own for money.
  EXPECT_THAT(p.features.layout.keys, ElementsAre("card", "place", "local", "all", "card/currency"));
  ASSERT_THAT(p.events.keys, SizeIs(5));
  std::vector<std::string> texts;
  for (const auto& key : p.events.keys) {
    std::string text = key.name + ":";
    for (const KeyPart& part : key.parts) text += std::to_string(static_cast<int>(part.kind)) + part.text + ",";
    texts.push_back(text);
  }
  EXPECT_THAT(texts, ElementsAre("card:0card_id,", "place:0merchant_id,0country,", "local:0card_id,0currency,",
                                 "all:3all,", "card/currency:0card_id,0currency,"));
  ASSERT_THAT(p.events.numbers, SizeIs(2));
  EXPECT_EQ(p.events.numbers[0].field, "amount");
  EXPECT_TRUE(p.events.numbers[0].money);
  EXPECT_EQ(p.events.numbers[1].field, "distance");
  EXPECT_FALSE(p.events.numbers[1].money);
  ASSERT_THAT(p.features.layout.numbers, SizeIs(2));
  EXPECT_EQ(p.features.layout.numbers[0].name, "amount");
  EXPECT_TRUE(p.features.layout.numbers[0].money);
}

TEST(PipelineFileTest, FeaturesAreCompiledToSlots) {
  const auto loaded = parse_payments();
  const auto& f = loaded.pipeline.features.features;
  ASSERT_THAT(f, SizeIs(7));
  EXPECT_EQ(f[0].name, "spend");
  EXPECT_EQ(f[0].kind, features::FeatureKind::kRolling);
  EXPECT_EQ(f[0].key, 4);
  EXPECT_EQ(f[0].number, 0);
  EXPECT_THAT(f[0].stats, ElementsAre(features::Stat::kSum, features::Stat::kMax));
  EXPECT_THAT(f[0].windows_ms, ElementsAre(5 * kMinuteMs, kHourMs));
  EXPECT_FALSE(f[0].including);
  EXPECT_EQ(f[1].half_life_ms, 7 * kDayMs);
  EXPECT_EQ(f[1].accept_ms, kDayMs);
  EXPECT_EQ(f[1].min_history, 5U);
  EXPECT_TRUE(f[2].including);
  EXPECT_THAT(f[2].windows_ms, ElementsAre(kMinuteMs, 5 * kMinuteMs, kHourMs));
  EXPECT_EQ(f[2].key, 4);
  EXPECT_EQ(f[3].number, -1);  // events are only counted, so money does not matter
  EXPECT_EQ(f[3].key, 1);
  EXPECT_EQ(f[4].number, -1);
  EXPECT_EQ(f[4].key, 3);
  EXPECT_EQ(f[5].key, 2);
  EXPECT_EQ(f[6].key, 0);  // by: defaults to score.by
  EXPECT_EQ(f[6].number, 1);
  EXPECT_THAT(f[6].stats, SizeIs(6));
}

TEST(PipelineFileTest, AGroupsMembersAreComparedAtTheStageOfTheGroup) {
  std::string yaml(kPayments);
  yaml.insert(yaml.find("detectors:"),
              "  crowd2: {deviation: amount, by: card, within: place}\n"
              "  kind: {deviation: distance, within: category, min_history: 3}\n");
  yaml.insert(yaml.find("  gone: "), "  peers: {zscore: [crowd2, kind]}\n  peers_iqr: {iqr: crowd2}\n");
  const auto loaded = parse_pipeline(yaml, "p.yaml");
  EXPECT_EQ(lines_of("", loaded.mistakes), "");
  const auto& layout = loaded.pipeline.features.layout;
  const auto& f = loaded.pipeline.features.features;
  ASSERT_THAT(f, SizeIs(9));
  EXPECT_EQ(f[7].kind, features::FeatureKind::kPeers);
  EXPECT_EQ(layout.keys[static_cast<std::size_t>(f[7].key)], "place/currency") << "amounts of one currency only";
  EXPECT_EQ(f[7].member_key, 0);
  EXPECT_EQ(f[7].min_history, 5U);
  EXPECT_EQ(layout.keys[static_cast<std::size_t>(f[8].key)], "field category");
  EXPECT_EQ(f[8].member_key, 0);
  EXPECT_EQ(f[8].min_history, 3U);
  EXPECT_TRUE(features::FeaturePlan::compile(loaded.pipeline.features).has_value());
}

TEST(PipelineFileTest, TwinsPickTheirMetricAsCorrelationsDo) {
  const auto loaded = parse_pipeline(
      "pipeline: p\nevents: {shape: long, time: t}\nentities: {host: host, cluster: cluster}\n"
      "features:\n  alike: {correlation: cpu_busy_ratio, by: host, within: cluster, windows: [1h]}\n"
      "detectors: {apart: {zscore: alike.r_1h, side: below}}\n"
      "anomalies: {odd: {votes: {apart: 1}, fire: {budget: 1/day}}}\nalerts: [{to: file, default: true}]\n",
      "p.yaml");
  EXPECT_EQ(lines_of("", loaded.mistakes), "");
  const auto& f = loaded.pipeline.features.features;
  ASSERT_THAT(f, SizeIs(1));
  EXPECT_EQ(f[0].kind, features::FeatureKind::kTwins);
  EXPECT_EQ(f[0].key, 1);
  EXPECT_EQ(f[0].member_key, 0);
  EXPECT_THAT(f[0].metrics, ElementsAre("cpu_busy_ratio"));
  EXPECT_EQ(loaded.pipeline.features.layout.keys[static_cast<std::size_t>(f[0].other_key)], "metric name");
  const auto plan = features::FeaturePlan::compile(loaded.pipeline.features);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->deviations()[plan->deviations_of(0)[0]].name, "alike.r_1h");
}

TEST(PipelineFileTest, ValuesAreRareForEveryoneAndFollowEachOther) {
  std::string yaml(kPayments);
  yaml.insert(yaml.find("detectors:"),
              "  phone: {rarity: device, by: everyone, half_life: 30d}\n"
              "  pair: {rarity: place, by: everyone}\n"
              "  where: {rarity: cell, by: everyone}\n"
              "  order: {transition: merchant_id, by: card}\n");
  yaml.insert(yaml.find("all: \"=all\""), "cell: {cell: [latitude, longitude]}, ");
  yaml.insert(yaml.find("  gone: "), "  rare: {zscore: [phone.rarity, pair.rarity, where.rarity, order.rarity]}\n");
  const auto loaded = parse_pipeline(yaml, "p.yaml");
  EXPECT_EQ(lines_of("", loaded.mistakes), "");
  const auto& layout = loaded.pipeline.features.layout;
  const auto& f = loaded.pipeline.features.features;
  ASSERT_THAT(f, SizeIs(11));
  EXPECT_EQ(f[7].kind, features::FeatureKind::kGlobalRarity);
  EXPECT_EQ(layout.keys[static_cast<std::size_t>(f[7].key)], "field device");
  EXPECT_EQ(f[7].half_life_ms, 30 * kDayMs);
  EXPECT_EQ(f[8].key, 1);
  EXPECT_EQ(layout.keys[static_cast<std::size_t>(f[9].key)], "cell");
  const auto& cell = loaded.pipeline.events.keys[static_cast<std::size_t>(f[9].key)].parts;
  ASSERT_THAT(cell, SizeIs(1));
  EXPECT_EQ(cell[0].kind, KeyPart::Kind::kCell);
  EXPECT_EQ(cell[0].text, "latitude");
  EXPECT_EQ(cell[0].longitude, "longitude");
  EXPECT_EQ(f[10].kind, features::FeatureKind::kTransition);
  EXPECT_EQ(f[10].key, 0);
  EXPECT_EQ(layout.keys[static_cast<std::size_t>(f[10].other_key)], "field merchant_id");
  EXPECT_TRUE(features::FeaturePlan::compile(loaded.pipeline.features).has_value());
}

TEST(PipelineFileTest, EqualWishesOfDetectorsAreOneRequest) {
  const auto loaded = parse_payments();
  const Pipeline& p = loaded.pipeline;
  ASSERT_THAT(p.detectors, SizeIs(4));
  EXPECT_EQ(p.detectors[0].side, models::Side::kAbove);
  EXPECT_DOUBLE_EQ(p.detectors[0].min_change, 0.2);
  EXPECT_THAT(p.detectors[0].features, ElementsAre("habit", "pace.events_1m", "spend"));
  EXPECT_THAT(p.detectors[0].requests, ElementsAre(0U, 1U, 2U));
  EXPECT_EQ(p.detectors[1].kind, models::DetectorKind::kIqr);
  EXPECT_THAT(p.detectors[1].requests, ElementsAre(3U));
  EXPECT_THAT(p.detectors[2].requests, ElementsAre(1U, 0U, 4U, 5U));
  EXPECT_EQ(p.detectors[3].kind, models::DetectorKind::kAbsent);
  EXPECT_EQ(p.detectors[3].absent_ms, 2 * kMinuteMs);
  const auto& d = p.features.deviations;
  ASSERT_THAT(d, SizeIs(6));
  EXPECT_EQ(d[0].feature, 1U);
  EXPECT_EQ(d[0].column, "");
  EXPECT_EQ(d[0].method, features::DeviationMethod::kEwma);
  EXPECT_EQ(d[1].feature, 2U);
  EXPECT_EQ(d[1].column, "events_1m");
  EXPECT_EQ(d[2].column, "");  // all of spend's
  EXPECT_EQ(d[3].method, features::DeviationMethod::kQuartiles);
  EXPECT_EQ(d[5].column, "ratio_1m_1h");
}

TEST(PipelineFileTest, AnomaliesAndRoutes) {
  const auto loaded = parse_payments();
  const Pipeline& p = loaded.pipeline;
  ASSERT_THAT(p.anomalies, SizeIs(4));
  const auto& odd = p.anomalies[0];
  EXPECT_EQ(odd.by, 0U);
  EXPECT_EQ(odd.group, 1);
  ASSERT_THAT(odd.votes, SizeIs(2));
  EXPECT_EQ(odd.votes[1].detector, 1U);
  EXPECT_DOUBLE_EQ(odd.votes[1].weight, 2.5);
  EXPECT_EQ(odd.for_ms, 2 * kMinuteMs);
  EXPECT_EQ(odd.fire.kind, decide::FireRule::Kind::kRate);
  EXPECT_DOUBLE_EQ(odd.fire.value, 0.001);
  EXPECT_EQ(odd.impact, Impact::kHigh);
  EXPECT_EQ(odd.runbook, "https://x.org/r");
  EXPECT_EQ(odd.quiet_ms, kHourMs);
  EXPECT_EQ(p.anomalies[1].by, 1U);
  EXPECT_EQ(p.anomalies[1].group, -1);
  EXPECT_EQ(p.anomalies[1].impact, Impact::kMedium);
  EXPECT_EQ(p.anomalies[1].fire.kind, decide::FireRule::Kind::kBudget);
  EXPECT_DOUBLE_EQ(p.anomalies[1].fire.value, 40);
  EXPECT_EQ(p.anomalies[1].quiet_ms, 15 * kMinuteMs);
  EXPECT_EQ(p.anomalies[2].fire.kind, decide::FireRule::Kind::kThreshold);
  EXPECT_DOUBLE_EQ(p.anomalies[2].fire.value, 6.5);
  EXPECT_EQ(p.anomalies[3].fire.kind, decide::FireRule::Kind::kAlways);
  EXPECT_EQ(p.anomalies[3].by, 3U);
  ASSERT_THAT(p.routes, SizeIs(3));
  EXPECT_EQ(p.routes[0].name, "pagerduty");
  EXPECT_EQ(p.routes[0].kind, alert::RouteSpec::Kind::kPagerDuty);
  EXPECT_EQ(p.routes[0].when_impact, Impact::kHigh);
  EXPECT_THAT(p.routes[0].when_types, ElementsAre("odd", "down"));
  EXPECT_EQ(p.routes[0].routing_key, "env:PAGERDUTY_ROUTING_KEY");
  EXPECT_EQ(p.routes[1].name, "second");
  EXPECT_EQ(p.routes[1].routing_key, "file:folder/keys/pd");
  EXPECT_EQ(p.routes[1].url, "http://127.0.0.1:1");
  EXPECT_TRUE(p.routes[2].is_default);
  EXPECT_EQ(p.routes[2].path, "folder/out/alerts.ndjson");
}

// The events section alone, around it what every pipeline must have.
LoadedPipeline parse_events(const std::string& events, const std::string& rest = "entities: {all: \"=all\"}\n") {
  return parse_pipeline("pipeline: p\nevents: " + events + "\n" + rest +
                            "detectors: {gone: {absent: 1m}}\nanomalies: {down: {votes: {gone: 1}, fire: always}}\n"
                            "alerts: [{to: file, default: true}]\n",
                        "pipeline.yaml");
}

TEST(PipelineFileTest, EveryKindOfTime) {
  struct Case {
    std::string yaml;
    contract::TimeUnit unit;
    std::string field, format;
    std::int64_t start_ms, step_ms;
  };
  using contract::TimeUnit;
  const std::vector<Case> cases{
      {"t", TimeUnit::kIso, "t", "", 0, 0},
      {"{field: t}", TimeUnit::kIso, "t", "", 0, 0},
      {"{field: t, unit: s}", TimeUnit::kSeconds, "t", "", 0, 0},
      {"{field: t, unit: ms}", TimeUnit::kMilliseconds, "t", "", 0, 0},
      {"{field: t, unit: us, start: 1970-01-02}", TimeUnit::kMicroseconds, "t", "", kDayMs, 0},
      {"{field: t, unit: ns}", TimeUnit::kNanoseconds, "t", "", 0, 0},
      {"{field: t, format: \"%d/%m/%Y %H:%M\"}", TimeUnit::kFormat, "t", "%d/%m/%Y %H:%M", 0, 0},
      {"{row: 5m, start: 1970-01-02T00:00:00Z}", TimeUnit::kRow, "", "", kDayMs, 5 * kMinuteMs},
      {"{row: 1s}", TimeUnit::kRow, "", "", 0, 1000},
  };
  for (const Case& c : cases) {
    const auto loaded = parse_events("{time: " + c.yaml + "}");
    EXPECT_EQ(lines_of(c.yaml, loaded.mistakes), "");
    const auto& time = loaded.pipeline.events.time;
    EXPECT_EQ(time.unit, c.unit) << c.yaml;
    EXPECT_EQ(time.field, c.field) << c.yaml;
    EXPECT_EQ(time.format, c.format) << c.yaml;
    EXPECT_EQ(time.start_ms, c.start_ms) << c.yaml;
    EXPECT_EQ(time.step_ms, c.step_ms) << c.yaml;
  }
}

TEST(PipelineFileTest, ShapesFormatsAndLabels) {
  auto loaded =
      parse_events("{shape: long, metric: name, value: v, time: t, counters: [\"*_total\"], ahead: none, lateness: 0s}",
                   "entities: {series: [name, host, file], named: [metric]}\nfeatures: {level: {baseline: value}}\n");
  EXPECT_EQ(lines_of("long", loaded.mistakes), "");
  EXPECT_EQ(loaded.pipeline.events.metric_field, "name");
  EXPECT_EQ(loaded.pipeline.events.value_field, "v");
  EXPECT_THAT(loaded.pipeline.events.counters, ElementsAre("*_total"));
  EXPECT_FALSE(loaded.pipeline.events.ahead_ms.has_value());
  EXPECT_EQ(loaded.pipeline.events.lateness_ms, 0);
  EXPECT_EQ(loaded.pipeline.duplicates, 0U) << "without an id nothing is a duplicate";
  EXPECT_EQ(loaded.pipeline.events.keys[0].parts[0].kind, KeyPart::Kind::kMetric);
  EXPECT_EQ(loaded.pipeline.events.keys[0].parts[1].kind, KeyPart::Kind::kField);
  EXPECT_EQ(loaded.pipeline.events.keys[0].parts[2].kind, KeyPart::Kind::kFileName);
  EXPECT_EQ(loaded.pipeline.events.keys[1].parts[0].kind, KeyPart::Kind::kMetric);
  EXPECT_EQ(loaded.pipeline.events.numbers[0].field, "v");
  EXPECT_EQ(loaded.pipeline.features.layout.numbers[0].name, "v");

  loaded =
      parse_events("{shape: wide, values: [a, b], time: {row: 1m}, label: truth, label_type: kind, delimiter: tab}");
  EXPECT_EQ(lines_of("wide", loaded.mistakes), "");
  EXPECT_THAT(loaded.pipeline.events.values, ElementsAre("a", "b"));
  EXPECT_EQ(loaded.pipeline.events.format, contract::Format::kCsv) << "only CSV has a delimiter";
  EXPECT_EQ(loaded.pipeline.events.delimiter, '\t');
  EXPECT_EQ(loaded.pipeline.labels.from, "field:truth");
  EXPECT_EQ(loaded.pipeline.labels.type_field, "kind");

  loaded = parse_events("{columns: [t, card, amount, fraud], id: card, time: t, duplicates: 5_000, delimiter: \";\"}",
                        "entities: {card: card}\nlabels: {from: \"field:fraud\", complete: true}\n");
  EXPECT_EQ(lines_of("columns", loaded.mistakes), "");
  EXPECT_THAT(loaded.pipeline.events.columns, SizeIs(4));
  EXPECT_EQ(loaded.pipeline.events.label_field, "fraud");
  EXPECT_TRUE(loaded.pipeline.labels.complete);
  EXPECT_EQ(loaded.pipeline.duplicates, 5'000U);

  loaded = parse_events("{id: i, time: t, duplicates: off}",
                        "entities: {card: card}\nlabels: {from: file:l.csv, join: i, type: reason}\n");
  EXPECT_EQ(lines_of("labels", loaded.mistakes), "");
  EXPECT_EQ(loaded.pipeline.labels.from, "l.csv");
  EXPECT_EQ(loaded.pipeline.labels.join, "i");
  EXPECT_EQ(loaded.pipeline.labels.type_field, "reason");
  EXPECT_EQ(loaded.pipeline.duplicates, 0U);
}

TEST(PipelineFileTest, ConfirmedFeaturesKnowWhenLabelsBecomeKnown) {
  const auto parsed = [](const std::string& labels, const std::string& events = "{id: i, time: t}") {
    return parse_pipeline("pipeline: p\nevents: " + events + "\nlabels: " + labels +
                              "\nentities: {shop: shop, card: card}\nfeatures:\n"
                              "  risk: {confirmed: any, by: shop}\n"
                              "  stolen: {confirmed: stolen, by: card, windows: [1d], prior: 3, min_history: 4}\n"
                              "detectors: {z: {zscore: [risk.share_7d, stolen.share_1d]}}\n"
                              "anomalies: {fraud: {votes: {z: 1}, fire: {rate: 1%}}}\n"
                              "alerts: [{to: file, default: true}]\n",
                          "");
  };
  auto loaded = parsed("{field: fraud, type: kind, delay: 7d}");
  EXPECT_EQ(lines_of("field", loaded.mistakes), "");
  const auto& f = loaded.pipeline.features.features;
  ASSERT_EQ(f.size(), 2U);
  EXPECT_EQ(f[0].kind, features::FeatureKind::kConfirmed);
  EXPECT_EQ(f[0].label_type, -1);
  EXPECT_EQ(f[0].delay_ms, 7 * kDayMs);
  EXPECT_EQ(f[0].windows_ms, (std::vector<std::int64_t>{kDayMs, 7 * kDayMs, 30 * kDayMs}));
  EXPECT_EQ(f[0].prior, 20);
  EXPECT_EQ(f[0].min_history, 1U);
  EXPECT_EQ(f[1].label_type, 0);
  EXPECT_EQ(f[1].prior, 3);
  EXPECT_EQ(f[1].min_history, 4U);
  EXPECT_THAT(loaded.pipeline.features.layout.label_types, testing::ElementsAre("stolen"));
  EXPECT_EQ(loaded.pipeline.labels.from, "field:fraud");
  EXPECT_EQ(loaded.pipeline.events.label_field, "fraud");
  EXPECT_EQ(loaded.pipeline.events.label_type_field, "kind");

  loaded = parsed("{from: file:l.csv, type: kind, delay: 0s, known: at, keep: 60d}");
  EXPECT_EQ(lines_of("file", loaded.mistakes), "");
  EXPECT_EQ(loaded.pipeline.labels.known_field, "at");
  EXPECT_EQ(loaded.pipeline.labels.keep_ms, 60 * kDayMs);
  EXPECT_EQ(loaded.pipeline.labels.delay_ms, 0);

  loaded = parsed("{delay: 7d}", "{time: t}");
  EXPECT_EQ(lines_of("carried", loaded.mistakes), "");
  EXPECT_TRUE(loaded.pipeline.labels.from.empty());

  loaded = parsed("{from: file:l.csv, type: kind, delay: 7d}", "{time: t}");
  EXPECT_EQ(loaded.mistakes.size(), 2U) << "labels of a file need an id";
}

TEST(PipelineFileTest, TheContractSaysTheUnitOfATime) {
  const std::string folder = kSource + "/tests/golden/pipeline_mistakes";
  const auto loaded = parse_pipeline(
      "pipeline: p\nevents: {contract: contract.avsc, time: at}\nentities: {card: card_id}\n"
      "detectors: {gone: {absent: 1m}}\nanomalies: {down: {votes: {gone: 1}, fire: always}}\n"
      "alerts: [{to: file, default: true}]\n",
      folder + "/pipeline.yaml");
  EXPECT_EQ(lines_of("", loaded.mistakes), "");
  EXPECT_EQ(loaded.pipeline.events.time.unit, contract::TimeUnit::kMilliseconds);
  EXPECT_EQ(loaded.pipeline.events.contract_path, folder + "/contract.avsc");
}

// Each .yaml beside its .expected. ALCEDO_UPDATE_GOLDEN=1 writes them anew; then read the difference.
TEST(PipelineFileTest, GoldenMistakes) {
  const fs::path folder = kSource + "/tests/golden/pipeline_mistakes";
  std::vector<fs::path> cases;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") cases.push_back(entry.path());
  }
  std::sort(cases.begin(), cases.end());
  ASSERT_GE(cases.size(), 15U);
  std::size_t mistakes = 0;
  for (const fs::path& path : cases) {
    const auto loaded = load_pipeline(path.string());
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    std::string lines = lines_of(path.filename().string(), loaded->mistakes);
    for (std::size_t at; (at = lines.find(folder.string() + "/")) != std::string::npos;) {
      lines.erase(at, folder.string().size() + 1);  // where the tree lies is not part of the message
    }
    fs::path expected = path;
    expected.replace_extension(".expected");
    if (std::getenv("ALCEDO_UPDATE_GOLDEN") != nullptr) std::ofstream(expected, std::ios::binary) << lines;
    EXPECT_EQ(lines, read_file(expected)) << path;
    EXPECT_THAT(loaded->mistakes, Not(IsEmpty())) << path;
    mistakes += loaded->mistakes.size();
  }
  EXPECT_GE(mistakes, 100U);
}

TEST(PipelineFileTest, ShippedPipelinesHaveNoMistakes) {
  const std::vector<std::string> folders{"pipelines/payments",
                                         "pipelines/infrastructure",
                                         "pipelines/logs",
                                         "docs/examples/nab",
                                         "docs/examples/smd",
                                         "docs/examples/sparkov",
                                         "docs/examples/fraud_handbook",
                                         "docs/examples/ucsd_fico2009",
                                         "docs/examples/payments_trained",
                                         "docs/examples/network",
                                         "docs/examples/transfers",
                                         "docs/examples/hdfs",
                                         "docs/examples/sequences",
                                         "docs/examples/smap_msl"};
  for (const std::string& folder : folders) {
    for (const std::string& path : {kSource + "/" + folder, kSource + "/" + folder + "/pipeline.yaml"}) {
      const auto loaded = load_pipeline(path);
      ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
      EXPECT_EQ(format_mistakes(loaded->pipeline.path, loaded->text, loaded->mistakes), "");
      EXPECT_EQ(loaded->pipeline.name, fs::path(folder).filename().string());
      const auto plan = features::FeaturePlan::compile(loaded->pipeline.features);
      EXPECT_TRUE(plan.has_value()) << folder << ": " << plan.error().message;
    }
  }
}

// The column names that this language checks are those that the plan makes.
TEST(PipelineFileTest, ColumnsAreThoseOfThePlan) {
  const auto loaded = parse_payments();
  const auto plan = features::FeaturePlan::compile(loaded.pipeline.features);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  for (const auto& column : plan->columns()) {
    const std::string& feature = loaded.pipeline.features.features[column.feature].name;
    if (loaded.pipeline.features.features[column.feature].kind == features::FeatureKind::kBaseline) continue;
    const std::string rest = column.name.substr(feature.size() + 1);
    if (rest.find('.') != std::string::npos) continue;  // of a deviation
    std::string yaml(kPayments);
    yaml.insert(yaml.find("  gone: "), "  one_more: {zscore: " + column.name + "}\n");
    EXPECT_EQ(lines_of(column.name, parse_pipeline(yaml, "p.yaml").mistakes), "");
  }
  // And the other way round: each name that a message offers is a column.
  for (const std::string feature : {"spend", "pace", "crowd"}) {
    std::string yaml(kPayments);
    yaml.insert(yaml.find("  gone: "), "  one_more: {zscore: " + feature + ".nothing_like_it}\n");
    const auto mistakes = parse_pipeline(yaml, "p.yaml").mistakes;
    ASSERT_THAT(mistakes, SizeIs(1));
    std::istringstream names(mistakes[0].message.substr(mistakes[0].message.find("Known: ") + 7));
    std::size_t count = 0;
    for (std::string name; names >> name; ++count) {
      if (name.ends_with(',')) name.pop_back();
      EXPECT_GE(plan->find_column(feature + "." + name), 0) << feature << "." << name;
    }
    EXPECT_GE(count, 4U);
  }
}

// The blocks of the reference that show a whole pipeline are read by the parser that they describe.
TEST(PipelineFileTest, TheReferencesExamplesAreRight) {
  const std::string reference =
      read_file(kSource + "/docs/pipeline-language.md") + read_file(kSource + "/docs/templates.md");
  std::size_t examples = 0;
  for (std::size_t at = 0; (at = reference.find("```yaml\npipeline:", at)) != std::string::npos;) {
    const std::size_t begin = at + 8;
    const std::size_t end = reference.find("```", begin);
    ASSERT_NE(end, std::string::npos);
    const std::string yaml = reference.substr(begin, end - begin);
    EXPECT_EQ(lines_of("docs", parse_pipeline(yaml, "p.yaml").mistakes), "") << yaml;
    ++examples;
    at = end + 3;
  }
  EXPECT_GE(examples, 3U);
}

TEST(PipelineFileTest, MistakesAreShownWithTheirLineAndACaret) {
  const std::string yaml = "a: 1\r\nnäme: \"é\", x\nlong: " + std::string(300, 'y') + "!\n";
  const std::string text =
      format_mistakes("f.yaml", yaml, {{2, 12, "no comma"}, {3, 306, "too long"}, {9, 1, "beyond"}});
  EXPECT_THAT(text, HasSubstr("f.yaml:2:12: no comma\n    näme: \"é\", x\n               ^\n"));
  EXPECT_THAT(text, HasSubstr("f.yaml:3:306: too long\n"));
  EXPECT_THAT(text, HasSubstr("y!\n"));
  EXPECT_THAT(text, HasSubstr("f.yaml:9:1: beyond\n"));
  EXPECT_LT(text.size(), 700U);
}

TEST(PipelineFileTest, ColumnsCountCharactersNotBytes) {
  const auto loaded = parse_pipeline("pipeline: p\nevents: {\"é\": 1, tmie: t, time: t}\n", "p.yaml");
  EXPECT_THAT(loaded.mistakes, Contains(testing::Field(&Mistake::column, 18)));
}

TEST(PipelineFileTest, AFileThatCannotBeReadIsAnError) {
  auto loaded = load_pipeline("/nonexistent/pipeline.yaml");
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(loaded.error().message, HasSubstr("/nonexistent/pipeline.yaml"));
  const std::string folder = testing::TempDir() + "/alcedo_pipeline_" + std::to_string(getpid());
  fs::create_directories(folder + "/pipeline.yaml");
  loaded = load_pipeline(folder);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::kIo);
  fs::remove(folder + "/pipeline.yaml");
  loaded = load_pipeline(folder);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(loaded.error().message, HasSubstr("pipeline.yaml"));
  fs::remove_all(folder);
}

TEST(PipelineFileTest, AMissingContractIsNamedWithItsWholePath) {
  const std::string path = "/" + std::string(90, 'a') + "/pipeline.yaml";
  const auto loaded = parse_pipeline("pipeline: p\nevents: {contract: sensors.avsc, time: t}\n", path);
  EXPECT_THAT(lines_of("p", loaded.mistakes), HasSubstr("/" + std::string(90, 'a') + "/sensors.avsc'"));
}

TEST(PipelineFileTest, StepsAreNumbersByPatternOfMetricNames) {
  const std::string rest =
      "entities: {series: __name__}\nfeatures: {level: {baseline: value, by: series}}\n"
      "detectors: {z: {zscore: [level]}}\nanomalies: {odd: {votes: {z: 1}, fire: {threshold: 6}}}\n"
      "alerts: [{to: file, default: true}]\n";
  const auto good = parse_pipeline(
      "pipeline: p\nevents: {shape: long, time: t, steps: {\"*_ratio\": 0.1, load: 1_000}}\n" + rest, "p.yaml");
  EXPECT_EQ(lines_of("p", good.mistakes), "");
  ASSERT_EQ(good.pipeline.events.steps.size(), 2U);
  EXPECT_EQ(good.pipeline.events.steps[0].pattern, "*_ratio");
  EXPECT_EQ(good.pipeline.events.steps[1].step, 1000);
  for (const auto& [steps, message] : std::vector<std::pair<std::string, std::string>>{
           {"{load: -1}", "a number above 0"}, {"[load]", "a map of patterns"}, {"{load: much}", "found 'much'"}}) {
    const auto bad =
        parse_pipeline("pipeline: p\nevents: {shape: long, time: t, steps: " + steps + "}\n" + rest, "p.yaml");
    EXPECT_THAT(lines_of("p", bad.mistakes), HasSubstr(message));
  }
}

TEST(PipelineFileTest, FeaturesOfPlaceValueAndCoupleFindTheirSlots) {
  const std::string rest =
      "\ndetectors: {z: {zscore: [f]}}\nanomalies: {odd: {votes: {z: 1}, fire: {threshold: 6}}}\n"
      "alerts: [{to: file, default: true}]\n";
  const std::string records =
      "pipeline: p\nevents: {time: t, columns: [t, card, shop, town, lat, lon, ms]}\n"
      "entities: {card: card, shop: shop}\nfeatures: {f: ";
  auto loaded = parse_pipeline(records + "{geo: [lat, lon], by: card}}" + rest, "p.yaml");
  EXPECT_EQ(lines_of("p", loaded.mistakes), "");
  const auto& place = loaded.pipeline.features.features[0];
  EXPECT_EQ(loaded.pipeline.events.numbers[static_cast<std::size_t>(place.number)].field, "lat");
  EXPECT_EQ(loaded.pipeline.events.numbers[static_cast<std::size_t>(place.number_2)].field, "lon");
  loaded = parse_pipeline(records + "{rarity: shop, by: card}}" + rest, "p.yaml");
  EXPECT_EQ(lines_of("p", loaded.mistakes), "");
  EXPECT_EQ(loaded.pipeline.features.features[0].other_key, 1);
  loaded = parse_pipeline(records + "{rarity: town, by: card}}" + rest, "p.yaml");
  EXPECT_EQ(lines_of("p", loaded.mistakes), "");
  EXPECT_EQ(loaded.pipeline.features.features[0].other_key, 2);
  EXPECT_EQ(loaded.pipeline.events.keys.at(2).parts.at(0).text, "town");
  for (const std::string feature :
       {"{distinct: town, by: card, windows: [5m, 1h], against: including}", "{quantiles: ms, by: card, windows: [1h]}",
        "{season: ms, by: card}", "{robust: ms, by: card}", "{cusum: ms, by: card}", "{unusual: ms, by: card}",
        "{discord: ms, by: card, length: 12, history: 500}"}) {
    loaded = parse_pipeline(records + feature + "}" + rest, "p.yaml");
    EXPECT_EQ(lines_of("p", loaded.mistakes), "") << feature;
    const auto plan = features::FeaturePlan::compile(loaded.pipeline.features);
    EXPECT_TRUE(plan.has_value()) << feature << ": " << plan.error().message;
  }
  EXPECT_EQ(loaded.pipeline.features.features[0].shape_values, 12U);
  EXPECT_EQ(loaded.pipeline.features.features[0].past_values, 500U);
  EXPECT_EQ(loaded.pipeline.features.features[0].min_history, 100U);
  loaded = parse_pipeline(records + "{correlation: [lat, ms], by: card, windows: [1h]}}" + rest, "p.yaml");
  EXPECT_EQ(lines_of("p", loaded.mistakes), "");
  const std::string metrics = "pipeline: p\nevents: {shape: long, time: t}\nentities: {host: host}\nfeatures: {f: ";
  loaded = parse_pipeline(metrics + "{correlation: [cpu, load], by: host}}" + rest, "p.yaml");
  EXPECT_EQ(lines_of("p", loaded.mistakes), "");
  EXPECT_THAT(loaded.pipeline.features.features[0].metrics, testing::ElementsAre("cpu", "load"));
  for (const auto& [feature, message] : std::vector<std::pair<std::string, std::string>>{
           {"{geo: [lat], by: card}}", "expected two numeric fields in degrees"},
           {"{geo: [lat, lonn], by: card}}", "did you mean 'lon'"},
           {"{rarity: tow, by: card}}", "did you mean 'town'"},
           {"{discord: ms, by: card, length: 1}}", "1"},
           {"{discord: ms, by: card, length: 65}}", "65"},
           {"{discord: ms, by: card, length: 12, history: 47}}", "47"},
           {"{discord: ms, by: card, windows: [1h]}}", "windows"},
           {"{unusual: ms, by: card, length: 8}}", "length"},
           {"{context: card, by: card}}", "expected events, found 'card'"},
           {"{correlation: lat, by: card}}", "expected two numeric fields"}}) {
    EXPECT_THAT(lines_of("p", parse_pipeline(records + feature + rest, "p.yaml").mistakes), HasSubstr(message));
  }
}

TEST(PipelineFileTest, ASumIsOfNamedColumns) {
  const std::string begin =
      "pipeline: p\nevents: {time: t}\nentities: {card: card_id}\nfeatures:\n  shape: {discord: ms}\n"
      "  far: {unusual: ms}\n  habit: {baseline: ms}\ndetectors: {all: {sum: ";
  const std::string end =
      "}}\nanomalies: {odd: {votes: {all: 1}, fire: {rate: 1%}}}\nalerts: [{to: file, default: true}]\n";
  auto loaded = parse_pipeline(begin + "[shape.surprise, far.surprise]" + end, "p.yaml");
  EXPECT_EQ(lines_of("p", loaded.mistakes), "");
  EXPECT_THAT(loaded.pipeline.detectors[0].features, testing::ElementsAre("shape.surprise", "far.surprise"));
  EXPECT_TRUE(loaded.pipeline.detectors[0].requests.empty());
  for (const auto& [columns, message] : std::vector<std::pair<std::string, std::string>>{
           {"[shape]", "a sum is of columns; expected one of feature 'shape', such as shape.surprise"},
           {"[shape.surprize]", "did you mean 'surprise'"},
           {"[habit]", "use {zscore: [habit]}"},
           {"[habit.z]", "use {zscore: [habit]}"},
           {"[far.surprise, far.surprise]", "stands twice"},
           {"[far.surprise], side: above", "unknown key 'side' of a sum detector"}}) {
    EXPECT_THAT(lines_of("p", parse_pipeline(begin + columns + end, "p.yaml").mistakes), HasSubstr(message));
  }
}

TEST(PipelineFileTest, HostileFilesAreRefusedQuickly) {
  struct Case {
    std::string yaml;
    std::string message;
  };
  std::string bomb = "a: &a [x, x]\n";
  for (char c = 'b'; c < 'j'; ++c) {
    bomb += std::string(1, c) + ": &" + c + " [*" + static_cast<char>(c - 1) + ", *" + static_cast<char>(c - 1) + "]\n";
  }
  std::string many = "pipeline: p\n";
  for (int i = 0; i < 100'000; ++i) many += "k" + std::to_string(i) + ": 1\n";
  std::string twice;
  for (int i = 0; i < 100'000; ++i) twice += "k: 1\n";
  std::string deep;
  for (int i = 0; i < 600; ++i) deep += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  std::string wide = "pipeline: p\nentities: [";
  for (int i = 0; i < 100'000; ++i) wide += "a" + std::to_string(i) + (i % 100 == 99 ? ",\n  " : ", ");
  const std::vector<Case> cases{
      {bomb, "anchors"},
      {std::string(200'000, '['), "at most 2048"},
      {"a: " + std::string(60, '[') + std::string(60, ']'), "nested deeper"},
      {std::string(500, '['), ""},
      {deep, "nested deeper"},
      {std::string((1 << 20) + 1, '#'), "larger than 1 MiB"},
      {many, "100001 entries"},
      {twice, "stands twice"},
      {wide + "z]\n", "expected a map"},
      {std::string("pipeline: \0x", 12), "not UTF-8"},
      {"pipeline: \xC0\xAF", "not UTF-8"},
      {"\xFF\xFEp\0i\0", "not UTF-8"},
      {"? [a]\n: 1", "a key must be a name"},
      {"a: !!binary x", "tags"},
      {"a: 1\n---\nb: 2\n", "second document"},
      {"", "empty file"},
      {"# nothing\n", "empty file"},
      {"just text", "expected the sections"},
      {std::string(2'000, '-') + "\n", ""},
      {std::string(2'000, ':'), ""},
      {"a: |\n" + std::string(500'000, '\n'), ""},
  };
  for (const Case& c : cases) {
    const auto loaded = parse_pipeline(c.yaml, "p.yaml");
    ASSERT_FALSE(loaded.mistakes.empty()) << c.message;
    EXPECT_LE(loaded.mistakes.size(), 101U);
    const std::string text = format_mistakes("p.yaml", c.yaml, loaded.mistakes);
    EXPECT_THAT(text, HasSubstr(c.message));
    EXPECT_LT(text.size(), 200'000U);
  }
}

// Every prefix and many mutations of a real pipeline: never a crash, and a mistake stands within the file.
TEST(PipelineFileTest, DamagedFilesNeverCrash) {
  const std::string whole(kPayments);
  const auto check = [](const std::string& yaml) {
    const auto loaded = parse_pipeline(yaml, "p.yaml");
    const int lines = static_cast<int>(std::count(yaml.begin(), yaml.end(), '\n')) + 1;
    for (const Mistake& mistake : loaded.mistakes) {
      ASSERT_GE(mistake.line, 1);
      ASSERT_LE(mistake.line, lines) << mistake.message;
      ASSERT_GE(mistake.column, 1);
      ASSERT_FALSE(mistake.message.empty());
    }
    format_mistakes("p.yaml", yaml, loaded.mistakes);
  };
  for (std::size_t size = 0; size < whole.size(); size += 3) check(whole.substr(0, size));
  Prng random(7);
  const std::string alphabet = "{}[]:,-\"'#&*!|>%@ \n\tax0\xC3";
  for (int i = 0; i < 1'500; ++i) {
    std::string yaml = whole;
    const std::size_t edits = 1 + random.next() % 3;
    for (std::size_t e = 0; e < edits; ++e) {
      const std::size_t at = random.next() % yaml.size();
      const char c = alphabet[random.next() % alphabet.size()];
      if (random.next() % 2 == 0) {
        yaml[at] = c;
      } else {
        yaml.insert(at, 1, c);
      }
    }
    check(yaml);
  }
}

// What the fuzzer found or starts from.
TEST(PipelineFileTest, FuzzCorpus) {
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(kSource + "/tests/fuzz_corpus/pipeline_file")) {
    const std::string yaml = read_file(entry.path());
    const auto loaded = parse_pipeline(yaml, "p.yaml");
    format_mistakes("p.yaml", yaml, loaded.mistakes);
    ++files;
  }
  EXPECT_GE(files, 5U);
}

}  // namespace
}  // namespace alcedo::pipeline
