// The shipped pipeline of logs: on lines whose trouble is known, and on real ones beside the templates that people
// wrote for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "alert/delivery.h"
#include "core/hash.h"
#include "core/time.h"
#include "evaluate/label_table.h"
#include "pipeline/runner.h"
#include "pipeline/service.h"

namespace alcedo::pipeline {
namespace {

using testing::HasSubstr;

Pipeline load_logs(std::uint64_t calibrate_events) {
  auto loaded = load_pipeline(std::string(ALCEDO_SOURCE_DIR) + "/pipelines/logs");
  EXPECT_TRUE(loaded);
  EXPECT_TRUE(loaded->mistakes.empty()) << format_mistakes("logs", loaded->text, loaded->mistakes);
  loaded->pipeline.calibrate_events = calibrate_events;
  return loaded->pipeline;
}

struct Seen {
  std::vector<std::string> templates;  // each event's, in order
  std::uint64_t hash = 1;              // of keys, features and scores
  std::vector<std::string> changes;
  RunnerStats stats;
};

struct LogsPipelineTest : testing::Test {
  std::string folder = testing::TempDir() + "alcedo-logs-XXXXXX";
  LogsPipelineTest() { EXPECT_NE(::mkdtemp(folder.data()), nullptr); }
  ~LogsPipelineTest() override { std::filesystem::remove_all(folder); }

