// What people type as a source, what it opens, and what a mistake is told.
#include "ingest/open_source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "ingest/test_files.h"

namespace alcedo::ingest {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

SourceUri uri(std::string_view text) {
  auto parsed = SourceUri::parse(text);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().message);
  return parsed ? *parsed : SourceUri{};
}

TEST(SourceUriTest, ReadsSchemePathAndOptions) {
  struct Case {
    const char* text;
    const char* scheme;
    const char* path;
  };
  for (const Case& one :
       {Case{"events.csv", "file", "events.csv"}, Case{"file:a/b.ndjson.gz", "file", "a/b.ndjson.gz"},
        Case{"file:///var/log/x.json", "file", "/var/log/x.json"}, Case{"/var/log/x.json", "file", "/var/log/x.json"},
        Case{"./odd:name.csv", "file", "./odd:name.csv"}, Case{"2025-01-01T10:00.csv", "file", "2025-01-01T10:00.csv"},
        Case{"file:kafka:x.csv", "file", "kafka:x.csv"}, Case{"logs/app?.json", "file", "logs/app?.json"},
        Case{"logs/a?b?.json?follow=true", "file", "logs/a?b?.json"}, Case{"50%.csv", "file", "50%.csv"},
        Case{"stdin:", "stdin", ""}, Case{"host:", "host", ""},
        Case{"simulate:payments?rate=5", "simulate", "payments"}}) {
    const SourceUri parsed = uri(one.text);
    EXPECT_EQ(parsed.scheme, one.scheme) << one.text;
    EXPECT_EQ(parsed.path, one.path) << one.text;
    EXPECT_EQ(parsed.text, one.text);
  }
  EXPECT_THAT(uri("simulate:payments?rate=5&seed=7&").options, ElementsAre(Pair("rate", "5"), Pair("seed", "7")));
  EXPECT_THAT(uri("x.csv?columns=a%2Cb,c%20d&delimiter=%09").options,
              ElementsAre(Pair("columns", "a,b,c d"), Pair("delimiter", "\t")));
  EXPECT_THAT(uri("x.csv").options, IsEmpty());
}

TEST(SourceUriTest, SaysWhatIsWrong) {
  const auto message = [](std::string_view text) {
    const auto parsed = SourceUri::parse(text);
    EXPECT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    return parsed.error().message;
  };
  EXPECT_THAT(message("stdn:"),
              AllOf(HasSubstr("file:, stdin:, host:, simulate:"), HasSubstr("did you mean \"stdin:\"?")));
  EXPECT_THAT(message("kafka://b:9092/t"), AllOf(HasSubstr("kafka"), HasSubstr("known are")));
  EXPECT_THAT(message("simulate:payments?rate"), AllOf(HasSubstr("rate"), HasSubstr("no value")));
  EXPECT_THAT(message("simulate:payments?rate=%2"), HasSubstr("%25"));
  EXPECT_THAT(message("simulate:payments?rate=%zz"), HasSubstr("hexadecimal"));
  EXPECT_THAT(message("x.csv?follow=true&follow=false"), HasSubstr("twice"));
  EXPECT_THAT(message(""), HasSubstr("empty"));
  EXPECT_THAT(message("file:"), HasSubstr("no file"));
}

TEST(OpenSourceTest, OpensFilesByTheirPipelineAndTheirUri) {
  const ScratchDirectory scratch;
  const std::string path = scratch.write("x.txt", "1;2\n");
  OpenOptions options;
  options.format = contract::Format::kCsv;
  options.delimiter = ';';
  options.columns = {"a", "b"};
  options.opened_ms = 5;
  auto source = open_source(uri(path), options);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_THAT((*source)->partition(0).header, ElementsAre("a", "b"));
  std::vector<Got> got;
  drain(**source, 0, got).value();
  EXPECT_THAT(got, ElementsAre(Got{0, 5, "1;2"}));

  auto by_uri = open_source(uri("file:" + path + "?format=csv&delimiter=tab&columns=x"), {});
  ASSERT_TRUE(by_uri) << by_uri.error().message;
  EXPECT_THAT((*by_uri)->partition(0).header, ElementsAre("x"));
  auto json = open_source(uri("file:" + path + "?format=json&follow=true"), options);
  ASSERT_TRUE(json) << json.error().message;
  EXPECT_EQ((*json)->partition(0).format, contract::Format::kJson);
  EXPECT_EQ(*drain(**json, 0, got), ReadState::kIdle);
}

