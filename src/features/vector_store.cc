// A sequence lock over plain atomics: every word that a reader may meet half-written is an atomic of its own, so there
// is no race to argue about, and on x86 an acquiring load or a releasing store costs what a plain one does.
#include "features/vector_store.h"

#include <algorithm>
#include <array>
#include <bit>
#include <thread>

#include "core/check.h"

namespace alcedo::features {
namespace {

// Records come in chunks of 8, 16, 32, ...: a chunk never moves, so a reader may hold on to one while others are added.
constexpr std::uint32_t kFirstChunk = 8;
constexpr std::uint32_t kChunks = 26;
constexpr std::size_t kFirstSlots = 16;
constexpr int kSpinsBeforeYield = 64;
constexpr std::uint32_t kNone = 0;  // record numbers start at 1

using Word = std::atomic<std::uint64_t>;

// Layout of a record, in words.
constexpr std::size_t kHash = 0;
constexpr std::size_t kTime = 1;
constexpr std::size_t kValues = 2;  // two floats a word

std::uint64_t load(const Word& word) { return word.load(std::memory_order_acquire); }
void store(Word& word, std::uint64_t value) { word.store(value, std::memory_order_release); }

// Counters have one writer each at a time; adding needs no locked instruction.
void count(Word& counter) { counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }

}  // namespace

// The entities of one key group of one stage.
class alignas(64) VectorStore::Group {
 public:
  Group(std::size_t columns, std::size_t entities_max)
      : words_(kValues + (columns + 1) / 2), entities_max_(static_cast<std::uint32_t>(entities_max)) {}

  void write(std::uint64_t hash, std::int64_t time_ms, std::span<const float> row,
             std::span<const std::uint32_t> columns) {
    if (index_.load(std::memory_order_relaxed) == nullptr) grow();
    std::uint32_t record = find(*index_.load(std::memory_order_relaxed), hash);
    if (record != kNone && time_ms < static_cast<std::int64_t>(load(at(record)[kTime]))) return count(late_);
    const bool is_new = record == kNone;
    // Memory is taken before readers are held up.
    if (is_new && used_ < entities_max_) {
      if (2 * (std::size_t{used_} + 1) > index_.load(std::memory_order_relaxed)->slots.size()) grow();
      make_room_for(used_ + 1);
    }

    const std::uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    if (is_new) {
      if (used_ < entities_max_) {
        record = ++used_;
      } else {
        record = oldest_;
        erase(load(at(record)[kHash]));
        count(evicted_);
        unlink(record);
      }
      insert(*index_.load(std::memory_order_relaxed), hash, record);
    } else {
      unlink(record);
    }
    Word* words = at(record);
    store(words[kHash], hash);
    store(words[kTime], static_cast<std::uint64_t>(time_ms));
    for (std::size_t i = 0; i < columns.size(); i += 2) {
      const std::uint64_t low = std::bit_cast<std::uint32_t>(row[columns[i]]);
      const std::uint64_t high = i + 1 < columns.size() ? std::bit_cast<std::uint32_t>(row[columns[i + 1]]) : 0;
      store(words[kValues + i / 2], low | high << 32);
    }
    version_.store(version + 2, std::memory_order_release);
    link_newest(record);
    count(written_);
    if (is_new) held_.store(used_, std::memory_order_relaxed);
  }

  bool read(std::uint64_t hash, std::int64_t& time_ms, std::span<float> values) const {
    for (int spins = 1;; ++spins) {
      const std::uint64_t before = version_.load(std::memory_order_acquire);
      if (before % 2 == 0) {
        const bool found = copy(hash, time_ms, values);
        // The loads above acquire, so this one cannot come before them.
        if (version_.load(std::memory_order_relaxed) == before) return found;
      }
      // The writer may have lost its core in the middle.
      if (spins % kSpinsBeforeYield == 0) std::this_thread::yield();
    }
  }

  void add_to(Counters& counters) const {
    counters.entities += held_.load(std::memory_order_relaxed);
    counters.written += written_.load(std::memory_order_relaxed);
    counters.late += late_.load(std::memory_order_relaxed);
    counters.evicted += evicted_.load(std::memory_order_relaxed);
  }

 private:
  // Linear probing over record numbers. A reader may meet it half-changed: every walk is bounded by its size, and every
  // number in it is or was one of a record.
  struct Index {
    explicit Index(std::size_t size) : slots(size) {}
    std::size_t home(std::uint64_t hash) const { return mix64(hash) & (slots.size() - 1); }
    std::vector<std::atomic<std::uint32_t>> slots;  // a power of two of them, at most half full
  };
  struct Link {  // writer only
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;
  };

  static std::pair<std::uint32_t, std::uint32_t> place(std::uint32_t record) {
    const std::uint32_t n = (record - 1) / kFirstChunk + 1;
    const auto chunk = static_cast<std::uint32_t>(std::bit_width(n)) - 1;
    return {chunk, record - 1 - kFirstChunk * ((1U << chunk) - 1)};
  }
  Word* at(std::uint32_t record) const {
    const auto [chunk, offset] = place(record);
    return chunks_[chunk].load(std::memory_order_acquire) + offset * words_;
  }
  void make_room_for(std::uint32_t record) {
    const auto [chunk, offset] = place(record);
    CHECK(chunk < kChunks);
    if (owned_[chunk] == nullptr) {
      owned_[chunk] = std::make_unique<Word[]>((std::size_t{kFirstChunk} << chunk) * words_);
      chunks_[chunk].store(owned_[chunk].get(), std::memory_order_release);
    }
    if (links_.size() <= record) links_.resize(std::size_t{record} + 1);
  }

