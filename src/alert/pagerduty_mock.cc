// The rules are written from PagerDuty's reference and not from our sender, so that each checks the other.
#include "alert/pagerduty_mock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <simdjson.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <string_view>

#include "alert/http_loop.h"
#include "core/json.h"
#include "core/time.h"

namespace alcedo::alert {
namespace {

using simdjson::dom::element;
using simdjson::dom::object;

constexpr std::size_t kBodyBytesMax = 512 * 1024;
constexpr std::size_t kSummaryCharactersMax = 1024;
constexpr std::size_t kDedupKeyCharactersMax = 255;
constexpr std::size_t kRoutingKeyCharacters = 32;
constexpr std::array<std::string_view, 4> kSeverities{"critical", "error", "warning", "info"};
constexpr std::array<std::string_view, 3> kActions{"trigger", "acknowledge", "resolve"};

std::size_t characters(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::ranges::count_if(utf8, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

// What a call says, and everything that is wrong with it.
struct Event {
  PagerDutyMock::Call call;
  std::vector<std::string> errors;
};

// The string member `name`; says what is wrong if it is missing while required, or no string.
std::optional<std::string_view> take_text(const object& from, std::string_view name, bool required, Event& event) {
  element member;
  if (from[name].get(member) != simdjson::SUCCESS || member.is_null()) {
    if (required) event.errors.push_back(fmt::format("'{}' is missing or blank", name));
    return std::nullopt;
  }
  std::string_view text;
  if (member.get(text) != simdjson::SUCCESS) {
    event.errors.push_back(fmt::format("'{}' is not a string", name));
    return std::nullopt;
  }
  if (required && std::ranges::all_of(text, [](unsigned char c) { return std::isspace(c) != 0; })) {
    event.errors.push_back(fmt::format("'{}' is missing or blank", name));
    return std::nullopt;
  }
  return text;
}

void check_length(std::string_view name, std::string_view text, std::size_t characters_max, Event& event) {
  if (characters(text) > characters_max) {
    event.errors.push_back(fmt::format("'{}' is too long (maximum is {} characters)", name, characters_max));
  }
}

void check_payload(const object& body, bool change_event, Event& event) {
  object payload;
  if (body["payload"].get(payload) != simdjson::SUCCESS) {
    event.errors.emplace_back("'payload' is missing or blank");
    return;
  }
  if (const auto summary = take_text(payload, "summary", true, event)) {
    check_length("payload.summary", *summary, kSummaryCharactersMax, event);
    event.call.summary = *summary;
  }
  take_text(payload, "source", !change_event, event);
  if (const auto time = take_text(payload, "timestamp", false, event); time && !parse_iso_time_ms(*time)) {
    event.errors.emplace_back("'payload.timestamp' is not an ISO 8601 time");
  }
  element details;
  if (payload["custom_details"].get(details) == simdjson::SUCCESS && !details.is_object() && !details.is_null()) {
    event.errors.emplace_back("'payload.custom_details' is not an object");
  }
  if (change_event) return;
  if (const auto severity = take_text(payload, "severity", true, event)) {
    if (std::ranges::find(kSeverities, *severity) == kSeverities.end()) {
      event.errors.emplace_back("'payload.severity' is not one of critical, error, warning, info");
    }
    event.call.severity = *severity;
  }
  for (const std::string_view name : {"component", "group", "class"}) take_text(payload, name, false, event);
}

// links and images: lists of objects whose `name` is a URL.
void check_list(const object& body, std::string_view list, std::string_view name, std::string_view scheme,
                Event& event) {
  element member;
  if (body[list].get(member) != simdjson::SUCCESS || member.is_null()) return;
  simdjson::dom::array items;
  if (member.get(items) != simdjson::SUCCESS) {
    event.errors.push_back(fmt::format("'{}' is not a list", list));
    return;
  }
  for (const element item : items) {
    std::string_view url;
    if (item[name].get(url) != simdjson::SUCCESS || !url.starts_with(scheme)) {
      event.errors.push_back(fmt::format("'{}.{}' is missing or not a URL that begins with {}", list, name, scheme));
    }
  }
}

Event read_event(simdjson::dom::parser& parser, std::string_view text, bool change_event) {
  Event event;
  if (text.size() > kBodyBytesMax) {
    event.errors.push_back(fmt::format("the body is larger than {} bytes", kBodyBytesMax));
    return event;
  }
  object body;
  if (parser.parse(text.data(), text.size()).get(body) != simdjson::SUCCESS) {
    event.errors.emplace_back("the body is not a JSON object");
    return event;
  }
  if (const auto key = take_text(body, "routing_key", true, event)) {
    const bool good = key->size() == kRoutingKeyCharacters &&
                      std::ranges::all_of(*key, [](unsigned char c) { return std::isalnum(c) != 0; });
    if (!good) event.errors.emplace_back("'routing_key' is not 32 letters and digits");
    event.call.routing_key = *key;
  }
  if (change_event) {
    event.call.action = "change";
  } else if (const auto action = take_text(body, "event_action", true, event)) {
    if (std::ranges::find(kActions, *action) == kActions.end()) {
      event.errors.emplace_back("'event_action' is not one of trigger, acknowledge, resolve");
    }
    event.call.action = *action;
  }
  const bool trigger = event.call.action == "trigger";
  if (!change_event) {
    const bool required = !trigger && !event.call.action.empty();
    if (const auto key = take_text(body, "dedup_key", required, event)) {
      check_length("dedup_key", *key, kDedupKeyCharactersMax, event);
      event.call.dedup_key = *key;
    }
  }
  if (trigger || change_event) {
    check_payload(body, change_event, event);
    check_list(body, "links", "href", "http", event);
    check_list(body, "images", "src", "https://", event);
  }
  return event;
}

class StatefulMock final : public PagerDutyMock {
 public:
  explicit StatefulMock(Options options) : options_(std::move(options)) {}
  ~StatefulMock() override {
    loop_.reset();
    if (log_fd_ >= 0) ::close(log_fd_);
  }

  Result<> start() {
    if (!options_.log_path.empty()) {
      log_fd_ = ::open(options_.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      if (log_fd_ < 0) {
        return error(ErrorCode::kIo, fmt::format("{} cannot be opened ({})", options_.log_path, std::strerror(errno)));
      }
    }
    auto loop = HttpLoop::start(options_.port, [this](const HttpRequest& request) { return answer(request); });
    if (!loop) return std::unexpected(loop.error());
    loop_ = std::move(*loop);
    return {};
  }

  std::uint16_t port() const override { return loop_->port(); }
  std::string url() const override { return fmt::format("http://127.0.0.1:{}", port()); }
  void add_fault(const Fault& fault) override {
    const std::scoped_lock lock(mutex_);
    if (fault.count > 0) faults_.push_back(fault);
  }
  void clear_faults() override {
    const std::scoped_lock lock(mutex_);
    faults_.clear();
  }
  std::vector<Call> calls() const override {
    const std::scoped_lock lock(mutex_);
    return {calls_.begin(), calls_.end()};
  }
  std::map<std::pair<std::string, std::string>, Incident> incidents() const override {
    const std::scoped_lock lock(mutex_);
    return incidents_;
  }
  Totals totals() const override {
    const std::scoped_lock lock(mutex_);
    return totals_;
  }
  void reset() override {
    const std::scoped_lock lock(mutex_);
    calls_.clear();
    incidents_.clear();
    recent_ns_.clear();
    faults_.clear();
    totals_ = {};
  }

 private:
  HttpAnswer answer(const HttpRequest& request) {
    const bool post = request.method == "POST";
    if (request.path == "/v2/enqueue" || request.path == "/v2/change/enqueue") {
      return post ? enqueue(request) : message(405, "only POST");
    }
    if (request.path == "/mock/faults" && post) return take_faults(request.body);
    if (request.path == "/mock/reset" && post) {
      reset();
      return message(200, "forgotten");
    }
    if (request.path == "/mock/log") return log_answer();
    if (request.path == "/mock/incidents") return incidents_answer();
    return message(404, "unknown path");
  }

  static HttpAnswer message(int status, std::string_view text) {
    JsonWriter json;
    json.begin_object().field("message", text).end_object();
    return {.status = status, .body = json.take(), .headers = {}};
  }

  HttpAnswer enqueue(const HttpRequest& request) {
    const std::scoped_lock lock(mutex_);
    std::optional<Fault> fault;
    if (!faults_.empty()) {
      fault = faults_.front();
      if (--faults_.front().count == 0) faults_.pop_front();
      ++totals_.faulted;
    }
    const bool taken = !fault || fault->kind == Fault::Kind::kHang || fault->kind == Fault::Kind::kAcceptReset;
    HttpAnswer result = taken ? judge(request) : HttpAnswer();
    if (!fault) return result;
    result.delay_ms = fault->delay_ms;
    switch (fault->kind) {
      case Fault::Kind::kHang:
        break;
      case Fault::Kind::kClose:
        result.ending = HttpAnswer::Ending::kClose;
        break;
      case Fault::Kind::kReset:
      case Fault::Kind::kAcceptReset:
        result.ending = HttpAnswer::Ending::kReset;
        break;
      case Fault::Kind::kStatus:
        result.status = fault->status;
        result.body = error_body(fault->status == 429 ? "throttle exceeded" : "fault", "a scripted fault", {});
        if (fault->retry_after_s >= 0) result.headers = {{"Retry-After", std::to_string(fault->retry_after_s)}};
        break;
    }
    return result;
  }

  static std::string error_body(std::string_view status, std::string_view text,
                                const std::vector<std::string>& errors) {
    JsonWriter json;
    json.begin_object().field("status", status).field("message", text).key("errors").begin_array();
    for (const std::string& e : errors) json.value(e);
    return json.end_array().end_object().take();
  }

  // What PagerDuty would answer, with its effect.
  HttpAnswer judge(const HttpRequest& request) {
    const bool change_event = request.path == "/v2/change/enqueue";
    Event event = read_event(parser_, request.body, change_event);
    if (!event.errors.empty()) {
      ++totals_.rejected;
      return {
          .status = 400, .body = error_body("invalid event", "Event object is invalid", event.errors), .headers = {}};
    }
    Call& call = event.call;
    if (const std::int64_t wait_ms = over_limit_ms(call.routing_key); wait_ms > 0) {
      ++totals_.limited;
      return {.status = 429,
              .body = error_body("throttle exceeded",
                                 "Requests for this service are arriving too quickly.  Please retry later.", {}),
              .headers = {{"Retry-After", std::to_string((wait_ms + 999) / 1000)}}};
    }
    if (call.action == "trigger" && call.dedup_key.empty()) call.dedup_key = fmt::format("{:032x}", ++generated_);
    call.time_ms = wall_clock_ms();
    live(call);
    ++totals_.accepted;
    JsonWriter json;
    json.begin_object().field("status", "success");
    if (change_event) {
      json.field("message", "Change event processed");
    } else {
      json.field("message", "Event processed").field("dedup_key", call.dedup_key);
    }
    json.end_object();
    if (options_.keep_bodies) call.body = request.body;
    keep(std::move(call));
    return {.status = 202, .body = json.take(), .headers = {}};
  }

  // Milliseconds until this key may call again; 0 counts the call.
  std::int64_t over_limit_ms(const std::string& routing_key) {
    if (!options_.rate_limited) return 0;
    constexpr std::int64_t kWindowNs = kMinuteMs * 1'000'000;
    std::deque<std::int64_t>& recent = recent_ns_[routing_key];
    const std::int64_t now_ns = steady_ns();
    while (!recent.empty() && now_ns - recent.front() >= kWindowNs) recent.pop_front();
    if (recent.size() >= options_.calls_per_minute) return (kWindowNs - (now_ns - recent.front())) / 1'000'000 + 1;
    recent.push_back(now_ns);
    return 0;
  }

  // The life of an incident.
  void live(Call& call) {
    if (call.action == "change") return;
    Incident& incident = incidents_[{call.routing_key, call.dedup_key}];
    const bool open = incident.state == "triggered" || incident.state == "acknowledged";
    if (call.action == "trigger") {
      ++incident.triggers;
      if (!open) {
        ++incident.opened;
        ++totals_.opened;
        call.opened = true;
        incident.state = "triggered";
      }
    } else if (call.action == "acknowledge") {
      ++incident.acknowledges;
      if (open) incident.state = "acknowledged";
    } else {
      ++incident.resolves;
      if (open) incident.state = "resolved";
    }
  }

  static void write_call(JsonWriter& json, const Call& call) {
    json.begin_object()
        .field("time_ms", call.time_ms)
        .field("routing_key", call.routing_key)
        .field("action", call.action)
        .field("dedup_key", call.dedup_key)
        .field("summary", call.summary)
        .field("severity", call.severity)
        .field("opened", call.opened)
        .end_object();
  }

  void keep(Call call) {
    if (log_fd_ >= 0) {
      JsonWriter json;
      write_call(json, call);
      const std::string line = json.take() + "\n";
      // A short write would only spoil the log of a test on a full disk.
      (void)!::write(log_fd_, line.data(), line.size());
    }
    calls_.push_back(std::move(call));
    if (calls_.size() > options_.calls_kept_max) calls_.pop_front();
  }

  HttpAnswer log_answer() const {
    const std::scoped_lock lock(mutex_);
    JsonWriter json;
    json.begin_object();
    write_totals(json);
    json.key("calls").begin_array();
    for (const Call& call : calls_) write_call(json, call);
    json.end_array().end_object();
    return {.status = 200, .body = json.take(), .headers = {}};
  }

  HttpAnswer incidents_answer() const {
    const std::scoped_lock lock(mutex_);
    JsonWriter json;
    json.begin_object();
    write_totals(json);
    json.key("incidents").begin_array();
    for (const auto& [keys, incident] : incidents_) {
      json.begin_object()
          .field("routing_key", keys.first)
          .field("dedup_key", keys.second)
          .field("state", incident.state)
          .field("opened", incident.opened)
          .field("triggers", incident.triggers)
          .field("acknowledges", incident.acknowledges)
          .field("resolves", incident.resolves)
          .end_object();
    }
    json.end_array().end_object();
    return {.status = 200, .body = json.take(), .headers = {}};
  }

  void write_totals(JsonWriter& json) const {
    json.key("totals")
        .begin_object()
        .field("accepted", totals_.accepted)
        .field("rejected", totals_.rejected)
        .field("limited", totals_.limited)
        .field("faulted", totals_.faulted)
        .field("opened", totals_.opened)
        .end_object();
  }

  // [{"kind": "status|hang|reset|close|accept_reset", "status": 500, "retry_after_s": 1, "delay_ms": 100, "count": 3},
  // …]
  HttpAnswer take_faults(std::string_view text) {
    simdjson::dom::parser parser;
    simdjson::dom::array items;
    if (parser.parse(text.data(), text.size()).get(items) != simdjson::SUCCESS)
      return message(400, "expected a JSON list");
    std::vector<Fault> faults;
    for (const element item : items) {
      constexpr std::array<std::string_view, 5> kKinds{"status", "hang", "reset", "close", "accept_reset"};
      std::string_view kind;
      const bool named = item["kind"].get(kind) == simdjson::SUCCESS;
      const auto found = std::ranges::find(kKinds, kind);
      if (!named || found == kKinds.end()) {
        return message(400, "'kind' is not one of status, hang, reset, close, accept_reset");
      }
      Fault fault;
      fault.kind = static_cast<Fault::Kind>(found - kKinds.begin());
      std::int64_t number = 0;
      if (item["status"].get(number) == simdjson::SUCCESS) fault.status = static_cast<int>(number);
      if (item["retry_after_s"].get(number) == simdjson::SUCCESS) fault.retry_after_s = number;
      if (item["delay_ms"].get(number) == simdjson::SUCCESS) fault.delay_ms = number;
      if (item["count"].get(number) == simdjson::SUCCESS) fault.count = static_cast<std::uint32_t>(number);
      faults.push_back(fault);
    }
    for (const Fault& fault : faults) add_fault(fault);
    return message(200, fmt::format("{} faults added", faults.size()));
  }

  const Options options_;
  int log_fd_ = -1;
  simdjson::dom::parser parser_;
  mutable std::mutex mutex_;
  std::deque<Fault> faults_;
  std::deque<Call> calls_;
  std::map<std::pair<std::string, std::string>, Incident> incidents_;
  std::map<std::string, std::deque<std::int64_t>> recent_ns_;
  Totals totals_;
  std::uint64_t generated_ = 0;
  std::unique_ptr<HttpLoop> loop_;
};

}  // namespace

Result<std::unique_ptr<PagerDutyMock>> PagerDutyMock::start(Options options) {
  auto mock = std::make_unique<StatefulMock>(std::move(options));
  if (auto ok = mock->start(); !ok) return std::unexpected(ok.error());
  return mock;
}

}  // namespace alcedo::alert
