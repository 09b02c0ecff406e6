// A cache may be large, tiny, old or empty: no score may tell.
#include "models/transformer_cache.h"

#include <gtest/gtest.h>

#include <bit>
#include <deque>
#include <map>

#include "models/test_sequences.h"

namespace alcedo::models {
namespace {

using testing::OwnedHistory;
using testing::plan_with_bins;
using testing::random_tokens;

constexpr std::size_t kFields = 3;
constexpr std::size_t kEvents = 600;

Transformer make_model(Transformer::Storage storage = Transformer::Storage::kBfloat16) {
  return *Transformer::create(TransformerWeights::random(plan_with_bins({9, 16, 7}), 1, true), {.storage = storage});
}

// A stream of events over entities, some much more frequent than others, some twice in a row.
struct Stream {
  std::vector<std::uint64_t> keys;
  std::vector<std::uint8_t> tokens;
};
Stream make_stream(const Transformer& model, std::size_t events, std::uint64_t entities, std::uint64_t seed) {
  Prng prng(seed);
  Stream stream{{}, random_tokens(model.plan(), events, seed)};
  for (std::size_t i = 0; i < events; ++i) {
    const double u = prng.uniform();
    stream.keys.push_back(i > 0 && u < 0.2 ? stream.keys.back()
                                           : static_cast<std::uint64_t>(u * u * static_cast<double>(entities)));
  }
  return stream;
}

using Histories = std::map<std::uint64_t, OwnedHistory>;

std::vector<SequenceScore> run(TransformerCache& cache, Histories& histories, const Stream& stream, std::size_t from,
                               std::size_t to, std::size_t batch) {
  std::vector<SequenceScore> scores;
  std::vector<TransformerCache::Visit> visits;
  for (std::size_t i = from; i < to; ++i) {
    auto& history = histories.try_emplace(stream.keys[i], kFields).first->second;
    visits.push_back({stream.keys[i], history.view(), std::span(stream.tokens).subspan(i * kFields, kFields),
                      static_cast<std::int64_t>(i)});
    if (visits.size() < batch && i + 1 < to) continue;
    cache.step(visits);
    for (const auto& visit : visits) scores.push_back(visit.score);
    visits.clear();
  }
  return scores;
}

void expect_same(const std::vector<SequenceScore>& a, const std::vector<SequenceScore>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(a[i].surprise), std::bit_cast<std::uint32_t>(b[i].surprise))
        << what << " event " << i;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(a[i].label_logit), std::bit_cast<std::uint32_t>(b[i].label_logit))
        << what << " event " << i;
    ASSERT_EQ(a[i].field, b[i].field) << what << " event " << i;
  }
}

TransformerCache cache_for(const Transformer& model, std::size_t rings) {
  auto cache = TransformerCache::create(model, rings * (model.ring_bytes() + 100));
  CHECK(cache.has_value());
  return std::move(*cache);
}

TEST(TransformerCacheTest, NoScoreTellsHowMuchItHoldsOrHowEventsAreBatched) {
  for (const auto storage : {Transformer::Storage::kFloat, Transformer::Storage::kBfloat16}) {
    const Transformer model = make_model(storage);
    const Stream stream = make_stream(model, kEvents, 60, 2);
    auto large = cache_for(model, 200);
    Histories histories;
    const auto expected = run(large, histories, stream, 0, kEvents, 1);
    EXPECT_EQ(large.counters().rebuilds, 0U);
    EXPECT_EQ(large.counters().evictions, 0U);
    EXPECT_EQ(large.size(), histories.size());
    for (const std::size_t rings : {1, 7, 30, 200}) {
      for (const std::size_t batch : {1, 3, 50}) {
        auto cache = cache_for(model, rings);
        ASSERT_EQ(cache.capacity(), rings);
        Histories own;
        expect_same(run(cache, own, stream, 0, kEvents, batch), expected,
                    std::to_string(rings) + " rings, batch " + std::to_string(batch));
        const auto& counters = cache.counters();
        EXPECT_EQ(counters.hits + counters.starts + counters.rebuilds, kEvents);
        EXPECT_EQ(counters.starts, histories.size());
        EXPECT_EQ(counters.rebuilds > 0, rings < histories.size());
        EXPECT_EQ(cache.size(), std::min(rings, histories.size()));
        for (auto& [key, history] : histories) EXPECT_EQ(own.at(key).bytes(), history.bytes());
      }
    }
  }
}

