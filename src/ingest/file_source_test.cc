// Files of every kind as partitions of records: formats, gzip, order, faults, following.
#include "ingest/file_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "core/prng.h"
#include "core/time.h"
#include "ingest/test_files.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::unique_ptr<FileSource> open_ok(const std::vector<std::string>& paths, FileSource::Options options = {}) {
  auto source = FileSource::create(paths, std::move(options));
  EXPECT_TRUE(source.has_value()) << (source ? "" : source.error().message);
  return source ? std::move(*source) : nullptr;
}

std::vector<std::string> lines(int count, std::string_view word = "line") {
  std::vector<std::string> out;
  for (int i = 0; i < count; ++i) out.push_back(fmt::format("{{\"{}\":{}}}", word, i));
  return out;
}

std::string joined(const std::vector<std::string>& all) {
  std::string out;
  for (const std::string& line : all) out += line + "\n";
  return out;
}

TEST(FileSourceTest, ReadsLinesWithOffsetsAndTheArrivalItWasGiven) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("a.ndjson", "{\"x\":1}\n\n{\"x\":2}\r\n{\"x\":3}");
  auto source = open_ok({path}, {.opened_ms = 77});
  ASSERT_EQ(source->num_partitions(), 1U);
  EXPECT_EQ(source->partition(0).file, "a");
  EXPECT_EQ(source->partition(0).format, contract::Format::kJson);
  EXPECT_FALSE(source->merge_by_time());
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got, 2), ReadState::kEnd);
  EXPECT_THAT(got, ElementsAre(Got{0, 77, "{\"x\":1}"}, Got{1, 77, "{\"x\":2}"}, Got{2, 77, "{\"x\":3}"}));
  EXPECT_EQ(source->progress().done, source->progress().total);
  EXPECT_EQ(source->progress().total, std::filesystem::file_size(path));
}

TEST(FileSourceTest, KnowsTheCsvHeaderBeforeTheFirstRecord) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("m.csv", "\xEF\xBB\xBFtime ,\"va,lue\"\n1,2\n3,\"4\n5\"\n");
  auto source = open_ok({path});
  EXPECT_THAT(source->partition(0).header, ElementsAre("time", "va,lue"));
  EXPECT_EQ(source->partition(0).format, contract::Format::kCsv);
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kEnd);
  EXPECT_THAT(bytes_of(got), ElementsAre("1,2", "3,\"4\n5\""));
  EXPECT_THAT(offsets_of(got), ElementsAre(0, 1));
}

TEST(FileSourceTest, HeaderlessCsvTakesTheGivenColumnsAndKeepsTheFirstLine) {
  const ScratchDirectory scratch;
  auto source = open_ok({scratch.write("m.txt", "1;2\n3;4\n")},
                        {.format = contract::Format::kCsv, .delimiter = ';', .columns = {"a", "b"}});
  EXPECT_THAT(source->partition(0).header, ElementsAre("a", "b"));
  std::vector<Got> got;
  drain(*source, 0, got).value();
  EXPECT_THAT(bytes_of(got), ElementsAre("1;2", "3;4"));
}

TEST(FileSourceTest, SaysWhenTheDelimiterMustBeAnother) {
  const ScratchDirectory scratch;
  const auto source = FileSource::create({scratch.write("m.tsv", "a\tb\n1\t2\n")}, {});
  ASSERT_FALSE(source);
  EXPECT_THAT(source.error().message, AllOf(HasSubstr("m.tsv"), HasSubstr("tab")));
}

TEST(FileSourceTest, UndoesGzipByItsMagicAndReadsAllMembers) {
  const ScratchDirectory scratch;
  const auto all = lines(30'000);
  const std::vector<std::string> first(all.begin(), all.begin() + 100);
  const std::vector<std::string> rest(all.begin() + 100, all.end());
  // No .gz in the name, an empty member in between, and tape padding at the end.
  const std::string path =
      scratch.write("packed.json", gzip(joined(first)) + gzip("") + gzip(joined(rest)) + std::string(1000, '\0'));
  auto source = open_ok({path});
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kEnd);
  EXPECT_EQ(bytes_of(got), all);
}

