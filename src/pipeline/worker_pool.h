// A fixed set of threads that do the parts of one batch together; the caller is one of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace alcedo::pipeline {

/// Threads  run() by one thread at a time. Cost: a few microseconds when the threads sleep, less when they are still
/// awake.
class WorkerPool {
 public:
  explicit WorkerPool(std::size_t workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  std::size_t workers() const { return threads_.size() + 1; }

  /// Calls part(w) for every worker w in [0, workers()), each on its own thread, and returns when all are done.
  void run(const std::function<void(std::size_t)>& part);

 private:
  void serve(std::size_t worker);

  std::vector<std::thread> threads_;
  std::atomic<std::uint32_t> round_{0};
  std::atomic<std::uint32_t> busy_{0};
  std::atomic<bool> stop_{false};
  const std::function<void(std::size_t)>* part_ = nullptr;
};

}  // namespace alcedo::pipeline
