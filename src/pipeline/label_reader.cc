// A label is decoded like an event: its id is the event's, its time the one at which it became known.
#include "pipeline/label_reader.h"

#include <algorithm>
#include <chrono>

#include "contract/fields/label_types.h"
#include "ingest/open_source.h"

namespace alcedo::pipeline {
namespace {

constexpr std::size_t kRowsAtOnce = 512;

contract::EventsSpec events_of(const Pipeline& pipeline) {
  const LabelsSpec& labels = pipeline.labels;
  contract::EventsSpec spec;
  spec.id_field = pipeline.events.id_field;
  if (labels.known_field.empty()) {
    spec.time.unit = contract::TimeUnit::kRow;
    spec.time.step_ms = 1;
  } else {
    spec.time.field = labels.known_field;
  }
  spec.ahead_ms.reset();
  if (!labels.type_field.empty()) spec.keys.push_back({"type", {{contract::KeyPart::Kind::kField, labels.type_field}}});
  // A private id is known by its hash, in both.
  const auto& hidden = pipeline.events.private_fields;
  if (std::ranges::find(hidden, spec.id_field) != hidden.end()) spec.private_fields.push_back(spec.id_field);
  return spec;
}

}  // namespace

struct LabelReader::Chunk {
  explicit Chunk(const EventLayout& layout) : batch(layout) {}
  RawBatch raw;
  EventBatch batch;
  std::vector<contract::Decoded> decoded;
  std::size_t at = 0;  // of the row that comes next
  bool ended = false;
  bool idle = false;  // nothing was there when last looked
  Row row;
  bool has_row = false;
};

LabelReader::LabelReader(const Pipeline& pipeline, ingest::Source& source, contract::Decoder decoder,
                         SetAside set_aside)
    : types_(pipeline.events.label_types),
      has_type_(!pipeline.labels.type_field.empty()),
      has_times_(!pipeline.labels.known_field.empty()),
      source_(source),
      decoder_(std::move(decoder)),
      set_aside_(std::move(set_aside)) {
  for (std::size_t p = 0; p < source.num_partitions(); ++p)
    chunks_.push_back(std::make_unique<Chunk>(decoder_.layout()));
}

LabelReader::~LabelReader() = default;

Result<std::unique_ptr<LabelReader>> LabelReader::create(const Pipeline& pipeline, std::array<std::uint8_t, 16> secret,
                                                         ingest::Source& source, SetAside set_aside) {
  auto decoder = contract::Decoder::create(events_of(pipeline), secret);
  if (!decoder) return std::unexpected(decoder.error());
  for (std::int32_t p = 0; p < static_cast<std::int32_t>(source.num_partitions()); ++p) {
    if (auto opened = decoder->open_partition(p, source.partition(p)); !opened)
      return error(opened.error().code, "labels: " + opened.error().message);
  }
  return std::unique_ptr<LabelReader>(new LabelReader(pipeline, source, std::move(*decoder), std::move(set_aside)));
}

Result<> LabelReader::fill(std::int32_t partition) {
  Chunk& chunk = *chunks_[static_cast<std::size_t>(partition)];
  while (!chunk.has_row) {
    if (chunk.at == chunk.raw.size()) {
      if (chunk.ended || chunk.idle) return {};
      chunk.raw.clear();
      auto state = source_.read(partition, chunk.raw, kRowsAtOnce, std::chrono::milliseconds(0));
      if (!state) return std::unexpected(state.error());
      chunk.raw.pad();
      chunk.ended = *state == ingest::ReadState::kEnd;
      chunk.at = 0;
      chunk.batch.reset(chunk.raw.size(), 1);
      chunk.decoded.clear();
      for (std::size_t i = 0; i < chunk.raw.size(); ++i) {
        chunk.raw[i].partition = partition;
        chunk.decoded.push_back(decoder_.decode(chunk.raw, i, chunk.batch, i, 0, scratch_));
        chunk.raw[i].partition = kPartitionBase + partition;
      }
      chunk.idle = *state == ingest::ReadState::kIdle;
      continue;
    }
    const std::size_t i = chunk.at++;
    const contract::Decoded& decoded = chunk.decoded[i];
    CheckpointRecord::Place& place = places_[kPartitionBase + partition];
    if (decoded.events == 0) {
      if (decoded.reject != contract::Reject::kNone) {
        if (auto r = set_aside_(chunk.raw, i, decoded); !r) return r;
      }
      place.offset = chunk.raw[i].offset + 1;
      place.fingerprint = ingest::fingerprint(place.fingerprint, chunk.raw.bytes(i));
      continue;
    }
    const EventHeader& header = chunk.batch.header(i);
    chunk.row = {header.id_hash, header.time_ms, header.offset, kPartitionBase + partition, 0};
    // Without a type column a row is there because of an anomaly.
    const std::string_view type = has_type_ ? chunk.batch.key(i, 0).text : std::string_view("anomaly");
    chunk.row.truth = kTruthTold;
    if (!has_type_ || (chunk.batch.key(i, 0).hash != 0 && !contract::says_normal(type))) {
      chunk.row.truth |= kTruthAnomalous;
      const auto at = std::ranges::find(types_, type);
      if (at != types_.end()) chunk.row.truth |= truth_of_type(static_cast<std::size_t>(at - types_.begin()));
    }
    chunk.has_row = true;
  }
  return {};
}

Result<const LabelReader::Row*> LabelReader::peek() {
  next_ = nullptr;
  for (std::size_t p = 0; p < chunks_.size(); ++p) {
    if (auto r = fill(static_cast<std::int32_t>(p)); !r) return std::unexpected(r.error());
    Chunk& chunk = *chunks_[p];
    if (!chunk.has_row) continue;
    if (next_ == nullptr || chunk.row.known_ms < next_->row.known_ms) next_ = &chunk;
  }
  return next_ == nullptr ? nullptr : &next_->row;
}

void LabelReader::look_again() {
  for (auto& chunk : chunks_) chunk->idle = false;
}

void LabelReader::take() {
  Chunk& chunk = *next_;
  CheckpointRecord::Place& place = places_[chunk.row.partition];
  place.offset = chunk.row.offset + 1;
  place.fingerprint = ingest::fingerprint(place.fingerprint, chunk.raw.bytes(chunk.at - 1));
  chunk.has_row = false;
}

Result<> LabelReader::load() {
  for (;;) {
    auto row = peek();
    if (!row) return std::unexpected(row.error());
    if (*row == nullptr) break;
    if ((*row)->id_hash != 0 && ((*row)->truth & kTruthAnomalous) != 0)
      by_id_.emplace_back((*row)->id_hash, (*row)->truth);
    take();
  }
  std::ranges::stable_sort(by_id_, {}, &std::pair<std::uint64_t, Truth>::first);
  const auto rest = std::ranges::unique(by_id_, {}, &std::pair<std::uint64_t, Truth>::first);
  by_id_.erase(rest.begin(), rest.end());
  return {};
}

Truth LabelReader::find(std::uint64_t id_hash) const {
  const auto at = std::ranges::lower_bound(by_id_, id_hash, {}, &std::pair<std::uint64_t, Truth>::first);
  return at == by_id_.end() || at->first != id_hash ? Truth{0} : at->second;
}

Result<> LabelReader::skip_to(const std::map<std::int32_t, CheckpointRecord::Place>& places,
                              const std::atomic<bool>& stopping) {
  for (std::int32_t p = 0; p < static_cast<std::int32_t>(chunks_.size()); ++p) {
    const auto place = places.find(kPartitionBase + p);
    if (place == places.end()) continue;
    if (auto r = source_.skip_to(p, place->second.offset, place->second.fingerprint, stopping); !r) return r;
    places_[kPartitionBase + p] = place->second;
  }
  return {};
}

bool reads_label_file(const Pipeline& pipeline) {
  if (!pipeline.labels.in_file() || !pipeline.labels.delay_ms) return false;
  return std::ranges::any_of(pipeline.features.features,
                             [](const auto& spec) { return spec.kind == features::FeatureKind::kConfirmed; });
}

Result<std::unique_ptr<ingest::Source>> open_labels(const Pipeline& pipeline, bool follow, std::int64_t opened_ms) {
  if (!reads_label_file(pipeline)) return nullptr;
  auto uri = ingest::SourceUri::parse(pipeline.labels.from);
  if (!uri) return std::unexpected(uri.error());
  ingest::OpenOptions how;
  // What has no times is read to its end at once.
  how.follow = follow && !pipeline.labels.known_field.empty();
  how.opened_ms = opened_ms;
  auto source = ingest::open_source(*uri, how);
  if (!source) return error(source.error().code, "labels: " + source.error().message);
  return source;
}

}  // namespace alcedo::pipeline
