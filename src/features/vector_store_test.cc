// The store answers with the newest whole vector, whoever writes meanwhile, and stays within its bound.
#include "features/vector_store.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <thread>

#include "core/check.h"
#include "core/prng.h"

namespace alcedo::features {
namespace {

// A rolling feature of 36 columns by "card" and a baseline by "shop": two stages.
FeaturePlan two_stages() {
  FeatureOptions options;
  options.layout.numbers = {{"amount", false}};
  options.layout.keys = {"card", "shop"};
  FeatureSpec spend;
  spend.name = "spend";
  spend.number = 0;
  spend.key = 0;
  spend.stats = {
      Stat::kCount, Stat::kSum, Stat::kMean, Stat::kStd, Stat::kMin, Stat::kMax,
  };
  spend.windows_ms = {60'000, 120'000, 300'000, 600'000, 1'800'000, 3'600'000};
  FeatureSpec ticket;
  ticket.name = "ticket";
  ticket.kind = FeatureKind::kBaseline;
  ticket.number = 0;
  ticket.key = 1;
  options.features = {spend, ticket};
  auto plan = FeaturePlan::compile(std::move(options));
  CHECK(plan.has_value());
  return std::move(*plan);
}

// One event a batch: card `name` at `time_ms`, every column `value`.
class Writer {
 public:
  Writer(const FeaturePlan& plan, VectorStore& store) : plan_(plan), store_(store), batch_(plan.options().layout) {}
  void write(std::size_t stage, const std::string& name, std::int64_t time_ms, float value) {
    batch_.reset(1, 1);
    for (auto& key : batch_.keys(0)) key = name.empty() ? Key{} : make_key(name);
    batch_.header(0).time_ms = time_ms;
    features_.reset(1, plan_.columns().size());
    for (float& column : features_.row(0)) column = value;
    const std::uint32_t row = 0;
    store_.write(stage, batch_, {&row, 1}, features_);
  }

