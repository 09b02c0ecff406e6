// Ends a source's wait from another thread: every wait in this folder is one poll() that stop() can cut short.
#pragma once

#include <atomic>
#include <chrono>

namespace alcedo::ingest {

/// A flag that can be waited for. Once raised it stays raised.
///
/// Threads  raise() and raised() from any thread and from a signal handler; waits from one thread at a time.
/// Cost     One file descriptor.
class Interrupt {
 public:
  enum class Woke { kTimeout, kReadable, kRaised };

  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  void raise() noexcept;
  bool raised() const noexcept { return raised_.load(std::memory_order_acquire); }

  /// Sleeps at most `wait`. kTimeout or kRaised.
  Woke wait(std::chrono::milliseconds wait) const { return wait_readable(-1, wait); }
  /// Until `fd` can be read or has ended, at most `wait`. kReadable wins over kRaised, so that what has come is read.
  Woke wait_readable(int fd, std::chrono::milliseconds wait) const;

 private:
  int event_fd_ = -1;
  std::atomic<bool> raised_{false};
};

}  // namespace alcedo::ingest
