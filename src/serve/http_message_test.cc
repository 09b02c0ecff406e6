// What strangers may send: whole, in pieces, too much, or no HTTP at all.
#include "serve/http_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace alcedo::serve {
namespace {

using ::testing::HasSubstr;

TEST(HttpMessageTest, EveryPrefixOfARequestAsksForMoreAndTheWholeIsTaken) {
  const std::string whole = "POST /a?b=c HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  5 \r\n\r\nhello";
  for (std::size_t n = 0; n < whole.size(); ++n) {
    HttpRequest request;
    EXPECT_EQ(parse_request(whole.substr(0, n), request).parsed, Parsed::kMore) << n;
  }
  HttpRequest request;
  const auto result = parse_request(whole + "GET /next", request);
  ASSERT_EQ(result.parsed, Parsed::kRequest);
  EXPECT_EQ(result.consumed, whole.size());
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.path, "/a");
  EXPECT_EQ(request.body, "hello");
  EXPECT_TRUE(request.keep_alive);
}

TEST(HttpMessageTest, OldClientsCloseUnlessTheySayOtherwise) {
  HttpRequest request;
  ASSERT_EQ(parse_request("GET / HTTP/1.0\r\n\r\n", request).parsed, Parsed::kRequest);
  EXPECT_FALSE(request.keep_alive);
  ASSERT_EQ(parse_request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", request).parsed, Parsed::kRequest);
  EXPECT_TRUE(request.keep_alive);
  ASSERT_EQ(parse_request("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", request).parsed, Parsed::kRequest);
  EXPECT_FALSE(request.keep_alive);
}

TEST(HttpMessageTest, RefusesWhatItCannotTakeAndSaysWhy) {
  const std::string big(kHeadBytesMax, 'x');
  const struct {
    std::string in;
    int status;
    const char* says;
  } cases[] = {
      {"hello\r\n\r\n", 400, "request line"},
      {"GET /\r\n\r\n", 400, "request line"},
      {"GET / HTTP/2.0\r\n\r\n", 400, "request line"},
      {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "colon"},
      {"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length"},
      {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Content-Length"},
      {"GET / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413, "1048576 bytes"},
      {"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413, "1048576 bytes"},
      {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 411, "chunked"},
      {"GET / HTTP/1.1\r\nX: " + big, 431, "16384 bytes"},
  };
  for (const auto& c : cases) {
    HttpRequest request;
    const auto result = parse_request(c.in, request);
    ASSERT_EQ(result.parsed, Parsed::kRefused) << c.in.substr(0, 80);
    EXPECT_EQ(result.refusal.status, c.status) << c.in.substr(0, 80);
    EXPECT_THAT(result.refusal.body, HasSubstr(c.says));
  }
}

TEST(HttpMessageTest, TheFuzzCorpusStaysRead) {
  std::size_t files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/http_message")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    HttpRequest request;
    const auto result = parse_request(text, request);
    EXPECT_LE(result.consumed, text.size()) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 3U);
}

}  // namespace
}  // namespace alcedo::serve
