// The log survives every torn end, refuses damage in what was synced, and gives the same bytes at the same offsets for
// good.
#include "ingest/local_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "core/prng.h"
#include "ingest/local_log_invariants.h"
#include "ingest/test_files.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr const char* kFirstSegment = "00000000000000000000.log";

std::unique_ptr<LocalLog> open_ok(const std::string& directory, LocalLog::Options options = {}) {
  auto log = LocalLog::open(directory, options);
  EXPECT_TRUE(log.has_value()) << (log ? "" : log.error().message);
  return log ? std::move(*log) : nullptr;
}

std::vector<Got> read_all(const LocalLog& log, std::int64_t from = 0) {
  std::vector<Got> got;
  auto reader = log.reader(from);
  LogEntry entry;
  while (true) {
    auto more = reader.next(entry);
    EXPECT_TRUE(more.has_value()) << (more ? "" : more.error().message);
    if (!more || !*more) return got;
    got.push_back({entry.offset, entry.arrival_ms, std::string(entry.bytes)});
  }
}

std::string record(std::int64_t i) {
  return fmt::format("{} {}", i, std::string(static_cast<std::size_t>(i * 7 % 23), 'x'));
}

// A copy of the directory as it is, as a crash would leave it.
void copy_to(const std::string& from, const std::string& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to);
}

void cut(const std::string& path, std::uint64_t size) { std::filesystem::resize_file(path, size); }

