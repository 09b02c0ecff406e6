// Everything that decides whether a page leaves is in one SQLite file and changes in one transaction with the position.
#include "alert/ledger.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "alert/alert_body.h"
#include "alert/sqlite.h"
#include "core/check.h"
#include "core/time.h"

namespace alcedo::alert {
namespace {

constexpr std::int64_t kSchemaVersion = 1;
constexpr std::int64_t kApplicationId = 0x414C4345;  // "ALCE", so that another program's file is recognised as such
// Above this a full check would make a restart slow; SQLite still finds damage when it meets it.
constexpr std::int64_t kCheckedBytesMax = 256LL * 1024 * 1024;
constexpr std::int64_t kLazyPositionNs = 100'000'000;

// incidents.status
constexpr std::int64_t kIncidentOpen = 0;
constexpr std::int64_t kIncidentResolved = 1;
// outbox.status: the first unsent step of an incident may leave, those behind it may not. The partial index needs the
// literals.
constexpr std::int64_t kStepReady = 0;
constexpr std::int64_t kStepBehind = 1;  // 3 is failed: kept with its reason; what was sent is deleted

constexpr const char* kSchema = R"sql(
CREATE TABLE meta(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  pipeline TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  sent INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  ignored INTEGER NOT NULL,
  coalesced INTEGER NOT NULL);
CREATE TABLE incidents(
  id INTEGER PRIMARY KEY,
  incident TEXT NOT NULL UNIQUE,
  route TEXT NOT NULL,
  status INTEGER NOT NULL,
  undeliverable INTEGER NOT NULL,
  change TEXT NOT NULL,
  changed_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL);
CREATE INDEX incidents_resolved ON incidents(changed_ms) WHERE status = 1;
CREATE TABLE outbox(
  id INTEGER PRIMARY KEY,
  incident INTEGER NOT NULL,
  route TEXT NOT NULL,
  kind INTEGER NOT NULL,
  action INTEGER NOT NULL,
  status INTEGER NOT NULL,
  body TEXT NOT NULL,
  revision INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  next_attempt_ms INTEGER NOT NULL,
  why TEXT NOT NULL);
CREATE INDEX outbox_ready ON outbox(route, action <> 0, id, next_attempt_ms) WHERE status = 0;
CREATE INDEX outbox_incident ON outbox(incident, id);
)sql";

std::string os_reason() { return std::strerror(errno); }

// Holds PATH.lock for the life of the process that owns the ledger.
class OwnerLock {
 public:
  OwnerLock() = default;
  OwnerLock(const OwnerLock&) = delete;
  OwnerLock& operator=(const OwnerLock&) = delete;
  ~OwnerLock() {
    // The file stays: removing it would let two processes lock two files of one name.
    if (fd_ >= 0) ::close(fd_);
  }
  Result<> take(const std::string& path) {
    const std::string lock_path = path + ".lock";
    fd_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) {
      return error(ErrorCode::kIo, fmt::format("{} cannot be opened ({}); check that its folder exists and is writable",
                                               lock_path, os_reason()));
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      std::array<char, 32> text{};
      const ssize_t n = ::pread(fd_, text.data(), text.size() - 1, 0);
      std::string owner(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
      while (!owner.empty() && owner.back() == '\n') owner.pop_back();
      return error(ErrorCode::kUnavailable,
                   fmt::format("{} is in use by process {}; stop that process, or choose another data folder", path,
                               owner.empty() ? "(unknown)" : owner));
    }
    const std::string pid = fmt::format("{}\n", ::getpid());
    // The pid only serves the message above, so a full disk here is no reason to stop.
    if (::ftruncate(fd_, 0) == 0) (void)!::pwrite(fd_, pid.data(), pid.size(), 0);
    return {};
  }

 private:
  int fd_ = -1;
};

bool conditions_hold(const RouteSpec& route, const IncidentChange& change) {
  if (route.when_impact && change.impact < *route.when_impact) return false;
  return route.when_types.empty() || std::ranges::find(route.when_types, change.type) != route.when_types.end();
}

bool unconditional(const RouteSpec& route) { return !route.when_impact && route.when_types.empty(); }

class SqliteLedger final : public Ledger {
 public:
  explicit SqliteLedger(Options options) : options_(std::move(options)) {}
  ~SqliteLedger() override;
  Result<> start();

