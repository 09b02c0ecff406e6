// The order made here is the order that the journal records; nothing downstream may depend on anything else.
#include "pipeline/sequencer.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/check.h"

namespace alcedo::pipeline {
namespace {

std::int64_t floor_to(std::int64_t time_ms, std::int64_t step_ms) {
  const std::int64_t rest = time_ms % step_ms;
  return time_ms - (rest < 0 ? rest + step_ms : rest);
}

}  // namespace

Sequencer::Sequencer(Options options) : options_(options) {
  if (options_.duplicates > 0) mask_ = std::bit_ceil(2 * (options_.duplicates + 2)) - 1;
}

Sequencer::Seen* Sequencer::Generation::find(std::uint64_t id, std::size_t mask) const {
  if (!slots) return nullptr;
  for (std::size_t i = mix64(id) & mask;; i = (i + 1) & mask) {
    if (slots[i].id == id) return &slots[i];
    if (slots[i].id == 0) return nullptr;
  }
}

void Sequencer::put(std::uint64_t id, std::uint64_t sequence) {
  if (!current_.slots) {
    current_.slots.reset(static_cast<Seen*>(std::calloc(mask_ + 1, sizeof(Seen))));
    CHECK(current_.slots);
  }
  std::size_t i = mix64(id) & mask_;
  while (current_.slots[i].id != 0) i = (i + 1) & mask_;
  current_.slots[i] = {id, sequence};
}

void Sequencer::prefetch(std::uint64_t id_hash) const {
  if (mask_ == 0) return;
  const std::size_t at = mix64(id_hash) & mask_;
  for (const Generation* generation : {&current_, &previous_}) {
    if (generation->slots) __builtin_prefetch(&generation->slots[at]);
  }
}

bool Sequencer::is_duplicate(std::uint64_t id_hash, std::uint64_t sequence) {
  if (sequence - generation_began_ > options_.duplicates) {
    previous_.slots = std::move(current_.slots);
    generation_began_ = sequence;
  }
  for (Generation* generation : {&current_, &previous_}) {
    Seen* seen = generation->find(id_hash, mask_);
    if (seen != nullptr && sequence - seen->sequence <= options_.duplicates) return true;
    if (seen != nullptr && generation == &current_) {
      seen->sequence = sequence;
      return false;
    }
  }
  put(id_hash, sequence);
  return false;
}

Admission Sequencer::admit(EventHeader& event) {
  if (options_.ahead_ms && event.time_ms > event.arrival_ms && event.time_ms - event.arrival_ms > *options_.ahead_ms) {
    return Admission::kAhead;
  }
  if (options_.duplicates > 0 && event.id_hash != 0 && is_duplicate(event.id_hash, next_sequence_))
    return Admission::kDuplicate;
  event.sequence = next_sequence_++;
  event.flags &= static_cast<std::uint8_t>(~kEventLate);
  if (event.time_ms < watermark_ms_) event.flags |= kEventLate;
  raise(event.time_ms - options_.lateness_ms);
  return Admission::kAccepted;
}

void Sequencer::raise(std::int64_t watermark_ms) {
  if (watermark_ms <= watermark_ms_) return;
  watermark_ms_ = watermark_ms;
  const std::int64_t tick_ms = floor_to(watermark_ms, options_.tick_ms);
  if (tick_ms <= ticked_ms_) return;
  ticked_ms_ = tick_ms;
  tick_ = Tick{0, next_sequence_ - 1, tick_ms};
}

std::optional<Tick> Sequencer::take_tick() { return std::exchange(tick_, std::nullopt); }

std::uint64_t Sequencer::advance(std::int64_t time_ms) {
  const std::uint64_t sequence = next_sequence_++;
  raise(time_ms);
  return sequence;
}

}  // namespace alcedo::pipeline