 private:
  const FeaturePlan& plan_;
  VectorStore& store_;
  EventBatch batch_;
  FeatureMatrix features_;
};

struct Found {
  bool found = false;
  std::int64_t time_ms = 0;
  std::vector<float> values;
};

Found read(const VectorStore& store, std::size_t stage, const std::string& name) {
  Found f;
  f.values.resize(store.columns(stage).size());
  f.found = store.read(stage, make_key(name), f.time_ms, f.values);
  return f;
}

TEST(VectorStoreTest, AStageHasTheColumnsOfItsKey) {
  const FeaturePlan plan = two_stages();
  const VectorStore store(plan);
  ASSERT_EQ(store.num_stages(), 2U);
  ASSERT_EQ(store.columns(0).size() + store.columns(1).size(), plan.columns().size());
  for (const auto c : store.columns(0)) EXPECT_TRUE(plan.columns()[c].name.starts_with("spend."));
  for (const auto c : store.columns(1)) EXPECT_TRUE(plan.columns()[c].name.starts_with("ticket."));
}

TEST(VectorStoreTest, StagesDoNotSeeEachOther) {
  const FeaturePlan plan = two_stages();
  VectorStore store(plan);
  Writer(plan, store).write(0, "a", 1000, 1);
  EXPECT_TRUE(read(store, 0, "a").found);
  EXPECT_FALSE(read(store, 1, "a").found);
  EXPECT_FALSE(read(store, 0, "b").found);
}

TEST(VectorStoreTest, LateVectorsDoNotReplaceNewerOnesAndEqualTimesDo) {
  const FeaturePlan plan = two_stages();
  VectorStore store(plan);
  Writer writer(plan, store);
  writer.write(0, "a", 1000, 1);
  writer.write(0, "a", 999, 2);
  EXPECT_EQ(read(store, 0, "a").values.front(), 1);
  EXPECT_EQ(store.counters().late, 1U);
  writer.write(0, "a", 1000, 3);
  EXPECT_EQ(read(store, 0, "a").values.front(), 3);
  writer.write(0, "a", 2000, 4);
  EXPECT_EQ(read(store, 0, "a").time_ms, 2000);
  EXPECT_EQ(store.counters().written, 3U);
}

TEST(VectorStoreTest, AMissingNumberStaysMissingAndAMissingKeyIsSkipped) {
  const FeaturePlan plan = two_stages();
  VectorStore store(plan);
  Writer writer(plan, store);
  writer.write(1, "a", 1000, std::nanf(""));
  for (const float value : read(store, 1, "a").values) EXPECT_TRUE(std::isnan(value));
  writer.write(1, "", 1000, 1);
  EXPECT_EQ(store.counters().entities, 1U);
}

// Against the naive store: a map of everything, and for eviction the order of the last write within the key group.
TEST(VectorStoreTest, HoldsWhatANaiveStoreWithTheSameBoundHolds) {
  const FeaturePlan plan = two_stages();
  VectorStore store(plan, {.entities_max = 4 * kKeyGroups});
  ASSERT_EQ(store.entities_max(), 4U * kKeyGroups);
  Writer writer(plan, store);
  struct Held {
    std::int64_t time_ms;
    float value;
    int written;
  };
  std::map<int, std::map<std::string, Held>> naive;  // by key group
  std::uint64_t evicted = 0;
  std::uint64_t late = 0;
  Prng random(7);
  for (int i = 0; i < 50'000; ++i) {
    const std::string name = "card" + std::to_string(random.next() % 1500);
    const auto time_ms = static_cast<std::int64_t>(i + random.next() % 1000);
    writer.write(0, name, time_ms, static_cast<float>(i));
    auto& group = naive[key_group(name)];
    const auto known = group.find(name);
    if (known != group.end() && time_ms < known->second.time_ms) {
      ++late;
      continue;
    }
    if (known == group.end() && group.size() == 4) {
      auto oldest = group.begin();
      for (auto at = group.begin(); at != group.end(); ++at) {
        if (at->second.written < oldest->second.written) oldest = at;
      }
      group.erase(oldest);
      ++evicted;
    }
    group[name] = {time_ms, static_cast<float>(i), i};
  }
  std::uint64_t entities = 0;
  for (int i = 0; i < 1500; ++i) {
    const std::string name = "card" + std::to_string(i);
    const auto& group = naive[key_group(name)];
    const auto known = group.find(name);
    const Found found = read(store, 0, name);
    ASSERT_EQ(found.found, known != group.end()) << name;
    if (!found.found) continue;
    ++entities;
    EXPECT_EQ(found.time_ms, known->second.time_ms) << name;
    for (const float value : found.values) EXPECT_EQ(value, known->second.value) << name;
  }
  EXPECT_GT(evicted, 1000U);
  EXPECT_GT(late, 100U);
  EXPECT_EQ(store.counters().evicted, evicted);
  EXPECT_EQ(store.counters().late, late);
  EXPECT_EQ(store.counters().entities, entities);
}

// Every vector is one number over and over, the same number as its time: whatever a reader gets must be, too. The bound
// is small, so entities also come and go under the readers.
TEST(VectorStoreTest, ReadersSeeWholeVectorsWhileTheyAreReplacedAndEvicted) {
  const FeaturePlan plan = two_stages();
  VectorStore store(plan, {.entities_max = kKeyGroups});
  constexpr int kNames = 300;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> mixed{0};
  std::atomic<std::uint64_t> found{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      for (std::uint64_t i = static_cast<std::uint64_t>(r); !stop.load(std::memory_order_relaxed); ++i) {
        const std::string name = std::to_string(i % kNames);
        const Found f = read(store, 0, name);
        if (!f.found) continue;
        found.fetch_add(1, std::memory_order_relaxed);
        bool whole = f.time_ms % kNames == static_cast<std::int64_t>(i % kNames);  // the vector is of this entity
        for (const float value : f.values) whole = whole && value == static_cast<float>(f.time_ms);
        if (!whole) mixed.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  Writer writer(plan, store);
  // At least 200 rounds, and as many more as it takes until readers had something to judge.
  for (std::int64_t round = 0; round < 200 || (found.load() < 1000 && round < 20'000); ++round) {
    for (int n = 0; n < kNames; ++n) {
      const std::int64_t time_ms = round * kNames + n;
      writer.write(0, std::to_string(n), time_ms, static_cast<float>(time_ms));
    }
  }
  stop.store(true);
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(mixed.load(), 0U);
  EXPECT_GT(found.load(), 0U);
  EXPECT_GT(store.counters().evicted, 0U);
}

// One entity, written back to back, so that nearly every read meets a write on another core.
TEST(VectorStoreTest, AReaderOfTheHottestEntitySeesWholeVectors) {
  const FeaturePlan plan = two_stages();
  VectorStore store(plan);
  constexpr std::uint32_t kRows = 64;
  EventBatch batch(plan.options().layout);
  batch.reset(kRows, 1);
  FeatureMatrix features;
  features.reset(kRows, plan.columns().size());
  std::vector<std::uint32_t> rows;
  for (std::uint32_t row = 0; row < kRows; ++row) {
    rows.push_back(row);
    for (auto& key : batch.keys(row)) key = make_key("hot");
    batch.header(row).time_ms = 1000;
    for (float& column : features.row(row)) column = static_cast<float>(row);
  }
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop.load(std::memory_order_relaxed)) store.write(0, batch, rows, features);
  });
  const Key key = make_key("hot");
  std::vector<float> values(store.columns(0).size());
  std::int64_t time_ms = 0;
  std::uint64_t mixed = 0;
  for (int found = 0; found < 100'000;) {
    if (!store.read(0, key, time_ms, values)) continue;
    ++found;
    for (const float value : values) {
      if (value == values.front()) continue;
      ++mixed;
      break;
    }
  }
  stop.store(true);
  writer.join();
  EXPECT_EQ(mixed, 0U);
}

}  // namespace
}  // namespace alcedo::features
