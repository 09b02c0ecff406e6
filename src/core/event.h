// The words of the input side: a record as it came, and the batch of decoded events that every stage reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/hash.h"

namespace alcedo {

/// A missing number. Decoders refuse NaN and infinities in the input, so inside the engine NaN always means "missing".
inline constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// What is known of an event's truth from beside its bytes (the simulator tells; other sources leave kUnlabelled).
/// Values from 2 on index the source's label types.
using Label = std::uint16_t;
inline constexpr Label kUnlabelled = 0;
inline constexpr Label kNormal = 1;
inline constexpr Label kFirstLabelType = 2;

/// What features may learn of an event once its label is known: bits. From bit 2 on one for each of
/// EventLayout::label_types.
using Truth = std::uint16_t;
inline constexpr Truth kTruthTold = 1;       // it is or will be known whether the event is anomalous
inline constexpr Truth kTruthAnomalous = 2;  // it is
inline constexpr std::size_t kTruthTypesMax = 14;
constexpr Truth truth_of_type(std::size_t type) { return static_cast<Truth>(4U << type); }

/// One input before decoding. Its bytes live in the RawBatch.
struct RawRecord {
  std::size_t begin = 0;
  std::uint32_t size_bytes = 0;
  std::int32_t partition = 0;
  std::int64_t offset = 0;      // grows by one a record within a partition; what follows a record has a larger one
  std::int64_t arrival_ms = 0;  // broker append, receipt, or for a file when it was opened
  std::int64_t due_ns = 0;      // steady clock: when an open-loop load meant to send it; 0 otherwise
  Label label = kUnlabelled;
};

/// Records in the order of their source. Bytes are followed by kPadding readable bytes (simdjson reads ahead).
class RawBatch {
 public:
  static constexpr std::size_t kPadding = 64;

  void append(std::string_view bytes, RawRecord record) {
    record.begin = bytes_.size();
    record.size_bytes = static_cast<std::uint32_t>(bytes.size());
    bytes_.append(bytes);
    records_.push_back(record);
  }
  /// Call once after the last append(), before bytes() is handed to a decoder.
  void pad() { bytes_.reserve(bytes_.size() + kPadding); }
  void clear() {
    bytes_.clear();
    records_.clear();
  }
  std::size_t size() const { return records_.size(); }
  bool empty() const { return records_.empty(); }
  std::size_t size_bytes() const { return bytes_.size(); }
  const RawRecord& operator[](std::size_t i) const { return records_[i]; }
  RawRecord& operator[](std::size_t i) { return records_[i]; }
  std::string_view bytes(std::size_t i) const { return {bytes_.data() + records_[i].begin, records_[i].size_bytes}; }

 private:
  std::string bytes_;
  std::vector<RawRecord> records_;
};

/// Text that lives as long as the batch; addresses stay put while it grows.
class TextArena {
 public:
  std::string_view copy(std::string_view text) {
    if (text.empty()) return {};
    char* to = reserve(text.size());
    std::memcpy(to, text.data(), text.size());
    return {to, text.size()};
  }
  /// Room for `size` bytes that the caller fills.
  char* reserve(std::size_t size) {
    while (chunk_ < chunks_.size() && used_ + size > chunks_[chunk_].size) {
      ++chunk_;
      used_ = 0;
    }
    if (chunk_ == chunks_.size()) {
      const std::size_t bytes = size > kChunk ? size : kChunk;
      chunks_.push_back({std::make_unique<char[]>(bytes), bytes});
    }
    char* at = chunks_[chunk_].data.get() + used_;
    used_ += size;
    return at;
  }
  /// Forgets all text and keeps the memory.
  void clear() { chunk_ = used_ = 0; }