TEST(FileSourceTest, ANameThatSaysGzipButIsPlainTextIsPlainText) {
  const ScratchDirectory scratch;
  auto source = open_ok({scratch.write("plain.csv.gz", "a,b\n1,2\n")});
  EXPECT_EQ(source->partition(0).file, "plain");
  EXPECT_EQ(source->partition(0).format, contract::Format::kCsv);
  std::vector<Got> got;
  drain(*source, 0, got).value();
  EXPECT_THAT(bytes_of(got), ElementsAre("1,2"));
}

TEST(FileSourceTest, ATruncatedGzipGivesEveryWholeRecordAndThenTheErrorForGood) {
  const ScratchDirectory scratch;
  Prng random(5);
  std::vector<std::string> all;
  for (int i = 0; i < 20'000; ++i) all.push_back(fmt::format("{{\"n\":{},\"r\":{}}}", i, random.next()));
  const std::string packed = gzip(joined(all));
  std::size_t most = 0;
  for (const std::size_t keep : {packed.size() / 3, packed.size() * 2 / 3, packed.size() - 9, packed.size() - 1}) {
    auto source = open_ok({scratch.write("cut.json.gz", std::string_view(packed).substr(0, keep))});
    std::vector<Got> got;
    const auto end = drain(*source, 0, got);
    ASSERT_FALSE(end) << keep;
    EXPECT_EQ(end.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(end.error().message,
                AllOf(HasSubstr("cut.json.gz"), HasSubstr(fmt::format("byte {}", keep)), HasSubstr("truncated")));
    ASSERT_GE(got.size(), std::max<std::size_t>(most, 1));
    // No more than a deflate block's worth is held back.
    ASSERT_GE(got.size() * packed.size(), all.size() * keep * 8 / 10);
    most = got.size();
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bytes, all[i]);
    std::vector<Got> more;
    EXPECT_EQ(drain(*source, 0, more).error().message, end.error().message);
    EXPECT_THAT(more, IsEmpty());
  }
  EXPECT_EQ(most, all.size());  // only the check sum was missing
}

TEST(FileSourceTest, DamagedGzipAndForeignBytesBehindItAreNamed) {
  const ScratchDirectory scratch;
  std::string packed = gzip(joined(lines(5000)));
  packed[packed.size() - 6] ^= 1;  // in the check sum
  for (const std::string& bytes : {packed, gzip(joined(lines(5000))) + "tail"}) {
    auto source = open_ok({scratch.write("bad.json", bytes)});
    std::vector<Got> got;
    const auto end = drain(*source, 0, got);
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(end.error().message, AllOf(HasSubstr("bad.json"), HasSubstr("byte")));
    EXPECT_EQ(got.size(), 5000U);
  }
}

TEST(FileSourceTest, EmptyFilesEndAtOnceAndAnEmptyCsvIsLeftOut) {
  const ScratchDirectory scratch;
  auto json = open_ok({scratch.write("e.ndjson", ""), scratch.write("z.ndjson.gz", gzip(""))});
  ASSERT_EQ(json->num_partitions(), 2U);
  std::vector<Got> got;
  EXPECT_EQ(*drain(*json, 0, got), ReadState::kEnd);
  EXPECT_EQ(*drain(*json, 1, got), ReadState::kEnd);
  auto csv =
      open_ok({scratch.write("e.csv", ""), scratch.write("full.csv", "a\n1\n"), scratch.write("head.csv", "a\n")});
  ASSERT_EQ(csv->num_partitions(), 2U);
  EXPECT_EQ(csv->partition(0).file, "full");
  EXPECT_EQ(*drain(*csv, 1, got), ReadState::kEnd);
  EXPECT_THAT(got, IsEmpty());
}

TEST(FileSourceTest, AByteOrderMarkAloneIsNoRecordAndHalfOfOneIs) {
  const ScratchDirectory scratch;
  auto source = open_ok({scratch.write("bom.json", "\xEF\xBB\xBF"), scratch.write("half.json", "\xEF\xBB"),
                         scratch.write("packed.json", gzip("\xEF\xBB\xBF{}"))});
  std::vector<Got> none;
  std::vector<Got> half;
  std::vector<Got> packed;
  EXPECT_EQ(*drain(*source, 0, none), ReadState::kEnd);
  EXPECT_EQ(*drain(*source, 1, half), ReadState::kEnd);
  EXPECT_EQ(*drain(*source, 2, packed), ReadState::kEnd);
  EXPECT_THAT(bytes_of(none), IsEmpty());
  EXPECT_THAT(bytes_of(half), ElementsAre("\xEF\xBB"));
  EXPECT_THAT(bytes_of(packed), ElementsAre("{}"));
}

TEST(FileSourceTest, FilesWithOneKeyAreOnePartitionInTheGivenOrder) {
  const ScratchDirectory scratch;
  const std::string may = scratch.write("may/cpu.csv", "t,v\n1,1\n2,2");  // no newline at the end
  const std::string june = scratch.write("june/cpu.csv.gz", gzip("t,v\n3,3\n"));
  const std::string disk = scratch.write("may/disk.csv", "t,v\n9,9\n");
  auto source = open_ok({may, disk, june});
  ASSERT_EQ(source->num_partitions(), 2U);
  EXPECT_TRUE(source->merge_by_time());
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got, 1), ReadState::kEnd);
  EXPECT_THAT(bytes_of(got), ElementsAre("1,1", "2,2", "3,3"));
  EXPECT_THAT(offsets_of(got), ElementsAre(0, 1, 2));
  EXPECT_EQ(source->partition(1).file, "disk");
}

