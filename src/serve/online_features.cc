// Resolves names first, so that nothing is read for a request that is wrong; then one read per stage and entity.
#include "serve/online_features.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/json.h"
#include "core/nearest_name.h"
#include "core/time.h"

namespace alcedo::serve {
namespace {

constexpr std::size_t kKeyBytesMax = 4096;

struct Failure {
  int status;
  std::string message;
};
template <typename T>
using Answer = std::expected<T, Failure>;

std::unexpected<Failure> wrong(std::string message) { return std::unexpected(Failure{400, std::move(message)}); }
std::unexpected<Failure> unknown(std::string_view what, std::string_view given, const std::vector<std::string>& known) {
  const std::string near = nearest_name(given, known);
  constexpr std::size_t kShown = 20;
  const std::vector<std::string> shown(known.begin(),
                                       known.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, known.size())));
  return std::unexpected(Failure{404, fmt::format("no {} '{}'{}; there are {}{}", what, given.substr(0, 80),
                                                  near.empty() ? "" : fmt::format(", did you mean '{}'?", near),
                                                  fmt::join(shown, ", "), known.size() > kShown ? ", ..." : "")});
}

// '|' and '\' inside a part of a composite key, as the decoder writes them.
std::string escaped(std::string_view part) {
  std::string out;
  for (const char c : part) {
    if (c == '|' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string quoted_time(std::int64_t time_ms) { return '"' + format_iso_time(time_ms) + '"'; }

bool is_private_text(std::string_view text) {
  return text.size() == 34 && text.starts_with("h:") &&
         std::ranges::all_of(text.substr(2), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

struct ViewColumn {
  std::string name;       // without the view's
  std::string full_name;  // "view__name"
  std::size_t at;         // in the stage's vector
};

struct View {
  std::string name;
  const ServedPipeline* pipeline;
  std::size_t stage;
  const EntityKey* key;
  std::vector<ViewColumn> columns;
};

struct Wanted {  // one feature of the answer
  const View* view;
  const ViewColumn* column;
};

// One entity column of the request, as sent: values are echoed in their JSON form.
struct EntityColumn {
  std::string name;
  std::vector<std::string> texts;
  std::vector<std::string> shown;
};

struct Request {
  std::vector<Wanted> wanted;
  std::vector<EntityColumn> entities;
  std::size_t rows = 0;
  bool full_names = false;
  std::optional<std::int64_t> max_age_ms;
};

}  // namespace

struct OnlineFeatures::Impl {
  std::vector<ServedPipeline> pipelines;
  std::vector<View> views;
  // "view:feature" where one pipeline has it; with a null view where several have. Most requests are answered by it;
  // resolve() has the words for the rest.
  std::map<std::string, Wanted, std::less<>> by_reference;
  simdjson::dom::parser parser{kBodyBytesMax};

  explicit Impl(std::vector<ServedPipeline> given) : pipelines(std::move(given)) {
    for (const auto& pipeline : pipelines) {
      const auto& plan = *pipeline.plan;
      for (std::uint32_t f = 0; f < plan.options().features.size(); ++f) {
        const auto& spec = plan.options().features[f];
        View view{spec.name, &pipeline, 0, &pipeline.keys[static_cast<std::size_t>(spec.key)], {}};
        const auto& stages = plan.stages();
        view.stage = static_cast<std::size_t>(
            std::find(stages.begin(), stages.end(), static_cast<std::uint32_t>(spec.key)) - stages.begin());
        const auto columns = pipeline.vectors->columns(view.stage);
        for (std::size_t at = 0; at < columns.size(); ++at) {
          const auto& column = plan.columns()[columns[at]];
          if (column.feature != f) continue;
          const std::string name = column.name.substr(spec.name.size() + 1);
          view.columns.push_back({name, fmt::format("{}__{}", spec.name, name), at});
        }
        views.push_back(std::move(view));
      }
    }
    for (const View& view : views) {
      for (const ViewColumn& column : view.columns) {
        const auto [at, is_new] = by_reference.emplace(view.name + ":" + column.name, Wanted{&view, &column});
        if (!is_new) at->second.view = nullptr;
      }
    }
  }

  Answer<std::vector<EntityColumn>> read_entities(simdjson::dom::element root, std::size_t& rows) const {
    constexpr std::string_view kExample = R"(such as "entities": {"card": ["c1", "c2"]})";
    simdjson::dom::object object;
    if (root["entities"].get(object) != simdjson::SUCCESS || object.size() == 0) {
      return wrong(fmt::format("expected an object of entity names with lists of their keys, {}", kExample));
    }
    std::vector<std::string> known;
    for (const auto& pipeline : pipelines) {
      for (const std::uint32_t slot : pipeline.plan->stages()) {
        for (const std::string& name : {pipeline.keys[slot].entity, pipeline.keys[slot].with}) {
          if (!name.empty() && std::ranges::find(known, name) == known.end()) known.push_back(name);
        }
      }
    }
    std::vector<EntityColumn> entities;
    for (const auto field : object) {
      EntityColumn column;
      column.name = std::string(field.key);
      if (std::ranges::find(known, column.name) == known.end()) return unknown("entity", column.name, known);
      if (std::ranges::find(entities, column.name, &EntityColumn::name) != entities.end()) {
        return wrong(fmt::format("entity '{}' is given twice", column.name));
      }
      simdjson::dom::array values;
      if (field.value.get(values) != simdjson::SUCCESS) {
        return wrong(fmt::format("entities.{}: expected a list of keys, {}", column.name, kExample));
      }
      for (const auto value : values) {
        if (column.texts.size() == kEntitiesMax) {
          return wrong(fmt::format("entities.{}: expected at most {} keys a request", column.name, kEntitiesMax));
        }
        std::string_view text;
        std::string number;
        if (value.get(text) == simdjson::SUCCESS) {
          if (text.size() > kKeyBytesMax) {
            return wrong(fmt::format("entities.{}: expected keys of at most {} bytes", column.name, kKeyBytesMax));
          }
          column.shown.emplace_back();
          append_json_string(column.shown.back(), text);
        } else if (value.is_int64() || value.is_uint64() || value.is_bool()) {
          number = simdjson::minify(value);  // as the decoder writes integers and truth values
          text = number;
          column.shown.push_back(number);
        } else {
          return wrong(fmt::format("entities.{}: expected texts, integers or true and false, found {}", column.name,
                                   simdjson::minify(value).substr(0, 80)));
        }
        column.texts.emplace_back(text);
      }
      if (!entities.empty() && column.texts.size() != entities.front().texts.size()) {
        return wrong(fmt::format("expected as many keys of '{}' as of '{}', found {} and {}", column.name,
                                 entities.front().name, column.texts.size(), entities.front().texts.size()));
      }
      entities.push_back(std::move(column));
    }
    rows = entities.front().texts.size();
    return entities;
  }

  static const EntityColumn* find(const std::vector<EntityColumn>& entities, std::string_view name) {
    const auto at = std::ranges::find(entities, name, &EntityColumn::name);
    return at == entities.end() ? nullptr : &*at;
  }
  static bool covers(const std::vector<EntityColumn>& entities, const View& view) {
    return find(entities, view.key->entity) != nullptr &&
           (view.key->with.empty() || find(entities, view.key->with) != nullptr);
  }
  static std::string keys_of(const View& view) {
    return view.key->with.empty() ? fmt::format("'{}'", view.key->entity)
                                  : fmt::format("'{}' and '{}'", view.key->entity, view.key->with);
  }

  // "view:feature", or "pipeline/view:feature" where two pipelines have a view of that name.
  Answer<Wanted> resolve(std::string_view reference, const std::vector<EntityColumn>& entities) const {
    if (const auto known = by_reference.find(reference);
        known != by_reference.end() && known->second.view != nullptr && covers(entities, *known->second.view)) {
      return known->second;
    }
    const std::size_t colon = reference.find(':');
    if (colon == std::string_view::npos) {
      return wrong(fmt::format("features: expected VIEW:FEATURE, such as {}:{}, found '{}'", views.front().name,
                               views.front().columns.front().name, reference.substr(0, 80)));
    }
    std::string_view name = reference.substr(0, colon);
    const std::string_view feature = reference.substr(colon + 1);
    std::string_view pipeline;
    if (const std::size_t slash = name.rfind('/'); slash != std::string_view::npos) {
      pipeline = name.substr(0, slash);
      name = name.substr(slash + 1);
    }
    const View* view = nullptr;
    std::vector<std::string> known;
    for (const View& candidate : views) {
      if (!pipeline.empty() && candidate.pipeline->name != pipeline) continue;
      known.push_back(candidate.name);
      if (candidate.name != name) continue;
      if (view != nullptr) {
        return wrong(fmt::format("view '{}' is in pipelines {} and {}: write {}/{}:{}", name, view->pipeline->name,
                                 candidate.pipeline->name, view->pipeline->name, name, feature.substr(0, 80)));
      }
      view = &candidate;
    }
    if (known.empty()) return unknown("pipeline", pipeline, pipeline_names());
    if (view == nullptr) return unknown("view", name, known);
    const auto column = std::ranges::find(view->columns, feature, &ViewColumn::name);
    if (column == view->columns.end()) {
      std::vector<std::string> columns;
      for (const auto& c : view->columns) columns.push_back(c.name);
      return unknown(fmt::format("feature of view '{}' named", name), feature, columns);
    }
    if (!covers(entities, *view)) {
      return wrong(fmt::format("view '{}' is kept by {}: give keys of each in entities", name, keys_of(*view)));
    }
    return Wanted{view, &*column};
  }

  std::vector<std::string> pipeline_names() const {
    std::vector<std::string> names;
    for (const auto& pipeline : pipelines) names.push_back(pipeline.name);
    return names;
  }

  Answer<std::vector<Wanted>> all_of(std::string_view service, const std::vector<EntityColumn>& entities) const {
    std::vector<Wanted> wanted;
    std::string needs;
    bool exists = false;
    for (const View& view : views) {
      if (view.pipeline->name != service) continue;
      exists = true;
      needs += fmt::format("{}{} by {}", needs.empty() ? "" : ", ", view.name, keys_of(view));
      if (!covers(entities, view)) continue;
      for (const auto& column : view.columns) wanted.push_back({&view, &column});
    }
    if (!exists) return unknown("feature service", service, pipeline_names());
    if (wanted.empty()) {
      return wrong(
          fmt::format("feature service '{}' has no view by the given entities alone; it has {}", service, needs));
    }
    return wanted;
  }

  Answer<Request> read_request(std::string_view body) {
    simdjson::dom::element root;
    if (const auto failed = parser.parse(body.data(), body.size()).get(root); failed != simdjson::SUCCESS) {
      return wrong(fmt::format("the body is no JSON: {}", simdjson::error_message(failed)));
    }
    simdjson::dom::object object;
    if (root.get(object) != simdjson::SUCCESS) {
      return wrong(
          R"(expected a JSON object, such as {"features": ["VIEW:FEATURE"], "entities": {"ENTITY": ["KEY"]}})");
    }
    static const std::vector<std::string> kFields = {"features", "feature_service", "entities", "full_feature_names",
                                                     "max_age"};
    for (const auto field : object) {
      if (std::ranges::find(kFields, field.key) == kFields.end()) {
        auto failure = unknown("field", field.key, kFields);
        failure.error().status = 400;
        return failure;
      }
    }
    Request request;
    if (auto full = object["full_feature_names"];
        full.error() == simdjson::SUCCESS && full.get(request.full_names) != simdjson::SUCCESS) {
      return wrong("full_feature_names: expected true or false");
    }
    if (auto age = object["max_age"]; age.error() == simdjson::SUCCESS) {
      std::string_view text;
      if (age.get(text) != simdjson::SUCCESS) return wrong(R"(max_age: expected a duration as text, such as "5m")");
      auto parsed = parse_duration_ms(text);
      if (!parsed) return wrong(fmt::format("max_age: {}", parsed.error().message));
      request.max_age_ms = *parsed;
    }
    auto entities = read_entities(root, request.rows);
    if (!entities) return std::unexpected(entities.error());
    request.entities = std::move(*entities);

    const auto list = object["features"];
    const auto service = object["feature_service"];
    if ((list.error() == simdjson::SUCCESS) == (service.error() == simdjson::SUCCESS)) {
      return wrong(R"(expected either "features": ["VIEW:FEATURE"] or "feature_service": "PIPELINE")");
    }
    if (service.error() == simdjson::SUCCESS) {
      std::string_view name;
      if (service.get(name) != simdjson::SUCCESS) return wrong("feature_service: expected a pipeline's name");
      auto wanted = all_of(name, request.entities);
      if (!wanted) return std::unexpected(wanted.error());
      request.wanted = std::move(*wanted);
    } else {
      simdjson::dom::array references;
      if (list.get(references) != simdjson::SUCCESS || references.size() == 0) {
        return wrong(R"(features: expected a list of "VIEW:FEATURE")");
      }
      for (const auto reference : references) {
        std::string_view text;
        if (reference.get(text) != simdjson::SUCCESS) return wrong(R"(features: expected texts, "VIEW:FEATURE")");
        if (request.wanted.size() == kValuesMax) break;  // refused just below
        auto wanted = resolve(text, request.entities);
        if (!wanted) return std::unexpected(wanted.error());
        request.wanted.push_back(*wanted);
      }
    }
    if (request.wanted.size() * std::max<std::size_t>(1, request.rows) >= kValuesMax) {
      return wrong(fmt::format("{} features of {} entities: expected fewer than {} values a request; ask in parts",
                               request.wanted.size(), request.rows, kValuesMax));
    }
    if (auto unique = names_are_unique(request); !unique) return std::unexpected(unique.error());
    return request;
  }

  static const std::string& name_of(const Wanted& wanted, bool full) {
    return full ? wanted.column->full_name : wanted.column->name;
  }

  static Answer<bool> names_are_unique(const Request& request) {
    std::vector<const Wanted*> sorted;
    for (const auto& wanted : request.wanted) sorted.push_back(&wanted);
    const auto name = [&](const Wanted* wanted) -> const std::string& { return name_of(*wanted, request.full_names); };
    std::ranges::stable_sort(sorted, {}, name);
    const auto twice = std::ranges::adjacent_find(sorted, {}, name);
    if (twice == sorted.end()) return true;
    const Wanted& first = **twice;
    const Wanted& second = **(twice + 1);
    if (first.view == second.view) return wrong(fmt::format("feature '{}' is asked for twice", name(&first)));
    return wrong(fmt::format("'{}' is a feature of views '{}' and '{}': set full_feature_names to true", name(&first),
                             first.view->name, second.view->name));
  }

  static std::string key_text(const View& view, const Request& request, std::size_t row) {
    std::string text = find(request.entities, view.key->entity)->texts[row];
    // Who has seen the hash, in an alert, may ask by it.
    if (view.key->is_private && !is_private_text(text)) text = view.pipeline->private_text(text);
    if (view.key->with.empty()) return text;
    if (!view.key->composite) text = escaped(text);
    return text + '|' + escaped(find(request.entities, view.key->with)->texts[row]);
  }

  struct Vector {
    bool found = false;
    std::int64_t time_ms = 0;
    std::string time;  // as the answer shows it, once for all features
    std::vector<float> values;
  };

  static std::string respond(const Request& request, std::int64_t now_ms) {
    // One read for all features that stand in the same vector, so that they are of the same event.
    std::map<std::pair<const ServedPipeline*, std::size_t>, std::vector<Vector>> vectors;
    for (const auto& wanted : request.wanted) {
      const View& view = *wanted.view;
      auto& rows = vectors[{view.pipeline, view.stage}];
      if (!rows.empty()) continue;
      rows.resize(request.rows);
      for (std::size_t row = 0; row < request.rows; ++row) {
        rows[row].values.resize(view.pipeline->vectors->columns(view.stage).size());
        const std::string text = key_text(view, request, row);
        rows[row].found = view.pipeline->vectors->read(view.stage, make_key(text), rows[row].time_ms, rows[row].values);
        rows[row].time = quoted_time(rows[row].found ? rows[row].time_ms : 0);
      }
    }

    JsonWriter json;
    json.begin_object().key("metadata").begin_object().key("feature_names").begin_array();
    for (const auto& entity : request.entities) json.value(entity.name);
    for (const auto& wanted : request.wanted) json.value(name_of(wanted, request.full_names));
    json.end_array().end_object().key("results").begin_array();
    static const std::string kNoTime = quoted_time(0);
    for (const auto& entity : request.entities) {
      json.begin_object().key("values").begin_array();
      for (const auto& shown : entity.shown) json.raw(shown);
      json.end_array().key("statuses").begin_array();
      for (std::size_t row = 0; row < request.rows; ++row) json.raw(R"("PRESENT")");
      json.end_array().key("event_timestamps").begin_array();
      for (std::size_t row = 0; row < request.rows; ++row) json.raw(kNoTime);
      json.end_array().end_object();
    }
    for (const auto& wanted : request.wanted) {
      const auto& rows = vectors[{wanted.view->pipeline, wanted.view->stage}];
      const auto old = [&](const Vector& v) { return request.max_age_ms && now_ms - v.time_ms > *request.max_age_ms; };
      json.begin_object().key("values").begin_array();
      for (const auto& v : rows) {
        const float value = v.values[wanted.column->at];
        if (!v.found || old(v) || !std::isfinite(value)) {
          json.null();
        } else {
          json.raw(fmt::format("{}", value));
        }
      }
      json.end_array().key("statuses").begin_array();
      for (const auto& v : rows) {
        json.raw(!v.found                                     ? R"("NOT_FOUND")"
                 : old(v)                                     ? R"("OUTSIDE_MAX_AGE")"
                 : std::isfinite(v.values[wanted.column->at]) ? R"("PRESENT")"
                                                              : R"("NULL_VALUE")");
      }
      json.end_array().key("event_timestamps").begin_array();
      for (const auto& v : rows) json.raw(v.time);
      json.end_array().end_object();
    }
    json.end_array().end_object();
    return json.take();
  }
};

OnlineFeatures::OnlineFeatures(std::vector<ServedPipeline> pipelines)
    : impl_(std::make_unique<Impl>(std::move(pipelines))) {}
OnlineFeatures::~OnlineFeatures() = default;

HttpAnswer OnlineFeatures::answer(std::string_view body, std::int64_t now_ms) {
  const auto request = impl_->read_request(body);
  if (!request) return http_error(request.error().status, request.error().message);
  return {200, impl_->respond(*request, now_ms)};
}

}  // namespace alcedo::serve
