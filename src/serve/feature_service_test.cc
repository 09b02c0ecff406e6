// The HTTP surface as a client meets it: real sockets, the answers of a small store, and every way to ask wrongly.
#include "serve/feature_service.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <simdjson.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "core/check.h"
#include "core/time.h"

namespace alcedo::serve {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// A client of one connection. Reads end after 5 s, so a test fails instead of hanging.
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{5, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    CHECK(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  // The next answer's status, its body in `body`; 0 where the connection ended instead.
  int receive(std::string& body) {
    while (true) {
      const std::size_t head = in_.find("\r\n\r\n");
      if (head != std::string::npos) {
        const std::size_t at = in_.find("Content-Length: ");
        const std::size_t length = at < head ? std::stoul(in_.substr(at + 16)) : 0;
        if (in_.size() >= head + 4 + length) {
          const int status = std::stoi(in_.substr(9));
          body = in_.substr(head + 4, length);
          in_.erase(0, head + 4 + length);
          return status;
        }
      }
      char block[4096];
      const ssize_t n = ::recv(fd_, block, sizeof block, 0);
      if (n <= 0) return 0;
      in_.append(block, static_cast<std::size_t>(n));
    }
  }
  std::pair<int, std::string> ask(std::string_view method, std::string_view path, std::string_view body = {}) {
    send(fmt::format("{} {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", method, path, body.size(), body));
    std::pair<int, std::string> answer;
    answer.first = receive(answer.second);
    return answer;
  }
  std::pair<int, std::string> features(std::string_view body) { return ask("POST", "/get-online-features", body); }

 private:
  int fd_;
  std::string in_;
};

features::FeaturePlan card_plan() {
  features::FeatureOptions options;
  options.layout.numbers = {{"amount", false}};
  options.layout.keys = {"card", "card/currency"};
  features::FeatureSpec pace;
  pace.name = "pace";
  pace.kind = features::FeatureKind::kVelocity;
  pace.key = 0;
  pace.windows_ms = {60'000};
  features::FeatureSpec spend;
  spend.name = "spend";
  spend.number = 0;
  spend.key = 1;
  spend.stats = {features::Stat::kCount, features::Stat::kSum};
  spend.windows_ms = {60'000};
  features::FeatureSpec costs = spend;
  costs.name = "costs";
  options.features = {pace, spend, costs};
  auto plan = features::FeaturePlan::compile(std::move(options));
  CHECK(plan.has_value());
  return std::move(*plan);
}

class FeatureServiceTest : public ::testing::Test {
 protected:
  FeatureServiceTest() : plan_(card_plan()), store_(plan_), batch_(plan_.options().layout) {}

  void serve(HttpServer::Options options = {}) {
    ServedPipeline pipeline;
    pipeline.name = "payments";
    pipeline.plan = &plan_;
    pipeline.vectors = &store_;
    pipeline.keys = {{"card", "", false, true}, {"card", "currency", false, true}};
    pipeline.private_text = [](std::string_view value) { return fmt::format("h:{:0>32x}", value.size()); };
    auto server = serve_features({"127.0.0.1", 0}, {pipeline}, [this] { return ready_.load(); }, options);
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  void write(std::size_t stage, std::string_view key, std::int64_t time_ms, float value) {
    batch_.reset(1, 1);
    for (auto& k : batch_.keys(0)) k = make_key(key);
    batch_.header(0).time_ms = time_ms;
    matrix_.reset(1, plan_.columns().size());
    for (float& column : matrix_.row(0)) column = value++;
    const std::uint32_t row = 0;
    store_.write(stage, batch_, {&row, 1}, matrix_);
  }
  std::uint16_t port() const { return server_->port(); }

  const features::FeaturePlan plan_;
  features::VectorStore store_;
  EventBatch batch_;
  FeatureMatrix matrix_;
  std::atomic<bool> ready_{true};
  std::unique_ptr<HttpServer> server_;
};

// The key "c1" has two bytes, so its private text ends in 2.
const std::string kC1 = "h:00000000000000000000000000000002";

TEST_F(FeatureServiceTest, AnswersInFeastsShape) {
  serve();
  write(1, kC1 + "|EUR", 1'700'000'000'123, 2.5F);  // columns 2 and 3 are spend's
  Client client(port());
  const auto [status, body] = client.features(
      R"({"features":["spend:sum_1m","spend:count_1m"],"entities":{"card":["c1","nobody"],"currency":["EUR","EUR"]}})");
  EXPECT_EQ(status, 200);
  const auto at = [&](std::string_view column) { return plan_.find_column(column); };
  EXPECT_EQ(
      body,
      fmt::format(
          R"({{"metadata":{{"feature_names":["card","currency","sum_1m","count_1m"]}},"results":[)"
          R"({{"values":["c1","nobody"],"statuses":["PRESENT","PRESENT"],"event_timestamps":["1970-01-01T00:00:00.000Z","1970-01-01T00:00:00.000Z"]}},)"
          R"({{"values":["EUR","EUR"],"statuses":["PRESENT","PRESENT"],"event_timestamps":["1970-01-01T00:00:00.000Z","1970-01-01T00:00:00.000Z"]}},)"
          R"({{"values":[{},null],"statuses":["PRESENT","NOT_FOUND"],"event_timestamps":["2023-11-14T22:13:20.123Z","1970-01-01T00:00:00.000Z"]}},)"
          R"({{"values":[{},null],"statuses":["PRESENT","NOT_FOUND"],"event_timestamps":["2023-11-14T22:13:20.123Z","1970-01-01T00:00:00.000Z"]}}]}})",
          2.5 + at("spend.sum_1m"), 2.5 + at("spend.count_1m")));
}

TEST_F(FeatureServiceTest, APrivateKeyIsFoundByItsValueAndByItsHash) {
  serve();
  write(0, kC1, 1000, 1);
  Client client(port());
  for (const std::string& key : {std::string("c1"), kC1}) {
    const auto [status, body] =
        client.features(fmt::format(R"({{"features":["pace:events_1m"],"entities":{{"card":["{}"]}}}})", key));
    EXPECT_THAT(body, HasSubstr(R"("values":[1],"statuses":["PRESENT"])")) << key;
  }
}

TEST_F(FeatureServiceTest, AMissingNumberIsNullAndAnOldOneIsOutsideItsAge) {
  serve();
  write(0, kC1, wall_clock_ms(), std::nanf(""));
  write(0, "h:00000000000000000000000000000003", wall_clock_ms() - 3 * kHourMs, 7);
  Client client(port());
  const std::string ask = R"({"features":["pace:events_1m"],"entities":{"card":["c1","c10"]})";
  EXPECT_THAT(client.features(ask + R"(,"max_age":"1h"})").second,
              HasSubstr(R"("values":[null,null],"statuses":["NULL_VALUE","OUTSIDE_MAX_AGE"])"));
  EXPECT_THAT(client.features(ask + R"(,"max_age":"4h"})").second,
              HasSubstr(R"("values":[null,7],"statuses":["NULL_VALUE","PRESENT"])"));
}

TEST_F(FeatureServiceTest, AFeatureServiceIsAllThatTheGivenEntitiesCover) {
  serve();
  Client client(port());
  EXPECT_THAT(client.features(R"({"feature_service":"payments","entities":{"card":["c1"]}})").second,
              StartsWith(R"({"metadata":{"feature_names":["card","events_1m","gap_s"]})"));
  EXPECT_THAT(client
                  .features(R"({"feature_service":"payments","full_feature_names":true,)"
                            R"("entities":{"card":["c1"],"currency":["EUR"]}})")
                  .second,
              StartsWith(R"({"metadata":{"feature_names":["card","currency","pace__events_1m","pace__gap_s",)"
                         R"("spend__count_1m","spend__sum_1m","costs__count_1m","costs__sum_1m"]})"));
}

TEST_F(FeatureServiceTest, AViewOfTwoPipelinesIsNamedWithItsPipeline) {
  ServedPipeline one;
  one.name = "payments";
  one.plan = &plan_;
  one.vectors = &store_;
  one.keys = {{"card", "", false, false}, {"card", "currency", false, false}};
  features::VectorStore empty(plan_);
  ServedPipeline two = one;
  two.name = "refunds";
  two.vectors = &empty;
  write(0, "c1", 1000, 1);
  OnlineFeatures both({one, two});
  const auto ask = [&](std::string_view feature) {
    return both.answer(fmt::format(R"({{"features":["{}"],"entities":{{"card":["c1"]}}}})", feature), 0);
  };
  EXPECT_EQ(ask("pace:gap_s").status, 400);
  EXPECT_THAT(ask("pace:gap_s").body, HasSubstr("write payments/pace:gap_s"));
  EXPECT_THAT(ask("payments/pace:gap_s").body,
              HasSubstr(R"("statuses":["PRESENT"],"event_timestamps":["1970-01-01T00:00:01.000Z"])"));
  EXPECT_THAT(ask("refunds/pace:gap_s").body, HasSubstr("NOT_FOUND"));
  EXPECT_EQ(ask("refund/pace:gap_s").status, 404);
}

TEST_F(FeatureServiceTest, EveryWrongRequestIsToldWhatWasExpected) {
  serve();
  Client client(port());  // one connection throughout: a wrong request does not end it
  const struct {
    const char* body;
    int status;
    const char* says;
  } cases[] = {
      {"", 400, "no JSON"},
      {"{", 400, "no JSON"},
      {"[]", 400, "expected a JSON object"},
      {R"({"entities":{"card":["c"]}})", 400, "expected either"},
      {R"({"feature_service":"payments","features":[],"entities":{"card":["c"]}})", 400, "expected either"},
      {R"({"feature_servce":"payments","entities":{"card":["c"]}})", 400, "did you mean 'feature_service'"},
      {R"({"features":[],"entities":{"card":["c"]}})", 400, "expected a list"},
      {R"({"features":["pace"],"entities":{"card":["c"]}})", 400, "expected VIEW:FEATURE"},
      {R"({"features":["pase:gap_s"],"entities":{"card":["c"]}})", 404, "did you mean 'pace'"},
      {R"({"features":["pace:gap"],"entities":{"card":["c"]}})", 404, "did you mean 'gap_s'"},
      {R"({"features":["payment/pace:gap_s"],"entities":{"card":["c"]}})", 404, "did you mean 'payments'"},
      {R"({"feature_service":"payment","entities":{"card":["c"]}})", 404, "did you mean 'payments'"},
      {R"({"features":["pace:gap_s"],"entities":{"crad":["c"]}})", 404, "did you mean 'card'"},
      {R"({"features":["pace:gap_s"]})", 400, "expected an object of entity names"},
      {R"({"features":["pace:gap_s"],"entities":{"card":"c"}})", 400, "expected a list of keys"},
      {R"({"features":["pace:gap_s"],"entities":{"card":[1.5]}})", 400, "found 1.5"},
      {R"({"features":["spend:sum_1m"],"entities":{"card":["c"]}})", 400, "'card' and 'currency'"},
      {R"({"features":["spend:sum_1m"],"entities":{"card":["c","d"],"currency":["EUR"]}})", 400, "found 1 and 2"},
      {R"({"features":["pace:gap_s","pace:gap_s"],"entities":{"card":["c"]}})", 400, "twice"},
      {R"({"features":["spend:sum_1m","costs:sum_1m"],"entities":{"card":["c"],"currency":["E"]}})", 400,
       "full_feature_names"},
      {R"({"features":["pace:gap_s"],"entities":{"card":["c"]},"max_age":5})", 400, "duration"},
      {R"({"features":["pace:gap_s"],"entities":{"card":["c"]},"full_feature_names":1})", 400, "true or false"},
  };
  for (const auto& c : cases) {
    const auto [status, body] = client.features(c.body);
    EXPECT_EQ(status, c.status) << c.body;
    EXPECT_THAT(body, StartsWith(R"({"error":)")) << c.body;
    EXPECT_THAT(body, HasSubstr(c.says)) << c.body;
  }
  std::string many = R"({"features":["pace:gap_s"],"entities":{"card":["c")";
  for (std::size_t i = 0; i < OnlineFeatures::kEntitiesMax; ++i) many += R"(,"c")";
  EXPECT_THAT(client.features(many + "]}}").second, HasSubstr("at most 1000 keys"));
}

TEST_F(FeatureServiceTest, HealthPathsAndMethods) {
  serve();
  Client client(port());
  EXPECT_EQ(client.ask("GET", "/health/live").first, 200);
  EXPECT_EQ(client.ask("GET", "/health/ready").first, 200);
  ready_ = false;
  EXPECT_EQ(client.ask("GET", "/health/ready").first, 503);
  EXPECT_EQ(client.ask("GET", "/health/live").first, 200);
  EXPECT_EQ(client.ask("GET", "/get-online-features").first, 405);
  EXPECT_EQ(client.ask("POST", "/health/live").first, 405);
  const auto [status, body] = client.ask("POST", "/get-online-feature");
  EXPECT_EQ(status, 404);
  EXPECT_THAT(body, HasSubstr("did you mean '/get-online-features'"));
}

TEST_F(FeatureServiceTest, RequestsInPiecesAndSeveralAtOnceAreAnsweredInOrder) {
  serve();
  Client client(port());
  for (const char c : std::string("GET /health/live HTTP/1.1\r\n\r\n")) client.send({&c, 1});
  std::string body;
  EXPECT_EQ(client.receive(body), 200);
  client.send("GET /health/live HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\nGET /health/ready HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.receive(body), 200);
  EXPECT_EQ(client.receive(body), 404);
  EXPECT_EQ(client.receive(body), 200);
  client.send("POST /get-online-features HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n");
  EXPECT_EQ(client.receive(body), 413);
  EXPECT_EQ(client.receive(body), 0) << "what follows a body that was not read is no request";
}

TEST_F(FeatureServiceTest, ConnectionsAreBoundedAndIdleOnesEnd) {
  serve({.connections_max = 2, .idle_ms = 300});
  Client first(port());
  Client second(port());
  EXPECT_EQ(first.ask("GET", "/health/live").first, 200);
  EXPECT_EQ(second.ask("GET", "/health/live").first, 200);
  std::string body;
  {
    Client third(port());
    EXPECT_EQ(third.receive(body), 503);
    EXPECT_THAT(body, HasSubstr("2 connections are open"));
  }
  second.send("POST /get-online-features HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf");
  EXPECT_EQ(first.receive(body), 0) << "idle";
  EXPECT_EQ(second.receive(body), 0) << "stalled in a request";
  Client fourth(port());
  EXPECT_EQ(fourth.ask("GET", "/health/live").first, 200);
}

TEST_F(FeatureServiceTest, AnswersAreOfOneEventWhileVectorsAreWritten) {
  serve();
  write(1, kC1 + "|EUR", 1, 1);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 2; !stop.load(); ++i) write(1, kC1 + "|EUR", i, static_cast<float>(i % 100'000));
  });
  Client client(port());
  for (int i = 0; i < 300; ++i) {
    const auto [status, body] = client.features(
        R"({"features":["spend:count_1m","costs:count_1m"],"full_feature_names":true,"entities":{"card":["c1"],"currency":["EUR"]}})");
    ASSERT_EQ(status, 200);
    simdjson::dom::parser parser;
    const simdjson::dom::element root = parser.parse(body);
    // write() numbers the columns upwards, so two of one event are as far apart as their places.
    const double spend = root["results"].at(2)["values"].at(0).get_double();
    const double costs = root["results"].at(3)["values"].at(0).get_double();
    ASSERT_EQ(costs - spend, plan_.find_column("costs.count_1m") - plan_.find_column("spend.count_1m")) << body;
  }
  stop = true;
  writer.join();
}

TEST(ListenAddressTest, OnlyLoopbackIsTaken) {
  EXPECT_EQ(parse_listen_address("127.0.0.1:8787")->port, 8787);
  EXPECT_EQ(parse_listen_address("localhost:0")->host, "127.0.0.1");
  EXPECT_EQ(parse_listen_address(":1")->host, "127.0.0.1");
  for (const char* address : {"0.0.0.0:80", "192.168.1.1:80", "[::]:80", "example.org:80"}) {
    const auto parsed = parse_listen_address(address);
    ASSERT_FALSE(parsed.has_value()) << address;
    EXPECT_THAT(parsed.error().message, HasSubstr("no authentication")) << address;
  }
  for (const char* address : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"}) {
    const auto parsed = parse_listen_address(address);
    ASSERT_FALSE(parsed.has_value()) << address;
    EXPECT_THAT(parsed.error().message, HasSubstr("expected ADDRESS:PORT")) << address;
  }
}

TEST(HttpServerTest, APortInUseIsNamed) {
  const auto nothing = [](const HttpRequest&) { return HttpAnswer{}; };
  auto first = HttpServer::start({"127.0.0.1", 0}, {}, nothing);
  ASSERT_TRUE(first.has_value());
  const auto second = HttpServer::start({"127.0.0.1", (*first)->port()}, {}, nothing);
  ASSERT_FALSE(second.has_value());
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string((*first)->port())));
}

}  // namespace
}  // namespace alcedo::serve
