// The order of inputs must come back exactly, whatever moment the process was killed at; damage must not pass for
// order.
#include "pipeline/journal.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

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
  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
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
  const auto size = std::filesystem::file_size(path_) - 48;  // without the closing record
  for (std::uintmax_t cut = 1; cut < 48; ++cut) {
    std::filesystem::resize_file(path_, size - cut);
    const auto journal = open();
    EXPECT_EQ(journal->last_sequence(), 15U) << cut;
    std::filesystem::resize_file(path_, size - 48);
    auto again = open();
    ASSERT_TRUE(again->append_event(16, 0, 120));
  }
}

TEST_F(JournalTest, PagesThatAPowerCutLostAreATornTail) {
  constexpr std::uint64_t kSynced = 100;  // records; each event is one, since partitions alternate
  constexpr std::uint64_t kAll = 600;     // seven pages
  constexpr std::size_t kPage = 4096;
  std::string synced;
  std::string all;
  {
    auto journal = open();
    for (std::uint64_t s = 1; s <= kAll; ++s) {
      ASSERT_TRUE(journal->append_event(s, static_cast<std::int32_t>(s % 2), static_cast<std::int64_t>(s)));
      if (s != kSynced) continue;
      ASSERT_TRUE(journal->sync());
      synced = bytes();
    }
    // As it is in the page cache when the power goes: the buffer's last records are not even there.
    all = bytes();
  }
  ASSERT_EQ(synced.size(), all.size());
  const std::size_t pages = kAll * 48 / kPage + 1;
  for (std::size_t kept = 0; kept < (std::size_t{1} << pages); ++kept) {
    std::string disk = synced;
    for (std::size_t page = 0; page < pages; ++page) {
      if ((kept >> page & 1) != 0) disk.replace(page * kPage, kPage, all, page * kPage, kPage);
    }
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << disk;
    std::uint64_t last = 0;
    {
      auto journal = Journal::open(path_, "p", 0);
      ASSERT_TRUE(journal) << "pages " << kept << ": " << journal.error().message;
      last = (*journal)->last_sequence();
      ASSERT_GE(last, kSynced) << "pages " << kept;
      ASSERT_EQ((*journal)->runs().size(), last);
      ASSERT_TRUE((*journal)->append_event(last + 1, 7, 7777));
    }
    ASSERT_EQ(open()->last_sequence(), last + 1) << "pages " << kept;
  }
}

TEST_F(JournalTest, DamageBeforeASyncIsRefusedAlsoWithoutAnEnd) {
  {
    auto journal = open();
    for (std::uint64_t s = 1; s <= 10; ++s) {
      ASSERT_TRUE(journal->append_event(s, static_cast<std::int32_t>(s % 2), static_cast<std::int64_t>(s)));
      ASSERT_TRUE(journal->sync());
    }
  }
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 48);
  for (const char* damage : {"!", "zeros"}) {
    const std::string over(*damage == '!' ? 1 : 48, *damage == '!' ? '!' : '\0');
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4 * 48);
    file << over;
    file.close();
    const auto journal = Journal::open(path_, "p", 0);
    ASSERT_FALSE(journal) << damage;
    EXPECT_EQ(journal.error().code, ErrorCode::kCorrupt);
  }
}

TEST_F(JournalTest, WhatTheLogLostIsForgotten) {
  write_some();  // 1-10 and 16 of partition 0, time at 11, 12-15 of partition 1
  {
    auto journal = open();
    ASSERT_TRUE(journal->forget_from(14, 14));
    EXPECT_EQ(journal->last_sequence(), 13U);
    ASSERT_TRUE(journal->append_event(14, 2, 500));
  }
  {
    auto journal = open();
    EXPECT_EQ(journal->last_sequence(), 14U);
    ASSERT_EQ(journal->runs().size(), 3U);
    EXPECT_EQ(journal->runs()[1].count, 2U);
    EXPECT_EQ(journal->runs()[1].offset_last, 13);
    EXPECT_EQ(journal->runs()[2].partition, 2);
    EXPECT_EQ(journal->runs()[2].offset_first, 500);
    EXPECT_EQ(journal->time_inputs().size(), 1U);
    ASSERT_TRUE(journal->forget_from(15, 0));  // nothing is there
    ASSERT_TRUE(journal->forget_from(5, 105));
    EXPECT_EQ(journal->last_sequence(), 4U);
    EXPECT_TRUE(journal->time_inputs().empty());
  }
  const auto journal = open();
  ASSERT_EQ(journal->runs().size(), 1U);
  EXPECT_EQ(journal->runs()[0].count, 4U);
  EXPECT_EQ(journal->runs()[0].offset_last, 104);
}

TEST_F(JournalTest, DamageBeforeTheTailIsRefusedByName) {
  write_some();
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(60);
  file.put('!');
  file.close();
  const auto before = bytes();
  const auto journal = Journal::open(path_, "p", 0);
  ASSERT_FALSE(journal);
  EXPECT_EQ(bytes(), before);
  EXPECT_EQ(journal.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(journal.error().message.find(path_), std::string::npos);
}

TEST_F(JournalTest, AnotherSourcesJournalIsRefused) {
  write_some();
  const auto before = bytes();
  const auto journal = Journal::open(path_, "q\nfile:x.csv\n", 0);
  ASSERT_FALSE(journal);
  EXPECT_EQ(bytes(), before);
  EXPECT_EQ(journal.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(journal.error().message.find("'q file:x.csv'"), std::string::npos) << journal.error().message;
}

}  // namespace
}  // namespace alcedo::pipeline
