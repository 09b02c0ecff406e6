// The mock is the judge of every other test, so its own rules are checked against PagerDuty's reference here.
#include "alert/pagerduty_mock.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <simdjson.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

#include "alert/test_incidents.h"
#include "core/time.h"

namespace alcedo::alert {
namespace {

using testing::HasSubstr;
using namespace testing_incidents;
using Fault = PagerDutyMock::Fault;

struct Answer {
  CURLcode code = CURLE_OK;
  long status = 0;
  std::int64_t retry_after_s = 0;
  std::string body;
};

Answer call(const std::string& url, const std::string* body, long timeout_ms = 5000) {
  Answer answer;
  CURL* handle = curl_easy_init();
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROXY, "");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, timeout_ms);
  if (body != nullptr) {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body->size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body->c_str());
  }
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(
      handle, CURLOPT_WRITEFUNCTION, +[](char* data, std::size_t size, std::size_t n, void* out) {
        static_cast<std::string*>(out)->append(data, size * n);
        return size * n;
      });
  answer.code = curl_easy_perform(handle);
  curl_off_t retry_after = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &answer.status);
  curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry_after);
  answer.retry_after_s = retry_after;
  curl_easy_cleanup(handle);
  return answer;
}

std::unique_ptr<PagerDutyMock> must_start(PagerDutyMock::Options options = {}) {
  auto mock = PagerDutyMock::start(std::move(options));
  EXPECT_TRUE(mock.has_value()) << (mock ? "" : mock.error().message);
  return mock ? std::move(*mock) : nullptr;
}

Answer post(const PagerDutyMock& mock, const std::string& body, const std::string& path = "/v2/enqueue") {
  return call(mock.url() + path, &body);
}
Answer get(const PagerDutyMock& mock, const std::string& path) { return call(mock.url() + path, nullptr); }

// A call with some members replaced; an empty replacement leaves the member out.
std::string event(const std::string& action, const std::string& dedup_key,
                  const std::map<std::string, std::string>& payload_changes = {},
                  const std::map<std::string, std::string>& changes = {}) {
  std::map<std::string, std::string> payload{{"summary", "\"s\""}, {"source", "\"host\""}, {"severity", "\"error\""}};
  for (const auto& [name, value] : payload_changes) payload[name] = value;
  const auto object = [](const std::map<std::string, std::string>& members) {
    std::string out;
    for (const auto& [name, value] : members) {
      if (!value.empty()) out += (out.empty() ? "\"" : ",\"") + name + "\":" + value;
    }
    return "{" + out + "}";
  };
  std::map<std::string, std::string> members{{"routing_key", "\"" + std::string(kRoutingKey) + "\""},
                                             {"event_action", "\"" + action + "\""},
                                             {"payload", object(payload)}};
  if (!dedup_key.empty()) members["dedup_key"] = "\"" + dedup_key + "\"";
  for (const auto& [name, value] : changes) members[name] = value;
  return object(members);
}

std::string quoted(std::size_t length, const std::string& unit = "x") {
  std::string out = "\"";
  for (std::size_t i = 0; i < length; ++i) out += unit;
  return out + "\"";
}

