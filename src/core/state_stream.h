// How state becomes bytes and comes back: little-endian, and a reader that survives whatever it is given.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace alcedo {

static_assert(std::endian::native == std::endian::little, "state is written as the machine has it: little-endian");

/// Appends values to a string. Integers and floats take their own size; varint() takes 7 bits a byte, low bits first.
class StateWriter {
 public:
  explicit StateWriter(std::string& out) : out_(out) {}

  void u8(std::uint8_t x) { out_.push_back(static_cast<char>(x)); }
  void u32(std::uint32_t x) { append(&x, sizeof x); }
  void u64(std::uint64_t x) { append(&x, sizeof x); }
  void i64(std::int64_t x) { append(&x, sizeof x); }
  void f32(float x) { append(&x, sizeof x); }
  void f64(double x) { append(&x, sizeof x); }
  void varint(std::uint64_t x) {
    for (; x >= 0x80; x >>= 7U) u8(static_cast<std::uint8_t>(x | 0x80U));
    u8(static_cast<std::uint8_t>(x));
  }
  void bytes(const void* from, std::size_t size) { append(from, size); }
  /// Length first.
  void text(std::string_view s) {
    varint(s.size());
    append(s.data(), s.size());
  }

 private:
  void append(const void* from, std::size_t size) { out_.append(static_cast<const char*>(from), size); }
  std::string& out_;
};

/// Reads what a StateWriter wrote, of bytes that may be anything. What is not there reads as 0, and the first thing
/// wrong is kept: a caller reads on and asks ok() once, but must bound what it allocates by left().
///
/// Errors  mistake() continues a sentence about the bytes: "ends before it is complete".
class StateReader {
 public:
  explicit StateReader(std::string_view bytes) : bytes_(bytes) {}

  std::uint8_t u8() { return read<std::uint8_t>(); }
  std::uint32_t u32() { return read<std::uint32_t>(); }
  std::uint64_t u64() { return read<std::uint64_t>(); }
  std::int64_t i64() { return read<std::int64_t>(); }
  float f32() { return read<float>(); }
  double f64() { return read<double>(); }
  /// A time that can be subtracted from any other such time.
  std::int64_t time_ms() {
    const std::int64_t x = i64();
    if (x >= -kTimeLimitMs && x <= kTimeLimitMs) return x;
    refuse("holds a time of " + std::to_string(x) + " ms, which no event can have");
    return 0;
  }
  /// Each number has one form only, so that equal state has equal bytes.
  std::uint64_t varint() {
    std::uint64_t x = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint8_t byte = u8();
      if (!ok()) return 0;
      if ((shift == 63 && byte > 1) || (shift > 0 && byte == 0)) break;
      x |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return x;
    }
    refuse("holds a length that is not in its shortest form");
    return 0;
  }
  std::string_view bytes(std::size_t size) {
    if (size > bytes_.size()) {
      refuse("ends before it is complete");
      return {};
    }
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  std::string_view text() {
    const std::uint64_t size = varint();
    return bytes(size > bytes_.size() ? bytes_.size() + 1 : static_cast<std::size_t>(size));
  }

  std::size_t left() const { return bytes_.size(); }
  bool ok() const { return mistake_.empty(); }
  /// Whether all was read and nothing was wrong.
  bool complete() {
    if (ok() && left() != 0) refuse("goes on for " + std::to_string(left()) + " bytes after its end");
    return ok();
  }
  /// What is wrong first; later calls change nothing. Nothing more can be read.
  void refuse(std::string what) {
    if (ok()) mistake_ = std::move(what);
    bytes_ = {};
  }
  const std::string& mistake() const { return mistake_; }

  static constexpr std::int64_t kTimeLimitMs = INT64_MAX / 4;

 private:
  template <typename T>
  T read() {
    T x{};
    const std::string_view from = bytes(sizeof x);
    if (from.size() == sizeof x) std::memcpy(&x, from.data(), sizeof x);
    return x;
  }
  std::string_view bytes_;
  std::string mistake_;
};

}  // namespace alcedo
