// Damage, a full disk and readers beside the writer: whatever happens to a store of checkpoints, what it gives is
// whole.
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

namespace alcedo::pipeline {
namespace {

// Changes a bit, or cuts the file.
void damage(const fs::path& file, bool cut, Prng& random) {
  std::error_code gone;  // a running store may have removed it
  const auto size = static_cast<std::uint64_t>(fs::file_size(file, gone));
  if (gone) return;
  if (cut) {
    fs::resize_file(file, random.below(size));
    return;
  }
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  const auto at = static_cast<std::streamoff>(random.below(size));
  bytes.seekg(at);
  const int byte = bytes.get();
  bytes.seekp(at);
  bytes.put(static_cast<char>(byte ^ (1 << random.below(8))));
}

// Every file is damaged at sampled places; what comes back is exactly one of the checkpoints, or a refusal, but never
// an empty store.
TEST_F(CheckpointStoreTest, DamageIsSeenAndAnOlderCheckpointServes) {
  make_history();
  const fs::path good = directory_.string() + ".good";
  fs::remove_all(good);
  fs::rename(directory_, good);
  std::vector<fs::path> files;
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(good)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("LOG") || name == "LOCK") continue;
    all.push_back(entry.path().filename());
    // What says which tables there are is small, and matters as much as they do.
    for (int weight = name.starts_with("MANIFEST") ? 10 : 1; weight > 0; --weight) {
      if (name != "IDENTITY" && entry.file_size() > 0) files.push_back(entry.path().filename());
    }
  }
  constexpr int kDamages = 1000;
  constexpr int kWorkers = 6;  // opening mostly waits
  std::atomic<int> older = 0;
  std::atomic<int> newest = 0;
  std::atomic<int> refused = 0;
  const auto check = [&](int i, const fs::path& directory) {
    Prng random(static_cast<std::uint64_t>(i));
    // RocksDB never changes a file that is complete: only the damaged one needs a copy.
    fs::remove_all(directory);
    fs::create_directory(directory);
    const fs::path file = files[random.below(files.size())];
    for (const fs::path& name : all) {
      if (name != file) fs::create_hard_link(good / name, directory / name);
    }
    fs::copy_file(good / file, directory / file);
    damage(directory / file, i % 5 == 0, random);
    auto store = CheckpointStore::open(directory.string());
    if (!store) {
      EXPECT_THAT(store.error().message, HasSubstr("checkpoints in " + directory.string())) << i << " " << file;
      ++refused;
      return;
    }
    const auto found = restore(*store);
    if (!found) {
      EXPECT_EQ(found.error().code, ErrorCode::kCorrupt) << found.error().message;
      EXPECT_THAT(found.error().message, HasSubstr("checkpoints in " + directory.string())) << i << " " << file;
      ++refused;
      return;
    }
    ASSERT_TRUE(found->restored) << i << " " << file << ": all checkpoints are gone and nothing was said";
    const std::uint64_t epoch = found->restored->epoch;
    ASSERT_TRUE(published_.contains(epoch)) << i << " " << file << " epoch " << epoch;
    ASSERT_EQ(found->rows, published_.at(epoch).rows) << i << " " << file << " epoch " << epoch;
    ASSERT_EQ(found->restored->record, published_.at(epoch).record);
    ++(epoch == published_.rbegin()->first ? newest : older);
    // And it goes on from there.
    if (i % 10 != 0) return;
    for (const auto& [key, of] : found->epochs) ASSERT_EQ(store->get(key, of), found->rows.at(key));
    ASSERT_TRUE(store->begin().has_value());
    ASSERT_TRUE(store->put({9, 9, 9}, "row").has_value());
    ASSERT_TRUE(store->publish("after").has_value());
    EXPECT_EQ(store->newest(), epoch + 1);
    ASSERT_EQ(store->get({9, 9, 9}, epoch + 1), "row");
  };
  fs::create_directory(directory_);
  std::vector<std::thread> workers;
  for (int worker = 0; worker < kWorkers; ++worker) {
    workers.emplace_back([&, worker] {
      for (int i = worker; i < kDamages; i += kWorkers) check(i, directory_ / std::to_string(worker));
    });
  }
  for (std::thread& worker : workers) worker.join();
  std::cout << kDamages << " damaged stores: " << newest << " gave the newest checkpoint, " << older
            << " an older one, " << refused << " were refused\n";
  EXPECT_GT(older, 50);
  EXPECT_LT(refused, 200);
  fs::remove_all(good);
}

