// Everything is checked against the bytes that are there before anything is taken: sizes in a header are only claims.
#include "models/tensor_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "core/json.h"
#include "core/whole_file.h"

namespace alcedo::models {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are used as they lie in the file: little-endian");

namespace dom = simdjson::dom;

struct TypeRow {
  TensorType type;
  std::string_view name;
  std::size_t bytes;
};
constexpr TypeRow kTypes[] = {
    {TensorType::kBool, "BOOL", 1}, {TensorType::kU8, "U8", 1},   {TensorType::kI8, "I8", 1},
    {TensorType::kU16, "U16", 2},   {TensorType::kI16, "I16", 2}, {TensorType::kF16, "F16", 2},
    {TensorType::kBF16, "BF16", 2}, {TensorType::kU32, "U32", 4}, {TensorType::kI32, "I32", 4},
    {TensorType::kF32, "F32", 4},   {TensorType::kU64, "U64", 8}, {TensorType::kI64, "I64", 8},
    {TensorType::kF64, "F64", 8},
};
constexpr std::string_view kMetadata = "__metadata__";

const TypeRow& row_of(TensorType type) { return kTypes[static_cast<std::size_t>(type)]; }

// Names come from the file: what a message shows of them is short and cannot act on a terminal.
std::string shown(std::string_view name) {
  std::string text;
  append_json_string(text, name.substr(0, 100));
  return text;
}

// The product times the value's bytes; nothing if it does not fit.
std::optional<std::uint64_t> bytes_of(std::span<const std::uint64_t> shape, TensorType type) {
  std::uint64_t bytes = value_bytes(type);
  for (const std::uint64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return bytes;
}

std::string to_text(std::span<const std::uint64_t> shape) {
  std::string text = "[";
  for (const std::uint64_t size : shape) {
    if (text.size() > 1) text += ", ";
    text += size == TensorFile::kAnySize ? "any" : std::to_string(size);
  }
  return text + "]";
}

// Of a floating-point value only the bits are looked at: exponent all ones is an infinity or NaN, and NaN if any bit of
// the fraction is set.
template <typename T>
bool accepted(std::span<const std::byte> data, T exponent, T fraction, FloatPolicy policy) {
  for (std::size_t i = 0; i + sizeof(T) <= data.size(); i += sizeof(T)) {
    T bits;
    std::memcpy(&bits, data.data() + i, sizeof bits);
    if ((bits & exponent) != exponent) continue;
    if (policy == FloatPolicy::kFinite || (bits & fraction) != 0) return false;
  }
  return true;
}

struct Entry {
  std::string name;
  Tensor tensor;
  std::uint64_t begin = 0, end = 0;
};

Result<Entry> read_entry(std::string_view file, std::string_view name, dom::element element, std::uint64_t data_bytes) {
  const auto refuse = [&](std::string what) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: tensor {} {}", file, shown(name), what));
  };
  dom::object object;
  if (element.get(object) != simdjson::SUCCESS) return refuse("is no object");
  Entry entry;
  entry.name = name;
  bool has_type = false, has_shape = false, has_offsets = false;
  for (const auto [key, value] : object) {
    if (key == "dtype" && !has_type) {
      has_type = true;
      std::string_view type;
      if (value.get(type) != simdjson::SUCCESS) return refuse("has a dtype that is no text");
      const auto* row = std::ranges::find(kTypes, type, &TypeRow::name);
      if (row == std::end(kTypes)) return refuse(fmt::format("has the unknown dtype {}", shown(type)));
      entry.tensor.type = row->type;
    } else if (key == "shape" && !has_shape) {
      has_shape = true;
      dom::array sizes;
      if (value.get(sizes) != simdjson::SUCCESS) return refuse("has a shape that is no list");
      for (const dom::element size : sizes) {
        std::uint64_t n = 0;
        if (size.get(n) != simdjson::SUCCESS) return refuse("has a size that is no whole number");
        if (entry.tensor.shape.size() == TensorFile::kDimensionsMax)
          return refuse(fmt::format("has more than {} dimensions", TensorFile::kDimensionsMax));
        entry.tensor.shape.push_back(n);
      }
    } else if (key == "data_offsets" && !has_offsets) {
      has_offsets = true;
      dom::array offsets;
      if (value.get(offsets) != simdjson::SUCCESS || offsets.size() != 2 ||
          offsets.at(0).get(entry.begin) != simdjson::SUCCESS || offsets.at(1).get(entry.end) != simdjson::SUCCESS)
        return refuse("has data_offsets that are not two whole numbers");
    } else {
      return refuse(fmt::format("has a second or unknown field {}", shown(key)));
    }
  }
  if (!has_type || !has_shape || !has_offsets) return refuse("lacks one of dtype, shape and data_offsets");
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return refuse(fmt::format("lies at bytes {} to {}, but there are {}", entry.begin, entry.end, data_bytes));
  }
  const auto bytes = bytes_of(entry.tensor.shape, entry.tensor.type);
  if (!bytes || *bytes != entry.end - entry.begin) {
    return refuse(fmt::format("has {} bytes, which {} values of shape {} do not have", entry.end - entry.begin,
                              to_string(entry.tensor.type), to_text(entry.tensor.shape)));
  }
  return entry;
}

}  // namespace

