// What decoding costs beside the least that simdjson could do with the same bytes: walk over fields, read no value.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <simdjson.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "contract/decoder.h"
#include "core/prng.h"

namespace alcedo::contract {
namespace {

constexpr std::size_t kRecords = 1024;

std::string payment_json(Prng& random) {
  return fmt::format(
      R"({{"payment_id":"{:016x}","occurred_at":{},"card_id":"card-{:07}","merchant_id":"m-{:05}","device_id":"dev-{:06}","merchant_category":"{}","amount":{}.{:02},"currency":"EUR","latitude":{:.4f},"longitude":{:.4f},"channel":"POS","country":"DE"}})",
      random.next(), 1'700'000'000'000 + random.below(1'000'000'000), random.below(1'000'000), random.below(50'000),
      random.below(100'000), 5000 + random.below(100), random.below(1000), random.below(100),
      random.uniform() * 180 - 90, random.uniform() * 360 - 180);
}

std::string payment_csv(Prng& random) {
  return fmt::format("{:016x},{},card-{:07},m-{:05},dev-{:06},{},{}.{:02},EUR,{:.4f},{:.4f},POS,DE", random.next(),
                     1'700'000'000'000 + random.below(1'000'000'000), random.below(1'000'000), random.below(50'000),
                     random.below(100'000), 5000 + random.below(100), random.below(1000), random.below(100),
                     random.uniform() * 180 - 90, random.uniform() * 360 - 180);
}

EventsSpec payments(const std::string& contract_path, bool hashed) {
  EventsSpec spec;
  spec.contract_path = contract_path;
  spec.id_field = "payment_id";
  spec.time.field = "occurred_at";
  spec.money_amount = "amount";
  spec.money_currency = "currency";
  if (hashed) spec.private_fields = {"card_id"};
  const auto field = [](std::string name) { return KeyPart{KeyPart::Kind::kField, std::move(name)}; };
  spec.keys = {{"card", {field("card_id")}},
               {"merchant", {field("merchant_id")}},
               {"device", {field("device_id")}},
               {"card/currency", {field("card_id"), field("currency")}}};
  spec.numbers = {{"amount", true}, {"latitude", false}, {"longitude", false}};
  return spec;
}

std::string write_contract() {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("alcedo_decoder_bench_{}.avsc", ::getpid());
  std::ofstream(path) << R"({"type":"record","name":"Payment","fields":[{"name":"payment_id","type":"string"},
    {"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"card_id","type":"string"},
    {"name":"merchant_id","type":"string"},{"name":"device_id","type":["null","string"]},{"name":"merchant_category","type":"string"},
    {"name":"amount","type":"double"},{"name":"currency","type":"string"},{"name":"latitude","type":["null","double"]},
    {"name":"longitude","type":["null","double"]},{"name":"channel","type":"string"},{"name":"country","type":"string"}]})";
  return path.string();
}

RawBatch batch_of(std::string (*record)(Prng&)) {
  RawBatch raw;
  Prng random(1);
  for (std::size_t i = 0; i < kRecords; ++i) {
    RawRecord header;
    header.offset = static_cast<std::int64_t>(i);
    raw.append(record(random), header);
  }
  raw.pad();
  return raw;
}

void decode_all(benchmark::State& state, const EventsSpec& spec, const RawBatch& raw, const PartitionInfo& info) {
  auto decoder = Decoder::create(spec, {1, 2, 3});
  if (!decoder || !decoder->open_partition(0, info)) {
    state.SkipWithError("the decoder refused the pipeline");
    return;
  }
  EventBatch events(decoder->layout());
  Decoder::Scratch scratch;
  std::uint64_t rejected = 0;
  for (auto _ : state) {
    events.reset(raw.size(), 1);
    for (std::size_t i = 0; i < raw.size(); ++i) rejected += decoder->decode(raw, i, events, i, 0, scratch).events == 0;
    benchmark::DoNotOptimize(events.header(0));
  }
  if (rejected > 0) state.SkipWithError("records were refused");
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * raw.size()));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * raw.size_bytes()));
}

void json_payments(benchmark::State& state, bool contract, bool hashed) {
  const std::string path = contract ? write_contract() : "";
  decode_all(state, payments(path, hashed), batch_of(payment_json), {});
  if (contract) std::filesystem::remove(path);
}

void csv_payments(benchmark::State& state) {
  const PartitionInfo info{"",
                           Format::kCsv,
                           {"payment_id", "occurred_at", "card_id", "merchant_id", "device_id", "merchant_category",
                            "amount", "currency", "latitude", "longitude", "channel", "country"}};
  decode_all(state, payments("", false), batch_of(payment_csv), info);
}

// The floor: structure found, every key and value passed over.
void bare_simdjson(benchmark::State& state) {
  const RawBatch raw = batch_of(payment_json);
  simdjson::ondemand::parser parser;
  std::uint64_t sum = 0;
  for (auto _ : state) {
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const std::string_view bytes = raw.bytes(i);
      simdjson::ondemand::document document;
      simdjson::ondemand::object object;
      if (parser.iterate(bytes.data(), bytes.size(), bytes.size() + RawBatch::kPadding).get(document) ||
          document.get_object().get(object)) {
        std::abort();
      }
      for (auto field : object) sum += static_cast<std::uint64_t>(field.key().value_unsafe().raw()[0]);
    }
  }
  benchmark::DoNotOptimize(sum);
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * raw.size()));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * raw.size_bytes()));
}

BENCHMARK(bare_simdjson);
BENCHMARK_CAPTURE(json_payments, no_contract, false, false);
BENCHMARK_CAPTURE(json_payments, contract, true, false);
BENCHMARK_CAPTURE(json_payments, contract_private, true, true);
BENCHMARK(csv_payments);

}  // namespace
}  // namespace alcedo::contract