TEST(FileSourceTest, FilesOfOnePartitionMustAgree) {
  const ScratchDirectory scratch;
  const auto other_header = FileSource::create(
      {scratch.write("a/cpu.csv", "t,v\n"), scratch.write("b/cpu.csv", "v,t\n")}, FileSource::Options{});
  ASSERT_FALSE(other_header);
  EXPECT_THAT(other_header.error().message, AllOf(HasSubstr("b/cpu.csv"), HasSubstr("v,t"), HasSubstr("t,v")));
  const auto other_format = FileSource::create(
      {scratch.write("a/mem.csv", "t,v\n"), scratch.write("b/mem.json", "{}\n")}, FileSource::Options{});
  ASSERT_FALSE(other_format);
  EXPECT_THAT(other_format.error().message, HasSubstr("different formats"));
}

TEST(FileSourceTest, PatternsAreExpandedInByteOrder) {
  const ScratchDirectory scratch;
  for (const char* name : {"d/b.json", "d/a.json", "d/B.json", "d/c.txt", "d/x?.json"}) scratch.write(name, "{}\n");
  std::filesystem::create_directories(scratch / "d/dir.json");
  auto source = open_ok({scratch / "d/*.json"});
  std::vector<std::string> names;
  for (std::int32_t i = 0; i < 4; ++i) names.push_back(source->partition(i).file);
  EXPECT_THAT(names, ElementsAre("B", "a", "b", "x?"));
  EXPECT_EQ(open_ok({scratch / "d/x?.json"})->num_partitions(), 1U);  // an existing name is no pattern
  const auto none = FileSource::create({scratch / "d/*.parquet"}, {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
}

TEST(FileSourceTest, EveryUnusableFileIsNamedWithItsCauseAndWhatToDo) {
  const ScratchDirectory scratch;
  scratch.write("events.json", "{}\n");
  std::filesystem::create_directories(scratch / "folder");
  const auto source = FileSource::create({scratch / "event.json", scratch / "folder", scratch / "nowhere/x.json"}, {});
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(source.error().message,
              AllOf(HasSubstr("No such file"), HasSubstr("did you mean"), HasSubstr("events.json?"),
                    HasSubstr("is a directory"), HasSubstr("folder/*.csv"), HasSubstr("nowhere/x.json")));
}

TEST(FileSourceTest, AnUnreadableFileSaysHowToMakeItReadable) {
  const Error denied = file_error("/data/x.csv", EACCES);
  EXPECT_EQ(denied.code, ErrorCode::kIo);
  EXPECT_THAT(denied.message, AllOf(HasSubstr("/data/x.csv"), HasSubstr("Permission denied"), HasSubstr("chmod")));
  const ScratchDirectory scratch;
  const std::string path = scratch.write("x.json", "{}\n");
  ASSERT_EQ(::chmod(scratch.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  const bool root = ::geteuid() == 0;  // who may read everything, and so becomes nobody for a moment
  constexpr uid_t kNobody = 65534;
  if (root) {
    ASSERT_EQ(::seteuid(kNobody), 0);
  }
  const auto source = FileSource::create({path}, {});
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().message, file_error(path, EACCES).message);
}

TEST(FileSourceTest, ThousandsOfFilesAreMergedWithAFewHundredOpen) {
  const ScratchDirectory scratch;
  constexpr int kFiles = 400;
  const auto all = lines(3000);  // more than one 64 KB chunk in the plain ones, several in the packed ones
  for (int i = 0; i < kFiles; ++i)
    scratch.write(fmt::format("{:04}.json", i), i % 7 == 0 ? gzip(joined(all)) : joined(all));
  auto source = open_ok({scratch / "*.json"});
  ASSERT_EQ(source->num_partitions(), std::size_t{kFiles});
  std::vector<std::size_t> read(kFiles);
  std::size_t open_max = 0;
  for (bool more = true; more;) {
    more = false;
    for (std::int32_t i = 0; i < kFiles; ++i) {
      RawBatch batch;
      ASSERT_TRUE(source->read(i, batch, 1500, std::chrono::milliseconds(0)));
      auto& at = read[static_cast<std::size_t>(i)];
      for (std::size_t r = 0; r < batch.size(); ++r) ASSERT_EQ(batch.bytes(r), all[at++]) << i;
      more = more || !batch.empty();
      open_max = std::max(open_max, source->num_open());
    }
  }
  EXPECT_THAT(read, testing::Each(all.size()));
  EXPECT_LE(open_max, 256U);
  EXPECT_EQ(source->num_open(), 0U);
}

TEST(FileSourceTest, AFileReplacedWhileItIsParkedIsAnErrorAndNotOtherData) {
  const ScratchDirectory scratch;
  const auto all = lines(20'000);
  for (int i = 0; i < 300; ++i) scratch.write(fmt::format("{:04}.json", i), i == 0 ? joined(all) : "{}\n{}\n");
  auto source = open_ok({scratch / "*.json"});
  RawBatch batch;
  for (std::int32_t i = 0; i < 300; ++i) ASSERT_TRUE(source->read(i, batch, 1, std::chrono::milliseconds(0)));
  scratch.write("new", joined(lines(20'000, "other")));
  std::filesystem::rename(scratch / "new", scratch / "0000.json");
  std::vector<Got> got;
  const auto end = drain(*source, 0, got);
  ASSERT_FALSE(end);
  EXPECT_THAT(end.error().message, HasSubstr("was replaced"));
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bytes, all[i + 1]);
}

TEST(FileSourceTest, AnOverlongRecordArrivesCutAndTheNextOneWhole) {
  const ScratchDirectory scratch;
  auto source = open_ok({scratch.write("long.json", "{\"a\":\"" + std::string(10 << 20, 'x') + "\"}\n{\"b\":1}\n")});
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kEnd);
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].bytes.size(), contract::Decoder::kRecordBytesMax);
  EXPECT_EQ(got[1].bytes, "{\"b\":1}");
}

TEST(FileSourceTest, OneReadIsBoundedInBytes) {
  const ScratchDirectory scratch;
  std::string text;
  for (int i = 0; i < 40; ++i) text += std::string(1'000'000, 'a') + "\n";
  auto source = open_ok({scratch.write("big.json", text)});
  RawBatch batch;
  ASSERT_TRUE(source->read(0, batch, 1000, std::chrono::milliseconds(0)));
  EXPECT_LE(batch.size_bytes(), (8U << 20) + contract::Decoder::kRecordBytesMax);
}

TEST(FileSourceTest, ANamedPipeIsReadUntilItsWriterIsGone) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "pipe.csv";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::jthread writer([&] {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    for (const std::string_view piece : {"a,", "b\n1,", "2\n3,4"}) {
      EXPECT_EQ(::write(fd, piece.data(), piece.size()), static_cast<ssize_t>(piece.size()));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ::close(fd);
  });
  auto source = open_ok({path});
  EXPECT_THAT(source->partition(0).header, ElementsAre("a", "b"));
  std::vector<Got> got;
  auto state = ReadState::kMore;
  while (state != ReadState::kEnd) state = *read_into(*source, 0, got, 10, std::chrono::milliseconds(2000));
  EXPECT_THAT(bytes_of(got), ElementsAre("1,2", "3,4"));
  EXPECT_EQ(source->progress().total, 0U);
}

TEST(FileSourceTest, APipeThatNobodyWritesIsIdleAndStopEndsTheWait) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "pipe.json";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  auto source = open_ok({path});
  std::vector<Got> got;
  EXPECT_EQ(*read_into(*source, 0, got, 10, std::chrono::milliseconds(1)), ReadState::kIdle);
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    source->stop();
  });
  EXPECT_EQ(*read_into(*source, 0, got, 10, std::chrono::milliseconds(60'000)), ReadState::kEnd);
}

TEST(FileSourceTest, TheStoppingFlagEndsTheWaitForAPipesHeader) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "pipe.csv";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::atomic<bool> stopping = true;
  const auto source = FileSource::create({path}, {.stopping = &stopping});
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kUnavailable);
}

// A followed file under a clock of its own.
class FollowTest : public testing::Test {
 protected:
  std::unique_ptr<FileSource> follow(const std::string& path, FileSource::Options options = {}) {
    options.follow = true;
    options.follow_poll_ms = 1;
    options.now_ms = [this] { return now_ms_; };
    return open_ok({path}, std::move(options));
  }
  // What has come by now.
  std::vector<std::string> take(FileSource& source) {
    std::vector<Got> got;
    EXPECT_EQ(*drain(source, 0, got), ReadState::kIdle);
    for (const Got& one : got) {
      EXPECT_EQ(one.offset, next_offset_++);
      EXPECT_EQ(one.arrival_ms, now_ms_);
    }
    return bytes_of(got);
  }
  ScratchDirectory scratch_;
  std::int64_t now_ms_ = 1000;
  std::int64_t next_offset_ = 0;
};

TEST_F(FollowTest, ALineIsThereWhenItsNewlineIs) {
  const std::string path = scratch_.write("grow.json", "{\"a\":1}\n{\"a\"");
  auto source = follow(path);
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":1}"));
  now_ms_ = 2000;
  append_to(path, ":2}");
  EXPECT_THAT(take(*source), IsEmpty());
  append_to(path, "\n{\"a\":3}\n");
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":2}", "{\"a\":3}"));
  source->stop();
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kEnd);
}

