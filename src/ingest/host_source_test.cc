// A machine made of files: every metric's value by hand, golden records, and a clock that jumps.
#include "ingest/host_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <thread>

#include "ingest/test_files.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

const std::string kGolden = std::string(ALCEDO_SOURCE_DIR) + "/tests/golden/host/";

// Replaces the tree that a collector reads.
void show(const std::string& golden, const std::string& proc) {
  std::filesystem::remove_all(proc);
  std::filesystem::copy(kGolden + golden, proc, std::filesystem::copy_options::recursive);
}

std::optional<FilesystemSpace> fake_space(const std::string& mount_point) {
  if (mount_point == "/") return FilesystemSpace{1000, 400, 300};
  if (mount_point == "/mnt/my disk") return FilesystemSpace{5000, 5000, 5000};
  if (mount_point == "/tank") return FilesystemSpace{0, 0, 0};  // a pool that tells nothing
  if (mount_point == "/boot/efi") return std::nullopt;
  ADD_FAILURE() << "not a real file system: " << mount_point;
  return std::nullopt;
}

std::map<std::string, double> by_name(const std::vector<HostMetrics::Sample>& samples) {
  std::map<std::string, double> out;
  for (const auto& sample : samples) {
    const std::string name = std::string(sample.name) + (sample.device.empty() ? "" : ":" + sample.device);
    EXPECT_TRUE(out.emplace(name, sample.value).second) << name << " twice";
  }
  return out;
}

