// Mining is order-sensitive and cheap, so one thread does it for all workers.
#include "pipeline/template_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "contract/fields/key_composer.h"

namespace alcedo::pipeline {
namespace {

// As TemplateMiner::save() writes a miner that has seen nothing.
constexpr std::string_view kNoTemplates("\0", 1);

}  // namespace

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

std::uint64_t TemplateKeys::version() const {
  std::uint64_t sum = 0;
  for (const Field& field : fields_) sum += field.miner.version();
  return sum;
}

void TemplateKeys::save(StateWriter& writer) const {
  writer.varint(fields_.size());
  std::string bytes;
  for (const Field& field : fields_) {
    writer.text(field.name);
    bytes.clear();
    StateWriter of_field(bytes);
    field.miner.save(of_field);
    writer.text(bytes);  // its length lets a pipeline without this field pass over it
  }
}

TemplateKeys::Loaded TemplateKeys::load(StateReader& reader) {
  std::map<std::string_view, std::string_view> saved;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    const std::string_view name = reader.text();
    const std::string_view templates = reader.text();
    if (reader.ok() && !saved.emplace(name, templates).second)
      reader.refuse(fmt::format("has the templates of field '{}' twice", name));
  }
  Loaded result;
  std::vector<contract::TemplateMiner> miners;
  for (const Field& field : fields_) {
    const auto from = saved.find(field.name);
    (from == saved.end() ? result.anew : result.kept).push_back(field.name);
    contract::TemplateMiner& miner = miners.emplace_back(field.miner);
    StateReader templates(from == saved.end() ? kNoTemplates : from->second);
    miner.load(templates);
    if (!templates.complete())
      reader.refuse(fmt::format("templates of field '{}': {}", field.name, templates.mistake()));
  }
  if (!reader.ok()) return {};
  for (std::size_t f = 0; f < fields_.size(); ++f) fields_[f].miner = std::move(miners[f]);
  for (const auto& [name, templates] : saved) {
    if (std::ranges::find(fields_, name, &Field::name) == fields_.end()) result.removed.emplace_back(name);
  }
  return result;
}

}  // namespace alcedo::pipeline