TEST(PagerDutyMockTest, EnforcesTheReference) {
  const auto mock = must_start({.rate_limited = false});
  struct Case {
    std::string name;
    std::string body;
    long status;
    std::string says;
  };
  const std::string key33 = quoted(33);
  const std::vector<Case> cases = {
      {"a good trigger", event("trigger", "k"), 202, "success"},
      {"a trigger without key", event("trigger", ""), 202, "dedup_key"},
      {"a good resolve", event("resolve", "k", {}, {{"payload", ""}}), 202, "success"},
      {"a good acknowledge", event("acknowledge", "k", {}, {{"payload", ""}}), 202, "success"},
      {"no JSON", "{\"routing_key\":", 400, "JSON"},
      {"not an object", "[]", 400, "JSON"},
      {"invalid UTF-8", event("trigger", "\xFF"), 400, "JSON"},
      {"empty", "", 400, "JSON"},
      {"no routing key", event("trigger", "k", {}, {{"routing_key", ""}}), 400, "routing_key"},
      {"a short routing key", event("trigger", "k", {}, {{"routing_key", "\"abc\""}}), 400, "routing_key"},
      {"a long routing key", event("trigger", "k", {}, {{"routing_key", key33}}), 400, "routing_key"},
      {"a routing key of a wrong type", event("trigger", "k", {}, {{"routing_key", "5"}}), 400, "routing_key"},
      {"an unknown action", event("open", "k"), 400, "event_action"},
      {"no action", event("trigger", "k", {}, {{"event_action", ""}}), 400, "event_action"},
      {"a resolve without key", event("resolve", "", {}, {{"payload", ""}}), 400, "dedup_key"},
      {"an acknowledge without key", event("acknowledge", "", {}, {{"payload", ""}}), 400, "dedup_key"},
      {"a key of 255", event("trigger", std::string(255, 'k')), 202, "success"},
      {"a key of 256", event("trigger", std::string(256, 'k')), 400, "dedup_key"},
      {"no payload", event("trigger", "k", {}, {{"payload", ""}}), 400, "payload"},
      {"no summary", event("trigger", "k", {{"summary", ""}}), 400, "summary"},
      {"an empty summary", event("trigger", "k", {{"summary", "\"\""}}), 400, "summary"},
      {"a summary of 1024", event("trigger", "k", {{"summary", quoted(1024)}}), 202, "success"},
      {"a summary of 1024 two-byte characters", event("trigger", "k", {{"summary", quoted(1024, "\xC3\xA9")}}), 202,
       "success"},
      {"a summary of 1025", event("trigger", "k", {{"summary", quoted(1025)}}), 400, "summary"},
      {"no source", event("trigger", "k", {{"source", ""}}), 400, "source"},
      {"no severity", event("trigger", "k", {{"severity", ""}}), 400, "severity"},
      {"an unknown severity", event("trigger", "k", {{"severity", "\"high\""}}), 400, "severity"},
      {"a good time", event("trigger", "k", {{"timestamp", "\"2026-11-23T17:37:00.000Z\""}}), 202, "success"},
      {"a bad time", event("trigger", "k", {{"timestamp", "\"yesterday\""}}), 400, "timestamp"},
      {"details of a wrong type", event("trigger", "k", {{"custom_details", "\"text\""}}), 400, "custom_details"},
      {"a class of a wrong type", event("trigger", "k", {{"class", "1"}}), 400, "class"},
      {"a link without href", event("trigger", "k", {}, {{"links", "[{\"text\":\"t\"}]"}}), 400, "links"},
      {"an image over http", event("trigger", "k", {}, {{"images", "[{\"src\":\"http://x/y.png\"}]"}}), 400, "images"},
      {"600 KB", event("trigger", "k", {{"custom_details", "{\"d\":" + quoted(600 * 1024) + "}"}}), 400, "larger"},
      {"500 KB", event("trigger", "k", {{"custom_details", "{\"d\":" + quoted(500 * 1024) + "}"}}), 202, "success"},
  };
  std::uint64_t rejected = 0;
  for (const Case& c : cases) {
    const Answer answer = post(*mock, c.body);
    ASSERT_EQ(answer.code, CURLE_OK) << c.name;
    EXPECT_EQ(answer.status, c.status) << c.name << ": " << answer.body;
    EXPECT_THAT(answer.body, HasSubstr(c.says)) << c.name;
    simdjson::dom::parser parser;
    EXPECT_EQ(parser.parse(answer.body).error(), simdjson::SUCCESS) << c.name;
    rejected += c.status == 400 ? 1 : 0;
  }
  EXPECT_EQ(mock->totals().rejected, rejected);
  EXPECT_EQ(mock->totals().accepted, cases.size() - rejected);
}

TEST(PagerDutyMockTest, LivesTheLifeOfAnIncident) {
  const auto mock = must_start();
  const auto incident = [&] { return mock->incidents().at({kRoutingKey, "k"}); };
  for (const std::string action : {"resolve", "acknowledge"}) EXPECT_EQ(post(*mock, event(action, "k")).status, 202);
  EXPECT_EQ(incident().state, "none") << "nothing was open";
  EXPECT_EQ(incident().opened, 0U);
  post(*mock, event("trigger", "k"));
  post(*mock, event("trigger", "k"));
  EXPECT_EQ(incident().state, "triggered");
  EXPECT_EQ(incident().opened, 1U) << "the second trigger belongs to the first";
  EXPECT_EQ(incident().triggers, 2U);
  post(*mock, event("acknowledge", "k"));
  EXPECT_EQ(incident().state, "acknowledged");
  post(*mock, event("trigger", "k"));
  EXPECT_EQ(incident().opened, 1U);
  post(*mock, event("resolve", "k"));
  EXPECT_EQ(incident().state, "resolved");
  post(*mock, event("resolve", "k"));
  EXPECT_EQ(incident().opened, 1U);
  post(*mock, event("trigger", "k"));
  EXPECT_EQ(incident().opened, 2U) << "a trigger after a resolve is a new incident";
  EXPECT_EQ(mock->totals().opened, 2U);
  const auto calls = mock->calls();
  ASSERT_EQ(calls.size(), 9U);
  EXPECT_TRUE(calls[2].opened);
  EXPECT_FALSE(calls[3].opened);
  EXPECT_TRUE(calls.back().opened);
}

