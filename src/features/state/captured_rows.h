// Rows of entities on their way from the engine's thread to the store of checkpoints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace alcedo::features {

struct CapturedRows {
  struct Row {
    std::uint64_t entity = 0;  // hash of its key
    std::uint64_t begin = 0;   // in `bytes`
    std::uint32_t size = 0;
    std::uint32_t stage = 0;
    std::uint8_t group = 0;
    bool live = true;  // false: the entity was forgotten, its row goes
  };
  std::vector<Row> rows;
  std::string bytes;

  std::string_view bytes_of(const Row& row) const { return std::string_view(bytes).substr(row.begin, row.size); }
  bool empty() const { return rows.empty(); }
  void clear() {
    rows.clear();
    bytes.clear();
  }
};

}  // namespace alcedo::features