  std::uint32_t find(const Index& index, std::uint64_t hash) const {
    std::size_t i = index.home(hash);
    for (std::size_t walked = 0; walked < index.slots.size(); ++walked) {
      const std::uint32_t record = index.slots[i].load(std::memory_order_acquire);
      if (record == kNone) return kNone;
      if (load(at(record)[kHash]) == hash) return record;
      i = (i + 1) & (index.slots.size() - 1);
    }
    return kNone;
  }
  static void insert(Index& index, std::uint64_t hash, std::uint32_t record) {
    std::size_t i = index.home(hash);
    while (index.slots[i].load(std::memory_order_relaxed) != kNone) i = (i + 1) & (index.slots.size() - 1);
    index.slots[i].store(record, std::memory_order_release);
  }
  // Closes the gap by moving back what may move (Knuth, 6.4, algorithm R), so that no tombstones pile up.
  void erase(std::uint64_t hash) {
    Index& index = *index_.load(std::memory_order_relaxed);
    const std::size_t mask = index.slots.size() - 1;
    std::size_t gap = index.home(hash);
    while (load(at(index.slots[gap].load(std::memory_order_relaxed))[kHash]) != hash) gap = (gap + 1) & mask;
    for (std::size_t i = (gap + 1) & mask;; i = (i + 1) & mask) {
      const std::uint32_t record = index.slots[i].load(std::memory_order_relaxed);
      if (record == kNone) break;
      const std::size_t home = index.home(load(at(record)[kHash]));
      if (((i - home) & mask) < ((i - gap) & mask)) continue;
      index.slots[gap].store(record, std::memory_order_release);
      gap = i;
    }
    index.slots[gap].store(kNone, std::memory_order_release);
  }
  // Outgrown indices are kept: a reader may still be walking one, and together they are smaller than the newest.
  void grow() {
    const Index* old = index_.load(std::memory_order_relaxed);
    indices_.push_back(std::make_unique<Index>(old == nullptr ? kFirstSlots : 2 * old->slots.size()));
    Index& index = *indices_.back();
    for (std::uint32_t record = 1; record <= used_; ++record) insert(index, load(at(record)[kHash]), record);
    index_.store(&index, std::memory_order_release);
  }

  void unlink(std::uint32_t record) {
    const Link link = links_[record];
    (link.older == kNone ? oldest_ : links_[link.older].newer) = link.newer;
    (link.newer == kNone ? newest_ : links_[link.newer].older) = link.older;
  }
  void link_newest(std::uint32_t record) {
    links_[record] = {newest_, kNone};
    (newest_ == kNone ? oldest_ : links_[newest_].newer) = record;
    newest_ = record;
  }

  bool copy(std::uint64_t hash, std::int64_t& time_ms, std::span<float> values) const {
    const Index* index = index_.load(std::memory_order_acquire);
    const std::uint32_t record = index == nullptr ? kNone : find(*index, hash);
    if (record == kNone) return false;
    const Word* words = at(record);
    time_ms = static_cast<std::int64_t>(load(words[kTime]));
    for (std::size_t i = 0; i < values.size(); i += 2) {
      const std::uint64_t pair = load(words[kValues + i / 2]);
      values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(pair));
      if (i + 1 < values.size()) values[i + 1] = std::bit_cast<float>(static_cast<std::uint32_t>(pair >> 32));
    }
    return true;
  }

  // Read by all.
  const std::size_t words_;
  const std::uint32_t entities_max_;
  std::atomic<std::uint64_t> version_{0};  // odd while a write is under way
  std::atomic<Index*> index_{nullptr};
  std::array<std::atomic<Word*>, kChunks> chunks_{};
  Word held_{0}, written_{0}, late_{0}, evicted_{0};
  // The writer's.
  std::uint32_t used_ = 0;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  std::vector<Link> links_;
  std::vector<std::unique_ptr<Index>> indices_;
  std::array<std::unique_ptr<Word[]>, kChunks> owned_;
};

VectorStore::VectorStore(const FeaturePlan& plan, Options options)
    : group_entities_max_(std::clamp<std::size_t>((options.entities_max + kKeyGroups - 1) / kKeyGroups, 1, 1U << 28)) {
  for (const std::uint32_t slot : plan.stages()) {
    Stage stage;
    stage.slot = slot;
    for (std::uint32_t c = 0; c < plan.columns().size(); ++c) {
      const auto& spec = plan.options().features[plan.columns()[c].feature];
      if (static_cast<std::uint32_t>(spec.key) == slot) stage.columns.push_back(c);
    }
    for (int g = 0; g < kKeyGroups; ++g) {
      stage.groups.push_back(std::make_unique<Group>(stage.columns.size(), group_entities_max_));
    }
    stages_.push_back(std::move(stage));
  }
}

VectorStore::~VectorStore() = default;

void VectorStore::write(std::size_t stage, const EventBatch& batch, std::span<const std::uint32_t> rows,
                        const FeatureMatrix& features) {
  const Stage& to = stages_[stage];
  for (const std::uint32_t row : rows) {
    const Key& key = batch.key(row, to.slot);
    if (key.hash == 0) continue;
    to.groups[key.group]->write(key.hash, batch.header(row).time_ms, features.row(row), to.columns);
  }
}

bool VectorStore::read(std::size_t stage, const Key& key, std::int64_t& time_ms, std::span<float> values) const {
  CHECK(values.size() == stages_[stage].columns.size());
  if (key.hash == 0) return false;
  return stages_[stage].groups[key.group]->read(key.hash, time_ms, values);
}

VectorStore::Counters VectorStore::counters() const {
  Counters counters;
  for (const auto& stage : stages_) {
    for (const auto& group : stage.groups) group->add_to(counters);
  }
  return counters;
}

}  // namespace alcedo::features
