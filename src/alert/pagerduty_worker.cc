// Calls PagerDuty: several incidents at a time over kept connections, one step of an incident at a time.
#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "alert/route_worker.h"
#include "core/check.h"
#include "core/time.h"

namespace alcedo::alert {
namespace {

constexpr std::size_t kInFlightMax = 8;
constexpr int kFailuresToPause = 3;
constexpr std::int64_t kRetryMaxMs = 5 * kMinuteMs;
constexpr std::int64_t kRetryAfterMaxMs = kHourMs;  // a receiver's mistake must not silence a route for a day
constexpr std::int64_t kIdleMs = 1000;
constexpr std::size_t kAnswerBytesMax = 4096;
constexpr std::size_t kReasonBytesMax = 300;

struct MultiDeleter {
  void operator()(CURLM* handle) const { curl_multi_cleanup(handle); }
};
struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One call under way, with its handle, which is used again.
struct Call {
  std::unique_ptr<CURL, EasyDeleter> handle;
  Delivery delivery;
  std::string body;
  std::string answer;
  std::int64_t started_ns = 0;
  bool busy = false;
};

std::size_t keep_answer(char* data, std::size_t size, std::size_t count, void* call) {
  std::string& answer = static_cast<Call*>(call)->answer;
  answer.append(data, std::min(size * count, kAnswerBytesMax - std::min(answer.size(), kAnswerBytesMax)));
  return size * count;
}

// A receiver's words go to logs and terminals: no control characters, no novel.
std::string printable(std::string_view text) {
  std::string out = cut_utf8(text, kReasonBytesMax);
  std::ranges::replace_if(out, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
  return out;
}

bool is_loopback(const std::string& url) {
  const std::size_t at = url.find("://");
  const std::string_view host = std::string_view(url).substr(at == std::string::npos ? 0 : at + 3);
  return host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]");
}

class PagerDutyWorker final : public RouteWorker {
 public:
  PagerDutyWorker(const WorkerContext& context, const RouteSpec& route, RateLimit* limit, std::uint64_t seed)
      : context_(context), route_(route), limit_(limit), delay_(context.options.retry_first_ms, kRetryMaxMs, seed) {}
  ~PagerDutyWorker() override {
    finish(0);
    join();
  }

