// Paces simulated payments by the wall clock without letting the reader's speed show in what is read.
#include "ingest/simulate/simulate_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "core/nearest_name.h"
#include "core/time.h"
#include "ingest/simulate/payments.h"

namespace alcedo::ingest {
namespace {

struct Options {
  simulate::Parameters parameters;
  double rate_per_s = 0;  // 0: unpaced
  std::uint64_t skip = 0;
  std::uint64_t events_max = std::numeric_limits<std::uint64_t>::max();
};

class SimulatedPayments final : public Source {
 public:
  explicit SimulatedPayments(const Options& options) : options_(options), payments_(options.parameters) {
    info_.format = contract::Format::kJson;
  }

  std::size_t num_partitions() const override { return 1; }
  const contract::PartitionInfo& partition(std::int32_t) const override { return info_; }
  std::vector<std::string> label_types() const override {
    return {simulate::kLabelTypes.begin(), simulate::kLabelTypes.end()};
  }
  Progress progress() const override {
    const bool endless = options_.events_max == std::numeric_limits<std::uint64_t>::max();
    return {read_, endless ? 0 : options_.events_max};
  }

  Result<ReadState> read(std::int32_t, RawBatch& out, std::size_t records_max,
                         std::chrono::milliseconds wait) override {
    if (begin_ns_ == 0) {
      simulate::Payment skipped;
      for (std::uint64_t i = 0; i < options_.skip && !stopping_.load(std::memory_order_relaxed); ++i)
        payments_.next(skipped);
      begin_ns_ = steady_ns();
    }
    std::uint64_t due = options_.events_max - read_;
    if (due == 0) return ReadState::kEnd;
    if (options_.rate_per_s > 0) {
      if (!wait_until_due(wait)) return stopped() ? ReadState::kEnd : ReadState::kIdle;
      const std::uint64_t due_in_all = num_due(steady_ns());
      due = std::min(due, due_in_all > read_ ? due_in_all - read_ : 0);
    }
    if (stopped()) return ReadState::kEnd;
    due = std::min<std::uint64_t>(due, records_max);
    simulate::Payment payment;
    std::array<char, simulate::kJsonBytesMax> line;
    for (std::uint64_t i = 0; i < due; ++i) {
      payments_.next(payment);
      const char* end = simulate::render_json(payment, line.data());
      RawRecord record;
      record.offset = static_cast<std::int64_t>(options_.skip + read_);
      record.arrival_ms = payment.time_ms;
      record.due_ns = options_.rate_per_s > 0 ? due_ns(read_) : 0;
      record.label = payment.label();
      out.append({line.data(), static_cast<std::size_t>(end - line.data())}, record);
      ++read_;
    }
    out.pad();
    return read_ == options_.events_max ? ReadState::kEnd : ReadState::kMore;
  }

  // What was taken was due before this process began; what follows is due from now on.
  Result<> skip_to(std::int32_t, std::int64_t offset, std::uint64_t, const std::atomic<bool>& stopping) override {
    simulate::Payment dropped;
    const auto end = static_cast<std::uint64_t>(offset);
    for (std::uint64_t i = 0; i < end && !stopping.load(std::memory_order_relaxed); ++i) payments_.next(dropped);
    read_ = end > options_.skip ? std::min(end - options_.skip, options_.events_max) : 0;
    begin_ns_ = steady_ns();
    if (options_.rate_per_s > 0)
      begin_ns_ -= static_cast<std::int64_t>(static_cast<double>(read_) * 1e9 / options_.rate_per_s);
    return {};
  }

  void stop() override {
    stopping_.store(true, std::memory_order_relaxed);
    const std::scoped_lock lock(mutex_);
    stopped_ = true;
    wake_.notify_all();
  }

 private:
  std::int64_t due_ns(std::uint64_t i) const {
    return begin_ns_ + static_cast<std::int64_t>(static_cast<double>(i) * 1e9 / options_.rate_per_s);
  }
  /// How many payments, from the first, are due at `now_ns`: payment i counts from due_ns(i) on.
  std::uint64_t num_due(std::int64_t now_ns) const {
    const double elapsed_s = static_cast<double>(now_ns - begin_ns_) * 1e-9;
    auto count = static_cast<std::uint64_t>(elapsed_s * options_.rate_per_s) + 1;
    while (count > 0 && due_ns(count - 1) > now_ns) --count;  // rounding must not make one early
    return count;
  }
  bool wait_until_due(std::chrono::milliseconds wait) {
    const std::int64_t now_ns = steady_ns();
    const std::int64_t at_ns = due_ns(read_);
    if (at_ns <= now_ns) return true;
    const std::int64_t wait_ns = std::chrono::nanoseconds(wait).count();
    const std::int64_t sleep_ns = std::min(at_ns - now_ns, wait_ns);
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::nanoseconds(sleep_ns), [&] { return stopped_; });
    return !stopped_ && steady_ns() >= at_ns;
  }
  bool stopped() {
    const std::scoped_lock lock(mutex_);
    return stopped_;
  }

