// The two structures that hold all entities: growth keeps content, and released records are used again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "core/prng.h"
#include "features/key_table.h"
#include "features/record_pool.h"
#include "features/window_ring.h"

namespace alcedo::features {
namespace {

TEST(RecordPoolTest, StartsSmallAndKeepsContentWhileItGrows) {
  for (const std::size_t record_bytes : {8U, 72U, 640U, 40'000U}) {
    RecordPool pool(record_bytes);
    EXPECT_EQ(pool.reserved_bytes(), 0U);
    std::vector<std::uint32_t> handles;
    const std::size_t records = 5 * RecordPool::kChunkBytes / record_bytes / 2;  // two chunks and a half
    for (std::uint64_t i = 0; i < records; ++i) {
      handles.push_back(pool.allocate());
      std::memcpy(pool.at(handles.back()), &i, sizeof i);
      std::memcpy(pool.at(handles.back()) + record_bytes - 8, &i, sizeof i);
      if (i == 0) {
        EXPECT_LE(pool.reserved_bytes(), std::max<std::size_t>(1024, record_bytes));
      }
    }
    for (std::uint64_t i = 0; i < records; ++i) {
      std::uint64_t first = 0, last = 0;
      std::memcpy(&first, pool.at(handles[i]), sizeof first);
      std::memcpy(&last, pool.at(handles[i]) + record_bytes - 8, sizeof last);
      ASSERT_EQ(first, i) << record_bytes;
      ASSERT_EQ(last, i) << record_bytes;
    }
    EXPECT_EQ(pool.used_bytes(), records * record_bytes);
    const std::size_t before = pool.reserved_bytes();
    for (const std::uint32_t handle : handles) pool.release(handle);
    for (std::size_t i = 0; i < records; ++i) pool.allocate();
    EXPECT_EQ(pool.reserved_bytes(), before) << "released records are used again";
  }
}

TEST(KeyTableTest, FindsEveryKeyAgain) {
  KeyTable table;
  Prng random(4);
  std::vector<std::uint64_t> keys;
  for (int i = 0; i < 100'000; ++i) keys.push_back(i % 2 == 0 ? random.next() | 1 : static_cast<std::uint64_t>(i));
  bool added = false;
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(table.find_or_add(keys[i], [&] { return i; }, added), i);
    ASSERT_TRUE(added);
  }
  EXPECT_EQ(table.size(), keys.size());
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ(table.find_or_add(keys[i], [] { return 0U; }, added), i);
    ASSERT_FALSE(added);
  }
  EXPECT_LT(table.reserved_bytes(), keys.size() * 64);
}

TEST(KeyTableTest, ErasedKeysAreGoneAndTheOthersStay) {
  KeyTable table;
  Prng random(5);
  std::map<std::uint64_t, std::uint32_t> expected;
  std::vector<std::uint64_t> keys;
  for (int i = 0; i < 20'000; ++i) keys.push_back(random.next() | 1);
  bool added = false;
  std::size_t erased = 0;
  for (std::uint32_t i = 0; i < 300'000; ++i) {
    const std::uint64_t key = keys[random.below(keys.size())];
    if (random.uniform() < 0.5) {
      const auto [at, is_new] = expected.try_emplace(key, i);
      ASSERT_EQ(table.find_or_add(key, [i] { return i; }, added), at->second);
      ASSERT_EQ(added, is_new);
    } else {
      const auto at = expected.find(key);
      ASSERT_EQ(table.find(key), at == expected.end() ? KeyTable::kNone : at->second);
      ASSERT_EQ(table.erase(key), at == expected.end() ? KeyTable::kNone : at->second);
      if (at == expected.end()) continue;
      expected.erase(at);
      ++erased;
    }
  }
  EXPECT_GT(erased, 50'000U);
  std::map<std::uint64_t, std::uint32_t> found;
  table.for_each([&](std::uint64_t hash, std::uint32_t handle) { found.emplace(hash, handle); });
  EXPECT_EQ(found, expected);
  EXPECT_EQ(table.size(), expected.size());
}

TEST(BucketLengthTest, FindsTheBucketThatADivisionFinds) {
  Prng random(3);
  std::size_t compared = 0;
  for (const std::int64_t grain_ms : {1, 2, 3, 7, 1000, 5000, 60'000, 3'600'000, 10'080'000}) {
    const BucketLength length(grain_ms);
    const auto expect_same = [&](std::int64_t time_ms) {
      ASSERT_EQ(length.bucket_of(time_ms), bucket_of(time_ms, grain_ms)) << time_ms << " ms in " << grain_ms;
      ++compared;
    };
    for (int shift = 0; shift < 62; ++shift) {
      for (int i = 0; i < 200; ++i) {
        const auto far = static_cast<std::int64_t>(random.below(std::uint64_t{1} << shift));
        for (const std::int64_t time_ms : {far, -far, far / grain_ms * grain_ms, -(far / grain_ms * grain_ms),
                                           far / grain_ms * grain_ms - 1, -(far / grain_ms * grain_ms) - 1})
          expect_same(time_ms);
      }
    }
  }
  EXPECT_GT(compared, 600'000U);
}

}  // namespace
}  // namespace alcedo::features