  Result<std::size_t> commit(std::span<const IncidentChange> changes, std::uint64_t sequence) override;
  std::uint64_t committed_sequence() const override { return committed_.load(std::memory_order_acquire); }
  Result<std::vector<Delivery>> due(const std::string& route, std::int64_t now_ms, std::size_t limit) override;
  Result<> mark_sent(const Delivery& delivery, std::int64_t now_ms) override {
    return mark_all_sent({&delivery, 1}, now_ms);
  }
  Result<> mark_all_sent(std::span<const Delivery> deliveries, std::int64_t now_ms) override;
  Result<> mark_retry(const Delivery& delivery, std::int64_t next_attempt_ms, const std::string& why) override;
  Result<> mark_failed(const Delivery& delivery, const std::string& why) override;
  Result<Counts> counts() const override;
  Result<std::vector<IncidentRow>> incidents(std::size_t limit) const override;

 private:
  struct OutboxRow {
    std::int64_t id = 0;
    IncidentChange::Kind action = IncidentChange::Kind::kOpen;
  };
  // What a transaction will have changed in memory once it is committed.
  struct Staged {
    Counts counts;
    std::vector<std::pair<std::int64_t, std::int64_t>> due_added;
    std::vector<std::int64_t> due_removed;
  };

  Result<> check_routes() const;
  Result<> open_file();
  Result<> prepare_all();
  Result<> adopt_orphans();
  const RouteSpec* find_route(std::string_view name) const;
  const RouteSpec& route_for(const IncidentChange& change) const;
  static std::string render(const RouteSpec& route, IncidentChange change, IncidentChange::Kind action);

  Result<bool> apply(const IncidentChange& change, Staged& staged);
  Result<> queue(std::int64_t incident, const RouteSpec& route, const IncidentChange& change, std::int64_t status,
                 Staged& staged);
  Result<std::optional<OutboxRow>> last_unsent(std::int64_t incident);
  Result<> record_sent(const Delivery& delivery, std::int64_t now_ms, Staged& staged);
  Result<> promote_next(std::int64_t incident);
  Result<> retire(std::size_t limit, Staged& staged);
  Result<> save_meta(std::uint64_t sequence, const Counts& counts);
  Result<> set_durable(bool durable);
  void publish(Staged& staged);

  const Options options_;
  OwnerLock owner_;
  mutable std::mutex mutex_;
  mutable Database db_;
  bool durable_ = true;
  std::atomic<std::uint64_t> committed_ = 0;
  std::uint64_t saved_sequence_ = 0;
  std::int64_t saved_ns_ = 0;
  Counts counts_;
  std::int64_t next_outbox_id_ = 1;
  std::map<std::int64_t, std::int64_t>
      due_ns_;  // of unsent opens, by outbox id; a steady clock's values end with the process

  Statement select_incident_, insert_incident_, update_incident_, touch_incident_, select_change_, fail_incident_;
  Statement insert_step_, select_last_, replace_step_, select_step_, restart_step_, hurry_step_, delete_step_,
      promote_step_;
  Statement retry_step_, fail_step_, fail_behind_, has_next_, select_due_, save_meta_, select_retired_,
      delete_incident_, delete_steps_;
  mutable Statement select_newest_;
};

// Statements go before the connection, whose members are declared earlier.
SqliteLedger::~SqliteLedger() {
  if (saved_sequence_ < committed_.load() && set_durable(true)) (void)save_meta(committed_.load(), counts_);
}

Result<> SqliteLedger::start() {
  if (auto ok = check_routes(); !ok) return ok;
  if (auto ok = open_file(); !ok) return ok;
  if (auto ok = prepare_all(); !ok) return ok;
  return adopt_orphans();
}

Result<> SqliteLedger::check_routes() const {
  for (std::size_t i = 0; i < options_.routes.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (options_.routes[i].name == options_.routes[j].name) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("pipeline {}: two alert routes are named '{}'; give one of them another name",
                                 options_.pipeline, options_.routes[i].name));
      }
    }
  }
  // Otherwise an incident could match nothing and vanish.
  if (std::ranges::none_of(options_.routes, [](const RouteSpec& r) { return r.is_default || unconditional(r); })) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("pipeline {}: no alert route takes every incident; mark one with default: true",
                             options_.pipeline));
  }
  return {};
}

