// A segment is checked as a whole before anything in it is believed: magic, version, size, checksum, then the content.
#include "features/state/segment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/hash.h"

namespace alcedo::features {
namespace {

constexpr std::string_view kMagic = "alcstate";
constexpr std::size_t kHeaderBytes = 32;  // magic, u32 version, u32 content, u64 size, u64 checksum
constexpr std::size_t kCheckedBytes = 24;

std::string_view name_of(SegmentContent content) {
  return content == SegmentContent::kKeyGroup ? "the entities of a key group" : "the baselines of all entities";
}

// hash64 takes 8 bytes a step by a bijection, so a change within 8 bytes is always seen.
std::uint64_t checksum(std::string_view head, std::string_view body) {
  return hash_combine(hash64(head.substr(0, kCheckedBytes)), hash64(body));
}

template <typename... Args>
std::unexpected<Error> corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return error(ErrorCode::kCorrupt, fmt::format(format, std::forward<Args>(args)...));
}

std::string confirmed_fingerprint(const FeatureSpec& spec, const EventLayout& layout) {
  const bool any = spec.label_type < 0;
  return fmt::format("|{}|after {}|prior {}",
                     any ? "any" : "type " + layout.label_types[static_cast<std::size_t>(spec.label_type)],
                     spec.delay_ms, spec.prior);
}

}  // namespace

std::string seal_segment(SegmentContent content, std::string_view body) {
  std::string bytes;
  bytes.reserve(kHeaderBytes + body.size());
  StateWriter writer(bytes);
  writer.bytes(kMagic.data(), kMagic.size());
  writer.u32(kSegmentVersion);
  writer.u32(static_cast<std::uint32_t>(content));
  writer.u64(kHeaderBytes + body.size());
  writer.u64(checksum(bytes, body));
  bytes.append(body);
  return bytes;
}

Result<std::string_view> open_segment(SegmentContent content, std::string_view bytes) {
  if (bytes.size() < kHeaderBytes)
    return corrupt("state segment: {} bytes; expected at least the {} of its header: the file or row was cut",
                   bytes.size(), kHeaderBytes);
  StateReader reader(bytes);
  if (reader.bytes(kMagic.size()) != kMagic)
    return corrupt("state segment: does not begin with '{}': these are other bytes, or damaged", kMagic);
  const std::uint32_t version = reader.u32();
  if (version != kSegmentVersion) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("state segment: format version {}; this release reads {}: use the release that wrote it",
                             version, kSegmentVersion));
  }
  const std::uint32_t found = reader.u32();
  const std::uint64_t size = reader.u64();
  if (size != bytes.size()) {
    return corrupt("state segment: {} bytes; its header says {}: {}", bytes.size(), size,
                   size > bytes.size() ? "its end is missing" : "something follows it, or the header is damaged");
  }
  const std::uint64_t expected = reader.u64();
  const std::string_view body = bytes.substr(kHeaderBytes);
  if (const std::uint64_t actual = checksum(bytes, body); actual != expected)
    return corrupt("state segment: checksum {:016x}; its header says {:016x}: bytes were changed", actual, expected);
  if (found != static_cast<std::uint32_t>(content)) {
    const bool known = found == 1 || found == 2;
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("state segment: holds {}; expected {}",
                             known ? std::string(name_of(static_cast<SegmentContent>(found)))
                                   : fmt::format("content {} that this release does not know", found),
                             name_of(content)));
  }
  return body;
}

void StateSchema::save(StateWriter& writer) const {
  writer.text(key);
  writer.u64(layout_hash);
  writer.u64(plan_hash);
  writer.varint(features.size());
  for (const Feature& feature : features) {
    writer.text(feature.name);
    writer.u64(feature.fingerprint);
  }
  writer.varint(parts.size());
  for (const Part& part : parts) {
    writer.text(part.name);
    writer.u64(part.fingerprint);
    writer.u8(part.encoding);
  }
}

StateSchema StateSchema::load(StateReader& reader) {
  StateSchema schema;
  schema.key = reader.text();
  schema.layout_hash = reader.u64();
  schema.plan_hash = reader.u64();
  std::unordered_set<std::string> names;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    Feature feature;
    feature.name = reader.text();
    feature.fingerprint = reader.u64();
    if (reader.ok() && !names.insert(feature.name).second)
      reader.refuse(fmt::format("lists feature '{}' twice", feature.name));
    schema.features.push_back(std::move(feature));
  }
  std::unordered_set<std::uint64_t> fingerprints;
  for (std::uint64_t left = reader.varint(); left != 0 && reader.ok(); --left) {
    Part part;
    part.name = reader.text();
    part.fingerprint = reader.u64();
    part.encoding = reader.u8();
    if (reader.ok() && !fingerprints.insert(part.fingerprint).second)
      reader.refuse(fmt::format("lists part '{}' twice", part.name));
    schema.parts.push_back(std::move(part));
  }
  return schema;
}

void StateSchema::finish() {
  std::uint64_t h = hash64(key);
  for (const Feature& feature : features) h = hash_combine(h, hash_combine(hash64(feature.name), feature.fingerprint));
  for (const Part& part : parts) h = hash_combine(h, hash_combine(part.fingerprint, part.encoding));
  plan_hash = h;
}