TEST(HostMetricsTest, ComputesEveryMetricOfAMachine) {
  const ScratchDirectory scratch;
  const std::string proc = scratch / "proc";
  show("first", proc);
  HostMetrics metrics(proc, fake_space);
  EXPECT_EQ(metrics.host_name(), "web-1");
  const auto first = by_name(metrics.sample());
  EXPECT_FALSE(first.contains("cpu_busy_ratio"));  // a ratio since the last sample needs one
  EXPECT_THAT(first, Contains(Pair("load_average_1m", 0.5)));
  show("second", proc);
  const auto second = by_name(metrics.sample());
  // 400 ticks: 220 user and nice, 60 system with interrupts, 80 idle, 20 waiting, 20 stolen.
  const std::map<std::string, double> expected = {
      {"cpu_busy_ratio", 300.0 / 400},
      {"cpu_user_ratio", 220.0 / 400},
      {"cpu_system_ratio", 60.0 / 400},
      {"cpu_iowait_ratio", 20.0 / 400},
      {"cpu_steal_ratio", 20.0 / 400},
      {"load_average_1m", 1.25},
      {"context_switches_total", 1500},
      {"processes_running", 3},
      {"processes_blocked", 1},
      {"processes_count", 10},
      {"memory_used_ratio", 0.75},
      {"memory_available_bytes", 4'096'000'000.0},
      {"swap_used_ratio", 0.25},
      {"disk_reads_total:nvme0n1", 1010},
      {"disk_read_bytes_total:nvme0n1", 81024.0 * 512},
      {"disk_writes_total:nvme0n1", 520},
      {"disk_written_bytes_total:nvme0n1", 40512.0 * 512},
      {"disk_busy_seconds_total:nvme0n1", 0.85},
      {"disk_reads_total:sda", 7},
      {"disk_read_bytes_total:sda", 56.0 * 512},
      {"disk_writes_total:sda", 0},
      {"disk_written_bytes_total:sda", 0},
      {"disk_busy_seconds_total:sda", 0.002},
      {"filesystem_used_ratio:/", 600.0 / 900},
      {"filesystem_available_bytes:/", 300},
      {"filesystem_used_ratio:/mnt/my disk", 0},
      {"filesystem_available_bytes:/mnt/my disk", 5000},
      {"network_receive_bytes_total:eth0", 1500000},
      {"network_receive_packets_total:eth0", 1500},
      {"network_receive_errors_total:eth0", 1},
      {"network_receive_drops_total:eth0", 2},
      {"network_transmit_bytes_total:eth0", 700000},
      {"network_transmit_packets_total:eth0", 1000},
      {"network_transmit_errors_total:eth0", 3},
      {"network_transmit_drops_total:eth0", 4},
      {"pressure_cpu_ratio", 0.1234},
      {"pressure_memory_ratio", 0},
      {"pressure_io_ratio", 0.03},
      // postgres: 60 + 40 of 400; new: all its 40, since its pid belonged to another before; "a (b) c": 30; nginx: 10;
      // kworkers together 12. sh and cron fall below the five.
      {"process_cpu_ratio:postgres", 100.0 / 400},
      {"process_cpu_ratio:new", 40.0 / 400},
      {"process_cpu_ratio:a (b) c", 30.0 / 400},
      {"process_cpu_ratio:kworker", 12.0 / 400},
      {"process_cpu_ratio:nginx", 10.0 / 400}};
  for (const auto& [name, value] : expected) EXPECT_THAT(second, Contains(Pair(name, DoubleNear(value, 1e-9)))) << name;
  EXPECT_EQ(second.size(), expected.size());
  for (const auto& [name, value] : second) EXPECT_TRUE(expected.contains(name)) << name;
}

TEST(HostMetricsTest, AMissingFileLeavesOutItsMetricsOnly) {
  const ScratchDirectory scratch;
  const std::string proc = scratch / "proc";
  show("second", proc);
  const auto all = by_name(HostMetrics(proc, fake_space).sample());
  const std::map<std::string, std::string> owners = {{"loadavg", "load_"},   {"meminfo", "memory_"},
                                                     {"diskstats", "disk_"}, {"mounts", "filesystem_"},
                                                     {"net", "network_"},    {"pressure", "pressure_"}};
  for (const auto& [file, prefix] : owners) {
    show("second", proc);
    std::filesystem::remove_all(proc + "/" + file);
    auto left = by_name(HostMetrics(proc, fake_space).sample());
    EXPECT_TRUE(std::ranges::none_of(left, [&](const auto& metric) { return metric.first.starts_with(prefix); }))
        << file;
    EXPECT_GE(left.size() + 10, all.size()) << file;
    EXPECT_LT(left.size(), all.size()) << file;
  }
  std::filesystem::remove_all(proc);
  EXPECT_THAT(HostMetrics(proc, fake_space).sample(), IsEmpty());
}

TEST(HostMetricsTest, NonsenseInTheTreeIsLeftOut) {
  const ScratchDirectory scratch;
  for (const std::string& text :
       {std::string("cpu\n"), std::string("cpu x y z\nctxt\n"), std::string(100'000, '('),
        std::string("\0\0\n:\n::\n", 8), std::string("nan inf\n3 4 5 6\neth0:\nMemTotal: -1 kB\nsome avg10=\n")}) {
    for (const char* file :
         {"stat", "loadavg", "meminfo", "diskstats", "mounts", "net/dev", "pressure/cpu", "12/stat"}) {
      scratch.write(std::string("proc/") + file, text);
    }
    HostMetrics metrics(scratch / "proc", [](const std::string&) { return std::nullopt; });
    metrics.sample();
    for (const auto& sample : metrics.sample()) EXPECT_EQ(sample.name, "processes_count");
  }
}

TEST(HostMetricsTest, ReadsThisMachine) {
  HostMetrics metrics;
  metrics.sample();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto now = by_name(metrics.sample());
  if (now.empty()) GTEST_SKIP() << "no /proc here";
  for (const auto& [name, value] : now) {
    EXPECT_TRUE(value >= 0) << name;
    if (name.find("_ratio") != std::string::npos) {
      EXPECT_LE(value, 1.0) << name;
    }
  }
  EXPECT_THAT(now, Contains(Pair("memory_available_bytes", Ge(1.0))));
  EXPECT_THAT(now, Contains(Pair("processes_count", Ge(1.0))));
}

class HostSourceTest : public testing::Test {
 protected:
  HostSourceTest() { show("first", scratch_ / "proc"); }
  HostSource::Options options() {
    HostSource::Options options;
    options.log_directory = scratch_ / "log";
    options.proc_root = scratch_ / "proc";
    options.stat_filesystem = fake_space;
    options.now_ms = [this] { return now_ms_; };
    return options;
  }
  std::unique_ptr<HostSource> open_ok(HostSource::Options options) {
    auto source = HostSource::create(std::move(options));
    EXPECT_TRUE(source.has_value()) << (source ? "" : source.error().message);
    return source ? std::move(*source) : nullptr;
  }
  // The distinct timestamps of records, in order; all of one must stand together.
  static std::vector<std::int64_t> times(const std::vector<Got>& got) {
    std::vector<std::int64_t> out;
    simdjson::dom::parser parser;
    for (const Got& one : got) {
      const std::int64_t time_ms = parser.parse(one.bytes)["timestamp"].get_int64();
      if (out.empty() || out.back() != time_ms) out.push_back(time_ms);
    }
    return out;
  }
  ScratchDirectory scratch_;
  std::int64_t now_ms_ = 1'763'900'000'250;
};

TEST_F(HostSourceTest, WritesTheGoldenRecords) {
  auto source = open_ok(options());
  show("second", scratch_ / "proc");
  std::vector<Got> got;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  EXPECT_THAT(got, IsEmpty());
  now_ms_ = 1'763'900'001'004;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  std::string written;
  for (const Got& one : got) {
    written += one.bytes + "\n";
    EXPECT_EQ(one.arrival_ms, now_ms_);
  }
  EXPECT_EQ(written, contents(kGolden + "expected.ndjson"));
}

TEST_F(HostSourceTest, ALateWakeUpSkipsAndNeverBunches) {
  auto source = open_ok(options());
  std::vector<Got> got;
  for (const std::int64_t now_ms : {1'763'900'001'000, 1'763'900'001'999, 1'763'900'002'001, 1'763'900'007'500,
                                    1'763'900'007'999, 1'763'900'008'000}) {
    now_ms_ = now_ms;
    EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  }
  EXPECT_THAT(times(got), ElementsAre(1'763'900'001'000, 1'763'900'002'000, 1'763'900'007'000, 1'763'900'008'000));
  EXPECT_EQ(source->samples_skipped(), 4U);
}

TEST_F(HostSourceTest, AClockSetBackDoesNotSilenceIt) {
  auto source = open_ok(options());
  std::vector<Got> got;
  now_ms_ += 1000;
  drain(*source, 0, got).value();
  got.clear();
  now_ms_ -= 3'600'000;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  now_ms_ += 1000;
  EXPECT_EQ(*drain(*source, 0, got), ReadState::kIdle);
  EXPECT_THAT(times(got), SizeIs(1));
}

TEST_F(HostSourceTest, ARestartBringsTheKeptSamplesFirst) {
  std::vector<Got> before;
  {
    auto source = open_ok(options());
    now_ms_ += 1000;
    drain(*source, 0, before).value();
    ASSERT_FALSE(before.empty());
  }
  now_ms_ += 60'000;
  auto source = open_ok(options());
  std::vector<Got> after;
  EXPECT_EQ(*drain(*source, 0, after), ReadState::kIdle);
  EXPECT_EQ(after, before);
  now_ms_ += 1000;
  EXPECT_EQ(*drain(*source, 0, after), ReadState::kIdle);
  EXPECT_THAT(times(after), SizeIs(2));
  EXPECT_EQ(after[before.size()].offset, static_cast<std::int64_t>(before.size()));
}

TEST_F(HostSourceTest, StopWakesItAndEndsIt) {
  auto live = options();
  live.now_ms = {};
  live.interval_ms = 3'600'000;
  auto source = open_ok(live);
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    source->stop();
  });
  std::vector<Got> got;
  EXPECT_EQ(*read_into(*source, 0, got, 100, std::chrono::milliseconds(60'000)), ReadState::kEnd);
}

TEST_F(HostSourceTest, LiveSamplesComeAtTheirInterval) {
  auto live = options();
  live.now_ms = {};
  live.interval_ms = 100;
  auto source = open_ok(live);
  std::vector<Got> got;
  while (times(got).size() < 3) {
    ASSERT_TRUE(read_into(*source, 0, got, 1000, std::chrono::milliseconds(5000)));
  }
  const auto at = times(got);
  for (std::size_t i = 0; i < at.size(); ++i) {
    EXPECT_EQ(at[i] % 100, 0);
    if (i > 0) {
      EXPECT_GE(at[i] - at[i - 1], 100);
    }
  }
}

TEST_F(HostSourceTest, RefusesWhatCannotWork) {
  auto quick = options();
  quick.interval_ms = 5;
  EXPECT_THAT(HostSource::create(quick).error().message, AllOf(HasSubstr("100ms"), HasSubstr("5ms")));
  auto nowhere = options();
  nowhere.proc_root = scratch_ / "nothing";
  EXPECT_EQ(HostSource::create(nowhere).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace alcedo::ingest