Result<> SqliteLedger::open_file() {
  const bool in_memory = options_.path == ":memory:";
  std::int64_t file_bytes = 0;
  if (!in_memory) {
    if (auto owned = owner_.take(options_.path); !owned) return owned;
    // Created here for its mode, which SQLite gives to its other files: alerts may hold personal data.
    const int fd = ::open(options_.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat status{};
    const bool good = fd >= 0 && ::fstat(fd, &status) == 0;
    const std::string why = good ? "" : os_reason();
    if (fd >= 0) ::close(fd);
    if (!good) {
      return error(ErrorCode::kIo, fmt::format("{} cannot be opened ({}); check that its folder exists and is writable",
                                               options_.path, why));
    }
    file_bytes = status.st_size;
  }
  if (auto ok = db_.open(options_.path); !ok) return ok;
  // The first read finds a file that is no database.
  const auto version = db_.integer("PRAGMA user_version");
  if (!version) return std::unexpected(version.error());
  const auto tables = db_.integer("SELECT COUNT(*) FROM sqlite_master");
  if (!tables) return std::unexpected(tables.error());
  const auto application = db_.integer("PRAGMA application_id");
  if (!application) return std::unexpected(application.error());
  if (*tables > 0 && *application != kApplicationId) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{} is another program's database; choose another data folder", options_.path));
  }
  if (*version > kSchemaVersion) {
    return error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} was written by a newer version of alcedo (its schema is {}, this version knows {}); use that "
                    "version, or another data folder",
                    options_.path, *version, kSchemaVersion));
  }
  if (*tables > 0 && file_bytes <= kCheckedBytesMax) {
    auto check = db_.prepare("PRAGMA quick_check(1)");
    if (!check) return std::unexpected(check.error());
    const auto row = check->first();
    if (!row) return std::unexpected(row.error());
    if (*row && check->text(0) != "ok") {
      return error(
          ErrorCode::kCorrupt,
          fmt::format("{} is damaged ({}). Move it away together with its -wal and -shm files and start again: open "
                      "incidents will page once more, under the same dedup keys",
                      options_.path, check->text(0)));
    }
  }
  if (auto ok =
          db_.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;"
                      "PRAGMA temp_store = MEMORY;");
      !ok) {
    return ok;
  }
  if (*tables == 0) {
    auto creating = Transaction::begin(db_);
    if (!creating) return std::unexpected(creating.error());
    const std::string stamp =
        fmt::format("PRAGMA user_version = {}; PRAGMA application_id = {};", kSchemaVersion, kApplicationId);
    if (auto ok = db_.execute(kSchema); !ok) return ok;
    if (auto ok = db_.execute(stamp.c_str()); !ok) return ok;
    auto insert = db_.prepare("INSERT INTO meta VALUES (1, ?, 0, 0, 0, 0, 0)");
    if (!insert) return std::unexpected(insert.error());
    if (auto ok = insert->run(std::string_view(options_.pipeline)); !ok) return ok;
    return creating->commit();
  }
  return {};
}

