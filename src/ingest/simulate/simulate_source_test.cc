// Shows that the simulator as a source refuses bad options, and that neither rate nor batch size is seen in its bytes.
#include "ingest/simulate/simulate_source.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <chrono>
#include <set>
#include <thread>

#include "core/time.h"
#include "ingest/simulate/payments.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::HasSubstr;

SourceUri payments_uri(std::vector<std::pair<std::string, std::string>> options, std::string path = "payments") {
  SourceUri uri;
  uri.scheme = "simulate";
  uri.path = std::move(path);
  uri.options = std::move(options);
  uri.text = "simulate:" + uri.path + "?test";
  return uri;
}

std::unique_ptr<Source> open(std::vector<std::pair<std::string, std::string>> options) {
  options.emplace_back("cards", "2000");
  auto source = open_simulation(payments_uri(std::move(options)));
  EXPECT_TRUE(source) << source.error().message;
  return source ? std::move(*source) : nullptr;
}

/// Reads to the end in batches of `records_max`.
std::string read_all(Source& source, std::size_t records_max) {
  std::string all;
  for (;;) {
    RawBatch batch;
    const auto state = source.read(0, batch, records_max, std::chrono::milliseconds(50));
    EXPECT_TRUE(state) << state.error().message;
    EXPECT_LE(batch.size(), records_max);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      all.append(batch.bytes(i));
      all += fmt::format(" {} {} {}\n", batch[i].offset, batch[i].arrival_ms, batch[i].label);
    }
    if (*state == ReadState::kEnd) return all;
  }
}

TEST(SimulateSourceTest, BytesDoNotDependOnRateOrBatchSize) {
  const std::string one_by_one = read_all(*open({{"events", "3000"}}), 1);
  EXPECT_EQ(one_by_one, read_all(*open({{"events", "3000"}}), 1000));
  EXPECT_EQ(one_by_one, read_all(*open({{"events", "3000"}, {"rate", "60000"}}), 64));
  EXPECT_EQ(one_by_one, read_all(*open({{"seconds", "0.03"}, {"rate", "100000"}, {"seed", "1"}}), 777));
  EXPECT_NE(one_by_one, read_all(*open({{"events", "3000"}, {"seed", "2"}}), 1000));
}

TEST(SimulateSourceTest, RateMakesRecordsDueAndASlowReaderGetsThemAtOnce) {
  const auto source = open({{"rate", "2000"}, {"seconds", "0.5"}});
  RawBatch batch;
  const std::int64_t before_ns = steady_ns();
  ASSERT_TRUE(source->read(0, batch, 1, std::chrono::milliseconds(100)));
  ASSERT_EQ(batch.size(), 1U);
  const std::int64_t first_ns = batch[0].due_ns;
  EXPECT_GE(first_ns, before_ns);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  batch.clear();
  ASSERT_TRUE(source->read(0, batch, 10'000, std::chrono::milliseconds(100)));
  EXPECT_GE(batch.size(), 390U);  // 0.2 s at 2000/s without the first
  for (std::size_t i = 0; i < batch.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(batch[i].due_ns - first_ns), static_cast<double>(i + 1) * 500'000.0, 1.0);
    EXPECT_LE(batch[i].due_ns, steady_ns());
  }
}

TEST(SimulateSourceTest, WaitsNoLongerThanAskedAndStopWakesIt) {
  const auto source = open({{"rate", "0.01"}});
  RawBatch batch;
  ASSERT_TRUE(source->read(0, batch, 10, std::chrono::milliseconds(0)));  // the first is due at once
  EXPECT_EQ(batch.size(), 1U);
  EXPECT_EQ(*source->read(0, batch, 10, std::chrono::milliseconds(5)), ReadState::kIdle);
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    source->stop();
  });
  EXPECT_EQ(*source->read(0, batch, 10, std::chrono::minutes(5)), ReadState::kEnd);
  stopper.join();
  EXPECT_EQ(batch.size(), 1U);
}

TEST(SimulateSourceTest, UnpacedRecordsAreNeverDueAndProgressCounts) {
  const auto source = open({{"events", "100"}});
  RawBatch batch;
  EXPECT_EQ(*source->read(0, batch, 60, std::chrono::milliseconds(0)), ReadState::kMore);
  EXPECT_EQ(batch[59].due_ns, 0);
  EXPECT_EQ(source->progress().done, 60U);
  EXPECT_EQ(source->progress().total, 100U);
  EXPECT_EQ(*source->read(0, batch, 60, std::chrono::milliseconds(0)), ReadState::kEnd);
  EXPECT_EQ(batch.size(), 100U);
  EXPECT_EQ(*source->read(0, batch, 60, std::chrono::milliseconds(0)), ReadState::kEnd);
  EXPECT_EQ(batch.size(), 100U);
}

