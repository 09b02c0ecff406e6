// The same records must come out whatever the pieces, and no input may make the splitter hold more than its bound.
#include "contract/record_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "contract/csv_reader.h"
#include "contract/decoder.h"
#include "core/prng.h"

namespace alcedo::contract {
namespace {

using ::testing::ElementsAre;

struct Split {
  std::vector<std::string> records;
  std::vector<std::size_t> too_long;  // indices
  bool operator==(const Split&) const = default;
};

Split split_in_pieces(Format format, std::string_view bytes, const std::vector<std::size_t>& cuts,
                      char delimiter = ',') {
  RecordSplitter splitter(format, delimiter);
  Split split;
  const auto drain = [&] {
    std::string_view record;
    bool too_long = false;
    while (splitter.next(record, too_long)) {
      if (too_long) split.too_long.push_back(split.records.size());
      split.records.emplace_back(record);
    }
  };
  std::size_t at = 0;
  for (const std::size_t cut : cuts) {
    splitter.feed(bytes.substr(at, cut - at));
    at = cut;
    drain();
  }
  splitter.feed(bytes.substr(at));
  drain();
  splitter.finish();
  drain();
  EXPECT_FALSE(splitter.has_partial());
  return split;
}

std::vector<std::string> records(Format format, std::string_view bytes) {
  return split_in_pieces(format, bytes, {}).records;
}

TEST(RecordSplitterTest, JsonLines) {
  EXPECT_THAT(records(Format::kJson, "{\"a\":1}\n{\"b\":2}\r\n\n  \t\r\n{\"c\":3}"),
              ElementsAre("{\"a\":1}", "{\"b\":2}", "{\"c\":3}"));
  EXPECT_THAT(records(Format::kJson, "one\"two\nthree\n"), ElementsAre("one\"two", "three"));
  EXPECT_THAT(records(Format::kJson, ""), ElementsAre());
  EXPECT_THAT(records(Format::kJson, "\n\r\n"), ElementsAre());
}

TEST(RecordSplitterTest, CsvKeepsNewlinesInsideQuotes) {
  EXPECT_THAT(records(Format::kCsv, "1,\"a\nb\",2\r\n\n3,c,4\n"), ElementsAre("1,\"a\nb\",2", "3,c,4"));
  EXPECT_THAT(records(Format::kCsv, "\"a\"\"\n\",x\ny,z"), ElementsAre("\"a\"\"\n\",x", "y,z"));
  // A quote inside an unquoted cell is a letter and opens nothing.
  EXPECT_THAT(records(Format::kCsv, "5\" disk,1\nnext,2\n"), ElementsAre("5\" disk,1", "next,2"));
  EXPECT_THAT(records(Format::kCsv, " ,\n \n"), ElementsAre(" ,", " "));
}

TEST(RecordSplitterTest, CsvQuotesFollowTheDelimiter) {
  EXPECT_THAT(split_in_pieces(Format::kCsv, "a;\"x\ny\"\nb;1\n", {}, ';').records, ElementsAre("a;\"x\ny\"", "b;1"));
}

TEST(RecordSplitterTest, PartialRecordWaitsForItsNewline) {
  RecordSplitter splitter(Format::kJson);
  std::string_view record;
  bool too_long = false;
  splitter.feed("{\"a\"");
  EXPECT_FALSE(splitter.next(record, too_long));
  EXPECT_TRUE(splitter.has_partial());
  splitter.feed(":1}\n");
  ASSERT_TRUE(splitter.next(record, too_long));
  EXPECT_EQ(record, "{\"a\":1}");
  EXPECT_FALSE(splitter.has_partial());
}

TEST(RecordSplitterTest, TooLongRecordIsCutAndTheNextOneIsWhole) {
  for (const Format format : {Format::kJson, Format::kCsv}) {
    for (const std::size_t extra : {0, 1, 2, 5'000'000}) {
      const std::string bytes = "first\n" + std::string(Decoder::kRecordBytesMax + extra, 'x') + "\r\nlast\n";
      const Split split = split_in_pieces(format, bytes, {});
      ASSERT_EQ(split.records.size(), 3U) << extra;
      EXPECT_EQ(split.records[1].size(), Decoder::kRecordBytesMax);
      EXPECT_THAT(split.too_long, ElementsAre(1U));
      EXPECT_EQ(split.records[2], "last");
    }
    const std::string just_fits = std::string(Decoder::kRecordBytesMax - 1, 'x');
    EXPECT_TRUE(split_in_pieces(format, just_fits + "\r\n", {just_fits.size() + 1}).too_long.empty());
  }
}

TEST(RecordSplitterTest, AQuoteNeverClosedCostsOneRecord) {
  std::string bytes = "a,\"never closed\n";
  while (bytes.size() < 2 * Decoder::kRecordBytesMax) bytes += "1,2\n";
  const Split split = split_in_pieces(Format::kCsv, bytes, {});
  EXPECT_THAT(split.too_long, ElementsAre(0U));
  EXPECT_GT(split.records.size(), Decoder::kRecordBytesMax / 5);
  EXPECT_EQ(split.records.back(), "1,2");
}

TEST(RecordSplitterTest, PiecesDoNotMatter) {
  constexpr std::string_view kAlphabet = "ab,\"\"\n\r\n ";
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Prng random(seed);
    std::string bytes;
    for (std::uint64_t i = random.below(120); i > 0; --i) bytes += kAlphabet[random.below(kAlphabet.size())];
    if (seed % 50 == 0)
      bytes.insert(random.below(bytes.size() + 1), std::string(Decoder::kRecordBytesMax - random.below(60), '.'));
    std::vector<std::size_t> cuts;
    for (std::uint64_t i = random.below(20); i > 0; --i) cuts.push_back(random.below(bytes.size() + 1));
    std::sort(cuts.begin(), cuts.end());
    for (const Format format : {Format::kJson, Format::kCsv}) {
      ASSERT_EQ(split_in_pieces(format, bytes, cuts), split_in_pieces(format, bytes, {})) << "seed " << seed;
    }
  }
}

TEST(CsvHeaderTest, NamesWithoutSpacesAndByteOrderMark) {
  EXPECT_THAT(split_csv_header("\xEF\xBB\xBFtimestamp, value ,\"a,b\"\r", ','),
              ElementsAre("timestamp", "value", "a,b"));
  EXPECT_THAT(split_csv_header("a\tb\t", '\t'), ElementsAre("a", "b", ""));
}

TEST(FileKeyTest, DropsFoldersCompressionAndExtension) {
  EXPECT_EQ(file_key("/data/nab/cpu_4f.v2.csv.gz"), "cpu_4f.v2");
  EXPECT_EQ(file_key("machine-1-1.csv"), "machine-1-1");
  EXPECT_EQ(file_key("plain"), "plain");
  EXPECT_EQ(file_key("events.ndjson.gz"), "events");
  EXPECT_EQ(file_key("dir.d/.hidden"), ".hidden");
  EXPECT_EQ(file_key(""), "");
}

TEST(CsvReaderTest, SplitsByRfc4180) {
  CsvReader reader;
  EXPECT_EQ(reader.split("a,\"b,\"\"c\"\"\",,\"\"", ','), CsvFault::kNone);
  EXPECT_THAT(reader.cells(), ElementsAre("a", "b,\"c\"", "", ""));
  EXPECT_EQ(reader.split("\"\"\"\",\"x\ny\"\r", ','), CsvFault::kNone);
  EXPECT_THAT(reader.cells(), ElementsAre("\"", "x\ny"));
  EXPECT_EQ(reader.split("", ','), CsvFault::kNone);
  EXPECT_THAT(reader.cells(), ElementsAre(""));
  EXPECT_EQ(reader.split("a,", ','), CsvFault::kNone);
  EXPECT_THAT(reader.cells(), ElementsAre("a", ""));
  EXPECT_EQ(reader.split("a,\"b", ','), CsvFault::kOpenQuote);
  EXPECT_EQ(reader.split("a,\"b\"c,d", ','), CsvFault::kTextAfterQuote);
}

TEST(CsvReaderTest, ReadsBackWhatAWriterQuotes) {
  constexpr std::string_view kAlphabet = "ab ,;\"\n\r\t\xC3\xA9";
  CsvReader reader;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    Prng random(seed);
    std::vector<std::string> cells(1 + random.below(6));
    std::string record;
    for (std::string& cell : cells) {
      for (std::uint64_t i = random.below(8); i > 0; --i) cell += kAlphabet[random.below(kAlphabet.size())];
      if (&cell != cells.data()) record += ',';
      if (cell.find_first_of(",\"\n\r") == std::string::npos && random.below(2) == 0) {
        record += cell;
        continue;
      }
      record += '"';
      for (const char c : cell) record += c == '"' ? "\"\"" : std::string(1, c);
      record += '"';
    }
    ASSERT_EQ(reader.split(record, ','), CsvFault::kNone) << "seed " << seed;
    ASSERT_TRUE(std::ranges::equal(reader.cells(), cells)) << "seed " << seed << ": " << record;
    const Split split = split_in_pieces(Format::kCsv, record + "\n" + record + "\n", {});
    if (!record.empty()) {
      ASSERT_THAT(split.records, ElementsAre(record, record)) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace alcedo::contract
