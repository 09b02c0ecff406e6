// An eventfd beside the awaited descriptor: no signal games, no wake-up lost between a check and a sleep.
#include "ingest/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "core/check.h"
#include "core/time.h"

namespace alcedo::ingest {

Interrupt::Interrupt() : event_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { CHECK(event_fd_ >= 0); }

Interrupt::~Interrupt() { ::close(event_fd_); }

void Interrupt::raise() noexcept {
  const int saved = errno;  // may run in a signal handler
  raised_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event_fd_, &one, sizeof one);
  errno = saved;
}

Interrupt::Woke Interrupt::wait_readable(int fd, std::chrono::milliseconds wait) const {
  const std::int64_t until_ns = steady_ns() + wait.count() * 1'000'000;
  while (true) {
    pollfd fds[2] = {{event_fd_, POLLIN, 0}, {fd, POLLIN, 0}};
    const std::int64_t left_ms = std::clamp<std::int64_t>((until_ns - steady_ns() + 999'999) / 1'000'000, 0, 3'600'000);
    const int ready = ::poll(fds, fd >= 0 ? 2 : 1, static_cast<int>(left_ms));
    if (ready > 0) return fds[1].revents != 0 ? Woke::kReadable : Woke::kRaised;
    if (ready < 0 && errno != EINTR) CHECK(errno == EAGAIN || errno == ENOMEM);
    if (steady_ns() >= until_ns) return Woke::kTimeout;
  }
}

}  // namespace alcedo::ingest