 private:
  static constexpr std::size_t kChunk = 64 * 1024;
  struct Chunk {
    std::unique_ptr<char[]> data;
    std::size_t size;
  };
  std::vector<Chunk> chunks_;
  std::size_t chunk_ = 0;
  std::size_t used_ = 0;
};

/// A key as one event carries it. hash 0: the event has no such key (missing), and the stage of that key skips it.
struct Key {
  std::uint64_t hash = 0;
  std::string_view text;  // what people see; composite parts are joined by '|'; a private part is its keyed hash
  std::uint8_t group = 0;
};

inline Key make_key(std::string_view text_in_arena) {
  return {hash64(text_in_arena), text_in_arena, key_group(text_in_arena)};
}

enum EventFlags : std::uint8_t {
  kEventLate = 1,     // at or below the watermark when it came; set by the sequencer
  kEventCounter = 2,  // its value is an ever-growing counter; the keyed stage turns it into a rate
};

struct EventHeader {
  std::uint64_t sequence = 0;        // position in the one order of all inputs, from 1; set by the sequencer
  std::int64_t time_ms = 0;          // event time, Unix epoch
  std::int64_t tick_ms = INT64_MIN;  // time of the last tick before it; set by the sequencer
  std::int64_t arrival_ms = 0;
  std::int64_t due_ns = 0;
  std::int64_t offset = 0;
  std::int32_t partition = 0;
  std::uint32_t part = 0;     // which of a wide record's events this is
  std::uint64_t id_hash = 0;  // 0: no id
  std::string_view id;
  Label label = kUnlabelled;
  Truth truth = 0;  // set by the runner where the pipeline's `labels` have a delay
  std::uint8_t flags = 0;
  float step = 0;  // the smallest change of its value that means something; 0: not said
};

/// Which numbers and keys an event carries, in order. Compiled from contract and pipeline once.
struct EventLayout {
  struct Number {
    std::string name;    // the contract's field, or "value" of a metric
    bool money = false;  // whole minor units of the event's own currency
  };
  std::vector<Number> numbers;
  std::vector<std::string> keys;         // entity names
  std::vector<std::string> label_types;  // that features ask for by name; at most kTruthTypesMax
};

/// Decoded events as columns of fixed width. Rows are written by decoders in parallel (each its own rows and its own
/// arena), then read by all. A row whose record did not decode is not listed in `order`.
class EventBatch {
 public:
  explicit EventBatch(const EventLayout& layout)
      : num_numbers_(layout.numbers.size()), num_keys_(layout.keys.size()), arenas_(1) {}

  /// Rows [0, rows) become writable, their contents unspecified; all text is forgotten.
  void reset(std::size_t rows, std::size_t arenas) {
    headers_.resize(rows);
    numbers_.resize(rows * num_numbers_);
    keys_.resize(rows * num_keys_);
    if (arenas_.size() < arenas) arenas_.resize(arenas);
    for (auto& arena : arenas_) arena.clear();
    order.clear();
  }
  std::size_t rows() const { return headers_.size(); }
  std::size_t num_numbers() const { return num_numbers_; }
  std::size_t num_keys() const { return num_keys_; }
  EventHeader& header(std::size_t row) { return headers_[row]; }
  const EventHeader& header(std::size_t row) const { return headers_[row]; }
  std::span<double> numbers(std::size_t row) { return {numbers_.data() + row * num_numbers_, num_numbers_}; }
  std::span<const double> numbers(std::size_t row) const {
    return {numbers_.data() + row * num_numbers_, num_numbers_};
  }
  double number(std::size_t row, std::size_t slot) const { return numbers_[row * num_numbers_ + slot]; }
  std::span<Key> keys(std::size_t row) { return {keys_.data() + row * num_keys_, num_keys_}; }
  std::span<const Key> keys(std::size_t row) const { return {keys_.data() + row * num_keys_, num_keys_}; }
  const Key& key(std::size_t row, std::size_t slot) const { return keys_[row * num_keys_ + slot]; }
  TextArena& arena(std::size_t i) { return arenas_[i]; }

  /// Rows that hold accepted events, in the order of their sequence numbers. Set by the sequencer.
  std::vector<std::uint32_t> order;

 private:
  std::size_t num_numbers_;
  std::size_t num_keys_;
  std::vector<EventHeader> headers_;
  std::vector<double> numbers_;
  std::vector<Key> keys_;
  std::vector<TextArena> arenas_;
};

/// One row of floats an event: the gathered features. NaN is missing. Row numbers are those of the EventBatch.
class FeatureMatrix {
 public:
  void reset(std::size_t rows, std::size_t columns) {
    columns_ = columns;
    values_.assign(rows * columns, std::numeric_limits<float>::quiet_NaN());
  }
  std::size_t columns() const { return columns_; }
  std::span<float> row(std::size_t i) { return {values_.data() + i * columns_, columns_}; }
  std::span<const float> row(std::size_t i) const { return {values_.data() + i * columns_, columns_}; }

 private:
  std::size_t columns_ = 0;
  std::vector<float> values_;
};

}  // namespace alcedo
