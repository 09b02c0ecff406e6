// Keeps what a sequence model computed of its entities' last events, as far as memory allows; what is not kept is
// computed again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/result.h"
#include "models/token_history.h"
#include "models/transformer.h"

namespace alcedo::models {

/// A bounded map from entities to rings of one model. Scores do not depend on it: whatever it holds, holds no longer,
/// or held of an entity that was since restored, forgotten or begun anew, a ring is used only if it stands exactly
/// where the entity's history does, and is rebuilt from that history otherwise.
///
/// Shapes   limit_bytes bounds rings and table; all of it is reserved by create() and becomes resident as entities
/// come. Cost     step(): a step of the model and no allocation; a rebuild costs up to 63 steps without heads. Eviction
/// takes the first ring
///          that was not used since the hand last passed (clock).
/// Threads  one at a time. The model may be shared by many caches.
class TransformerCache {
 public:
  /// One event of an entity whose history is `history`; step() fills score and pushes the token.
  struct Visit {
    std::uint64_t key;  // the entity's hash; any number
    TokenHistory history;
    std::span<const std::uint8_t> token;
    std::int64_t time_ms;
    SequenceScore score = {};
  };

  struct Counters {
    std::uint64_t hits = 0;       // events whose ring was there
    std::uint64_t starts = 0;     // first events of entities: nothing to rebuild
    std::uint64_t rebuilds = 0;   // events whose ring had to be made from the history
    std::uint64_t evictions = 0;  // rings that gave way
  };

  /// model outlives the cache. Errors: kInvalidArgument where limit_bytes holds no ring, kUnavailable without memory.
  static Result<TransformerCache> create(const Transformer& model, std::size_t limit_bytes);

  /// Scores visits in order, as if one by one; those of one entity may be next to each other. Longer spans are faster:
  /// weights are read once for four events, and rings come from memory while others are worked off.
  void step(std::span<Visit> visits);

  /// Drops an entity's ring, if there is one.
  void forget(std::uint64_t key);

  std::size_t capacity() const { return capacity_; }
  std::size_t size() const { return used_ - free_count_; }
  const Counters& counters() const { return counters_; }

 private:
  struct Slot {
    std::uint64_t key;
    std::uint32_t ring;  // its number plus 1; 0: empty
  };
  struct Owner {
    std::uint64_t key;
    bool touched;
  };
  struct Unmap {
    Unmap() : bytes(0) {}
    explicit Unmap(std::size_t mapped) : bytes(mapped) {}
    void operator()(std::byte* p) const;
    std::size_t bytes;
  };

  explicit TransformerCache(const Transformer& model) : model_(&model) {}

  void* ring(std::uint32_t number) const { return rings_.get() + number * ring_bytes_; }
  std::size_t home(std::uint64_t key) const;
  std::uint32_t find(std::uint64_t key) const;  // kNone
  void insert(std::uint64_t key, std::uint32_t number);
  void erase(std::uint64_t key);
  std::uint32_t take();  // a ring that is nobody's
  void prefetch(std::uint64_t key) const;

  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  const Transformer* model_;
  std::size_t ring_bytes_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t used_ = 0;  // rings that were ever taken
  std::uint32_t free_count_ = 0;
  std::uint32_t hand_ = 0;
  std::size_t mask_ = 0;
  std::unique_ptr<std::byte, Unmap> rings_;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<Owner[]> owners_;
  std::unique_ptr<std::uint32_t[]> free_;
  Counters counters_;
};

}  // namespace alcedo::models
