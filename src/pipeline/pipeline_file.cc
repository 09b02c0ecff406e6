// Reads a pipeline from the top, section by section in the order in which names come to exist, whatever their order in
// the file.
#include "pipeline/pipeline_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "core/time.h"
#include "pipeline/pipeline_file_sections.h"
#include "pipeline/yaml_reader.h"

namespace alcedo::pipeline {
namespace {

const std::vector<std::string> kLaterSections{"flags", "overrides", "bundle"};

void read_name(Draft& draft, MapReader& top) {
  constexpr std::string_view kExample = "the pipeline's name such as payments";
  const YamlNode* node = top.need("pipeline", kExample);
  if (node == nullptr) return;
  const auto name = read_text(*node, draft.mistakes, kExample);
  if (!name) return;
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; };
  if (name->size() > kNameBytesMax || !std::all_of(name->begin(), name->end(), allowed)) {
    draft.mistakes.add(*node, fmt::format("expected small letters, digits, '_' and '-', at most {} in all, found {}",
                                          kNameBytesMax, in_quotes(*name)));
    return;
  }
  draft.pipeline.name = *name;
}

constexpr std::int64_t kForgetDefaultMs = 90 * kDayMs;

void read_calibration(Draft& draft, MapReader& top) {
  if (const YamlNode* node = top.take("calibrate_events")) {
    const auto count = read_integer(*node, draft.mistakes, 100, 1'000'000'000);
    if (count) draft.pipeline.calibrate_events = static_cast<std::uint64_t>(*count);
  }
  if (const YamlNode* node = top.take("rate_max")) {
    draft.pipeline.rate_max = read_percent(*node, draft.mistakes, 0.5, "0.3%").value_or(0);
  }
}

void read_models(Draft& draft, MapReader& top) {
  const YamlNode* section = top.take("models");
  if (section == nullptr) return;
  MapReader map(*section, draft.mistakes, "a map such as {live: bundle}");
  if (!map.is_map()) return;
  if (const YamlNode* live = map.need("live", "the path of a trained bundle")) {
    if (const auto path = read_text(*live, draft.mistakes, "the path of a trained bundle"))
      draft.pipeline.bundle_path = draft.resolve(*path);
  }
  static const std::vector<std::string> kLater{"shadow"};
  map.finish("key", {}, kLater);
}

// After the features: no window may reach back further than an entity is remembered.
void read_forget(Draft& draft, MapReader& top) {
  auto& features = draft.pipeline.features;
  features.forget_ms = kForgetDefaultMs;
  const YamlNode* node = top.take("forget");
  if (node == nullptr) return;
  if (node->is_scalar() && node->text == "never") {
    features.forget_ms = 0;
    return;
  }
  const auto forget_ms = read_duration(*node, draft.mistakes, kMinuteMs, 3660 * kDayMs, "90d (or never)");
  if (!forget_ms) return;
  features.forget_ms = *forget_ms;
  for (const auto& feature : features.features) {
    for (const std::int64_t window_ms : feature.windows_ms) {
      if (window_ms + feature.delay_ms <= *forget_ms) continue;
      draft.mistakes.add(
          *node, fmt::format("is shorter than the window {}{} of feature '{}'; expected at least that",
                             format_duration(window_ms),
                             feature.delay_ms > 0 ? " behind a delay of " + format_duration(feature.delay_ms) : "",
                             feature.name));
      return;
    }
  }
}

void read_all(Draft& draft, const YamlNode& root) {
  MapReader top(root, draft.mistakes,
                "the sections of a pipeline: pipeline, events, entities, features, detectors, anomalies, alerts");
  if (!top.is_map()) return;
  // In the order in which messages list them.
  static const std::vector<std::string> kSections{"pipeline",         "events",   "labels",    "entities",  "score",
                                                  "windows",          "features", "detectors", "anomalies", "alerts",
                                                  "calibrate_events", "rate_max", "models",    "forget"};
  for (const std::string& section : kSections) top.take(section);
  read_name(draft, top);
  read_events(draft, top);
  read_labels(draft, top);
  read_entities(draft, top);
  read_score(draft, top);
  read_features(draft, top);
  read_forget(draft, top);
  read_detectors(draft, top);
  read_models(draft, top);
  read_calibration(draft, top);
  read_anomalies(draft, top);
  read_alerts(draft, top);
  top.finish("section", {}, kLaterSections);
}

EventLayout layout_of(const contract::EventsSpec& events) {
  EventLayout layout;
  for (const contract::NumberSpec& number : events.numbers) layout.numbers.push_back({number.field, number.money});
  for (const contract::KeySpec& key : events.keys) layout.keys.push_back(key.name);
  layout.label_types = events.label_types;
  return layout;
}

std::string_view line_of(std::string_view text, int line) {
  std::size_t begin = 0;
  for (int i = 1; i < line && begin < text.size(); ++i) begin = std::min(text.find('\n', begin), text.size() - 1) + 1;
  std::string_view found = text.substr(std::min(begin, text.size()));
  found = found.substr(0, found.find('\n'));
  if (found.ends_with('\r')) found.remove_suffix(1);
  return found;
}

// The line and a caret under the character; a long line is shown around it.
std::string pointed(std::string_view line, int column) {
  constexpr std::size_t kShown = 120;
  const auto is_start = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; };
  std::string shown;
  std::string caret;
  const auto wanted = static_cast<std::size_t>(column);
  const std::size_t first = wanted > kShown ? wanted - kShown / 2 : 1;
  std::size_t at = 0;
  for (const char c : line) {
    at += is_start(c) ? 1 : 0;
    if (at < first) continue;
    if (at >= first + kShown) break;
    const auto code = static_cast<unsigned char>(c);
    shown += code == '\t' ? '\t' : (code < 0x20 || code == 0x7F) ? '?' : c;
    if (at < wanted && is_start(c)) caret += c == '\t' ? '\t' : ' ';
  }
  return fmt::format("    {}\n    {}^\n", shown, caret);
}

}  // namespace

