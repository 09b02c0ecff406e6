// Result codes become messages here, once, because what to do depends on the code and not on the statement.
#include "alert/sqlite.h"

#include <fmt/format.h>

#include <utility>

#include "core/check.h"

namespace alcedo::alert {

Statement::Statement(Statement&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), database_(other.database_) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(database_, other.database_);
  return *this;
}

Statement::~Statement() { sqlite3_finalize(handle_); }

Result<bool> Statement::next() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) {
    reset();
    return false;
  }
  auto failed = database_->failure(code);
  reset();
  return failed;
}

void Statement::reset() {
  if (handle_ != nullptr) sqlite3_reset(handle_);
}

std::string_view Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  return bytes == nullptr ? std::string_view()
                          : std::string_view(bytes, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column)));
}

void Statement::bind(int at, std::int64_t value) { CHECK(sqlite3_bind_int64(handle_, at, value) == SQLITE_OK); }

void Statement::bind(int at, std::string_view value) {
  // The caller's bytes outlive the step, but not always the next reset: SQLite takes a copy. Null data would bind NULL.
  const char* data = value.data() == nullptr ? "" : value.data();
  CHECK(sqlite3_bind_text64(handle_, at, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8) == SQLITE_OK);
}

Database::~Database() { sqlite3_close_v2(handle_); }

Result<> Database::open(const std::string& path) {
  path_ = path;
  const int code = sqlite3_open_v2(path.c_str(), &handle_,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) return failure(code);
  sqlite3_extended_result_codes(handle_, 1);
  // Somebody reading with the sqlite3 shell must not fail a commit.
  sqlite3_busy_timeout(handle_, 5000);
  return {};
}

Result<> Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return failure(code);
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  Statement statement;
  statement.database_ = this;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                      &statement.handle_, nullptr);
  if (code != SQLITE_OK) return failure(code);
  return statement;
}

Result<std::int64_t> Database::integer(std::string_view sql) {
  auto statement = prepare(sql);
  if (!statement) return std::unexpected(statement.error());
  const auto row = statement->first();
  if (!row) return std::unexpected(row.error());
  return *row ? statement->integer(0) : 0;
}

std::unexpected<Error> Database::failure(int code) const {
  const std::string why = handle_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(handle_);
  switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return error(
          ErrorCode::kCorrupt,
          fmt::format("{} is damaged ({}). Move it away together with its -wal and -shm files and start again: "
                      "open incidents will page once more, under the same dedup keys",
                      path_, why));
    case SQLITE_FULL:
      return error(ErrorCode::kUnavailable,
                   fmt::format("{}: the disk is full; nothing was written. Free some space", path_));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return error(
          ErrorCode::kUnavailable,
          fmt::format("{}: locked by another program for more than 5 s ({}); nothing was written", path_, why));
    case SQLITE_NOMEM:
      return error(ErrorCode::kUnavailable, fmt::format("{}: out of memory; nothing was written", path_));
    case SQLITE_CANTOPEN:
      return error(ErrorCode::kIo,
                   fmt::format("{} cannot be opened ({}); check that its folder exists and is writable", path_, why));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_IOERR:
      return error(ErrorCode::kIo, fmt::format("{}: {} (code {})", path_, why, code));
    default:
      return error(ErrorCode::kInternal, fmt::format("{}: {} (code {})", path_, why, code));
  }
}

Result<Transaction> Transaction::begin(Database& database) {
  // IMMEDIATE: a write lock that cannot be had is found before any work is done.
  if (auto begun = database.execute("BEGIN IMMEDIATE"); !begun) return std::unexpected(begun.error());
  return Transaction(database);
}

Transaction::~Transaction() {
  // A rollback can only fail when SQLite has already rolled back by itself.
  if (database_ != nullptr) (void)database_->execute("ROLLBACK");
}

Result<> Transaction::commit() {
  if (auto done = database_->execute("COMMIT"); !done) return done;
  database_ = nullptr;
  return {};
}

}  // namespace alcedo::alert
