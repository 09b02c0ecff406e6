// Label files are written by hand and by other tools: every form must be told apart, and every mistake named with its
// line.
#include "evaluate/labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "core/time.h"

namespace alcedo::evaluate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Label kFirst = kFirstLabelType;
constexpr Label kSecond = kFirstLabelType + 1;

LabelSet parsed(std::string_view text, const std::string& path = "labels.csv", const LabelOptions& options = {}) {
  auto set = LabelSet::parse(text, path, options);
  EXPECT_TRUE(set) << set.error().message;
  return set ? std::move(*set) : LabelSet();
}

std::string mistake(std::string_view text, const std::string& path = "labels.csv", const LabelOptions& options = {}) {
  const auto set = LabelSet::parse(text, path, options);
  return set ? "no mistake" : set.error().message;
}

std::int64_t at(std::string_view iso) { return *parse_iso_time_ms(iso); }

TEST(LabelsByIdTest, ListedIsAnomalousAndTheRestIsUnknown) {
  const LabelSet set = parsed("payment_id,reason\nabc,fraud\n\"d,e\",takeover\r\nghi,fraud\n", "c.csv",
                              {.join = "payment_id", .type = "reason"});
  EXPECT_EQ(set.form(), LabelSet::Form::kIds);
  EXPECT_THAT(set.types(), ElementsAre("fraud", "takeover"));
  EXPECT_EQ(set.size(), 3U);
  EXPECT_EQ(set.by_id("abc").label, kFirst);
  EXPECT_EQ(set.by_id("d,e").label, kSecond);
  EXPECT_EQ(set.by_id("zzz").label, kUnlabelled);
  EXPECT_EQ(set.find("ghi", "f", "e", 1, 2).label, kFirst);
}

TEST(LabelsByIdTest, CompleteMakesTheRestNormal) {
  const LabelSet set = parsed("id\nabc\n", "c.csv", {.complete = true});
  EXPECT_EQ(set.by_id("abc").label, kFirst);
  EXPECT_EQ(set.by_id("zzz").label, kNormal);
  EXPECT_THAT(set.types(), ElementsAre("anomaly"));
}

TEST(LabelsByIdTest, AZeroIsKnownToBeNormalAndAnAnomalyWinsOverIt) {
  const LabelSet set = parsed("id;label\na;1\nb;0\nc;0\nc;1\nd;1\nd;0\n");
  EXPECT_EQ(set.by_id("a").label, kFirst);
  EXPECT_EQ(set.by_id("b").label, kNormal);
  EXPECT_EQ(set.by_id("c").label, kFirst);
  EXPECT_EQ(set.by_id("d").label, kFirst);
}

TEST(LabelsByIdTest, ReadsNdjsonWithNumbersAndMissingCells) {
  const LabelSet set =
      parsed("{\"id\":17,\"type\":\"x\"}\n\n{\"type\":\"y\",\"id\":\"18\"}\n{\"id\":19}\n", "l.ndjson");
  EXPECT_EQ(set.by_id("17").label, kFirst);
  EXPECT_EQ(set.by_id("18").label, kSecond);
  EXPECT_THAT(set.types(), ElementsAre("x", "y", "anomaly"));
}

TEST(LabelsByTimeTest, ReadsNabAndIsCompleteForTheSeriesItNames) {
  const LabelSet set = parsed(
      R"({"realX/a.csv": [["2014-04-10 07:15:00.000000", "2014-04-11 16:45:00.000000"], ["2014-05-01", "2014-05-02"]],
          "realX/b.csv": []})",
      "combined_windows.json");
  EXPECT_EQ(set.form(), LabelSet::Form::kWindows);
  EXPECT_EQ(set.size(), 2U);
  EXPECT_EQ(set.by_time("a", at("2014-04-10 07:15:00")), (RowLabel{kFirst, 0}));
  EXPECT_EQ(set.by_time("a", at("2014-04-11 16:45:00")), (RowLabel{kFirst, 0}));
  EXPECT_EQ(set.by_time("a", at("2014-04-11 16:45:01")), (RowLabel{kNormal, -1}));
  EXPECT_EQ(set.by_time("a", at("2014-05-01 12:00:00")), (RowLabel{kFirst, 1}));
  EXPECT_EQ(set.by_time("b", at("2014-05-01 12:00:00")).label, kNormal);
  EXPECT_EQ(set.by_time("c", at("2014-05-01 12:00:00")).label, kUnlabelled);
  EXPECT_TRUE(set.names_scope("b"));
  EXPECT_FALSE(set.names_scope("c"));
  EXPECT_EQ(set.find("", "a", "host1", at("2014-05-01 12:00:00"), 0).label, kFirst);
}

