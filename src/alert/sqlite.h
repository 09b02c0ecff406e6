// A thin owner of SQLite's handles, so that the ledger reads as statements and every failure arrives as a Result.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace alcedo::alert {

class Database;

/// One prepared statement, reused.
///
/// Threads  as its database: one at a time.
/// Errors   kCorrupt (damaged file), kUnavailable (disk full, out of memory, locked), kIo, kInternal; the message names
/// the file.
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  /// Runs to the end; rows, if any, are dropped.
  template <typename... Args>
  Result<> run(const Args&... args) {
    auto row = first(args...);
    reset();
    if (!row) return std::unexpected(row.error());
    return {};
  }
  /// Starts the statement with these parameters. True: the first row can be read; false: there is none.
  template <typename... Args>
  Result<bool> first(const Args&... args) {
    reset();
    [[maybe_unused]] int at = 0;
    (bind(++at, args), ...);
    return next();
  }
  /// True: a row can be read. After false or an error the statement is reset.
  Result<bool> next();
  /// Gives up the rows not read, and with them the read lock.
  void reset();

  std::int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  /// Valid until the next call on this statement.
  std::string_view text(int column) const;

 private:
  friend class Database;
  void bind(int at, std::int64_t value);
  void bind(int at, std::string_view value);
  sqlite3_stmt* handle_ = nullptr;
  Database* database_ = nullptr;
};

/// One connection.
class Database {
 public:
  Database() = default;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  /// Opens or creates `path` for reading and writing. Statements must not outlive this object.
  Result<> open(const std::string& path);
  Result<> execute(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  /// The single integer that `sql` returns.
  Result<std::int64_t> integer(std::string_view sql);
  /// Rows that the last statement changed.
  std::uint64_t changes() const { return static_cast<std::uint64_t>(sqlite3_changes64(handle_)); }
  /// What went wrong last, for the result code `code`.
  std::unexpected<Error> failure(int code) const;
  const std::string& path() const { return path_; }

 private:
  sqlite3* handle_ = nullptr;
  std::string path_;
};

/// Rolls back unless commit() succeeded.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(other.database_) { other.database_ = nullptr; }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace alcedo::alert
