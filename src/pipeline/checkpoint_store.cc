// Epochs come first in the keys, so that old ones leave as a range, and damage to one epoch's blocks is no damage to
// the epochs before it.
#include "pipeline/checkpoint_store.h"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <cstring>
#include <map>
#include <unordered_set>
#include <utility>

#include "core/check.h"
#include "core/hash.h"
#include "core/state_stream.h"

namespace alcedo::pipeline {
namespace {


constexpr char kManifests = 'm';
constexpr char kRows = 'r';
constexpr std::size_t kRowKeyBytes = 22;
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;

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

std::string epoch_key(char table, std::uint64_t epoch) {
  std::string key(1, table);
  append_ordered(key, epoch);
  return key;
}

std::string row_key(std::uint64_t epoch, const RowKey& row) {
  std::string key = epoch_key(kRows, epoch);
  append_ordered(key, row.stage);
  append_ordered(key, row.group);
  append_ordered(key, row.entity);
  return key;
}

std::uint64_t checksum(std::string_view key, std::string_view content) {
  return hash_combine(hash64(key), hash64(content));
}

struct RowHash {
  std::size_t operator()(const RowKey& key) const {
    return hash_combine(key.entity, (std::uint64_t{key.stage} << 8U) | key.group);
  }
};

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
  StateWriter(bytes).u64(checksum(epoch_key(kManifests, manifest.epoch), content));
  return bytes + content;
}

std::optional<Manifest> read_manifest(std::string_view key, std::string_view bytes) {
  if (key.size() != 9 || bytes.size() < 8) return std::nullopt;
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

rocksdb::Options database_options() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.write_buffer_size = std::size_t{16} << 20;
  options.max_open_files = 256;
  options.max_background_jobs = 2;
  options.keep_log_file_num = 2;
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.compression = rocksdb::kNoCompression;
  return options;
}

rocksdb::ReadOptions read_options() {
  rocksdb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = false;
  return options;
}

std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace

struct CheckpointStore::Impl {
  std::string directory;
  std::unique_ptr<rocksdb::DB> db;
  std::map<std::uint64_t, Manifest> manifests;  // published, by epoch; without their records
  std::string damage;                           // found while opening; manifests may be out of reach
  bool restored = false;
  bool begun = false;
  Manifest next;  // being written
  rocksdb::WriteBatch batch;
  std::string value;

  std::unexpected<Error> failed(const rocksdb::Status& status, std::string_view doing) const {
    const ErrorCode code = status.IsCorruption() ? ErrorCode::kCorrupt
                           : status.IsNoSpace()  ? ErrorCode::kUnavailable
                                                 : ErrorCode::kIo;
    return error(code, fmt::format("checkpoints in {}: {}: {}", directory, doing, status.ToString()));
  }

  Result<> write(rocksdb::WriteBatch& writes, bool sync, std::string_view doing) const {
    rocksdb::WriteOptions options;
    options.sync = sync;
    if (const auto status = db->Write(options, &writes); !status.ok()) return failed(status, doing);
    writes.Clear();
    return {};
  }

  // Drops epochs in [from, to).
  static void drop(rocksdb::WriteBatch& writes, std::uint64_t from, std::uint64_t to) {
    for (const char table : {kManifests, kRows}) writes.DeleteRange(epoch_key(table, from), epoch_key(table, to));
  }

  // Calls `f(key, live, row)` for each row that an epoch wrote. "" or what is wrong with the epoch.
  template <typename F>
  std::string for_each_row(const Manifest& manifest, F f) const {
    const std::string begin = epoch_key(kRows, manifest.epoch);
    const std::string end = epoch_key(kRows, manifest.epoch + 1);
    const std::unique_ptr<rocksdb::Iterator> at(db->NewIterator(read_options()));
    std::uint64_t rows = 0;
    std::uint64_t sum = 0;
    for (at->Seek(begin); at->Valid() && view(at->key()) < end; at->Next()) {
      const std::string_view key = view(at->key());
      const std::string_view bytes = view(at->value());
      std::uint64_t stored = 0;
      if (key.size() != kRowKeyBytes || bytes.size() < 9) return "a row has an impossible size";
      std::memcpy(&stored, bytes.data(), sizeof stored);
      if (stored != checksum(key, bytes.substr(8))) return "a row does not have its checksum";
      ++rows;
      sum += stored;
      const RowKey row{read_ordered<std::uint32_t>(key.substr(9)), static_cast<std::uint8_t>(key[13]),
                       read_ordered<std::uint64_t>(key.substr(14))};
      f(row, bytes[8] != 0, bytes.substr(9));
    }
    if (!at->status().ok()) return at->status().ToString();
    if (rows != manifest.rows) return fmt::format("{} rows; its manifest says {}", rows, manifest.rows);
    return sum == manifest.sum ? "" : "other rows than its manifest says";
  }

