// The promise of the ledger: whatever is replayed, killed or damaged, nobody is paged twice and no page is lost.
#include "alert/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "alert/alert_body.h"
#include "alert/test_incidents.h"
#include "core/prng.h"

namespace alcedo::alert {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using namespace testing_incidents;
using Kind = IncidentChange::Kind;

RouteSpec file_route(const std::string& name = "file") {
  return {.name = name, .kind = RouteSpec::Kind::kFile, .is_default = true, .path = "unused", .routing_key = {}};
}

Ledger::Options options(const std::string& path = ":memory:") {
  return {.path = path, .pipeline = "payments", .routes = {file_route()}};
}

std::unique_ptr<Ledger> must_open(Ledger::Options o) {
  auto ledger = Ledger::open(std::move(o));
  EXPECT_TRUE(ledger.has_value()) << (ledger ? "" : ledger.error().message);
  return ledger ? std::move(*ledger) : nullptr;
}

std::size_t must_commit(Ledger& ledger, const std::vector<IncidentChange>& changes, std::uint64_t sequence) {
  const auto taken = ledger.commit(changes, sequence);
  EXPECT_TRUE(taken.has_value()) << (taken ? "" : taken.error().message);
  return taken.value_or(0);
}

std::vector<Delivery> must_due(Ledger& ledger, const std::string& route = "file", std::int64_t now_ms = 0,
                               std::size_t limit = 1000) {
  auto due = ledger.due(route, now_ms, limit);
  EXPECT_TRUE(due.has_value()) << (due ? "" : due.error().message);
  return due.value_or(std::vector<Delivery>{});
}

// Sends everything; returns "open a", "resolve a", … in the order of sending.
std::vector<std::string> send_all(Ledger& ledger, const std::string& route = "file") {
  std::vector<std::string> sent;
  for (auto due = must_due(ledger, route); !due.empty(); due = must_due(ledger, route)) {
    for (const Delivery& d : due) {
      sent.push_back(std::string(to_string(d.action)) + " " + d.incident);
      EXPECT_TRUE(ledger.mark_sent(d, 1).has_value());
    }
  }
  return sent;
}

TEST(LedgerTest, AnIncidentLeavesStepByStep) {
  auto ledger = must_open(options());
  EXPECT_EQ(must_commit(*ledger, {open_of("a", 1)}, 1), 1U);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open a"));
  EXPECT_EQ(must_commit(*ledger, {update_of("a", 2)}, 2), 1U);
  EXPECT_THAT(send_all(*ledger), ElementsAre("update a"));
  EXPECT_EQ(must_commit(*ledger, {resolve_of("a", 3)}, 5), 1U);
  EXPECT_THAT(send_all(*ledger), ElementsAre("resolve a"));
  EXPECT_EQ(ledger->committed_sequence(), 5U);
  const auto rows = ledger->incidents(10);
  ASSERT_TRUE(rows.has_value());
  ASSERT_THAT(*rows, SizeIs(1));
  EXPECT_EQ((*rows)[0].status, "resolved");
  EXPECT_EQ((*rows)[0].latest.evidence, 3U);
  EXPECT_EQ((*rows)[0].latest.reasons[0].text, open_of("a", 1).reasons[0].text);
}

TEST(LedgerTest, IgnoresWhatItHasSeen) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 7)}, 9);
  EXPECT_EQ(must_commit(*ledger, {open_of("a", 7)}, 7), 0U);
  EXPECT_EQ(must_commit(*ledger, {open_of("b", 8), open_of("c", 9)}, 9), 0U);
  EXPECT_EQ(must_commit(*ledger, {open_of("d", 9), open_of("e", 10)}, 10), 1U);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open a", "open e"));
  EXPECT_EQ(ledger->counts()->ignored, 4U);
  EXPECT_EQ(ledger->committed_sequence(), 10U);
}

