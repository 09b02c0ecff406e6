// What an alert costs between the engine and the receiver's acceptance: the ledger's commit, and the call.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "alert/delivery.h"
#include "alert/pagerduty_mock.h"
#include "alert/test_incidents.h"

namespace alcedo::alert {
namespace {

using namespace testing_incidents;

std::vector<RouteSpec> routes_to(const std::string& url) {
  return {{.name = "pagerduty",
           .kind = RouteSpec::Kind::kPagerDuty,
           .is_default = true,
           .path = {},
           .routing_key = kRoutingKey,
           .url = url,
           .rate_limited = false}};
}

// On the disk that the build is on: its fsync is what a commit costs.
struct DiskFile {
  std::string path;
  DiskFile() {
    path = (std::filesystem::current_path() / "alert_bench.db").string();
    remove();
  }
  ~DiskFile() { remove(); }
  void remove() const {
    for (const char* suffix : {"", "-wal", "-shm", ".lock"}) std::filesystem::remove(path + suffix);
  }
};

void BM_Commit(benchmark::State& state) {
  const DiskFile file;
  auto ledger = Ledger::open({.path = file.path, .pipeline = "payments", .routes = routes_to("http://127.0.0.1:1")});
  CHECK(ledger.has_value());
  std::uint64_t sequence = 0;
  const auto count = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    std::vector<IncidentChange> changes;
    for (std::size_t i = 0; i < count; ++i) {
      ++sequence;
      changes.push_back(open_of(std::to_string(sequence), sequence));
    }
    CHECK((*ledger)->commit(changes, sequence).has_value());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Commit)->Arg(1)->Arg(10)->Arg(100)->Unit(benchmark::kMicrosecond);

void BM_CommitNothing(benchmark::State& state) {
  const DiskFile file;
  auto ledger = Ledger::open({.path = file.path, .pipeline = "payments", .routes = routes_to("http://127.0.0.1:1")});
  CHECK(ledger.has_value());
  std::uint64_t sequence = 0;
  for (auto _ : state) CHECK((*ledger)->commit({}, ++sequence).has_value());
}
BENCHMARK(BM_CommitNothing);

// A page alone: from before its commit to the mock's acceptance.
void BM_PageLatency(benchmark::State& state) {
  const DiskFile file;
  auto mock = PagerDutyMock::start({.rate_limited = false, .keep_bodies = false});
  auto ledger = Ledger::open({.path = file.path, .pipeline = "payments", .routes = routes_to((*mock)->url())});
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t accepted = 0;
  auto deliverer =
      Deliverer::start(**ledger, routes_to((*mock)->url()), {.on_accepted = [&](const Delivery&, std::int64_t) {
        const std::scoped_lock lock(mutex);
        ++accepted;
        changed.notify_one();
      }});
  std::uint64_t sequence = 0;
  std::vector<double> micros;
  for (auto _ : state) {
    const std::int64_t start_ns = steady_ns();
    ++sequence;
    const IncidentChange one[] = {open_of(std::to_string(sequence), sequence)};
    CHECK((*ledger)->commit(one, sequence).has_value());
    (*deliverer)->wake();
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return accepted == sequence; });
    micros.push_back(static_cast<double>(steady_ns() - start_ns) / 1000);
  }
  std::ranges::sort(micros);
  state.counters["p50_us"] = micros[micros.size() / 2];
  state.counters["p99_us"] = micros[micros.size() * 99 / 100];
}
BENCHMARK(BM_PageLatency)->Unit(benchmark::kMicrosecond)->Iterations(2000);

// Pages in batches of 100, until all are accepted and recorded. `range` is the receiver's answering time.
void BM_PageThroughput(benchmark::State& state) {
  const DiskFile file;
  auto mock = PagerDutyMock::start({.rate_limited = false, .keep_bodies = false});
  auto ledger = Ledger::open({.path = file.path, .pipeline = "payments", .routes = routes_to((*mock)->url())});
  auto deliverer = Deliverer::start(**ledger, routes_to((*mock)->url()), {});
  if (state.range(0) > 0) {
    (*mock)->add_fault({.kind = PagerDutyMock::Fault::Kind::kHang, .delay_ms = state.range(0), .count = 100'000'000});
  }
  std::uint64_t sequence = 0;
  for (auto _ : state) {
    std::vector<IncidentChange> changes;
    for (int i = 0; i < 100; ++i) {
      ++sequence;
      changes.push_back(open_of(std::to_string(sequence), sequence));
    }
    CHECK((*ledger)->commit(changes, sequence).has_value());
    (*deliverer)->wake();
    while ((*ledger)->counts()->pending > 500) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  while ((*ledger)->counts()->pending > 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  state.SetItemsProcessed(state.iterations() * 100);
}
BENCHMARK(BM_PageThroughput)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(50);

}  // namespace
}  // namespace alcedo::alert
