// Mining is order-sensitive and cheap, so one thread does it for all workers.
#include "pipeline/template_keys.h"

#include <algorithm>

#include "contract/fields/key_composer.h"

namespace alcedo::pipeline {

TemplateKeys::TemplateKeys(const contract::EventsSpec& events) {
  for (std::uint32_t slot = 0; slot < events.keys.size(); ++slot) {
    const auto& parts = events.keys[slot].parts;
    for (std::uint32_t index = 0; index < parts.size(); ++index) {
      if (parts[index].kind != contract::KeyPart::Kind::kTemplate) continue;
      auto field = std::ranges::find(fields_, parts[index].text, &Field::name);
      if (field == fields_.end()) field = fields_.insert(fields_.end(), Field{parts[index].text, {}, {}});
      field->parts.push_back({slot, index, parts.size() == 1});
    }
  }
}

void TemplateKeys::name_keys(EventBatch& batch) {
  if (fields_.empty()) return;
  TextArena& arena = batch.arena(0);
  for (const std::uint32_t row : batch.order) {
    for (Field& field : fields_) {
      bool mined = false;
      std::uint32_t id = 0;
      for (const Part& part : field.parts) {
        Key& key = batch.keys(row)[part.slot];
        if (key.hash == 0) continue;
        if (part.alone) {
          if (!mined) id = field.miner.mine(key.text);
          key = make_key(arena.copy(field.miner.name(id)));
        } else {
          const auto [begin, end] = contract::find_key_part(key.text, part.index);
          if (!mined) {
            contract::unescape_key_part(key.text.substr(begin, end - begin), masked_);
            id = field.miner.mine(masked_);
          }
          key_.assign(key.text.substr(0, begin));
          key_ += contract::escape_key_part(field.miner.name(id));
          key_ += key.text.substr(end);
          key = make_key(arena.copy(key_));
        }
        mined = true;
      }
    }
  }
}

const contract::TemplateMiner* TemplateKeys::miner(std::string_view field) const {
  const auto found = std::ranges::find(fields_, field, &Field::name);
  return found == fields_.end() ? nullptr : &found->miner;
}

std::size_t TemplateKeys::state_bytes() const {
  std::size_t total = 0;
  for (const Field& field : fields_) total += field.miner.state_bytes();
  return total;
}

}  // namespace alcedo::pipeline