TEST(LedgerTest, AStepOfAnUnknownIncidentPagesNobody) {
  auto ledger = must_open(options());
  EXPECT_EQ(must_commit(*ledger, {update_of("x", 1), resolve_of("x", 2)}, 2), 0U);
  EXPECT_THAT(must_due(*ledger), IsEmpty());
  EXPECT_EQ(ledger->counts()->incidents, 0U);
}

TEST(LedgerTest, NothingFollowsAResolve) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1)}, 1);
  must_commit(*ledger, {resolve_of("a", 2)}, 2);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open a", "resolve a"));
  EXPECT_EQ(must_commit(*ledger, {update_of("a", 3), open_of("a", 4), resolve_of("a", 5)}, 5), 0U);
  EXPECT_THAT(must_due(*ledger), IsEmpty());
}

TEST(LedgerTest, CoalescesWhatIsUnsent) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1), update_of("a", 2, 20), update_of("a", 3, 30)}, 3);
  auto due = must_due(*ledger);
  ASSERT_THAT(due, SizeIs(1));
  EXPECT_EQ(due[0].action, Kind::kOpen) << "the first page stays an open";
  EXPECT_EQ(change_from_json(due[0].body)->evidence, 30U) << "with the newest content";
  EXPECT_EQ(change_from_json(due[0].body)->kind, Kind::kOpen);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open a"));

  must_commit(*ledger, {update_of("a", 4, 40)}, 4);
  must_commit(*ledger, {update_of("a", 5, 50)}, 5);
  due = must_due(*ledger);
  ASSERT_THAT(due, SizeIs(1));
  EXPECT_EQ(change_from_json(due[0].body)->evidence, 50U);
  must_commit(*ledger, {resolve_of("a", 6)}, 6);
  EXPECT_THAT(send_all(*ledger), ElementsAre("resolve a")) << "an unsent update gives way to the resolve";
  EXPECT_EQ(ledger->counts()->coalesced, 4U);
}

TEST(LedgerTest, AnUnsentPageIsNotLostToItsResolve) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1)}, 1);
  must_commit(*ledger, {resolve_of("a", 2)}, 2);
  const auto due = must_due(*ledger);
  ASSERT_THAT(due, SizeIs(1)) << "the resolve waits for the open";
  ASSERT_TRUE(ledger->mark_retry(due[0], 1000, "down").has_value());
  EXPECT_THAT(must_due(*ledger, "file", 999), IsEmpty()) << "also while the open waits for its retry";
  EXPECT_THAT(must_due(*ledger, "file", 1000), SizeIs(1));
  EXPECT_EQ(must_due(*ledger, "file", 1000)[0].attempts, 1);
  ASSERT_TRUE(ledger->mark_sent(due[0], 1).has_value());
  EXPECT_THAT(send_all(*ledger), ElementsAre("resolve a"));
}

TEST(LedgerTest, ContentThatChangedInTheAirFollowsAsAnUpdate) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1)}, 1);
  auto in_the_air = must_due(*ledger);
  must_commit(*ledger, {update_of("a", 2, 20)}, 2);
  ASSERT_TRUE(ledger->mark_sent(in_the_air[0], 1).has_value());
  in_the_air = must_due(*ledger);
  ASSERT_THAT(in_the_air, SizeIs(1));
  EXPECT_EQ(in_the_air[0].action, Kind::kUpdate);
  EXPECT_EQ(change_from_json(in_the_air[0].body)->evidence, 20U);
  EXPECT_EQ(change_from_json(in_the_air[0].body)->kind, Kind::kUpdate);

  must_commit(*ledger, {resolve_of("a", 3)}, 3);
  ASSERT_TRUE(ledger->mark_sent(in_the_air[0], 1).has_value());
  EXPECT_THAT(send_all(*ledger), ElementsAre("resolve a"));
  EXPECT_EQ(ledger->counts()->pending, 0U);
  EXPECT_EQ(ledger->counts()->sent, 3U);
}

