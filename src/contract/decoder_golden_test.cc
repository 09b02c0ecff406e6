// Decoding cases as data: tests/golden/contract/*.txt, so that a case needs no C++.
//
// A file says first what the pipeline says of its events ("key: value" lines up to "---"), then records, each followed
// by what it must become ("=> …" lines). In records "<0a>" stands for the byte with that hexadecimal number.
// ALCEDO_UPDATE_GOLDEN=1 writes what the decoder gives now, to be read in the diff.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "contract/decoder.h"
#include "contract/record_splitter.h"
#include "core/time.h"

namespace alcedo::contract {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(ALCEDO_SOURCE_DIR) / "tests/golden/contract";

std::vector<std::string> words(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::vector<std::string> all;
  for (std::string word; in >> word;) all.push_back(word);
  return all;
}

std::string unescape(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<' && i + 3 < text.size() && text[i + 3] == '>') {
      bytes += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 3;
    } else {
      bytes += text[i];
    }
  }
  return bytes;
}

struct Golden {
  EventsSpec spec;
  PartitionInfo partition;
  std::int64_t first_row = 0;

  void read(const std::string& name, const std::string& value) {
    const std::vector<std::string> w = words(value);
    if (name == "shape") {
      spec.shape = value == "wide" ? Shape::kWide : value == "long" ? Shape::kLong : Shape::kRecord;
    } else if (name == "format") {
      partition.format = value == "csv" ? Format::kCsv : value == "text" ? Format::kText : Format::kJson;
    } else if (name == "line") {
      spec.line = value;
    } else if (name == "contract") {
      spec.contract_path = (kFolder / value).string();
    } else if (name == "delimiter") {
      spec.delimiter = unescape(value)[0];
    } else if (name == "header") {
      partition.header = split_csv_header(unescape(value), spec.delimiter);
    } else if (name == "file") {
      partition.file = value;
    } else if (name == "first_row") {
      first_row = std::stoll(value);
    } else if (name == "id") {
      spec.id_field = value;
    } else if (name == "time") {
      read_time(w, value);
    } else if (name == "money") {
      spec.money_amount = w[0];
      spec.money_currency = w[1];
    } else if (name == "private") {
      spec.private_fields = w;
    } else if (name == "metric") {
      spec.metric_field = value;
    } else if (name == "value") {
      spec.value_field = value;
    } else if (name == "values") {
      spec.values = w;
    } else if (name == "steps") {
      for (const std::string& step : w) {
        const auto equals = step.find('=');
        spec.steps.push_back({step.substr(0, equals), std::stod(step.substr(equals + 1))});
      }
    } else if (name == "counters") {
      spec.counters = w;
    } else if (name == "label") {
      spec.label_field = value;
    } else if (name == "label_type") {
      spec.label_type_field = value;
    } else if (name == "number") {
      spec.numbers.push_back({w[0], w.size() > 1 && w[1] == "money"});
    } else if (name == "key") {
      KeySpec key{w[0], {}};
      for (std::size_t i = 1; i < w.size(); ++i) {
        if (w[i] == "file") {
          key.parts.push_back({KeyPart::Kind::kFileName, ""});
        } else if (w[i] == "metric") {
          key.parts.push_back({KeyPart::Kind::kMetric, ""});
        } else if (w[i].starts_with("template:")) {
          key.parts.push_back({KeyPart::Kind::kTemplate, w[i].substr(9)});
        } else if (w[i].starts_with("cell:")) {
          const auto comma = w[i].find(',');
          key.parts.push_back({KeyPart::Kind::kCell, w[i].substr(5, comma - 5), w[i].substr(comma + 1)});
        } else if (w[i][0] == '=') {
          key.parts.push_back({KeyPart::Kind::kConstant, w[i].substr(1)});
        } else {
          key.parts.push_back({KeyPart::Kind::kField, w[i]});
        }
      }
      spec.keys.push_back(key);
    } else {
      ADD_FAILURE() << "unknown word '" << name << "'";
    }
  }

  void read_time(const std::vector<std::string>& w, const std::string& value) {
    if (w[0] == "row") {
      spec.time = {"", TimeUnit::kRow, "", *parse_iso_time_ms(w[2]), *parse_duration_ms(w[1])};
      return;
    }
    spec.time.field = w[0];
    if (w.size() == 1) return;
    const std::string& unit = w[1];
    spec.time.unit = unit == "s"    ? TimeUnit::kSeconds
                     : unit == "ms" ? TimeUnit::kMilliseconds
                     : unit == "us" ? TimeUnit::kMicroseconds
                     : unit == "ns" ? TimeUnit::kNanoseconds
                                    : TimeUnit::kFormat;
    if (spec.time.unit == TimeUnit::kFormat) {
      spec.time.format = value.substr(value.find("format ") + 7);
    } else if (w.size() == 4) {
      spec.time.start_ms = *parse_iso_time_ms(w[3]);
    }
  }
};

