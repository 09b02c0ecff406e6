// Gives messages their templates in the one order of events: the step between the sequencer and the keyed stages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "contract/events_spec.h"
#include "contract/template_miner.h"
#include "core/event.h"
#include "core/state_stream.h"

namespace alcedo::pipeline {

/// Decoders leave in a key, where `{template: FIELD}` stands, the message without its parameters. Here it becomes the
/// template's name, `T12: Receiving block <*> src: <*> dest: <*>`: id and text as at creation, one entity for good.
///
/// Fields   Each field of messages has templates of its own. A message is mined once an event, however many keys name
///          it, and learns only from accepted events.
/// Repeats  A pure function of the events in their order, however they are cut into batches.
/// Threads  One at a time. Cost: about 0.3 us an event and key with a template; nothing for pipelines without.
class TemplateKeys {
 public:
  explicit TemplateKeys(const contract::EventsSpec& events);

  /// Rewrites those keys of the rows in batch.order. Call once for each event, in order.
  void name_keys(EventBatch& batch);

  /// Of the field's messages; null if no key has a template of it.
  const contract::TemplateMiner* miner(std::string_view field) const;
  std::size_t state_bytes() const;

  /// Each field's templates, under its name.
  void save(StateWriter& writer) const;
  /// What became of the fields, by name.
  struct Loaded {
    std::vector<std::string> kept;
    std::vector<std::string> anew;     // not in the saved state: their templates begin with T1
    std::vector<std::string> removed;  // no key has a template of them any more
  };
  /// Replaces the templates of all fields. After a refusal nothing has changed.
  Loaded load(StateReader& reader);
  /// Grows whenever save() would write something else than before. Cost: an addition a field.
  std::uint64_t version() const;

 private:
  struct Part {
    std::uint32_t slot = 0;   // of the key
    std::uint32_t index = 0;  // among its parts
    bool alone = true;        // the key's only part
  };
  struct Field {
    std::string name;
    std::vector<Part> parts;
    contract::TemplateMiner miner;
  };

  std::vector<Field> fields_;
  std::string masked_;
  std::string key_;
};

}  // namespace alcedo::pipeline