void flip(const std::string& path, std::size_t at) {
  std::string bytes = contents(path);
  bytes.at(at) = static_cast<char>(bytes[at] ^ 0x10);
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

TEST(LocalLogTest, GivesBackWhatWasAppendedWithOffsetsAndArrival) {
  const ScratchDirectory scratch;
  auto log = open_ok(scratch / "log");
  EXPECT_EQ(*log->append("one", 10), 0);
  const std::vector<std::string_view> batch = {"two", "three"};
  EXPECT_EQ(*log->append(batch, -20), 1);
  EXPECT_THAT(read_all(*log), ElementsAre(Got{0, 10, "one"}, Got{1, -20, "two"}, Got{2, -20, "three"}));
  EXPECT_THAT(read_all(*log, 2), ElementsAre(Got{2, -20, "three"}));
  auto reader = log->reader(0);
  LogEntry entry;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(*reader.next(entry));
  EXPECT_FALSE(*reader.next(entry));
  ASSERT_TRUE(log->append("four", 30));
  ASSERT_TRUE(*reader.next(entry));  // a reader sees what is appended after its creation
  EXPECT_EQ(entry.bytes, "four");
}

TEST(LocalLogTest, GoesOnAfterReopening) {
  const ScratchDirectory scratch;
  std::vector<Got> expected;
  for (int run = 0; run < 5; ++run) {
    auto log = open_ok(scratch / "log");
    EXPECT_EQ(read_all(*log), expected);
    EXPECT_EQ(log->recovery().bytes_cut, 0U);
    for (int i = 0; i < run; ++i) {
      const auto offset = log->append(record(log->end_offset()), run);
      expected.push_back({*offset, run, record(*offset)});
    }
    if (run % 2 == 0) {
      ASSERT_TRUE(log->sync());
    }
  }
  EXPECT_THAT(expected, SizeIs(10));
}

TEST(LocalLogTest, OpeningWithoutAppendingDoesNotGrowIt) {
  const ScratchDirectory scratch;
  open_ok(scratch / "log")->append("x", 1).value();
  const auto size = std::filesystem::file_size(scratch / "log/" + kFirstSegment);
  for (int i = 0; i < 3; ++i) open_ok(scratch / "log");
  EXPECT_EQ(std::filesystem::file_size(scratch / "log/" + kFirstSegment), size);
}

TEST(LocalLogTest, SegmentsRollAndRetentionDropsWholeOldOnes) {
  const ScratchDirectory scratch;
  const LocalLog::Options options{.segment_bytes = 1000, .retention_bytes = 5000};
  std::int64_t first = 0;
  {
    auto log = open_ok(scratch / "log", options);
    auto reader = log->reader(0);
    LogEntry entry;
    for (std::int64_t i = 0; i < 1000; ++i) {
      ASSERT_EQ(*log->append(record(i), i), i);
      ASSERT_TRUE(*reader.next(entry));
      ASSERT_EQ(entry.bytes, record(i));
      ASSERT_LE(log->size_bytes(), options.retention_bytes + options.segment_bytes);
    }
    first = log->first_offset();
    EXPECT_GT(first, 0);
    EXPECT_GT(log->size_bytes(), options.retention_bytes - 2 * options.segment_bytes);
  }
  auto log = open_ok(scratch / "log", options);
  EXPECT_EQ(log->first_offset(), first);
  EXPECT_EQ(log->end_offset(), 1000);
  const auto got = read_all(*log);
  ASSERT_THAT(got, SizeIs(static_cast<std::size_t>(1000 - first)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::int64_t offset = first + static_cast<std::int64_t>(i);
    ASSERT_EQ(got[i], (Got{offset, offset, record(offset)}));
  }
}

TEST(LocalLogTest, ATornTailIsCutAtEveryByte) {
  const ScratchDirectory scratch;
  constexpr std::int64_t kRecords = 4;
  std::vector<std::uint64_t> ends;  // file size after each record
  {
    auto log = open_ok(scratch / "log");
    ends.push_back(log->size_bytes());
    for (std::int64_t i = 0; i < kRecords; ++i) {
      if (i == 2) {
        ASSERT_TRUE(log->sync());  // a mark among them
      }
      ASSERT_TRUE(log->append(record(i), i));
      ends.push_back(log->size_bytes());
    }
    copy_to(scratch / "log", scratch / "killed");  // as kill -9 leaves it
  }
  for (std::uint64_t size = 0; size <= ends.back(); ++size) {
    copy_to(scratch / "killed", scratch / "torn");
    cut(scratch / "torn/" + kFirstSegment, size);
    auto log = open_ok(scratch / "torn");
    ASSERT_NE(log, nullptr) << size;
    const auto whole = static_cast<std::int64_t>(std::ranges::upper_bound(ends, size) - ends.begin()) - 1;
    const std::int64_t kept = std::max<std::int64_t>(whole, 0);
    ASSERT_EQ(log->end_offset(), kept) << size;
    ASSERT_EQ(log->recovery().bytes_cut, whole < 0 ? size : size - ends[static_cast<std::size_t>(kept)]) << size;
    // And it goes on as if the torn record had never been.
    ASSERT_EQ(*log->append("after", 99), kept);
    auto got = read_all(*log);
    ASSERT_THAT(got, SizeIs(static_cast<std::size_t>(kept) + 1)) << size;
    for (std::int64_t i = 0; i < kept; ++i) ASSERT_EQ(got[static_cast<std::size_t>(i)], (Got{i, i, record(i)}));
    ASSERT_EQ(got.back().bytes, "after");
  }
}

TEST(LocalLogTest, ZerosAndGarbageAtTheTailAreCut) {
  const ScratchDirectory scratch;
  {
    auto log = open_ok(scratch / "log");
    for (std::int64_t i = 0; i < 5; ++i) ASSERT_TRUE(log->append(record(i), i));
    copy_to(scratch / "log", scratch / "killed");
  }
  Prng random(3);
  std::string garbage;
  for (int i = 0; i < 500; ++i) garbage.push_back(static_cast<char>(random.next()));
  for (const std::string& tail : {std::string(4096, '\0'), garbage}) {
    copy_to(scratch / "killed", scratch / "torn");
    append_to(scratch / "torn/" + kFirstSegment, tail);
    auto log = open_ok(scratch / "torn");
    EXPECT_EQ(log->recovery().bytes_cut, tail.size());
    EXPECT_EQ(log->end_offset(), 5);
  }
}

TEST(LocalLogTest, DamageInWhatWasSyncedIsRefusedByNameWhereverItIs) {
  const ScratchDirectory scratch;
  {
    auto log = open_ok(scratch / "log");
    for (std::int64_t i = 0; i < 3; ++i) ASSERT_TRUE(log->append(record(i), i));
  }  // closing syncs and says so
  const std::string path = scratch / "log/" + kFirstSegment;
  const auto size = std::filesystem::file_size(path);
  for (std::size_t at = 0; at + 16 < size; ++at) {  // but for the closing mark itself
    copy_to(scratch / "log", scratch / "damaged");
    const std::string damaged = scratch / "damaged/" + kFirstSegment;
    flip(damaged, at);
    const auto log = LocalLog::open(scratch / "damaged", {});
    // A damaged salt leaves no record that verifies, so nothing tells it from a torn first record.
    if (at >= 8 && at < 16) continue;
    ASSERT_FALSE(log) << at;
    EXPECT_EQ(log.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(log.error().message, AllOf(HasSubstr(damaged), HasSubstr("byte")));
  }
}

TEST(LocalLogTest, DamageInAnOlderSegmentIsFoundWhenItIsRead) {
  const ScratchDirectory scratch;
  const LocalLog::Options options{.segment_bytes = 300};
  {
    auto log = open_ok(scratch / "log", options);
    for (std::int64_t i = 0; i < 60; ++i) ASSERT_TRUE(log->append(record(i), i));
  }
  const std::string path = scratch / "log/" + kFirstSegment;
  const std::string bytes = contents(path);
  for (const bool shortened : {false, true}) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    shortened ? cut(path, bytes.size() - 10) : flip(path, bytes.size() - 10);
    auto log = open_ok(scratch / "log", options);
    auto reader = log->reader(0);
    LogEntry entry;
    std::int64_t read = 0;
    auto more = reader.next(entry);
    for (; more && *more; more = reader.next(entry)) ASSERT_EQ(entry.bytes, record(read++));
    ASSERT_FALSE(more);
    EXPECT_EQ(more.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(more.error().message, AllOf(HasSubstr(path), HasSubstr("byte")));
    EXPECT_GT(read, 0);
    EXPECT_FALSE(reader.next(entry));
    // What stands behind is still there for who asks for it.
    EXPECT_THAT(read_all(*log, 40), SizeIs(20));
  }
}

TEST(LocalLogTest, AMissingSegmentIsNotPassedOverInSilence) {
  const ScratchDirectory scratch;
  const LocalLog::Options options{.segment_bytes = 300};
  {
    auto log = open_ok(scratch / "log", options);
    for (std::int64_t i = 0; i < 60; ++i) ASSERT_TRUE(log->append(record(i), i));
  }
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(scratch / "log")) names.push_back(entry.path());
  std::ranges::sort(names);
  ASSERT_GT(names.size(), 3U);
  std::filesystem::remove(names[1]);
  auto log = open_ok(scratch / "log", options);
  auto reader = log->reader(0);
  LogEntry entry;
  auto more = reader.next(entry);
  while (more && *more) more = reader.next(entry);
  ASSERT_FALSE(more);
  EXPECT_THAT(more.error().message, HasSubstr(names[0]));
}

TEST(LocalLogTest, UnsyncedRecordsBehindAHoleAreCutAndCounted) {
  const ScratchDirectory scratch;
  std::uint64_t second = 0;
  {
    auto log = open_ok(scratch / "log");
    ASSERT_TRUE(log->append(record(0), 0));
    second = log->size_bytes();
    for (std::int64_t i = 1; i < 4; ++i) ASSERT_TRUE(log->append(record(i), i));
    copy_to(scratch / "log", scratch / "killed");
  }
  // A power cut wrote a later page and not an earlier one.
  flip(scratch / "killed/" + kFirstSegment, second + 20);
  auto log = open_ok(scratch / "killed");
  EXPECT_EQ(log->end_offset(), 1);
  EXPECT_EQ(log->recovery().records_cut, 2U);
}

TEST(LocalLogTest, BytesOfAnEventCannotPassForARecord) {
  const ScratchDirectory scratch;
  std::string forged;
  {
    auto other = open_ok(scratch / "other");
    ASSERT_TRUE(other->append("evil", 1));
    ASSERT_TRUE(other->sync());
    ASSERT_TRUE(other->append("marked", 1));  // a record with the mark, of another log
    forged = contents(scratch / "other/" + kFirstSegment).substr(16);
  }
  {
    auto log = open_ok(scratch / "log");
    ASSERT_TRUE(log->append("good", 1));
    ASSERT_TRUE(log->append(forged + "and more", 2));
    copy_to(scratch / "log", scratch / "killed");
  }
  const std::string path = scratch / "killed/" + kFirstSegment;
  cut(path, std::filesystem::file_size(path) - 3);  // torn inside that event
  auto log = open_ok(scratch / "killed");
  EXPECT_THAT(read_all(*log), ElementsAre(Got{0, 1, "good"}));
}

TEST(LocalLogTest, AForeignFileUnderASegmentsNameIsRefused) {
  const ScratchDirectory scratch;
  scratch.write("log/" + std::string(kFirstSegment), "{\"not\":\"a log\"}\n");
  EXPECT_EQ(LocalLog::open(scratch / "log", {}).error().code, ErrorCode::kCorrupt);
  scratch.write("fine/notes.txt", "left alone");
  EXPECT_EQ(open_ok(scratch / "fine")->end_offset(), 0);
  EXPECT_EQ(contents(scratch / "fine/notes.txt"), "left alone");
}

TEST(LocalLogTest, OneProcessAtATime) {
  const ScratchDirectory scratch;
  auto log = open_ok(scratch / "log");
  const auto second = LocalLog::open(scratch / "log", {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  log.reset();
  EXPECT_TRUE(LocalLog::open(scratch / "log", {}));
}

TEST(LocalLogTest, IsClosedToOtherUsers) {
  const ScratchDirectory scratch;
  auto log = open_ok(scratch / "log");
  struct stat info{};
  ASSERT_EQ(::stat((scratch / "log").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  ASSERT_EQ(::stat((scratch / "log/" + kFirstSegment).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

// A file size limit is a full disk without a disk: writes stop in the middle with EFBIG.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    CHECK(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    rlimit limited = before_;
    limited.rlim_cur = bytes;
    CHECK(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
  }
  ~SizeLimit() { CHECK(::setrlimit(RLIMIT_FSIZE, &before_) == 0); }

 private:
  rlimit before_{};
};

TEST(LocalLogTest, AFullDiskRefusesTheWholeBatchAndGoesOnWhenThereIsSpace) {
  const ScratchDirectory scratch;
  auto log = open_ok(scratch / "log");
  std::vector<std::string> records;
  for (std::int64_t i = 0; i < 10; ++i) records.push_back(record(i));
  const std::vector<std::string_view> batch(records.begin(), records.end());
  ASSERT_EQ(*log->append(batch, 1), 0);
  {
    const SizeLimit full(log->size_bytes() + 100);  // in the middle of the next batch
    for (int i = 0; i < 2; ++i) {
      const auto refused = log->append(batch, 2);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
      EXPECT_THAT(refused.error().message, HasSubstr("disk full"));
    }
    EXPECT_THAT(read_all(*log), SizeIs(10));
    EXPECT_EQ(scan_segment(contents(scratch / "log/" + kFirstSegment)).records, 10U);
    EXPECT_TRUE(log->sync());
  }
  ASSERT_EQ(*log->append(batch, 3), 10);
  EXPECT_THAT(read_all(*log), SizeIs(20));
  log.reset();
  EXPECT_EQ(open_ok(scratch / "log")->end_offset(), 20);
}

TEST(LocalLogTest, AFullDiskAtTheStartOfASegmentLeavesNoTrace) {
  const ScratchDirectory scratch;
  auto log = open_ok(scratch / "log", {.segment_bytes = 20});
  ASSERT_TRUE(log->append("first", 1));
  {
    const SizeLimit full(8);
    EXPECT_EQ(log->append("second", 2).error().code, ErrorCode::kUnavailable);
  }
  EXPECT_EQ(*log->append("second", 3), 1);
  EXPECT_THAT(read_all(*log), ElementsAre(Got{0, 1, "first"}, Got{1, 3, "second"}));
}

TEST(LocalLogTest, AKilledWriterLosesNothingThatItHadAppended) {
  const ScratchDirectory scratch;
  for (int round = 0; round < 5; ++round) {
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto log = LocalLog::open(scratch / "log", {.segment_bytes = 4000});
      if (!log) ::_exit(1);
      while (true) {
        const auto offset = (*log)->append(record((*log)->end_offset()), 5);
        if (!offset || ::write(told[1], &*offset, sizeof *offset) != sizeof *offset) ::_exit(2);
      }
    }
    ::close(told[1]);
    std::int64_t last = -1;
    for (int i = 0; i < 100 + round * 57; ++i)
      ASSERT_EQ(::read(told[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
    ::kill(child, SIGKILL);
    while (::read(told[0], &last, sizeof last) == static_cast<ssize_t>(sizeof last)) {
    }
    ::close(told[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    auto log = open_ok(scratch / "log", {.segment_bytes = 4000});
    ASSERT_GE(log->end_offset(), last + 1);
    const auto got = read_all(*log);
    ASSERT_EQ(static_cast<std::int64_t>(got.size()), log->end_offset());
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bytes, record(static_cast<std::int64_t>(i)));
  }
}

// ThreadSanitizer looks at this one too; without it, a mark before unsynced records shows that a sync claimed too much.
TEST(LocalLogTest, AnotherThreadMaySync) {
  const ScratchDirectory scratch;
  constexpr std::int64_t kRecords = 4000;
  {
    auto log = open_ok(scratch / "log", {.segment_bytes = 20'000});
    std::atomic<bool> done{false};
    std::thread syncing([&] {
      while (!done.load()) ASSERT_TRUE(log->sync());
    });
    for (std::int64_t i = 0; i < kRecords; ++i) ASSERT_TRUE(log->append(record(i), i));
    done.store(true);
    syncing.join();
    ASSERT_TRUE(log->sync());
  }
  auto log = open_ok(scratch / "log", {.segment_bytes = 20'000});
  const auto got = read_all(*log);
  ASSERT_THAT(got, SizeIs(kRecords));
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i].bytes, record(static_cast<std::int64_t>(i)));
}

TEST(LocalLogTest, LargestRecordsComeBack) {
  const ScratchDirectory scratch;
  auto log = open_ok(scratch / "log", {.segment_bytes = 3 << 20});
  const std::string largest(LocalLog::kRecordBytesMax, 'z');
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(log->append(i % 2 == 0 ? largest : "small", i));
  const auto got = read_all(*log);
  ASSERT_THAT(got, SizeIs(6));
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(got[i].bytes, i % 2 == 0 ? largest : "small");
}

TEST(LocalLogTest, TheFuzzersCorpusHolds) {
  const std::filesystem::path corpus = std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/local_log";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    SCOPED_TRACE(entry.path().string());
    const std::string bytes = contents(entry.path());
    check_segment_invariants(bytes);
    // Recovery through the front door keeps what the scan promises, or refuses.
    const ScratchDirectory scratch;
    scratch.write("log/" + std::string(kFirstSegment), bytes);
    const SegmentScan scan = scan_segment(bytes);
    const auto log = LocalLog::open(scratch / "log", {});
    ASSERT_EQ(log.has_value(), !scan.damaged_before_mark);
    if (log) {
      EXPECT_THAT(read_all(**log), SizeIs(scan.records));
      EXPECT_TRUE((*log)->append("next", 1));
    }
    ++files;
  }
  EXPECT_GE(files, 8);
}

TEST(LocalLogTest, RandomDamageNeverBreaksTheScan) {
  const ScratchDirectory scratch;
  {
    auto log = open_ok(scratch / "log");
    for (std::int64_t i = 0; i < 20; ++i) {
      ASSERT_TRUE(log->append(record(i), i));
      if (i % 6 == 0) {
        ASSERT_TRUE(log->sync());
      }
    }
  }
  const std::string whole = contents(scratch / "log/" + kFirstSegment);
  Prng random(17);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole.substr(0, random.below(whole.size() + 1));
    for (std::uint64_t k = random.below(4); k > 0 && !bytes.empty(); --k) {
      bytes[random.below(bytes.size())] = static_cast<char>(random.next());
    }
    check_segment_invariants(bytes);
  }
}

}  // namespace
}  // namespace alcedo::ingest
