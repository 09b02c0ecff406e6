// Where incidents go: the `alerts:` section of a pipeline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/verdict.h"

namespace alcedo::alert {

/// The first route that matches takes the incident and keeps it; a default route takes the rest.
struct RouteSpec {
  enum class Kind : std::uint8_t { kPagerDuty, kFile };
  std::string name;  // "pagerduty", "file", or a name of the user's; unique within a pipeline
  Kind kind = Kind::kFile;
  std::optional<Impact> when_impact;  // at least this impact
  std::vector<std::string> when_types;
  bool is_default = false;
  std::string path;         // kFile; default DATA/alerts.ndjson
  std::string routing_key;  // kPagerDuty: 32 characters; "env:NAME" or "file:PATH" is resolved at start
  std::string url = "https://events.pagerduty.com";
  bool rate_limited = true;  // 120 calls a minute a routing key; bench switches it off
};

}  // namespace alcedo::alert