  Seen run(const Pipeline& pipeline, const std::string& lines, std::size_t workers, std::size_t batch,
           ingest::DeadLetters* dead = nullptr) const {
    const std::string path = folder + "/app.log.gz";
    const gzFile out = ::gzopen(path.c_str(), "wb1");
    EXPECT_EQ(::gzwrite(out, lines.data(), static_cast<unsigned>(lines.size())), static_cast<int>(lines.size()));
    ::gzclose(out);
    ingest::OpenOptions how;
    how.opened_ms = 1'800'000'000'000;
    auto source = open_sources({"file:" + path}, pipeline.events, how);
    EXPECT_TRUE(source) << source.error().message;
    Seen seen;
    Runner::Options options;
    options.workers = workers;
    options.batch_events_max = batch;
    options.dead_letters = dead;
    options.on_batch = [&](const Runner::BatchView& view) {
      for (const std::uint32_t row : view.batch.order) {
        seen.templates.emplace_back(view.batch.key(row, 0).text);
        for (const Key& key : view.batch.keys(row)) seen.hash = hash_combine(seen.hash, hash64(key.text));
        const auto features = view.output.features.row(row);
        seen.hash =
            hash_combine(seen.hash, hash64({reinterpret_cast<const char*>(features.data()), features.size_bytes()}));
      }
      for (const auto& change : view.output.changes) seen.changes.push_back(alert::alert_json(change));
    };
    auto runner = Runner::create(pipeline, options);
    EXPECT_TRUE(runner) << runner.error().message;
    EXPECT_TRUE((*runner)->run(**source));
    seen.stats = (*runner)->stats();
    return seen;
  }
};

// Two hours of three components: `db` complains now and then, in a storm after 100 minutes; `cron` stops after an hour.
std::string service_lines() {
  std::string text;
  const auto line = [&](int second, const std::string& rest) {
    // 2008-11-09 20:00:00 and on, in the form of the pipeline.
    const std::string iso = format_iso_time(1'226'260'800'000 + second * 1000LL);
    text += iso.substr(2, 2) + iso.substr(5, 2) + iso.substr(8, 2) + " " + iso.substr(11, 2) + iso.substr(14, 2) +
            iso.substr(17, 2) + " " + rest + "\n";
  };
  for (int s = 0; s < 7200; ++s) {
    line(s, "71 INFO web: GET /items/" + std::to_string(s * 7919 % 1000) + " took " + std::to_string(s % 90) + "ms");
    if (s % 3 == 0) line(s, "72 INFO db: query by user" + std::to_string(s % 17) + " done");
    if (s % 40 == 7) line(s, "72 ERROR db: lost connection to 10.0.0." + std::to_string(s % 250) + ":5432");
    if (s >= 6000 && s < 6060) {
      for (int k = 0; k < 5; ++k) line(s, "72 ERROR db: lost connection to 10.0.0." + std::to_string(k) + ":5432");
    }
    if (s % 30 == 0 && s < 3600) line(s, "9 INFO cron: job " + std::to_string(s) + " started");
  }
  return text;
}

std::vector<std::string> with(const std::vector<std::string>& changes, const std::string& type) {
  std::vector<std::string> found;
  for (const auto& change : changes) {
    if (change.find("\"step\":\"open\"") != std::string::npos &&
        change.find("\"type\":\"" + type + "\"") != std::string::npos) {
      found.push_back(change);
    }
  }
  return found;
}

TEST_F(LogsPipelineTest, TellsAStormOfErrorsAndASilentComponent) {
  const auto pipeline = load_logs(5000);
  const Seen seen = run(pipeline, service_lines(), 1, 4096);
  EXPECT_EQ(seen.stats.dead_letters, 0U);
  EXPECT_EQ(std::set(seen.templates.begin(), seen.templates.end()),
            (std::set<std::string>{"T1: GET <*> took <*>", "T2: query by <*> done", "T3: job <*> started",
                                   "T4: lost connection to <*>"}));
  const auto bursts = with(seen.changes, "burst");
  ASSERT_EQ(bursts.size(), 1U) << testing::PrintToString(bursts);
  EXPECT_THAT(bursts[0], HasSubstr("\"key\":\"db|ERROR\""));
  EXPECT_THAT(bursts[0], HasSubstr("\"first\":\"2008-11-09T21:40:0"));
  const auto silences = with(seen.changes, "silence");
  ASSERT_EQ(silences.size(), 1U) << testing::PrintToString(silences);
  EXPECT_THAT(silences[0], HasSubstr("\"key\":\"cron\""));
  // The statement itself is told, in words.
  const auto statements = with(seen.changes, "unusual_statement");
  ASSERT_FALSE(statements.empty());
  EXPECT_THAT(statements, testing::Contains(testing::AllOf(HasSubstr("\"key\":\"db\""),
                                                           HasSubstr("T4: lost connection to <*>: pace."))));
}

TEST_F(LogsPipelineTest, BatchesAndWorkersCannotBeSeen) {
  const auto pipeline = load_logs(5000);
  const std::string lines = service_lines();
  const Seen reference = run(pipeline, lines, 1, 4096);
  EXPECT_GT(reference.changes.size(), 3U);
  for (const auto& [workers, batch] :
       std::vector<std::pair<std::size_t, std::size_t>>{{1, 1}, {1, 32}, {3, 4096}, {3, 777}}) {
    const Seen other = run(pipeline, lines, workers, batch);
    EXPECT_EQ(other.hash, reference.hash) << workers << " workers, batches of " << batch;
    EXPECT_EQ(other.templates, reference.templates) << workers << " workers, batches of " << batch;
    EXPECT_EQ(other.changes, reference.changes) << workers << " workers, batches of " << batch;
  }
}

TEST_F(LogsPipelineTest, LinesThatDoNotFitAreKeptWithTheirReason) {
  const auto pipeline = load_logs(5000);
  auto dead = ingest::DeadLetters::open(folder + "/dead.ndjson", 64 << 20);
  ASSERT_TRUE(dead);
  const Seen seen = run(pipeline,
                        "081109 203518 143 INFO web: fine\n"
                        "\tat java.lang.Thread.run(Thread.java:619)\n"  // a stack trace
                        "081109 203518 143 INFO web without a colon\n"  // no message
                        "081399 203518 143 INFO web: month 13\n"        // no time
                        "081109 203519 143 INFO web: \n"                // an event without a message has no template
                        "081109 203519 143 INFO web: \xff\n" +          // not UTF-8
                            std::string(2 << 20, 'x') +
                            "\n",
                        1, 100, dead->get());
  EXPECT_EQ(seen.templates, (std::vector<std::string>{"T1: fine", ""}));
  EXPECT_EQ(seen.stats.events, 2U);
  EXPECT_EQ(seen.stats.dead_by_reason.at("malformed"), 2U);
  EXPECT_EQ(seen.stats.dead_by_reason.at("bad_time"), 1U);
  EXPECT_EQ(seen.stats.dead_by_reason.at("invalid_utf8"), 1U);
  EXPECT_EQ(seen.stats.dead_by_reason.at("too_long"), 1U);
  std::vector<std::string> why;
  ASSERT_TRUE(ingest::read_dead_letters(folder + "/dead.ndjson", [&](const ingest::DeadLetter& letter) {
    why.emplace_back(letter.message);
    return true;
  }));
  EXPECT_THAT(why, testing::Contains(HasSubstr("expected \": \" behind field 'component'")));
}

// Whether a message has the form of a template of the data set, whose "<*>" stands for any text.
bool fits(std::string_view text, std::string_view form) {
  const std::size_t star = form.find("<*>");
  if (star == std::string_view::npos) return text == form;
  if (!text.starts_with(form.substr(0, star))) return false;
  text.remove_prefix(star);
  form.remove_prefix(star + 3);
  for (std::size_t at = 0; at <= text.size(); ++at) {
    if (fits(text.substr(at), form)) return true;
  }
  return false;
}

TEST_F(LogsPipelineTest, GroupsRealLinesAsPeopleDid) {
  const std::string data = std::string(ALCEDO_SOURCE_DIR) + "/../shared/data/hdfs";
  if (!std::filesystem::exists(data + "/hdfs_20k_lines.csv.gz")) GTEST_SKIP() << "no data set in " << data;
  const auto text = evaluate::read_label_file(data + "/hdfs_20k_lines.csv.gz");
  ASSERT_TRUE(text) << text.error().message;
  const auto table = evaluate::parse_csv_table(*text, "hdfs_20k_lines.csv");
  ASSERT_TRUE(table) << table.error().message;
  std::string lines;
  for (const auto& record : table->records) {  // date_time,pid,level,component,block_id,label,message
    lines += record[0] + " " + record[1] + " " + record[2] + " " + record[3] + ": " + record[6] + "\n";
  }
  const Seen seen = run(load_logs(5000), lines, 2, 4096);
  EXPECT_EQ(seen.stats.dead_letters, 0U);
  ASSERT_EQ(seen.templates.size(), table->records.size());

  // The forms that people wrote; of several that fit, the one with the most text.
  std::vector<std::string> forms;
  std::ifstream file(data + "/HDFS_templates.csv");
  for (std::string form; std::getline(file, form);) {
    while (form.ends_with('\r')) form.pop_back();
    if (!form.empty()) forms.push_back(form);
  }
  ASSERT_GT(forms.size(), 25U);
  std::map<std::pair<std::string, std::size_t>, std::size_t> together;
  std::map<std::string, std::size_t> mined;
  std::map<std::size_t, std::size_t> written;
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < seen.templates.size(); ++i) {
    std::size_t best = forms.size();
    for (std::size_t f = 0; f < forms.size(); ++f) {
      if (fits(table->records[i][6], forms[f]) && (best == forms.size() || forms[f].size() > forms[best].size()))
        best = f;
    }
    unknown += best == forms.size() ? 1 : 0;
    ++together[{seen.templates[i], best}];
    ++mined[seen.templates[i]];
    ++written[best];
  }
  EXPECT_EQ(unknown, 0U);
  std::size_t agree = 0;
  for (const auto& [pair, count] : together) {
    if (mined[pair.first] == count && written[pair.second] == count) agree += count;
  }
  // Grouping accuracy (Zhu et al., "Tools and Benchmarks for Automated Log Parsing", 2019): lines whose group is
  // exactly the one that people made.
  const double accuracy = static_cast<double>(agree) / static_cast<double>(seen.templates.size());
  RecordProperty("grouping_accuracy", std::to_string(accuracy));
  std::string groups;
  for (const auto& [pair, count] : together) groups += std::to_string(count) + "\t" + pair.first + "\n";
  EXPECT_GE(accuracy, 0.99) << groups;
  EXPECT_GE(mined.size(), written.size()) << groups;
  EXPECT_LE(mined.size(), written.size() + 3) << groups;
  std::cout << "grouping accuracy " << accuracy << ", " << mined.size() << " templates, " << written.size()
            << " written by people\n";
  EXPECT_GT(seen.changes.size(), 0U);
  for (const auto& change : seen.changes) {
    if (change.find("\"step\":\"open\"") == std::string::npos) continue;
    EXPECT_THAT(change, testing::Not(HasSubstr("\"reasons\":[]")));
    EXPECT_THAT(change, HasSubstr("expected "));
    if (change.find("\"key_name\":\"template\"") != std::string::npos) {
      EXPECT_THAT(change, HasSubstr("\"key\":\"T"));
    }
  }
}

}  // namespace
}  // namespace alcedo::pipeline
