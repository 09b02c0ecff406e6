// Alcedo's side of bench/peers: writes the events that every side reads, and computes a card's features of them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <span>
#include <string>
#include <vector>

#include "features/card_bench.h"
#include "features/stage.h"

namespace {

using namespace alcedo;
using features::FeaturePlan;

// One event as the file has it; little-endian, no header, one after the other.
struct Record {
  std::int64_t time_ms;
  std::uint64_t card;
  double amount;
  double latitude;
  double longitude;
};
static_assert(sizeof(Record) == 40 && std::endian::native == std::endian::little);

constexpr std::size_t kBatchRows = 1024;

struct Options {
  std::string file;
  std::uint64_t cards = 1'000'000;
  std::size_t first = 0;    // events of the file that are left out
  std::size_t warm_up = 0;  // events before those that are timed
  std::size_t events = 0;
  std::size_t every = 1;  // rows: of how many events one is printed
};

int fail(const std::string& message) {
  fmt::print(stderr, "card_features: {}\n", message);
  return 1;
}

int write_events(const Options& options) {
  std::FILE* file = std::fopen(options.file.c_str(), "wb");
  if (file == nullptr) return fail(fmt::format("{}: cannot be written: {}", options.file, std::strerror(errno)));
  features::testing::PaymentStream stream(options.cards, true);
  EventBatch batch(features::testing::payments_layout());
  std::vector<Record> records;
  bool written = true;
  for (std::size_t begin = 0; begin < options.events && written; begin += kBatchRows) {
    stream.next(batch, std::min(kBatchRows, options.events - begin));
    records.clear();
    for (const std::uint32_t row : batch.order) {
      const auto numbers = batch.numbers(row);
      records.push_back({batch.header(row).time_ms, batch.key(row, features::testing::kCard).hash, numbers[0],
                         numbers[1], numbers[2]});
    }
    written = std::fwrite(records.data(), sizeof(Record), records.size(), file) == records.size();
  }
  written = std::fclose(file) == 0 && written;
  return written ? 0 : fail(fmt::format("{}: not all was written: {}", options.file, std::strerror(errno)));
}

class EventFile {
 public:
  EventFile() = default;
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;
  ~EventFile() {
    if (!records_.empty()) munmap(const_cast<Record*>(records_.data()), records_.size_bytes());
  }
  // Empty: well; otherwise what is wrong.
  std::string open(const Options& options) {
    const int fd = ::open(options.file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fmt::format("{}: cannot be read: {}", options.file, std::strerror(errno));
    struct stat about{};
    fstat(fd, &about);
    const std::size_t events = static_cast<std::size_t>(about.st_size) / sizeof(Record);
    const std::size_t needed = options.first + options.warm_up + options.events;
    void* mapped = MAP_FAILED;
    if (events > 0) mapped = mmap(nullptr, events * sizeof(Record), PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) records_ = {static_cast<const Record*>(mapped), events};
    if (records_.size() >= needed) return "";
    return fmt::format("{}: has {} events; expected {} (write it anew)", options.file, records_.size(), needed);
  }
  std::span<const Record> records() const { return records_; }

 private:
  std::span<const Record> records_;
};

double clock_seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The card's stage, fed from the file.
class CardStage {
 public:
  CardStage()
      : plan_(*FeaturePlan::compile(features::testing::card_options())),
        stage_(plan_, 0),
        global_(plan_),
        batch_(plan_.options().layout),
        snapshots_(kBatchRows, 0) {}
  CardStage(const CardStage&) = delete;
  CardStage& operator=(const CardStage&) = delete;

  // Calls `take(row)` with the columns of each event.
  template <typename Take>
  void process(std::span<const Record> records, Take take) {
    for (std::size_t begin = 0; begin < records.size(); begin += kBatchRows) {
      const std::span part = records.subspan(begin, std::min(kBatchRows, records.size() - begin));
      batch_.reset(part.size(), 1);
      for (std::uint32_t row = 0; row < part.size(); ++row) {
        const Record& record = part[row];
        batch_.header(row) = EventHeader{};
        batch_.header(row).time_ms = record.time_ms;
        const auto numbers = batch_.numbers(row);
        numbers[0] = record.amount;
        numbers[1] = record.latitude;
        numbers[2] = record.longitude;
        batch_.keys(row)[features::testing::kCard].hash = record.card;
        batch_.order.push_back(row);
      }
      out_.reset(part.size(), plan_.columns().size());
      stage_.process(batch_, batch_.order, global_, snapshots_, out_);
      for (const std::uint32_t row : batch_.order) take(out_.row(row));
    }
  }

