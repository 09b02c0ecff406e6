// The order made here is the order that the journal records; nothing downstream may depend on anything else.
#include "pipeline/sequencer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "core/check.h"

namespace alcedo::pipeline {
namespace {

constexpr std::uint64_t kSequenceMax = std::uint64_t{1} << 62U;

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

std::unique_ptr<Sequencer::Seen[], Sequencer::Free> Sequencer::zeroed(std::size_t slots) {
  std::unique_ptr<Seen[], Free> taken(static_cast<Seen*>(std::calloc(slots, sizeof(Seen))));
  CHECK(taken);
  return taken;
}

void Sequencer::put(std::uint64_t id, std::uint64_t sequence) {
  if (!current_.slots) current_.slots = zeroed(mask_ + 1);
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
  if (is_ahead(event)) return Admission::kAhead;
  if (options_.duplicates > 0 && event.id_hash != 0) {
    if (is_duplicate(event.id_hash, next_sequence_)) return Admission::kDuplicate;
    if (recent_) recent_[recorded_++ % options_.duplicates] = {event.id_hash, next_sequence_};
  }
  event.sequence = next_sequence_++;
  event.tick_ms = ticked_ms_;
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

// The ticked time is the watermark rounded down, as after every raise().
void Sequencer::save(StateWriter& writer) const {
  CHECK(!tick_);
  writer.u64(next_sequence_);
  writer.u8(watermark_ms_ == INT64_MIN ? 0 : 1);
  if (watermark_ms_ != INT64_MIN) writer.i64(watermark_ms_);
}

void Sequencer::load(StateReader& reader) {
  const std::uint64_t next_sequence = reader.u64();
  const std::uint8_t started = reader.u8();
  const std::int64_t watermark_ms = started != 0 ? reader.time_ms() : INT64_MIN;
  if (started > 1) reader.refuse("has a watermark that is neither there nor not");
  if (reader.ok() && (next_sequence == 0 || next_sequence > kSequenceMax))
    reader.refuse(fmt::format("has {} as the next sequence; expected 1 to 2^62", next_sequence));
  if (!reader.ok()) return;
  next_sequence_ = next_sequence;
  watermark_ms_ = watermark_ms;
  ticked_ms_ = started != 0 ? floor_to(watermark_ms, options_.tick_ms) : INT64_MIN;
  tick_.reset();
  current_ = {};
  previous_ = {};
  generation_began_ = next_sequence;
  recorded_ = 0;
}

void Sequencer::keep_recent_ids(bool keep) {
  if (options_.duplicates == 0 || keep == (recent_ != nullptr)) return;
  recorded_ = 0;
  recent_ = keep ? zeroed(options_.duplicates) : nullptr;
}

std::vector<Sequencer::Seen> Sequencer::take_recent_ids() {
  std::vector<Seen> taken;
  const std::uint64_t kept = std::min(recorded_, options_.duplicates);
  taken.reserve(kept);
  for (std::uint64_t i = recorded_ - kept; i < recorded_; ++i) taken.push_back(recent_[i % options_.duplicates]);
  recorded_ = 0;
  return taken;
}

Result<> Sequencer::load_ids(std::span<const Seen> ids) {
  const auto unfit =
      std::ranges::adjacent_find(ids, [](const Seen& a, const Seen& b) { return a.sequence >= b.sequence; });
  if (unfit != ids.end()) {
    return error(ErrorCode::kCorrupt, fmt::format("saved ids: sequence {} follows {}; expected ascending ones",
                                                  unfit[1].sequence, unfit->sequence));
  }
  if (!ids.empty() && ids.back().sequence >= next_sequence_) {
    return error(ErrorCode::kCorrupt, fmt::format("saved ids: sequence {} where {} comes next; expected lower ones",
                                                  ids.back().sequence, next_sequence_));
  }
  const std::uint64_t horizon = next_sequence_ - std::min(next_sequence_, options_.duplicates);
  const auto first = std::ranges::lower_bound(ids, horizon, {}, &Seen::sequence);
  if (first == ids.end()) return {};
  // One generation takes them all: it began with the oldest.
  generation_began_ = first->sequence;
  for (const Seen& seen : std::span(first, ids.end())) {
    if (seen.id == 0) continue;
    if (Seen* known = current_.find(seen.id, mask_)) {
      known->sequence = seen.sequence;
    } else {
      put(seen.id, seen.sequence);
    }
  }
  return {};
}

}  // namespace alcedo::pipeline
