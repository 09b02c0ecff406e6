// A process that is killed and started again on its data directory, against one that never was: no verdict may tell.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/prng.h"
#include "core/time.h"
#include "pipeline/service.h"
#include "pipeline/test_labels.h"
#include "pipeline/test_pipelines.h"

namespace alcedo::pipeline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Pipeline load(const std::string& path) {
  Pipeline pipeline = load_shipped(path);
  pipeline.calibrate_events = 3000;
  for (auto& route : pipeline.routes) {
    if (route.kind != alert::RouteSpec::Kind::kPagerDuty) continue;
    route.kind = alert::RouteSpec::Kind::kFile;
    route.path = route.name + ".ndjson";
  }
  return pipeline;
}

constexpr std::size_t kEventsMax = 100'000;

/// What processes that die leave of themselves: memory that they share with the test.
struct Seen {
  std::uint64_t hashes[kEventsMax];  // by sequence: of a row's features, scores and verdicts
  std::uint64_t processed;           // events of all processes
  std::uint64_t differing;           // rows that came out in another way than before
  std::uint64_t events;              // RunnerStats at the end
  std::uint64_t incidents;
  std::uint64_t resident_max;
  std::uint64_t entities;
  std::uint64_t first;        // the first sequence that this process saw
  std::int64_t ready_ms_max;  // from opening to reading
  char fault[512];
  char notices[2048];
};

class Shared {
 public:
  Shared() {
    void* memory = ::mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    seen_ = static_cast<Seen*>(memory);
  }
  ~Shared() { ::munmap(seen_, sizeof(Seen)); }
  Seen* operator->() const { return seen_; }
  Seen& operator*() const { return *seen_; }

 private:
  Seen* seen_;
};

struct Life {
  std::uint64_t kill_after = 0;  // events of this process; 0: it may finish
  std::uint64_t stop_after = 0;  // the same for a clean stop
  std::int64_t checkpoint_every_ms = 5;
  std::size_t state_bytes_max = 0;
  std::size_t workers = 1;
  bool fails = false;  // it must, with Seen::fault
};

std::uint64_t row_hash(const Pipeline& pipeline, const Runner::BatchView& view, std::uint32_t row) {
  std::uint64_t hash = 1;
  const auto mix = [&](const void* data, std::size_t bytes) {
    hash = hash_combine(hash, hash64({static_cast<const char*>(data), bytes}));
  };
  const auto features = view.output.features.row(row);
  mix(features.data(), features.size_bytes());
  const std::size_t detectors = pipeline.detectors.size();
  mix(view.output.surprises.data() + row * detectors, detectors * sizeof(float));
  for (std::size_t t = 0; t < pipeline.anomalies.size(); ++t) {
    const auto& verdict = view.output.verdicts[row * pipeline.anomalies.size() + t];
    mix(&verdict.surprise, sizeof(float));
    hash = hash_combine(hash, verdict.fired ? 2 : 1);
  }
  for (const Key& key : view.batch.keys(row)) hash = hash_combine(hash, hash64(key.text));
  return hash;
}

