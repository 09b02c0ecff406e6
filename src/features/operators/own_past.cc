// Weights grow from a landmark instead of all cells fading at every event, as in the season operator.
#include "features/operators/own_past.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/event.h"

namespace alcedo::features {
namespace {

constexpr double kLeastExponent = -4;  // of the first decade
// The landmark moves before floats run out of exponents.
constexpr double kLandmarkHalfLives = 32;
// A cell that weighs less has been forgotten: a single value after 40 half-lives.
constexpr float kForgottenCell = 1e-12F;

std::uint32_t cell_of(double deviation, std::uint32_t a_decade) {
  const double cells = static_cast<double>(OwnPastState::kDecades * a_decade);
  const double place = std::floor((std::log10(deviation) - kLeastExponent) * a_decade);  // -inf for 0
  return static_cast<std::uint32_t>(std::clamp(place, 0.0, cells - 1));
}

}  // namespace

double OwnPast::surprise(const OwnPastState& state, double deviation, std::int64_t now_ms,
                         std::uint32_t min_history) const {
  if (std::isnan(deviation) || state.history < min_history) return kMissing;
  const std::uint32_t cell = cell_of(deviation, kCells);
  double less = 0;
  double as_much = 0;
  for (std::uint32_t decade = 0; decade < OwnPastState::kDecades; ++decade) {
    if (state.blocks[decade] == 0) continue;
    const float* weights = cells(state, decade);
    for (std::uint32_t i = 0; i < kCells; ++i)
      (decade * kCells + i < cell ? less : as_much) += static_cast<double>(weights[i]);
  }
  // One value of now, in the landmark's weights.
  const double one = std::exp2(static_cast<double>(now_ms - state.landmark_ms) / half_life_ms_);
  return -std::log10((as_much + one) / (less + as_much + one));
}

void OwnPast::learn(OwnPastState& state, double deviation, std::int64_t now_ms) {
  if (std::isnan(deviation)) return;
  if (state.history == 0) state.landmark_ms = now_ms;
  if (static_cast<double>(now_ms - state.landmark_ms) > kLandmarkHalfLives * half_life_ms_)
    move_landmark(state, now_ms);
  const std::uint32_t cell = cell_of(deviation, kCells);
  float& weight = taken_cells(state, cell / kCells)[cell % kCells];
  const double one = std::exp2(static_cast<double>(now_ms - state.landmark_ms) / half_life_ms_);
  weight = static_cast<float>(static_cast<double>(weight) + one);
  if (state.history != 0xFFFFFFFF) ++state.history;
}

float* OwnPast::taken_cells(OwnPastState& state, std::uint32_t decade) {
  if (state.blocks[decade] == 0) {
    state.blocks[decade] = blocks_.allocate() + 1;
    std::fill_n(cells(state, decade), kCells, 0.0F);
  }
  return cells(state, decade);
}

void OwnPast::move_landmark(OwnPastState& state, std::int64_t now_ms) {
  const double factor = std::exp2(-static_cast<double>(now_ms - state.landmark_ms) / half_life_ms_);
  for (std::uint32_t decade = 0; decade < OwnPastState::kDecades; ++decade) {
    if (state.blocks[decade] == 0) continue;
    float* weights = cells(state, decade);
    bool any = false;
    for (std::uint32_t i = 0; i < kCells; ++i) {
      const auto moved = static_cast<float>(static_cast<double>(weights[i]) * factor);
      weights[i] = moved < kForgottenCell ? 0 : moved;
      any = any || weights[i] != 0;
    }
    if (any) continue;
    blocks_.release(state.blocks[decade] - 1);
    state.blocks[decade] = 0;
  }
  state.landmark_ms = now_ms;
}

void OwnPast::save(const OwnPastState& state, StateWriter& writer) const {
  if (state.history == 0) return;
  writer.u32(state.history);
  writer.i64(state.landmark_ms);
  std::uint32_t held = 0;
  const auto each = [&](auto&& with) {
    for (std::uint32_t decade = 0; decade < OwnPastState::kDecades; ++decade) {
      if (state.blocks[decade] == 0) continue;
      for (std::uint32_t i = 0; i < kCells; ++i) {
        if (cells(state, decade)[i] != 0) with(decade * kCells + i, cells(state, decade)[i]);
      }
    }
  };
  each([&](std::uint32_t, float) { ++held; });
  writer.varint(held);
  each([&](std::uint32_t cell, float weight) {
    writer.varint(cell);
    writer.f32(weight);
  });
}

void OwnPast::load(OwnPastState& state, StateReader& reader) {
  state.history = reader.u32();
  state.landmark_ms = reader.time_ms();
  std::int64_t last = -1;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    const std::uint64_t cell = reader.varint();
    const float weight = reader.f32();
    if (!reader.ok()) return;
    if (cell >= std::uint64_t{OwnPastState::kDecades} * kCells || static_cast<std::int64_t>(cell) <= last)
      return reader.refuse(fmt::format("counts in cell {}, which does not exist or is not in order", cell));
    if (!(weight > 0)) return reader.refuse(fmt::format("has a cell that weighs {}", weight));
    last = static_cast<std::int64_t>(cell);
    taken_cells(state, static_cast<std::uint32_t>(cell / kCells))[cell % kCells] = weight;
  }
  if (state.history == 0) reader.refuse("counts deviations without a history");
}

void OwnPast::clear(OwnPastState& state) {
  for (const std::uint32_t block : state.blocks) {
    if (block != 0) blocks_.release(block - 1);
  }
  state = OwnPastState{};
}

}  // namespace alcedo::features
