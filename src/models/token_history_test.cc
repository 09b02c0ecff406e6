// A history is all that a sequence model's scores rest on: its ring, its hash, and its bytes on disk.
#include "models/token_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include "core/prng.h"
#include "models/test_sequences.h"

namespace alcedo::models {
namespace {

using testing::OwnedHistory;
using testing::plan_with_bins;
using testing::random_tokens;

TEST(TokenHistoryTest, KeepsTheLast63InOrder) {
  const auto plan = plan_with_bins({8, 5, 9});
  const auto tokens = random_tokens(plan, 200, 1);
  OwnedHistory owned(3);
  TokenHistory history = owned.view();
  std::set<std::uint64_t> chains{history.chain()};
  for (std::size_t n = 0; n < 200; ++n) {
    ASSERT_EQ(history.count(), n);
    ASSERT_EQ(history.kept(), std::min<std::size_t>(n, 63));
    for (std::size_t i = 0; i < history.kept(); ++i) {
      const auto expected = std::span(tokens).subspan((n - history.kept() + i) * 3, 3);
      ASSERT_TRUE(std::ranges::equal(history.token(i), expected)) << n << " " << i;
    }
    history.push(std::span(tokens).subspan(n * 3, 3), 10);
    ASSERT_TRUE(chains.insert(history.chain()).second);
  }
}

TEST(TokenHistoryTest, AGapIsTheTimeSinceTheNewestEvent) {
  OwnedHistory owned(2);
  TokenHistory history = owned.view();
  const std::vector<std::uint8_t> token{0, 0};
  EXPECT_EQ(history.gap_ms(5), TokenPlan::kNoGap);
  history.push(token, -100);
  EXPECT_EQ(history.gap_ms(50), 150);
  history.push(token, 50);
  history.push(token, 20);  // late
  EXPECT_EQ(history.gap_ms(60), 10);
  EXPECT_EQ(history.gap_ms(40), 0);
  OwnedHistory far(2);
  far.view().push(token, INT64_MIN + 1);
  EXPECT_EQ(far.view().gap_ms(INT64_MAX), INT64_MAX);
}

TEST(TokenHistoryTest, SavedAndLoadedItIsTheSame) {
  const auto plan = plan_with_bins({8, 5, 9});
  const auto tokens = random_tokens(plan, 200, 2);
  OwnedHistory owned(3);
  for (std::size_t n = 0; n < 200; ++n) {
    std::string bytes;
    StateWriter out(bytes);
    owned.view().save(out);
    OwnedHistory other(3);
    other.view().push(std::vector<std::uint8_t>{1, 1, 1}, 1);  // what was there goes
    StateReader in(bytes);
    other.view().load(in, plan);
    ASSERT_TRUE(in.complete()) << in.mistake();
    std::string again;
    StateWriter out_again(again);
    other.view().save(out_again);
    ASSERT_EQ(again, bytes);
    const auto token = std::span(tokens).subspan(n * 3, 3);
    owned.view().push(token, static_cast<std::int64_t>(n));
    other.view().push(token, static_cast<std::int64_t>(n));
    ASSERT_EQ(other.view().chain(), owned.view().chain());
    if (n < 63) {
      ASSERT_EQ(other.bytes(), owned.bytes());
    }
  }
}

TEST(TokenHistoryTest, DamagedBytesAreRefusedAndLeaveItEmpty) {
  const auto plan = plan_with_bins({8, 5, 9});
  const auto tokens = random_tokens(plan, 40, 3);
  OwnedHistory owned(3);
  for (std::size_t n = 0; n < 40; ++n) owned.view().push(std::span(tokens).subspan(n * 3, 3), 7);
  std::string bytes;
  StateWriter out(bytes);
  owned.view().save(out);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const std::string& damaged : {bytes.substr(0, i), [&] {
                                         std::string changed = bytes;
                                         changed[i] = static_cast<char>(changed[i] ^ 0x41);
                                         return changed;
                                       }()}) {
      OwnedHistory other(3);
      StateReader in(damaged);
      other.view().load(in, plan);
      if (in.ok()) {
        // Only the time of the last event may be any.
        ASSERT_TRUE(i >= 9 && i < 17) << i;
      } else {
        ASSERT_EQ(other.view().count(), 0U);
        ++refused;
      }
    }
  }
  EXPECT_GE(refused, 2 * bytes.size() - 8);
}

}  // namespace
}  // namespace alcedo::models