std::string_view to_string(TensorType type) { return row_of(type).name; }
std::size_t value_bytes(TensorType type) { return row_of(type).bytes; }

Result<TensorFile> TensorFile::parse(std::string_view bytes, std::string_view name) {
  const auto refuse = [&](std::string what) { return error(ErrorCode::kCorrupt, fmt::format("{}: {}", name, what)); };
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) return refuse("no safetensors file: shorter than 8 bytes");
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  bytes.remove_prefix(sizeof header_bytes);
  if (header_bytes > kHeaderBytesMax) {
    return refuse(fmt::format("a header of {} bytes, of which at most {} are read", header_bytes, kHeaderBytesMax));
  }
  if (header_bytes > bytes.size()) {
    return refuse(fmt::format("ends within its header ({} of {} bytes)", bytes.size(), header_bytes));
  }
  const std::string_view header = bytes.substr(0, header_bytes);
  const std::string_view data = bytes.substr(header_bytes);
  if (!header.starts_with('{')) return refuse("no safetensors file: the header does not begin with '{'");

  dom::parser parser(kHeaderBytesMax + 64);
  if (parser.allocate(header.size() + 1, 8) != simdjson::SUCCESS) return refuse("no memory for the header");
  dom::element root;
  if (const auto fault = parser.parse(simdjson::padded_string(header)).get(root)) {
    return refuse(fmt::format("the header is no JSON that tensors have: {}", simdjson::error_message(fault)));
  }
  dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return refuse("the header is no JSON object");

  TensorFile file;
  file.name_ = name;
  std::vector<Entry> entries;
  bool has_metadata = false;
  for (const auto [key, value] : object) {
    if (key == kMetadata) {
      dom::object texts;
      if (std::exchange(has_metadata, true) || value.get(texts) != simdjson::SUCCESS)
        return refuse("__metadata__ comes twice or is no object");
      for (const auto [text_name, text] : texts) {
        std::string_view content;
        if (text.get(content) != simdjson::SUCCESS) return refuse(fmt::format("text {} is no text", shown(text_name)));
        if (!file.texts_.emplace(text_name, content).second)
          return refuse(fmt::format("text {} comes twice", shown(text_name)));
      }
      continue;
    }
    if (entries.size() == kTensorsMax) return refuse(fmt::format("more than {} tensors", kTensorsMax));
    auto entry = read_entry(name, key, value, data.size());
    if (!entry) return std::unexpected(std::move(entry.error()));
    entries.push_back(std::move(*entry));
  }

  // One walk in the order of the data finds every overlap and every hole.
  std::ranges::sort(entries, {}, [](const Entry& entry) { return std::tuple(entry.begin, entry.end, entry.name); });
  std::uint64_t at = 0;
  for (Entry& entry : entries) {
    if (entry.begin != at) {
      return refuse(fmt::format("tensor {} begins at byte {} of the data where {} is due: {}", shown(entry.name),
                                entry.begin, at, entry.begin < at ? "it overlaps another" : "there is a hole"));
    }
    at = entry.end;
    const auto* first = reinterpret_cast<const std::byte*>(data.data() + entry.begin);
    entry.tensor.data.assign(first, first + (entry.end - entry.begin));
    if (!file.tensors_.emplace(entry.name, std::move(entry.tensor)).second)
      return refuse(fmt::format("tensor {} comes twice", shown(entry.name)));
  }
  if (at != data.size()) return refuse(fmt::format("{} bytes behind the last tensor", data.size() - at));
  return file;
}

Result<TensorFile> TensorFile::read(const std::string& path) {
  const auto bytes = read_whole_file(path, kFileBytesMax);
  if (!bytes) return std::unexpected(bytes.error());
  return parse(*bytes, path);
}