TEST_F(FollowTest, WakesForALineWhileItWaits) {
  const std::string path = scratch_.write("grow.json", "");
  auto source = follow(path);
  std::jthread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    append_to(path, "{}\n");
  });
  std::vector<Got> got;
  EXPECT_EQ(*read_into(*source, 0, got, 10, std::chrono::milliseconds(60'000)), ReadState::kMore);
  EXPECT_THAT(bytes_of(got), ElementsAre("{}"));
}

TEST_F(FollowTest, ARenamedFileIsReadToItsEndBeforeTheNewOne) {
  const std::string path = scratch_.write("app.json", "{\"a\":1}\n");
  auto source = follow(path);
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":1}"));
  const std::string old = scratch_ / "app.json.1";
  std::filesystem::rename(path, old);
  EXPECT_THAT(take(*source), IsEmpty());
  append_to(old, "{\"a\":2}\n");  // its writer has not reopened yet
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":2}"));
  append_to(path, "");
  append_to(old, "{\"a\":3}\n{\"torn\"");  // an empty new file is no reason to leave the old one
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":3}"));
  append_to(path, "{\"a\":4}\n");
  append_to(old, "}\n");
  EXPECT_THAT(take(*source), ElementsAre("{\"torn\"}", "{\"a\":4}"));
  EXPECT_EQ(source->follow_counts().rotations, 1U);
  // And once more.
  std::filesystem::rename(path, scratch_ / "app.json.2");
  scratch_.write("app.json", "{\"a\":5}\n");
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":5}"));
  EXPECT_EQ(source->follow_counts().rotations, 2U);
  EXPECT_EQ(source->follow_counts().truncations, 0U);
}

