// The receiver refuses a whole page for one field that is a byte too long, so every length is enforced here, before the
// ledger.
#include "alert/alert_body.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/hash.h"
#include "core/json.h"
#include "core/time.h"

namespace alcedo::alert {
namespace {

// PagerDuty states no limit for these; what people read is far below it.
constexpr std::size_t kNameBytesMax = 255;
constexpr std::size_t kUrlBytesMax = 2048;
constexpr std::string_view kCutMark = "... [cut]";

// How much of the details is kept. Tried in turn until the body fits.
struct DetailLimits {
  std::size_t list_max;
  std::size_t text_bytes_max;
};
constexpr DetailLimits kDetailLimits[] = {
    {std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max()},
    {1000, 8192},
    {200, 1024},
    {50, 512},
    {20, 256},
    {3, 128},
    {0, 128},
};

// Length of the valid UTF-8 sequence that starts at `at`, or 0.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char c = byte(at);
  if (c < 0x80) return 1;
  const std::size_t n = c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
  if (n == 0 || at + n > text.size()) return 0;
  for (std::size_t i = 1; i < n; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) return 0;
  }
  const unsigned char second = byte(at + 1);
  const bool bad = (c == 0xE0 && second < 0xA0) || (c == 0xED && second >= 0xA0) || (c == 0xF0 && second < 0x90) ||
                   (c == 0xF4 && second >= 0x90);
  return bad ? 0 : n;
}

// Whether more than `bytes_max` bytes would be written, after invalid ones are replaced. Reads no further than needed.
bool exceeds(std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max) return true;  // replacing never shortens
  if (text.size() <= bytes_max / 3) return false;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t n = sequence_length(text, i);
    bytes += n == 0 ? 3 : n;
    i += std::max<std::size_t>(n, 1);
  }
  return bytes > bytes_max;
}

// Collects what was cut, so that the page says so.
class Cuts {
 public:
  std::string text(std::string_view field, std::string_view text, std::size_t bytes_max) {
    if (!exceeds(text, bytes_max)) return std::string(text);
    note(fmt::format("{} ({} bytes)", field, text.size()));
    return cut_utf8(text, bytes_max - kCutMark.size()).append(kCutMark);
  }
  std::size_t list(std::string_view field, std::size_t size, std::size_t list_max) {
    if (size <= list_max) return size;
    note(fmt::format("{} (first {} of {})", field, list_max, size));
    return list_max;
  }
  void note(std::string what) {
    // A thousand long texts are said once.
    if (said_.size() < 20 && std::ranges::find(said_, what) == said_.end()) said_.push_back(std::move(what));
  }
  const std::vector<std::string>& said() const { return said_; }

 private:
  std::vector<std::string> said_;
};

std::string dedup_key(const std::string& incident) {
  if (!exceeds(incident, kPagerDutyDedupKeyBytesMax)) return incident;
  // The rest is hashed, not dropped: two long keys with one beginning must stay two incidents.
  const std::string hash = fmt::format("~{:016x}", hash64(incident));
  return cut_utf8(incident, kPagerDutyDedupKeyBytesMax - hash.size()) + hash;
}

void write_reasons(JsonWriter& json, const IncidentChange& change, const DetailLimits& limits, Cuts& cuts) {
  const std::size_t count = cuts.list("reasons", change.reasons.size(), limits.list_max);
  json.key("reasons").begin_array();
  for (std::size_t i = 0; i < count; ++i) {
    const Reason& reason = change.reasons[i];
    json.begin_object()
        .field("text", cuts.text("reasons.text", reason.text, limits.text_bytes_max))
        .field("detector", cuts.text("reasons.detector", reason.detector, limits.text_bytes_max))
        .field("feature", cuts.text("reasons.feature", reason.feature, limits.text_bytes_max))
        .field("seen", reason.seen)
        .field("expected", reason.expected)
        .field("spread", reason.spread)
        .field("z", reason.score)
        .field("history", reason.history)
        .end_object();
  }
  json.end_array();
}

void write_votes(JsonWriter& json, const IncidentChange& change, const DetailLimits& limits, Cuts& cuts) {
  const std::size_t count = cuts.list("votes", change.votes.size(), limits.list_max);
  json.key("votes").begin_array();
  for (std::size_t i = 0; i < count; ++i) {
    const VoteRecord& vote = change.votes[i];
    json.begin_object()
        .field("detector", cuts.text("votes.detector", vote.detector, limits.text_bytes_max))
        .field("weight", vote.weight)
        .field("score", vote.score)
        .field("surprise", vote.surprise)
        .end_object();
  }
  json.end_array();
}

