// Masking by example, grouping against a naive recompute, and bounds that hostile input cannot pass.
#include "contract/template_miner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "contract/template_miner_invariants.h"
#include "core/prng.h"
#include "core/state_damage.h"

namespace alcedo::contract {
namespace {

std::string masked(std::string_view message) {
  std::string text;
  mask_message(message, text);
  return text;
}

TEST(MaskMessageTest, MasksWhatIsAParameterAndNothingElse) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"Receiving block blk_-1608999687919862906 src: /10.250.19.102:54106 dest: /10.250.19.102:50010",
       "Receiving block <*> src: <*> dest: <*>"},
      {"BLOCK* NameSystem.allocateBlock: /mnt/hadoop/job_2008_0001/job.jar. blk_-1",
       "BLOCK* NameSystem.allocateBlock: <*>. <*>"},
      {"PacketResponder 1 for block blk_38 terminating", "PacketResponder <*> for block <*> terminating"},
      {"size=12, (a) [0x7f] took 3.5ms.", "size=<*>, (a) [<*>] took <*>."},
      {"user:bob from [2001:db8::1]:22 at 12:33:44", "user:bob from [<*>]<*> at <*>"},
      {"Failed password for root from 10.0.0.1 port 22 ssh2", "Failed password for root from <*> port <*> <*>"},
      {"id 123e4567-e89b-12d3-a456-426614174000 hash deadbeef decade", "id <*> hash <*> decade"},
      {"read/write C:\\temp\\x https://a.b/c?d mail bob@example.org", "read/write <*> <*> mail <*>"},
      {"ids 1,2,3;4 and x=1|2", "ids <*> and x=<*>"},
      {"done!", "done!"},
      {"  two\tblanks \x01 ", "two blanks"},
      {"", ""},
      {"Grüße an 7 Gäste", "Grüße an <*> Gäste"},
  };
  for (const auto& [message, expected] : cases) EXPECT_EQ(masked(message), expected) << message;
}