TEST(SimulateSourceTest, StartsWhenAsked) {
  const auto source = open({{"events", "1"}, {"start", "2024-02-29T10:30:00Z"}});
  RawBatch batch;
  ASSERT_TRUE(source->read(0, batch, 1, std::chrono::milliseconds(0)));
  EXPECT_GE(batch[0].arrival_ms, *parse_iso_time_ms("2024-02-29T10:30:00Z"));
  EXPECT_LT(batch[0].arrival_ms, *parse_iso_time_ms("2024-02-29T11:30:00Z"));
}

TEST(SimulateSourceTest, RefusesWhatItDoesNotUnderstand) {
  const auto message = [](std::vector<std::pair<std::string, std::string>> options, std::string path = "payments") {
    const auto source = open_simulation(payments_uri(std::move(options), std::move(path)));
    return source ? std::string("accepted") : source.error().message;
  };
  EXPECT_THAT(message({{"sead", "3"}}), AllOf(HasSubstr("\"sead\""), HasSubstr("did you mean \"seed\"")));
  EXPECT_THAT(message({{"rate", "fast"}}), HasSubstr("rate=fast: expected a number"));
  EXPECT_THAT(message({{"rate", "-1"}}), HasSubstr("expected a number"));
  EXPECT_THAT(message({{"rate", "nan"}}), HasSubstr("expected a number"));
  EXPECT_THAT(message({{"cards", "12"}}), HasSubstr("from 1000 to 10000000"));
  EXPECT_THAT(message({{"events", "1e6"}}), HasSubstr("whole number"));
  EXPECT_THAT(message({{"seconds", "5"}}), HasSubstr("seconds needs rate"));
  EXPECT_THAT(message({{"start", "yesterday"}}), HasSubstr("ISO 8601"));
  EXPECT_THAT(message({}, "paymets"), HasSubstr("simulate:payments"));
}

TEST(SimulateSourceTest, EveryLineIsJsonAsTheContractDescribes) {
  simdjson::dom::parser contract_parser;
  simdjson::dom::element contract;
  ASSERT_EQ(contract_parser.load(std::string(ALCEDO_SOURCE_DIR) + "/pipelines/payments/payment.avsc").get(contract),
            simdjson::SUCCESS);
  const auto source = open({{"events", "20000"}});
  RawBatch batch;
  ASSERT_TRUE(source->read(0, batch, 20'000, std::chrono::milliseconds(0)));
  ASSERT_EQ(batch.size(), 20'000U);
  simdjson::dom::parser parser;
  std::set<std::string> ids;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    simdjson::dom::object event;
    ASSERT_EQ(parser.parse(batch.bytes(i).data(), batch.bytes(i).size()).get(event), simdjson::SUCCESS)
        << batch.bytes(i);
    std::size_t fields = 0;
    for (const simdjson::dom::element field : contract["fields"]) {
      const std::string_view name = field["name"];
      simdjson::dom::element value;
      ASSERT_EQ(event[name].get(value), simdjson::SUCCESS) << name << " in " << batch.bytes(i);
      ++fields;
      std::string_view type;
      if (field["type"].get(type) != simdjson::SUCCESS) type = field["type"]["type"];
      if (type == "string") {
        EXPECT_TRUE(value.is_string()) << name;
      } else if (type == "long") {
        EXPECT_TRUE(value.is_int64()) << name;
      } else if (type == "double") {
        EXPECT_TRUE(value.is_double()) << name;
      } else {
        ASSERT_EQ(type, "enum");
        const std::string_view symbol = value;
        bool known = false;
        for (const std::string_view allowed : field["type"]["symbols"]) known |= allowed == symbol;
        EXPECT_TRUE(known) << symbol;
      }
    }
    EXPECT_EQ(event.size(), fields);
    EXPECT_GT(static_cast<double>(event["amount"]), 0.0);
    EXPECT_EQ(static_cast<std::int64_t>(event["occurred_at"]), batch[i].arrival_ms);
    EXPECT_TRUE(ids.insert(std::string(std::string_view(event["payment_id"]))).second);
    EXPECT_NE(batch[i].label, kUnlabelled);
  }
}

TEST(SimulateSourceTest, LabelsNameTheAttacks) {
  const auto source = open({{"events", "200000"}});
  const std::vector<std::string> types = source->label_types();
  ASSERT_EQ(types.size(), 6U);
  std::vector<int> counts(types.size() + kFirstLabelType);
  RawBatch batch;
  ASSERT_TRUE(source->read(0, batch, 200'000, std::chrono::milliseconds(0)));
  for (std::size_t i = 0; i < batch.size(); ++i) {
    ASSERT_LT(batch[i].label, counts.size());
    ++counts[batch[i].label];
  }
  for (std::size_t t = 0; t < types.size(); ++t) EXPECT_GT(counts[t + kFirstLabelType], 20) << types[t];
}

}  // namespace
}  // namespace alcedo::ingest
