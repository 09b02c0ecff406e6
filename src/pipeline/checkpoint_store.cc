// Epochs come first in the keys and have tables of their own, so that damage to one is no damage to those before it,
// old ones leave as files, and RocksDB moves tables between its levels without reading or writing them.
#include "pipeline/checkpoint_store.h"

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_partitioner.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/hash.h"
#include "core/state_stream.h"

namespace alcedo::pipeline {
namespace {

constexpr char kPrefix = 'e';
constexpr std::size_t kRowKeyBytes = 22;
constexpr std::size_t kEpochKeyBytes = 9;  // of a row's key, and all of a manifest's
// Three write buffers of 16 MB, and their tables' indexes.
constexpr std::uint64_t kResumeBytes = std::uint64_t{64} << 20;
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;
constexpr std::size_t kCacheBytes = std::size_t{32} << 20;
constexpr std::size_t kWriteBufferBytes = std::size_t{16} << 20;
constexpr std::uint64_t kChainMax = 16;
constexpr std::uint64_t kStopBytes = std::uint64_t{64} << 10;  // read between two looks at `stop`
constexpr std::chrono::milliseconds kStopInterval{10};

// Big-endian, because RocksDB orders keys by their bytes.
template <typename T>
void append_ordered(std::string& key, T x) {
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8)
    key.push_back(static_cast<char>(static_cast<std::uint8_t>(x >> shift)));
}
template <typename T>
T read_ordered(std::string_view bytes) {
  T x = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) x = static_cast<T>(x << 8U) | static_cast<std::uint8_t>(bytes[i]);
  return x;
}

// The key of its manifest; with more behind it, of a row.
std::string epoch_key(std::uint64_t epoch) {
  std::string key(1, kPrefix);
  append_ordered(key, epoch);
  return key;
}

std::string row_key(std::uint64_t epoch, const RowKey& row) {
  std::string key = epoch_key(epoch);
  append_ordered(key, row.stage);
  append_ordered(key, row.group);
  append_ordered(key, row.entity);
  return key;
}

std::uint64_t checksum(std::string_view key, std::string_view content) {
  return hash_combine(hash64(key), hash64(content));
}

struct Manifest {
  std::uint64_t epoch = 0;
  std::uint64_t base = 0;  // epoch of the full checkpoint that it builds on; its own if it is full
  std::uint64_t rows = 0;  // written in this epoch
  std::uint64_t sum = 0;   // of their checksums
  std::string record;
};

std::string manifest_bytes(const Manifest& manifest) {
  std::string content;
  StateWriter writer(content);
  writer.u64(manifest.base);
  writer.u64(manifest.rows);
  writer.u64(manifest.sum);
  writer.text(manifest.record);
  std::string bytes;
  StateWriter(bytes).u64(checksum(epoch_key(manifest.epoch), content));
  return bytes + content;
}

std::optional<Manifest> read_manifest(std::string_view key, std::string_view bytes) {
  if (key.size() != kEpochKeyBytes || bytes.size() < 8) return std::nullopt;
  StateReader reader(bytes);
  if (reader.u64() != checksum(key, bytes.substr(8))) return std::nullopt;
  Manifest manifest;
  manifest.epoch = read_ordered<std::uint64_t>(key.substr(1));
  manifest.base = reader.u64();
  manifest.rows = reader.u64();
  manifest.sum = reader.u64();
  manifest.record = reader.text();
  if (!reader.complete() || manifest.base == 0 || manifest.base > manifest.epoch) return std::nullopt;
  return manifest;
}

// RocksDB's own log file would end the process on a full disk: its writer does not bear another write after one that
// failed. What matters comes as a status anyway.
class NoLog : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

// After a full disk the next write tries again, when the caller wants it; RocksDB by itself would look every 5 s, and
// refuse to be asked meanwhile.
class NoRecovery : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status /*error*/,
                            bool* recover) override {
    *recover = false;
  }
};

