// The numbers of one transformer as the arithmetic wants them, and the functions that a processor's path gives for
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace alcedo::models::transformer {

inline constexpr std::size_t kWidth = 32;  // floats that carry an event through the layers
inline constexpr std::size_t kLayers = 2;
inline constexpr std::size_t kHeads = 4;
inline constexpr std::size_t kHeadWidth = kWidth / kHeads;
inline constexpr std::size_t kWindow = 32;  // events that an event may look at, itself included
inline constexpr std::size_t kInner = 128;  // width inside a layer's second half
inline constexpr std::size_t kLanes =
    16;  // floats that arithmetic takes at a time, however wide the processor's registers
inline constexpr float kNormEpsilon = 1e-5F;

/// What an entity's next event needs of its past ones. Keys lie slots last, so that one query meets many of them at a
/// time; an event's slot is its number modulo 32. S: float, or std::uint16_t for bfloat16. All bytes zero but `hidden`:
/// an entity without events.
template <typename S>
struct alignas(64) Ring {
  S keys[kLayers][kWidth][kWindow];
  S values[kLayers][kWindow][kWidth];
  float hidden[kWidth];  // what the newest event left; the heads read it
  std::uint64_t count;   // events so far
  std::uint64_t chain;   // TokenHistory::chain() of them
  std::uint32_t filled;  // slots that hold an event, at most 32
};

/// inputs x outputs weights, 16 outputs at a time: [outputs / 16][inputs][16], then a bias an output.
struct Linear {
  const float* weights;
  const float* bias;
};

struct Norm {
  const float* scale;
  const float* shift;
};

struct Layer {
  Norm before_attention, before_inner;
  Linear query_key_value;  // 32 -> 96; queries already divided by sqrt(8)
  Linear out;              // 32 -> 32
  Linear up, down;         // 32 -> 128 -> 32
  const float* distance;   // [4][64]: entry j of a head is its bias at distance (31 - j) modulo 32
};

/// Where a field's bins stand among the padded outputs of the head.
struct Field {
  std::uint32_t first_row;  // of the embedding
  std::uint32_t bins;
  std::uint32_t first_group;  // of 16 outputs
  std::uint32_t groups;       // 1 or 2; outputs past the last bin have weight 0 and bias kNever
};
inline constexpr float kNever = -1e30F;

struct Model {
  Layer layers[kLayers];
  Norm last;
  const float* embedding;  // [rows][32]
  Linear head;             // 32 -> 16 x head_groups
  const Field* fields;
  std::uint32_t field_count;
  std::uint32_t head_groups;
  const float* label;  // [32], or null
  float label_bias;
};

inline constexpr std::size_t kFieldsMax = 64;
inline constexpr std::size_t kGroup = 4;  // events worked off together

/// One event: `token` has a bin a field. `surprise` receives -log p of each field's bin, as its ring stood before the
/// event; `label` the logit of the label head after it.
struct Event {
  void* ring;
  const std::uint8_t* token;
  float* surprise;  // [kFieldsMax]
  float* label;
};

/// A path: the same steps in the same order of operations, hence the same bits, by other instructions.
struct Kernel {
  /// Works events off as if one by one, in order; a ring may occur again. count and filled advance, chain is the
  /// caller's.
  void (*step_float)(const Model&, const Event* events, std::size_t count);
  void (*step_bfloat16)(const Model&, const Event* events, std::size_t count);
  /// Leaves an empty ring as step would, given the last events of an entity in order: 63, or as many as there were.
  /// Computes only what is still seen; surprise and label are not written.
  void (*replay_float)(const Model&, const Event* events, std::size_t count);
  void (*replay_bfloat16)(const Model&, const Event* events, std::size_t count);
  const char* name;
};

/// The best that this processor has, and the one that needs nothing of it.
const Kernel& best_kernel();
const Kernel& scalar_kernel();

}  // namespace alcedo::models::transformer
