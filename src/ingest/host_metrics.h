// What a Linux machine says about itself in /proc, as named numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace alcedo::ingest {

/// Used and free space of one mounted file system.
struct FilesystemSpace {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;       // for root
  std::uint64_t available_bytes = 0;  // for everybody
};

/// Reads a proc tree. What is missing or unreadable (containers, other kernels) leaves its metrics out, nothing more.
///
///   cpu_busy_ratio, cpu_user_ratio, cpu_system_ratio, cpu_iowait_ratio, cpu_steal_ratio   of all CPUs, since the last
///   sample load_average_1m memory_used_ratio, memory_available_bytes, swap_used_ratio disk_reads_total,
///   disk_writes_total, disk_read_bytes_total, disk_written_bytes_total, disk_busy_seconds_total      by disk
///   filesystem_used_ratio, filesystem_available_bytes                                                        by mount
///   point network_{receive,transmit}_{bytes,packets,errors,drops}_total                                             by
///   interface pressure_cpu_ratio, pressure_memory_ratio, pressure_io_ratio   share of the last 10 s in which some task
///   waited for it processes_count, processes_running, processes_blocked, context_switches_total process_cpu_ratio   of
///   all CPUs since the last sample, by command name, the highest 5
///
/// Real disks only (no loop, ram, zram, dm, md, optical; no partitions), network interfaces that ever moved a byte and
/// are not lo, file systems on a block device and the container root; network file systems are left out, since asking a
/// dead one never returns. At most 32 each. Source  Linux, Documentation/filesystems/proc.rst,
/// Documentation/admin-guide/iostats.rst, accounting/psi.rst.
///
/// Threads  One at a time.   Cost  about 10 us a process and 20 us a file of the tree.
class HostMetrics {
 public:
  struct Sample {
    std::string_view name;  // a constant
    std::string device;     // disk, mount point, interface, command; empty: the machine
    double value = 0;
  };
  using StatFilesystem = std::function<std::optional<FilesystemSpace>(const std::string& mount_point)>;

  /// `stat_filesystem` unset: statvfs().
  explicit HostMetrics(std::string proc_root = "/proc", StatFilesystem stat_filesystem = {});

  /// All metrics now, in a fixed order. Ratios since the last sample need one before.
  std::vector<Sample> sample();

  /// The kernel's host name, "localhost" if there is none.
  std::string host_name() const;

 private:
  struct CpuTimes {
    std::uint64_t user = 0, system = 0, idle = 0, iowait = 0, steal = 0;
    std::uint64_t total() const { return user + system + idle + iowait + steal; }
  };
  using ProcessId = std::pair<std::int64_t, std::uint64_t>;  // pid, start time: a pid is used again

  std::optional<std::string> read(std::string_view name) const;
  void sample_stat(std::vector<Sample>& out, std::uint64_t& cpu_ticks);
  void sample_load(std::vector<Sample>& out) const;
  void sample_memory(std::vector<Sample>& out) const;
  void sample_disks(std::vector<Sample>& out) const;
  void sample_filesystems(std::vector<Sample>& out) const;
  void sample_network(std::vector<Sample>& out) const;
  void sample_pressure(std::vector<Sample>& out) const;
  void sample_processes(std::vector<Sample>& out, std::uint64_t cpu_ticks);

  std::string proc_root_;
  StatFilesystem stat_filesystem_;
  std::optional<CpuTimes> cpu_before_;
  std::map<ProcessId, std::uint64_t> process_ticks_before_;
  bool processes_known_ = false;
};

}  // namespace alcedo::ingest