rocksdb::Options database_options() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.write_buffer_size = kWriteBufferBytes;
  options.avoid_flush_during_shutdown = true;  // what was not published need not survive
  options.bytes_per_sync = kBatchBytes;        // a table reaches the disk as it is written, not in one burst at its end
  options.max_open_files = 256;
  options.max_background_jobs = 2;
  options.max_file_opening_threads = 1;
  options.info_log = std::make_shared<NoLog>();
  options.listeners.push_back(std::make_shared<NoRecovery>());
  options.compression = rocksdb::kNoCompression;
  // A table that is lost costs one epoch. One in level 0 would be asked for the rows of all epochs: it leaves at once,
  // which costs nothing, as no other table has rows of its epoch.
  options.level0_file_num_compaction_trigger = 1;
  options.sst_partitioner_factory = rocksdb::NewSstPartitionerFixedPrefixFactory(kEpochKeyBytes);
  // Indexes and filters grow with the rows. Only in the cache is their memory bounded, and only cut into blocks is it
  // cheap to read one of them again.
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kCacheBytes);
  table.cache_index_and_filter_blocks = true;
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::ReadOptions read_options() {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  return options;
}

std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// A row as stored: its checksum, whether it lives, and the caller's bytes.
struct StoredRow {
  std::uint64_t sum = 0;
  bool live = false;
  std::string_view row;
};
// nullopt: it is not what was written.
std::optional<StoredRow> read_row(std::string_view key, std::string_view bytes) {
  if (key.size() != kRowKeyBytes || bytes.size() < 9) return std::nullopt;
  StoredRow stored;
  std::memcpy(&stored.sum, bytes.data(), sizeof stored.sum);
  if (stored.sum != checksum(key, bytes.substr(8))) return std::nullopt;
  stored.live = bytes[8] != 0;
  stored.row = bytes.substr(9);
  return stored;
}
constexpr std::string_view kWrongRow = "a row does not have its checksum";

// Walks the rows that one epoch wrote, in the order of their keys, and sees at the end whether they are those that its
// manifest counted. It ends where something is wrong.
class EpochRows {
 public:
  EpochRows(rocksdb::DB& db, const Manifest& manifest)
      : manifest_(manifest), end_(epoch_key(manifest.epoch + 1)), end_slice_(end_) {
    rocksdb::ReadOptions options = read_options();
    options.iterate_upper_bound = &end_slice_;
    at_.reset(db.NewIterator(options));
    at_->Seek(epoch_key(manifest.epoch) + '\0');  // behind the manifest
    look();
  }
  EpochRows(const EpochRows&) = delete;
  EpochRows& operator=(const EpochRows&) = delete;
  EpochRows(EpochRows&&) = delete;
  EpochRows& operator=(EpochRows&&) = delete;
  ~EpochRows() = default;

  bool valid() const { return valid_; }
  // Once it is not valid: "", or what is wrong with the epoch.
  const std::string& wrong() const { return wrong_; }
  void next() {
    at_->Next();
    look();
  }

  std::uint64_t epoch() const { return manifest_.epoch; }
  // Stage, group and entity as bytes, which order as they do.
  std::string_view ordered_key() const { return view(at_->key()).substr(kEpochKeyBytes); }
  RowKey key() const {
    const std::string_view key = ordered_key();
    return {read_ordered<std::uint32_t>(key), static_cast<std::uint8_t>(key[4]),
            read_ordered<std::uint64_t>(key.substr(5))};
  }
  bool live() const { return stored_.live; }
  std::string_view row() const { return stored_.row; }
  std::size_t bytes() const { return at_->key().size() + at_->value().size(); }

 private:
  void look() {
    valid_ = at_->Valid();
    if (valid_) {
      if (auto stored = read_row(view(at_->key()), view(at_->value()))) {
        stored_ = *stored;
        ++rows_;
        sum_ += stored_.sum;
      } else {
        valid_ = false;
        wrong_ = kWrongRow;
      }
    } else if (!at_->status().ok()) {
      wrong_ = at_->status().ToString();
    } else if (rows_ != manifest_.rows) {
      wrong_ = fmt::format("{} rows; its manifest says {}", rows_, manifest_.rows);
    } else if (sum_ != manifest_.sum) {
      wrong_ = "other rows than its manifest says";
    }
  }