TEST_F(FollowTest, ACutFileIsReadFromItsStart) {
  const std::string path = scratch_.write("app.csv", "t,v\n1,1\n2,2\n3,");
  auto source = follow(path);
  EXPECT_THAT(take(*source), ElementsAre("1,1", "2,2"));
  ASSERT_EQ(::truncate(path.c_str(), 0), 0);
  append_to(path, "4,4\n");  // this writer does not repeat its header
  EXPECT_THAT(take(*source), ElementsAre("4,4"));
  ASSERT_EQ(::truncate(path.c_str(), 0), 0);
  EXPECT_THAT(take(*source), IsEmpty());
  append_to(path, "t,v\n5,5\n");  // this one does
  EXPECT_THAT(take(*source), ElementsAre("5,5"));
  EXPECT_EQ(source->follow_counts().truncations, 2U);
}

TEST_F(FollowTest, AnotherHeaderAfterRotationIsRefused) {
  const std::string path = scratch_.write("app.csv", "t,v\n1,1\n");
  auto source = follow(path);
  EXPECT_THAT(take(*source), ElementsAre("1,1"));
  std::filesystem::rename(path, scratch_ / "old");
  scratch_.write("app.csv", "v,t\n2,2\n");
  std::vector<Got> got;
  const auto end = drain(*source, 0, got);
  ASSERT_FALSE(end);
  EXPECT_THAT(end.error().message, AllOf(HasSubstr("app.csv"), HasSubstr("t,v")));
  EXPECT_FALSE(drain(*source, 0, got));
  EXPECT_THAT(got, IsEmpty());
}