TEST(LedgerTest, AnOpenReplacedInTheAirWithItsResolveBehindSendsOnlyTheResolve) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1)}, 1);
  const auto in_the_air = must_due(*ledger);
  must_commit(*ledger, {update_of("a", 2), resolve_of("a", 3)}, 3);
  ASSERT_TRUE(ledger->mark_sent(in_the_air[0], 1).has_value());
  EXPECT_THAT(send_all(*ledger), ElementsAre("resolve a"));
  EXPECT_EQ(ledger->counts()->pending, 0U);
}

TEST(LedgerTest, AFailedOpenFailsTheStepsBehindItAndAFailedUpdateOnlyItself) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1), resolve_of("a", 2), open_of("b", 3)}, 3);
  auto due = must_due(*ledger);
  ASSERT_THAT(due, SizeIs(2));
  ASSERT_TRUE(ledger->mark_failed(due[0], "400").has_value());
  EXPECT_EQ(ledger->counts()->failed, 2U);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open b"));
  must_commit(*ledger, {update_of("b", 4)}, 4);
  due = must_due(*ledger);
  ASSERT_TRUE(ledger->mark_failed(due[0], "400").has_value());
  must_commit(*ledger, {resolve_of("b", 5)}, 5);
  EXPECT_THAT(send_all(*ledger), ElementsAre("resolve b"));
  EXPECT_EQ(ledger->counts()->failed, 3U);
  EXPECT_EQ(ledger->counts()->pending, 0U);
}

TEST(LedgerTest, StepsAfterAFailedOpenAreNotQueued) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1)}, 1);
  ASSERT_TRUE(ledger->mark_failed(must_due(*ledger)[0], "400").has_value());
  must_commit(*ledger, {update_of("a", 2), resolve_of("a", 3)}, 3);
  EXPECT_THAT(must_due(*ledger), IsEmpty());
  EXPECT_EQ(ledger->counts()->open, 0U);
}

TEST(LedgerTest, AFirstPageDoesNotWaitBehindUpdates) {
  auto ledger = must_open(options());
  must_commit(*ledger, {open_of("a", 1), open_of("b", 2)}, 2);
  send_all(*ledger);
  must_commit(*ledger, {update_of("a", 3), resolve_of("b", 4), open_of("c", 5), open_of("d", 6)}, 6);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open c", "open d", "update a", "resolve b"));
}

TEST(LedgerTest, RoutesByTheFirstMatchAndStays) {
  Ledger::Options o = options();
  o.routes = {file_route("rest"),
              {.name = "high", .when_impact = Impact::kHigh, .path = "x", .routing_key = {}},
              {.name = "types", .when_types = {"drift"}, .path = "x", .routing_key = {}}};
  auto ledger = must_open(std::move(o));
  auto high = open_of("high", 1);
  auto medium = open_of("medium", 2);
  medium.impact = Impact::kMedium;
  auto drift = open_of("drift", 3);
  drift.impact = Impact::kLow;
  drift.type = "drift";
  must_commit(*ledger, {high, medium, drift}, 3);
  auto grown = update_of("medium", 4);
  grown.impact = Impact::kHigh;
  EXPECT_THAT(send_all(*ledger, "high"), ElementsAre("open high"));
  EXPECT_THAT(send_all(*ledger, "types"), ElementsAre("open drift"));
  EXPECT_THAT(send_all(*ledger, "rest"), ElementsAre("open medium"));
  must_commit(*ledger, {grown}, 4);
  EXPECT_THAT(send_all(*ledger, "high"), IsEmpty());
  EXPECT_THAT(send_all(*ledger, "rest"), ElementsAre("update medium"));
}

