// What an incident looks like outside the process: a PagerDuty event, a line of the alerts file, and back.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/verdict.h"

namespace alcedo::alert {

inline constexpr std::size_t kPagerDutyBodyBytesMax = 512 * 1024;
inline constexpr std::size_t kPagerDutySummaryBytesMax = 1024;
inline constexpr std::size_t kPagerDutyDedupKeyBytesMax = 255;
inline constexpr std::size_t kPagerDutyRoutingKeyBytes = 32;

/// The body of a PagerDuty Events API v2 call for a change: lengths enforced, whole body at most 512 KB, cuts said in
/// the summary ("... [cut]") and in custom_details.cut. kOpen and kUpdate are triggers with one dedup key, kResolve a
/// resolve. An empty `routing_key` leaves the member out (the ledger's form: the key is a secret and is added on the
/// wire). Invalid UTF-8 becomes U+FFFD. Source: PagerDuty, "Events API v2: Send an alert event".
std::string pagerduty_body(const IncidentChange& change, const std::string& routing_key);

/// The body with its routing key. `body` comes from pagerduty_body(change, "").
std::string with_routing_key(std::string_view body, std::string_view routing_key);

/// One line of the alerts file, without the newline: every field of the change, ISO times. due_ns is not a field: it
/// counts a clock that ends with the process.
std::string alert_json(const IncidentChange& change);

/// The inverse of alert_json (NaN and infinities come back as NaN). Errors: kCorrupt.
Result<IncidentChange> change_from_json(std::string_view line);

/// The longest prefix of at most `bytes_max` bytes that ends between characters; an invalid byte counts as the three of
/// U+FFFD, as it will be written.
std::string cut_utf8(std::string_view text, std::size_t bytes_max);

}  // namespace alcedo::alert
