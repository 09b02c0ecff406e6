// Scratch directories and files for this folder's tests: every test has a directory of its own that goes with it.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/event.h"
#include "ingest/source.h"

namespace alcedo::ingest {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = testing::TempDir() + "/ingest_XXXXXX";
    CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  /// Writes a file, its directories too, and returns its path.
  std::string write(std::string_view name, std::string_view bytes) const {
    const std::string path = *this / name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

 private:
  std::string path_;
};

inline void append_to(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::app).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string gzip(std::string_view text) {
  z_stream zlib{};
  CHECK(::deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(::deflateBound(&zlib, text.size()) + 64, '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  zlib.avail_in = static_cast<uInt>(text.size());
  zlib.next_out = reinterpret_cast<Bytef*>(out.data());
  zlib.avail_out = static_cast<uInt>(out.size());
  CHECK(::deflate(&zlib, Z_FINISH) == Z_STREAM_END);
  out.resize(out.size() - zlib.avail_out);
  ::deflateEnd(&zlib);
  return out;
}

/// One record as a source gave it.
struct Got {
  std::int64_t offset = 0;
  std::int64_t arrival_ms = 0;
  std::string bytes;
  friend bool operator==(const Got&, const Got&) = default;
};

inline void PrintTo(const Got& got, std::ostream* out) { *out << got.offset << ':' << got.bytes; }

/// What one read() added to `to`.
inline Result<ReadState> read_into(Source& source, std::int32_t partition, std::vector<Got>& to,
                                   std::size_t records_max = 1000,
                                   std::chrono::milliseconds wait = std::chrono::milliseconds(0)) {
  RawBatch batch;
  auto state = source.read(partition, batch, records_max, wait);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    EXPECT_EQ(batch[i].partition, partition);
    to.push_back({batch[i].offset, batch[i].arrival_ms, std::string(batch.bytes(i))});
  }
  return state;
}

/// Reads until the end, an error, or nothing more for now; the last state.
inline Result<ReadState> drain(Source& source, std::int32_t partition, std::vector<Got>& to,
                               std::size_t records_max = 1000) {
  while (true) {
    auto state = read_into(source, partition, to, records_max);
    if (!state || *state != ReadState::kMore) return state;
  }
}

inline std::vector<std::string> bytes_of(const std::vector<Got>& got) {
  std::vector<std::string> out;
  for (const Got& one : got) out.push_back(one.bytes);
  return out;
}

inline std::vector<std::int64_t> offsets_of(const std::vector<Got>& got) {
  std::vector<std::int64_t> out;
  for (const Got& one : got) out.push_back(one.offset);
  return out;
}

}  // namespace alcedo::ingest