TEST(LedgerTest, RefusesRoutesThatWouldLoseIncidents) {
  Ledger::Options o = options();
  o.routes = {{.name = "high", .when_impact = Impact::kHigh, .path = "x", .routing_key = {}}};
  const auto no_default = Ledger::open(o);
  ASSERT_FALSE(no_default.has_value());
  EXPECT_EQ(no_default.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(no_default.error().message, HasSubstr("default"));
  o.routes = {file_route("a"), file_route("a")};
  EXPECT_FALSE(Ledger::open(o).has_value());
}

TEST(LedgerTest, ContinuesWhereItWasLeft) {
  const TemporaryFolder folder;
  {
    auto ledger = must_open(options(folder.file("alerts.db")));
    must_commit(*ledger, {open_of("a", 1), open_of("b", 2)}, 4);
    ASSERT_TRUE(ledger->mark_sent(must_due(*ledger)[0], 1).has_value());
    ASSERT_TRUE(ledger->mark_retry(must_due(*ledger)[0], 1'000'000, "down").has_value());
    must_commit(*ledger, {}, 6);
  }
  auto ledger = must_open(options(folder.file("alerts.db")));
  EXPECT_EQ(ledger->committed_sequence(), 6U) << "a position without changes is kept at the latest at the end";
  EXPECT_EQ(ledger->counts()->incidents, 2U);
  EXPECT_EQ(ledger->counts()->pending, 1U);
  EXPECT_EQ(ledger->counts()->sent, 1U);
  EXPECT_EQ(must_commit(*ledger, {open_of("a", 1), open_of("b", 2)}, 6), 0U);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open b")) << "a restart does not wait for an old retry time";
}

TEST(LedgerTest, KeepsDueTimesOfThisProcessOnlyWhenAsked) {
  auto opened = open_of("a", 1);
  opened.due_ns = 12345;
  auto without = must_open(options());
  must_commit(*without, {opened}, 1);
  EXPECT_EQ(must_due(*without)[0].due_ns, 0);
  auto o = options();
  o.keep_due = true;
  auto with = must_open(o);
  must_commit(*with, {opened}, 1);
  EXPECT_EQ(must_due(*with)[0].due_ns, 12345);
}

TEST(LedgerTest, RefusesASecondOwnerAndNamesTheFirst) {
  const TemporaryFolder folder;
  const auto first = must_open(options(folder.file("alerts.db")));
  const auto second = Ledger::open(options(folder.file("alerts.db")));
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(second.error().message, HasSubstr(folder.file("alerts.db")));
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(::getpid())));
}

TEST(LedgerTest, RefusesAnotherPipelinesLedger) {
  const TemporaryFolder folder;
  must_open(options(folder.file("alerts.db")));
  auto other = options(folder.file("alerts.db"));
  other.pipeline = "infrastructure";
  const auto refused = Ledger::open(other);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("payments"));
  EXPECT_THAT(refused.error().message, HasSubstr("infrastructure"));
}

TEST(LedgerTest, RefusesDamageAndSaysWhatToDo) {
  const TemporaryFolder folder;
  const std::string path = folder.file("alerts.db");
  {
    auto ledger = must_open(options(path));
    std::vector<IncidentChange> many;
    for (std::uint64_t i = 1; i <= 200; ++i) many.push_back(open_of("incident-" + std::to_string(i), i));
    must_commit(*ledger, many, 200);
  }
  std::string good;
  {
    std::ifstream in(path, std::ios::binary);
    good.assign(std::istreambuf_iterator<char>(in), {});
  }
  ASSERT_GT(good.size(), 16384U);
  std::string header = good;
  header.replace(0, 16, 16, 'x');
  std::string page = good;
  page.replace(4096, 4096, 4096, '\xA5');
  const std::pair<std::string, std::string> damages[] = {{"header", header},
                                                         {"page", page},
                                                         {"truncated", good.substr(0, good.size() / 2)},
                                                         {"text", "not a database at all, but text"}};
  for (const auto& [name, bytes] : damages) {
    const std::string damaged = folder.file(name + ".db");
    std::ofstream(damaged, std::ios::binary) << bytes;
    const auto refused = Ledger::open(options(damaged));
    ASSERT_FALSE(refused.has_value()) << name;
    EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt) << name << ": " << refused.error().message;
    EXPECT_THAT(refused.error().message, HasSubstr(damaged));
    EXPECT_THAT(refused.error().message, HasSubstr("ove it away"));
  }
}