TEST_F(FollowTest, GzipGrowsMemberByMember) {
  const std::string packed = gzip("{\"a\":1}\n");
  const std::string path = scratch_.write("log.gz", packed.substr(0, 1));
  auto source = follow(path);
  EXPECT_THAT(take(*source), IsEmpty());
  append_to(path, packed.substr(1));
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":1}"));
  append_to(path, gzip("{\"a\":2}\n"));
  EXPECT_THAT(take(*source), ElementsAre("{\"a\":2}"));
}

TEST_F(FollowTest, ACsvWithoutHeaderYetCannotBeFollowed) {
  const auto source = FileSource::create({scratch_.write("new.csv", "")}, {.follow = true});
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kNotReady);
}

TEST(FileSourceTest, TheSameFilesGiveTheSameRecordsHoweverTheyAreRead) {
  const ScratchDirectory scratch;
  Prng random(11);
  std::string text = "a,b\n";
  for (int i = 0; i < 5000; ++i) {
    std::string cell(random.below(40), 'x');
    if (random.below(5) == 0) cell = "\"" + cell + "\n\"\"" + cell + "\"";
    text += fmt::format("{},{}{}", i, cell, random.below(10) == 0 ? "\r\n" : "\n");
    if (random.below(20) == 0) text += "\n";
  }
  const std::string plain = scratch.write("plain.csv", text);
  const std::string packed = scratch.write("packed.csv", gzip(text));
  std::vector<Got> expected;
  drain(*open_ok({plain}), 0, expected).value();
  EXPECT_EQ(expected.size(), 5000U);
  for (const std::size_t records_max : {std::size_t{1}, std::size_t{7}, std::size_t{4096}}) {
    for (const std::string& path : {plain, packed}) {
      std::vector<Got> got;
      drain(*open_ok({path}), 0, got, records_max).value();
      EXPECT_EQ(got, expected);
    }
  }
}

}  // namespace
}  // namespace alcedo::ingest