TEST(OpenSourceTest, OpensSeveralFilesAsOneSource) {
  const ScratchDirectory scratch;
  const std::vector<SourceUri> uris = {uri(scratch.write("b.json", "{}\n")), uri(scratch.write("a.json", "{}\n"))};
  auto source = open_files(uris, {});
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->partition(0).file, "b");
  EXPECT_EQ((*source)->partition(1).file, "a");
  EXPECT_FALSE(open_files({uris[0], uri("stdin:")}, {}));
  EXPECT_FALSE(open_files({}, {}));
}

TEST(OpenSourceTest, OpensStdinAndThisHostIntoTheDataDirectory) {
  const ScratchDirectory scratch;
  const std::string input = scratch.write("in.json", "{}\n");
  OpenOptions options;
  options.data_directory = scratch / "data";
  options.stdin_fd = ::open(input.c_str(), O_RDONLY | O_CLOEXEC);
  auto source = open_source(uri("stdin:"), options);
  ASSERT_TRUE(source) << source.error().message;
  std::vector<Got> got;
  EXPECT_EQ(*drain(**source, 0, got), ReadState::kEnd);
  EXPECT_THAT(bytes_of(got), ElementsAre("{}"));
  ::close(options.stdin_fd);
  auto host = open_source(
      uri("host:?interval=250ms&instance=me&proc=" + std::string(ALCEDO_SOURCE_DIR) + "/tests/golden/host/first"),
      options);
  ASSERT_TRUE(host) << host.error().message;
  EXPECT_EQ((*host)->num_partitions(), 1U);
  EXPECT_TRUE(std::filesystem::exists(scratch / "data/log-stdin"));
  EXPECT_TRUE(std::filesystem::exists(scratch / "data/log-host"));
  EXPECT_THAT(open_source(uri("stdin:"), {}).error().message, HasSubstr("--data"));
}

TEST(OpenSourceTest, OpensTheSimulator) {
  auto source = open_source(uri("simulate:payments?cards=1000&events=10&seed=3"), {});
  ASSERT_TRUE(source) << source.error().message;
  std::vector<Got> got;
  EXPECT_EQ(*drain(**source, 0, got), ReadState::kEnd);
  EXPECT_EQ(got.size(), 10U);
}

TEST(OpenSourceTest, ExplainsOptionsThatCannotBe) {
  const ScratchDirectory scratch;
  OpenOptions options;
  options.data_directory = scratch / "data";
  const auto message = [&](std::string_view text) {
    const auto source = open_source(uri(text), options);
    EXPECT_FALSE(source) << text;
    return source ? std::string() : source.error().message;
  };
  EXPECT_THAT(message("x.csv?folow=true"), AllOf(HasSubstr("folow"), HasSubstr("did you mean \"follow\"?")));
  EXPECT_THAT(message("x.csv?follow=yes"), HasSubstr("true or false"));
  EXPECT_THAT(message("x.csv?format=xml"), HasSubstr("json, csv or text"));
  EXPECT_THAT(message("x.csv?delimiter=ab"), HasSubstr("one character"));
  EXPECT_THAT(message("host:?interval=often"), HasSubstr("duration"));
  EXPECT_THAT(message("host:?interval=1ms"), HasSubstr("100ms"));
  EXPECT_THAT(message("host:web1"), HasSubstr("takes no path"));
  EXPECT_THAT(message("stdin:?rate=5"), HasSubstr("known are columns, delimiter, format"));
}

}  // namespace
}  // namespace alcedo::ingest