  const Manifest& manifest_;
  const std::string end_;
  const rocksdb::Slice end_slice_;
  std::unique_ptr<rocksdb::Iterator> at_;
  StoredRow stored_;
  std::uint64_t rows_ = 0;
  std::uint64_t sum_ = 0;
  bool valid_ = false;
  std::string wrong_;
};

// Holds reading to so many bytes a second, and looks whether to stop.
class Pace {
 public:
  Pace(const std::function<bool()>& stop, std::uint64_t bytes_per_second_max)
      : stop_(stop), bytes_per_second_max_(bytes_per_second_max) {}

  // False: stop.
  bool read(std::size_t bytes) {
    bytes_ += bytes;
    if (bytes_ < look_at_) return true;
    look_at_ = bytes_ + kStopBytes;
    if (stop_ && stop_()) return false;
    if (bytes_per_second_max_ == 0) return true;
    const auto due = start_ + std::chrono::duration<double>(static_cast<double>(bytes_) /
                                                            static_cast<double>(bytes_per_second_max_));
    for (auto now = Clock::now(); now < due; now = Clock::now()) {
      std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(due - now, kStopInterval));
      if (stop_ && stop_()) return false;
    }
    return true;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::function<bool()>& stop_;
  const std::uint64_t bytes_per_second_max_;
  const Clock::time_point start_ = Clock::now();
  std::uint64_t bytes_ = 0;
  std::uint64_t look_at_ = 0;
};

// RocksDB makes a new database where CURRENT is missing, and then removes the tables that it does not know.
bool lost_its_head(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code failed;
  if (fs::exists(fs::path(directory) / "CURRENT", failed)) return false;
  for (fs::directory_iterator at(directory, failed), end; !failed && at != end; at.increment(failed)) {
    if (at->path().extension() == ".sst" || (at->path().extension() == ".log" && at->file_size(failed) > 0))
      return true;
  }
  return false;
}

}  // namespace

struct CheckpointStore::Impl {
  std::string directory;
  std::unique_ptr<rocksdb::DB> db;
  std::map<std::uint64_t, Manifest> manifests;  // published, by epoch; without their records; the writing thread's
  std::string damage;                           // found while opening; manifests may be out of reach
  std::uint64_t highest = 0;                    // epoch that has left anything when the store was opened
  bool restored = false;
  bool begun = false;
  bool unpublished = false;  // rows of epoch newest + 1 may be there
  bool was_full = false;     // the disk: RocksDB refuses writes until it is told to try again
  Manifest next;             // being written
  rocksdb::WriteBatch batch;
  std::string value;
  // What get() needs of `manifests`; the base never is newer than what is on disk.
  std::atomic<std::uint64_t> base = 0;
  std::atomic<std::uint64_t> newest = 0;

  std::unexpected<Error> failed(const rocksdb::Status& status, std::string_view doing) const {
    const ErrorCode code = status.IsCorruption() ? ErrorCode::kCorrupt
                           : status.IsNoSpace()  ? ErrorCode::kUnavailable
                                                 : ErrorCode::kIo;
    return error(code, fmt::format("checkpoints in {}: {}: {}", directory, doing, status.ToString()));
  }
  std::unexpected<Error> damaged(std::uint64_t epoch, std::string_view why) const {
    return error(ErrorCode::kCorrupt, fmt::format("checkpoints in {}: epoch {} is damaged: {}; open the store anew to "
                                                  "go on from the newest checkpoint that is whole",
                                                  directory, epoch, why));
  }

