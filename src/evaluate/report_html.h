// The report for people: one page that needs no network and can be attached to a ticket.
#pragma once

#include <string>

#include "evaluate/report.h"

namespace alcedo::evaluate {

/// A whole HTML document with inline SVG and styles, readable in light and dark. Every text of the report is escaped.
/// Threads: pure. Cost: about 100 kB and a few ms.
std::string report_html(const Report& report);

}  // namespace alcedo::evaluate