// Tables that are damaged while the store is open: a row is right or refused by name, and no base is made of it.
TEST_F(CheckpointStoreTest, DamageUnderARunningStoreIsSeenByGetAndCompact) {
  make_history();
  std::size_t right = 0;
  std::size_t wrong = 0;
  std::size_t compactions_refused = 0;
  std::size_t publications_refused = 0;
  for (int i = 0; i < 40; ++i) {
    const fs::path copy = directory_.string() + ".damaged";
    fs::remove_all(copy);
    fs::copy(directory_, copy);
    CheckpointStore store = opened(copy);
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    for (const auto& entry : fs::directory_iterator(copy)) {
      if (entry.path().extension() != ".sst") continue;
      for (int k = 0; k < 5; ++k) damage(entry.path(), false, random_);
    }
    std::size_t wrong_here = 0;
    for (const auto& [key, of] : found->epochs) {
      const auto row = store.get(key, of);
      if (row) {
        ASSERT_EQ(*row, found->rows.at(key));
        ++right;
      } else {
        ASSERT_EQ(row.error().code, ErrorCode::kCorrupt) << row.error().message;
        ASSERT_THAT(row.error().message, HasSubstr(copy.string() + ": epoch " + std::to_string(of)));
        ++wrong_here;
      }
    }
    wrong += wrong_here;
    // Makes a compaction due.
    const std::uint64_t before = store.newest() + 1;
    ASSERT_TRUE(store.begin().has_value());
    for (const auto& [key, row] : found->rows) ASSERT_TRUE(store.put(key, row).has_value());
    for (std::uint64_t entity = 1000; entity < 1200; ++entity) ASSERT_TRUE(store.put(key_of(entity), "x").has_value());
    const auto published = store.publish("record");
    if (!published) {
      // RocksDB's own compaction had met the damage before.
      EXPECT_EQ(published.error().code, ErrorCode::kCorrupt) << published.error().message;
      ++publications_refused;
      continue;
    }
    const auto compacted = store.compact();
    if (compacted) {
      EXPECT_TRUE(*compacted);
      EXPECT_EQ(wrong_here, 0U) << "a base was made of damaged rows";
    } else {
      EXPECT_EQ(compacted.error().code, ErrorCode::kCorrupt) << compacted.error().message;
      EXPECT_THAT(compacted.error().message, HasSubstr("checkpoints in " + copy.string()));
      EXPECT_EQ(store.newest(), before);
      ++compactions_refused;
    }
  }
  fs::remove_all(directory_.string() + ".damaged");
  std::cout << right << " rows were right, " << wrong << " refused, and " << compactions_refused
            << " of 40 compactions, " << publications_refused << " could not publish any more\n";
  EXPECT_GT(right, 100U);
  EXPECT_GT(wrong, 100U);
  EXPECT_GT(compactions_refused, 10U);
}

TEST_F(CheckpointStoreTest, ALostFileIsNoEmptyStore) {
  make_history();
  fs::remove(directory_ / "CURRENT");
  {
    CheckpointStore store = opened(directory_);
    const auto found = restore(store);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    ASSERT_TRUE(found->restored.has_value());
    EXPECT_EQ(found->rows, rows_);
    EXPECT_THAT(found->restored->refused, ::testing::ElementsAre(HasSubstr("CURRENT is missing")));
  }
  // Of all that holds rows nothing is left.
  for (const auto& entry : fs::directory_iterator(directory_)) {
    if (entry.path().extension() == ".sst") fs::remove(entry.path());
  }
  auto store = CheckpointStore::open(directory_.string());
  if (!store) return;
  EXPECT_EQ(restore(*store).error().code, ErrorCode::kCorrupt);
}