TEST(MaskMessageTest, IsBoundedWhateverComes) {
  EXPECT_EQ(masked(std::string(1 << 20, 'x')), "<*>");
  EXPECT_EQ(masked("a " + std::string(100, 'x') + " b"), "a <*> b");
  std::string words;
  for (int i = 0; i < 200'000; ++i) words += "word ";
  const std::string many = masked(words);
  EXPECT_EQ(std::ranges::count(many, ' '), kTokensMax - 1);
  EXPECT_TRUE(many.ends_with(" <*>"));
  std::string wide;
  for (int i = 0; i < 100; ++i) wide += std::string(60, 'w') + " ";
  EXPECT_LE(masked(wide).size(), kMaskedBytesMax);
  EXPECT_LE(masked(std::string(100'000, ',')).size(), kMaskedBytesMax);
}

TEST(TemplateMinerTest, AnIdStaysWhileItsTextGeneralises) {
  TemplateMiner miner;
  EXPECT_EQ(miner.mine("session opened for user root by admin"), 1U);
  EXPECT_EQ(miner.mine("cannot open file"), 2U);
  EXPECT_EQ(miner.mine("session opened for user alice by admin"), 1U);
  EXPECT_EQ(miner.text(1), "session opened for user <*> by admin");
  EXPECT_EQ(miner.name(1), "T1: session opened for user root by admin");
  EXPECT_EQ(miner.mine("session opened for user bob by admin"), 1U);
  EXPECT_EQ(miner.mine("session opened for user"), 3U);  // another number of words
  EXPECT_EQ(miner.size(), 3U);
}

TEST(TemplateMinerTest, AMessageOfMasksFindsItsOwnTemplateAgain) {
  TemplateMiner miner;
  EXPECT_EQ(miner.mine("<*> <*> <*> <*> ok"), 1U);
  EXPECT_EQ(miner.mine("<*> <*> <*> <*> ok"), 1U);
  EXPECT_EQ(miner.mine("<*> <*> <*> <*> lost"), 2U);  // masks do not make them alike
  EXPECT_EQ(miner.mine("<*> <*>"), 3U);
  EXPECT_EQ(miner.mine("<*> <*>"), 3U);
  EXPECT_EQ(miner.mine(""), 4U);
  EXPECT_EQ(miner.mine(""), 4U);
  EXPECT_EQ(miner.name(4), "T4: (an empty message)");
}

TEST(TemplateMinerTest, OfSeveralTheMostSimilarWins) {
  TemplateMiner miner;
  ASSERT_EQ(miner.mine("a b one two three four"), 1U);
  ASSERT_EQ(miner.mine("a b five six seven eight"), 2U);
  EXPECT_EQ(miner.mine("a b five two seven eight"), 2U);  // half of the first's words would have been enough
  EXPECT_EQ(miner.text(2), "a b five <*> seven eight");
  EXPECT_EQ(miner.text(1), "a b one two three four");
}

// The paper's search without tree and hashes: all templates of the same prefix, compared word by word.
class NaiveMiner {
 public:
  std::uint32_t mine(const std::string& message) {
    std::vector<std::string> words;
    for (std::size_t at = 0; at < message.size();) {
      const std::size_t end = std::min(message.find(' ', at), message.size());
      words.push_back(message.substr(at, end - at));
      at = end + 1;
    }
    std::size_t best = 0;
    double best_share = -1;
    std::size_t best_wild = 0;
    for (std::size_t t = 0; t < templates_.size(); ++t) {
      const auto& [prefix, known] = templates_[t];
      if (known.size() != words.size() || prefix != prefix_of(words)) continue;
      double equal = 0, told = 0;
      for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == "<*>" && known[i] == "<*>") continue;
        ++told;
        equal += words[i] == known[i] ? 1 : 0;
      }
      const double share = told == 0 ? 1 : equal / told;
      const auto wild = static_cast<std::size_t>(std::ranges::count(known, "<*>"));
      if (share < 0.5) continue;
      if (share > best_share + 1e-12 || (share > best_share - 1e-12 && wild > best_wild)) {
        best = t + 1;
        best_share = share;
        best_wild = wild;
      }
    }
    if (best == 0) {
      templates_.emplace_back(prefix_of(words), words);
      return static_cast<std::uint32_t>(templates_.size());
    }
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (templates_[best - 1].second[i] != words[i]) templates_[best - 1].second[i] = "<*>";
    }
    return static_cast<std::uint32_t>(best);
  }
  std::string text(std::uint32_t id) const {
    std::string text;
    for (const auto& word : templates_[id - 1].second) text += (text.empty() ? "" : " ") + word;
    return text;
  }

 private:
  static std::vector<std::string> prefix_of(const std::vector<std::string>& words) {
    return {words.begin(), words.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(2, words.size()))};
  }
  std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> templates_;
};

TEST(TemplateMinerTest, AgreesWithANaiveRecompute) {
  // Words are few enough that similar messages are common; no word comes only where a mask already has its branch.
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Prng random(seed);
    TemplateMiner miner;
    NaiveMiner naive;
    std::set<std::uint32_t> ids;
    for (int i = 0; i < 3000; ++i) {
      std::string message;
      const std::size_t words = 3 + random.below(5);
      for (std::size_t w = 0; w < words; ++w) {
        if (w > 0) message += ' ';
        if (w >= 2 && random.below(4) == 0) {
          message += "<*>";
        } else {
          message += static_cast<char>('a' + random.below(w < 2 ? 3 : 5));
        }
      }
      const auto id = miner.mine(message);
      ASSERT_EQ(id, naive.mine(message)) << "seed " << seed << ", message " << i << ": " << message;
      ASSERT_EQ(miner.text(id), naive.text(id)) << "seed " << seed << ", message " << i;
      ids.insert(id);
    }
    EXPECT_GT(ids.size(), 20U);
    EXPECT_EQ(ids.size(), miner.size());
  }
}

