// The public face: owns the compiled plan and the partitions; each record's work is RecordDecoder's.
#include "contract/decoder.h"

#include <algorithm>
#include <utility>

#include "contract/event_plan.h"
#include "contract/fields/label_types.h"
#include "contract/record_decoder.h"
#include "core/check.h"

namespace alcedo::contract {
namespace {

constexpr std::int32_t kPartitionsMax = 1 << 20;

}  // namespace

std::string_view to_string(Reject reject) {
  switch (reject) {
    case Reject::kNone:
      return "none";
    case Reject::kMalformed:
      return "malformed";
    case Reject::kWrongType:
      return "wrong_type";
    case Reject::kMissingField:
      return "missing_field";
    case Reject::kBadTime:
      return "bad_time";
    case Reject::kNotFinite:
      return "not_finite";
    case Reject::kInvalidUtf8:
      return "invalid_utf8";
    case Reject::kTooLong:
      return "too_long";
    case Reject::kColumnCount:
      return "column_count";
    case Reject::kBadMoney:
      return "bad_money";
    case Reject::kOutOfRange:
      return "out_of_range";
  }
  return "unknown";
}

struct Decoder::Impl {
  Impl(EventPlan compiled, std::array<std::uint8_t, 16> key) : plan(std::move(compiled)), secret(key) {}

  EventPlan plan;
  std::array<std::uint8_t, 16> secret;
  std::vector<std::unique_ptr<PartitionPlan>> partitions;
  std::size_t events_per_record_max = 1;
  LabelTypes label_types;
};

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

struct Decoder::Scratch::Impl : DecodeMemory {};

Decoder::Scratch::Scratch() : impl_(std::make_unique<Impl>()) {}
Decoder::Scratch::Scratch(Scratch&&) noexcept = default;
Decoder::Scratch::~Scratch() = default;

Result<Decoder> Decoder::create(const EventsSpec& spec, std::array<std::uint8_t, 16> secret) {
  auto plan = EventPlan::compile(spec);
  if (!plan) return std::unexpected(std::move(plan.error()));
  auto impl = std::make_unique<Impl>(std::move(*plan), secret);
  // First, so that they keep their own names however many others come.
  for (const std::string& type : spec.label_types) impl->label_types.label_of(type);
  return Decoder(std::move(impl));
}

const EventLayout& Decoder::layout() const { return impl_->plan.layout; }
std::size_t Decoder::events_per_record_max() const { return impl_->events_per_record_max; }
std::vector<std::string> Decoder::label_types() const { return impl_->label_types.names(); }

Result<> Decoder::open_partition(std::int32_t partition, const PartitionInfo& info, std::int64_t first_row) {
  CHECK(partition >= 0 && partition < kPartitionsMax);
  auto plan = PartitionPlan::compile(impl_->plan, info, first_row);
  if (!plan) return std::unexpected(std::move(plan.error()));
  const auto index = static_cast<std::size_t>(partition);
  if (impl_->partitions.size() <= index) impl_->partitions.resize(index + 1);
  impl_->events_per_record_max = std::max(impl_->events_per_record_max, plan->wide_metrics.size());
  impl_->partitions[index] = std::make_unique<PartitionPlan>(std::move(*plan));
  return {};
}

Decoded Decoder::decode(const RawBatch& raw, std::size_t i, EventBatch& out, std::size_t first_row, std::size_t arena,
                        Scratch& scratch) const {
  const RawRecord& record = raw[i];
  const auto partition = static_cast<std::size_t>(record.partition);
  CHECK(record.partition >= 0 && partition < impl_->partitions.size() && impl_->partitions[partition] != nullptr);
  RecordDecoder decoder(impl_->plan, *impl_->partitions[partition], impl_->secret, impl_->label_types, *scratch.impl_,
                        out, out.arena(arena));
  return decoder.decode(raw.bytes(i), record, first_row);
}

}  // namespace alcedo::contract