TEST_F(CheckpointStoreTest, TheDatabaseOfSomethingElseIsRefused) {
  {
    rocksdb::Options options;
    options.create_if_missing = true;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(options, directory_.string(), &db).ok());
    const std::unique_ptr<rocksdb::DB> owner(db);
    ASSERT_TRUE(db->Put({}, "user:17", "not a checkpoint").ok());
  }
  const auto store = CheckpointStore::open(directory_.string());
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(store.error().message, HasSubstr("holds the database of something else"));
}

TEST_F(CheckpointStoreTest, OldCheckpointsLeave) {
  CheckpointStore store = opened(directory_);
  ASSERT_TRUE(restore(store).has_value());
  for (int i = 0; i < 200; ++i) {
    write(store, i % 50 == 0);
    publish(store);
    compact(store);
  }
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory_)) bytes += entry.file_size();
  EXPECT_LT(bytes, std::uint64_t{16} << 20);
  const auto found = restore(store);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->rows, rows_);
}

// Readers know of each row where it was put last; the row must be there however many bases come and chains go
// meanwhile.
TEST_F(CheckpointStoreTest, RowsAreReadWhileAnotherThreadWritesAndCompacts) {
  constexpr std::uint64_t kEntities = 100;
  constexpr int kReaders = 3;
  CheckpointStore store = opened(directory_);
  ASSERT_TRUE(restore(store).has_value());
  std::array<std::atomic<std::uint64_t>, kEntities> put_in{};
  const auto row_of = [](std::uint64_t epoch, std::uint64_t entity) {
    return std::to_string(epoch) + " " + std::to_string(entity) + std::string(entity * 10, '.');
  };
  const auto write_checkpoint = [&](std::uint64_t rows) {
    const std::uint64_t epoch = store.newest() + 1;
    ASSERT_TRUE(store.begin().has_value());
    std::map<std::uint64_t, bool> changed;
    while (changed.size() < rows) changed[rows == kEntities ? changed.size() : random_.below(kEntities)] = true;
    for (const auto& [entity, put] : changed) ASSERT_TRUE(store.put(key_of(entity), row_of(epoch, entity)).has_value());
    ASSERT_TRUE(store.publish("record").has_value());
    for (const auto& [entity, put] : changed) put_in[entity].store(epoch, std::memory_order_release);
  };
  write_checkpoint(kEntities);
  std::atomic<bool> done = false;
  std::atomic<std::uint64_t> reads = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] {
      Prng random(static_cast<std::uint64_t>(i));
      while (!done.load()) {
        const std::uint64_t entity = random.below(kEntities);
        const std::uint64_t epoch = put_in[entity].load(std::memory_order_acquire);
        const auto row = store.get(key_of(entity), epoch);
        const bool put_again = put_in[entity].load(std::memory_order_acquire) != epoch;
        if (!row || !*row) {
          ADD_FAILURE() << "epoch " << epoch << ": " << (row ? "no row" : row.error().message);
          return;
        }
        const std::uint64_t of = std::stoull(**row);
        if (**row != row_of(of, entity) || of < epoch || (of > epoch && of > store.newest())) {
          ADD_FAILURE() << "epoch " << epoch << ": " << **row;
          return;
        }
        // The writer publishes before it says so: one that is newer is announced soon or was before.
        if (of != epoch && !put_again) {
          while (put_in[entity].load(std::memory_order_acquire) == epoch) std::this_thread::yield();
        }
        ++reads;
      }
    });
  }
  int compacted = 0;
  for (int round = 0; round < 120; ++round) {
    write_checkpoint(60);
    const auto base = store.compact();
    EXPECT_TRUE(base.has_value());
    compacted += base && *base ? 1 : 0;
  }
  while (reads.load() < 1000 && !HasFailure()) std::this_thread::yield();
  done = true;
  for (std::thread& reader : readers) reader.join();
  std::cout << reads << " rows read beside " << compacted << " compactions\n";
  EXPECT_GT(compacted, 50);
}