Result<> SqliteLedger::prepare_all() {
  const std::pair<Statement*, const char*> statements[] = {
      {&select_incident_, "SELECT id, route, status, undeliverable FROM incidents WHERE incident = ?"},
      {&insert_incident_,
       "INSERT INTO incidents(incident, route, status, undeliverable, change, changed_ms, sent_ms) "
       "VALUES (?, ?, 0, 0, ?, ?, 0) RETURNING id"},
      {&update_incident_, "UPDATE incidents SET route = ?, status = ?, change = ?, changed_ms = ? WHERE id = ?"},
      {&touch_incident_, "UPDATE incidents SET sent_ms = ? WHERE id = ?"},
      {&select_change_, "SELECT change, route FROM incidents WHERE id = ?"},
      {&fail_incident_, "UPDATE incidents SET undeliverable = 1 WHERE id = ?"},
      {&insert_step_,
       "INSERT INTO outbox(id, incident, route, kind, action, status, body, revision, attempts, "
       "next_attempt_ms, why) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, '')"},
      {&select_last_, "SELECT id, action FROM outbox WHERE incident = ? AND status < 2 ORDER BY id DESC LIMIT 1"},
      {&replace_step_, "UPDATE outbox SET action = ?, body = ?, revision = revision + 1 WHERE id = ?"},
      {&select_step_, "SELECT incident, action, revision, route FROM outbox WHERE id = ? AND status = 0"},
      {&restart_step_, "UPDATE outbox SET action = ?, body = ?, attempts = 0, next_attempt_ms = 0 WHERE id = ?"},
      {&hurry_step_, "UPDATE outbox SET attempts = 0, next_attempt_ms = 0 WHERE id = ?"},
      {&delete_step_, "DELETE FROM outbox WHERE id = ?"},
      {&promote_step_,
       "UPDATE outbox SET status = 0 WHERE id = "
       "(SELECT MIN(id) FROM outbox WHERE incident = ? AND status = 1)"},
      {&retry_step_,
       "UPDATE outbox SET attempts = attempts + 1, next_attempt_ms = ?, why = ? WHERE id = ? AND status = 0"},
      {&fail_step_, "UPDATE outbox SET status = 3, why = ?, attempts = attempts + 1 WHERE id = ?"},
      {&fail_behind_,
       "UPDATE outbox SET status = 3, why = 'its incident could not be opened' "
       "WHERE incident = ? AND status = 1"},
      {&has_next_,
       "SELECT 1 FROM outbox WHERE status = 1 AND incident = (SELECT incident FROM outbox WHERE id = ?) LIMIT 1"},
      {&select_due_,
       "SELECT o.id, i.incident, o.action, o.body, o.attempts, o.next_attempt_ms, o.revision FROM outbox o "
       "JOIN incidents i ON i.id = o.incident "
       "WHERE o.route = ? AND o.status = 0 AND o.next_attempt_ms <= ? ORDER BY o.action <> 0, o.id LIMIT ?"},
      {&save_meta_, "UPDATE meta SET sequence = ?, sent = ?, failed = ?, ignored = ?, coalesced = ?"},
      {&select_retired_,
       "SELECT id FROM incidents i WHERE status = 1 AND changed_ms < ? AND NOT EXISTS "
       "(SELECT 1 FROM outbox o WHERE o.incident = i.id AND o.status < 2) ORDER BY changed_ms LIMIT ?"},
      {&delete_incident_, "DELETE FROM incidents WHERE id = ?"},
      {&delete_steps_, "DELETE FROM outbox WHERE incident = ?"},
      {&select_newest_, "SELECT change, route, status, changed_ms FROM incidents ORDER BY id DESC LIMIT ?"},
  };
  for (const auto& [statement, sql] : statements) {
    auto prepared = db_.prepare(sql);
    if (!prepared) return std::unexpected(prepared.error());
    *statement = std::move(*prepared);
  }

  auto meta = db_.prepare("SELECT pipeline, sequence, sent, failed, ignored, coalesced FROM meta");
  if (!meta) return std::unexpected(meta.error());
  const auto row = meta->first();
  if (!row) return std::unexpected(row.error());
  if (!*row)
    return error(ErrorCode::kCorrupt, fmt::format("{} is damaged (table meta is empty); move it away", options_.path));
  if (meta->text(0) != options_.pipeline) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("{} belongs to pipeline '{}', not to '{}'; give each pipeline a data folder of its own",
                             options_.path, meta->text(0), options_.pipeline));
  }
  saved_sequence_ = static_cast<std::uint64_t>(meta->integer(1));
  committed_.store(saved_sequence_);
  counts_.sent = static_cast<std::uint64_t>(meta->integer(2));
  counts_.failed = static_cast<std::uint64_t>(meta->integer(3));
  counts_.ignored = static_cast<std::uint64_t>(meta->integer(4));
  counts_.coalesced = static_cast<std::uint64_t>(meta->integer(5));
  const std::pair<std::uint64_t*, const char*> countings[] = {
      {&counts_.incidents, "SELECT COUNT(*) FROM incidents"},
      {&counts_.open, "SELECT COUNT(*) FROM incidents WHERE status = 0"},
      {&counts_.pending, "SELECT COUNT(*) FROM outbox WHERE status < 2"}};
  for (const auto& [count, sql] : countings) {
    const auto counted = db_.integer(sql);
    if (!counted) return std::unexpected(counted.error());
    *count = static_cast<std::uint64_t>(*counted);
  }
  const auto last_id = db_.integer("SELECT MAX(id) FROM outbox");
  if (!last_id) return std::unexpected(last_id.error());
  next_outbox_id_ = *last_id + 1;
  return {};
}

