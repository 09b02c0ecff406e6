// What features learn from labels that come later, in the events' rows and in files of their own: against a recompute,
// and however the work is cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>

#include "core/hash.h"
#include "pipeline/label_index.h"
#include "pipeline/label_reader.h"
#include "pipeline/runner.h"
#include "pipeline/service.h"
#include "pipeline/test_labels.h"
#include "pipeline/test_pipelines.h"

namespace alcedo::pipeline {
namespace {

using testing::HasSubstr;

constexpr std::int64_t kDelayMs = 3 * kDayMs;
constexpr std::int64_t kGrainMs = kDayMs / 60;

struct Seen {
  std::vector<std::vector<float>> rows;
  std::uint64_t hash = 1;  // of features and verdicts
  std::vector<std::string> columns;
  RunnerStats stats;
};

Seen run(const Pipeline& pipeline, const std::vector<std::string>& uris, std::size_t workers = 1,
         std::size_t batch = 4096) {
  Seen seen;
  ingest::OpenOptions how;
  how.opened_ms = 1'800'000'000'000;
  auto source = open_sources(uris, pipeline.events, how);
  EXPECT_TRUE(source) << source.error().message;
  auto labels = open_labels(pipeline, false, how.opened_ms);
  EXPECT_TRUE(labels) << labels.error().message;
  Runner::Options options;
  options.workers = workers;
  options.batch_events_max = batch;
  options.labels = labels->get();
  options.on_batch = [&](const Runner::BatchView& view) {
    for (const std::uint32_t row : view.batch.order) {
      const auto features = view.output.features.row(row);
      seen.rows.emplace_back(features.begin(), features.end());
      seen.hash =
          hash_combine(seen.hash, hash64({reinterpret_cast<const char*>(features.data()), features.size_bytes()}));
      seen.hash = hash_combine(seen.hash, view.output.verdicts[row].fired ? 2 : 1);
    }
  };
  auto runner = Runner::create(pipeline, options);
  EXPECT_TRUE(runner) << runner.error().message;
  for (const auto& column : (*runner)->engine().plan().columns()) seen.columns.push_back(column.name);
  const auto done = (*runner)->run(**source);
  EXPECT_TRUE(done) << done.error().message;
  seen.stats = (*runner)->stats();
  return seen;
}

double value_of(const Seen& seen, std::size_t row, const std::string& name) {
  const auto at = std::ranges::find(seen.columns, name);
  EXPECT_NE(at, seen.columns.end()) << name;
  return static_cast<double>(seen.rows[row][static_cast<std::size_t>(at - seen.columns.begin())]);
}

bool same_rows(const Seen& a, const Seen& b) {
  if (a.rows.size() != b.rows.size()) return false;
  for (std::size_t i = 0; i < a.rows.size(); ++i) {
    if (std::memcmp(a.rows[i].data(), b.rows[i].data(), a.rows[i].size() * sizeof(float)) != 0) return false;
  }
  return true;
}

// Of a label of one's own time, from the definition: known at `known_ms`, or without a label at event time + delay.
struct Recompute {
  std::size_t compared = 0;
  std::size_t frauds = 0;

