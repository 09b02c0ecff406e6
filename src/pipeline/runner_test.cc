// What must not be seen in verdicts: batch size, workers, a restart. And what must be: every bad input, counted and
// kept.
#include "pipeline/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "alert/delivery.h"
#include "core/hash.h"
#include "ingest/stdin_source.h"
#include "pipeline/service.h"
#include "pipeline/test_pipelines.h"

namespace alcedo::pipeline {
namespace {

using testing::HasSubstr;

/// All that came out of a run: a hash over every row's features, scores and verdicts, and the incident changes.
struct Seen {
  std::uint64_t rows = 0;
  std::uint64_t hash = 1;
  std::vector<std::string> changes;
  RunnerStats stats;
  Result<> outcome;
};

Seen run(const Pipeline& pipeline, const std::vector<std::string>& uris, std::size_t workers, std::size_t batch,
         const std::vector<std::string>& warm_up = {}) {
  Seen seen;
  ingest::OpenOptions how;
  how.opened_ms = 1'800'000'000'000;
  auto source = open_sources(uris, pipeline.events, how);
  EXPECT_TRUE(source) << source.error().message;
  Runner::Options options;
  options.workers = workers;
  options.batch_events_max = batch;
  const std::size_t detectors = pipeline.detectors.size();
  const std::size_t types = pipeline.anomalies.size();
  options.on_batch = [&](const Runner::BatchView& view) {
    const auto mix = [&](const void* data, std::size_t bytes) {
      seen.hash = hash_combine(seen.hash, hash64({static_cast<const char*>(data), bytes}));
    };
    for (const std::uint32_t row : view.batch.order) {
      ++seen.rows;
      mix(&view.batch.header(row).sequence, 8);
      const auto features = view.output.features.row(row);
      mix(features.data(), features.size_bytes());
      mix(view.output.raw.data() + row * detectors, detectors * sizeof(float));
      mix(view.output.surprises.data() + row * detectors, detectors * sizeof(float));
      for (std::size_t t = 0; t < types; ++t) {
        const auto& verdict = view.output.verdicts[row * types + t];
        mix(&verdict.surprise, sizeof(float));
        seen.hash = hash_combine(seen.hash, verdict.fired ? 2 : 1);
      }
    }
    for (const auto& change : view.output.changes) seen.changes.push_back(alert::alert_json(change));
  };
  auto runner = Runner::create(pipeline, options);
  EXPECT_TRUE(runner) << runner.error().message;
  if (!warm_up.empty()) {
    auto history = open_sources(warm_up, pipeline.events, how);
    EXPECT_TRUE(history) << history.error().message;
    EXPECT_TRUE((*runner)->warm_up(**history));
  }
  seen.outcome = (*runner)->run(**source);
  seen.stats = (*runner)->stats();
  return seen;
}

TEST(RunnerTest, BatchesAndWorkersCannotBeSeenInPayments) {
  auto pipeline = load_shipped("pipelines/payments");
  pipeline.calibrate_events = 4000;
  const std::vector<std::string> uri{"simulate:payments?events=12000&cards=1000&seed=5"};
  const Seen reference = run(pipeline, uri, 1, 4096);
  ASSERT_TRUE(reference.outcome);
  EXPECT_EQ(reference.rows, 12'000U);
  EXPECT_GT(reference.changes.size(), 20U);
  for (const auto& [workers, batch] :
       std::vector<std::pair<std::size_t, std::size_t>>{{1, 1}, {1, 32}, {2, 4096}, {3, 777}, {4, 1000}}) {
    const Seen other = run(pipeline, uri, workers, batch);
    EXPECT_EQ(other.hash, reference.hash) << workers << " workers, batches of " << batch;
    EXPECT_EQ(other.changes, reference.changes) << workers << " workers, batches of " << batch;
  }
}

TEST(RunnerTest, WarmUpLearnsAndAlertsNothing) {
  auto pipeline = load_shipped("pipelines/payments");
  pipeline.calibrate_events = 4000;
  const Seen all = run(pipeline, {"simulate:payments?events=3000&skip=9000&cards=1000&seed=5"}, 2, 512,
                       {"simulate:payments?events=9000&cards=1000&seed=5"});
  const Seen cold = run(pipeline, {"simulate:payments?events=3000&skip=9000&cards=1000&seed=5"}, 2, 512);
  ASSERT_TRUE(all.outcome);
  EXPECT_TRUE(all.stats.calibrated);
  EXPECT_FALSE(cold.stats.calibrated);
  EXPECT_EQ(all.rows, 12'000U);
  for (const auto& change : all.changes)
    EXPECT_THAT(change, testing::Not(HasSubstr("\"step\":\"open\",\"first\":\"2025-01-06")));
}

// 40 hosts' metrics with one that falls silent and returns.
std::string metrics(int seconds) {
  std::string text;
  for (int s = 0; s < seconds; ++s) {
    for (int host = 0; host < 4; ++host) {
      if (host == 2 && s > 300 && s < 600) continue;
      const double value = 0.3 + 0.01 * ((s * 7 + host * 3) % 11) + (host == 1 && s > 900 ? 0.6 : 0);
      text += "{\"__name__\":\"cpu_busy_ratio\",\"instance\":\"h" + std::to_string(host) +
              "\",\"device\":\"\",\"value\":" + std::to_string(value) +
              ",\"timestamp\":" + std::to_string(1'700'000'000'000 + s * 1000) + "}\n";
    }
  }
  return text;
}

TEST(RunnerTest, InfrastructureSeesASilentHostAndAStep) {
  const Folder folder;
  auto pipeline = load_shipped("pipelines/infrastructure");
  pipeline.calibrate_events = 2000;
  const std::string file = folder.write("metrics.ndjson", metrics(1000));
  const Seen reference = run(pipeline, {"file:" + file}, 1, 4096);
  ASSERT_TRUE(reference.outcome);
  const std::string all = testing::PrintToString(reference.changes);
  int down = 0;
  int up = 0;
  int step = 0;
  for (const auto& change : reference.changes) {
    if (change.find("\"type\":\"host_down\"") != std::string::npos) {
      EXPECT_THAT(change, HasSubstr("\"key\":\"h2\""));
      down += change.find("\"step\":\"open\"") != std::string::npos ? 1 : 0;
      up += change.find("\"step\":\"resolve\"") != std::string::npos ? 1 : 0;
    } else if (change.find("\"step\":\"open\"") != std::string::npos && change.find("h1") != std::string::npos) {
      ++step;
    }
  }
  EXPECT_EQ(down, 1) << all;
  EXPECT_EQ(up, 1) << all;
  EXPECT_GE(step, 1) << all;
  for (const std::size_t batch : {1UL, 33UL})
    EXPECT_EQ(run(pipeline, {"file:" + file}, 3, batch).changes, reference.changes);
}

TEST(RunnerTest, SeveralFilesAreMergedByTimeHoweverTheyAreBatched) {
  const Folder folder;
  const auto pipeline = load_shipped("docs/examples/nab");
  std::vector<std::string> uris;
  for (int f = 0; f < 5; ++f) {
    std::string text = "timestamp,value\n";
    for (int i = 0; i < 700; ++i) {
      const int minute = i * (f + 1);
      text += "2024-01-" + std::to_string(10 + minute / 1440) + " " + (minute / 60 % 24 < 10 ? "0" : "") +
              std::to_string(minute / 60 % 24) + ":" + (minute % 60 < 10 ? "0" : "") + std::to_string(minute % 60) +
              ":00," + std::to_string((i * 37 + f) % 101) + "\n";
    }
    uris.push_back("file:" + folder.write("series" + std::to_string(f) + ".csv", text));
  }
  const Seen reference = run(pipeline, uris, 1, 4096);
  ASSERT_TRUE(reference.outcome);
  EXPECT_EQ(reference.rows, 3500U);
  EXPECT_EQ(reference.stats.late, 0U);
  for (const std::size_t batch : {1UL, 64UL}) EXPECT_EQ(run(pipeline, uris, 2, batch).hash, reference.hash) << batch;
}

constexpr const char* kSmallPipeline = R"(
pipeline: small
events: {format: json, id: id, time: {field: t, unit: ms}, ahead: AHEAD, lateness: 1s}
entities: {user: user}
features:
  habit: {baseline: amount, by: user}
detectors:
  habit_z: {zscore: [habit]}
anomalies:
  odd: {by: user, votes: {habit_z: 1}, fire: {rate: 1%}}
alerts: [{to: file, default: true}]
)";

Pipeline small(const std::string& ahead) {
  std::string text = kSmallPipeline;
  text.replace(text.find("AHEAD"), 5, ahead);
  auto loaded = parse_pipeline(text, "small.yaml");
  EXPECT_TRUE(loaded.mistakes.empty()) << format_mistakes("small.yaml", text, loaded.mistakes);
  return loaded.pipeline;
}

std::string event(int i, const std::string& amount = "5", std::int64_t time_ms = 0) {
  return "{\"id\":\"e" + std::to_string(i) +
         "\",\"t\":" + std::to_string(time_ms == 0 ? 1'700'000'000'000 + i * 1000 : time_ms) + ",\"user\":\"u" +
         std::to_string(i % 3) + "\",\"amount\":" + amount + "}\n";
}

// A beat that is left out: the page must name the shape, and say how rare it is.
TEST(RunnerTest, ASumTellsWhichOfItsColumnsMadeIt) {
  const std::string yaml = R"(
pipeline: beat
events: {format: json, id: id, time: {field: t, unit: ms}, ahead: none, lateness: 1s}
entities: {user: user}
features:
  shape: {discord: amount, length: 16, history: 900}
  far: {unusual: amount}
detectors: {rare: {sum: [far.surprise, shape.surprise]}}
anomalies: {odd: {votes: {rare: 1}, fire: {threshold: 2.5}}}
calibrate_events: 500
alerts: [{to: file, default: true}]
)";
  const auto loaded = parse_pipeline(yaml, "beat.yaml");
  ASSERT_TRUE(loaded.mistakes.empty()) << format_mistakes("beat.yaml", yaml, loaded.mistakes);
  std::string text;
  for (int i = 0; i < 3600; i += 3) {  // event() gives each third to u0
    const int beat = i / 3;
    const bool missed = beat >= 1000 && beat < 1020;
    text += event(i, std::to_string(50 + (missed ? 0 : 40 * std::sin(beat * 0.314159265)) + 0.1 * (beat * 7919 % 5)));
  }
  const Folder folder;
  const Seen seen = run(loaded.pipeline, {"file:" + folder.write("in.ndjson", text)}, 1, 256);
  ASSERT_TRUE(seen.outcome) << seen.outcome.error().message;
  ASSERT_FALSE(seen.changes.empty());
  EXPECT_THAT(seen.changes, testing::Contains(testing::AllOf(HasSubstr("shape.surprise "), HasSubstr(", once in "),
                                                             HasSubstr(" of its own past (rare "))));
  for (const std::string& change : seen.changes) EXPECT_THAT(change, testing::Not(HasSubstr("\"reasons\":[]")));
}

TEST(RunnerTest, EveryBadInputIsCountedKeptAndSurvived) {
  const Folder folder;
  std::string text = event(0);
  text += "{\"id\":\"broken\",\n";                                                     // malformed
  text += event(1, "\"five\"");                                                        // wrong type
  text += event(2, "NaN");                                                             // not JSON
  text += event(3, "1e999");                                                           // infinite
  text += "{\"id\":\"e4\",\"user\":\"u1\",\"amount\":5}\n";                            // no time
  text += "{\"id\":\"e5\",\"t\":1700000005000,\"user\":\"\xff\xfe\",\"amount\":5}\n";  // not UTF-8
  text += std::string(10 << 20, 'x') + "\n";                                           // 10 MB
  text += event(6) + event(6);                                                         // the same id twice
  text += event(7, "5", 1000);                                                         // 1970
  text += event(8, "5", 4'102'444'800'000);                                            // 2100
  text += event(9);
  const auto pipeline = small("5m");
  ingest::OpenOptions how;
  how.opened_ms = 1'800'000'000'000;
  auto source = open_sources({"file:" + folder.write("in.ndjson", text)}, pipeline.events, how);
  ASSERT_TRUE(source);
  auto dead = ingest::DeadLetters::open(folder.path() + "/dead.ndjson", 64 << 20);
  ASSERT_TRUE(dead);
  Runner::Options options;
  options.dead_letters = dead->get();
  auto runner = Runner::create(pipeline, options);
  ASSERT_TRUE(runner);
  ASSERT_TRUE((*runner)->run(**source));
  const auto stats = (*runner)->stats();
  EXPECT_EQ(stats.records, 14U - 1U);
  EXPECT_EQ(stats.events, 4U);  // 0, 6, 1970's, 9
  EXPECT_EQ(stats.duplicates, 1U);
  EXPECT_EQ(stats.late, 1U);
  EXPECT_EQ(stats.dead_letters, 8U);
  EXPECT_EQ(stats.records, stats.events + stats.duplicates + stats.dead_letters + stats.empty);
  EXPECT_EQ(stats.dead_by_reason.at("ahead"), 1U);
  EXPECT_EQ(stats.dead_by_reason.at("too_long"), 1U);
  EXPECT_EQ(stats.dead_by_reason.at("invalid_utf8"), 1U);
  std::vector<std::string> kept;
  ASSERT_TRUE(ingest::read_dead_letters(folder.path() + "/dead.ndjson", [&](const ingest::DeadLetter& letter) {
    kept.push_back(letter.bytes);
    EXPECT_FALSE(letter.message.empty());
    return true;
  }));
  EXPECT_EQ(kept.size(), 8U);
  EXPECT_THAT(kept, testing::Contains("{\"id\":\"broken\","));
  const auto mode = std::filesystem::status(folder.path() + "/dead.ndjson").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST(RunnerTest, ATruncatedGzipGivesWhatItHoldsAndAnError) {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += event(i, std::to_string(i * 7919 % 1000));
  const std::string whole = folder.path() + "/whole.gz";
  gzFile out = gzopen(whole.c_str(), "wb");
  ASSERT_EQ(gzwrite(out, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  gzclose(out);
  std::filesystem::resize_file(whole, std::filesystem::file_size(whole) / 2);
  const Seen seen = run(small("none"), {"file:" + whole}, 1, 100);
  ASSERT_FALSE(seen.outcome);
  EXPECT_THAT(seen.outcome.error().message, HasSubstr("whole.gz"));
  EXPECT_GT(seen.rows, 100U);
}

TEST(RunnerTest, AnUnreadableFileIsAClearMessage) {
  auto source = open_sources({"file:/nowhere/events.ndjson"}, small("none").events, {});
  ASSERT_FALSE(source);
  EXPECT_THAT(source.error().message, HasSubstr("/nowhere/events.ndjson"));
}

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

struct ServiceTest : testing::Test {
  Folder folder;
  std::string events;
  Pipeline pipeline = small("none");

  ServiceTest() {
    for (int i = 0; i < 6000; ++i) events += event(i, i % 500 == 499 ? "900" : std::to_string(5 + i % 7));
    folder.write("in.ndjson", events);
  }
  Service::Options options(const std::string& data) const {
    Service::Options out;
    out.data = folder.path() + "/" + data;
    out.sources = {"file:" + folder.path() + "/in.ndjson"};
    out.live = false;
    return out;
  }
  Result<RunnerStats> run(const std::string& data, std::uint64_t stop_after = 0, double speed = 0) {
    auto how = options(data);
    how.speed = speed;
    Service* running = nullptr;
    std::uint64_t events_seen = 0;
    how.on_batch = [&](const Runner::BatchView& view) {
      events_seen += view.batch.order.size();
      if (stop_after > 0 && events_seen >= stop_after) running->stop();
    };
    auto service = Service::open(pipeline, how);
    if (!service) return std::unexpected(service.error());
    running = service->get();
    (*service)->start();
    if (auto done = (*service)->wait(); !done) return std::unexpected(done.error());
    return (*service)->stats();
  }
};

TEST_F(ServiceTest, ARestartPagesNobodyAgainAndLosesNothing) {
  ASSERT_TRUE(run("whole"));
  const auto expected = lines_of(folder.path() + "/whole/alerts.ndjson");
  ASSERT_GE(expected.size(), 5U);
  // Paced, so that events which were admitted and not yet processed are left behind.
  ASSERT_TRUE(run("restarted", 700, 10'000));
  ASSERT_TRUE(run("restarted", 4096));
  ASSERT_TRUE(run("restarted"));
  ASSERT_TRUE(run("restarted"));
  const auto seen = lines_of(folder.path() + "/restarted/alerts.ndjson");
  // Updates may be coalesced differently; openings and resolutions may not differ.
  const auto steps = [](const std::vector<std::string>& lines, const char* step) {
    std::vector<std::string> out;
    for (const auto& line : lines) {
      if (line.find(step) == std::string::npos) continue;
      const auto at = line.find("\"incident\":\"") + 12;
      out.push_back(line.substr(at, line.find('"', at) - at));
    }
    return out;
  };
  EXPECT_EQ(steps(seen, "\"step\":\"open\""), steps(expected, "\"step\":\"open\""));
  EXPECT_EQ(steps(seen, "\"step\":\"resolve\""), steps(expected, "\"step\":\"resolve\""));
}

// After a power cut the journal may know records that the source's own log has lost, since the journal reached the disk
// first.
TEST(RunnerTest, WhatTheLogLostGivesWayToWhatComesNext) {
  const Folder folder;
  const auto pipeline = small("none");
  const std::string log_directory = folder.path() + "/log-stdin";
  const std::string journal_path = folder.path() + "/journal";
  // One process a round: what `text` brings comes through a pipe, behind what the log holds.
  const auto round = [&](const std::string& text, std::uint64_t events_expected) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ASSERT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(ends[1]);
    auto source = ingest::StdinSource::create(ends[0], {.log_directory = log_directory});
    ASSERT_TRUE(source) << source.error().message;
    auto journal = Journal::open(journal_path, "small", 1000);
    ASSERT_TRUE(journal) << journal.error().message;
    Runner::Options options;
    options.journal = journal->get();
    auto runner = Runner::create(pipeline, options);
    ASSERT_TRUE(runner) << runner.error().message;
    const auto done = (*runner)->run(**source);
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ((*runner)->stats().events, events_expected);
    ::close(ends[0]);
  };
  std::string first;
  for (int i = 0; i < 20; ++i) first += event(i);
  round(first, 20);
  // The log's tail goes: a dozen records or so.
  const std::string segment = log_directory + "/00000000000000000000.log";
  std::filesystem::resize_file(segment, std::filesystem::file_size(segment) * 2 / 5);
  std::uint64_t left = 0;
  {
    auto log = ingest::LocalLog::open(log_directory, {});
    ASSERT_TRUE(log) << log.error().message;
    left = static_cast<std::uint64_t>((*log)->end_offset());
  }
  ASSERT_GT(left, 2U);
  ASSERT_LT(left, 15U);
  // Other records take the lost ones' offsets, and not all of them become events.
  std::string second;
  for (int i = 100; i < 130; ++i) second += i % 3 == 0 ? "no event\n" : event(i);
  round(second, left + 20);
  {
    auto journal = Journal::open(journal_path, "small", 1000);
    ASSERT_TRUE(journal) << journal.error().message;
    EXPECT_EQ((*journal)->last_sequence(), left + 20);
  }
  // And the log with its journal is one story again.
  round("", left + 20);
  round(event(200), left + 21);
}

TEST(PrivateKeyTest, AHalfWrittenDraftIsNoKeyAndInNobodysWay) {
  const Folder folder;
  folder.write("private.key.new", "0123");
  const auto drawn = private_key(folder.path());
  ASSERT_TRUE(drawn) << drawn.error().message;
  EXPECT_EQ(*private_key(folder.path()), *drawn);
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/private.key.new"));
  const auto status = std::filesystem::status(folder.path() + "/private.key");
  EXPECT_EQ(status.permissions(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(ServiceTest, ASecondProcessIsRefusedWithThePid) {
  auto first = Service::open(pipeline, options("data"));
  ASSERT_TRUE(first);
  auto second = Service::open(pipeline, options("data"));
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
}

TEST_F(ServiceTest, AChangedSourceIsNoticed) {
  ASSERT_TRUE(run("data"));
  folder.write("in.ndjson", "\n{}\n" + events.substr(events.find('\n') + 1));
  const auto again = run("data");
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("changed"));
}

TEST_F(ServiceTest, FullDeadLettersPauseTheSourceUntilThereIsRoom) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "{\"id\":\"broken " + std::to_string(i) + "\n";
  folder.write("in.ndjson", text + events);
  auto how = options("data");
  how.dead_letter_bytes_max = 2000;
  std::atomic<int> problems{0};
  how.on_problem = [&](const std::string&) { problems.fetch_add(1); };
  auto service = Service::open(pipeline, how);
  ASSERT_TRUE(service);
  (*service)->start();
  for (int i = 0; i < 500 && (*service)->stats().paused.empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_THAT((*service)->stats().paused, HasSubstr("dead"));
  // Whenever it is full somebody moves the letters away; in the end all are there.
  const std::string path = how.data + "/dead_letters.ndjson";
  std::vector<std::string> paths{path};
  while (!(*service)->finished()) {
    std::error_code gone;
    const auto bytes = std::filesystem::file_size(path, gone);
    if (!(*service)->stats().paused.empty() && !gone && bytes > how.dead_letter_bytes_max / 2) {
      paths.push_back(path + "." + std::to_string(paths.size()));
      std::filesystem::rename(path, paths.back());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE((*service)->wait());
  std::set<std::string> letters;
  for (const auto& file : paths) {
    for (const auto& line : lines_of(file)) letters.insert(line);
  }
  EXPECT_EQ(letters.size(), 200U);
  EXPECT_EQ((*service)->stats().events, 6000U);
  EXPECT_GT(problems.load(), 0);
}

}  // namespace
}  // namespace alcedo::pipeline