// A file system of 192 MB that another process has mounted, without being root, and that is gone with it.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& at) {
    fs::create_directories(at);
    const std::string uid_map = "0 " + std::to_string(geteuid()) + " 1";
    const std::string gid_map = "0 " + std::to_string(getegid()) + " 1";
    std::array<int, 2> ready{};
    if (pipe(ready.data()) != 0) return;
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const auto write_file = [](const char* file, std::string_view text) {
        const int to = ::open(file, O_WRONLY);
        const bool written = to >= 0 && ::write(to, text.data(), text.size()) == static_cast<ssize_t>(text.size());
        return close(to) == 0 && written;
      };
      if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_file("/proc/self/setgroups", "deny") &&
          write_file("/proc/self/uid_map", uid_map) && write_file("/proc/self/gid_map", gid_map) &&
          mount("tmpfs", at.c_str(), "tmpfs", 0, "size=192m") == 0 && ::write(ready[1], "1", 1) == 1) {
        for (;;) pause();
      }
      _exit(1);
    }
    close(ready[1]);
    char byte = 0;
    if (child_ > 0 && read(ready[0], &byte, 1) == 1)
      path_ = fs::path("/proc/" + std::to_string(child_) + "/root" + at.string());
    close(ready[0]);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  // Empty: the system does not allow it.
  const fs::path& path() const { return path_; }

 private:
  pid_t child_ = -1;
  fs::path path_;
};

TEST_F(CheckpointStoreTest, AFullDiskIsUnavailableAndTheStoreGoesOnOnceThereIsSpace) {
  const SmallDisk disk(directory_);
  if (disk.path().empty()) GTEST_SKIP() << "a small file system needs user namespaces";
  const fs::path directory = disk.path() / "store";
  const fs::path ballast = disk.path() / "ballast";
  const auto fill = [&] {
    std::ofstream file(ballast, std::ios::binary);
    for (const std::string megabyte(1 << 20, 'b'); file.good();) file << megabyte << std::flush;
  };
  auto store = std::make_unique<CheckpointStore>(opened(directory));
  ASSERT_TRUE(restore(*store).has_value());
  // More than what RocksDB holds back in memory, so that it finds the disk full before publish().
  const auto write_checkpoint = [&](std::uint64_t entities, std::size_t row_bytes, Rows& rows) -> Result<> {
    if (auto begun = store->begin(); !begun) return std::unexpected(begun.error());
    for (std::uint64_t entity = 0; entity < entities; ++entity) {
      rows[key_of(entity)] = random_row(random_, 100) + std::string(row_bytes, 'r');
      if (auto put = store->put(key_of(entity), rows[key_of(entity)]); !put) return put;
    }
    return store->publish("record");
  };
  Rows rows;
  ASSERT_TRUE(write_checkpoint(100, 10'000, rows).has_value());
  for (int round = 0; round < 2; ++round) {
    const std::uint64_t before = store->newest();
    fill();
    Rows lost = rows;
    const auto full = write_checkpoint(100, 600'000, lost);
    ASSERT_FALSE(full.has_value());
    EXPECT_EQ(full.error().code, ErrorCode::kUnavailable) << full.error().message;
    const auto still = write_checkpoint(100, 600'000, lost);
    ASSERT_FALSE(still.has_value());
    EXPECT_EQ(still.error().code, ErrorCode::kUnavailable) << still.error().message;
    EXPECT_EQ(store->newest(), before);
    for (const auto& [key, row] : rows) ASSERT_EQ(store->get(key, before), row) << "reads go on";
    fs::remove(ballast);
    const auto resumed = write_checkpoint(100, 10'000, rows);
    ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
    EXPECT_EQ(store->newest(), before + 1);

    // A compaction that finds the disk full.
    fill();
    auto compacted = store->compact();
    if (!compacted) {
      EXPECT_EQ(compacted.error().code, ErrorCode::kUnavailable) << compacted.error().message;
      fs::remove(ballast);
      compacted = store->compact();
    }
    fs::remove(ballast);
    ASSERT_TRUE(compacted.has_value()) << compacted.error().message;
    EXPECT_TRUE(*compacted);
  }
  store.reset();
  store = std::make_unique<CheckpointStore>(opened(directory));
  const auto found = restore(*store);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->rows, rows);
}

}  // namespace
}  // namespace alcedo::pipeline
