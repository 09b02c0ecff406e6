// For tests only: a store of checkpoints beside a map of what each one held.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/prng.h"
#include "pipeline/checkpoint_store.h"

namespace alcedo::pipeline {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

using Rows = std::map<RowKey, std::string>;
using Epochs = std::map<RowKey, std::uint64_t>;

struct Found {
  Rows rows;
  Epochs epochs;  // of the rows
  std::optional<CheckpointStore::Restored> restored;
};
inline Result<Found> restore(CheckpointStore& store) {
  Found found;
  auto restored = store.restore([&](const RowKey& key, std::string_view row, std::uint64_t epoch) -> Result<> {
    EXPECT_TRUE(found.rows.empty() || found.rows.rbegin()->first < key) << "rows come in ascending order";
    found.rows.emplace(key, row);
    found.epochs.emplace(key, epoch);
    return {};
  });
  if (!restored) return std::unexpected(restored.error());
  found.restored = *std::move(restored);
  return found;
}

inline CheckpointStore opened(const fs::path& directory) {
  auto store = CheckpointStore::open(directory.string());
  EXPECT_TRUE(store.has_value()) << (store ? "" : store.error().message);
  return *std::move(store);
}

inline std::string random_row(Prng& random, std::uint64_t bytes_max) {
  return std::string(random.below(bytes_max), static_cast<char>(random.below(256)));
}
inline RowKey key_of(std::uint64_t entity) {
  return {static_cast<std::uint32_t>(entity % 3), static_cast<std::uint8_t>(entity % 128), entity * 0x123456789ABCDEFU};
}

class CheckpointStoreTest : public ::testing::Test {
 protected:
  // In memory where there is such a place: nothing here needs to survive more than its process, and the disk's syncs
  // are all that it would wait for. Of its own for each program, also when a test starts the program again.
  CheckpointStoreTest() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = fmt::format("checkpoints_{:x}_{}", hash64(fs::read_symlink("/proc/self/exe").string()),
                                   std::string_view(test->name()));
    std::replace(name.begin(), name.end(), '/', '_');
    directory_ = fs::path(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ::testing::TempDir()) / name;
    fs::remove_all(directory_);
  }
  ~CheckpointStoreTest() override { fs::remove_all(directory_); }

  // Changes some rows and writes a checkpoint of them; does not publish it.
  void write(CheckpointStore& store, bool full = false) {
    std::map<RowKey, bool> changed;
    for (int i = 0; i < 40; ++i) {
      const RowKey key = key_of(random_.below(200));
      changed[key] = random_.uniform() < 0.85;
      if (changed[key]) {
        rows_[key] = random_row(random_, 400);
      } else {
        rows_.erase(key);
      }
    }
    const auto all = store.begin(full);
    ASSERT_TRUE(all.has_value()) << all.error().message;
    ASSERT_EQ(*all, full || store.newest() == 0) << "all others hold changes only";
    if (*all) {
      for (const auto& [key, row] : rows_) ASSERT_TRUE(store.put(key, row).has_value());
      return;
    }
    for (const auto& [key, live] : changed)
      ASSERT_TRUE((live ? store.put(key, rows_[key]) : store.forget(key)).has_value());
  }
  void publish(CheckpointStore& store) {
    record_ = "positions " + std::to_string(store.newest() + 1);
    ASSERT_TRUE(store.publish(record_).has_value());
    published_[store.newest()] = {rows_, record_};
  }
  // Returns whether there is a new base.
  bool compact(CheckpointStore& store) {
    const auto compacted = store.compact();
    EXPECT_TRUE(compacted.has_value()) << (compacted ? "" : compacted.error().message);
    if (!compacted || !*compacted) return false;
    published_[store.newest()] = {rows_, record_};
    return true;
  }
  // A store that was opened, compacted and continued many times. Opening moves the log into tables: damage can then
  // reach single epochs.
  void make_history() {
    int bases = 0;
    for (int i = 0; i < 30; ++i) {
      CheckpointStore store = opened(directory_);
      ASSERT_TRUE(restore(store).has_value());
      write(store);
      publish(store);
      bases += compact(store) ? 1 : 0;
    }
    ASSERT_GT(bases, 2);
    ASSERT_LT(bases, 15) << "most checkpoints hold only what changed";
  }

  struct Published {
    Rows rows;
    std::string record;
  };
  fs::path directory_;
  Prng random_{11};
  Rows rows_;  // now
  std::string record_;
  std::map<std::uint64_t, Published> published_;  // by epoch
};

}  // namespace alcedo::pipeline
