// Whatever the receiver does, one incident stays one page, its steps in order, and nothing is lost or tried without
// end.
#include "alert/delivery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "alert/pagerduty_mock.h"
#include "alert/test_incidents.h"
#include "core/prng.h"

namespace alcedo::alert {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using namespace testing_incidents;
using Fault = PagerDutyMock::Fault;
using Kind = IncidentChange::Kind;

template <typename Condition>
bool wait_for(Condition condition, std::int64_t patience_ms = 15'000) {
  const std::int64_t end_ns = steady_ns() + patience_ms * 1'000'000;
  while (!condition()) {
    if (steady_ns() > end_ns) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// A ledger, a receiver and what carries between them.
struct Rig {
  std::unique_ptr<PagerDutyMock> mock;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<Deliverer> deliverer;
  std::vector<RouteSpec> routes;
  Deliverer::Options options{.seed = 1, .retry_first_ms = 2, .timeout_ms = 5000, .on_accepted = {}};
  std::uint64_t sequence = 0;

  explicit Rig(PagerDutyMock::Options mock_options = {.rate_limited = false}) {
    auto started = PagerDutyMock::start(std::move(mock_options));
    EXPECT_TRUE(started.has_value());
    mock = std::move(*started);
    routes = {pager_route(mock->url())};
  }
  static RouteSpec pager_route(const std::string& url) {
    return {.name = "pagerduty",
            .kind = RouteSpec::Kind::kPagerDuty,
            .is_default = true,
            .path = {},
            .routing_key = kRoutingKey,
            .url = url,
            .rate_limited = false};
  }
  void open(const std::string& path = ":memory:") {
    auto opened = Ledger::open({.path = path, .pipeline = "payments", .routes = routes});
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    ledger = std::move(*opened);
  }
  void start() {
    if (ledger == nullptr) open();
    auto started = Deliverer::start(*ledger, routes, options);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    deliverer = std::move(*started);
  }
  void commit(std::vector<IncidentChange> changes) {
    ++sequence;
    for (IncidentChange& c : changes) c.position.sequence = sequence;
    const auto taken = ledger->commit(changes, sequence);
    ASSERT_TRUE(taken.has_value()) << taken.error().message;
    if (deliverer != nullptr) deliverer->wake();
  }
  bool drained(std::int64_t patience_ms = 15'000) {
    return wait_for([&] { return ledger->counts()->pending == 0; }, patience_ms);
  }
  // "trigger", "resolve", … of one dedup key, in the order of arrival.
  std::vector<std::string> actions(const std::string& key) const {
    std::vector<std::string> out;
    for (const auto& c : mock->calls()) {
      if (c.dedup_key == key) out.push_back(c.action);
    }
    return out;
  }
  void expect_one_page_each() const {
    for (const auto& [keys, incident] : mock->incidents()) EXPECT_EQ(incident.opened, 1U) << keys.second;
  }
};

TEST(DeliveryTest, CarriesAnIncidentThroughItsLife) {
  Rig rig;
  std::mutex mutex;
  std::vector<Kind> accepted;
  rig.options.on_accepted = [&](const Delivery& d, std::int64_t accepted_ns) {
    const std::scoped_lock lock(mutex);
    accepted.push_back(d.action);
    EXPECT_LE(accepted_ns, steady_ns());
  };
  rig.start();
  rig.commit({open_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  rig.commit({update_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  rig.commit({resolve_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  rig.deliverer->stop(0);
  EXPECT_THAT(rig.actions("a"), ElementsAre("trigger", "trigger", "resolve"));
  EXPECT_THAT(accepted, ElementsAre(Kind::kOpen, Kind::kUpdate, Kind::kResolve));
  EXPECT_EQ(rig.deliverer->stats().accepted, 3U);
  EXPECT_EQ(rig.deliverer->stats().retries, 0U);
  EXPECT_EQ(rig.mock->totals().rejected, 0U);
  rig.expect_one_page_each();
}

TEST(DeliveryTest, AWakeSendsAtOnce) {
  Rig rig;
  std::atomic<std::int64_t> accepted_ns = 0;
  rig.options.on_accepted = [&](const Delivery&, std::int64_t ns) { accepted_ns = ns; };
  rig.start();
  std::vector<std::int64_t> latencies;
  for (int i = 0; i < 21; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    accepted_ns = 0;
    const std::int64_t start_ns = steady_ns();
    rig.commit({open_of("i" + std::to_string(i), 0)});
    ASSERT_TRUE(wait_for([&] { return accepted_ns != 0; }));
    latencies.push_back(accepted_ns - start_ns);
  }
  std::ranges::sort(latencies);
  // A generous bound for a busy machine; without the wake it would be a second.
  EXPECT_LT(latencies[10], 100'000'000);
}

TEST(DeliveryTest, SurvivesEveryFaultWithOnePageAnIncidentAndOrderWithin) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    Rig rig;
    rig.options.seed = seed;
    rig.start();
    Prng prng(seed + 1);
    const Fault kinds[] = {{.kind = Fault::Kind::kStatus, .status = 500},
                           {.kind = Fault::Kind::kStatus, .status = 503},
                           {.kind = Fault::Kind::kStatus, .status = 408},
                           {.kind = Fault::Kind::kStatus, .status = 429},
                           {.kind = Fault::Kind::kHang, .delay_ms = 20},
                           {.kind = Fault::Kind::kReset},
                           {.kind = Fault::Kind::kClose},
                           {.kind = Fault::Kind::kAcceptReset}};
    std::uint64_t faults = 0;
    for (int i = 0; i < 30; ++i) {
      const std::string name = "i" + std::to_string(i);
      for (const auto& step : {open_of(name, 0), update_of(name, 0), update_of(name, 0), resolve_of(name, 0)}) {
        // One fault at a time: a queue of them would be a long outage, which another test is about.
        if (prng.below(3) == 0 && rig.mock->totals().faulted == faults) {
          rig.mock->add_fault(kinds[prng.below(std::size(kinds))]);
          ++faults;
        }
        rig.commit({step});
        if (prng.below(2) == 0) std::this_thread::sleep_for(std::chrono::microseconds(prng.below(3000)));
      }
    }
    ASSERT_TRUE(rig.drained()) << "seed " << seed << ": " << rig.deliverer->stats().last_error;
    const auto incidents = rig.mock->incidents();
    EXPECT_THAT(incidents, SizeIs(30));
    for (const auto& [keys, incident] : incidents) {
      EXPECT_EQ(incident.opened, 1U) << keys.second << ", seed " << seed;
      EXPECT_EQ(incident.state, "resolved") << keys.second << ", seed " << seed;
    }
    EXPECT_EQ(rig.deliverer->stats().failed, 0U);
    EXPECT_GT(rig.mock->totals().faulted, 5U);
    EXPECT_LE(rig.deliverer->stats().retries, faults) << "no call is repeated without a reason";
    EXPECT_EQ(rig.mock->totals().rejected, 0U);
  }
}

TEST(DeliveryTest, AReceiverThatHangsIsAskedAgainUnderTheSameKey) {
  Rig rig;
  rig.options.timeout_ms = 100;
  rig.start();
  rig.mock->add_fault({.kind = Fault::Kind::kHang, .delay_ms = 10'000});
  rig.commit({open_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  rig.commit({resolve_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  const auto incident = rig.mock->incidents().at({kRoutingKey, "a"});
  EXPECT_EQ(incident.opened, 1U);
  EXPECT_GE(incident.triggers, 2U) << "the first was taken, but nobody said so";
  EXPECT_EQ(incident.state, "resolved");
}

TEST(DeliveryTest, ObeysRetryAfterForTheWholeRoute) {
  Rig rig;
  rig.start();
  rig.mock->add_fault({.kind = Fault::Kind::kStatus, .status = 429, .retry_after_s = 1});
  const std::int64_t start_ns = steady_ns();
  rig.commit({open_of("a", 0)});
  ASSERT_TRUE(wait_for([&] { return rig.mock->totals().faulted == 1; }));
  ASSERT_TRUE(wait_for([&] { return rig.deliverer->stats().retries == 1; }));
  rig.commit({open_of("b", 0)});
  ASSERT_TRUE(rig.drained());
  EXPECT_GE(steady_ns() - start_ns, 1'000'000'000);
  EXPECT_EQ(rig.mock->totals().accepted, 2U);
  EXPECT_EQ(rig.deliverer->stats().retries, 1U) << "the second incident waited too";
}

TEST(DeliveryTest, A400IsFinalAndHoldsNobodyUp) {
  Rig rig;
  rig.start();
  rig.mock->add_fault({.kind = Fault::Kind::kStatus, .status = 400});
  rig.commit({open_of("bad", 0)});
  ASSERT_TRUE(rig.drained());
  rig.commit({update_of("bad", 0), resolve_of("bad", 0), open_of("good", 0)});
  ASSERT_TRUE(rig.drained());
  EXPECT_THAT(rig.actions("bad"), IsEmpty());
  EXPECT_THAT(rig.actions("good"), ElementsAre("trigger"));
  EXPECT_EQ(rig.mock->totals().faulted + rig.mock->totals().accepted, 2U) << "never tried again";
  EXPECT_EQ(rig.deliverer->stats().failed, 1U);
  EXPECT_EQ(rig.deliverer->stats().retries, 0U);
  EXPECT_THAT(rig.deliverer->stats().last_error, HasSubstr("400"));
  EXPECT_THAT(rig.deliverer->stats().last_error, Not(HasSubstr(kRoutingKey)));
  EXPECT_EQ(rig.ledger->counts()->failed, 1U);
}

TEST(DeliveryTest, AnIncidentThatAlwaysFailsHoldsNobodyElseUp) {
  Rig rig;
  rig.options.retry_first_ms = 60'000;
  rig.start();
  rig.mock->add_fault({.kind = Fault::Kind::kStatus, .status = 500});
  rig.commit({open_of("stuck", 0)});
  ASSERT_TRUE(wait_for([&] { return rig.deliverer->stats().retries == 1; }));
  for (int i = 0; i < 20; ++i) rig.commit({open_of("i" + std::to_string(i), 0)});
  EXPECT_TRUE(wait_for([&] { return rig.mock->totals().accepted == 20; }));
  EXPECT_TRUE(wait_for([&] { return rig.ledger->counts()->pending == 1; }));
}

TEST(DeliveryTest, WaitsForAReceiverThatIsDownWithFewCalls) {
  std::uint16_t port = 0;
  {
    Rig reserved;
    port = reserved.mock->port();
  }
  Rig rig;
  rig.mock.reset();
  rig.routes[0].url = "http://127.0.0.1:" + std::to_string(port);
  rig.options.retry_first_ms = 10;
  rig.start();
  for (int i = 0; i < 300; ++i) rig.commit({open_of("i" + std::to_string(i), 0)});
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  const auto retries = rig.deliverer->stats().retries;
  EXPECT_GE(retries, 3U);
  EXPECT_LE(retries, 40U) << "a receiver that is down is probed, not stormed";
  // Meanwhile the incidents go on: what waits is coalesced.
  for (int i = 0; i < 300; ++i) rig.commit({update_of("i" + std::to_string(i), 0)});
  EXPECT_EQ(rig.ledger->counts()->pending, 300U);
  auto mock = PagerDutyMock::start({.port = port, .rate_limited = false});
  ASSERT_TRUE(mock.has_value()) << mock.error().message;
  rig.mock = std::move(*mock);
  ASSERT_TRUE(rig.drained());
  EXPECT_EQ(rig.mock->totals().opened, 300U);
  rig.expect_one_page_each();
}

TEST(DeliveryTest, TheFirstStormStaysWithinPagerDutysLimit) {
  Rig rig({.rate_limited = true});
  rig.routes[0].rate_limited = true;
  rig.start();
  const std::int64_t start_ns = steady_ns();
  for (int i = 0; i < 130; ++i) rig.commit({open_of("i" + std::to_string(i), 0)});
  ASSERT_TRUE(wait_for([&] { return rig.mock->totals().accepted >= 61; }));
  const std::uint64_t accepted = rig.mock->totals().accepted;
  const std::int64_t half_seconds = (steady_ns() - start_ns) / 500'000'000;
  EXPECT_LE(accepted, 61U + static_cast<std::uint64_t>(half_seconds)) << "60 at once, then one each half second";
  EXPECT_EQ(rig.mock->totals().limited, 0U) << "PagerDuty never had to say no";
}

TEST(DeliveryTest, KeepsTheOrderWithinEachIncidentWhileManyAreInTheAir) {
  Rig rig;
  rig.start();
  std::uint64_t evidence = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 40; ++i) {
      const std::string name = "i" + std::to_string(i);
      ++evidence;
      rig.commit({round == 0   ? change(Kind::kOpen, name, 0, evidence)
                  : round == 9 ? change(Kind::kResolve, name, 0, evidence)
                               : change(Kind::kUpdate, name, 0, evidence)});
    }
  }
  ASSERT_TRUE(rig.drained());
  std::map<std::string, std::uint64_t> newest;
  simdjson::dom::parser parser;
  for (const auto& c : rig.mock->calls()) {
    if (c.action == "resolve") {
      EXPECT_TRUE(newest.contains(c.dedup_key));
      newest[c.dedup_key] = ~0ULL;
      continue;
    }
    simdjson::dom::element document;
    ASSERT_EQ(parser.parse(c.body).get(document), simdjson::SUCCESS);
    const std::uint64_t seen = document.at_pointer("/payload/custom_details/evidence").get_uint64();
    EXPECT_GT(seen, newest[c.dedup_key]) << "older news after newer ones for " << c.dedup_key;
    newest[c.dedup_key] = seen;
  }
  for (int i = 0; i < 40; ++i) EXPECT_EQ(newest["i" + std::to_string(i)], ~0ULL);
  rig.expect_one_page_each();
}

// A ledger that can stop recording, as a full disk or a crash would.
class Forgetful final : public Ledger {
 public:
  explicit Forgetful(Ledger& inner) : inner_(inner) {}
  std::atomic<bool> forgets = true;
  std::atomic<int> refused = 0;
  Result<std::size_t> commit(std::span<const IncidentChange> c, std::uint64_t s) override {
    return inner_.commit(c, s);
  }
  std::uint64_t committed_sequence() const override { return inner_.committed_sequence(); }
  Result<std::vector<Delivery>> due(const std::string& r, std::int64_t n, std::size_t l) override {
    return inner_.due(r, n, l);
  }
  Result<> mark_sent(const Delivery& d, std::int64_t n) override { return mark_all_sent({&d, 1}, n); }
  Result<> mark_all_sent(std::span<const Delivery> d, std::int64_t n) override {
    if (!forgets) return inner_.mark_all_sent(d, n);
    ++refused;
    return error(ErrorCode::kUnavailable, "the disk is full");
  }
  Result<> mark_retry(const Delivery& d, std::int64_t n, const std::string& w) override {
    return inner_.mark_retry(d, n, w);
  }
  Result<> mark_failed(const Delivery& d, const std::string& w) override { return inner_.mark_failed(d, w); }
  Result<Counts> counts() const override { return inner_.counts(); }
  Result<std::vector<IncidentRow>> incidents(std::size_t l) const override { return inner_.incidents(l); }

 private:
  Ledger& inner_;
};

TEST(DeliveryTest, ACrashBetweenAcceptanceAndRecordRepeatsTheKeyAndNothingElse) {
  const TemporaryFolder folder;
  Rig rig;
  rig.open(folder.file("alerts.db"));
  Forgetful dying(*rig.ledger);
  auto deliverer = Deliverer::start(dying, rig.routes, rig.options);
  ASSERT_TRUE(deliverer.has_value());
  rig.commit({open_of("a", 0), resolve_of("a", 0), open_of("b", 0)});
  (*deliverer)->wake();
  ASSERT_TRUE(wait_for([&] { return dying.refused > 3; }));
  deliverer->reset();
  EXPECT_THAT(rig.actions("a"), ElementsAre("trigger")) << "the resolve waits for the record of its open";
  rig.ledger.reset();
  // The next life.
  rig.open(folder.file("alerts.db"));
  rig.start();
  ASSERT_TRUE(rig.drained());
  EXPECT_THAT(rig.actions("a"), ElementsAre("trigger", "trigger", "resolve"));
  EXPECT_THAT(rig.actions("b"), ElementsAre("trigger", "trigger"));
  rig.expect_one_page_each();
}

TEST(DeliveryTest, ALedgerThatCannotRecordDoesNotMakePagesRepeat) {
  Rig rig;
  rig.open();
  Forgetful full(*rig.ledger);
  auto deliverer = Deliverer::start(full, rig.routes, rig.options);
  ASSERT_TRUE(deliverer.has_value());
  rig.commit({open_of("a", 0)});
  (*deliverer)->wake();
  ASSERT_TRUE(wait_for([&] { return full.refused > 5; }));
  EXPECT_THAT((*deliverer)->stats().last_error, HasSubstr("full"));
  EXPECT_THAT(rig.actions("a"), SizeIs(1));
  full.forgets = false;
  ASSERT_TRUE(rig.drained());
  EXPECT_THAT(rig.actions("a"), SizeIs(1)) << "sent once while the process lives";
}

TEST(DeliveryTest, AKeyOf256CharactersAnd600KilobytesOfDetailsArrive) {
  Rig rig;
  rig.start();
  auto large = open_of(std::string(256, 'k'), 0);
  large.key = std::string(256, 'c');
  large.reasons[0].text = std::string(600 * 1024, 'd');
  rig.commit({large});
  ASSERT_TRUE(rig.drained());
  const auto calls = rig.mock->calls();
  ASSERT_THAT(calls, SizeIs(1)) << rig.deliverer->stats().last_error;
  EXPECT_LE(calls[0].dedup_key.size(), 255U);
  EXPECT_THAT(calls[0].body, HasSubstr("[cut]"));
  EXPECT_THAT(calls[0].body, HasSubstr("reasons.text (614400 bytes)"));
  auto end = resolve_of(std::string(256, 'k'), 0);
  rig.commit({end});
  ASSERT_TRUE(rig.drained());
  EXPECT_EQ(rig.mock->incidents().begin()->second.state, "resolved");
}

TEST(DeliveryTest, StopEmptiesTheOutboxWithinItsPatienceAndLeavesTheRest) {
  Rig rig;
  rig.open();
  std::vector<IncidentChange> many;
  for (int i = 0; i < 100; ++i) many.push_back(open_of("i" + std::to_string(i), 0));
  rig.commit(many);
  rig.start();
  rig.deliverer->stop(15'000);
  EXPECT_EQ(rig.ledger->counts()->pending, 0U);
  EXPECT_EQ(rig.mock->totals().accepted, 100U);

  rig.mock->add_fault({.kind = Fault::Kind::kHang, .delay_ms = 60'000, .count = 8});
  rig.start();
  rig.commit({open_of("late", 0)});
  const std::int64_t start_ns = steady_ns();
  rig.deliverer->stop(100);
  EXPECT_LT(steady_ns() - start_ns, 10'000'000'000);
  EXPECT_EQ(rig.ledger->counts()->pending, 1U) << "what was not accepted stays";
}

TEST(DeliveryTest, RoutingKeysComeFromWhereTheyAreKeptAndAreNeverShown) {
  const TemporaryFolder folder;
  Rig rig;
  rig.open();
  const auto start_error = [&](const std::string& key) {
    rig.routes[0].routing_key = key;
    auto started = Deliverer::start(*rig.ledger, rig.routes, rig.options);
    return started ? std::string() : started.error().message;
  };
  std::ofstream(folder.file("key")) << kRoutingKey << "\n";
  EXPECT_EQ(start_error("file:" + folder.file("key")), "");
  ::setenv("ALCEDO_TEST_ROUTING_KEY", kRoutingKey, 1);
  EXPECT_EQ(start_error("env:ALCEDO_TEST_ROUTING_KEY"), "");
  ::setenv("ALCEDO_TEST_ROUTING_KEY", "verysecretbutshort", 1);
  EXPECT_THAT(
      start_error("env:ALCEDO_TEST_ROUTING_KEY"),
      testing::AllOf(HasSubstr("pagerduty"), HasSubstr("ALCEDO_TEST_ROUTING_KEY"), Not(HasSubstr("verysecret"))));
  ::unsetenv("ALCEDO_TEST_ROUTING_KEY");
  EXPECT_THAT(start_error("env:ALCEDO_TEST_ROUTING_KEY"), HasSubstr("not set"));
  EXPECT_THAT(start_error("file:" + folder.file("absent")), HasSubstr(folder.file("absent")));
  EXPECT_THAT(start_error("tooshort"), testing::AllOf(HasSubstr("32"), Not(HasSubstr("tooshort"))));
  rig.routes[0].url = "events.pagerduty.com";
  EXPECT_THAT(start_error(kRoutingKey), HasSubstr("URL"));
}

// ---- files

struct FileRig : Rig {
  TemporaryFolder folder;
  std::string path = folder.file("alerts.ndjson");
  FileRig() {
    routes = {{.name = "file", .kind = RouteSpec::Kind::kFile, .is_default = true, .path = path, .routing_key = {}}};
  }
  std::vector<IncidentChange> lines(const std::string& of) const {
    std::ifstream in(of);
    std::vector<IncidentChange> out;
    std::string line;
    while (std::getline(in, line)) {
      auto parsed = change_from_json(line);
      EXPECT_TRUE(parsed.has_value()) << line.substr(0, 200);
      if (parsed) out.push_back(std::move(*parsed));
    }
    return out;
  }
};

TEST(FileDeliveryTest, AppendsOneValidLineADeliveryInAPrivateFile) {
  FileRig rig;
  rig.start();
  auto strange = open_of("a", 0);
  strange.summary = "a \"quote\",\n a line end, \x01 and \xFF";
  rig.commit({strange});
  ASSERT_TRUE(rig.drained());
  rig.commit({resolve_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  const auto lines = rig.lines(rig.path);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_EQ(lines[0].kind, Kind::kOpen);
  EXPECT_EQ(lines[0].summary, "a \"quote\",\n a line end, \x01 and \xEF\xBF\xBD");
  EXPECT_EQ(lines[1].kind, Kind::kResolve);
  struct stat status{};
  ASSERT_EQ(::stat(rig.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(FileDeliveryTest, FollowsARotation) {
  FileRig rig;
  rig.start();
  rig.commit({open_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  std::filesystem::rename(rig.path, rig.path + ".1");
  rig.commit({open_of("b", 0)});
  ASSERT_TRUE(rig.drained());
  EXPECT_THAT(rig.lines(rig.path + ".1"), SizeIs(1));
  ASSERT_THAT(rig.lines(rig.path), SizeIs(1));
  EXPECT_EQ(rig.lines(rig.path)[0].incident, "b");
}

TEST(FileDeliveryTest, RepairsATornLineOfItsOwnAndKeepsForeignOnes) {
  FileRig rig;
  const std::string whole = alert_json(open_of("before", 1)) + "\n";
  std::ofstream(rig.path) << whole << whole.substr(0, 100);
  rig.start();
  rig.commit({open_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  auto lines = rig.lines(rig.path);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_EQ(lines[1].incident, "a");
  rig.deliverer.reset();
  rig.ledger.reset();
  rig.sequence = 0;
  std::ofstream(rig.path) << R"({"somebody":"else's"})";
  rig.start();
  rig.commit({open_of("b", 0)});
  ASSERT_TRUE(rig.drained());
  EXPECT_THAT(rig.lines(rig.path), SizeIs(2)) << "the foreign line was ended, not cut";
}

TEST(FileDeliveryTest, RefusesAFolderThatIsNotThere) {
  FileRig rig;
  rig.routes[0].path = rig.folder.file("absent/alerts.ndjson");
  rig.open();
  const auto refused = Deliverer::start(*rig.ledger, rig.routes, rig.options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  EXPECT_THAT(refused.error().message, testing::AllOf(HasSubstr("'file'"), HasSubstr(rig.routes[0].path)));
}

TEST(FileDeliveryTest, AFullDiskIsWaitedOutWithoutHalfLines) {
  FileRig rig;
  rig.start();
  rig.commit({open_of("a", 0)});
  ASSERT_TRUE(rig.drained());
  // A limit on file sizes fails a write in the middle of a line, as a full disk does.
  const auto size = std::filesystem::file_size(rig.path);
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = old_limit;
  limit.rlim_cur = size + 100;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  rig.commit({open_of("b", 0)});
  const bool tried = wait_for([&] { return rig.deliverer->stats().retries >= 3; });
  const auto while_full = std::filesystem::file_size(rig.path);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  ASSERT_TRUE(tried);
  EXPECT_LE(while_full, size + 100);
  ASSERT_TRUE(rig.drained());
  const auto lines = rig.lines(rig.path);
  ASSERT_THAT(lines, SizeIs(2)) << "resumed alone";
  EXPECT_EQ(lines[1].incident, "b");
}

TEST(DeliveryTest, RoutesWorkSideBySide) {
  Rig rig;
  const TemporaryFolder folder;
  rig.routes[0].is_default = false;
  rig.routes[0].when_impact = Impact::kHigh;
  rig.routes.push_back({.name = "file",
                        .kind = RouteSpec::Kind::kFile,
                        .is_default = true,
                        .path = folder.file("f"),
                        .routing_key = {}});
  rig.start();
  auto low = open_of("low", 0);
  low.impact = Impact::kLow;
  rig.mock->add_fault({.kind = Fault::Kind::kHang, .delay_ms = 60'000, .count = 8});
  rig.commit({open_of("high", 0), low});
  EXPECT_TRUE(wait_for([&] { return rig.ledger->counts()->pending == 1; })) << "the file does not wait for PagerDuty";
  EXPECT_TRUE(wait_for([&] { return rig.actions("high").size() == 1; }));
  EXPECT_THAT(rig.actions("low"), IsEmpty());
  EXPECT_GT(std::filesystem::file_size(folder.file("f")), 0U);
}

}  // namespace
}  // namespace alcedo::alert