std::string TensorFile::serialize() const {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  order.reserve(tensors_.size());
  for (const auto& entry : tensors_) order.push_back(&entry);
  std::ranges::stable_sort(order, std::greater<>(), [](const auto* entry) { return value_bytes(entry->second.type); });
  JsonWriter json;
  json.begin_object();
  if (!texts_.empty()) {
    json.key(kMetadata).begin_object();
    for (const auto& [name, text] : texts_) json.field(name, std::string_view(text));
    json.end_object();
  }
  std::uint64_t at = 0;
  for (const auto* entry : order) {
    const Tensor& tensor = entry->second;
    json.key(entry->first).begin_object().field("dtype", to_string(tensor.type)).key("shape").begin_array();
    for (const std::uint64_t size : tensor.shape) json.value(size);
    json.end_array().key("data_offsets").begin_array().value(at).value(at + tensor.data.size());
    json.end_array().end_object();
    at += tensor.data.size();
  }
  json.end_object();
  std::string header = json.take();
  // Spaces behind the header put the data at a multiple of 8.
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  bytes.reserve(8 + header.size() + at);
  const std::uint64_t header_bytes = header.size();
  bytes.append(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
  bytes += header;
  for (const auto* entry : order) {
    bytes.append(reinterpret_cast<const char*>(entry->second.data.data()), entry->second.data.size());
  }
  return bytes;
}

Result<> TensorFile::write(const std::string& path) const { return write_whole_file(path, serialize()); }

void TensorFile::put(std::string_view name, TensorType type, std::vector<std::uint64_t> shape,
                     std::span<const std::byte> data) {
  CHECK(shape.size() <= kDimensionsMax && bytes_of(shape, type) == data.size() && name != kMetadata);
  Tensor tensor;
  tensor.type = type;
  tensor.shape = std::move(shape);
  tensor.data.assign(data.begin(), data.end());
  tensors_.insert_or_assign(std::string(name), std::move(tensor));
}

Result<std::span<const std::byte>> TensorFile::get(std::string_view name, TensorType type,
                                                   std::span<const std::uint64_t> shape, FloatPolicy policy) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return error(ErrorCode::kNotFound, fmt::format("{}: there is no tensor {}", name_, shown(name)));
  }
  const Tensor& tensor = found->second;
  const auto refuse = [&](std::string what) {
    return error(ErrorCode::kCorrupt, fmt::format("{}: tensor {} {}", name_, shown(name), what));
  };
  if (tensor.type != type) {
    return refuse(fmt::format("is {}; {} is expected", to_string(tensor.type), to_string(type)));
  }
  const auto fits = [](std::uint64_t size, std::uint64_t expected) { return expected == kAnySize || size == expected; };
  if (!std::ranges::equal(tensor.shape, shape, fits)) {
    return refuse(fmt::format("has the shape {}; {} is expected", to_text(tensor.shape), to_text(shape)));
  }
  const std::span<const std::byte> data = tensor.data;
  bool good = true;
  if (type == TensorType::kBool) {
    if (std::ranges::any_of(data, [](std::byte b) { return b > std::byte{1}; }))
      return refuse("holds a byte that is neither 0 nor 1");
  } else if (policy == FloatPolicy::kAny) {
    return data;
  } else if (type == TensorType::kF16) {
    good = accepted<std::uint16_t>(data, 0x7C00U, 0x03FFU, policy);
  } else if (type == TensorType::kBF16) {
    good = accepted<std::uint16_t>(data, 0x7F80U, 0x007FU, policy);
  } else if (type == TensorType::kF32) {
    good = accepted<std::uint32_t>(data, 0x7F800000U, 0x007FFFFFU, policy);
  } else if (type == TensorType::kF64) {
    good = accepted<std::uint64_t>(data, 0x7FF0000000000000U, 0x000FFFFFFFFFFFFFU, policy);
  }
  if (!good) {
    return refuse(policy == FloatPolicy::kFinite ? "holds a value that is not finite" : "holds a value that is NaN");
  }
  return data;
}

Result<std::string_view> TensorFile::text(std::string_view name) const {
  const auto found = texts_.find(name);
  if (found == texts_.end()) {
    return error(ErrorCode::kNotFound, fmt::format("{}: there is no text {}", name_, shown(name)));
  }
  return found->second;
}

}  // namespace alcedo::models
