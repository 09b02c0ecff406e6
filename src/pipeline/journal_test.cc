// The order of inputs must come back exactly, whatever moment the process was killed at; damage must not pass for
// order.
#include "pipeline/journal.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace alcedo::pipeline {
namespace {

class JournalTest : public testing::Test {
 protected:
  JournalTest()
      : path_(testing::TempDir() + "journal-" + std::to_string(::getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove(path_);
  }
  ~JournalTest() override { std::filesystem::remove(path_); }

  std::unique_ptr<Journal> open(const std::string& identity = "p", std::int64_t now_ms = 1000) {
    auto journal = Journal::open(path_, identity, now_ms);
    EXPECT_TRUE(journal) << journal.error().message;
    return std::move(*journal);
  }
  void write_some() {
    auto journal = open();
    for (std::uint64_t s = 1; s <= 10; ++s)
      ASSERT_TRUE(journal->append_event(s, 0, static_cast<std::int64_t>(s) + 100));
    ASSERT_TRUE(journal->append_time(11, 777));
    for (std::uint64_t s = 12; s <= 15; ++s) ASSERT_TRUE(journal->append_event(s, 1, static_cast<std::int64_t>(s)));
    ASSERT_TRUE(journal->append_event(16, 0, 120));
  }
  std::string path_;
};

TEST_F(JournalTest, GivesBackTheOrder) {
  write_some();
  const auto journal = open("p", 9999);
  EXPECT_EQ(journal->opened_ms(), 1000);  // of the first process
  ASSERT_EQ(journal->runs().size(), 3U);
  EXPECT_EQ(journal->runs()[0].count, 10U);
  EXPECT_EQ(journal->runs()[0].offset_last, 110);
  EXPECT_EQ(journal->runs()[1].partition, 1);
  ASSERT_EQ(journal->time_inputs().size(), 1U);
  EXPECT_EQ(journal->time_inputs()[0].time_ms, 777);
  EXPECT_EQ(journal->last_sequence(), 16U);
}

TEST_F(JournalTest, PassingThroughAgainWritesNothing) {
  write_some();
  const auto size = std::filesystem::file_size(path_);
  {
    auto journal = open();
    for (std::uint64_t s = 1; s <= 10; ++s)
      ASSERT_TRUE(journal->append_event(s, 0, static_cast<std::int64_t>(s) + 100));
    ASSERT_TRUE(journal->append_time(11, 777));
  }
  EXPECT_EQ(std::filesystem::file_size(path_), size);
}

TEST_F(JournalTest, ATornTailIsCutAtEveryByte) {
  write_some();
  const auto size = std::filesystem::file_size(path_);
  for (std::uintmax_t cut = 1; cut < 48; ++cut) {
    std::filesystem::resize_file(path_, size - cut);
    const auto journal = open();
    EXPECT_EQ(journal->last_sequence(), 15U) << cut;
    std::filesystem::resize_file(path_, size - 48);
    auto again = open();
    ASSERT_TRUE(again->append_event(16, 0, 120));
  }
}

TEST_F(JournalTest, DamageBeforeTheTailIsRefusedByName) {
  write_some();
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(60);
  file.put('!');
  file.close();
  const auto journal = Journal::open(path_, "p", 0);
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(journal.error().message.find(path_), std::string::npos);
}

TEST_F(JournalTest, AnotherSourcesJournalIsRefused) {
  write_some();
  const auto journal = Journal::open(path_, "q\nfile:x.csv\n", 0);
  ASSERT_FALSE(journal);
  EXPECT_EQ(journal.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(journal.error().message.find("'q file:x.csv'"), std::string::npos) << journal.error().message;
}

}  // namespace
}  // namespace alcedo::pipeline