std::string dump(const Decoder& decoder, const EventBatch& batch, std::size_t row) {
  const EventHeader& header = batch.header(row);
  std::string text =
      fmt::format("=> {} id{}{}", format_iso_time(header.time_ms), header.id_hash == 0 ? "~" : "=", header.id);
  if (header.part > 0) text += fmt::format(" part={}", header.part);
  for (std::size_t i = 0; i < batch.num_numbers(); ++i) {
    const double number = batch.number(row, i);
    text += fmt::format(" {}={}", decoder.layout().numbers[i].name,
                        std::isnan(number) ? "(missing)" : fmt::format("{}", number));
  }
  for (std::size_t i = 0; i < batch.num_keys(); ++i) {
    const Key& key = batch.key(row, i);
    EXPECT_TRUE(key.hash == 0 || (key.hash == hash64(key.text) && key.group == key_group(key.text)));
    text +=
        fmt::format(" {}={}", decoder.layout().keys[i], key.hash == 0 ? "(missing)" : fmt::format("[{}]", key.text));
  }
  if (header.flags == kEventCounter) text += " counter";
  if (header.step != 0) text += fmt::format(" step={}", header.step);
  if (header.label == kNormal) text += " normal";
  if (header.label >= kFirstLabelType)
    text += fmt::format(" anomaly={}", decoder.label_types().at(header.label - kFirstLabelType));
  return text + "\n";
}

std::string run(const std::string& text) {
  std::istringstream in(text);
  std::string out;
  Golden golden;
  std::string line;
  for (bool header = true; header && std::getline(in, line);) {
    out += line + "\n";
    header = line != "---";
    if (!header || line.empty() || line[0] == '#' || line.starts_with("=> ")) continue;
    const std::size_t colon = line.find(": ");
    golden.read(line.substr(0, colon), colon == std::string::npos ? "" : line.substr(colon + 2));
  }
  std::array<std::uint8_t, 16> secret{};
  for (std::uint8_t i = 0; i < 16; ++i) secret[i] = i;
  auto decoder = Decoder::create(golden.spec, secret);
  const auto refused = [&](const Error& error) {
    std::istringstream lines(error.message);
    while (std::getline(lines, line)) {
      if (const std::size_t at = line.find(kFolder.string() + "/"); at != std::string::npos)
        line.erase(at, kFolder.string().size() + 1);
      out += "=> refused " + line + "\n";
    }
    return out;
  };
  if (!decoder) return refused(decoder.error());
  if (const auto opened = decoder->open_partition(0, golden.partition, golden.first_row); !opened)
    return refused(opened.error());
  Decoder::Scratch scratch;
  std::int64_t offset = 0;
  while (std::getline(in, line)) {
    if (line.starts_with("=> ")) continue;
    out += line + "\n";
    if (line.empty() || line[0] == '#') continue;
    RawBatch raw;
    RawRecord record;
    record.offset = offset++;
    raw.append(unescape(line), record);
    raw.pad();
    EventBatch batch(decoder->layout());
    batch.reset(decoder->events_per_record_max(), 1);
    const Decoded decoded = decoder->decode(raw, 0, batch, 0, 0, scratch);
    if (decoded.reject != Reject::kNone) {
      out += fmt::format("=> reject {}: {}\n", to_string(decoded.reject), decoded.message);
      EXPECT_EQ(decoded.events, 0U) << line;
    } else if (decoded.events == 0) {
      out += "=> nothing\n";
    }
    for (std::size_t row = 0; row < decoded.events; ++row) out += dump(*decoder, batch, row);
  }
  return out;
}

class DecoderGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DecoderGoldenTest, DecodesAsWritten) {
  const std::filesystem::path path = kFolder / (GetParam() + ".txt");
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const std::string now = run(text.str());
  if (std::getenv("ALCEDO_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << now;
    return;
  }
  EXPECT_EQ(now, text.str());
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Cases, DecoderGoldenTest, ::testing::ValuesIn(golden_names()),
                         [](const auto& golden) { return golden.param; });

}  // namespace
}  // namespace alcedo::contract
