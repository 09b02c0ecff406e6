// Translates a pipeline's keys into the names that clients ask by: only here are both sides known.
#include "serving.h"

#include <algorithm>

#include "serve/feature_service.h"

namespace alcedo::cli {
namespace {

serve::EntityKey entity_key(const pipeline::Pipeline& pipeline, std::size_t slot) {
  const auto& events = pipeline.events;
  const auto& parts = events.keys[slot].parts;
  serve::EntityKey key;
  key.entity = events.keys[slot].name;
  std::size_t own_parts = parts.size();
  constexpr std::string_view kMoney = "/currency";
  constexpr std::string_view kField = "field ";
  if (slot >= pipeline.entities.size()) {
    if (key.entity.ends_with(kMoney)) {  // money, kept by currency: "card/currency"
      key.entity.resize(key.entity.size() - kMoney.size());
      key.with = events.money_currency;
      --own_parts;
    }
    // A field that is no entity but has state: what is compared within it, or how rare its values are.
    if (key.entity.starts_with(kField)) key.entity.erase(0, kField.size());
  }
  key.composite = own_parts > 1;
  key.is_private = own_parts == 1 && parts.front().kind == contract::KeyPart::Kind::kField &&
                   std::ranges::find(events.private_fields, parts.front().text) != events.private_fields.end();
  return key;
}

}  // namespace

Result<std::unique_ptr<serve::HttpServer>> serve_pipelines(
    const serve::ListenAddress& address, const std::vector<std::unique_ptr<pipeline::Service>>& services) {
  std::vector<serve::ServedPipeline> served;
  std::vector<const pipeline::Service*> all;
  for (const auto& service : services) {
    const auto& engine = service->runner().engine();
    serve::ServedPipeline one;
    one.name = service->pipeline().name;
    one.plan = &engine.plan();
    one.vectors = engine.vectors();
    for (std::size_t slot = 0; slot < service->pipeline().events.keys.size(); ++slot) {
      one.keys.push_back(entity_key(service->pipeline(), slot));
    }
    one.private_text = [s = service.get()](std::string_view value) { return s->private_text(value); };
    served.push_back(std::move(one));
    all.push_back(service.get());
  }
  const auto ready = [all] { return std::ranges::all_of(all, [](const auto* s) { return s->warmed_up(); }); };
  return serve::serve_features(address, std::move(served), ready);
}

}  // namespace alcedo::cli
