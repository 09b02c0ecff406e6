// Chunks come from mmap; twice the size is asked for, because only an aligned range can be backed by huge pages.
#include "features/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "core/check.h"

namespace alcedo::features {
namespace {

constexpr std::size_t kLeastMapped = 8192;

}  // namespace

std::byte* map_huge_pages(std::size_t bytes) {
  // One huge page more holds an aligned range wherever it lands; the rest goes back at once, so that neighbours join
  // into one mapping.
  const std::size_t mapped_bytes = bytes + kHugePageBytes;
  void* mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  const std::size_t begin = reinterpret_cast<std::uintptr_t>(mapped);
  const std::size_t aligned = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const std::size_t before = aligned - begin;
  auto* memory = static_cast<std::byte*>(mapped) + before;
  if (before > 0) munmap(mapped, before);
  if (before < kHugePageBytes) munmap(memory + bytes, kHugePageBytes - before);
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without huge pages everything works, slower
#endif
  return memory;
}

void unmap_huge_pages(std::byte* memory, std::size_t bytes) { munmap(memory, bytes); }

DoublingBlocks::~DoublingBlocks() {
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    for (std::byte* chunk : sizes_[i].chunks) unmap_huge_pages(chunk, chunk_bytes(std::size_t{1} << i));
  }
}

std::size_t DoublingBlocks::chunk_bytes(std::size_t block_bytes) { return std::max(block_bytes, kHugePageBytes); }

std::size_t DoublingBlocks::index_of(std::size_t block_bytes) {
  CHECK(std::has_single_bit(block_bytes) && block_bytes >= 64);
  return static_cast<std::size_t>(std::countr_zero(block_bytes));
}

std::byte* DoublingBlocks::allocate(std::size_t bytes) {
  Size& size = sizes_[index_of(bytes)];
  if (bytes < kLeastMapped) {
    void* memory = std::aligned_alloc(64, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, bytes);
    reserved_bytes_ += bytes;
    return static_cast<std::byte*>(memory);
  }
  if (size.free.empty()) {
    std::byte* chunk = map_huge_pages(chunk_bytes(bytes));
    size.chunks.push_back(chunk);
    reserved_bytes_ += chunk_bytes(bytes);
    for (std::size_t end = chunk_bytes(bytes); end != 0; end -= bytes) size.free.push_back(chunk + (end - bytes));
    size.fresh = size.free.size();
  }
  std::byte* block = size.free.back();
  const bool used_before = size.free.size() > size.fresh;
  size.free.pop_back();
  size.fresh = std::min(size.fresh, size.free.size());
  if (used_before) std::memset(block, 0, bytes);
  ++size.live;
  return block;
}

void DoublingBlocks::release(std::byte* block, std::size_t bytes) {
  if (bytes < kLeastMapped) {
    std::free(block);
    reserved_bytes_ -= bytes;
    return;
  }
  Size& size = sizes_[index_of(bytes)];
  size.free.push_back(block);
  if (--size.live != 0) return;
  for (std::byte* chunk : size.chunks) unmap_huge_pages(chunk, chunk_bytes(bytes));
  reserved_bytes_ -= size.chunks.size() * chunk_bytes(bytes);
  size = Size{};
}

}  // namespace alcedo::features