TEST(LedgerTest, RefusesAFolderThatIsNotThere) {
  const auto refused = Ledger::open(options("/nonexistent/alerts.db"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kIo);
  EXPECT_THAT(refused.error().message, HasSubstr("/nonexistent/alerts.db"));
}

TEST(LedgerTest, AFullDiskRefusesACommitWholeAndTakesItLater) {
  const TemporaryFolder folder;
  auto ledger = must_open(options(folder.file("alerts.db")));
  must_commit(*ledger, {open_of("before", 1)}, 1);
  std::vector<IncidentChange> many;
  for (std::uint64_t i = 2; i < 300; ++i) many.push_back(open_of("i" + std::to_string(i), i));
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = old_limit;
  limit.rlim_cur = std::filesystem::file_size(folder.file("alerts.db-wal")) + 50'000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto refused = ledger->commit(many, 300);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  std::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr(folder.file("alerts.db")));
  EXPECT_EQ(ledger->committed_sequence(), 1U);
  EXPECT_EQ(ledger->counts()->incidents, 1U);
  EXPECT_EQ(must_commit(*ledger, many, 300), many.size());
  EXPECT_EQ(must_due(*ledger, "file", 0, 1000).size(), many.size() + 1);
}

TEST(LedgerTest, ItsFilesArePrivate) {
  const TemporaryFolder folder;
  auto ledger = must_open(options(folder.file("alerts.db")));
  must_commit(*ledger, {open_of("a", 1)}, 1);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    struct stat status{};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U) << entry.path();
  }
}

TEST(LedgerTest, RetiresOldAndSurplusIncidentsButNothingUnsentOrOpen) {
  std::int64_t now_ms = 1'700'000'000'000;
  auto o = options();
  o.now_ms = [&] { return now_ms; };
  o.incidents_max = 6;
  auto ledger = must_open(o);
  must_commit(*ledger, {open_of("done", 1), resolve_of("done", 2)}, 2);
  send_all(*ledger);
  must_commit(*ledger, {open_of("open", 3)}, 3);
  send_all(*ledger);
  must_commit(*ledger, {open_of("unsent", 4), resolve_of("unsent", 5)}, 5);
  now_ms += 31 * kDayMs;
  must_commit(*ledger, {open_of("new", 6)}, 6);
  const auto names = [&] {
    std::vector<std::string> out;
    const auto rows = ledger->incidents(100);
    EXPECT_TRUE(rows.has_value());
    for (const IncidentRow& row : rows.value_or(std::vector<IncidentRow>{})) out.push_back(row.latest.incident);
    return out;
  };
  EXPECT_THAT(names(), ElementsAre("new", "unsent", "open"));
  EXPECT_EQ(ledger->counts()->incidents, 3U);
  // Beyond the count the oldest resolved ones go early.
  for (std::uint64_t i = 0; i < 6; ++i) {
    const std::string name = "s" + std::to_string(i);
    ++now_ms;
    must_commit(*ledger, {open_of(name, 10 + 2 * i), resolve_of(name, 11 + 2 * i)}, 11 + 2 * i);
    send_all(*ledger);
  }
  must_commit(*ledger, {open_of("last", 100)}, 100);
  EXPECT_LE(ledger->counts()->incidents, 6U);
  EXPECT_EQ(names().front(), "last");
  EXPECT_THAT(names(), testing::Contains("open"));
  EXPECT_THAT(names(), testing::Contains("s5"));
  // A retired incident stays retired for a replay.
  EXPECT_EQ(must_commit(*ledger, {open_of("done", 1)}, 100), 0U);
}