  // Past RocksDB's log: nothing counts before its manifest, and sync() makes tables of all that was written up to it.
  // A log would write all rows twice, and one that has met a full disk is beyond recovery.
  Result<> write(rocksdb::WriteBatch& writes, std::string_view doing) {
    if (was_full) {
      // RocksDB's Resume() writes what it holds in memory, and where that finds the disk full again, it may wait for
      // ever.
      std::error_code unknown;
      const auto space = std::filesystem::space(directory, unknown);
      if (!unknown && space.available < kResumeBytes) {
        return error(
            ErrorCode::kUnavailable,
            fmt::format("checkpoints in {}: {}: the disk was full and has {} MB left; at least {} MB are needed "
                        "to go on",
                        directory, doing, space.available >> 20U, kResumeBytes >> 20U));
      }
      if (const auto status = db->Resume(); !status.ok()) {
        return error(ErrorCode::kUnavailable, fmt::format("checkpoints in {}: {}: the disk was full: {}; it is tried "
                                                          "again with the next checkpoint",
                                                          directory, doing, status.ToString()));
      }
      was_full = false;
    }
    rocksdb::WriteOptions options;
    options.disableWAL = true;
    if (const auto status = db->Write(options, &writes); !status.ok()) return write_failed(status, doing);
    writes.Clear();
    return {};
  }
  // Tables become part of the database in the order of their writes, so that a manifest never comes before its rows.
  Result<> sync(std::string_view doing) {
    if (const auto status = db->Flush(rocksdb::FlushOptions()); !status.ok()) return write_failed(status, doing);
    return {};
  }
  std::unexpected<Error> write_failed(const rocksdb::Status& status, std::string_view doing) {
    was_full = status.IsNoSpace();
    return failed(status, doing);
  }

  // Drops epochs in [from, to).
  static void drop(rocksdb::WriteBatch& writes, std::uint64_t from, std::uint64_t to) {
    writes.DeleteRange(epoch_key(from), epoch_key(to));
  }
  // Frees the space of epochs in [from, to). What RocksDB is busy with stays, and what a full disk does not let go: of
  // old epochs until the next base, without harm, as their numbers do not come again.
  void free_tables(std::uint64_t from, std::uint64_t to) {
    const std::string begin = epoch_key(from);
    const std::string end = epoch_key(to);
    const rocksdb::Slice begin_slice(begin);
    const rocksdb::Slice end_slice(end);
    rocksdb::DeleteFilesInRange(db.get(), db->DefaultColumnFamily(), &begin_slice, &end_slice, false)
        .PermitUncheckedError();
  }
  Result<> drop_unpublished() {
    batch.Clear();
    begun = false;
    if (!unpublished) return {};
    const std::uint64_t epoch = newest.load(std::memory_order_relaxed) + 1;
    free_tables(epoch, epoch + 1);  // first: on a full disk it may be what lets the next write succeed
    drop(batch, epoch, epoch + 1);
    if (auto dropped = write(batch, "dropping what was not published"); !dropped) return dropped;
    unpublished = false;
    return {};
  }

  // RocksDB empties level 0 in the background, also of what an earlier process left there. A walk over one epoch would
  // meet the damage of another in it; where damage keeps it from being emptied, that cannot be helped.
  void await_level0() const {
    for (int i = 0; i < 200; ++i) {
      std::uint64_t running = 0;
      std::uint64_t pending = 0;
      if (!db->GetIntProperty(rocksdb::DB::Properties::kNumRunningCompactions, &running) ||
          !db->GetIntProperty(rocksdb::DB::Properties::kCompactionPending, &pending) || running + pending == 0) {
        return;
      }
      std::this_thread::sleep_for(kStopInterval);
    }
  }

  // What is wrong with the rows of an epoch, or "".
  std::string verify(const Manifest& manifest) const {
    EpochRows rows(*db, manifest);
    while (rows.valid()) rows.next();
    return rows.wrong();
  }