TEST(TemplateMinerTest, MillionsOfDistinctMessagesTakeABoundedMemory) {
  TemplateMiner miner;
  Prng random(7);
  std::uint64_t other = 0;
  std::string message;
  for (int i = 0; i < 300'000; ++i) {
    message.clear();
    const std::size_t words = 1 + random.below(kTokensMax - 1);
    for (std::size_t w = 0; w < words; ++w) {
      if (w > 0) message += ' ';
      for (int k = 0; k < 8; ++k) message += static_cast<char>('a' + random.below(26));
    }
    other += miner.mine(message) == TemplateMiner::kOther ? 1 : 0;
  }
  EXPECT_EQ(miner.size(), 4096U);
  EXPECT_GT(other, 200'000U);
  EXPECT_LT(miner.state_bytes(), 12U << 20U);
  EXPECT_EQ(miner.name(TemplateMiner::kOther), "T0: other messages");
  // What was known before the flood still is.
  EXPECT_EQ(miner.mine(miner.text(1)), 1U);
}

TEST(TemplateMinerTest, TheFuzzersCorpusBreaksNothing) {
  std::size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/template_miner")) {
    std::ifstream file(entry.path(), std::ios::binary);
    check_template_miner(std::string(std::istreambuf_iterator<char>(file), {}));
    ++files;
  }
  EXPECT_GE(files, 3U);
}

TEST(TemplateMinerTest, NamesAreCutBetweenWordsAndTellTheirId) {
  TemplateMiner miner;
  std::string message;
  for (int i = 0; i < 40; ++i) message += i == 0 ? "größer" : " größer";
  const auto id = miner.mine(message);
  EXPECT_LE(miner.name(id).size(), TemplateMiner::kNameBytesMax);
  EXPECT_THAT(std::string(miner.name(id)), testing::StartsWith("T1: größer größer"));
  EXPECT_THAT(std::string(miner.name(id)), testing::EndsWith("größer …"));
}

// --- State.

std::string saved(const TemplateMiner& miner) {
  std::string bytes;
  StateWriter writer(bytes);
  miner.save(writer);
  return bytes;
}

bool loaded(TemplateMiner& miner, std::string_view bytes) {
  StateReader reader(bytes);
  miner.load(reader);
  return reader.complete();
}

// Few words, so that templates generalise and branches and leaves run full.
std::string random_message(Prng& random) {
  std::string message;
  const std::size_t words = random.below(7);
  for (std::size_t w = 0; w < words; ++w) {
    if (w > 0) message += ' ';
    if (random.below(5) == 0) {
      message += kWildcard;
    } else {
      message += static_cast<char>('a' + random.below(w < 2 ? 9 : 4));
      if (random.below(60) == 0) message += std::string(40, 'w');
    }
  }
  return message;
}

TEST(TemplateMinerTest, CutAnywhereAndRestoredEveryIdAndTextIsTheSame) {
  std::size_t other = 0, named_anew = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Prng random(seed);
    const TemplateMiner::Options options{.templates_max = 40 + 100 * random.below(3),
                                         .children_max = 1 + random.below(6),
                                         .leaf_max = 1 + random.below(8)};
    TemplateMiner whole(options), restored(options);
    restored.mine("was there before");
    for (std::uint64_t left = random.below(400); left != 0; --left) whole.mine(random_message(random));
    const std::string bytes = saved(whole);
    ASSERT_TRUE(loaded(restored, bytes)) << "seed " << seed;
    ASSERT_EQ(saved(restored), bytes) << "seed " << seed;
    for (int i = 0; i < 1000; ++i) {
      const std::string message = random_message(random);
      const auto id = whole.mine(message);
      ASSERT_EQ(id, restored.mine(message)) << "seed " << seed << ", message " << i << ": " << message;
      ASSERT_EQ(whole.text(id), restored.text(id)) << "seed " << seed;
      other += id == TemplateMiner::kOther ? 1 : 0;
    }
    ASSERT_EQ(whole.size(), restored.size());
    for (std::uint32_t id = 0; id <= whole.size(); ++id) {
      ASSERT_EQ(whole.name(id), restored.name(id)) << "seed " << seed;
      named_anew += whole.name(id).ends_with(whole.text(id)) ? 0 : 1;
    }
    EXPECT_EQ(whole.state_bytes(), restored.state_bytes()) << "seed " << seed;
    EXPECT_EQ(saved(whole), saved(restored)) << "seed " << seed;
  }
  EXPECT_GT(other, 100U);
  EXPECT_GT(named_anew, 100U);
}

