// Any bytes as text inside a JSON line.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace alcedo::ingest {

/// RFC 4648, section 4, with padding.
std::string encode_base64(std::string_view bytes);
/// Exactly what encode_base64() writes; nullopt for anything else.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace alcedo::ingest
