// What must hold for any bytes that a segment may contain: the fuzzer and the replay of its corpus ask the same
// questions.
#pragma once

#include <string_view>

#include "core/check.h"
#include "ingest/local_log.h"

namespace alcedo::ingest {

inline void check_segment_invariants(std::string_view bytes) {
  const SegmentScan scan = scan_segment(bytes);
  CHECK(scan.valid_bytes <= bytes.size());
  CHECK(scan.records <= scan.valid_bytes / 17);  // 16 bytes of header and at least one of content
  CHECK(scan.records_behind <= (bytes.size() - scan.valid_bytes) / 17);
  // What recovery leaves is whole, and cutting it again changes nothing.
  const SegmentScan again = scan_segment(bytes.substr(0, scan.valid_bytes));
  CHECK(again.valid_bytes == scan.valid_bytes);
  CHECK(again.records == scan.records);
  CHECK(!again.damaged_before_mark && again.records_behind == 0);
}

}  // namespace alcedo::ingest