  // Walks the rows of the chain up to `last` in the order of their keys, of equal keys the newest first, and calls
  // `f(row, is_newest)`, a Result<bool>: false or an error ends the walk, and is what it returns. True: each epoch of
  // the chain had the rows that its manifest counts.
  template <typename F>
  Result<bool> merge(const Manifest& last, F f) const {
    std::deque<EpochRows> chain;
    std::vector<EpochRows*> heap;
    const auto after = [](const EpochRows* a, const EpochRows* b) {
      const int order = a->ordered_key().compare(b->ordered_key());
      return order != 0 ? order > 0 : a->epoch() < b->epoch();
    };
    for (std::uint64_t epoch = last.base; epoch <= last.epoch; ++epoch) {
      EpochRows& rows = chain.emplace_back(*db, manifests.at(epoch));
      if (!rows.wrong().empty()) return damaged(epoch, rows.wrong());
      if (rows.valid()) heap.push_back(&rows);
    }
    std::make_heap(heap.begin(), heap.end(), after);
    std::string key;  // of the row before; empty at first, as no key is
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), after);
      EpochRows& rows = *heap.back();
      const bool is_newest = rows.ordered_key() != key;
      if (is_newest) key = rows.ordered_key();
      if (const Result<bool> more = f(std::as_const(rows), is_newest); !more || !*more) return more;
      rows.next();
      if (!rows.wrong().empty()) return damaged(rows.epoch(), rows.wrong());
      if (rows.valid()) {
        std::push_heap(heap.begin(), heap.end(), after);
      } else {
        heap.pop_back();
      }
    }
    return true;
  }

  Result<std::string> record(std::uint64_t epoch) const {
    const std::string key = epoch_key(epoch);
    std::string bytes;
    if (const auto status = db->Get(read_options(), key, &bytes); !status.ok())
      return status.IsCorruption() || status.IsNotFound() ? damaged(epoch, "its manifest: " + status.ToString())
                                                          : failed(status, fmt::format("reading manifest {}", epoch));
    auto manifest = read_manifest(key, bytes);
    if (!manifest) return damaged(epoch, "its manifest does not have its checksum");
    return std::move(manifest->record);
  }

  bool compaction_is_due() const {
    if (manifests.empty()) return false;
    const Manifest& last = manifests.rbegin()->second;
    std::uint64_t changes = 0;
    for (std::uint64_t epoch = last.base + 1; epoch <= last.epoch; ++epoch) changes += manifests.at(epoch).rows;
    return last.epoch - last.base > kChainMax || (changes > 0 && changes >= manifests.at(last.base).rows);
  }

  void start(bool full) {
    next = Manifest{};
    next.epoch = newest.load(std::memory_order_relaxed) + 1;
    next.base = full ? next.epoch : manifests.at(next.epoch - 1).base;
    unpublished = true;
  }
  Result<> add(const RowKey& key, bool live, std::string_view row);
  Result<> publish();
  Result<> read_manifests();
  Result<const Manifest*> find_whole(Restored& result) const;
};

CheckpointStore::CheckpointStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CheckpointStore::CheckpointStore(CheckpointStore&&) noexcept = default;
CheckpointStore::~CheckpointStore() = default;

Result<CheckpointStore> CheckpointStore::open(const std::string& directory) {
  auto impl = std::make_unique<Impl>();
  impl->directory = directory;
  std::error_code not_made;
  std::filesystem::create_directories(directory, not_made);
  if (not_made)
    return error(ErrorCode::kIo,
                 fmt::format("checkpoints in {}: the directory cannot be made: {}", directory, not_made.message()));
  rocksdb::DB* db = nullptr;
  auto status = lost_its_head(directory) ? rocksdb::Status::Corruption("CURRENT is missing")
                                         : rocksdb::DB::Open(database_options(), directory, &db);
  if (status.IsCorruption() || status.IsPathNotFound()) {
    if (const auto repaired = rocksdb::RepairDB(directory, database_options()); !repaired.ok())
      return impl->failed(repaired, "damaged, and not to be repaired; move it away to begin anew from the sources");
    impl->damage = fmt::format("it was repaired after '{}'", status.ToString());
    status = rocksdb::DB::Open(database_options(), directory, &db);
  }
  if (!status.ok()) return impl->failed(status, "cannot be opened");
  impl->db.reset(db);
  // Writing and joining tables can wait; whoever shares the processors cannot.
  for (const auto pool : {rocksdb::Env::LOW, rocksdb::Env::HIGH}) {
    if (const auto lowered = db->GetEnv()->LowerThreadPoolCPUPriority(pool, rocksdb::CpuPriority::kLow); !lowered.ok())
      return impl->failed(lowered, "lowering the priority of its threads");
  }
  if (auto r = impl->read_manifests(); !r) return std::unexpected(r.error());
  return CheckpointStore(std::move(impl));
}

