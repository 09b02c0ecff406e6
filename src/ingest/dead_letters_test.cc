// A letter comes back byte for byte, once, to its owner only, and never beyond the bound.
#include "ingest/dead_letters.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "core/prng.h"
#include "ingest/base64.h"
#include "ingest/test_files.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::SizeIs;

std::unique_ptr<DeadLetters> open_ok(const std::string& path, std::uint64_t bytes_max = 1 << 20) {
  auto letters = DeadLetters::open(path, bytes_max);
  EXPECT_TRUE(letters.has_value()) << (letters ? "" : letters.error().message);
  return letters ? std::move(*letters) : nullptr;
}

DeadLetter letter(std::int64_t offset, std::string bytes = "{bad", std::string reason = "malformed") {
  DeadLetter out;
  out.bytes = std::move(bytes);
  out.source = "file:x.json";
  out.partition_name = "x";
  out.offset = offset;
  out.reason = std::move(reason);
  out.message = "at byte 1: expected a name";
  out.arrival_ms = 1'763'900'000'123;
  return out;
}

std::vector<DeadLetter> read_all(const std::string& path, std::uint64_t unreadable = 0) {
  std::vector<DeadLetter> out;
  const auto read = read_dead_letters(path, [&](const DeadLetter& one) {
    out.push_back(one);
    return true;
  });
  EXPECT_EQ(*read, unreadable);
  return out;
}

TEST(DeadLettersTest, EveryByteComesBack) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "deep/dead.ndjson";
  std::vector<DeadLetter> written;
  Prng random(23);
  {
    auto letters = open_ok(path, 1 << 30);
    for (std::int64_t i = 0; i < 300; ++i) {
      DeadLetter one = letter(i, std::string(random.below(i < 299 ? 200 : 1 << 20), '\0'));
      for (char& byte : one.bytes) byte = static_cast<char>(random.next());
      one.partition = static_cast<std::int32_t>(random.below(3));
      one.arrival_ms = static_cast<std::int64_t>(random.below(4'000'000'000'000));
      one.message = "line\n\"quoted\" \x01 \\ ü";
      ASSERT_TRUE(*letters->append(one));
      written.push_back(std::move(one));
    }
    EXPECT_TRUE(letters->sync());
    EXPECT_EQ(letters->written(), 300U);
  }
  const auto read = read_all(path);
  ASSERT_EQ(read.size(), written.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].bytes, written[i].bytes);
    EXPECT_EQ(read[i].source, written[i].source);
    EXPECT_EQ(read[i].partition, written[i].partition);
    EXPECT_EQ(read[i].partition_name, written[i].partition_name);
    EXPECT_EQ(read[i].offset, written[i].offset);
    EXPECT_EQ(read[i].reason, written[i].reason);
    EXPECT_EQ(read[i].message, written[i].message);
    EXPECT_EQ(read[i].arrival_ms, written[i].arrival_ms);
  }
}

TEST(DeadLettersTest, TheLineIsWhatTheHeaderPromises) {
  EXPECT_EQ(
      format_dead_letter(letter(7)),
      R"({"time":"2025-11-23T12:13:20.123Z","source":"file:x.json","partition":0,"name":"x","offset":7,"reason":"malformed",)"
      R"("message":"at byte 1: expected a name","bytes_base64":"e2JhZA=="})");
}

TEST(DeadLettersTest, AReplayWritesNothingTwice) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  const auto replay = [&](DeadLetters& letters, std::int64_t until) {
    // As a pipeline meets them: some are refused late in a batch, out of the order of offsets.
    for (const std::int64_t offset : {5, 9, 7, 30, 12, 40}) {
      if (offset > until) continue;
      ASSERT_TRUE(letters.append(letter(offset)));
      DeadLetter other = letter(offset);
      other.partition = 1;
      ASSERT_TRUE(letters.append(other));
    }
  };
  std::size_t expected = 0;
  for (const std::int64_t until : {9, 30, 40, 40}) {
    auto letters = open_ok(path);
    replay(*letters, until);
    expected += letters->written();
    EXPECT_EQ(letters->written() + letters->repeated(), until == 9 ? 6U : until == 30 ? 10U : 12U);
  }
  EXPECT_EQ(expected, 12U);
  EXPECT_THAT(read_all(path), SizeIs(12));
}

TEST(DeadLettersTest, OtherSourcesAndNamesAreOtherPlaces) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  for (int run = 0; run < 2; ++run) {
    auto letters = open_ok(path);
    DeadLetter source = letter(1);
    source.source = "stdin:";
    DeadLetter name = letter(1);
    name.partition_name = "not UTF-8: \xFF";
    for (const DeadLetter& one : {letter(1), source, name}) EXPECT_EQ(*letters->append(one), run == 0);
  }
}

TEST(DeadLettersTest, AnotherRecordAtAKnownOffsetIsKeptToo) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  DeadLetter lost = letter(1);
  lost.bytes = "lost by a power cut";
  for (int run = 0; run < 2; ++run) {
    auto letters = open_ok(path);
    EXPECT_EQ(*letters->append(lost), run == 0);
    EXPECT_EQ(*letters->append(letter(1)), run == 0);
  }
  EXPECT_THAT(read_all(path), SizeIs(2));
}