TEST(TemplateMinerTest, TheVersionGrowsExactlyWhenTheBytesChange) {
  Prng random(2);
  TemplateMiner miner({.templates_max = 60, .children_max = 4, .leaf_max = 5});
  std::string bytes = saved(miner);
  std::uint64_t version = miner.version();
  int unchanged = 0;
  for (int i = 0; i < 2000; ++i) {
    miner.mine(random_message(random));
    std::string now = saved(miner);
    ASSERT_EQ(now != bytes, miner.version() != version) << i;
    ASSERT_GE(miner.version(), version);
    unchanged += now == bytes ? 1 : 0;
    bytes = std::move(now);
    version = miner.version();
  }
  EXPECT_GT(unchanged, 1000);
  EXPECT_LT(unchanged, 1950);
  TemplateMiner fresh;
  ASSERT_TRUE(loaded(miner, saved(fresh)));
  EXPECT_GT(miner.version(), version);
}

TEST(TemplateMinerTest, DamagedBytesAreRefusedWithoutATraceOrHarmless) {
  Prng random(9);
  TemplateMiner miner({.templates_max = 20, .children_max = 3, .leaf_max = 2});
  for (int i = 0; i < 300; ++i) miner.mine(random_message(random));
  ASSERT_EQ(miner.size(), 20U);
  int accepted = 0;
  each_damage(
      saved(miner), 1, 10'000, 5000,
      [](std::string_view cut) { EXPECT_FALSE(check_template_state(cut)) << cut.size(); },
      [&](std::string_view changed) { accepted += check_template_state(changed) ? 1 : 0; });
  EXPECT_GT(accepted, 300);
  EXPECT_LT(accepted, 4700);
}

TEST(TemplateMinerTest, StateThatNoMinerLeftIsRefusedByName) {
  const auto mistake_of = [](auto write) {
    std::string bytes;
    StateWriter writer(bytes);
    write(writer);
    TemplateMiner miner({.templates_max = 3, .leaf_max = 1});
    StateReader reader(bytes);
    miner.load(reader);
    EXPECT_EQ(miner.size(), 0U);
    return reader.mistake();
  };
  EXPECT_EQ(mistake_of([](StateWriter& w) { w.varint(4); }), "has 4 templates; at most 3 fit");
  EXPECT_EQ(mistake_of([](StateWriter& w) {
              w.varint(2);
              for (int i = 0; i < 2; ++i) {
                w.text("a b c");
                w.u8(1);
              }
            }),
            "has more than 1 templates in one leaf");
  EXPECT_EQ(mistake_of([](StateWriter& w) {
              w.varint(1);
              w.text("a b <*>");
              w.u8(0);
              w.text("T2: a b c");
            }),
            "has a template T1 whose name is not one of its own");
  EXPECT_EQ(mistake_of([](StateWriter& w) {
              w.varint(1);
              w.text(std::string(5000, 'x'));
              w.u8(1);
            }),
            "has a template T1 that no message can have left");
}

TEST(TemplateMinerTest, TheStateFuzzersCorpusIsSurvived) {
  std::size_t files = 0, accepted = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/template_state")) {
    std::ifstream file(entry.path(), std::ios::binary);
    accepted += check_template_state(std::string(std::istreambuf_iterator<char>(file), {})) ? 1 : 0;
    ++files;
  }
  EXPECT_GE(files, 4U);
  EXPECT_GE(accepted, 2U) << "the format has changed: tests/fuzz_corpus/template_state needs state of the new one";
}

}  // namespace
}  // namespace alcedo::contract