  const FeaturePlan& plan() const { return plan_; }
  const features::KeyedStage& stage() const { return stage_; }

 private:
  FeaturePlan plan_;
  features::KeyedStage stage_;
  features::GlobalBaselines global_;  // never fed: a cold card has nothing to be compared with, as in the peers
  EventBatch batch_;
  FeatureMatrix out_;
  std::vector<std::uint32_t> snapshots_;
};

int print_rows(const Options& options) {
  EventFile file;
  if (const std::string mistake = file.open(options); !mistake.empty()) return fail(mistake);
  CardStage stage;
  std::string line;
  for (const auto& column : stage.plan().columns()) line += (line.empty() ? "" : ",") + column.name;
  fmt::print("{}\n", line);
  std::size_t seen = 0;
  stage.process(file.records().first(options.events), [&](std::span<const float> row) {
    if (seen++ % options.every != 0) return;
    line.clear();
    for (const float value : row)
      line += std::isnan(value) ? (line.empty() ? "nan" : ",nan") : fmt::format("{}{}", line.empty() ? "" : ",", value);
    fmt::print("{}\n", line);
  });
  return 0;
}

int run(const Options& options) {
  EventFile file;
  if (const std::string mistake = file.open(options); !mistake.empty()) return fail(mistake);
  CardStage stage;
  struct Sum {
    std::uint64_t present = 0;
    double sum = 0;
  };
  std::vector<Sum> sums(stage.plan().columns().size());
  const auto take = [&](std::span<const float> row) {
    for (std::size_t column = 0; column < row.size(); ++column) {
      const float value = row[column];
      if (std::isnan(value)) continue;
      ++sums[column].present;
      sums[column].sum += static_cast<double>(value);
    }
  };
  const auto records = file.records().subspan(options.first);
  stage.process(records.first(options.warm_up), take);
  const std::size_t state_bytes = stage.stage().state_bytes();
  const double begin_s = clock_seconds(CLOCK_MONOTONIC);
  const double begin_cpu_s = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
  stage.process(records.subspan(options.warm_up, options.events), take);
  const double cpu_s = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu_s;
  const double seconds = clock_seconds(CLOCK_MONOTONIC) - begin_s;
  fmt::print(R"({{"events":{},"seconds":{:.6f},"cpu_seconds":{:.6f},"state_bytes":{},"columns":{{)", options.events,
             seconds, cpu_s, state_bytes);
  for (std::size_t column = 0; column < sums.size(); ++column) {
    fmt::print(R"({}"{}":{{"present":{},"sum":{:.17g}}})", column == 0 ? "" : ",", stage.plan().columns()[column].name,
               sums[column].present, sums[column].sum);
  }
  fmt::print("}}}}\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Writes payments to a file, and computes the features of their cards as Alcedo does.");
  app.require_subcommand(1);
  const auto command = [&](const char* name, const char* what) {
    CLI::App* sub = app.add_subcommand(name, what);
    sub->add_option("FILE", options.file, "records of 40 bytes: time_ms, card, amount, latitude, longitude")
        ->required();
    sub->add_option("--events", options.events, "how many events (run: that are timed)")
        ->required()
        ->check(CLI::PositiveNumber);
    return sub;
  };
  CLI::App* write = command("write", "one event of each card, then by Zipf's law, in all --events");
  write->add_option("--cards", options.cards, "how many cards")->check(CLI::Range(20, 1'000'000'000));
  CLI::App* rows = command("rows", "the columns of the first --events events as CSV");
  rows->add_option("--every", options.every, "of how many events one is printed, the first among them")
      ->check(CLI::PositiveNumber);
  CLI::App* timed = command("run", "time of --events events, and a checksum of each column, as JSON");
  timed->add_option("--first", options.first, "events of the file that are left out");
  timed->add_option("--warm-up", options.warm_up, "events before those that are timed; the checksums count them too");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& wrong) {
    return app.exit(wrong) == 0 ? 0 : 2;
  }
  if (write->parsed()) return write_events(options);
  return rows->parsed() ? print_rows(options) : run(options);
}