  void check(const std::vector<TestPayment>& all, const Seen& seen, std::int64_t delay_ms) {
    ASSERT_EQ(seen.rows.size(), all.size());
    for (const auto& [key, feature, type, windows] :
         std::vector<std::tuple<std::string TestPayment::*, std::string, std::string, std::vector<int>>>{
             {&TestPayment::terminal, "risk", "", {1, 7, 30}}, {&TestPayment::card, "stolen", "stolen", {1, 2}}}) {
      std::map<std::string, std::vector<const TestPayment*>> before;
      for (std::size_t i = 0; i < all.size(); ++i) {
        const std::int64_t end = all[i].time_ms / kGrainMs * kGrainMs;
        auto& earlier = before[all[i].*key];
        for (const int days : windows) {
          double known = 0;
          double confirmed = 0;
          for (const TestPayment* one : earlier) {
            const bool fits = !one->kind.empty() && (type.empty() || one->kind == type);
            // Until its label comes, a fraud is taken for none once the delay is over.
            const bool told = fits && one->known_ms < all[i].time_ms;
            const std::int64_t known_ms = told ? one->known_ms : one->time_ms + delay_ms;
            if (known_ms < end - days * kDayMs || known_ms >= end) continue;
            ++known;
            confirmed += told ? 1 : 0;
          }
          const std::string w = days == 30 ? "30d" : std::to_string(days) + "d";
          ASSERT_EQ(value_of(seen, i, feature + ".known_" + w), known) << i << " " << feature << " " << w;
          ASSERT_EQ(value_of(seen, i, feature + ".confirmed_" + w), confirmed) << i << " " << feature << " " << w;
          ++compared;
          frauds += static_cast<std::size_t>(confirmed);
        }
        earlier.push_back(&all[i]);
      }
    }
  }
};

TEST(LabelsTest, AFileOfLabelsEqualsARecompute) {
  Recompute recompute;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Folder folder;
    const auto all = test_payments(seed, 3000, kDelayMs, true);
    const std::string events = folder.write("events.csv", payments_csv(all, false));
    folder.write("labels.csv", labels_csv(all, true));
    const Pipeline pipeline =
        labels_pipeline(folder.path(), "{from: file:labels.csv, join: id, type: reason, known: reported, delay: 3d}");
    const Seen seen = run(pipeline, {"file:" + events});
    ASSERT_NO_FATAL_FAILURE(recompute.check(all, seen, kDelayMs));
    EXPECT_EQ(seen.stats.label_misses, 0U);
    EXPECT_GT(seen.stats.labels, 100U);
  }
  std::cout << recompute.compared << " windows compared, with " << recompute.frauds << " confirmed\n";
  EXPECT_GT(recompute.frauds, 10'000U);
}

TEST(LabelsTest, TheSameTruthFromAnywhereGivesTheSameFeatures) {
  const Folder folder;
  const auto all = test_payments(4, 4000, kDelayMs, false);
  const std::string with = folder.write("with.csv", payments_csv(all, true));
  const std::string without = folder.write("without.csv", payments_csv(all, false));
  folder.write("timed.csv", labels_csv(all, true));
  folder.write("labels.csv", labels_csv(all, false));
  const Seen in_rows = run(labels_pipeline(folder.path(), "{field: kind, type: kind, delay: 3d}"), {"file:" + with});
  ASSERT_NO_FATAL_FAILURE(Recompute{}.check(all, in_rows, kDelayMs));
  const Seen timed =
      run(labels_pipeline(folder.path(), "{from: timed.csv, join: id, type: reason, known: reported, delay: 3d}"),
          {"file:" + without});
  EXPECT_TRUE(same_rows(in_rows, timed));
  const Seen joined =
      run(labels_pipeline(folder.path(), "{from: labels.csv, type: reason, delay: 3d}"), {"file:" + without});
  EXPECT_TRUE(same_rows(in_rows, joined));
}

TEST(LabelsTest, BatchesWorkersAndFilesCannotBeSeen) {
  const Folder folder;
  const auto all = test_payments(5, 3000, kDelayMs, true);
  const std::string events = folder.write("events.csv", payments_csv(all, false));
  folder.write("labels.csv", labels_csv(all, true));
  std::vector<TestPayment> halves[2];
  for (std::size_t i = 0; i < all.size(); ++i) halves[i % 3 == 0 ? 0 : 1].push_back(all[i]);
  const std::string first = folder.write("first.csv", payments_csv(halves[0], false));
  const std::string second = folder.write("second.csv", payments_csv(halves[1], false));
  const Pipeline pipeline = labels_pipeline(
      folder.path(), "{from: file:labels.csv, join: id, type: reason, known: reported, delay: 3d, keep: 5d}");
  const Seen reference = run(pipeline, {"file:" + events});
  EXPECT_GT(reference.stats.label_misses, 10U) << "labels that come after five days";
  EXPECT_GT(reference.stats.labels, 100U);
  for (const auto& [workers, batch] :
       std::vector<std::pair<std::size_t, std::size_t>>{{1, 1}, {1, 32}, {2, 4096}, {3, 777}, {4, 300}}) {
    const Seen other = run(pipeline, {"file:" + events}, workers, batch);
    EXPECT_EQ(other.hash, reference.hash) << workers << " workers, batches of " << batch;
    EXPECT_EQ(other.stats.label_misses, reference.stats.label_misses);
    const Seen merged = run(pipeline, {"file:" + first, "file:" + second}, workers, batch);
    EXPECT_EQ(merged.hash, reference.hash) << workers << " workers, batches of " << batch << ", two files";
  }
}

// An entity that is forgotten when a label of it comes, or that begins anew in the same batch, is the same for any
// batch.
TEST(LabelsTest, LabelsOfForgottenEntitiesCannotBeSeen) {
  const Folder folder;
  const auto all = test_payments(11, 4000, kDelayMs, true);
  const std::string events = folder.write("events.csv", payments_csv(all, false));
  folder.write("labels.csv", labels_csv(all, true));
  Pipeline pipeline = labels_pipeline(
      folder.path(), "{from: file:labels.csv, join: id, type: reason, known: reported, delay: 3d, keep: 60d}");
  const std::uint64_t remembered = run(pipeline, {"file:" + events}).hash;
  std::uint64_t before = remembered;
  for (const std::int64_t forget_ms : {12 * kHourMs, 4 * kHourMs}) {
    pipeline.features.forget_ms = forget_ms;
    const Seen reference = run(pipeline, {"file:" + events}, 1, 1);
    EXPECT_NE(reference.hash, before) << "nobody was forgotten";
    before = reference.hash;
    for (const auto& [workers, batch] :
         std::vector<std::pair<std::size_t, std::size_t>>{{1, 64}, {1, 4096}, {2, 1000}, {3, 4096}}) {
      EXPECT_EQ(run(pipeline, {"file:" + events}, workers, batch).hash, reference.hash)
          << workers << " workers, batches of " << batch;
    }
  }
}

// Simulated payments bring their labels beside their bytes.
TEST(LabelsTest, LabelsThatEventsCarryAreKnownAfterTheDelay) {
  const std::string path = std::string(ALCEDO_SOURCE_DIR) + "/pipelines/payments/pipeline.yaml";
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto at = text.find("\nfeatures:\n");
  ASSERT_NE(at, std::string::npos);
  text.insert(at + 11,
              "  risk: {confirmed: any, by: card, windows: [1h, 6h]}\n"
              "  tested: {confirmed: card_testing, by: merchant, windows: [30m]}\n");
  text.insert(at, "\nlabels: {delay: 10m}");
  auto loaded = parse_pipeline(text, path);
  ASSERT_TRUE(loaded.mistakes.empty()) << format_mistakes(path, loaded.text, loaded.mistakes);
  const Pipeline& pipeline = loaded.pipeline;
  auto source = open_sources({"simulate:payments?events=30000&cards=1000&seed=3"}, pipeline.events, {});
  ASSERT_TRUE(source) << source.error().message;
  const auto names = (*source)->label_types();
  const auto testing_type =
      static_cast<Label>(kFirstLabelType + (std::ranges::find(names, "card_testing") - names.begin()));
  struct One {
    std::int64_t known_ms;
    bool any, tested;
  };
  std::map<std::uint64_t, std::vector<One>> by_card;
  std::map<std::uint64_t, std::vector<One>> by_merchant;
  std::map<std::uint64_t, std::int64_t> clocks;
  std::unique_ptr<Runner> runner;
  std::size_t compared = 0;
  std::size_t confirmed = 0;
  std::size_t wrong = 0;
  const auto& entities = pipeline.entities;
  const auto card = static_cast<std::size_t>(std::ranges::find(entities, "card") - entities.begin());
  const auto merchant = static_cast<std::size_t>(std::ranges::find(entities, "merchant") - entities.begin());
  Runner::Options options;
  options.workers = 2;
  options.on_batch = [&](const Runner::BatchView& view) {
    const auto check = [&](std::uint32_t row, std::vector<One>& all, std::int64_t clock, const std::string& feature,
                           const std::string& window, std::int64_t window_ms, std::int64_t grain_ms, bool tested) {
      const std::int64_t end = clock / grain_ms * grain_ms;
      float known = 0;
      float of_them = 0;
      for (const One& one : all) {
        if (one.known_ms < end - window_ms || one.known_ms >= end) continue;
        ++known;
        of_them += (tested ? one.tested : one.any) ? 1 : 0;
      }
      const auto& plan = runner->engine().plan();
      const auto value = [&](const std::string& column) {
        return view.output.features.row(
            row)[static_cast<std::size_t>(plan.find_column(feature + "." + column + window))];
      };
      wrong += value("known_") == known && value("confirmed_") == of_them ? 0 : 1;
      confirmed += static_cast<std::size_t>(of_them);
      ++compared;
    };
    for (const std::uint32_t row : view.batch.order) {
      const EventHeader& event = view.batch.header(row);
      const One one{event.time_ms + 10 * kMinuteMs, event.label >= kFirstLabelType, event.label == testing_type};
      for (const std::size_t slot : {card, merchant}) {
        const std::uint64_t key = view.batch.key(row, slot).hash;
        auto& clock = clocks[hash_combine(key, slot)];
        clock = std::max(clock, event.time_ms);
        auto& all = slot == card ? by_card[key] : by_merchant[key];
        if (slot == card) {
          check(row, all, clock, "risk", "1h", kHourMs, kMinuteMs, false);
          check(row, all, clock, "risk", "6h", 6 * kHourMs, kMinuteMs, false);
        } else {
          check(row, all, clock, "tested", "30m", 30 * kMinuteMs, 30 * kSecondMs, true);
        }
        all.push_back(one);
      }
    }
  };
  auto made = Runner::create(pipeline, options);
  ASSERT_TRUE(made) << made.error().message;
  runner = std::move(*made);
  ASSERT_TRUE(runner->run(**source));
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(compared, 90'000U);
  EXPECT_GT(confirmed, 100U);
}

TEST(LabelsTest, MissesRepetitionsAndDamagedRowsAreCounted) {
  const Folder folder;
  auto all = test_payments(6, 1500, kDelayMs, false);
  const std::string events = folder.write("events.csv", payments_csv(all, false));
  std::string text = labels_csv(all, true);
  const auto frauds = static_cast<std::uint64_t>(std::ranges::count(text, '\n')) - 1;
  const std::string last = std::to_string(all[1200].time_ms);
  text += "stolen,nobody," + last + "\nnormal,p3," + last + "\nstolen,p3,yesterday or so\n";
  const std::string fraud = std::ranges::find_if(all, [](const auto& one) { return !one.kind.empty(); })->id;
  text += "stolen," + fraud + "," + last + "\n";
  folder.write("labels.csv", text);
  const Pipeline pipeline =
      labels_pipeline(folder.path(), "{from: file:labels.csv, type: reason, known: reported, delay: 3d, keep: 60d}");
  const Seen seen = run(pipeline, {"file:" + events});
  std::uint64_t after = 0;  // labels that come when no event follows
  for (const TestPayment& one : all) after += !one.kind.empty() && one.known_ms >= all.back().time_ms ? 1 : 0;
  EXPECT_GT(after, 0U);
  // The rows at the end wait behind those that are later than all events.
  EXPECT_EQ(seen.stats.labels, frauds - after);
  EXPECT_EQ(seen.stats.label_misses, 0U);

  // In front of them they are read.
  text = "reason,id,reported\n";
  const std::string early = std::to_string(all[1200].time_ms);
  text += "stolen,nobody," + early + "\nnormal,p3," + early + "\nstolen,p3,yesterday or so\n";
  for (int i = 0; i < 3; ++i) text += "stolen," + fraud + "," + early + "\n";
  text += "stolen,p1499," + early + "\n";
  folder.write("labels.csv", text);
  const Seen odd = run(pipeline, {"file:" + events});
  EXPECT_EQ(odd.stats.labels, 1U);
  EXPECT_EQ(odd.stats.labels_repeated, 2U);
  EXPECT_EQ(odd.stats.label_misses, 2U) << "nobody's, and that of an event which is yet to come";
  EXPECT_EQ(odd.stats.labels_normal, 1U);
  EXPECT_EQ(odd.stats.dead_letters, 1U);
}

TEST(LabelsTest, AMissingColumnIsSaidWithTheNearest) {
  const Folder folder;
  const auto all = test_payments(7, 10, kDelayMs, false);
  const std::string events = folder.write("events.csv", payments_csv(all, false));
  folder.write("labels.csv", labels_csv(all, true));
  const Pipeline pipeline =
      labels_pipeline(folder.path(), "{from: file:labels.csv, type: reasons, known: reported, delay: 3d}");
  auto labels = open_labels(pipeline, false, 0);
  ASSERT_TRUE(labels) << labels.error().message;
  Runner::Options options;
  options.labels = labels->get();
  const auto runner = Runner::create(pipeline, options);
  ASSERT_FALSE(runner);
  EXPECT_THAT(runner.error().message, HasSubstr("labels"));
  EXPECT_THAT(runner.error().message, HasSubstr("'reason'"));
}

// Share of the frauds with a score above that of all but 0.3 % of the normal rows; missing scores are the lowest.
double tpr_at_fpr(const std::vector<std::pair<double, bool>>& scored) {
  std::vector<double> normal;
  for (const auto& [score, fraud] : scored) {
    if (!fraud) normal.push_back(std::isnan(score) ? -1e9 : score);
  }
  const auto at = normal.begin() + static_cast<std::ptrdiff_t>(static_cast<double>(normal.size()) * 0.997);
  std::nth_element(normal.begin(), at, normal.end());
  double frauds = 0;
  double found = 0;
  for (const auto& [score, fraud] : scored) {
    frauds += fraud ? 1 : 0;
    found += fraud && score > *at ? 1 : 0;
  }
  return found / frauds;
}

// Terminals that were taken over: no amount tells, their confirmed frauds do, a week later.
TEST(LabelsTest, ConfirmedFraudsOfATerminalTellWhatAmountsDoNot) {
  const std::string folder = std::string(ALCEDO_SOURCE_DIR) + "/../shared/data/fraud_handbook";
  if (!std::filesystem::exists(folder + "/tx_2018-05.csv.gz"))
    GTEST_SKIP() << "the handbook's data is not beside the project (../shared/data/fraud_handbook)";
  const Pipeline pipeline = load_shipped("docs/examples/fraud_handbook");
  auto source = open_sources({"file:" + folder + "/tx_2018-04.csv.gz", "file:" + folder + "/tx_2018-05.csv.gz"},
                             pipeline.events, {.opened_ms = 1'800'000'000'000});
  ASSERT_TRUE(source) << source.error().message;
  std::vector<std::pair<double, bool>> by_amount;
  std::vector<std::pair<double, bool>> by_share;
  int amount = -1;
  int share = -1;
  Runner::Options options;
  options.on_batch = [&](const Runner::BatchView& view) {
    for (const std::uint32_t row : view.batch.order) {
      const EventHeader& event = view.batch.header(row);
      if (event.partition == 0) continue;  // April is learnt
      const auto features = view.output.features.row(row);
      const bool fraud = event.label >= kFirstLabelType;
      by_amount.emplace_back(features[static_cast<std::size_t>(amount)], fraud);
      by_share.emplace_back(features[static_cast<std::size_t>(share)], fraud);
    }
  };
  auto runner = Runner::create(pipeline, options);
  ASSERT_TRUE(runner);
  amount = (*runner)->engine().plan().find_column("habit.z");
  share = (*runner)->engine().plan().find_column("risk.share_7d.z");
  ASSERT_TRUE((*runner)->run(**source));
  std::cout << by_share.size() << " payments: of the frauds " << tpr_at_fpr(by_share)
            << " by the terminal's confirmed share, " << tpr_at_fpr(by_amount) << " by the customer's usual amount\n";
  EXPECT_GT(tpr_at_fpr(by_share), 0.35);
  EXPECT_GT(tpr_at_fpr(by_amount), 0.2);
}

// Against a map of all events, with its state saved and loaded at any moment.
TEST(LabelIndexTest, EqualsAMapAndGoesOnFromItsLogs) {
  const std::vector<std::string> keys{"card", "terminal", "shop"};
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    LabelIndex::Options options{10'000, seed % 2 == 0 ? std::uint64_t{60} : 1'000'000, keys, {0, 2}};
    auto index = std::make_unique<LabelIndex>(options);
    index->keep_log(true);
    std::vector<std::pair<std::uint64_t, std::string>> logs;
    struct Known {
      std::int64_t time_ms;
      std::uint64_t sequence, card, shop;
      bool taken;
    };
    std::map<std::uint64_t, Known> known;                        // by id
    std::vector<std::pair<std::uint64_t, std::uint64_t>> order;  // id, sequence
    std::size_t first = 0;
    Prng random(seed);
    std::int64_t now = 1'000'000;
    std::size_t found = 0;
    std::size_t unknown = 0;
    for (std::uint64_t sequence = 1; sequence < 6000; ++sequence) {
      now += static_cast<std::int64_t>(random.below(300));
      const std::int64_t watermark = now - 500;
      const auto forget = [&] {
        while (first < order.size()) {
          const auto at = known.find(order[first].first);
          const bool replaced = at == known.end() || at->second.sequence != order[first].second;
          // A replaced one keeps its place in the queue, with its own time.
          const std::int64_t time = replaced ? INT64_MIN : at->second.time_ms;
          if (!replaced && time >= watermark - options.keep_ms) break;
          if (replaced) break;
          known.erase(at);
          ++first;
        }
      };
      if (random.below(3) != 0) {
        EventHeader event;
        event.id_hash = 1 + sequence * 7;
        event.sequence = sequence;
        event.time_ms = now - static_cast<std::int64_t>(random.below(400));
        const std::string card = std::to_string(random.below(50));
        const Key keys_of[3] = {make_key(card), make_key("t"), random.below(9) == 0 ? Key{} : make_key("shop")};
        if (order.size() - first == options.events_max) known.erase(order[first++].first);
        index->add(event, keys_of);
        known[event.id_hash] = {event.time_ms, sequence, keys_of[0].hash, keys_of[2].hash, false};
        order.emplace_back(event.id_hash, sequence);
      }
      forget();
      index->forget_before(watermark);
      ASSERT_EQ(index->events(), order.size() - first);
      const std::uint64_t id = 1 + (sequence - std::min<std::uint64_t>(sequence - 1, random.below(200))) * 7;
      const auto at = known.find(id);
      LabelInput label;
      const auto answer = index->take(id, sequence, label);
      if (at == known.end()) {
        ASSERT_EQ(answer, LabelIndex::Answer::kUnknown);
        ++unknown;
      } else if (at->second.taken) {
        ASSERT_EQ(answer, LabelIndex::Answer::kRepeated);
      } else {
        ASSERT_EQ(answer, LabelIndex::Answer::kFirst);
        ASSERT_EQ(label.event_ms, at->second.time_ms);
        ASSERT_EQ(label.entities.size(), 3U);
        ASSERT_EQ(label.entities[0].hash, at->second.card);
        ASSERT_EQ(label.entities[1].hash, 0U) << "nobody asks for it";
        ASSERT_EQ(label.entities[2].hash, at->second.shop);
        at->second.taken = true;
        ++found;
      }
      if (random.below(100) != 0) continue;
      if (std::string log = index->take_log(); !log.empty()) logs.emplace_back(index->log_begins(), std::move(log));
      // What is before the oldest may be left out.
      const std::uint64_t oldest = index->oldest(sequence + 1);
      while (logs.size() > 1 && logs[1].first <= oldest) logs.erase(logs.begin());
      auto other = std::make_unique<LabelIndex>(options);
      const auto loaded = other->load_logs(logs);
      ASSERT_TRUE(loaded) << loaded.error().message;
      ASSERT_TRUE(*loaded);
      other->forget_before(watermark);
      ASSERT_EQ(other->events(), index->events());
      index = std::move(other);
      index->keep_log(true);
    }
    EXPECT_GT(found, 500U);
    EXPECT_GT(unknown, 300U);
    LabelIndex::Options others = options;
    others.slots = {0, 1};
    LabelIndex stranger(others);
    const auto loaded = stranger.load_logs(logs);
    ASSERT_TRUE(loaded);
    EXPECT_FALSE(*loaded) << "of other keys";
    EXPECT_EQ(stranger.events(), 0U);
    for (int i = 0; i < 2000; ++i) {
      auto damaged = logs;
      std::string& bytes = damaged[random.below(damaged.size())].second;
      if (i % 2 == 0) bytes.resize(random.below(bytes.size()));
      if (i % 2 == 1) bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
      LabelIndex any(options);
      static_cast<void>(any.load_logs(damaged));
      any.forget_before(now);
    }
  }
}

}  // namespace
}  // namespace alcedo::pipeline