void write_details(JsonWriter& json, const IncidentChange& change, const DetailLimits& limits, Cuts& cuts) {
  json.key("custom_details").begin_object();
  json.field("step", to_string(change.kind))
      .field("type", cuts.text("type", change.type, limits.text_bytes_max))
      .field("key", cuts.text("key", change.key, limits.text_bytes_max))
      .field("impact", to_string(change.impact))
      .field("first", format_iso_time(change.first_ms))
      .field("last", format_iso_time(change.last_ms))
      .field("evidence", change.evidence)
      .field("score", change.score)
      .field("first_event", cuts.text("first_event", change.first_event, limits.text_bytes_max))
      .field("provisional", change.provisional);
  write_reasons(json, change, limits, cuts);
  write_votes(json, change, limits, cuts);
  if (change.members_total > 0) {
    const std::size_t count = cuts.list("members", change.members.size(), limits.list_max);
    json.field("members_total", change.members_total).key("members").begin_array();
    for (std::size_t i = 0; i < count; ++i) json.value(cuts.text("members", change.members[i], limits.text_bytes_max));
    json.end_array();
  }
  json.key("position")
      .begin_object()
      .field("sequence", change.position.sequence)
      .field("index", change.position.index)
      .end_object();
  if (!cuts.said().empty()) {
    json.key("cut").begin_array();
    for (const std::string& what : cuts.said()) json.value(what);
    json.end_array();
  }
  json.end_object();
}

std::string trigger_body(const IncidentChange& change, const DetailLimits& limits) {
  Cuts cuts;
  JsonWriter json;
  json.begin_object()
      .field("event_action", "trigger")
      .field("dedup_key", dedup_key(change.incident))
      .field("client", "Alcedo");
  json.key("payload").begin_object();
  std::string summary = change.summary;
  if (summary.empty())
    summary = fmt::format("{} on {}", change.type, change.key.empty() ? change.pipeline : change.key);
  const auto name = [&](std::string_view field, const std::string& text) {
    return cuts.text(field, text, kNameBytesMax);
  };
  json.field("summary", cuts.text("summary", summary, kPagerDutySummaryBytesMax));
  const std::string& source = change.key.empty() ? change.pipeline : change.key;
  json.field("source", name("source", source.empty() ? "alcedo" : source))
      .field("severity", to_string(change.severity))
      .field("timestamp", format_iso_time(change.first_ms));
  if (!change.pipeline.empty()) json.field("component", name("component", change.pipeline));
  if (!change.key_name.empty()) json.field("group", name("group", change.key_name));
  if (!change.type.empty()) json.field("class", name("class", change.type));
  // A link cut in the middle leads nowhere: a runbook that long is left out.
  const bool with_link = !change.runbook.empty() && change.runbook.size() <= kUrlBytesMax;
  if (!change.runbook.empty() && !with_link) cuts.note(fmt::format("runbook ({} bytes)", change.runbook.size()));
  write_details(json, change, limits, cuts);
  json.end_object();
  if (with_link) {
    json.key("links")
        .begin_array()
        .begin_object()
        .field("href", change.runbook)
        .field("text", "Runbook")
        .end_object()
        .end_array();
  }
  return json.end_object().take();
}

// At least this many bytes are written when nothing is cut.
std::size_t bytes_at_least(const IncidentChange& change) {
  std::size_t bytes = change.type.size() + change.key.size() + change.first_event.size();
  for (const Reason& reason : change.reasons)
    bytes += reason.text.size() + reason.detector.size() + reason.feature.size();
  for (const VoteRecord& vote : change.votes) bytes += vote.detector.size();
  for (const std::string& member : change.members) bytes += member.size();
  return bytes;
}

}  // namespace

std::string cut_utf8(std::string_view text, std::size_t bytes_max) {
  std::size_t written = 0;
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t n = sequence_length(text, i);
    written += n == 0 ? 3 : n;
    if (written > bytes_max) break;
    i += std::max<std::size_t>(n, 1);
  }
  return std::string(text.substr(0, i));
}

std::string pagerduty_body(const IncidentChange& change, const std::string& routing_key) {
  std::string body;
  if (change.kind == IncidentChange::Kind::kResolve) {
    JsonWriter json;
    json.begin_object().field("event_action", "resolve").field("dedup_key", dedup_key(change.incident)).end_object();
    body = json.take();
  } else {
    // Room for `"routing_key":"…",`.
    constexpr std::size_t kBytesMax = kPagerDutyBodyBytesMax - kPagerDutyRoutingKeyBytes - 32;
    const bool hopeless = bytes_at_least(change) > kBytesMax;
    for (const DetailLimits& limits : std::span(kDetailLimits).subspan(hopeless ? 1 : 0)) {
      body = trigger_body(change, limits);
      if (body.size() <= kBytesMax) break;
    }
  }
  return routing_key.empty() ? body : with_routing_key(body, routing_key);
}

std::string with_routing_key(std::string_view body, std::string_view routing_key) {
  std::string out;
  out.reserve(body.size() + routing_key.size() + 20);
  out += "{\"routing_key\":";
  append_json_string(out, routing_key);
  out += ',';
  out += body.substr(1);
  return out;
}

