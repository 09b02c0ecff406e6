// evaluate judges by it, train learns from it: both must read the same labels in the same way.
#include "truth.h"

#include "commands.h"

namespace alcedo::cli {

std::unique_ptr<Truth> Truth::open(const Offline& offline, const Arguments& arguments, int& exit_code) {
  exit_code = kUsage;
  const auto& pipeline = offline.pipeline();
  std::unique_ptr<Truth> truth(new Truth(offline));
  const std::string label_file = !arguments.labels.empty() ? arguments.labels : pipeline.labels.from;
  truth->from_field_ = !pipeline.events.label_field.empty() && arguments.labels.empty();
  truth->carried_ = !offline.source().label_types().empty();
  if (truth->carried_ && !arguments.labels.empty()) {
    complain("--labels: these events carry their own; leave it out");
    return nullptr;
  }
  if (!truth->from_field_ && !truth->carried_ && (arguments.required || !label_file.empty())) {
    if (label_file.empty()) {
      complain("no labels: give --labels FILE, or labels: in the pipeline, or events that carry their own (simulate:)");
      return nullptr;
    }
    evaluate::LabelOptions how{
        pipeline.labels.join, pipeline.labels.type_field, {}, pipeline.labels.complete || arguments.complete};
    auto loaded = evaluate::LabelSet::load(label_file.starts_with("file:") ? label_file.substr(5) : label_file, how);
    if (!loaded) {
      complain(loaded.error().message);
      return nullptr;
    }
    truth->labels_ = std::make_unique<evaluate::LabelSet>(std::move(*loaded));
  }
  truth->origin_ = truth->labels_       ? label_file
                   : truth->carried_    ? "carried by the events"
                   : truth->from_field_ ? "field " + pipeline.events.label_field
                                        : "none";
  exit_code = kDone;
  return truth;
}

evaluate::RowLabel Truth::of(const pipeline::Runner::BatchView& view, std::uint32_t row) const {
  const auto& event = view.batch.header(row);
  if (!labels_) return {event.label, -1};
  return labels_->find(event.id, offline_.source().partition(event.partition).file,
                       view.batch.key(row, offline_.pipeline().score.by).text, event.time_ms, event.offset);
}

std::vector<std::string> Truth::types() const {
  if (labels_) return labels_->types();
  if (carried_) return offline_.source().label_types();
  return from_field_ ? offline_.runner().decoder().label_types() : std::vector<std::string>{};
}

}  // namespace alcedo::cli
