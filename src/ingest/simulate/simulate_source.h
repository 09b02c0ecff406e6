// The simulator as a source: `simulate:payments?rate=R&seconds=S&seed=N&cards=C&events=E`.
#pragma once

#include <memory>

#include "core/result.h"
#include "ingest/simulate/parameters.h"
#include "ingest/simulate/payment.h"
#include "ingest/source.h"

namespace alcedo::ingest {

/// Options, all optional:
///   rate     payments a second by the wall clock, open loop: payment i is due at first read + i / rate, and a slow
///   reader gets
///            what is overdue at once, it never slows the load. Without it: as fast as they are read, due_ns 0.
///   seconds  ends the stream after seconds * rate payments; needs rate.
///   events   ends the stream after this many payments. Without seconds and events it never ends.
///   skip     the first so many payments are drawn but not given: a later stretch of the same stream. They count in
///   offsets, not in
///            rate, seconds and events.
///   seed     of everything that is drawn; 1.
///   cards    1000 to 10000000; 100000. The population is drawn here (0.5 us and 120 bytes a card).
///   start    event time of the beginning, ISO 8601; 2025-01-06T00:00:00Z.
///
/// One partition of JSON lines as pipelines/payments/payment.avsc describes; arrival_ms is the event's time; labels are
/// set. The bytes do not depend on rate, seconds, events or how they are read. Errors: kInvalidArgument, naming the
/// option and what was expected, or the nearest name of an unknown one.
Result<std::unique_ptr<Source>> open_simulation(const SourceUri& uri);

}  // namespace alcedo::ingest