  Result<> start() {
    static std::once_flag once;
    std::call_once(once, [] { CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
    multi_.reset(curl_multi_init());
    headers_.reset(curl_slist_append(nullptr, "Content-Type: application/json"));
    // Asking first whether a body is welcome would cost a second round trip.
    if (curl_slist* longer = curl_slist_append(headers_.get(), "Expect:"); longer == nullptr) headers_.reset();
    if (multi_ == nullptr || headers_ == nullptr) return error(ErrorCode::kInternal, "libcurl: out of memory");
    for (Call& call : calls_) {
      if (auto ok = prepare(call); !ok) return ok;
    }
    thread_ = std::thread([this] { run(); });
    return {};
  }
  void wake() override {
    woken_.store(true, std::memory_order_release);
    curl_multi_wakeup(multi_.get());
  }
  void finish(std::int64_t deadline_ms) override {
    deadline_ms_.store(deadline_ms, std::memory_order_release);
    if (multi_ != nullptr) curl_multi_wakeup(multi_.get());
  }
  void join() override {
    if (thread_.joinable()) thread_.join();
  }

 private:
  static constexpr std::int64_t kNotFinishing = std::numeric_limits<std::int64_t>::max();

  Result<> prepare(Call& call) {
    call.handle.reset(curl_easy_init());
    CURL* handle = call.handle.get();
    if (handle == nullptr) return error(ErrorCode::kInternal, "libcurl: out of memory");
    std::string url = route_.url;
    while (url.ends_with('/')) url.pop_back();
    url += "/v2/enqueue";
    const long timeout_ms = static_cast<long>(context_.options.timeout_ms);
    bool good = curl_easy_setopt(handle, CURLOPT_URL, url.c_str()) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers_.get()) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_POST, 1L) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, timeout_ms) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2)) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_USERAGENT, "alcedo") == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, keep_answer) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_WRITEDATA, &call) == CURLE_OK;
    good = good && curl_easy_setopt(handle, CURLOPT_PRIVATE, &call) == CURLE_OK;
    // A proxy of the environment is for the outside.
    if (is_loopback(url)) good = good && curl_easy_setopt(handle, CURLOPT_PROXY, "") == CURLE_OK;
    if (!good) return error(ErrorCode::kInternal, "libcurl: an option was refused");
    return {};
  }

  void run() {
    while (true) {
      const std::int64_t now_ms = context_.clock.now_ms();
      const std::int64_t deadline_ms = deadline_ms_.load(std::memory_order_acquire);
      if (now_ms >= record_again_ms_) record();
      if (deadline_ms != kNotFinishing && (now_ms >= deadline_ms || empty())) break;
      send_due(now_ms);
      int running = 0;
      curl_multi_perform(multi_.get(), &running);
      if (take_results()) continue;  // record, and send what waited behind
      std::int64_t until_ms = std::min(next_look_ms_, deadline_ms);
      if (!unrecorded_.empty()) until_ms = std::min(until_ms, record_again_ms_);
      const std::int64_t wait_ms = std::clamp<std::int64_t>(until_ms - context_.clock.now_ms(), 0, kIdleMs);
      curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(wait_ms), nullptr);
    }
    record();
    // What is still in the air stays unrecorded: it will be repeated with the same key.
    for (Call& call : calls_) {
      if (call.busy) curl_multi_remove_handle(multi_.get(), call.handle.get());
    }
  }

  bool empty() {
    if (in_flight_ > 0 || !unrecorded_.empty()) return false;
    const auto left = context_.ledger.due(route_.name, std::numeric_limits<std::int64_t>::max(), 1);
    return left.has_value() && left->empty();
  }

  void record() {
    if (unrecorded_.empty()) return;
    if (auto ok = context_.ledger.mark_all_sent(unrecorded_, context_.clock.now_ms()); !ok) {
      // They stay in under_way_, so they are not sent again while this process lives.
      context_.log.trouble(ok.error().message);
      record_again_ms_ = context_.clock.now_ms() + delay_.after_ms(1);
      return;
    }
    record_again_ms_ = 0;
    for (const Delivery& delivery : unrecorded_) under_way_.erase(delivery.id);
    unrecorded_.clear();
    woken_.store(true, std::memory_order_relaxed);  // what waited behind them may leave
  }

  void send_due(std::int64_t now_ms) {
    if (!woken_.exchange(false, std::memory_order_acq_rel) && now_ms < next_look_ms_) return;
    next_look_ms_ = now_ms + kIdleMs;
    if (now_ms < paused_until_ms_) {
      next_look_ms_ = std::min(next_look_ms_, paused_until_ms_);
      return;
    }
    // In trouble one call probes; the others would only fail with it.
    const std::size_t window = failures_in_a_row_ >= kFailuresToPause ? 1 : kInFlightMax;
    if (in_flight_ >= window) return;  // the next result looks again
    const std::size_t room = window - in_flight_;
    auto due = context_.ledger.due(route_.name, now_ms, under_way_.size() + room);
    if (!due) {
      context_.log.trouble(due.error().message);
      next_look_ms_ = now_ms + delay_.after_ms(1);
      return;
    }
    std::size_t started = 0;
    for (Delivery& delivery : *due) {
      if (started == room) break;
      if (under_way_.contains(delivery.id)) continue;
      if (limit_ != nullptr) {
        if (const std::int64_t wait_ms = limit_->take(now_ms); wait_ms > 0) {
          next_look_ms_ = std::min(next_look_ms_, now_ms + wait_ms);
          return;
        }
      }
      send(std::move(delivery));
      ++started;
    }
    // A retry may fall due before the idle look; only the ledger knows all of them, but those of this process are known
    // here.
    while (!retry_at_ms_.empty() && *retry_at_ms_.begin() <= now_ms) retry_at_ms_.erase(retry_at_ms_.begin());
    if (!retry_at_ms_.empty()) next_look_ms_ = std::min(next_look_ms_, *retry_at_ms_.begin());
  }

  void send(Delivery delivery) {
    const auto free = std::ranges::find(calls_, false, &Call::busy);
    CHECK(free != calls_.end());
    Call& call = *free;
    call.busy = true;
    call.answer.clear();
    call.started_ns = steady_ns();
    call.body = with_routing_key(delivery.body, route_.routing_key);
    call.delivery = std::move(delivery);
    under_way_.insert(call.delivery.id);
    ++in_flight_;
    curl_easy_setopt(call.handle.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(call.body.size()));
    curl_easy_setopt(call.handle.get(), CURLOPT_POSTFIELDS, call.body.c_str());
    CHECK(curl_multi_add_handle(multi_.get(), call.handle.get()) == CURLM_OK);
  }

  // True if any call ended.
  bool take_results() {
    bool any = false;
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      any = true;
      CURL* handle = message->easy_handle;
      const CURLcode code = message->data.result;
      Call* call = nullptr;
      long status = 0;
      curl_off_t retry_after_s = 0;
      curl_easy_getinfo(handle, CURLINFO_PRIVATE, &call);
      curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
      curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry_after_s);
      curl_multi_remove_handle(multi_.get(), handle);
      call->busy = false;
      --in_flight_;
      finished(*call, code, status, retry_after_s);
    }
    if (any) woken_.store(true, std::memory_order_relaxed);
    return any;
  }

  void finished(Call& call, CURLcode code, long status, std::int64_t retry_after_s) {
    Delivery& delivery = call.delivery;
    if (code == CURLE_OK && status >= 200 && status < 300) {
      const std::int64_t accepted_ns = steady_ns();
      failures_in_a_row_ = 0;
      context_.log.accepted();
      if (context_.options.on_accepted) context_.options.on_accepted(delivery, accepted_ns);
      unrecorded_.push_back(std::move(delivery));
      return;
    }
    const std::string why = code != CURLE_OK
                                ? fmt::format("route '{}': {}", route_.name, curl_easy_strerror(code))
                                : fmt::format("route '{}': answer {}: {}", route_.name, status, printable(call.answer));
    if (code == CURLE_OK && status >= 400 && status < 500 && status != 408 && status != 429) {
      fail(delivery, why);
    } else {
      // Calls that were in the air together fail together: that is one failure of the receiver, not eight.
      if (call.started_ns >= last_failure_ns_) {
        ++failures_in_a_row_;
        last_failure_ns_ = steady_ns();
      }
      retry(delivery, code == CURLE_OK ? status : 0, retry_after_s, why);
    }
  }

  void fail(const Delivery& delivery, const std::string& why) {
    failures_in_a_row_ = 0;  // the receiver is there and answers
    context_.log.failed(why);
    if (auto ok = context_.ledger.mark_failed(delivery, why); !ok) {
      context_.log.trouble(ok.error().message);
      pause(delay_.after_ms(1));
    }
    under_way_.erase(delivery.id);
  }

  void retry(const Delivery& delivery, long status, std::int64_t retry_after_s, const std::string& why) {
    context_.log.retried(why);
    const std::int64_t now_ms = context_.clock.now_ms();
    const std::int64_t asked_ms = std::clamp<std::int64_t>(retry_after_s, 0, kRetryAfterMaxMs / 1000) * 1000;
    // 429 is about the routing key, not about this incident.
    if (status == 429) {
      pause(asked_ms > 0 ? asked_ms : delay_.after_ms(failures_in_a_row_));
    } else if (failures_in_a_row_ >= kFailuresToPause) {
      pause(std::max(asked_ms, delay_.after_ms(failures_in_a_row_ - kFailuresToPause + 1)));
    }
    const std::int64_t next_ms = now_ms + std::max(asked_ms, delay_.after_ms(delivery.attempts + 1));
    if (auto ok = context_.ledger.mark_retry(delivery, next_ms, why); !ok) {
      context_.log.trouble(ok.error().message);
      pause(next_ms - now_ms);  // otherwise it would be due again at once
    }
    retry_at_ms_.insert(next_ms);
    under_way_.erase(delivery.id);
  }

  void pause(std::int64_t duration_ms) {
    paused_until_ms_ = std::max(paused_until_ms_, context_.clock.now_ms() + duration_ms);
  }

  const WorkerContext context_;
  const RouteSpec route_;
  RateLimit* const limit_;
  RetryDelay delay_;
  std::unique_ptr<CURLM, MultiDeleter> multi_;
  std::unique_ptr<curl_slist, ListDeleter> headers_;
  std::array<Call, kInFlightMax> calls_;  // after multi_: a handle ends before the connections it used
  std::size_t in_flight_ = 0;
  std::set<std::int64_t> under_way_;  // delivery ids in flight or accepted and not yet recorded
  std::vector<Delivery> unrecorded_;
  std::multiset<std::int64_t> retry_at_ms_;
  int failures_in_a_row_ = 0;
  std::int64_t last_failure_ns_ = 0;
  std::int64_t paused_until_ms_ = 0;
  std::int64_t next_look_ms_ = 0;
  std::int64_t record_again_ms_ = 0;  // after the ledger could not be written
  std::atomic<bool> woken_ = true;
  std::atomic<std::int64_t> deadline_ms_ = kNotFinishing;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<RouteWorker>> start_pagerduty_worker(const WorkerContext& context, const RouteSpec& route,
                                                            RateLimit* limit, std::uint64_t seed) {
  if (!route.url.starts_with("https://") && !route.url.starts_with("http://")) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("route '{}': '{}' is not a URL; expected https://HOST", route.name, route.url));
  }
  auto worker = std::make_unique<PagerDutyWorker>(context, route, limit, seed);
  if (auto ok = worker->start(); !ok) {
    return error(ok.error().code, fmt::format("route '{}': {}", route.name, ok.error().message));
  }
  return worker;
}

}  // namespace alcedo::alert