  const Options options_;
  contract::PartitionInfo info_;
  simulate::Payments payments_;
  std::uint64_t read_ = 0;
  std::int64_t begin_ns_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopped_ = false;
  std::atomic<bool> stopping_{false};  // the same, for loops that hold no lock
};

const std::vector<std::string> kOptionNames = {"rate", "seconds", "events", "skip", "seed", "cards", "start"};
const std::vector<std::string> kStreams = {"payments"};

Result<double> read_number(const SourceUri& uri, const std::string& name, const std::string& text, double min,
                           double max) {
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size() || !(value >= min && value <= max)) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: {}={}: expected a number from {} to {}", uri.text, name, text, min, max));
  }
  return value;
}

Result<std::uint64_t> read_count(const SourceUri& uri, const std::string& name, const std::string& text,
                                 std::uint64_t min, std::uint64_t max) {
  std::uint64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size() || value < min || value > max) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: {}={}: expected a whole number from {} to {}", uri.text, name, text, min, max));
  }
  return value;
}

}  // namespace

Result<std::unique_ptr<Source>> open_simulation(const SourceUri& uri) {
  if (uri.path != kStreams.front()) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: the simulator knows no stream \"{}\"; write simulate:payments", uri.text, uri.path));
  }
  Options options;
  double seconds = 0;
  for (const auto& [name, text] : uri.options) {
    if (name == "rate" || name == "seconds") {
      const auto value = read_number(uri, name, text, name == "rate" ? 1e-3 : 1e-3, 1e9);
      if (!value) return std::unexpected(value.error());
      (name == "rate" ? options.rate_per_s : seconds) = *value;
    } else if (name == "events") {
      const auto value = read_count(uri, name, text, 0, std::numeric_limits<std::int64_t>::max());
      if (!value) return std::unexpected(value.error());
      options.events_max = std::min(options.events_max, *value);
    } else if (name == "skip") {
      const auto value = read_count(uri, name, text, 0, std::numeric_limits<std::int64_t>::max());
      if (!value) return std::unexpected(value.error());
      options.skip = *value;
    } else if (name == "seed") {
      const auto value = read_count(uri, name, text, 0, std::numeric_limits<std::uint64_t>::max());
      if (!value) return std::unexpected(value.error());
      options.parameters.seed = *value;
    } else if (name == "cards") {
      const auto value = read_count(uri, name, text, simulate::kCardsMin, simulate::kCardsMax);
      if (!value) return std::unexpected(value.error());
      options.parameters.cards = static_cast<std::uint32_t>(*value);
    } else if (name == "start") {
      const auto value = parse_iso_time_ms(text);
      // The simulated calendar counts whole days from 1970 and needs room for the lead-in before it.
      if (!value || *value < 40 * kDayMs || *value > 4'102'444'800'000) {
        return error(
            ErrorCode::kInvalidArgument,
            fmt::format("{}: start={}: expected an ISO 8601 time from 1970-02-10 to 2100-01-01", uri.text, text));
      }
      options.parameters.start_ms = *value;
    } else {
      const std::string nearest = nearest_name(name, kOptionNames);
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: unknown option \"{}\"; {}known options are rate, seconds, events, skip, seed, cards, start",
                      uri.text, name, nearest.empty() ? "" : fmt::format("did you mean \"{}\"? ", nearest)));
    }
  }
  if (seconds > 0) {
    if (options.rate_per_s <= 0) {
      return error(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: seconds needs rate (write rate=R, or events=E to bound an unpaced stream)", uri.text));
    }
    const double total = std::min(seconds * options.rate_per_s, 9e18);
    options.events_max = std::min(options.events_max, static_cast<std::uint64_t>(total));
  }
  return std::make_unique<SimulatedPayments>(options);
}

}  // namespace alcedo::ingest