std::string_view to_string(StateReport::Fate fate) {
  constexpr std::string_view kWords[] = {"kept", "added", "reset", "removed"};
  return kWords[static_cast<std::size_t>(fate)];
}

std::string describe(const StateReport& report) {
  std::string text;
  if (report.entities > 0) text = fmt::format("{} {}", report.entities, report.entities == 1 ? "entity" : "entities");
  for (std::size_t fate = 0; fate < 4; ++fate) {
    std::string names;
    for (const StateReport::Feature& feature : report.features) {
      if (static_cast<std::size_t>(feature.fate) != fate) continue;
      names += names.empty() ? " " : ", ";
      names += feature.name;
      const bool says_more = feature.fate != StateReport::Fate::kAdded && !feature.anew.empty();
      if (says_more) names += fmt::format(" (anew: {})", fmt::join(feature.anew, ", "));
    }
    if (names.empty()) continue;
    text += fmt::format("{}{}{}", text.empty() ? "" : "; ", to_string(static_cast<StateReport::Fate>(fate)), names);
  }
  return text;
}

PartSources match_parts(const StateSchema& plan, std::span<const std::vector<std::uint32_t>> readers,
                        const StateSchema& segment) {
  using Fate = StateReport::Fate;
  PartSources sources;
  std::unordered_map<std::uint64_t, int> at;
  for (std::size_t i = 0; i < segment.parts.size(); ++i) {
    at.emplace(segment.parts[i].fingerprint, static_cast<int>(i));
    sources.encodings.push_back(segment.parts[i].encoding);
  }
  for (const StateSchema::Part& part : plan.parts) {
    const auto found = at.find(part.fingerprint);
    sources.of.push_back(found == at.end() ? -1 : found->second);
  }
  StateReport& report = sources.report;
  report.same_plan = plan.plan_hash == segment.plan_hash;
  report.same_layout = plan.layout_hash == segment.layout_hash;
  for (std::uint32_t f = 0; f < plan.features.size(); ++f) {
    StateReport::Feature& feature = report.features.emplace_back();
    feature.name = plan.features[f].name;
    for (std::size_t p = 0; p < plan.parts.size(); ++p) {
      if (sources.of[p] < 0 && std::ranges::find(readers[p], f) != readers[p].end())
        feature.anew.push_back(plan.parts[p].name);
    }
    const auto known = std::ranges::find(segment.features, feature.name, &StateSchema::Feature::name);
    if (known == segment.features.end()) {
      feature.fate = Fate::kAdded;
    } else if (known->fingerprint != plan.features[f].fingerprint && !feature.anew.empty()) {
      feature.fate = Fate::kReset;
    }
  }
  for (const StateSchema::Feature& feature : segment.features) {
    if (std::ranges::find(plan.features, feature.name, &StateSchema::Feature::name) == plan.features.end())
      report.features.push_back({feature.name, Fate::kRemoved, {}});
  }
  return sources;
}

std::string number_name(const EventLayout& layout, int slot) {
  if (slot < 0) return {};
  const EventLayout::Number& number = layout.numbers[static_cast<std::size_t>(slot)];
  return number.money ? number.name + " (money)" : number.name;
}

std::uint64_t feature_fingerprint(const FeatureSpec& spec, const EventLayout& layout) {
  const auto key = [&](int slot) { return slot < 0 ? std::string() : layout.keys[static_cast<std::size_t>(slot)]; };
  std::string text =
      fmt::format("feature {}|{}|{}|{}|{}", static_cast<int>(spec.kind), number_name(layout, spec.number),
                  number_name(layout, spec.number_2), key(spec.key), key(spec.other_key));
  for (const Stat stat : spec.stats) text += fmt::format("|{}", kStatNames[static_cast<std::size_t>(stat)]);
  for (const int number : spec.numbers) text += "|" + number_name(layout, number);
  // With their lengths, as a metric may be named anything.
  for (const std::string& metric : spec.metrics) text += fmt::format("|{}:{}", metric.size(), metric);
  for (const std::int64_t window : spec.windows_ms) text += fmt::format("|{}", window);
  text += fmt::format("|{}|{}|{}|{}", spec.including, spec.half_life_ms, spec.accept_ms, spec.min_history);
  if (spec.member_key >= 0) text += "|of " + key(spec.member_key);
  if (spec.kind == FeatureKind::kConfirmed) text += confirmed_fingerprint(spec, layout);
  if (spec.kind == FeatureKind::kDiscord) text += fmt::format("|{} of {}", spec.shape_values, spec.past_values);
  return hash64(text);
}

std::uint64_t layout_hash(const EventLayout& layout) {
  std::string text;
  for (std::size_t i = 0; i < layout.numbers.size(); ++i) text += number_name(layout, static_cast<int>(i)) + "\n";
  text += "keys\n";
  for (const std::string& key : layout.keys) text += key + "\n";
  return hash64(text);
}

}  // namespace alcedo::features
