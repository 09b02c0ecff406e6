// Trained numbers on disk in a format that runs no code when it is read, and that others read too: safetensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace alcedo::models {

enum class TensorType : std::uint8_t { kBool, kU8, kI8, kU16, kI16, kF16, kBF16, kU32, kI32, kF32, kU64, kI64, kF64 };

/// The format's word for a type ("F32"), and the bytes of one value.
std::string_view to_string(TensorType type);
std::size_t value_bytes(TensorType type);

template <typename T>
struct TensorTypeOf;
template <>
struct TensorTypeOf<std::uint8_t> {
  static constexpr TensorType kType = TensorType::kU8;
};
template <>
struct TensorTypeOf<std::int8_t> {
  static constexpr TensorType kType = TensorType::kI8;
};
template <>
struct TensorTypeOf<std::uint32_t> {
  static constexpr TensorType kType = TensorType::kU32;
};
template <>
struct TensorTypeOf<std::int32_t> {
  static constexpr TensorType kType = TensorType::kI32;
};
template <>
struct TensorTypeOf<std::uint64_t> {
  static constexpr TensorType kType = TensorType::kU64;
};
template <>
struct TensorTypeOf<std::int64_t> {
  static constexpr TensorType kType = TensorType::kI64;
};
template <>
struct TensorTypeOf<float> {
  static constexpr TensorType kType = TensorType::kF32;
};
template <>
struct TensorTypeOf<double> {
  static constexpr TensorType kType = TensorType::kF64;
};

/// What a reader takes of floating-point values.
enum class FloatPolicy : std::uint8_t {
  kFinite,  // neither NaN nor infinities
  kNotNan,
  kAny,
};

struct Tensor {
  TensorType type = TensorType::kF32;
  std::vector<std::uint64_t> shape;  // empty: one value
  std::vector<std::byte> data;       // row-major, little-endian
};

/// A set of named tensors and named texts, in memory.
///
/// Source   github.com/huggingface/safetensors, "Format": u64 length of the header, JSON header (name: dtype, shape,
///          data_offsets; __metadata__: texts), data without holes.
/// Limits   file 2 GB, header 4 MB, 65,536 tensors, 8 dimensions, names and texts as long as the header holds.
/// Repeats  The same content is the same bytes: larger types first (so that all are aligned), then by name.
/// Threads  const calls may run together.
class TensorFile {
 public:
  static constexpr std::uint64_t kFileBytesMax = 2ULL << 30;
  static constexpr std::uint64_t kHeaderBytesMax = 4ULL << 20;
  static constexpr std::size_t kTensorsMax = 65'536;
  static constexpr std::size_t kDimensionsMax = 8;
  /// In an expected shape: any number here.
  static constexpr std::uint64_t kAnySize = UINT64_MAX;

  /// Reads bytes that may be anything; `name` is what messages call them. Cost: one copy of the data.
  /// Errors: kCorrupt, naming the tensor: cut, overlapping, out of range, holes, sizes that do not multiply to the
  /// bytes, names that come twice, types that are not above.
  static Result<TensorFile> parse(std::string_view bytes, std::string_view name);

  /// Errors: as parse(); kNotFound, kIo.
  static Result<TensorFile> read(const std::string& path);

  std::string serialize() const;

  /// Writes beside `path`, syncs, renames: a reader sees the old file or the new one. Errors: kIo.
  Result<> write(const std::string& path) const;

  /// Adds or replaces. The product of `shape` must be values.size() (a bug of the caller otherwise).
  template <typename T>
  void put(std::string_view name, std::vector<std::uint64_t> shape, std::span<const T> values) {
    put(name, TensorTypeOf<T>::kType, std::move(shape), std::as_bytes(values));
  }
  void put(std::string_view name, TensorType type, std::vector<std::uint64_t> shape, std::span<const std::byte> data);
  void put_text(std::string_view name, std::string_view text) { texts_.insert_or_assign(std::string(name), text); }

  /// The values of a tensor; they live as long as this object. `shape`: what is expected, kAnySize for any size.
  /// Errors: kNotFound: no such tensor; kCorrupt: another type, another shape, or values that `policy` refuses.
  template <typename T>
  Result<std::span<const T>> get(std::string_view name, std::span<const std::uint64_t> shape,
                                 FloatPolicy policy = FloatPolicy::kFinite) const {
    auto data = get(name, TensorTypeOf<T>::kType, shape, policy);
    if (!data) return std::unexpected(std::move(data.error()));
    return std::span<const T>(reinterpret_cast<const T*>(data->data()), data->size() / sizeof(T));
  }
  /// The same for types that C++ has no word for (F16, BF16, BOOL): their bytes. BOOL is 0 or 1, F16 and BF16 follow
  /// `policy`.
  Result<std::span<const std::byte>> get(std::string_view name, TensorType type, std::span<const std::uint64_t> shape,
                                         FloatPolicy policy = FloatPolicy::kFinite) const;
  Result<std::string_view> text(std::string_view name) const;

  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& texts() const { return texts_; }

 private:
  std::string name_ = "tensor file";
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> texts_;
};

}  // namespace alcedo::models
