// What a log line costs: masking, which decoders do in parallel, and mining, which one thread does for all.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "contract/template_miner.h"
#include "core/prng.h"

namespace alcedo::contract {
namespace {

std::vector<std::string> messages() {
  Prng random(1);
  std::vector<std::string> made;
  for (int i = 0; i < 4096; ++i) {
    const std::string address =
        fmt::format("/10.250.{}.{}:{}", random.below(255), random.below(255), random.below(60000));
    const std::string block = fmt::format("blk_-{}", random.next());
    switch (random.below(4)) {
      case 0:
        made.push_back(fmt::format("Receiving block {} src: {} dest: {}", block, address, address));
        break;
      case 1:
        made.push_back(fmt::format("PacketResponder {} for block {} terminating", random.below(3), block));
        break;
      case 2:
        made.push_back(fmt::format("BLOCK* NameSystem.addStoredBlock: blockMap updated: {} is added to {} size {}",
                                   address, block, random.below(1 << 26)));
        break;
      default:
        made.push_back(fmt::format("Received block {} of size {} from {}", block, random.below(1 << 26), address));
    }
  }
  return made;
}

void mask(benchmark::State& state) {
  const auto lines = messages();
  std::string masked;
  std::size_t bytes = 0;
  for (auto _ : state) {
    for (const std::string& line : lines) {
      mask_message(line, masked);
      bytes += line.size();
    }
    benchmark::DoNotOptimize(masked.data());
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * lines.size()));
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
}

void mine(benchmark::State& state) {
  std::vector<std::string> lines = messages();
  for (std::string& line : lines) {
    std::string masked;
    mask_message(line, masked);
    line = masked;
  }
  TemplateMiner miner;
  std::uint64_t sum = 0;
  for (auto _ : state) {
    for (const std::string& line : lines) sum += miner.mine(line);
  }
  benchmark::DoNotOptimize(sum);
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * lines.size()));
}

BENCHMARK(mask);
BENCHMARK(mine);

}  // namespace
}  // namespace alcedo::contract