TEST(PagerDutyMockTest, KeysOfDifferentServicesAreDifferentIncidents) {
  const auto mock = must_start();
  post(*mock, event("trigger", "k"));
  post(*mock, event("resolve", "k", {}, {{"routing_key", quoted(32, "b")}}));
  EXPECT_EQ(mock->incidents().at({kRoutingKey, "k"}).state, "triggered");
}

TEST(PagerDutyMockTest, LimitsEachRoutingKeyUnlessToldNotTo) {
  const auto mock = must_start({.calls_per_minute = 5});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(post(*mock, event("trigger", "k")).status, 202);
  const Answer refused = post(*mock, event("trigger", "k"));
  EXPECT_EQ(refused.status, 429);
  EXPECT_GT(refused.retry_after_s, 50);
  EXPECT_LE(refused.retry_after_s, 61);
  EXPECT_EQ(post(*mock, event("trigger", "k", {}, {{"routing_key", quoted(32, "b")}})).status, 202);
  const auto unlimited = must_start({.rate_limited = false, .calls_per_minute = 5});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(post(*unlimited, event("trigger", "k")).status, 202);
}

TEST(PagerDutyMockTest, MisbehavesAsScripted) {
  const auto mock = must_start();
  mock->add_fault({.kind = Fault::Kind::kStatus, .status = 429, .retry_after_s = 7});
  mock->add_fault({.kind = Fault::Kind::kStatus, .status = 503, .count = 2});
  mock->add_fault({.kind = Fault::Kind::kReset});
  mock->add_fault({.kind = Fault::Kind::kClose});
  Answer answer = post(*mock, event("trigger", "k"));
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.retry_after_s, 7);
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 503);
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 503);
  EXPECT_EQ(post(*mock, event("trigger", "k")).code, CURLE_RECV_ERROR) << "reset";
  EXPECT_EQ(post(*mock, event("trigger", "k")).code, CURLE_GOT_NOTHING) << "closed";
  EXPECT_EQ(mock->totals().accepted, 0U);
  mock->add_fault({.kind = Fault::Kind::kAcceptReset});
  EXPECT_EQ(post(*mock, event("trigger", "k")).code, CURLE_RECV_ERROR);
  EXPECT_EQ(mock->totals().accepted, 1U) << "taken, but the sender was not told";
  mock->add_fault({.kind = Fault::Kind::kHang, .delay_ms = 300});
  const std::string body = event("trigger", "k");
  EXPECT_EQ(call(mock->url() + "/v2/enqueue", &body, 50).code, CURLE_OPERATION_TIMEDOUT);
  EXPECT_EQ(mock->totals().accepted, 2U);
  mock->add_fault({.kind = Fault::Kind::kHang, .delay_ms = 60});
  const std::int64_t start_ns = steady_ns();
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 202);
  EXPECT_GE(steady_ns() - start_ns, 60'000'000);
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 202) << "and then it behaves again";
}

TEST(PagerDutyMockTest, IsControlledAndAskedOverHttp) {
  const auto mock = must_start();
  EXPECT_EQ(
      post(*mock, R"([{"kind":"status","status":500,"count":2},{"kind":"hang","delay_ms":1}])", "/mock/faults").status,
      200);
  EXPECT_EQ(post(*mock, R"([{"kind":"explode"}])", "/mock/faults").status, 400);
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 500);
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 500);
  EXPECT_EQ(post(*mock, event("trigger", "k")).status, 202);
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const std::string incidents = get(*mock, "/mock/incidents").body;
  ASSERT_EQ(parser.parse(incidents).get(document), simdjson::SUCCESS) << incidents;
  EXPECT_EQ(std::string_view(document.at_pointer("/incidents/0/state").get_string()), "triggered");
  EXPECT_EQ(std::int64_t(document.at_pointer("/incidents/0/opened").get_int64()), 1);
  const std::string log = get(*mock, "/mock/log").body;
  ASSERT_EQ(parser.parse(log).get(document), simdjson::SUCCESS) << log;
  EXPECT_EQ(std::string_view(document.at_pointer("/calls/0/action").get_string()), "trigger");
  EXPECT_GT(std::int64_t(document.at_pointer("/calls/0/time_ms").get_int64()), 1'700'000'000'000);
  EXPECT_EQ(get(*mock, "/nothing").status, 404);
  EXPECT_EQ(get(*mock, "/v2/enqueue").status, 405);
  EXPECT_EQ(post(*mock, "", "/mock/reset").status, 200);
  EXPECT_TRUE(mock->calls().empty());
  EXPECT_TRUE(mock->incidents().empty());
}