Result<CheckpointStore> CheckpointStore::open_to_read(const std::string& directory) {
  auto impl = std::make_unique<Impl>();
  impl->directory = directory;
  std::error_code unknown;
  if (!std::filesystem::is_directory(directory, unknown))
    return error(ErrorCode::kNotFound, fmt::format("checkpoints in {}: there is no such directory", directory));
  rocksdb::DB* db = nullptr;
  auto options = database_options();
  options.create_if_missing = false;
  if (const auto status = rocksdb::DB::OpenForReadOnly(options, directory, &db); !status.ok())
    return impl->failed(status, "cannot be opened");
  impl->db.reset(db);
  if (auto r = impl->read_manifests(); !r) return std::unexpected(r.error());
  return CheckpointStore(std::move(impl));
}

Result<> CheckpointStore::Impl::read_manifests() {
  // RocksDB knows the first and last key of each table without reading any, and nothing is outside of tables yet.
  std::vector<rocksdb::LiveFileMetaData> tables;
  db->GetLiveFilesMetaData(&tables);
  std::set<std::uint64_t> epochs;
  for (const auto& table : tables) {
    const bool is_ours = table.smallestkey.size() >= kEpochKeyBytes && table.smallestkey[0] == kPrefix &&
                         table.largestkey.size() >= kEpochKeyBytes && table.largestkey[0] == kPrefix;
    if (!is_ours) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("checkpoints in {}: it holds the database of something else (its table {} begins with "
                               "the key '{}'); name an empty directory or one of checkpoints",
                               directory, table.name, rocksdb::Slice(table.smallestkey).ToString(true)));
    }
    // Between them are few: RocksDB joins epochs only where one was dropped, and begun anew.
    const auto first = read_ordered<std::uint64_t>(std::string_view(table.smallestkey).substr(1));
    const auto last = read_ordered<std::uint64_t>(std::string_view(table.largestkey).substr(1));
    for (std::uint64_t epoch = first; epoch <= last; ++epoch) epochs.insert(epoch);
  }
  highest = epochs.empty() ? 0 : *epochs.rbegin();
  for (const std::uint64_t epoch : epochs) {
    const std::string key = epoch_key(epoch);
    std::string bytes;
    const auto found = db->Get(read_options(), key, &bytes);
    if (found.IsNotFound()) continue;  // not published; or what restore() finds missing
    Manifest manifest;
    if (auto read = found.ok() ? read_manifest(key, bytes) : std::nullopt) manifest = *std::move(read);
    manifest.epoch = epoch;
    manifest.record.clear();
    manifests[epoch] = std::move(manifest);  // base 0: damaged
  }
  if (!manifests.empty()) newest = manifests.rbegin()->first;
  return {};
}

std::uint64_t CheckpointStore::newest() const { return impl_->newest.load(std::memory_order_acquire); }

// The newest manifest whose rows are all as they were written; null if there is none at all.
Result<const Manifest*> CheckpointStore::Impl::find_whole(Restored& result) const {
  std::map<std::uint64_t, std::string> verdicts;  // by epoch: "" or what is wrong
  const auto verdict = [&](std::uint64_t epoch) -> const std::string& {
    const auto [at, is_new] = verdicts.try_emplace(epoch);
    if (!is_new) return at->second;
    const auto manifest = manifests.find(epoch);
    if (manifest == manifests.end()) {
      at->second = "its manifest is missing";
    } else if (manifest->second.base == 0) {
      at->second = "its manifest does not have its checksum";
    } else {
      at->second = verify(manifest->second);
    }
    return at->second;
  };
  const Manifest* found = nullptr;
  for (auto candidate = manifests.rbegin(); candidate != manifests.rend() && found == nullptr; ++candidate) {
    const std::uint64_t epoch = candidate->first;
    std::string wrong = verdict(epoch);
    for (std::uint64_t of = candidate->second.base; wrong.empty() && of < epoch; ++of) {
      if (const std::string& earlier = verdict(of); !earlier.empty())
        wrong = fmt::format("it builds on epoch {}: {}", of, earlier);
    }
    if (wrong.empty()) {
      found = &candidate->second;
    } else {
      result.refused.push_back(fmt::format("checkpoint {} is damaged: {}", epoch, wrong));
    }
  }
  if (!damage.empty()) result.refused.push_back("a part of the store is damaged: " + damage);
  if (found == nullptr && !result.refused.empty()) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("checkpoints in {}: none is whole ({}); move the directory away to begin anew from the "
                             "sources",
                             directory, result.refused.front()));
  }
  return found;
}