std::string alert_json(const IncidentChange& change) {
  JsonWriter json;
  json.begin_object()
      .field("step", to_string(change.kind))
      .field("incident", change.incident)
      .field("pipeline", change.pipeline)
      .field("type", change.type)
      .field("key", change.key)
      .field("key_name", change.key_name)
      .field("impact", to_string(change.impact))
      .field("severity", to_string(change.severity))
      .field("first", format_iso_time(change.first_ms))
      .field("last", format_iso_time(change.last_ms))
      .field("evidence", change.evidence)
      .field("score", change.score)
      .field("summary", change.summary)
      .field("first_event", change.first_event)
      .field("runbook", change.runbook)
      .field("provisional", change.provisional)
      .field("members_total", change.members_total);
  json.key("members").begin_array();
  for (const std::string& member : change.members) json.value(member);
  json.end_array().key("reasons").begin_array();
  for (const Reason& reason : change.reasons) {
    json.begin_object()
        .field("text", reason.text)
        .field("detector", reason.detector)
        .field("feature", reason.feature)
        .field("seen", reason.seen)
        .field("expected", reason.expected)
        .field("spread", reason.spread)
        .field("score", reason.score)
        .field("history", reason.history)
        .end_object();
  }
  json.end_array().key("votes").begin_array();
  for (const VoteRecord& vote : change.votes) {
    json.begin_object()
        .field("detector", vote.detector)
        .field("weight", vote.weight)
        .field("score", vote.score)
        .field("surprise", vote.surprise)
        .end_object();
  }
  json.end_array();
  json.key("position")
      .begin_object()
      .field("sequence", change.position.sequence)
      .field("index", change.position.index)
      .end_object();
  return json.end_object().take();
}

namespace {

std::string text_of(const simdjson::dom::object& object, std::string_view name) {
  std::string_view text;
  return object[name].get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

double number_of(const simdjson::dom::object& object, std::string_view name) {
  double number = 0;
  return object[name].get(number) == simdjson::SUCCESS ? number : std::numeric_limits<double>::quiet_NaN();
}

std::uint64_t count_of(const simdjson::dom::object& object, std::string_view name) {
  std::uint64_t number = 0;
  return object[name].get(number) == simdjson::SUCCESS ? number : 0;
}

template <typename Enum>
Enum enum_of(const simdjson::dom::object& object, std::string_view name, Enum last) {
  const std::string text = text_of(object, name);
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    if (to_string(static_cast<Enum>(i)) == text) return static_cast<Enum>(i);
  }
  return Enum{};
}

template <typename Each>
void for_each_object(const simdjson::dom::object& object, std::string_view name, Each&& each) {
  simdjson::dom::array array;
  if (object[name].get(array) != simdjson::SUCCESS) return;
  for (const simdjson::dom::element item : array) {
    simdjson::dom::object inner;
    if (item.get(inner) == simdjson::SUCCESS) each(inner);
  }
}

}  // namespace

Result<IncidentChange> change_from_json(std::string_view line) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (const auto failed = parser.parse(line.data(), line.size()).get(object)) {
    return error(ErrorCode::kCorrupt, fmt::format("a stored alert is not a JSON object ({}); the ledger is damaged",
                                                  simdjson::error_message(failed)));
  }
  IncidentChange change;
  change.kind = enum_of(object, "step", IncidentChange::Kind::kResolve);
  change.incident = text_of(object, "incident");
  change.pipeline = text_of(object, "pipeline");
  change.type = text_of(object, "type");
  change.key = text_of(object, "key");
  change.key_name = text_of(object, "key_name");
  change.impact = enum_of(object, "impact", Impact::kHigh);
  change.severity = enum_of(object, "severity", Severity::kCritical);
  change.first_ms = parse_iso_time_ms(text_of(object, "first")).value_or(0);
  change.last_ms = parse_iso_time_ms(text_of(object, "last")).value_or(0);
  change.evidence = count_of(object, "evidence");
  change.score = number_of(object, "score");
  change.summary = text_of(object, "summary");
  change.first_event = text_of(object, "first_event");
  change.runbook = text_of(object, "runbook");
  bool provisional = false;
  change.provisional = object["provisional"].get(provisional) == simdjson::SUCCESS && provisional;
  change.members_total = count_of(object, "members_total");
  simdjson::dom::array members;
  if (object["members"].get(members) == simdjson::SUCCESS) {
    for (const simdjson::dom::element item : members) {
      std::string_view member;
      if (item.get(member) == simdjson::SUCCESS) change.members.emplace_back(member);
    }
  }
  for_each_object(object, "reasons", [&](const simdjson::dom::object& reason) {
    change.reasons.push_back({.detector = text_of(reason, "detector"),
                              .feature = text_of(reason, "feature"),
                              .seen = number_of(reason, "seen"),
                              .expected = number_of(reason, "expected"),
                              .spread = number_of(reason, "spread"),
                              .score = number_of(reason, "score"),
                              .history = number_of(reason, "history"),
                              .text = text_of(reason, "text")});
  });
  for_each_object(object, "votes", [&](const simdjson::dom::object& vote) {
    change.votes.push_back({.detector = text_of(vote, "detector"),
                            .weight = number_of(vote, "weight"),
                            .score = number_of(vote, "score"),
                            .surprise = number_of(vote, "surprise")});
  });
  simdjson::dom::object position;
  if (object["position"].get(position) == simdjson::SUCCESS) {
    change.position.sequence = count_of(position, "sequence");
    change.position.index = static_cast<std::uint32_t>(count_of(position, "index"));
  }
  return change;
}

}  // namespace alcedo::alert