TEST(LedgerTest, MovesWhatWaitedForARouteThatIsGone) {
  const TemporaryFolder folder;
  auto o = options(folder.file("alerts.db"));
  o.routes = {{.name = "pager", .kind = RouteSpec::Kind::kPagerDuty, .is_default = true, .routing_key = kRoutingKey}};
  {
    auto ledger = must_open(o);
    must_commit(*ledger, {open_of("a", 1), update_of("a", 2, 7), resolve_of("a", 3)}, 3);
    EXPECT_THAT(must_due(*ledger, "pager")[0].body, testing::Not(HasSubstr(kRoutingKey))) << "a secret";
  }
  o.routes = {file_route()};
  auto ledger = must_open(o);
  const auto due = must_due(*ledger, "file");
  ASSERT_THAT(due, SizeIs(1));
  const auto line = change_from_json(due[0].body);
  ASSERT_TRUE(line.has_value()) << due[0].body;
  EXPECT_EQ(line->kind, Kind::kOpen);
  EXPECT_THAT(send_all(*ledger), ElementsAre("open a", "resolve a"));
}

TEST(LedgerTest, CommitsFromManyThreadsDoNotMix) {
  auto ledger = must_open(options());
  std::vector<std::thread> threads;
  std::atomic<bool> done = false;
  threads.emplace_back([&] {
    while (!done) send_all(*ledger);
  });
  threads.emplace_back([&] {
    while (!done) {
      EXPECT_TRUE(ledger->counts().has_value());
      EXPECT_TRUE(ledger->incidents(3).has_value());
      (void)ledger->committed_sequence();
    }
  });
  for (std::uint64_t i = 1; i <= 300; ++i) {
    const std::string name = "i" + std::to_string(i / 3);
    must_commit(*ledger, {i % 3 == 0 ? open_of(name, i) : i % 3 == 1 ? update_of(name, i) : resolve_of(name, i)}, i);
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  send_all(*ledger);
  EXPECT_EQ(ledger->counts()->pending, 0U);
}

// A random life of incidents, as the engine would emit it: per incident open, updates, resolve; positions grow.
std::vector<IncidentChange> random_stream(std::uint64_t seed, std::size_t length) {
  Prng prng(seed);
  std::vector<IncidentChange> stream;
  std::vector<std::string> open;
  std::uint64_t sequence = 0;
  std::uint32_t index = 0;
  for (std::size_t i = 0; i < length; ++i) {
    if (prng.below(3) != 0 || sequence == 0) {
      sequence += 1 + prng.below(3);
      index = 0;
    } else {
      ++index;  // several changes of one input
    }
    IncidentChange c;
    const std::uint64_t what = prng.below(4);
    if (open.empty() || what == 0) {
      open.push_back("i" + std::to_string(i));
      c = open_of(open.back(), sequence);
    } else {
      const std::size_t which = prng.below(open.size());
      c = what == 1 ? resolve_of(open[which], sequence) : update_of(open[which], sequence, i);
      if (what == 1) open.erase(open.begin() + static_cast<std::ptrdiff_t>(which));
    }
    c.position.index = index;
    stream.push_back(c);
  }
  return stream;
}

// What a receiver with PagerDuty's life cycle saw.
struct Receiver {
  std::map<std::string, std::string> state;  // "open", "resolved"
  std::map<std::string, int> pages;          // incidents opened by key
  void take(const Delivery& d) {
    std::string& now = state[d.incident];
    if (d.action == Kind::kResolve) {
      EXPECT_NE(now, "") << "a resolve before its open: " << d.incident;
      now = "resolved";
    } else if (now != "open") {
      ++pages[d.incident];
      now = "open";
    }
  }
};

// The property: whatever dies and whatever is replayed, every incident pages once and ends as the stream says.
TEST(LedgerTest, ReplaysFromAnywhereAfterKillsAnywherePageEachIncidentOnce) {
  const TemporaryFolder folder;
  std::uint64_t reopened = 0;
  std::uint64_t died_after_acceptance = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Prng prng(seed ^ 0xA1E47);
    const auto stream = random_stream(seed, 60);
    std::map<std::string, std::string> oracle;
    for (const auto& c : stream) oracle[c.incident] = c.kind == Kind::kResolve ? "resolved" : "open";

    const std::string path = folder.file("s" + std::to_string(seed) + ".db");
    auto ledger = must_open(options(path));
    Receiver receiver;
    std::size_t at = 0;
    while (at < stream.size()) {
      // A batch ends between positions, as a journaled batch of inputs does.
      std::size_t end = std::min(stream.size(), at + 1 + prng.below(8));
      while (end < stream.size() && stream[end].position.sequence == stream[end - 1].position.sequence) ++end;
      must_commit(*ledger,
                  {stream.begin() + static_cast<std::ptrdiff_t>(at), stream.begin() + static_cast<std::ptrdiff_t>(end)},
                  stream[end - 1].position.sequence);
      at = end;
      for (std::uint64_t sends = prng.below(4); sends > 0; --sends) {
        const auto due = must_due(*ledger, "file", 1'000'000, 2);
        for (const Delivery& d : due) {
          switch (prng.below(5)) {
            case 0:
              ASSERT_TRUE(ledger->mark_retry(d, 0, "500").has_value());
              break;
            case 1:
              receiver.take(d);  // accepted, and then this process dies: no record
              ++died_after_acceptance;
              sends = 1;
              break;
            default:
              receiver.take(d);
              ASSERT_TRUE(ledger->mark_sent(d, 1).has_value());
          }
        }
      }
      if (prng.below(3) == 0) {
        ledger.reset();
        ledger = must_open(options(path));
        ++reopened;
        // The engine starts again from an earlier position; stated ones are ignored, whatever the batches are now.
        at = prng.below(at + 1);
        while (at > 0 && stream[at].position.sequence == stream[at - 1].position.sequence) --at;
      }
    }
    for (auto due = must_due(*ledger); !due.empty(); due = must_due(*ledger)) {
      for (const Delivery& d : due) {
        receiver.take(d);
        ASSERT_TRUE(ledger->mark_sent(d, 1).has_value());
      }
    }
    EXPECT_EQ(receiver.state, oracle) << "seed " << seed;
    for (const auto& [incident, pages] : receiver.pages) EXPECT_EQ(pages, 1) << incident << ", seed " << seed;
    // A full rewind afterwards sends nothing at all.
    must_commit(*ledger, stream, stream.back().position.sequence);
    EXPECT_THAT(must_due(*ledger), IsEmpty()) << "seed " << seed;
  }
  EXPECT_GT(reopened, 100U);
  EXPECT_GT(died_after_acceptance, 100U);
}

// A process that is killed in the middle of its commits leaves all of a commit or nothing.
TEST(LedgerTest, AKilledProcessLeavesWholeCommits) {
  const TemporaryFolder folder;
  const std::string path = folder.file("alerts.db");
  std::uint64_t last = 0;
  for (int round = 0; round < 8; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto ledger = Ledger::open(options(path));
      if (!ledger) ::_exit(1);
      for (std::uint64_t i = (*ledger)->committed_sequence() + 1;; ++i) {
        const std::string name = std::to_string(i);
        const IncidentChange pair[] = {open_of("a" + name, i), open_of("b" + name, i)};
        if (!(*ledger)->commit(pair, i)) ::_exit(2);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(40 + 7 * round));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
    auto ledger = must_open(options(path));
    ASSERT_NE(ledger, nullptr);
    EXPECT_GE(ledger->committed_sequence(), last);
    last = ledger->committed_sequence();
    EXPECT_EQ(ledger->counts()->incidents, 2 * last);
    EXPECT_EQ(ledger->counts()->pending, 2 * last);
  }
  EXPECT_GT(last, 0U);
}

}  // namespace
}  // namespace alcedo::alert