// A configuration may have lost a route, or given its name to another kind, while deliveries waited for it.
Result<> SqliteLedger::adopt_orphans() {
  auto adopting = Transaction::begin(db_);
  if (!adopting) return std::unexpected(adopting.error());
  auto pending = db_.prepare("SELECT id, incident, route, kind, action FROM outbox WHERE status < 2");
  if (!pending) return std::unexpected(pending.error());
  struct Orphan {
    std::int64_t id, incident;
    IncidentChange::Kind action;
  };
  std::vector<Orphan> orphans;
  auto row = pending->first();
  for (; row && *row; row = pending->next()) {
    const RouteSpec* route = find_route(pending->text(2));
    if (route == nullptr || static_cast<std::int64_t>(route->kind) != pending->integer(3)) {
      orphans.push_back(
          {pending->integer(0), pending->integer(1), static_cast<IncidentChange::Kind>(pending->integer(4))});
    }
  }
  if (!row) return std::unexpected(row.error());
  auto move_step = db_.prepare("UPDATE outbox SET route = ?, kind = ?, body = ?, revision = revision + 1 WHERE id = ?");
  if (!move_step) return std::unexpected(move_step.error());
  auto move_incident = db_.prepare("UPDATE incidents SET route = ? WHERE id = ?");
  if (!move_incident) return std::unexpected(move_incident.error());
  for (const Orphan& orphan : orphans) {
    const auto found = select_change_.first(orphan.incident);
    if (!found) return std::unexpected(found.error());
    if (!*found) continue;
    auto change = change_from_json(select_change_.text(0));
    const RouteSpec* kept = find_route(select_change_.text(1));
    select_change_.reset();
    if (!change) return std::unexpected(change.error());
    const RouteSpec& route = kept != nullptr ? *kept : route_for(*change);
    if (auto ok = move_step->run(std::string_view(route.name), static_cast<std::int64_t>(route.kind),
                                 std::string_view(render(route, *change, orphan.action)), orphan.id);
        !ok) {
      return ok;
    }
    if (auto ok = move_incident->run(std::string_view(route.name), orphan.incident); !ok) return ok;
  }
  // Retry times are of a process whose clock may have been another; a restart tries at once, and attempts keep the
  // delays growing.
  if (auto ok = db_.execute("UPDATE outbox SET next_attempt_ms = 0 WHERE status < 2 AND next_attempt_ms > 0"); !ok)
    return ok;
  return adopting->commit();
}

const RouteSpec* SqliteLedger::find_route(std::string_view name) const {
  const auto found = std::ranges::find(options_.routes, name, &RouteSpec::name);
  return found == options_.routes.end() ? nullptr : &*found;
}

const RouteSpec& SqliteLedger::route_for(const IncidentChange& change) const {
  const RouteSpec* rest = nullptr;
  for (const RouteSpec& route : options_.routes) {
    // A default route without conditions waits for what no other takes.
    if (route.is_default && unconditional(route)) {
      if (rest == nullptr) rest = &route;
    } else if (conditions_hold(route, change)) {
      return route;
    } else if (route.is_default && rest == nullptr) {
      rest = &route;
    }
  }
  CHECK(rest != nullptr);  // check_routes
  return *rest;
}

std::string SqliteLedger::render(const RouteSpec& route, IncidentChange change, IncidentChange::Kind action) {
  change.kind = action;
  return route.kind == RouteSpec::Kind::kPagerDuty ? pagerduty_body(change, "") : alert_json(change);
}

