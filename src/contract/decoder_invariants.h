// What must hold of decoding whatever the bytes are: one list for the fuzzer, for the replay of its corpus and for
// mutation tests.
#pragma once

#include <simdjson.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "contract/decoder.h"
#include "contract/record_splitter.h"
#include "core/check.h"

namespace alcedo::contract {

/// Aborts where an invariant is broken. The first byte chooses format, shape and contract; the rest is a stream of
/// records.
class DecoderInvariants {
 public:
  DecoderInvariants() {
    contract_path_ =
        (std::filesystem::temp_directory_path() / ("alcedo_decoder_" + std::to_string(::getpid()) + ".avsc")).string();
    std::ofstream(contract_path_) << R"({"type":"record","name":"Fuzzed","fields":[
      {"name":"id","type":"string"},{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}},
      {"name":"a","type":["null","double"]},{"name":"c","type":["null","string"],"default":null},
      {"name":"k","type":["null","long","string"]},{"name":"v","type":"double","default":0},
      {"name":"m","type":{"type":"enum","name":"M","symbols":["x","y_total"]},"default":"x"},{"name":"b","type":["null","boolean"]}]})";
    for (unsigned choice = 0; choice <= kChoices; ++choice) decoders_.push_back(make_decoder(choice));
    std::filesystem::remove(contract_path_);
  }

  static constexpr unsigned kChoices = 16;
  static constexpr char kTextFirst = '\xFF';  // as the first byte: lines of text, a choice beyond these

  void check(std::string_view data) {
    if (data.empty()) return;
    const unsigned choice = data[0] == kTextFirst ? kChoices : static_cast<unsigned char>(data[0]) % kChoices;
    const Format format = format_of(choice);
    RecordSplitter splitter(format);
    splitter.feed(data.substr(1));
    splitter.finish();
    RawBatch raw;
    std::string_view bytes;
    for (bool too_long = false; splitter.next(bytes, too_long);) {
      CHECK(bytes.size() <= Decoder::kRecordBytesMax);
      CHECK(too_long == (bytes.size() == Decoder::kRecordBytesMax));
      RawRecord record;
      record.offset = static_cast<std::int64_t>(raw.size());
      record.label = kNormal;
      raw.append(bytes, record);
    }
    raw.pad();
    const Decoder& decoder = decoders_[choice];
    EventBatch once(decoder.layout()), again(decoder.layout());
    const std::size_t rows = decoder.events_per_record_max();
    Decoder::Scratch scratch;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      once.reset(rows, 1);
      again.reset(rows, 1);
      Decoder::Scratch fresh;
      const Decoded decoded = decoder.decode(raw, i, once, 0, 0, scratch);
      const Decoded repeated = decoder.decode(raw, i, again, 0, 0, fresh);
      CHECK(decoded.events <= rows);
      CHECK(decoded.reject == repeated.reject && decoded.events == repeated.events &&
            decoded.message == repeated.message);
      CHECK((decoded.reject == Reject::kNone) == decoded.message.empty());
      CHECK(decoded.reject == Reject::kNone || decoded.events == 0);
      CHECK(to_string(decoded.reject) != "unknown");
      check_message(decoded.message);
      for (std::uint32_t row = 0; row < decoded.events; ++row) check_row(once, again, row);
      if (format == Format::kJson) compare_with_dom(raw.bytes(i), decoded);
    }
  }

 private:
  static Format format_of(unsigned choice) {
    if (choice == kChoices) return Format::kText;
    return choice % 2 == 1 ? Format::kCsv : Format::kJson;
  }

  Decoder make_decoder(unsigned choice) const {
    const auto field = [](const char* name) { return KeyPart{KeyPart::Kind::kField, name}; };
    EventsSpec spec;
    spec.shape = static_cast<Shape>(choice / 2 % 4 % 3);
    spec.time.field = "t";
    if (choice / 8 == 1) spec.contract_path = contract_path_;
    spec.keys = {{"k", {field("k")}}, {"kb", {field("k"), {KeyPart::Kind::kFileName, ""}, field("b")}}};
    spec.keys.push_back({"cell", {{KeyPart::Kind::kCell, "v", "v"}, field("k")}});
    if (format_of(choice) == Format::kText) {
      spec.shape = Shape::kRecord;
      spec.contract_path.clear();
      spec.line = "{id} [{t}] {a} {c}/{k}|{v} {b} {label}: {message}";
      spec.keys.push_back({"template", {{KeyPart::Kind::kTemplate, "message"}, field("k")}});
    }
    if (spec.shape == Shape::kRecord) {
      spec.id_field = "id";
      spec.private_fields = {"id"};
      spec.money_amount = "a";
      spec.money_currency = "c";
      spec.numbers = {{"a", true}, {"v", false}};
      spec.label_field = "label";
    } else {
      spec.metric_field = "m";
      spec.value_field = "v";
      if (spec.shape == Shape::kWide) spec.values = {"v", "a"};
      spec.counters = {"*_total"};
      spec.numbers = {{"value", false}};
      spec.keys.push_back({"m", {{KeyPart::Kind::kMetric, ""}, {KeyPart::Kind::kConstant, "x|y"}}});
    }
    auto decoder = Decoder::create(spec, {1, 2, 3});
    if (!decoder) std::fprintf(stderr, "%s\n", decoder.error().message.c_str());
    CHECK(decoder.has_value());
    PartitionInfo info;
    info.file = "fuzz";
    info.format = format_of(choice);
    if (info.format == Format::kCsv) info.header = {"id", "t", "a", "c", "k", "v", "m", "b", "label"};
    CHECK(decoder->open_partition(0, info).has_value());
    return std::move(*decoder);
  }

  // A message goes to terminals and JSON: whole characters, and none that acts.
  static void check_message(std::string_view message) {
    CHECK(simdjson::validate_utf8(message.data(), message.size()));
    for (const char c : message) CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F);
    CHECK(message.size() < 1000);
  }

  static void check_row(const EventBatch& once, const EventBatch& again, std::uint32_t row) {
    const EventHeader& header = once.header(row);
    CHECK(header.time_ms >= -62'135'596'800'000 && header.time_ms <= 253'402'300'799'999);
    CHECK(!header.id.empty() && header.id == again.header(row).id && header.id_hash == again.header(row).id_hash);
    CHECK(header.time_ms == again.header(row).time_ms && header.label == again.header(row).label &&
          header.label != kUnlabelled);
    for (std::size_t i = 0; i < once.num_numbers(); ++i) {
      const double number = once.number(row, i);
      CHECK(std::isfinite(number) || std::isnan(number));
      CHECK(number == again.number(row, i) || (std::isnan(number) && std::isnan(again.number(row, i))));
    }
    for (std::size_t i = 0; i < once.num_keys(); ++i) {
      const Key& key = once.key(row, i);
      CHECK(key.hash == again.key(row, i).hash && key.text == again.key(row, i).text && key.group < kKeyGroups);
      CHECK(key.hash == 0 || key.hash == hash64(key.text));
      CHECK(simdjson::validate_utf8(key.text.data(), key.text.size()));
    }
  }

  // simdjson's other parser is the oracle of what is JSON. It refuses numbers that no double or 64-bit integer holds,
  // and takes halves of surrogate pairs; there the two may differ.
  void compare_with_dom(std::string_view bytes, const Decoded& decoded) {
    if (decoded.reject == Reject::kTooLong || bytes.find("\\u") != std::string_view::npos) return;
    if (bytes.starts_with("\xEF\xBB\xBF")) return;
    if (decoded.message.find("nested deeper") != std::string::npos) return;
    simdjson::dom::element element;
    const auto fault = dom_.parse(simdjson::padded_string(bytes)).get(element);
    const bool ours = decoded.reject != Reject::kMalformed && decoded.reject != Reject::kInvalidUtf8;
    const bool theirs = fault == simdjson::SUCCESS && element.is_object();
    CHECK(ours || !theirs);
    CHECK(theirs || !ours || fault == simdjson::NUMBER_ERROR);
  }

  std::string contract_path_;
  std::vector<Decoder> decoders_;
  simdjson::dom::parser dom_;
};

}  // namespace alcedo::contract