TEST(TransformerCacheTest, AfterARestartAndAfterAReturnToAnOlderStateScoresAreTheSame) {
  const Transformer model = make_model();
  const Stream stream = make_stream(model, 1'000, 40, 3);
  auto cache = cache_for(model, 20);
  Histories histories;
  run(cache, histories, stream, 0, 500, 16);
  const Histories then = histories;
  const auto expected = run(cache, histories, stream, 500, 1'000, 16);
  // A new process: nothing is cached.
  auto fresh = cache_for(model, 20);
  Histories restored = then;
  expect_same(run(fresh, restored, stream, 500, 1'000, 16), expected, "restart");
  // The same cache with entities set back: what it holds is of another time.
  Histories again = then;
  expect_same(run(cache, again, stream, 500, 1'000, 16), expected, "set back");
}

TEST(TransformerCacheTest, AnEntityThatIsForgottenBeginsAnew) {
  const Transformer model = make_model();
  const Stream stream = make_stream(model, 200, 1, 4);
  auto cache = cache_for(model, 4);
  Histories histories, others;
  const auto first = run(cache, histories, stream, 0, 100, 8);
  EXPECT_EQ(cache.size(), 1U);
  // With and without a word to the cache: the history alone decides.
  Histories anew;
  expect_same(run(cache, anew, stream, 0, 100, 8), first, "not told");
  cache.forget(0);
  cache.forget(0);
  cache.forget(77);
  EXPECT_EQ(cache.size(), 0U);
  Histories anew_again;
  expect_same(run(cache, anew_again, stream, 0, 100, 8), first, "told");
  EXPECT_EQ(cache.size(), 1U);
}

TEST(TransformerCacheTest, WhatIsUsedOftenStays) {
  const Transformer model = make_model();
  auto cache = cache_for(model, 8);
  Histories histories;
  // One entity at every second event, a procession of others in between.
  Stream stream{{}, random_tokens(model.plan(), 2'000, 5)};
  for (std::uint64_t i = 0; i < 2'000; ++i) stream.keys.push_back(i % 2 == 0 ? 5 : 1'000 + i);
  run(cache, histories, stream, 0, 2'000, 1);
  // Once, when all have been used since the hand began, it goes like the others.
  EXPECT_EQ(cache.counters().rebuilds, 1U);
  EXPECT_EQ(cache.counters().hits, 998U);
  EXPECT_EQ(cache.counters().evictions, 1'002U - 8U);
}

// Model-based: the table against a map, with many keys that want the same place.
TEST(TransformerCacheTest, ManyComeAndGo) {
  const Transformer model = make_model();
  auto cache = cache_for(model, 50);
  Histories histories;
  Prng prng(6);
  const auto tokens = random_tokens(model.plan(), 1, 6);
  std::uint64_t events = 0;
  for (int i = 0; i < 2'000; ++i) {
    const std::uint64_t key = prng.below(120);
    if (prng.below(5) == 0) {
      cache.forget(key);
      histories.erase(key);
    } else {
      const Stream one{{key}, tokens};
      run(cache, histories, one, 0, 1, 1);
      ++events;
    }
    ASSERT_LE(cache.size(), 50U);
  }
  const auto& counters = cache.counters();
  EXPECT_EQ(counters.hits + counters.starts + counters.rebuilds, events);
  EXPECT_GT(counters.hits, 0U);
  EXPECT_GT(counters.rebuilds, 0U);
}

TEST(TransformerCacheTest, ALimitThatHoldsNobodyIsRefused) {
  const Transformer model = make_model();
  const auto cache = TransformerCache::create(model, model.ring_bytes());
  ASSERT_FALSE(cache.has_value());
  EXPECT_EQ(cache.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace alcedo::models