Result<std::optional<CheckpointStore::Restored>> CheckpointStore::newest_whole() const {
  Restored restored;
  const auto found = impl_->find_whole(restored);
  if (!found) return std::unexpected(found.error());
  if (*found == nullptr) return std::nullopt;
  restored.epoch = (*found)->epoch;
  auto record = impl_->record(restored.epoch);
  if (!record) return std::unexpected(record.error());
  restored.record = *std::move(record);
  return std::optional(std::move(restored));
}

Result<std::optional<CheckpointStore::Restored>> CheckpointStore::restore(const TakeRow& take,
                                                                          const TakeRecord& take_record) {
  Impl& impl = *impl_;
  CHECK(!impl.begun);
  impl.await_level0();
  Restored restored;
  const auto whole = impl.find_whole(restored);
  if (!whole) return std::unexpected(whole.error());
  const Manifest* const found = *whole;
  if (found != nullptr) {
    restored.epoch = found->epoch;
    auto record = impl.record(found->epoch);
    if (!record) return std::unexpected(record.error());
    restored.record = *std::move(record);
    if (take_record) {
      if (auto r = take_record(restored.epoch, restored.record); !r) return std::unexpected(r.error());
    }
    const auto taken = impl.merge(*found, [&](const EpochRows& at, bool is_newest) -> Result<bool> {
      if (!is_newest || !at.live()) return true;
      if (auto accepted = take(at.key(), at.row(), at.epoch()); !accepted) return std::unexpected(accepted.error());
      return true;
    });
    if (!taken) return std::unexpected(taken.error());
  }
  const std::uint64_t epoch = restored.epoch;
  const std::uint64_t base = found == nullptr ? 0 : found->base;
  // Also what this one or an earlier process began and did not publish.
  if (const std::uint64_t behind = std::max(impl.highest, impl.newest.load()) + 1; behind > epoch) {
    rocksdb::WriteBatch writes;
    Impl::drop(writes, epoch + 1, behind + 1);
    if (auto dropped = impl.write(writes, "dropping what is damaged or was not published"); !dropped)
      return std::unexpected(dropped.error());
    impl.free_tables(epoch + 1, behind + 1);
    impl.highest = epoch;
  }
  impl.manifests.erase(impl.manifests.upper_bound(epoch), impl.manifests.end());
  impl.base.store(base, std::memory_order_release);
  impl.newest.store(epoch, std::memory_order_release);
  impl.restored = true;
  if (epoch == 0) return std::nullopt;
  return std::optional(std::move(restored));
}

Result<bool> CheckpointStore::begin(bool full) {
  Impl& impl = *impl_;
  CHECK(impl.restored);
  if (auto dropped = impl.drop_unpublished(); !dropped) return std::unexpected(dropped.error());
  full = full || newest() == 0;
  impl.start(full);
  impl.begun = true;
  return full;
}

Result<> CheckpointStore::Impl::add(const RowKey& key, bool live, std::string_view row) {
  const std::string full_key = row_key(next.epoch, key);
  value.assign(8, '\0');
  value.push_back(live ? '\1' : '\0');
  value.append(row);
  const std::uint64_t sum = checksum(full_key, std::string_view(value).substr(8));
  std::memcpy(value.data(), &sum, sizeof sum);
  batch.Put(full_key, value);
  ++next.rows;
  next.sum += sum;
  return batch.GetDataSize() < kBatchBytes ? Result<>() : write(batch, "writing rows");
}

