// Spellings that leave the process.
#include "core/verdict.h"

namespace alcedo {

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
    case Severity::kCritical:
      return "critical";
  }
  return "info";
}

std::string_view to_string(Impact impact) {
  switch (impact) {
    case Impact::kLow:
      return "low";
    case Impact::kMedium:
      return "medium";
    case Impact::kHigh:
      return "high";
  }
  return "low";
}

std::string_view to_string(IncidentChange::Kind kind) {
  switch (kind) {
    case IncidentChange::Kind::kOpen:
      return "open";
    case IncidentChange::Kind::kUpdate:
      return "update";
    case IncidentChange::Kind::kResolve:
      return "resolve";
  }
  return "open";
}

}  // namespace alcedo