TEST(DeadLettersTest, CountsByReasonAcrossRuns) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  open_ok(path)->append(letter(1, "x", "wrong_type")).value();
  auto letters = open_ok(path);
  letters->append(letter(2)).value();
  letters->append(letter(3)).value();
  EXPECT_THAT(letters->counts(), ElementsAre(Pair("malformed", 2), Pair("wrong_type", 1)));
  EXPECT_EQ(letters->written(), 2U);
}

TEST(DeadLettersTest, OnlyTheOwnerMayReadEvenAFileThatWasThere) {
  const ScratchDirectory scratch;
  struct stat info{};
  const std::string fresh = scratch / "fresh.ndjson";
  const mode_t before = ::umask(0);
  auto letters = open_ok(fresh);
  ::umask(before);
  ASSERT_EQ(::stat(fresh.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  const std::string old = scratch.write("old.ndjson", "");
  ASSERT_EQ(::chmod(old.c_str(), 0644), 0);
  auto reopened = open_ok(old);
  ASSERT_EQ(::stat(old.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
}

TEST(DeadLettersTest, AtItsBoundItRefusesAndGoesOnWhenTheFileIsMovedAway) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  auto letters = open_ok(path, 1000);
  std::int64_t offset = 0;
  while (letters->append(letter(offset))) ++offset;
  EXPECT_GT(offset, 2);
  EXPECT_TRUE(letters->full());
  EXPECT_LE(std::filesystem::file_size(path), 1000U);
  const auto refused = letters->append(letter(offset));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr(path), HasSubstr("full")));
  EXPECT_FALSE(*letters->append(letter(0)));  // what it knows is no reason to pause

  std::filesystem::rename(path, scratch / "looked-at.ndjson");
  EXPECT_TRUE(*letters->append(letter(offset)));
  EXPECT_FALSE(letters->full());
  EXPECT_FALSE(*letters->append(letter(0)));  // moved away, but known
  EXPECT_THAT(read_all(path), SizeIs(1));
  EXPECT_THAT(read_all(scratch / "looked-at.ndjson"), SizeIs(static_cast<std::size_t>(offset)));

  while (letters->append(letter(++offset))) {
  }
  std::filesystem::resize_file(path, 0);
  EXPECT_TRUE(*letters->append(letter(offset)));
  EXPECT_THAT(read_all(path), SizeIs(1));
}

TEST(DeadLettersTest, OneLetterAlwaysFits) {
  const ScratchDirectory scratch;
  auto letters = open_ok(scratch / "dead.ndjson", 10);
  EXPECT_TRUE(*letters->append(letter(1, std::string(1 << 20, 'x'))));
  EXPECT_FALSE(letters->append(letter(2)));
}

TEST(DeadLettersTest, ATornLastLineIsCutAndDamageIsCounted) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  for (std::int64_t i = 0; i < 3; ++i) open_ok(path)->append(letter(i)).value();
  const std::string whole = contents(path);
  const std::size_t third = whole.rfind('\n', whole.size() - 2) + 1;
  for (std::size_t size = third; size < whole.size(); size += 7) {
    scratch.write("dead.ndjson", whole.substr(0, size));
    auto letters = open_ok(path);
    EXPECT_EQ(letters->torn_bytes(), size - third);
    EXPECT_EQ(letters->unreadable_lines(), 0U);
    EXPECT_FALSE(*letters->append(letter(1)));
    EXPECT_TRUE(*letters->append(letter(2)));
    EXPECT_EQ(contents(path), whole);
  }
  scratch.write("dead.ndjson", "not json\n{\"time\":1}\n" + whole);
  EXPECT_EQ(open_ok(path)->unreadable_lines(), 2U);
  EXPECT_THAT(read_all(path, 2), SizeIs(3));
}

TEST(DeadLettersTest, AFullDiskRefusesAndLeavesWholeLines) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  auto letters = open_ok(path);
  letters->append(letter(1)).value();
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit full = before;
  full.rlim_cur = letters->size_bytes() + 50;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
  const auto refused = letters->append(letter(2));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(read_all(path), SizeIs(1));
  EXPECT_TRUE(*letters->append(letter(2)));
  EXPECT_THAT(read_all(path), SizeIs(2));
}

TEST(DeadLettersTest, OneWriterAtATimeAndReadersAnyTime) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  auto letters = open_ok(path);
  letters->append(letter(1)).value();
  EXPECT_EQ(DeadLetters::open(path, 1000).error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(read_all(path), SizeIs(1));
  EXPECT_EQ(read_dead_letters(scratch / "none", [](const DeadLetter&) { return true; }).error().code,
            ErrorCode::kNotFound);
}

TEST(DeadLettersTest, AReaderMayStop) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "dead.ndjson";
  auto letters = open_ok(path);
  for (std::int64_t i = 0; i < 5; ++i) letters->append(letter(i)).value();
  int seen = 0;
  EXPECT_EQ(*read_dead_letters(path, [&](const DeadLetter&) { return ++seen < 2; }), 0U);
  EXPECT_EQ(seen, 2);
}

TEST(Base64Test, KnowsTheStandardsVectors) {
  const std::vector<std::pair<std::string, std::string>> vectors = {{"", ""},
                                                                    {"f", "Zg=="},
                                                                    {"fo", "Zm8="},
                                                                    {"foo", "Zm9v"},
                                                                    {"foob", "Zm9vYg=="},
                                                                    {"fooba", "Zm9vYmE="},
                                                                    {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text), bytes);
  }
  for (const char* wrong : {"Z", "Zg=", "Zg", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm-_"}) {
    EXPECT_FALSE(decode_base64(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace alcedo::ingest