Result<> CheckpointStore::put(const RowKey& key, std::string_view row) {
  CHECK(impl_->begun);
  return impl_->add(key, true, row);
}
Result<> CheckpointStore::forget(const RowKey& key) {
  CHECK(impl_->begun);
  return impl_->add(key, false, {});
}

// With a new base the chain of the one before stays; what is older goes. A get() that is still on its way there sees
// that the base has changed, and looks again.
Result<> CheckpointStore::Impl::publish() {
  const std::uint64_t before = next.base == next.epoch ? base.load(std::memory_order_relaxed) : 0;
  batch.Put(epoch_key(next.epoch), manifest_bytes(next));
  if (auto written = write(batch, "publishing"); !written) return written;
  if (auto synced = sync("publishing"); !synced) return synced;
  begun = false;
  unpublished = false;
  next.record.clear();
  manifests.erase(manifests.begin(), manifests.lower_bound(before));
  manifests[next.epoch] = next;
  base.store(next.base, std::memory_order_release);
  newest.store(next.epoch, std::memory_order_release);
  if (before > 0) free_tables(0, before);
  return {};
}

Result<> CheckpointStore::publish(std::string_view record) {
  CHECK(impl_->begun);
  impl_->next.record = record;
  return impl_->publish();
}

Result<bool> CheckpointStore::compact(const std::function<bool()>& stop, std::uint64_t bytes_per_second_max) {
  Impl& impl = *impl_;
  CHECK(impl.restored);
  if (auto dropped = impl.drop_unpublished(); !dropped) return std::unexpected(dropped.error());
  if (!impl.compaction_is_due()) return false;
  const Manifest& last = impl.manifests.rbegin()->second;
  auto record = impl.record(last.epoch);
  if (!record) return std::unexpected(record.error());
  impl.start(true);
  Pace pace(stop, bytes_per_second_max);
  auto merged = impl.merge(last, [&](const EpochRows& at, bool is_newest) -> Result<bool> {
    if (!pace.read(at.bytes())) return false;
    if (!is_newest || !at.live()) return true;
    if (auto added = impl.add(at.key(), true, at.row()); !added) return std::unexpected(added.error());
    return true;
  });
  if (merged && *merged) {
    impl.next.record = *std::move(record);
    if (auto published = impl.publish(); !published) merged = std::unexpected(published.error());
  }
  // If that fails too, the next call begins with it.
  if (!merged || !*merged) static_cast<void>(impl.drop_unpublished());
  return merged;
}

Result<std::optional<std::string>> CheckpointStore::get(const RowKey& key, std::uint64_t epoch) const {
  const Impl& impl = *impl_;
  CHECK(impl.restored);
  for (;;) {
    const std::uint64_t base = impl.base.load(std::memory_order_acquire);
    if (const std::uint64_t last = newest(); epoch == 0 || epoch > last) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("checkpoints in {}: a row of epoch {} is asked for; the newest published is {}",
                               impl.directory, epoch, last));
    }
    const std::uint64_t of = std::max(epoch, base);
    const std::string full_key = row_key(of, key);
    rocksdb::PinnableSlice bytes;
    const auto status = impl.db->Get(rocksdb::ReadOptions(), impl.db->DefaultColumnFamily(), full_key, &bytes);
    const auto stored = status.ok() ? read_row(full_key, view(bytes)) : std::nullopt;
    if (stored && stored->live) return std::string(stored->row);
    // The epoch may have left meanwhile: then its rows are in a newer base.
    if (impl.base.load(std::memory_order_acquire) != base) continue;
    if (stored || status.IsNotFound()) return std::nullopt;
    if (status.ok()) return impl.damaged(of, kWrongRow);
    if (status.IsCorruption()) return impl.damaged(of, status.ToString());
    return impl.failed(status, fmt::format("reading a row of epoch {}", of));
  }
}

}  // namespace alcedo::pipeline
