// One file or named pipe as decoded bytes: gzip is undone wherever its magic bytes are seen, whatever the name says.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::ingest {

/// Reads forward, 64 KB at a time. A UTF-8 byte order mark at the start of the decoded text is dropped. Several gzip
/// members in a row are one text; zeros behind the last are padding.
///
/// Threads  One at a time.
/// Memory   64 KB, 128 KB and zlib's 40 KB for gzip; a parked reader keeps only zlib's.
class FileReader {
 public:
  enum class State {
    kData,
    kWait,  // a growing file's end for now, or a pipe without bytes
    kEnd,
  };
  struct Identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    friend bool operator==(const Identity&, const Identity&) = default;
  };

  /// `grows`: the end of the file is the end for now. Errors: kNotFound and kIo, naming path, cause and what to do.
  static Result<std::unique_ptr<FileReader>> open(std::string path, bool grows);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  /// `bytes` lives until the next call. Errors: kCorrupt (damaged or truncated gzip) naming file and byte, kIo. What
  /// was decodable before the fault has been given by earlier calls; the error then stays.
  Result<State> read(std::string_view& bytes);

  /// Gives the descriptor and buffers back until the next read(). Only for regular files that do not grow.
  void park();
  bool parked() const { return fd_ < 0; }

  bool regular() const { return regular_; }
  int fd() const { return fd_; }  // to wait on a pipe
  const std::string& path() const { return path_; }
  Identity identity() const { return identity_; }
  std::uint64_t size_bytes() const { return size_bytes_; }          // when it was opened; 0 for a pipe
  std::uint64_t position_bytes() const { return position_bytes_; }  // of the file as stored, consumed
  /// The file has become shorter than what was read of it (copytruncate).
  bool truncated() const;

 private:
  FileReader(std::string path, bool grows) : path_(std::move(path)), grows_(grows) {}
  Result<> reopen();
  Result<State> fill();
  Result<State> decode(std::string_view& bytes);
  Result<State> inflate_some(std::string_view& bytes);
  std::unexpected<Error> fail(Error failure);

  std::string path_;
  bool grows_;
  bool regular_ = false;
  int fd_ = -1;
  Identity identity_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t position_bytes_ = 0;
  std::vector<char> in_;  // stored bytes [in_begin_, in_end_) that are not decoded yet
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  std::vector<char> out_;
  enum class Kind { kUnknown, kPlain, kGzip } kind_ = Kind::kUnknown;
  z_stream zlib_{};
  bool in_member_ = false;     // inside a gzip member
  bool out_was_full_ = false;  // zlib may hold more output without more input
  std::string head_;           // the first decoded bytes until it is known whether they are a byte order mark
  bool head_done_ = false;
  std::optional<Error> failure_;
};

/// "x.csv: No such file or directory; ..." with the nearest name in its directory where there is one. `code` is
/// errno's.
Error file_error(const std::string& path, int code);

}  // namespace alcedo::ingest
