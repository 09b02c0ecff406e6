// A store of checkpoints against a map of what each one held: after crashes and damage it must give one of them, whole.
#include "pipeline/checkpoint_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/hash.h"
#include "pipeline/test_checkpoints.h"

#if defined(__SANITIZE_THREAD__)
// Debian's RocksDB is not instrumented: where its threads hand memory to each other by atomics, ThreadSanitizer sees
// the calls of free() and memcmp() on both sides and nothing in between. Races of the store's own have no frame in it.
extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __tsan_default_suppressions() { return "race:librocksdb\n"; }
#endif

namespace alcedo::pipeline {
namespace {

TEST_F(CheckpointStoreTest, TheNewestCheckpointComesBackAfterEachOpening) {
  for (int i = 0; i < 30; ++i) {
    CheckpointStore store = opened(directory_);
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    ASSERT_EQ(found->restored.has_value(), i > 0);
    if (i > 0) {
      const auto& [epoch, published] = *published_.rbegin();
      EXPECT_EQ(found->restored->epoch, epoch);
      EXPECT_EQ(found->restored->record, published.record);
      EXPECT_TRUE(found->restored->refused.empty());
      ASSERT_EQ(found->rows, published.rows);
      for (const auto& [key, of] : found->epochs) {
        const auto row = store.get(key, of);
        ASSERT_TRUE(row.has_value()) << row.error().message;
        ASSERT_EQ(*row, found->rows.at(key));
      }
    }
    write(store);
    publish(store);
    compact(store);
  }
}

TEST_F(CheckpointStoreTest, WhatWasNotPublishedWasNever) {
  for (int round = 0; round < 10; ++round) {
    CheckpointStore store = opened(directory_);
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value());
    if (round > 0) {
      ASSERT_EQ(found->rows, published_.rbegin()->second.rows);
    }
    write(store);
    publish(store);
    const Rows now = rows_;
    write(store);  // dropped by the next begin()
    if (round % 2 == 0) {
      rows_ = now;
      write(store);
      publish(store);
      write(store);
    }
    rows_ = published_.rbegin()->second.rows;
  }
}

TEST_F(CheckpointStoreTest, ACompactionIsDueByChangesOrByTheLengthOfTheChain) {
  CheckpointStore store = opened(directory_);
  ASSERT_TRUE(restore(store).has_value());
  ASSERT_EQ(store.compact(), false) << "nothing is published";
  const auto publish_rows = [&](std::uint64_t rows) {
    const auto full = store.begin();
    ASSERT_TRUE(full.has_value());
    for (std::uint64_t entity = 0; entity < rows; ++entity)
      ASSERT_TRUE(store.put(key_of(entity), std::to_string(store.newest())).has_value());
    ASSERT_TRUE(store.publish("record").has_value());
  };
  publish_rows(100);
  ASSERT_EQ(store.compact(), false) << "nothing has changed";
  publish_rows(99);
  ASSERT_EQ(store.compact(), false);
  publish_rows(1);
  ASSERT_EQ(store.compact(), true) << "100 changes to 100 rows";
  ASSERT_EQ(store.newest(), 4U);
  for (int i = 0; i < 16; ++i) {
    ASSERT_EQ(store.compact(), false);
    publish_rows(1);
  }
  ASSERT_EQ(store.compact(), false) << "16 epochs after the base";
  publish_rows(1);
  ASSERT_EQ(store.compact(), true);
  ASSERT_EQ(store.newest(), 22U);
  const auto row = store.get(key_of(98), 2);
  ASSERT_TRUE(row.has_value());
  EXPECT_EQ(*row, "1") << "put in epoch 2 last, which has left";
  EXPECT_EQ(store.get(key_of(98), 23).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(store.get(key_of(98), 0).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(CheckpointStoreTest, ACompactionStopsWhenAskedAndHoldsItsRate) {
  CheckpointStore store = opened(directory_);
  ASSERT_TRUE(restore(store).has_value());
  for (int epoch = 0; epoch < 2; ++epoch) {
    ASSERT_TRUE(store.begin().has_value());
    for (std::uint64_t entity = 0; entity < 400; ++entity) {
      rows_[key_of(entity)] = random_row(random_, 10'000);
      ASSERT_TRUE(store.put(key_of(entity), rows_[key_of(entity)]).has_value());
    }
    ASSERT_TRUE(store.publish("record").has_value());
  }
  // 4 MB to read. Stopped at every place where it looks; each time it had written something else.
  int looks_max = 0;
  for (;; ++looks_max) {
    int looks = 0;
    const auto compacted = store.compact([&] { return looks++ == looks_max; });
    ASSERT_TRUE(compacted.has_value()) << compacted.error().message;
    if (*compacted) break;
    ASSERT_EQ(store.newest(), 2U);
    if (looks_max % 16 == 0) {
      ASSERT_EQ(restore(store)->rows, rows_);
    }
  }
  EXPECT_GT(looks_max, 30);
  EXPECT_EQ(store.newest(), 3U);
  ASSERT_EQ(restore(store)->rows, rows_);

  ASSERT_TRUE(store.begin().has_value());
  for (const auto& [key, row] : rows_) ASSERT_TRUE(store.put(key, row).has_value());
  ASSERT_TRUE(store.publish("record").has_value());
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  ASSERT_EQ(store.compact([&] { return seconds() > 0.05; }, 1000), false) << "an hour's work, stopped while it waits";
  ASSERT_EQ(store.compact(nullptr, 10'000'000), true);
  EXPECT_GT(seconds(), 0.05 + 0.3) << "4 MB at 10 MB/s";
  ASSERT_EQ(restore(store)->rows, rows_);
}

// A store, and beside it what it should hold. Each step is one random call; what comes of it is compared.
class Driver {
 public:
  Driver(fs::path directory, std::uint64_t seed) : directory_(std::move(directory)), random_(seed) {
    bytes_max_ = std::array<std::uint64_t, 3>{60, 3000, 20'000}[seed % 3];
    open();
  }

  void step() {
    const std::uint64_t dice = random_.below(1000);
    if (dice < 60) {
      begin(random_.below(8) == 0);
    } else if (dice < 500) {
      change();
    } else if (dice < 560) {
      publish();
    } else if (dice < 660) {
      // One of two is stopped somewhere.
      const std::uint64_t looks_max = random_.below(2) == 0 ? UINT64_MAX : random_.below(1 + bytes_max_ / 1000);
      std::uint64_t looks = 0;
      const auto compacted = store_->compact([&] { return looks++ == looks_max; });
      ASSERT_TRUE(compacted.has_value()) << compacted.error().message;
      compacted_ += *compacted ? 1 : 0;
      stopped_ += looks > looks_max ? 1 : 0;
      if (*compacted) ++epoch_;
      begun_ = false;
    } else if (dice < 670) {
      open();
    } else {
      get();
    }
    ASSERT_EQ(store_->newest(), epoch_);
  }
  // Leaves what a process leaves that ends here: in the middle of a compaction if one is due, else of a checkpoint.
  [[noreturn]] void die() {
    int looks = 0;
    static_cast<void>(store_->compact([&] {
      if (++looks > 20) _exit(7);
      return false;
    }));
    begin(false);
    for (int i = 0; i < 50; ++i) change();
    _exit(7);
  }
  void expect_in(const fs::path& directory) const {
    CheckpointStore store = opened(directory);
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    ASSERT_EQ(found->restored.has_value(), epoch_ > 0);
    if (epoch_ == 0) return;
    EXPECT_TRUE(found->restored->refused.empty());
    EXPECT_EQ(found->restored->record, record_);
    ASSERT_EQ(found->rows, published_);
  }

  std::uint64_t epoch() const { return epoch_; }
  int compacted() const { return compacted_; }
  int stopped() const { return stopped_; }

 private:
  void open() {
    store_.reset();
    store_ = std::make_unique<CheckpointStore>(opened(directory_));
    const auto found = restore(*store_);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    ASSERT_EQ(found->restored.has_value(), epoch_ > 0);
    ASSERT_EQ(found->rows, published_);
    if (epoch_ > 0) {
      ASSERT_EQ(found->restored->epoch, epoch_);
      ASSERT_EQ(found->restored->record, record_);
    }
    for (const auto& [key, epoch] : found->epochs) {
      ASSERT_GE(epoch, changed_in_[key]) << "where it was put last, or a newer base";
      changed_in_[key] = epoch;
    }
    begun_ = false;
  }
  void begin(bool wanted) {
    const auto full = store_->begin(wanted);
    ASSERT_TRUE(full.has_value()) << full.error().message;
    ASSERT_EQ(*full, wanted || epoch_ == 0);
    begun_ = true;
    next_ = published_;
    changed_.clear();
    if (!*full) return;
    for (const auto& [key, row] : next_) {
      ASSERT_TRUE(store_->put(key, row).has_value());
      changed_.emplace(key, true);
    }
  }
  void change() {
    const RowKey key = key_of(random_.below(60));
    const bool live = random_.below(5) > 0;
    if (!begun_ || changed_.contains(key)) return;
    changed_.emplace(key, true);
    if (live) {
      next_[key] = random_row(random_, bytes_max_);
      ASSERT_TRUE(store_->put(key, next_[key]).has_value());
    } else {
      next_.erase(key);
      ASSERT_TRUE(store_->forget(key).has_value());
    }
  }
  void publish() {
    if (!begun_) return;
    record_ = random_row(random_, 100);
    const auto published = store_->publish(record_);
    ASSERT_TRUE(published.has_value()) << published.error().message;
    ++epoch_;
    published_ = next_;
    for (const auto& [key, changed] : changed_) changed_in_[key] = epoch_;
    begun_ = false;
  }
  void get() const {
    if (changed_in_.empty()) return;
    const auto& [key, epoch] =
        *std::next(changed_in_.begin(), static_cast<std::ptrdiff_t>(random_.below(changed_in_.size())));
    const auto row = store_->get(key, epoch);
    ASSERT_TRUE(row.has_value()) << row.error().message;
    const auto expected = published_.find(key);
    ASSERT_EQ(row->has_value(), expected != published_.end()) << "epoch " << epoch << " of " << epoch_;
    if (*row) {
      ASSERT_EQ(**row, expected->second);
    }
  }

  fs::path directory_;
  mutable Prng random_;
  std::uint64_t bytes_max_ = 0;
  std::unique_ptr<CheckpointStore> store_;
  bool begun_ = false;
  std::uint64_t epoch_ = 0;
  std::string record_;
  Rows published_;
  Rows next_;
  std::map<RowKey, bool> changed_;  // in what was begun
  Epochs changed_in_;               // where each row was put or forgotten last, and published
  int compacted_ = 0;
  int stopped_ = 0;
};

TEST_F(CheckpointStoreTest, AnySequenceOfCallsLeavesWhatAMapWouldHold) {
  int compacted = 0;
  int stopped = 0;
  std::uint64_t epochs = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Driver driver(directory_ / std::to_string(seed), seed);
    for (int i = 0; i < 2000; ++i) {
      driver.step();
      if (HasFatalFailure()) FAIL() << "seed " << seed << ", step " << i;
    }
    compacted += driver.compacted();
    stopped += driver.stopped();
    epochs += driver.epoch();
  }
  std::cout << epochs << " checkpoints, " << compacted << " by compaction; " << stopped << " were stopped\n";
  EXPECT_GT(compacted, 25);
  EXPECT_GT(stopped, 8);
}

// A process of its own writes until it ends without a word; this one replays the same steps to know what must be there.
class CheckpointStoreCrashTest : public CheckpointStoreTest, public ::testing::WithParamInterface<int> {
 protected:
  void run(const fs::path& directory, bool die) const {
    const auto seed = static_cast<std::uint64_t>(GetParam());
    Driver driver(directory, seed);
    for (int i = 0; i < 150 + 60 * GetParam(); ++i) driver.step();
    if (die) driver.die();
    driver.expect_in(directory_ / "died");
  }
};
TEST_P(CheckpointStoreCrashTest, AProcessThatDiesLosesOnlyWhatItHadNotPublished) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run(directory_ / "died", true), ::testing::ExitedWithCode(7), "");
  ASSERT_TRUE(fs::exists(directory_ / "died"));
  run(directory_ / "lives", false);
}
INSTANTIATE_TEST_SUITE_P(CheckpointStore, CheckpointStoreCrashTest, ::testing::Range(0, 9));

}  // namespace
}  // namespace alcedo::pipeline
