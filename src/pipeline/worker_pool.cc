// Spins for a moment before it sleeps: batches follow each other within microseconds under load, and not at all when
// idle.
#include "pipeline/worker_pool.h"

#include "core/check.h"

namespace alcedo::pipeline {
namespace {

constexpr int kSpins = 200;

void wait_while(std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

WorkerPool::WorkerPool(std::size_t workers) {
  CHECK(workers >= 1);
  for (std::size_t w = 1; w < workers; ++w) threads_.emplace_back([this, w] { serve(w); });
}

WorkerPool::~WorkerPool() {
  stop_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void WorkerPool::run(const std::function<void(std::size_t)>& part) {
  if (threads_.empty()) {
    part(0);
    return;
  }
  part_ = &part;
  busy_.store(static_cast<std::uint32_t>(threads_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  part(0);
  for (std::uint32_t left = busy_.load(std::memory_order_acquire); left != 0;
       left = busy_.load(std::memory_order_acquire)) {
    wait_while(busy_, left);
  }
}

void WorkerPool::serve(std::size_t worker) {
  std::uint32_t seen = 0;
  for (;;) {
    wait_while(round_, seen);
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    (*part_)(worker);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

}  // namespace alcedo::pipeline
