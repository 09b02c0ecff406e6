// Parses /proc by hand: the files are small, their formats are frozen kernel interfaces, and a missing one must not
// matter.
#include "ingest/host_metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <set>
#include <type_traits>

namespace alcedo::ingest {
namespace {

constexpr std::size_t kFileBytesMax = 1 << 20;
constexpr std::size_t kDevicesMax = 32;
constexpr std::size_t kTopProcesses = 5;
constexpr std::size_t kProcessesMax = 100'000;
constexpr double kSectorBytes = 512;  // whatever the device's own sector size is (iostats.rst)

// Takes the next run of characters other than spaces; empty at the end.
std::string_view next_word(std::string_view& text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    text = {};
    return {};
  }
  const std::size_t end = text.find_first_of(" \t", begin);
  const std::string_view word = text.substr(begin, end == std::string_view::npos ? end : end - begin);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end);
  return word;
}

std::string_view next_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  return line;
}

template <typename T = std::uint64_t>
std::optional<T> number(std::string_view word) {
  T value{};
  const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (failure != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  // Text can spell them, a metric cannot.
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return std::nullopt;
  }
  return value;
}

// The numbers of a line from here on; stops at the first word that is none.
std::vector<std::uint64_t> numbers(std::string_view text) {
  std::vector<std::uint64_t> values;
  for (auto word = next_word(text); !word.empty(); word = next_word(text)) {
    const auto value = number(word);
    if (!value) break;
    values.push_back(*value);
  }
  return values;
}

bool starts_with_any(std::string_view name, std::initializer_list<std::string_view> prefixes) {
  return std::ranges::any_of(prefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// sda1 of sda, nvme0n1p2 of nvme0n1.
bool is_partition_of(std::string_view name, std::string_view disk) {
  if (name.size() <= disk.size() || !name.starts_with(disk)) return false;
  std::string_view rest = name.substr(disk.size());
  if (disk.back() >= '0' && disk.back() <= '9') {
    if (rest.front() != 'p') return false;
    rest.remove_prefix(1);
  }
  return all_digits(rest);
}

// /proc/mounts writes space, tab, newline and backslash as \ooo.
std::string unescape_mount(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      int code = 0;
      const auto [end, failure] = std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8);
      if (failure == std::errc{} && end == text.data() + i + 4 && code < 256) {
        out.push_back(static_cast<char>(code));
        i += 3;
        continue;
      }
    }
    out.push_back(text[i]);
  }
  return out;
}

// Kernel workers carry what they are doing in their names; one name for all of them keeps the series few.
std::string command_group(std::string_view command) {
  return std::string(command.starts_with("kworker/") ? command.substr(0, 7) : command);
}

std::optional<FilesystemSpace> ask_statvfs(const std::string& mount_point) {
  struct statvfs info{};
  if (::statvfs(mount_point.c_str(), &info) != 0) return std::nullopt;
  const auto unit = static_cast<std::uint64_t>(info.f_frsize);
  return FilesystemSpace{info.f_blocks * unit, info.f_bfree * unit, info.f_bavail * unit};
}

double share(std::uint64_t part, std::uint64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

// Counters of the CPUs that go backwards (a CPU was taken offline) count as unchanged.
std::uint64_t grown(std::uint64_t now, std::uint64_t before) { return now > before ? now - before : 0; }

}  // namespace

HostMetrics::HostMetrics(std::string proc_root, StatFilesystem stat_filesystem)
    : proc_root_(std::move(proc_root)), stat_filesystem_(stat_filesystem ? std::move(stat_filesystem) : ask_statvfs) {}

