// A pipe's records survive a restart: they come again from the log, at the same offsets, before anything new.
#include "ingest/stdin_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "ingest/test_files.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class Pipe {
 public:
  Pipe() { CHECK(::pipe2(ends_, O_CLOEXEC) == 0); }
  ~Pipe() {
    close_writer();
    ::close(ends_[0]);
  }
  int reader() const { return ends_[0]; }
  void write(std::string_view bytes) const {
    CHECK(::write(ends_[1], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  void close_writer() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  int ends_[2] = {-1, -1};
};

class StdinSourceTest : public testing::Test {
 protected:
  StdinSource::Options options(contract::Format format = contract::Format::kJson) {
    StdinSource::Options options;
    options.log_directory = scratch_ / "log";
    options.format = format;
    options.now_ms = [this] { return now_ms_; };
    return options;
  }
  std::unique_ptr<StdinSource> open_ok(const Pipe& pipe, StdinSource::Options options) {
    auto source = StdinSource::create(pipe.reader(), std::move(options));
    EXPECT_TRUE(source.has_value()) << (source ? "" : source.error().message);
    return source ? std::move(*source) : nullptr;
  }
  ScratchDirectory scratch_;
  std::int64_t now_ms_ = 1000;
};

TEST_F(StdinSourceTest, DeliversLinesAsTheyComeAndTheLastWithoutItsNewline) {
  Pipe pipe;
  auto source = open_ok(pipe, options());
  EXPECT_EQ(source->num_partitions(), 1U);
  EXPECT_EQ(source->partition(0).file, "");
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  pipe.write("\xEF\xBB");
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  pipe.write("\xBF{\"a\":1}\n\n{\"a\"");
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  EXPECT_THAT(got, ElementsAre(Got{0, 1000, "{\"a\":1}"}));
  now_ms_ = 2000;
  pipe.write(":2}\n{\"a\":3}");
  pipe.close_writer();
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kEnd);
  EXPECT_THAT(got, ElementsAre(Got{0, 1000, "{\"a\":1}"}, Got{1, 2000, "{\"a\":2}"}, Got{2, 2000, "{\"a\":3}"}));
}

TEST_F(StdinSourceTest, ARestartBringsTheKeptRecordsFirst) {
  std::vector<Got> before;
  {
    Pipe pipe;
    auto source = open_ok(pipe, options());
    for (int i = 0; i < 500; ++i) pipe.write(fmt::format("{{\"n\":{}}}\n", i));
    // Only some are delivered; the rest was taken from the pipe and must not be lost.
    ASSERT_EQ(*read_into(*source, 0, before, 100), ReadState::kMore);
    ASSERT_THAT(before, SizeIs(100));
    ASSERT_TRUE(source->sync());
  }
  now_ms_ = 9000;
  Pipe pipe;
  pipe.write("{\"n\":500}\n");
  pipe.close_writer();
  auto source = open_ok(pipe, options());
  std::vector<Got> after;
  EXPECT_EQ(*drain(*source, 0, after, 64), ReadState::kEnd);
  ASSERT_THAT(after, SizeIs(501));
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i], (Got{static_cast<std::int64_t>(i), i < 500 ? 1000 : 9000, fmt::format("{{\"n\":{}}}", i)}));
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin()));
}

TEST_F(StdinSourceTest, OffsetsBeginWhereRetentionLetThemBegin) {
  auto small = options();
  small.log = {.segment_bytes = 500, .retention_bytes = 2000};
  {
    Pipe pipe;
    auto source = open_ok(pipe, small);
    std::vector<Got> got;
    for (int i = 0; i < 300; ++i) {
      pipe.write(fmt::format("{{\"n\":{}}}\n", i));
      ASSERT_EQ(*drain(*source, 0, got), ReadState::kIdle);
    }
    ASSERT_THAT(got, SizeIs(300));
  }
  Pipe pipe;
  auto source = open_ok(pipe, small);
  std::vector<Got> kept;
  drain(*source, 0, kept).value();
  ASSERT_FALSE(kept.empty());
  EXPECT_GT(kept.front().offset, 200);
  EXPECT_EQ(kept.front().bytes, fmt::format("{{\"n\":{}}}", kept.front().offset));
  EXPECT_EQ(kept.back().offset, 299);
}

