// A store of checkpoints against a map of what each one held: after crashes and damage it must give one of them, whole.
#include "pipeline/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "core/prng.h"

namespace alcedo::pipeline {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

using Rows = std::map<std::tuple<std::uint32_t, std::uint8_t, std::uint64_t>, std::string>;

class CheckpointStoreTest : public ::testing::Test {
 protected:
  CheckpointStoreTest()
      : directory_(fs::path(::testing::TempDir()) /
                   ("checkpoints_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()))) {
    fs::remove_all(directory_);
  }
  ~CheckpointStoreTest() override { fs::remove_all(directory_); }

  struct Found {
    Rows rows;
    std::optional<CheckpointStore::Restored> restored;
  };
  static Result<Found> restore(CheckpointStore& store) {
    Found found;
    auto restored = store.restore([&](const RowKey& key, std::string_view row) -> Result<> {
      EXPECT_TRUE(found.rows.emplace(std::tuple(key.stage, key.group, key.entity), row).second) << "a row came twice";
      return {};
    });
    if (!restored) return std::unexpected(restored.error());
    found.restored = *std::move(restored);
    return found;
  }

  // Changes some rows and writes a checkpoint of them; does not publish it.
  void write(CheckpointStore& store, bool full = false) {
    std::map<std::tuple<std::uint32_t, std::uint8_t, std::uint64_t>, bool> changed;
    for (int i = 0; i < 40; ++i) {
      const std::uint64_t entity = random_.below(200);
      const std::tuple key(static_cast<std::uint32_t>(entity % 3), static_cast<std::uint8_t>(entity % 128), entity);
      changed[key] = random_.uniform() < 0.85;
      if (changed[key]) {
        rows_[key] = std::string(random_.below(400), static_cast<char>(random_.below(256)));
      } else {
        rows_.erase(key);
      }
    }
    const auto all = store.begin(full);
    ASSERT_TRUE(all.has_value());
    full_ += *all ? 1 : 0;
    if (*all) {
      for (const auto& [key, row] : rows_)
        ASSERT_TRUE(store.put({std::get<0>(key), std::get<1>(key), std::get<2>(key)}, row).has_value());
      return;
    }
    for (const auto& [key, live] : changed) {
      const RowKey row{std::get<0>(key), std::get<1>(key), std::get<2>(key)};
      ASSERT_TRUE((live ? store.put(row, rows_[key]) : store.forget(row)).has_value());
    }
  }
  void publish(CheckpointStore& store) {
    ASSERT_TRUE(store.publish("positions " + std::to_string(store.newest() + 1)).has_value());
    published_[store.newest()] = rows_;
  }
  CheckpointStore opened() {
    auto store = CheckpointStore::open(directory_.string());
    EXPECT_TRUE(store.has_value()) << (store ? "" : store.error().message);
    return *std::move(store);
  }

  fs::path directory_;
  Prng random_{11};
  Rows rows_;                                // now
  std::map<std::uint64_t, Rows> published_;  // by epoch
  int full_ = 0;
};

TEST_F(CheckpointStoreTest, TheNewestCheckpointComesBackAfterEachOpening) {
  for (std::uint64_t epoch = 0; epoch < 30; ++epoch) {
    CheckpointStore store = opened();
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    ASSERT_EQ(found->restored.has_value(), epoch > 0);
    if (epoch > 0) {
      EXPECT_EQ(found->restored->epoch, epoch);
      EXPECT_EQ(found->restored->record, "positions " + std::to_string(epoch));
      EXPECT_TRUE(found->restored->refused.empty());
      ASSERT_EQ(found->rows, published_[epoch]);
    }
    write(store);
    publish(store);
  }
  EXPECT_GT(full_, 2);
  EXPECT_LT(full_, 15) << "most checkpoints hold only what changed";
}

TEST_F(CheckpointStoreTest, WhatWasNotPublishedWasNever) {
  for (int round = 0; round < 10; ++round) {
    CheckpointStore store = opened();
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value());
    if (round > 0) {
      ASSERT_EQ(found->rows, published_.rbegin()->second);
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
    rows_ = published_.rbegin()->second;
  }
}

// Every file is damaged at sampled places; what comes back is exactly one of the checkpoints, or a refusal, but never
// an empty store.
TEST_F(CheckpointStoreTest, DamageIsSeenAndAnOlderCheckpointServes) {
  for (int epoch = 0; epoch < 30; ++epoch) {
    // Opened anew each time, which moves the log into tables: damage can then reach single epochs.
    CheckpointStore store = opened();
    ASSERT_TRUE(restore(store).has_value());
    write(store);
    publish(store);
  }
  const fs::path good = directory_.string() + ".good";
  fs::remove_all(good);
  fs::copy(directory_, good);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(good)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("LOG") || name == "LOCK" || name == "IDENTITY" || entry.file_size() == 0) continue;
    files.push_back(entry.path().filename());
  }
  std::size_t older = 0;
  std::size_t newest = 0;
  std::size_t refused = 0;
  for (int i = 0; i < 150; ++i) {
    fs::remove_all(directory_);
    fs::copy(good, directory_);
    const fs::path file = directory_ / files[random_.below(files.size())];
    const auto size = static_cast<std::uint64_t>(fs::file_size(file));
    if (i % 5 == 0) {
      fs::resize_file(file, random_.below(size));
    } else {
      std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
      const auto at = static_cast<std::streamoff>(random_.below(size));
      bytes.seekg(at);
      const int byte = bytes.get();
      bytes.seekp(at);
      bytes.put(static_cast<char>(byte ^ (1 << random_.below(8))));
    }
    auto store = CheckpointStore::open(directory_.string());
    if (!store) {
      EXPECT_THAT(store.error().message, HasSubstr("checkpoints in ")) << file;
      ++refused;
      continue;
    }
    const auto found = restore(*store);
    if (!found) {
      EXPECT_EQ(found.error().code, ErrorCode::kCorrupt) << found.error().message;
      ++refused;
      continue;
    }
    if (!found->restored) {
      ADD_FAILURE() << file << ": all checkpoints are gone and nothing was said";
      continue;
    }
    const std::uint64_t epoch = found->restored->epoch;
    ASSERT_EQ(found->rows, published_[epoch]) << file << " epoch " << epoch;
    ASSERT_EQ(found->restored->record, "positions " + std::to_string(epoch));
    (epoch == 30 ? newest : older) += 1;
    // And it goes on from there.
    if (i % 10 != 0) continue;
    ASSERT_TRUE(store->begin().has_value());
    ASSERT_TRUE(store->put({9, 9, 9}, "row").has_value());
    ASSERT_TRUE(store->publish("after").has_value());
    EXPECT_EQ(store->newest(), epoch + 1);
  }
  std::cout << "150 damaged stores: " << newest << " gave the newest checkpoint, " << older << " an older one, "
            << refused << " were refused\n";
  EXPECT_GT(older, 10U);
  fs::remove_all(good);
}

TEST_F(CheckpointStoreTest, OldCheckpointsLeave) {
  CheckpointStore store = opened();
  ASSERT_TRUE(restore(store).has_value());
  for (int epoch = 0; epoch < 200; ++epoch) {
    write(store, epoch % 10 == 0);
    publish(store);
  }
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory_)) bytes += entry.file_size();
  EXPECT_LT(bytes, std::uint64_t{16} << 20);
  const auto found = restore(store);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->rows, published_[200]);
}

}  // namespace
}  // namespace alcedo::pipeline
