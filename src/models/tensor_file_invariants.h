// What must hold of reading tensors and trees whatever the bytes are: one list for the fuzzer and the replay of its
// corpus.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "models/tensor_file.h"

namespace alcedo::models {

/// Aborts where an invariant is broken. True: the bytes were accepted.
inline bool check_tensor_file(std::string_view bytes) {
  const auto file = TensorFile::parse(bytes, "fuzzed");
  if (!file) {
    CHECK(file.error().code == ErrorCode::kCorrupt && file.error().message.starts_with("fuzzed: "));
    return false;
  }
  const std::string once = file->serialize();
  const auto again = TensorFile::parse(once, "again");
  CHECK(again.has_value() && again->serialize() == once);
  CHECK(again->tensors().size() == file->tensors().size() && again->texts() == file->texts());
  for (const auto& [name, tensor] : file->tensors()) {
    const auto any = file->get(name, tensor.type, tensor.shape, FloatPolicy::kAny);
    CHECK(any.has_value() || tensor.type == TensorType::kBool);
    if (tensor.type != TensorType::kF32) continue;
    const auto finite = file->get<float>(name, tensor.shape);
    if (!finite) continue;
    for (const float value : *finite) CHECK(std::isfinite(value));
  }
  return true;
}

}  // namespace alcedo::models