const contract::AvroField* FieldTable::find(std::string_view name) const {
  const auto found =
      std::find_if(fields.begin(), fields.end(), [name](const auto& field) { return field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

std::vector<std::string> FieldTable::names() const {
  std::vector<std::string> names;
  names.reserve(fields.size());
  for (const contract::AvroField& field : fields) names.push_back(field.name);
  return names;
}

std::string Draft::resolve(std::string_view path) const {
  if (path.starts_with('/') || folder.empty()) return std::string(path);
  return fmt::format("{}/{}", folder, path);
}

std::optional<std::string> Draft::field(const YamlNode& node, FieldUse use) {
  const auto name = read_text(node, mistakes, "the name of a field");
  if (name && std::ranges::find(label_fields, *name) != label_fields.end()) {
    mistakes.add(node, fmt::format("field {} is the label: features and entities must not know it", in_quotes(*name)));
    return std::nullopt;
  }
  if (!name || !fields) return name;
  const contract::AvroField* known = fields->find(*name);
  if (known == nullptr) {
    mistakes.add(node, unknown_name("field", *name, "of " + fields->origin, fields->names()));
    return std::nullopt;
  }
  if (known->types == 0) return name;  // from `columns`, which have no types
  std::string_view needed;
  const bool text = (known->types & (contract::kAvroString | contract::kAvroEnum)) != 0;
  switch (use) {
    case FieldUse::kAny:
      break;
    case FieldUse::kKey:
      if (!known->textual()) needed = "text, a whole number or a boolean is";
      break;
    case FieldUse::kNumber:
      if (!known->numeric()) needed = "a number is";
      break;
    case FieldUse::kMoney:
      if (!known->numeric() && !text) needed = "a number, or text with one, is";
      break;
    case FieldUse::kTime:
      if (!known->numeric() && !text) needed = "a number or text is";
      break;
  }
  if (needed.empty()) return name;
  mistakes.add(node,
               fmt::format("field '{}' is {} in {}, but {} needed", *name, known->type_text(), fields->origin, needed));
  return std::nullopt;
}

std::optional<std::uint32_t> Draft::entity(const YamlNode& node) {
  const auto name = read_text(node, mistakes, "the name of an entity");
  if (!name || !has_entities) return std::nullopt;
  const auto& names = pipeline.entities;
  const auto found = std::find(names.begin(), names.end(), *name);
  if (found != names.end()) return static_cast<std::uint32_t>(found - names.begin());
  mistakes.add(node, unknown_name("entity", *name, {}, names));
  return std::nullopt;
}

LoadedPipeline parse_pipeline(std::string_view yaml, const std::string& path) {
  Draft draft;
  draft.pipeline.path = path;
  const std::size_t slash = path.rfind('/');
  if (slash != std::string::npos) draft.folder = slash == 0 ? "/" : path.substr(0, slash);
  if (const auto root = parse_yaml(yaml, draft.mistakes)) read_all(draft, *root);
  draft.pipeline.features.layout = layout_of(draft.pipeline.events);
  return {std::move(draft.pipeline), draft.mistakes.in_file_order(), std::string(yaml)};
}

Result<LoadedPipeline> load_pipeline(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code code;
  std::string file = path;
  if (fs::is_directory(path, code)) {
    while (file.size() > 1 && file.ends_with('/')) file.pop_back();
    file += "/pipeline.yaml";
  }
  const fs::file_status status = fs::status(file, code);
  if (!fs::exists(status)) {
    return error(ErrorCode::kNotFound,
                 file == path ? fmt::format("{}: no such pipeline file", file)
                              : fmt::format("{}: no such file; the folder of a pipeline holds a pipeline.yaml", file));
  }
  if (!fs::is_regular_file(status)) return error(ErrorCode::kIo, fmt::format("{}: not a file", file));
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return error(ErrorCode::kIo, fmt::format("{}: cannot be read: {}", file, std::strerror(errno)));
  std::string text(kFileBytesMax + 1, '\0');  // one more, so that parse_pipeline sees that it is too large
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) return error(ErrorCode::kIo, fmt::format("{}: cannot be read: {}", file, std::strerror(errno)));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return parse_pipeline(text, file);
}

std::string format_mistakes(const std::string& path, std::string_view yaml, const std::vector<Mistake>& mistakes) {
  if (yaml.starts_with("\xEF\xBB\xBF")) yaml.remove_prefix(3);
  std::string text;
  for (const Mistake& mistake : mistakes) {
    text += fmt::format("{}:{}:{}: {}\n", path, mistake.line, mistake.column, mistake.message);
    text += pointed(line_of(yaml, mistake.line), mistake.column);
  }
  return text;
}

}  // namespace alcedo::pipeline