TEST_F(StdinSourceTest, CsvKnowsItsHeaderAndARestartKnowsItBeforeAnyInput) {
  auto csv = options(contract::Format::kCsv);
  csv.delimiter = ';';
  {
    Pipe pipe;
    pipe.write("\xEF\xBB\xBFt;v\n1;1\n");
    auto source = open_ok(pipe, csv);
    EXPECT_THAT(source->partition(0).header, ElementsAre("t", "v"));
    std::vector<Got> got;
    EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
    EXPECT_THAT(bytes_of(got), ElementsAre("1;1"));
  }
  for (const char* input : {"t;v\n2;2\n", "3;3\n"}) {  // with its header again, and without
    Pipe pipe;
    auto source = open_ok(pipe, csv);
    EXPECT_THAT(source->partition(0).header, ElementsAre("t", "v"));
    std::vector<Got> got;
    EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
    pipe.write(input);
    EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
    EXPECT_EQ(got.back().bytes, input[0] == 't' ? "2;2" : "3;3");
    EXPECT_EQ(got.back().offset, static_cast<std::int64_t>(got.size()) - 1);
  }
  Pipe pipe;
  pipe.write("v;t\n4;4\n");
  auto source = open_ok(pipe, csv);
  std::vector<Got> got;
  const auto end = drain(*source, 0, got);
  ASSERT_FALSE(end);
  EXPECT_THAT(end.error().message, AllOf(HasSubstr("header"), HasSubstr("t,v")));
  EXPECT_THAT(bytes_of(got), ElementsAre("1;1", "2;2", "3;3"));
}

TEST_F(StdinSourceTest, HeaderlessCsvTakesTheGivenColumns) {
  auto csv = options(contract::Format::kCsv);
  csv.columns = {"t", "v"};
  Pipe pipe;
  pipe.write("1,1\n");
  pipe.close_writer();
  auto source = open_ok(pipe, csv);
  EXPECT_THAT(source->partition(0).header, ElementsAre("t", "v"));
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kEnd);
  EXPECT_THAT(bytes_of(got), ElementsAre("1,1"));
}

TEST_F(StdinSourceTest, CsvThatEndsOrIsStoppedBeforeItsHeaderSaysSo) {
  {
    Pipe pipe;
    pipe.close_writer();
    const auto source = StdinSource::create(pipe.reader(), options(contract::Format::kCsv));
    ASSERT_FALSE(source);
    EXPECT_EQ(source.error().code, ErrorCode::kNotFound);
  }
  Pipe pipe;
  const std::atomic<bool> stopping = true;
  auto csv = options(contract::Format::kCsv);
  csv.stopping = &stopping;
  const auto source = StdinSource::create(pipe.reader(), csv);
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, ErrorCode::kUnavailable);
}

TEST_F(StdinSourceTest, StopWakesAWaitingReadAndLeavesTheUnfinishedLine) {
  Pipe pipe;
  auto source = open_ok(pipe, options());
  pipe.write("{\"a\":1}\n{\"unfinished\"");
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    source->stop();
  });
  std::vector<Got> got;
  auto state = ReadState::kMore;
  while (state != ReadState::kEnd) state = *read_into(*source, 0, got, 10, std::chrono::milliseconds(60'000));
  EXPECT_THAT(bytes_of(got), ElementsAre("{\"a\":1}"));
}

TEST_F(StdinSourceTest, AnOverlongLineIsCutAndLogged) {
  Pipe pipe;
  std::jthread writer([&] {
    pipe.write(std::string(3 << 20, 'x') + "\n{\"a\":1}\n");
    pipe.close_writer();
  });
  auto source = open_ok(pipe, options());
  std::vector<Got> got;
  auto state = ReadState::kMore;
  while (state != ReadState::kEnd) state = *read_into(*source, 0, got, 10, std::chrono::milliseconds(10'000));
  ASSERT_THAT(got, SizeIs(2));
  EXPECT_THAT(got[0].bytes, SizeIs(LocalLog::kRecordBytesMax));
  EXPECT_EQ(got[1].bytes, "{\"a\":1}");
}

TEST_F(StdinSourceTest, AFullDiskPausesAndNothingIsLost) {
  Pipe pipe;
  auto source = open_ok(pipe, options());
  std::vector<Got> got;
  pipe.write("{\"a\":1}\n");
  ASSERT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit full = before;
  full.rlim_cur = source->log().size_bytes() + 4;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  pipe.write("{\"a\":2}\n{\"a\":3}\n");
  for (int i = 0; i < 3; ++i) {
    const auto refused = read_into(*source, 0, got);
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
    }
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(got, SizeIs(1));
  pipe.write("{\"a\":4}\n");
  ASSERT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  EXPECT_THAT(bytes_of(got), ElementsAre("{\"a\":1}", "{\"a\":2}", "{\"a\":3}", "{\"a\":4}"));
}

TEST_F(StdinSourceTest, ReadsARedirectedFileToo) {
  const std::string path = scratch_.write("in.json", "{}\n{}\n");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  auto source = StdinSource::create(fd, options());
  ASSERT_TRUE(source);
  std::vector<Got> got;
  EXPECT_EQ(*drain(**source, 0, got), ReadState::kEnd);
  EXPECT_THAT(offsets_of(got), ElementsAre(0, 1));
  ::close(fd);
}

}  // namespace
}  // namespace alcedo::ingest