TEST(PagerDutyMockTest, TakesChangeEvents) {
  const auto mock = must_start();
  const std::string good = R"({"routing_key":")" + std::string(kRoutingKey) + R"(","payload":{"summary":"deployed"}})";
  EXPECT_EQ(post(*mock, good, "/v2/change/enqueue").status, 202);
  EXPECT_EQ(post(*mock, R"({"payload":{"summary":"deployed"}})", "/v2/change/enqueue").status, 400);
  EXPECT_TRUE(mock->incidents().empty());
  EXPECT_EQ(mock->calls().at(0).action, "change");
}

TEST(PagerDutyMockTest, WritesItsLogAtOnce) {
  const TemporaryFolder folder;
  const auto mock = must_start({.log_path = folder.file("log")});
  post(*mock, event("trigger", "k"));
  post(*mock, event("resolve", "k"));
  std::ifstream log(folder.file("log"));
  std::string line;
  std::vector<std::string> lines;
  while (std::getline(log, line)) lines.push_back(line);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines[0], HasSubstr("\"action\":\"trigger\""));
  EXPECT_THAT(lines[1], HasSubstr("\"dedup_key\":\"k\""));
}

// Sends bytes as they are, in pieces, and returns all that comes until the end.
std::string raw(std::uint16_t port, const std::vector<std::string>& pieces) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  for (const std::string& piece : pieces) {
    EXPECT_EQ(::send(fd, piece.data(), piece.size(), MSG_NOSIGNAL), static_cast<ssize_t>(piece.size()));
    ::usleep(2000);
  }
  ::shutdown(fd, SHUT_WR);
  std::string out;
  char block[4096];
  for (ssize_t n = 0; (n = ::recv(fd, block, sizeof block, 0)) > 0;) out.append(block, static_cast<std::size_t>(n));
  ::close(fd);
  return out;
}

TEST(PagerDutyMockTest, SpeaksHttpAsClientsDo) {
  const auto mock = must_start();
  const std::string body = event("trigger", "k");
  const std::string head =
      "POST /v2/enqueue HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: " + std::to_string(body.size()) + "\r\n\r\n";
  const auto count = [](const std::string& text, const std::string& what) {
    std::size_t n = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count(raw(mock->port(), {head + body + head + body}), "HTTP/1.1 202"), 2U) << "two requests in one packet";
  EXPECT_EQ(count(raw(mock->port(), {head.substr(0, 9), head.substr(9), body.substr(0, 20), body.substr(20)}),
                  "202 Accepted"),
            1U);
  const std::string chunked = "POST /v2/enqueue HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  char size[16];
  std::snprintf(size, sizeof size, "%zx\r\n", body.size());
  EXPECT_EQ(count(raw(mock->port(), {chunked + size, body + "\r\n0\r\n", "\r\n"}), "202 Accepted"), 1U);
  const std::string expecting =
      raw(mock->port(), {"POST /v2/enqueue HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: " +
                             std::to_string(body.size()) + "\r\n\r\n",
                         body});
  EXPECT_TRUE(expecting.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202")) << expecting;
  EXPECT_THAT(raw(mock->port(), {"POST /v2/enqueue HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"}),
              HasSubstr("Connection: close"));
  for (const std::string bad : {"nonsense\r\n\r\n", "POST /v2/enqueue HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                                "POST /v2/enqueue HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                                "POST /v2/enqueue HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    EXPECT_TRUE(raw(mock->port(), {bad}).starts_with("HTTP/1.1 400")) << bad;
  }
  EXPECT_EQ(mock->totals().accepted, 5U);
}

}  // namespace
}  // namespace alcedo::alert