/// One process on `data`, which lives as `life` says. Nothing of a service may run in the test's own process: threads
/// do not survive a fork.
void live(const Pipeline& pipeline, const std::string& data, const std::string& uri, const Life& life, Seen& seen) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Service::Options options;
    options.data = data;
    options.sources = {uri};
    options.live = false;
    options.workers = life.workers;
    options.checkpoint_every_ms = life.checkpoint_every_ms;
    options.state_bytes_max = life.state_bytes_max;
    Service* running = nullptr;
    std::uint64_t events = 0;
    seen.first = 0;
    options.on_batch = [&](const Runner::BatchView& view) {
      for (const std::uint32_t row : view.batch.order) {
        const std::uint64_t sequence = view.batch.header(row).sequence;
        if (sequence >= kEventsMax) std::abort();
        const std::uint64_t hash = row_hash(pipeline, view, row);
        if (seen.hashes[sequence] != 0 && seen.hashes[sequence] != hash) ++seen.differing;
        seen.hashes[sequence] = hash;
        if (seen.first == 0) seen.first = sequence;
        ++seen.processed;
        ++events;
      }
      seen.resident_max = std::max<std::uint64_t>(seen.resident_max, running->runner().engine().resident_entities());
      if (life.kill_after > 0 && events >= life.kill_after) ::kill(::getpid(), SIGKILL);
      if (life.stop_after > 0 && events >= life.stop_after) running->stop();
    };
    std::string notices;
    options.on_notice = [&](const std::string& notice) { notices += notice + "\n"; };
    const std::int64_t from_ns = steady_ns();
    auto service = Service::open(pipeline, options);
    seen.ready_ms_max = std::max(seen.ready_ms_max, (steady_ns() - from_ns) / 1'000'000);
    Result<> done = service ? Result<>{} : std::unexpected(service.error());
    if (service) {
      running = service->get();
      (*service)->start();
      done = (*service)->wait();
      seen.events = (*service)->stats().events;
      seen.incidents = (*service)->stats().incidents_opened;
      seen.entities = (*service)->stats().entities;
    }
    std::memset(seen.fault, 0, sizeof seen.fault);
    std::memset(seen.notices, 0, sizeof seen.notices);
    if (!done) done.error().message.copy(seen.fault, sizeof seen.fault - 1);
    notices.copy(seen.notices, sizeof seen.notices - 1);
    service = error(ErrorCode::kInternal, "");
    ::_exit(done ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) {
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
  } else {
    EXPECT_EQ(WEXITSTATUS(status), life.fails ? 1 : 0) << seen.fault;
  }
}

/// Openings and resolutions. When they are delivered depends on how fast events come, and a kill between a delivery and
/// its record repeats it, so neither their order nor their number is compared; that pages go out once is
/// kill_nine.py's.
std::set<std::string> all_steps(const Pipeline& pipeline, const std::string& data) {
  std::set<std::string> out;
  for (const auto& route : pipeline.routes) {
    std::ifstream file(data + "/" + (route.path.empty() ? "alerts.ndjson" : route.path));
    for (std::string line; std::getline(file, line);) {
      for (const char* step : {"\"step\":\"open\"", "\"step\":\"resolve\""}) {
        if (line.find(step) == std::string::npos) continue;
        const auto at = line.find("\"incident\":\"") + 12;
        out.insert(route.name + " " + step + " " + line.substr(at, line.find('"', at) - at));
      }
    }
  }
  return out;
}

struct Story {
  Pipeline pipeline;
  std::string uri;
  std::uint64_t events = 0;
  int lives = 12;
  std::size_t state_bytes_max = 0;
};

void tell(const Story& story, std::uint64_t seed) {
  const Folder folder;
  const Shared seen;
  const std::string whole = folder.path() + "/whole";
  const std::string data = folder.path() + "/killed";
  // One secret, so that private fields are the same keys.
  for (const std::string& one : {whole, data}) {
    std::filesystem::create_directory(one);
    std::ofstream(one + "/private.key") << "000102030405060708090a0b0c0d0e0f\n";
  }
  ASSERT_NO_FATAL_FAILURE(live(story.pipeline, whole, story.uri, {.checkpoint_every_ms = 0}, *seen));
  EXPECT_EQ(seen->events, story.events);
  const auto expected = all_steps(story.pipeline, whole);
  ASSERT_GE(expected.size(), 5U) << "too few incidents to prove anything";
  const std::uint64_t incidents = seen->incidents;
  const std::uint64_t entities = seen->entities;

  Prng random(seed);
  seen->processed = 0;
  seen->resident_max = 0;
  std::uint64_t resumed = 0;
  for (int life = 0; life < story.lives; ++life) {
    Life next;
    next.workers = 1 + random.below(3);
    next.state_bytes_max = story.state_bytes_max;
    const std::uint64_t after = 1 + random.below(story.events / 6);
    (random.below(5) == 0 ? next.stop_after : next.kill_after) = after;
    ASSERT_NO_FATAL_FAILURE(live(story.pipeline, data, story.uri, next, *seen));
    resumed += seen->first > 1 ? 1 : 0;
  }
  ASSERT_NO_FATAL_FAILURE(live(story.pipeline, data, story.uri, {.state_bytes_max = story.state_bytes_max}, *seen));
  EXPECT_EQ(seen->differing, 0U);
  EXPECT_EQ(seen->events, story.events) << "counts go on";
  EXPECT_EQ(seen->incidents, incidents);
  EXPECT_EQ(seen->entities, entities);
  EXPECT_EQ(all_steps(story.pipeline, data), expected);
  EXPECT_GT(resumed, static_cast<std::uint64_t>(story.lives) / 4) << "restarts that went on from a checkpoint";
  std::cout << story.lives << " lives, " << resumed << " resumed from a checkpoint, " << seen->processed
            << " events processed for " << story.events << ", " << expected.size() << " alerts, opened within "
            << seen->ready_ms_max << " ms";
  if (story.state_bytes_max != 0) {
    std::cout << ", at most " << seen->resident_max << " of " << entities << " entities in memory";
    EXPECT_LT(seen->resident_max, entities);
  }
  std::cout << "\n";
}

