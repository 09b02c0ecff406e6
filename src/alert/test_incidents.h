// Incident changes and folders that the tests of this folder share.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/verdict.h"

namespace alcedo::alert::testing_incidents {

inline constexpr const char* kRoutingKey = "0123456789abcdefABCDEF0123456789";

inline IncidentChange change(IncidentChange::Kind kind, const std::string& incident, std::uint64_t sequence,
                             std::uint64_t evidence = 1) {
  IncidentChange c;
  c.kind = kind;
  c.position = {.sequence = sequence, .index = 0};
  c.incident = incident;
  c.pipeline = "payments";
  c.type = "card_testing";
  c.key = "card-" + incident;
  c.key_name = "card";
  c.impact = Impact::kHigh;
  c.severity = Severity::kCritical;
  c.runbook = "https://example.org/runbook";
  c.first_ms = 1'700'000'000'000;
  c.last_ms = 1'700'000'000'000 + static_cast<std::int64_t>(sequence);
  c.evidence = evidence;
  c.score = 4.25;
  c.first_event = "payment-1";
  c.summary = "card_testing on card-" + incident;
  c.reasons = {{.detector = "habit_z",
                .feature = "habit",
                .seen = 950,
                .expected = 31.2,
                .spread = 12.9,
                .score = 71.2,
                .history = 40,
                .text = "amount 950.00, expected 31.20 +- 12.90 (z 71.2)"}};
  c.votes = {{.detector = "habit_z", .weight = 1, .score = 71.2, .surprise = 4.25}};
  return c;
}
inline IncidentChange open_of(const std::string& incident, std::uint64_t sequence) {
  return change(IncidentChange::Kind::kOpen, incident, sequence);
}
inline IncidentChange update_of(const std::string& incident, std::uint64_t sequence, std::uint64_t evidence = 2) {
  return change(IncidentChange::Kind::kUpdate, incident, sequence, evidence);
}
inline IncidentChange resolve_of(const std::string& incident, std::uint64_t sequence) {
  return change(IncidentChange::Kind::kResolve, incident, sequence, 3);
}

/// A folder that goes with the test. In memory where the machine offers it: hundreds of commits then do not wait for a
/// disk.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const bool shared_memory = ::access("/dev/shm", W_OK) == 0;
    const std::filesystem::path parent = shared_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string name = (parent / "alcedo-alert-XXXXXX").string();
    CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace alcedo::alert::testing_incidents
