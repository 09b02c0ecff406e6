// Memory for what is looked up at random: aligned to the 2 MB of a huge page, so that few pages cover it.
#pragma once

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

namespace alcedo::features {

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

/// Zeroed memory of a multiple of kHugePageBytes, aligned to it, in huge pages where the system has them. Throws
/// std::bad_alloc as operator new does.
std::byte* map_huge_pages(std::size_t bytes);
void unmap_huge_pages(std::byte* memory, std::size_t bytes);

/// Blocks whose sizes are powers of two, each of which is given back when all of them move to the next size: the parts
/// of a table that doubles part by part.
///
/// Threads  One at a time.
/// Cost     allocate(): clears the block. Memory of a size is kept until its last block is given back; blocks of less
/// than 8 KB come from the heap.
class DoublingBlocks {
 public:
  DoublingBlocks() = default;
  DoublingBlocks(DoublingBlocks&& other) noexcept
      : sizes_(std::exchange(other.sizes_, {})), reserved_bytes_(std::exchange(other.reserved_bytes_, 0)) {}
  DoublingBlocks& operator=(DoublingBlocks&&) = delete;
  ~DoublingBlocks();

  /// A zeroed block of `bytes`, a power of two of at least 64.
  std::byte* allocate(std::size_t bytes);
  void release(std::byte* block, std::size_t bytes);
  std::size_t reserved_bytes() const { return reserved_bytes_; }

 private:
  struct Size {
    std::vector<std::byte*> chunks;
    std::vector<std::byte*> free;
    std::size_t live = 0;
    std::size_t fresh = 0;  // so many blocks at the beginning of `free` nobody had yet
  };
  static std::size_t chunk_bytes(std::size_t block_bytes);
  static std::size_t index_of(std::size_t block_bytes);

  std::array<Size, 48> sizes_;
  std::size_t reserved_bytes_ = 0;
};

}  // namespace alcedo::features