TEST(LabelsByTimeTest, ReadsATableOfEntitiesWithTypesAndUnixTimes) {
  const LabelSet set = parsed(
      "entity\tstart\tend\ttype\nweb1\t1700000000\t1700000060\tcpu\nweb1\t2023-11-14T22:20:00Z\t1700000500000\tdisk\n");
  EXPECT_EQ(set.by_time("web1", 1'700'000'030'000).label, kFirst);
  EXPECT_EQ(set.by_time("web1", 1'700'000'400'000), (RowLabel{kSecond, 1}));
  EXPECT_EQ(set.by_time("web1", 1'700'000'090'000).label, kUnlabelled);
  EXPECT_EQ(set.find("", "metrics", "web1", 1'700'000'030'000, 0).label, kFirst);
}

TEST(LabelsByTimeTest, OverlappingWindowsGiveTheFirst) {
  // A long window that contains short ones must be found behind them.
  const LabelSet set = parsed("entity,start,end\ne,0,1000\ne,10,20\ne,30,40\ne,900,1100\n");
  EXPECT_EQ(set.by_time("e", 15'000).window, 0);
  EXPECT_EQ(set.by_time("e", 500'000).window, 0);
  EXPECT_EQ(set.by_time("e", 1'000'000).window, 0);
  EXPECT_EQ(set.by_time("e", 1'050'000).window, 3);
  EXPECT_EQ(set.by_time("e", 1'100'001).window, -1);
}

TEST(LabelsByRowTest, ReadsRangesWithBothEnds) {
  const LabelSet set =
      parsed("file,first,last,type\ndata/m.csv.gz,10,12,a\nm.csv,20,20,b\n", "r.csv", {.complete = true});
  EXPECT_EQ(set.form(), LabelSet::Form::kRows);
  EXPECT_EQ(set.by_row("m", 9).label, kNormal);
  EXPECT_EQ(set.by_row("m", 10).label, kFirst);
  EXPECT_EQ(set.by_row("m", 12).label, kFirst);
  EXPECT_EQ(set.by_row("m", 13).label, kNormal);
  EXPECT_EQ(set.by_row("m", 20), (RowLabel{kSecond, 1}));
  EXPECT_EQ(set.by_time("m", 10).label, kUnlabelled);
}

TEST(LabelsByRowTest, ReadsSmdWhoseEndIsExcludedAndWhoseFileNamesTheMachine) {
  const LabelSet set = parsed("246-252:1,2,3\n653-658:4\n", "interpretation_label/machine-1-6.txt");
  EXPECT_EQ(set.by_row("machine-1-6", 245).label, kNormal);
  EXPECT_EQ(set.by_row("machine-1-6", 246).label, kFirst);
  EXPECT_EQ(set.by_row("machine-1-6", 251).label, kFirst);
  EXPECT_EQ(set.by_row("machine-1-6", 252).label, kNormal);
  EXPECT_EQ(set.by_row("machine-2-1", 246).label, kUnlabelled);
}

TEST(LabelsByRowTest, ReadsSmap) {
  const LabelSet set =
      parsed("chan_id,spacecraft,anomaly_sequences,class,num_values\nP-1,SMAP,\"[[5, 7], [9, 9]]\",\"[point]\",20\n");
  EXPECT_EQ(set.by_row("P-1", 7).label, kFirst);
  EXPECT_EQ(set.by_row("P-1", 8).label, kNormal);
  EXPECT_EQ(set.by_row("P-1", 9), (RowLabel{kFirst, 1}));
}

TEST(LabelsTest, MistakesNameFileLineAndWhatWasExpected) {
  EXPECT_THAT(mistake("id,type\na,b\nc\n"), HasSubstr("labels.csv:3: 1 columns, expected 2"));
  EXPECT_THAT(mistake("id,label\na,1\nb,maybe\n"), HasSubstr("labels.csv:3: 'label' is 'maybe'; expected 0 or 1"));
  EXPECT_THAT(mistake("payment,reason\na,b\n"), HasSubstr("expected the events' id column"));
  EXPECT_THAT(mistake("id,reason\na,b\n", "l.csv", {.type = "raeson"}),
              HasSubstr("no column 'raeson'; the file has id, reason"));
  EXPECT_THAT(mistake("id\n\"a\nb\n"), HasSubstr("labels.csv:2: a quote is never closed"));
  EXPECT_THAT(mistake("entity,start,end\na,2020-01-02,2020-01-01\n"), HasSubstr("labels.csv:2:"));
  EXPECT_THAT(mistake("entity,start,end\na,yesterday,2020-01-01\n"), HasSubstr("expected two times"));
  EXPECT_THAT(mistake("file,first,last\na,-1,4\n"), HasSubstr("two row numbers from 0"));
  EXPECT_THAT(mistake("1-2:3\n5-4:1\n", "m.txt"), HasSubstr("m.txt:2: '5-4:1'"));
  EXPECT_THAT(mistake("{\"a.csv\": [[\"2014\", \"x\"]]}", "w.json"), HasSubstr("expected [\"start\", \"end\"]"));
  EXPECT_THAT(mistake("{\"id\":1}\n{\"id\":\n", "l.ndjson"), HasSubstr("l.ndjson:2:"));
  EXPECT_THAT(mistake("{\"id\":{\"a\":1}}\n{\"id\":2}", "l.ndjson"),
              HasSubstr("l.ndjson:1: 'id' holds a nested value"));
  EXPECT_THAT(mistake("[1,2]"), HasSubstr("a JSON array"));
  EXPECT_THAT(mistake(" \n"), HasSubstr("is empty"));
  EXPECT_THAT(LabelSet::load("/nowhere/x.csv", {}).error().message, HasSubstr("/nowhere/x.csv: no such file"));
}

TEST(LabelsTest, FindsTheScopeOfAPath) {
  EXPECT_EQ(LabelSet::scope_of("a/b/x.csv.gz"), "x");
  EXPECT_EQ(LabelSet::scope_of("x.y.csv"), "x.y");
  EXPECT_EQ(LabelSet::scope_of("x"), "x");
  EXPECT_EQ(LabelSet::scope_of(".hidden"), ".hidden");
}

class LabelFilesTest : public ::testing::Test {
 protected:
  LabelFilesTest() {
    std::string pattern = ::testing::TempDir() + "/labels_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~LabelFilesTest() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& name, std::string_view text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
    return folder_ + "/" + name;
  }
  std::string folder_;
};

TEST_F(LabelFilesTest, ReadsGzipByContentAndRefusesATruncatedOne) {
  const std::string path = folder_ + "/labels";
  gzFile file = gzopen(path.c_str(), "wb");
  std::string text = "id\n";
  for (int i = 0; i < 20'000; ++i) text += "event-" + std::to_string(i * 7919) + "\n";
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  const auto whole = LabelSet::load(path, {});
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(whole->size(), 20'000U);
  EXPECT_EQ(whole->by_id("event-7919").label, kFirst);

  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  const auto half = LabelSet::load(path, {});
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(half.error().message, HasSubstr("ends early"));
}

TEST_F(LabelFilesTest, ADirectoryIsOneSet) {
  write("machine-1.txt", "5-7:1\n");
  write("machine-2.txt", "1-2:1\n8-9:2\n");
  const auto set = LabelSet::load(folder_, {});
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ(set->size(), 3U);
  EXPECT_EQ(set->by_row("machine-1", 6).label, kFirst);
  EXPECT_EQ(set->by_row("machine-2", 8).window, 2);
  write("other.csv", "id\na\n");
  EXPECT_THAT(LabelSet::load(folder_, {}).error().message, HasSubstr("expected one form in a directory"));
}

}  // namespace
}  // namespace alcedo::evaluate