class RestartTest : public testing::Test {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "ThreadSanitizer does not follow a fork into threads";
#endif
    // As under CTest, where each test has a process of its own.
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    if (std::distance(begin(tasks), end(tasks)) > 1)
      GTEST_SKIP() << "tests before this one have left threads, which a fork does not survive: run it alone";
  }
};

TEST_F(RestartTest, PaymentsGoOnWhereTheyStopped) {
  tell({load("pipelines/payments"), "simulate:payments?events=30000&cards=1000&seed=5", 30'000, 24}, 1);
}

TEST_F(RestartTest, EntitiesMayExceedMemory) {
  tell({load("pipelines/payments"), "simulate:payments?events=30000&cards=4000&seed=6", 30'000, 16, 3 << 20}, 2);
}

// Four hours of three components: `db` has a storm of errors each half hour, `cron` falls silent now and then.
std::string log_lines() {
  std::string text;
  Prng random(9);
  const auto line = [&](int second, const std::string& rest) {
    const std::string iso = format_iso_time(1'226'260'800'000 + second * 1000LL);
    text += iso.substr(2, 2) + iso.substr(5, 2) + iso.substr(8, 2) + " " + iso.substr(11, 2) + iso.substr(14, 2) +
            iso.substr(17, 2) + " " + rest + "\n";
  };
  for (int s = 0; s < 14'400; ++s) {
    line(s, "71 INFO web: GET /items/" + std::to_string(random.below(1000)) + " took " + std::to_string(s % 90) + "ms");
    if (s % 40 == 7) line(s, "72 ERROR db: lost connection to 10.0.0." + std::to_string(s % 250) + ":5432");
    if (s > 3600 && s % 1800 < 40) {
      for (int k = 0; k < 5; ++k) line(s, "72 ERROR db: lost connection to 10.0.0." + std::to_string(k) + ":5432");
    }
    if (s % 30 == 0 && s % 5000 < 3600) line(s, "9 INFO cron: job " + std::to_string(s) + " started");
  }
  return text;
}

TEST_F(RestartTest, TemplatesAndSilenceOfLogsGoOn) {
  const Folder folder;
  const std::string text = log_lines();
  const std::string path = folder.write("app.log", text);
  tell({load("pipelines/logs"), "file:" + path, static_cast<std::uint64_t>(std::ranges::count(text, '\n')), 12}, 3);
}

// Metrics of one machine, which is silent for five minutes of each half hour; one of them is a counter.
std::string metric_lines(const std::string& instance, std::uint64_t seed, std::uint64_t& events) {
  std::string text;
  Prng random(seed);
  double sent = 0;
  for (std::int64_t s = 0; s < 4 * 3600; s += 5) {
    if (s % 1800 >= 1500) continue;
    const std::int64_t at_ms = 1'700'000'000'000 + s * 1000 + static_cast<std::int64_t>(seed) * 137;
    sent += 1000 + 50 * random.normal() + (s % 1800 < 60 ? 90'000 : 0);
    const auto line = [&](const char* metric, double value) {
      text += "{\"__name__\":\"" + std::string(metric) + "\",\"instance\":\"" + instance +
              "\",\"value\":" + std::to_string(value) + ",\"timestamp\":" + std::to_string(at_ms) + "}\n";
      ++events;
    };
    line("cpu_busy_ratio", 0.2 + 0.02 * random.normal() + (s % 3600 < 90 ? 0.7 : 0));
    line("network_sent_bytes_total", sent);
  }
  return text;
}

TEST_F(RestartTest, MergedFilesAndCountersGoOn) {
  const Folder folder;
  std::uint64_t events = 0;
  for (int i = 1; i <= 3; ++i) {
    const std::string name = "host" + std::to_string(i);
    folder.write("metrics-" + name + ".ndjson", metric_lines(name, static_cast<std::uint64_t>(i), events));
  }
  tell({load("pipelines/infrastructure"), "file:" + folder.path() + "/metrics-*.ndjson", events, 12}, 4);
}

// A label is neither lost nor taken twice: features of every event are those of a process that was never killed.
TEST_F(RestartTest, LabelsGoOn) {
  const Folder folder;
  const auto all = test_payments(8, 20'000, 3 * kDayMs, true, 2000);
  const std::string events = folder.write("events.csv", payments_csv(all, false));
  folder.write("labels.csv", labels_csv(all, true));
  const Pipeline pipeline =
      labels_pipeline(folder.path(), "{from: file:labels.csv, type: reason, known: reported, delay: 3d, keep: 5d}");
  tell({pipeline, "file:" + events, all.size(), 12}, 5);
  tell({pipeline, "file:" + events, all.size(), 16, 100 << 10}, 6);
}

TEST_F(RestartTest, LabelsOfRowsGoOn) {
  const Folder folder;
  const auto all = test_payments(9, 20'000, 3 * kDayMs, false, 2000);
  const std::string events = folder.write("events.csv", payments_csv(all, true));
  tell({labels_pipeline(folder.path(), "{field: kind, type: kind, delay: 3d}"), "file:" + events, all.size(), 12,
        100 << 10},
       7);
}

// A replay takes labels where they came, not where they would belong.
TEST_F(RestartTest, LabelsThatCameSinceChangeNothingThatWasDecided) {
  const Folder folder;
  const Shared seen;
  const auto all = test_payments(10, 8000, 3 * kDayMs, true);
  const std::vector<TestPayment> some(all.begin(), all.begin() + 6000);
  std::string labels = labels_csv(all, true);
  std::string known = labels.substr(0, labels.find('\n', labels.size() / 3) + 1);
  const std::string events = folder.write("events.csv", payments_csv(some, false));
  folder.write("labels.csv", known);
  const Pipeline pipeline =
      labels_pipeline(folder.path(), "{from: file:labels.csv, type: reason, known: reported, delay: 3d, keep: 60d}");
  const std::string data = folder.path() + "/data";
  live(pipeline, data, "file:" + events, {}, *seen);
  EXPECT_EQ(seen->events, 6000U);
  std::vector<std::uint64_t> before(seen->hashes, seen->hashes + kEventsMax);
  folder.write("labels.csv", labels);
  folder.write("events.csv", payments_csv(all, false));
  std::filesystem::remove_all(data + "/checkpoints");
  live(pipeline, data, "file:" + events, {}, *seen);
  EXPECT_EQ(seen->differing, 0U);
  EXPECT_EQ(seen->first, 1U) << "all of it was replayed";
  EXPECT_EQ(seen->events, 8000U);
  // What came since is learnt from all the same: other sequence numbers and features than without it.
  const std::string other = folder.path() + "/other";
  folder.write("labels.csv", known);
  const Shared without;
  live(pipeline, other, "file:" + events, {}, *without);
  std::size_t same = 0;
  std::size_t compared = 0;
  for (std::size_t i = 0; i < kEventsMax; ++i) {
    if (seen->hashes[i] == 0 || before[i] != 0) continue;
    ++compared;
    same += seen->hashes[i] == without->hashes[i] ? 1 : 0;
  }
  EXPECT_GE(compared, 2000U);
  EXPECT_LT(same, compared / 2);
  // A label that is gone is no replay any more.
  folder.write("labels.csv", known.substr(0, known.find('\n', known.size() / 2) + 1));
  std::filesystem::remove_all(data + "/checkpoints");
  live(pipeline, data, "file:" + events, {.fails = true}, *seen);
  EXPECT_THAT(seen->fault, HasSubstr("labels.csv"));
}

TEST_F(RestartTest, CheckpointsOfAnotherPlanKeepWhatStillMeansTheSame) {
  const Folder folder;
  const Shared seen;
  Pipeline pipeline = load("pipelines/payments");
  const std::string uri = "simulate:payments?events=20000&cards=1000&seed=5";
  const std::string data = folder.path() + "/data";
  live(pipeline, data, uri, {.stop_after = 8000}, *seen);
  Pipeline changed = pipeline;
  for (auto& feature : changed.features.features) {
    if (feature.name == "spend") feature.windows_ms.push_back(2 * kHourMs);
  }
  live(changed, data, uri, {}, *seen);
  EXPECT_EQ(seen->events, 20'000U);
  EXPECT_THAT(seen->notices, AllOf(HasSubstr("kept habit"), HasSubstr("reset spend (anew: amount (money) over 2h)")));
  // What was kept has been written anew, whole: the next process finds one plan.
  live(changed, data, uri, {}, *seen);
  EXPECT_EQ(seen->events, 20'000U);
  EXPECT_STREQ(seen->notices, "");
}

TEST_F(RestartTest, DuplicatesAreKnownAcrossAChangeOfPlan) {
  const Folder folder;
  const Shared seen;
  folder.write("pipeline.yaml",
               "pipeline: repeats\nevents: {id: id, time: at}\nentities: {user: user_id}\n"
               "features: {spend: {rolling: amount, by: user, windows: [1m]}}\n"
               "detectors: {spend_z: {zscore: [spend]}}\n"
               "anomalies: {odd: {votes: {spend_z: 1}, fire: {rate: 0.1%}}}\nalerts: [{to: file, default: true}]\n");
  auto loaded = load_pipeline(folder.path());
  ASSERT_TRUE(loaded && loaded->mistakes.empty()) << format_mistakes("repeats", loaded->text, loaded->mistakes);
  Pipeline pipeline = loaded->pipeline;
  pipeline.duplicates = 10'000;
  const auto lines = [](int first, int last) {
    std::string text;
    for (int i = first; i < last; ++i) {
      text += "{\"id\":\"e" + std::to_string(i) + "\",\"at\":\"" + format_iso_time(1'700'000'000'000 + i * 1000) +
              "\",\"user_id\":\"u" + std::to_string(i % 7) + "\",\"amount\":" + std::to_string(i % 50) + "}\n";
    }
    return text;
  };
  const std::string data = folder.path() + "/data";
  std::string text = lines(0, 3000);
  const std::string uri = "file:" + folder.write("in.ndjson", text);
  live(pipeline, data, uri, {}, *seen);
  EXPECT_EQ(seen->events, 3000U);
  pipeline.features.features[0].windows_ms = {5 * kMinuteMs};
  folder.write("in.ndjson", text += lines(3000, 3010));
  std::memset(seen->hashes, 0, sizeof seen->hashes);
  live(pipeline, data, uri, {}, *seen);
  EXPECT_EQ(seen->events, 3010U);
  EXPECT_THAT(seen->notices, HasSubstr("reset spend"));
  folder.write("in.ndjson", text += lines(0, 1000) + lines(3010, 3020));
  live(pipeline, data, uri, {}, *seen);
  EXPECT_EQ(seen->events, 3020U) << "what was seen before the change is a duplicate after it";
}

TEST_F(RestartTest, CheckpointsWithoutTheirJournalAreRefused) {
  const Folder folder;
  const Shared seen;
  const Pipeline pipeline = load("pipelines/payments");
  const std::string data = folder.path() + "/data";
  const std::string uri = "simulate:payments?events=4000&cards=1000&seed=5";
  live(pipeline, data, uri, {}, *seen);
  std::filesystem::remove(data + "/journal");
  live(pipeline, data, uri, {.fails = true}, *seen);
  EXPECT_THAT(seen->fault, AllOf(HasSubstr(data + "/checkpoints"), HasSubstr("journal ends at 0"), HasSubstr("move")));
}

}  // namespace
}  // namespace alcedo::pipeline
