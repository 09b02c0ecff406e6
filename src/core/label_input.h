// A label as an input: it became known after its event, and has its own place in the one order of inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/event.h"

namespace alcedo {

/// What is now known of an earlier event. It happens before the event in order[before] of a batch.
struct LabelInput {
  struct Entity {
    std::uint64_t hash = 0;  // 0: the event had no such key, or nobody asks for it
    std::uint8_t group = 0;
  };
  std::size_t before = 0;
  std::uint64_t sequence = 0;
  std::int64_t known_ms = 0;
  std::int64_t event_ms = 0;
  std::int64_t tick_ms = INT64_MIN;  // time of the last tick before it
  Truth truth = 0;
  std::vector<Entity> entities;  // by key slot
};

}  // namespace alcedo