  Result<> add(const RowKey& key, bool live, std::string_view row);
};

CheckpointStore::CheckpointStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CheckpointStore::CheckpointStore(CheckpointStore&&) noexcept = default;
CheckpointStore::~CheckpointStore() = default;

Result<CheckpointStore> CheckpointStore::open(const std::string& directory) {
  auto impl = std::make_unique<Impl>();
  impl->directory = directory;
  rocksdb::DB* db = nullptr;
  auto status = rocksdb::DB::Open(database_options(), directory, &db);
  if (status.IsCorruption() || status.IsPathNotFound()) {
    if (const auto repaired = rocksdb::RepairDB(directory, database_options()); !repaired.ok())
      return impl->failed(repaired, "damaged, and not to be repaired; move it away to begin anew from the sources");
    impl->damage = fmt::format("it was repaired after '{}'", status.ToString());
    status = rocksdb::DB::Open(database_options(), directory, &db);
  }
  if (!status.ok()) return impl->failed(status, "cannot be opened");
  impl->db.reset(db);
  // A manifest that was damaged leaves its rows behind: they go with what restore() drops. Behind a damaged block there
  // may be good ones, which only a walk from the other end reaches.
  const auto take = [&](const rocksdb::Iterator& at) {
    const std::string_view key = view(at.key());
    if (key.size() != 9) return;
    Manifest manifest;
    manifest.epoch = read_ordered<std::uint64_t>(key.substr(1));
    if (auto read = read_manifest(key, view(at.value()))) manifest = *std::move(read);
    impl->manifests[manifest.epoch] = std::move(manifest);  // base 0: damaged
  };
  std::unique_ptr<rocksdb::Iterator> at(db->NewIterator(read_options()));
  for (at->Seek(std::string(1, kManifests)); at->Valid() && at->key()[0] == kManifests; at->Next()) take(*at);
  if (!at->status().ok()) {
    impl->damage = at->status().ToString();
    at.reset(db->NewIterator(read_options()));
    for (at->SeekForPrev(std::string(1, kManifests + 1)); at->Valid() && at->key()[0] == kManifests; at->Prev())
      take(*at);
  }
  return CheckpointStore(std::move(impl));
}

std::uint64_t CheckpointStore::newest() const {
  return impl_->manifests.empty() ? 0 : impl_->manifests.rbegin()->first;
}

Result<std::optional<CheckpointStore::Restored>> CheckpointStore::restore(
    const std::function<Result<>(const RowKey&, std::string_view)>& row) {
  Impl& impl = *impl_;
  CHECK(!impl.begun);
  Restored restored;
  std::map<std::uint64_t, std::string> verdicts;  // by epoch: "" or what is wrong
  const auto verdict = [&](std::uint64_t epoch) -> const std::string& {
    const auto [at, is_new] = verdicts.try_emplace(epoch);
    if (!is_new) return at->second;
    const auto manifest = impl.manifests.find(epoch);
    if (manifest == impl.manifests.end()) {
      at->second = "its manifest is missing";
    } else if (manifest->second.base == 0) {
      at->second = "its manifest does not have its checksum";
    } else {
      at->second = impl.for_each_row(manifest->second, [](const RowKey&, bool, std::string_view) {});
    }
    return at->second;
  };
  const Manifest* found = nullptr;
  for (auto candidate = impl.manifests.rbegin(); candidate != impl.manifests.rend() && found == nullptr; ++candidate) {
    const std::uint64_t epoch = candidate->first;
    std::string wrong = verdict(epoch);
    for (std::uint64_t of = candidate->second.base; wrong.empty() && of < epoch; ++of) {
      if (const std::string& earlier = verdict(of); !earlier.empty())
        wrong = fmt::format("it builds on epoch {}: {}", of, earlier);
    }
    if (wrong.empty()) {
      found = &candidate->second;
    } else {
      restored.refused.push_back(fmt::format("checkpoint {} is damaged: {}", epoch, wrong));
    }
  }
  if (!impl.damage.empty()) restored.refused.push_back("a part of the store is damaged: " + impl.damage);
  if (found == nullptr && !restored.refused.empty()) {
    return error(ErrorCode::kCorrupt,
                 fmt::format("checkpoints in {}: none is whole ({}); move the directory away to begin anew from the "
                             "sources",
                             impl.directory, restored.refused.front()));
  }
  const std::uint64_t epoch = found == nullptr ? 0 : found->epoch;
  if (found != nullptr) {
    restored.epoch = epoch;
    restored.record = found->record;
    std::unordered_set<RowKey, RowHash> seen;
    Result<> refused;
    for (std::uint64_t of = epoch; of >= found->base; --of) {
      const std::string wrong =
          impl.for_each_row(impl.manifests.at(of), [&](const RowKey& key, bool live, std::string_view bytes) {
            if (!seen.insert(key).second || !live || !refused) return;
            refused = row(key, bytes);
          });
      if (!refused) return std::unexpected(refused.error());
      if (!wrong.empty())
        return error(ErrorCode::kCorrupt,
                     fmt::format("checkpoints in {}: epoch {} was whole a moment ago: {}", impl.directory, of, wrong));
    }
  }
  rocksdb::WriteBatch writes;
  Impl::drop(writes, epoch + 1, UINT64_MAX);
  if (auto dropped = impl.write(writes, true, "dropping what is damaged or was not published"); !dropped)
    return std::unexpected(dropped.error());
  impl.manifests.erase(impl.manifests.upper_bound(epoch), impl.manifests.end());
  impl.restored = true;
  if (epoch == 0) return std::nullopt;
  return std::optional(std::move(restored));
}

Result<bool> CheckpointStore::begin(bool full) {
  Impl& impl = *impl_;
  CHECK(impl.restored);
  const std::uint64_t last = newest();
  impl.next = Manifest{};
  impl.next.epoch = last + 1;
  impl.next.base = impl.next.epoch;
  impl.batch.Clear();
  if (impl.begun) {
    Impl::drop(impl.batch, last + 1, last + 2);
    if (auto dropped = impl.write(impl.batch, false, "dropping what was not published"); !dropped)
      return std::unexpected(dropped.error());
  }
  impl.begun = true;
  if (full || last == 0) return true;
  const std::uint64_t base = impl.manifests.at(last).base;
  std::uint64_t changes = 0;
  for (std::uint64_t epoch = base + 1; epoch <= last; ++epoch) changes += impl.manifests.at(epoch).rows;
  if (changes >= impl.manifests.at(base).rows) return true;
  impl.next.base = base;
  return false;
}

Result<> CheckpointStore::Impl::add(const RowKey& key, bool live, std::string_view row) {
  CHECK(begun);
  const std::string full_key = row_key(next.epoch, key);
  value.assign(8, '\0');
  value.push_back(live ? '\1' : '\0');
  value.append(row);
  const std::uint64_t sum = checksum(full_key, std::string_view(value).substr(8));
  std::memcpy(value.data(), &sum, sizeof sum);
  batch.Put(full_key, value);
  ++next.rows;
  next.sum += sum;
  return batch.GetDataSize() < kBatchBytes ? Result<>() : write(batch, false, "writing rows");
}

Result<> CheckpointStore::put(const RowKey& key, std::string_view row) { return impl_->add(key, true, row); }
Result<> CheckpointStore::forget(const RowKey& key) { return impl_->add(key, false, {}); }

Result<> CheckpointStore::publish(std::string_view record) {
  Impl& impl = *impl_;
  CHECK(impl.begun);
  if (auto written = impl.write(impl.batch, false, "writing rows"); !written) return written;
  impl.next.record = record;
  impl.batch.Put(epoch_key(kManifests, impl.next.epoch), manifest_bytes(impl.next));
  if (auto written = impl.write(impl.batch, true, "publishing"); !written) return written;
  impl.begun = false;
  const std::uint64_t last = newest();
  const std::uint64_t before = last == 0 ? 0 : impl.manifests.at(last).base;
  impl.manifests[impl.next.epoch] = impl.next;
  if (impl.next.base != impl.next.epoch || before == 0) return {};
  // A new base: the chain of the one before stays, what is older goes.
  Impl::drop(impl.batch, 0, before);
  impl.manifests.erase(impl.manifests.begin(), impl.manifests.lower_bound(before));
  return impl.write(impl.batch, false, "dropping old checkpoints");
}

}  // namespace alcedo::pipeline