std::optional<std::string> HostMetrics::read(std::string_view name) const {
  std::string path = proc_root_;
  path += '/';
  path += name;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string text;
  std::array<char, 16384> chunk;
  ssize_t got = 0;
  while (text.size() < kFileBytesMax &&
         ((got = ::read(fd, chunk.data(), chunk.size())) > 0 || (got < 0 && errno == EINTR))) {
    if (got > 0) text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  if (got < 0) return std::nullopt;
  return text;
}

std::string HostMetrics::host_name() const {
  auto name = read("sys/kernel/hostname");
  if (name) {
    while (!name->empty() && (name->back() == '\n' || name->back() == ' ')) name->pop_back();
  }
  return name && !name->empty() ? *name : "localhost";
}

std::vector<HostMetrics::Sample> HostMetrics::sample() {
  std::vector<Sample> out;
  std::uint64_t cpu_ticks = 0;
  sample_stat(out, cpu_ticks);
  sample_load(out);
  sample_memory(out);
  sample_disks(out);
  sample_filesystems(out);
  sample_network(out);
  sample_pressure(out);
  sample_processes(out, cpu_ticks);
  return out;
}

void HostMetrics::sample_stat(std::vector<Sample>& out, std::uint64_t& cpu_ticks) {
  const auto text = read("stat");
  if (!text) return;
  std::string_view left = *text;
  while (!left.empty()) {
    std::string_view line = next_line(left);
    const std::string_view name = next_word(line);
    if (name == "cpu") {
      auto ticks = numbers(line);
      if (ticks.size() < 4) continue;
      ticks.resize(8);  // older kernels know fewer kinds; guest time is part of user time
      const CpuTimes now{ticks[0] + ticks[1], ticks[2] + ticks[5] + ticks[6], ticks[3], ticks[4], ticks[7]};
      if (cpu_before_) {
        const CpuTimes d{grown(now.user, cpu_before_->user), grown(now.system, cpu_before_->system),
                         grown(now.idle, cpu_before_->idle), grown(now.iowait, cpu_before_->iowait),
                         grown(now.steal, cpu_before_->steal)};
        cpu_ticks = d.total();
        if (cpu_ticks > 0) {
          out.push_back({"cpu_busy_ratio", "", share(d.user + d.system + d.steal, cpu_ticks)});
          out.push_back({"cpu_user_ratio", "", share(d.user, cpu_ticks)});
          out.push_back({"cpu_system_ratio", "", share(d.system, cpu_ticks)});
          out.push_back({"cpu_iowait_ratio", "", share(d.iowait, cpu_ticks)});
          out.push_back({"cpu_steal_ratio", "", share(d.steal, cpu_ticks)});
        }
      }
      cpu_before_ = now;
      continue;
    }
    const auto value = number(next_word(line));
    if (!value) continue;
    if (name == "ctxt") out.push_back({"context_switches_total", "", static_cast<double>(*value)});
    if (name == "procs_running") out.push_back({"processes_running", "", static_cast<double>(*value)});
    if (name == "procs_blocked") out.push_back({"processes_blocked", "", static_cast<double>(*value)});
  }
}

void HostMetrics::sample_load(std::vector<Sample>& out) const {
  const auto text = read("loadavg");
  if (!text) return;
  std::string_view left = *text;
  if (const auto load = number<double>(next_word(left))) out.push_back({"load_average_1m", "", *load});
}

void HostMetrics::sample_memory(std::vector<Sample>& out) const {
  const auto text = read("meminfo");
  if (!text) return;
  std::map<std::string_view, std::uint64_t> kilobytes;
  std::string_view left = *text;
  while (!left.empty()) {
    std::string_view line = next_line(left);
    std::string_view name = next_word(line);
    if (!name.ends_with(':')) continue;
    name.remove_suffix(1);
    if (const auto value = number(next_word(line))) kilobytes.emplace(name, *value);
  }
  const auto total = kilobytes.find("MemTotal");
  const auto available = kilobytes.find("MemAvailable");
  if (total != kilobytes.end() && available != kilobytes.end() && total->second > 0) {
    out.push_back({"memory_used_ratio", "", share(grown(total->second, available->second), total->second)});
    out.push_back({"memory_available_bytes", "", static_cast<double>(available->second) * 1024});
  }
  const auto swap = kilobytes.find("SwapTotal");
  const auto swap_free = kilobytes.find("SwapFree");
  if (swap != kilobytes.end() && swap_free != kilobytes.end() && swap->second > 0) {
    out.push_back({"swap_used_ratio", "", share(grown(swap->second, swap_free->second), swap->second)});
  }
}

void HostMetrics::sample_disks(std::vector<Sample>& out) const {
  const auto text = read("diskstats");
  if (!text) return;
  struct Disk {
    std::string_view name;
    std::vector<std::uint64_t> counters;
  };
  std::vector<Disk> disks;
  std::string_view left = *text;
  while (!left.empty()) {
    std::string_view line = next_line(left);
    next_word(line);  // major
    next_word(line);  // minor
    const std::string_view name = next_word(line);
    auto counters = numbers(line);
    if (name.empty() || counters.size() < 11) continue;
    if (starts_with_any(name, {"loop", "ram", "zram", "dm-", "md", "sr", "fd"})) continue;
    disks.push_back({name, std::move(counters)});
  }
  std::size_t shown = 0;
  for (const Disk& disk : disks) {
    if (std::ranges::any_of(disks, [&](const Disk& other) { return is_partition_of(disk.name, other.name); })) continue;
    if (std::ranges::all_of(disk.counters, [](std::uint64_t counter) { return counter == 0; })) continue;
    if (++shown > kDevicesMax) break;
    const auto counter = [&](std::size_t i) { return static_cast<double>(disk.counters[i]); };
    const std::string device(disk.name);
    out.push_back({"disk_reads_total", device, counter(0)});
    out.push_back({"disk_read_bytes_total", device, counter(2) * kSectorBytes});
    out.push_back({"disk_writes_total", device, counter(4)});
    out.push_back({"disk_written_bytes_total", device, counter(6) * kSectorBytes});
    out.push_back({"disk_busy_seconds_total", device, counter(9) / 1000});
  }
}

void HostMetrics::sample_filesystems(std::vector<Sample>& out) const {
  const auto text = read("mounts");
  if (!text) return;
  std::set<std::string_view> devices;  // a bind mount shows the same file system again
  std::string_view left = *text;
  while (!left.empty() && devices.size() < kDevicesMax) {
    std::string_view line = next_line(left);
    const std::string_view device = next_word(line);
    const std::string mount_point = unescape_mount(next_word(line));
    const std::string_view type = next_word(line);
    const bool on_disk = device.starts_with("/dev/") && type != "squashfs" && type != "iso9660" && type != "udf";
    const bool pool = type == "zfs" || type == "btrfs";
    const bool container_root = type == "overlay" && mount_point == "/";
    if (!(on_disk || pool || container_root) || device == "/dev/fuse") continue;
    // Inside a container single files are mounted over; their file system is the host's.
    if (starts_with_any(mount_point, {"/etc/", "/proc/", "/sys/", "/dev/"})) continue;
    if (!devices.insert(device).second) continue;
    const auto space = stat_filesystem_(mount_point);
    if (!space || space->total_bytes == 0) continue;
    // As df counts: what root keeps for itself is neither used nor free.
    const std::uint64_t used = grown(space->total_bytes, space->free_bytes);
    if (used + space->available_bytes == 0) continue;
    out.push_back({"filesystem_used_ratio", mount_point, share(used, used + space->available_bytes)});
    out.push_back({"filesystem_available_bytes", mount_point, static_cast<double>(space->available_bytes)});
  }
}

void HostMetrics::sample_network(std::vector<Sample>& out) const {
  const auto text = read("net/dev");
  if (!text) return;
  std::string_view left = *text;
  std::size_t shown = 0;
  while (!left.empty() && shown < kDevicesMax) {
    std::string_view line = next_line(left);
    const std::size_t colon = line.rfind(':');  // "eth0:1" is an alias's name
    if (colon == std::string_view::npos) continue;
    std::string_view before = line.substr(0, colon);
    const std::string device(next_word(before));
    const auto counters = numbers(line.substr(colon + 1));
    if (device.empty() || device == "lo" || counters.size() < 12 || (counters[0] == 0 && counters[8] == 0)) continue;
    ++shown;
    const auto counter = [&](std::size_t i) { return static_cast<double>(counters[i]); };
    out.push_back({"network_receive_bytes_total", device, counter(0)});
    out.push_back({"network_receive_packets_total", device, counter(1)});
    out.push_back({"network_receive_errors_total", device, counter(2)});
    out.push_back({"network_receive_drops_total", device, counter(3)});
    out.push_back({"network_transmit_bytes_total", device, counter(8)});
    out.push_back({"network_transmit_packets_total", device, counter(9)});
    out.push_back({"network_transmit_errors_total", device, counter(10)});
    out.push_back({"network_transmit_drops_total", device, counter(11)});
  }
}

void HostMetrics::sample_pressure(std::vector<Sample>& out) const {
  struct Resource {
    std::string_view file;
    std::string_view metric;
  };
  for (const Resource& resource :
       {Resource{"pressure/cpu", "pressure_cpu_ratio"}, Resource{"pressure/memory", "pressure_memory_ratio"},
        Resource{"pressure/io", "pressure_io_ratio"}}) {
    const auto text = read(resource.file);
    if (!text) continue;
    std::string_view left = *text;
    std::string_view line = next_line(left);
    if (next_word(line) != "some") continue;
    std::string_view field = next_word(line);
    constexpr std::string_view kField = "avg10=";
    if (!field.starts_with(kField)) continue;
    if (const auto percent = number<double>(field.substr(kField.size())))
      out.push_back({resource.metric, "", *percent / 100});
  }
}

void HostMetrics::sample_processes(std::vector<Sample>& out, std::uint64_t cpu_ticks) {
  DIR* listing = ::opendir(proc_root_.c_str());
  if (listing == nullptr) return;
  std::map<ProcessId, std::uint64_t> ticks_now;
  std::map<std::string, std::uint64_t> ticks_by_command;
  std::size_t processes = 0;
  while (const dirent* entry = ::readdir(listing)) {
    const auto pid = number<std::int64_t>(entry->d_name);
    if (!pid || ++processes > kProcessesMax) continue;
    const auto text = read(std::string(entry->d_name) + "/stat");
    if (!text) continue;  // it ended meanwhile
    // The command stands in parentheses and may hold any byte, parentheses too.
    const std::size_t open = text->find('(');
    const std::size_t close = text->rfind(')');
    if (open == std::string::npos || close == std::string::npos || close < open) continue;
    std::string_view fields = std::string_view(*text).substr(close + 1);
    next_word(fields);  // state; then fields 4, 5, …
    std::vector<std::optional<std::int64_t>> values;
    for (int field = 4; field <= 22; ++field) values.push_back(number<std::int64_t>(next_word(fields)));
    const auto user = values[14 - 4];
    const auto system = values[15 - 4];
    const auto start = values[22 - 4];
    if (!user || !system || !start) continue;
    const auto ticks = static_cast<std::uint64_t>(*user + *system);
    const ProcessId id{*pid, static_cast<std::uint64_t>(*start)};
    ticks_now.emplace(id, ticks);
    if (!processes_known_) continue;
    const auto before = process_ticks_before_.find(id);
    // A process that began since then used all its time since then.
    const std::uint64_t used = grown(ticks, before == process_ticks_before_.end() ? 0 : before->second);
    if (used > 0) ticks_by_command[command_group(std::string_view(*text).substr(open + 1, close - open - 1))] += used;
  }
  ::closedir(listing);
  process_ticks_before_ = std::move(ticks_now);
  processes_known_ = true;
  if (processes > 0) out.push_back({"processes_count", "", static_cast<double>(processes)});
  if (cpu_ticks == 0) return;
  std::vector<std::pair<std::string, std::uint64_t>> top(ticks_by_command.begin(), ticks_by_command.end());
  std::ranges::stable_sort(top, std::greater<>{}, &std::pair<std::string, std::uint64_t>::second);
  if (top.size() > kTopProcesses) top.resize(kTopProcesses);
  for (auto& [command, ticks] : top) {
    out.push_back({"process_cpu_ratio", std::move(command), std::min(1.0, share(ticks, cpu_ticks))});
  }
}

}  // namespace alcedo::ingest