Result<> SqliteLedger::set_durable(bool durable) {
  if (durable == durable_) return {};
  if (auto ok = db_.execute(durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL"); !ok) return ok;
  durable_ = durable;
  return {};
}

Result<> SqliteLedger::save_meta(std::uint64_t sequence, const Counts& counts) {
  return save_meta_.run(static_cast<std::int64_t>(sequence), static_cast<std::int64_t>(counts.sent),
                        static_cast<std::int64_t>(counts.failed), static_cast<std::int64_t>(counts.ignored),
                        static_cast<std::int64_t>(counts.coalesced));
}

void SqliteLedger::publish(Staged& staged) {
  counts_ = staged.counts;
  for (const auto& [id, due_ns] : staged.due_added) due_ns_.emplace(id, due_ns);
  for (const std::int64_t id : staged.due_removed) due_ns_.erase(id);
}

Result<std::size_t> SqliteLedger::commit(std::span<const IncidentChange> changes, std::uint64_t sequence) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t committed = committed_.load(std::memory_order_relaxed);
  const std::uint64_t reached = std::max(committed, sequence);
  Staged staged{.counts = counts_, .due_added = {}, .due_removed = {}};
  std::size_t applied = 0;

  const bool anything_new =
      std::ranges::any_of(changes, [&](const IncidentChange& c) { return c.position.sequence > committed; });
  if (!anything_new) {
    counts_.ignored += changes.size();
    if (reached > saved_sequence_ && steady_ns() - saved_ns_ >= kLazyPositionNs) {
      if (auto ok = set_durable(false); !ok) return std::unexpected(ok.error());
      if (auto ok = save_meta(reached, counts_); !ok) return std::unexpected(ok.error());
      saved_sequence_ = reached;
      saved_ns_ = steady_ns();
    }
    committed_.store(reached, std::memory_order_release);
    return applied;
  }

  if (auto ok = set_durable(true); !ok) return std::unexpected(ok.error());
  auto transaction = Transaction::begin(db_);
  if (!transaction) return std::unexpected(transaction.error());
  for (const IncidentChange& change : changes) {
    CHECK(!change.incident.empty());
    CHECK(change.position.sequence <= sequence);
    bool taken = false;
    if (change.position.sequence > committed) {
      const auto result = apply(change, staged);
      if (!result) return std::unexpected(result.error());
      taken = *result;
    }
    taken ? ++applied : ++staged.counts.ignored;
  }
  if (auto ok = retire(2 * changes.size() + 2, staged); !ok) return std::unexpected(ok.error());
  if (auto ok = save_meta(reached, staged.counts); !ok) return std::unexpected(ok.error());
  if (auto ok = transaction->commit(); !ok) return std::unexpected(ok.error());
  publish(staged);
  saved_sequence_ = reached;
  saved_ns_ = steady_ns();
  committed_.store(reached, std::memory_order_release);
  return applied;
}

// True: the change was taken. False: it must not have an effect.
Result<bool> SqliteLedger::apply(const IncidentChange& change, Staged& staged) {
  using Kind = IncidentChange::Kind;
  const auto known = select_incident_.first(std::string_view(change.incident));
  if (!known) return std::unexpected(known.error());
  const std::int64_t now_ms = options_.now_ms();
  if (!*known) {
    // The open of this step was ignored or is long gone: its evidence alone must not page.
    if (change.kind != Kind::kOpen) return false;
    const RouteSpec& route = route_for(change);
    const auto inserted = insert_incident_.first(std::string_view(change.incident), std::string_view(route.name),
                                                 std::string_view(alert_json(change)), now_ms);
    if (!inserted) return std::unexpected(inserted.error());
    const std::int64_t id = insert_incident_.integer(0);
    insert_incident_.reset();
    if (auto ok = queue(id, route, change, kStepReady, staged); !ok) return std::unexpected(ok.error());
    ++staged.counts.incidents;
    ++staged.counts.open;
    return true;
  }

  const std::int64_t id = select_incident_.integer(0);
  const RouteSpec* route = find_route(select_incident_.text(1));
  const bool resolved = select_incident_.integer(2) == kIncidentResolved;
  const bool undeliverable = select_incident_.integer(3) != 0;
  select_incident_.reset();
  if (resolved) return false;
  if (route == nullptr) route = &route_for(change);
  const bool resolves = change.kind == Kind::kResolve;
  if (auto ok = update_incident_.run(std::string_view(route->name), resolves ? kIncidentResolved : kIncidentOpen,
                                     std::string_view(alert_json(change)), now_ms, id);
      !ok) {
    return std::unexpected(ok.error());
  }
  if (resolves) --staged.counts.open;
  if (undeliverable) return true;

  const auto last = last_unsent(id);
  if (!last) return std::unexpected(last.error());
  // An unsent open keeps its place and takes the newest content; an unsent update gives way to whatever follows it. A
  // page that was earned is never dropped, so a resolve does not replace an open.
  if (last->has_value() && !(resolves && (*last)->action == Kind::kOpen)) {
    const Kind action = resolves ? Kind::kResolve : (*last)->action;
    if (auto ok = replace_step_.run(static_cast<std::int64_t>(action), std::string_view(render(*route, change, action)),
                                    (*last)->id);
        !ok) {
      return std::unexpected(ok.error());
    }
    ++staged.counts.coalesced;
    return true;
  }
  IncidentChange step = change;
  if (!resolves) step.kind = Kind::kUpdate;  // also a second open of an incident that is open
  if (auto ok = queue(id, *route, step, last->has_value() ? kStepBehind : kStepReady, staged); !ok) {
    return std::unexpected(ok.error());
  }
  return true;
}

Result<> SqliteLedger::queue(std::int64_t incident, const RouteSpec& route, const IncidentChange& change,
                             std::int64_t status, Staged& staged) {
  const std::int64_t id =
      next_outbox_id_++;  // never used again in this process: a late mark cannot hit another delivery
  if (options_.keep_due && change.kind == IncidentChange::Kind::kOpen && change.due_ns != 0) {
    staged.due_added.emplace_back(id, change.due_ns);
  }
  ++staged.counts.pending;
  return insert_step_.run(id, incident, std::string_view(route.name), static_cast<std::int64_t>(route.kind),
                          static_cast<std::int64_t>(change.kind), status,
                          std::string_view(render(route, change, change.kind)));
}

Result<std::optional<SqliteLedger::OutboxRow>> SqliteLedger::last_unsent(std::int64_t incident) {
  const auto found = select_last_.first(incident);
  if (!found) return std::unexpected(found.error());
  if (!*found) return std::nullopt;
  const OutboxRow row{.id = select_last_.integer(0),
                      .action = static_cast<IncidentChange::Kind>(select_last_.integer(1))};
  select_last_.reset();
  return row;
}

Result<> SqliteLedger::retire(std::size_t limit, Staged& staged) {
  const std::int64_t cutoff_ms = options_.now_ms() - options_.retention_days * kDayMs;
  std::vector<std::int64_t> retired;
  const auto collect = [&](std::int64_t before_ms, std::size_t count) -> Result<> {
    auto row = select_retired_.first(before_ms, static_cast<std::int64_t>(count));
    for (; row && *row; row = select_retired_.next()) retired.push_back(select_retired_.integer(0));
    if (!row) return std::unexpected(row.error());
    return {};
  };
  if (auto ok = collect(cutoff_ms, limit); !ok) return ok;
  if (retired.empty() && staged.counts.incidents > options_.incidents_max) {
    const std::size_t excess = staged.counts.incidents - options_.incidents_max;
    if (auto ok = collect(std::numeric_limits<std::int64_t>::max(), std::min(limit, excess)); !ok) return ok;
  }
  for (const std::int64_t id : retired) {
    if (auto ok = delete_steps_.run(id); !ok) return ok;
    if (auto ok = delete_incident_.run(id); !ok) return ok;
    --staged.counts.incidents;
  }
  return {};
}

Result<std::vector<Delivery>> SqliteLedger::due(const std::string& route, std::int64_t now_ms, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  std::vector<Delivery> deliveries;
  auto row = select_due_.first(std::string_view(route), now_ms, static_cast<std::int64_t>(limit));
  for (; row && *row; row = select_due_.next()) {
    Delivery& d = deliveries.emplace_back();
    d.id = select_due_.integer(0);
    d.route = route;
    d.incident = select_due_.text(1);
    d.action = static_cast<IncidentChange::Kind>(select_due_.integer(2));
    d.body = select_due_.text(3);
    d.attempts = static_cast<int>(select_due_.integer(4));
    d.next_attempt_ms = select_due_.integer(5);
    d.revision = select_due_.integer(6);
    if (const auto due = due_ns_.find(d.id); due != due_ns_.end()) d.due_ns = due->second;
  }
  if (!row) return std::unexpected(row.error());
  return deliveries;
}

Result<> SqliteLedger::mark_all_sent(std::span<const Delivery> deliveries, std::int64_t now_ms) {
  if (deliveries.empty()) return {};
  const std::scoped_lock lock(mutex_);
  // A step whose record a power cut took away would be sent again; behind its own resolve that would be a new page. So
  // the record is synced when a next step waits. When none waits, the next step comes with a synced commit behind this
  // record.
  bool next_waits = false;
  for (const Delivery& delivery : deliveries) {
    const auto waits = has_next_.first(delivery.id);
    if (!waits) return std::unexpected(waits.error());
    next_waits = next_waits || *waits;
    has_next_.reset();
  }
  if (auto ok = set_durable(next_waits); !ok) return ok;
  Staged staged{.counts = counts_, .due_added = {}, .due_removed = {}};
  auto transaction = Transaction::begin(db_);
  if (!transaction) return std::unexpected(transaction.error());
  for (const Delivery& delivery : deliveries) {
    if (auto ok = record_sent(delivery, now_ms, staged); !ok) return ok;
  }
  const std::uint64_t reached = committed_.load(std::memory_order_relaxed);
  if (auto ok = save_meta(reached, staged.counts); !ok) return ok;
  if (auto ok = transaction->commit(); !ok) return ok;
  publish(staged);
  saved_sequence_ = reached;
  return {};
}

Result<> SqliteLedger::record_sent(const Delivery& delivery, std::int64_t now_ms, Staged& staged) {
  using Kind = IncidentChange::Kind;
  const auto found = select_step_.first(delivery.id);
  if (!found) return std::unexpected(found.error());
  if (!*found) return {};
  const std::int64_t incident = select_step_.integer(0);
  const auto action = static_cast<Kind>(select_step_.integer(1));
  const bool replaced = select_step_.integer(2) != delivery.revision;
  const RouteSpec* route = find_route(select_step_.text(3));
  select_step_.reset();
  ++staged.counts.sent;
  staged.due_removed.push_back(delivery.id);
  if (auto ok = touch_incident_.run(now_ms, incident); !ok) return ok;

  if (replaced && action == Kind::kOpen) {
    // The page is out with older content. A resolve behind it says all that is left to say; otherwise the newest
    // content follows.
    const auto waits = has_next_.first(delivery.id);
    has_next_.reset();
    if (!waits) return std::unexpected(waits.error());
    if (!*waits) {
      const auto stored = select_change_.first(incident);
      if (!stored) return std::unexpected(stored.error());
      CHECK(*stored);
      auto change = change_from_json(select_change_.text(0));
      select_change_.reset();
      if (!change) return std::unexpected(change.error());
      CHECK(route != nullptr);
      return restart_step_.run(static_cast<std::int64_t>(Kind::kUpdate),
                               std::string_view(render(*route, *change, Kind::kUpdate)), delivery.id);
    }
  } else if (replaced) {
    return hurry_step_.run(delivery.id);
  }
  --staged.counts.pending;
  if (auto ok = delete_step_.run(delivery.id); !ok) return ok;
  return promote_next(incident);
}

Result<> SqliteLedger::promote_next(std::int64_t incident) { return promote_step_.run(incident); }

Result<> SqliteLedger::mark_retry(const Delivery& delivery, std::int64_t next_attempt_ms, const std::string& why) {
  const std::scoped_lock lock(mutex_);
  if (auto ok = set_durable(false); !ok) return ok;
  return retry_step_.run(next_attempt_ms, std::string_view(why), delivery.id);
}

Result<> SqliteLedger::mark_failed(const Delivery& delivery, const std::string& why) {
  const std::scoped_lock lock(mutex_);
  if (auto ok = set_durable(false); !ok) return ok;
  Staged staged{.counts = counts_, .due_added = {}, .due_removed = {delivery.id}};
  auto transaction = Transaction::begin(db_);
  if (!transaction) return std::unexpected(transaction.error());
  const auto found = select_step_.first(delivery.id);
  if (!found) return std::unexpected(found.error());
  if (!*found) return {};
  const std::int64_t incident = select_step_.integer(0);
  const auto action = static_cast<IncidentChange::Kind>(select_step_.integer(1));
  const bool replaced = select_step_.integer(2) != delivery.revision;
  select_step_.reset();
  if (replaced) return {};  // what was refused is no longer what waits
  std::uint64_t failed = 1;
  if (auto ok = fail_step_.run(std::string_view(why), delivery.id); !ok) return ok;
  if (action == IncidentChange::Kind::kOpen) {
    if (auto ok = fail_behind_.run(incident); !ok) return ok;
    failed += db_.changes();
    if (auto ok = fail_incident_.run(incident); !ok) return ok;
  } else if (auto ok = promote_next(incident); !ok) {
    return ok;
  }
  staged.counts.failed += failed;
  staged.counts.pending -= failed;
  if (auto ok = save_meta(committed_.load(std::memory_order_relaxed), staged.counts); !ok) return ok;
  if (auto ok = transaction->commit(); !ok) return ok;
  publish(staged);
  return {};
}

Result<Ledger::Counts> SqliteLedger::counts() const {
  const std::scoped_lock lock(mutex_);
  return counts_;
}

Result<std::vector<IncidentRow>> SqliteLedger::incidents(std::size_t limit) const {
  const std::scoped_lock lock(mutex_);
  std::vector<IncidentRow> rows;
  const auto count = static_cast<std::int64_t>(std::min<std::size_t>(limit, 1'000'000'000));
  auto row = select_newest_.first(count);
  for (; row && *row; row = select_newest_.next()) {
    auto change = change_from_json(select_newest_.text(0));
    if (!change) {
      select_newest_.reset();
      return std::unexpected(change.error());
    }
    rows.push_back({.latest = std::move(*change),
                    .route = std::string(select_newest_.text(1)),
                    .status = select_newest_.integer(2) == kIncidentResolved ? "resolved" : "open",
                    .changed_ms = select_newest_.integer(3)});
  }
  if (!row) return std::unexpected(row.error());
  return rows;
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::open(Options options) {
  auto ledger = std::make_unique<SqliteLedger>(std::move(options));
  if (auto ok = ledger->start(); !ok) return std::unexpected(ok.error());
  return ledger;
}

}  // namespace alcedo::alert
