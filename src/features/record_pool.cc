// Chunks are whole huge pages; smaller first chunks come from the heap.
#include "features/record_pool.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "core/check.h"
#include "features/huge_pages.h"

namespace alcedo::features {
namespace {

constexpr std::size_t kFirstBytes = 1024;

std::byte* allocate_chunk(std::size_t bytes) {
  if (bytes < RecordPool::kChunkBytes) {
    void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<std::byte*>(memory);
  }
  return map_huge_pages(RecordPool::kChunkBytes);
}

void free_chunk(std::byte* chunk, std::size_t bytes) {
  if (bytes < RecordPool::kChunkBytes) {
    std::free(chunk);
  } else {
    unmap_huge_pages(chunk, RecordPool::kChunkBytes);
  }
}

}  // namespace

RecordPool::RecordPool(std::size_t record_bytes)
    : record_bytes_(record_bytes),
      records_per_chunk_(static_cast<std::uint32_t>(kChunkBytes / record_bytes)),
      position_bits_(static_cast<std::uint32_t>(std::bit_width(records_per_chunk_ - 1))),
      position_mask_((1U << position_bits_) - 1) {
  CHECK(record_bytes >= 8 && record_bytes % 8 == 0 && record_bytes <= kChunkBytes);
}

RecordPool::RecordPool(RecordPool&& other) noexcept
    : record_bytes_(other.record_bytes_),
      records_per_chunk_(other.records_per_chunk_),
      position_bits_(other.position_bits_),
      position_mask_(other.position_mask_),
      capacity_(other.capacity_),
      next_(other.next_),
      free_(other.free_),
      live_(other.live_),
      reserved_bytes_(other.reserved_bytes_),
      chunks_(std::exchange(other.chunks_, {})) {}

RecordPool::~RecordPool() {
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const bool full_size = i + 1 < chunks_.size() || capacity_ == records_per_chunk_;
    free_chunk(chunks_[i], full_size ? kChunkBytes : capacity_ * record_bytes_);
  }
}

void RecordPool::grow() {
  if (chunks_.empty() || capacity_ == records_per_chunk_) {
    // A handle has 32 bits, and a caller may want the upper three for itself.
    CHECK(chunks_.size() < (std::size_t{1} << (29 - position_bits_)));
    const bool first = chunks_.empty();
    std::uint32_t capacity = records_per_chunk_;
    if (first) {
      const auto few = static_cast<std::uint32_t>(kFirstBytes / record_bytes_);
      capacity = std::min(records_per_chunk_, std::max(few, 1U));
    }
    const std::size_t bytes = capacity == records_per_chunk_ ? kChunkBytes : capacity * record_bytes_;
    chunks_.push_back(allocate_chunk(bytes));
    reserved_bytes_ += bytes;
    capacity_ = capacity;
    next_ = 0;
    return;
  }
  // Only the first chunk is ever smaller than a chunk.
  const std::uint32_t capacity = std::min(capacity_ * 2, records_per_chunk_);
  const std::size_t old_bytes = capacity_ * record_bytes_;
  const std::size_t bytes = capacity == records_per_chunk_ ? kChunkBytes : capacity * record_bytes_;
  std::byte* larger = allocate_chunk(bytes);
  std::memcpy(larger, chunks_[0], next_ * record_bytes_);
  free_chunk(chunks_[0], old_bytes);
  chunks_[0] = larger;
  reserved_bytes_ = bytes;
  capacity_ = capacity;
}

std::uint32_t RecordPool::allocate() {
  ++live_;
  if (free_ != kNone) {
    const std::uint32_t handle = free_;
    std::memcpy(&free_, at(handle), sizeof free_);
    return handle;
  }
  if (next_ == capacity_) grow();
  return static_cast<std::uint32_t>((chunks_.size() - 1) << position_bits_) | next_++;
}

void RecordPool::release(std::uint32_t handle) {
  --live_;
  std::memcpy(at(handle), &free_, sizeof free_);
  free_ = handle;
}

}  // namespace alcedo::features
