// A PagerDuty of our own that keeps state and enforces its rules, so that tests and benchmarks see what a person would
// be paged.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"

namespace alcedo::alert {

/// PagerDuty Events API v2 on 127.0.0.1.
///
/// Enforces  JSON, required members, lengths, severities, a body of at most 512 KB (400 with the reasons), and
/// calls_per_minute
///           accepted events for each routing key in any minute (429 with Retry-After).
/// Incident  by routing key and dedup key: a trigger opens one; further triggers belong to it; a resolve closes it; a
/// trigger after
///           that opens a new one. Acknowledge and resolve of what is not open are accepted without effect.
/// Faults    scripted, first in first out, one an event call; see Fault.
/// Control   POST /mock/faults (a list of faults), GET /mock/log (accepted events), GET /mock/incidents, POST
/// /mock/reset. Cost      one thread; more than 10,000 events/s. Threads   any. Source    PagerDuty, "Events API v2";
/// shapes of the answers as its servers give them.
class PagerDutyMock {
 public:
  struct Options {
    std::uint16_t port = 0;  // 0: any free one
    bool rate_limited = true;
    std::uint32_t calls_per_minute = 120;
    std::string log_path;                  // appends each accepted event as one JSON line, written at once; empty: none
    std::size_t calls_kept_max = 200'000;  // calls() and /mock/log; beyond, the oldest go
    bool keep_bodies = true;               // in calls(); benchmarks switch it off
  };

  struct Fault {
    enum class Kind : std::uint8_t {
      kStatus,       // answer `status` without taking the event; 429 with Retry-After if retry_after_s >= 0
      kHang,         // take the event, answer after delay_ms
      kReset,        // reset the connection; the event is not taken
      kClose,        // close it without an answer; the event is not taken
      kAcceptReset,  // take the event, then reset instead of answering: the sender cannot know
    };
    Kind kind = Kind::kStatus;
    int status = 500;
    std::int64_t retry_after_s = -1;
    std::int64_t delay_ms = 0;  // before the answer or the end, with any kind
    std::uint32_t count = 1;    // how many event calls it meets
  };

  /// An event that was accepted.
  struct Call {
    std::int64_t time_ms = 0;  // wall clock
    std::string routing_key;
    std::string action;  // "trigger", "acknowledge", "resolve", "change"
    std::string dedup_key;
    std::string summary;   // of a trigger or change
    std::string severity;  // of a trigger
    bool opened = false;   // this trigger opened an incident: somebody was paged
    std::string body;      // with keep_bodies
  };

  struct Incident {
    std::string state = "none";  // "triggered", "acknowledged", "resolved"; "none": only acknowledges or resolves came
    std::uint64_t opened = 0;    // incidents opened under this key; more than 1 is a second page
    std::uint64_t triggers = 0;
    std::uint64_t acknowledges = 0;
    std::uint64_t resolves = 0;
  };

  struct Totals {
    std::uint64_t accepted = 0;
    std::uint64_t rejected = 0;  // 400 by a rule
    std::uint64_t limited = 0;   // 429 by the limit
    std::uint64_t faulted = 0;   // met a fault
    std::uint64_t opened = 0;
  };

  /// Errors: kIo (the port or the log file).
  static Result<std::unique_ptr<PagerDutyMock>> start(Options options);
  virtual ~PagerDutyMock() = default;  // stops

  virtual std::uint16_t port() const = 0;
  virtual std::string url() const = 0;  // "http://127.0.0.1:PORT"
  virtual void add_fault(const Fault& fault) = 0;
  virtual void clear_faults() = 0;
  virtual std::vector<Call> calls() const = 0;
  /// By (routing key, dedup key).
  virtual std::map<std::pair<std::string, std::string>, Incident> incidents() const = 0;
  virtual Totals totals() const = 0;
  /// Forgets events, incidents, limits and faults.
  virtual void reset() = 0;
};

}  // namespace alcedo::alert
