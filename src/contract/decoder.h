// Bytes -> events: reads JSON, CSV and text records against a contract and says exactly why one does not fit.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "contract/events_spec.h"
#include "core/event.h"
#include "core/result.h"

namespace alcedo::contract {

/// What a decoder must know about a partition before its first record.
struct PartitionInfo {
  std::string file;  // the file-name key: no directory, no .gz, no extension; empty if it is not a file
  Format format = Format::kJson;
  std::vector<std::string> header;  // CSV: column names in order (from the file's header line or EventsSpec::columns)
};

/// Why a record was set aside. The names are counted and shown, so they are stable.
enum class Reject : std::uint8_t {
  kNone,
  kMalformed,
  kWrongType,
  kMissingField,
  kBadTime,
  kNotFinite,
  kInvalidUtf8,
  kTooLong,
  kColumnCount,
  kBadMoney,
  kOutOfRange
};
std::string_view to_string(Reject reject);  // "malformed", "wrong_type", ...

struct Decoded {
  /// Rows written. 0 with kNone: a record that holds nothing (a blank line, a row of empty cells).
  std::uint32_t events = 0;
  Reject reject = Reject::kNone;
  /// For a person: field, what was found (cut to 80 bytes), what was expected. Empty unless rejected.
  std::string message;
};

/// Compiled once from the contract and the pipeline.
///
/// Contract  Every field of it is checked: there unless it may be null or has a default (which is not filled in: the
///           value is missing), of its type, integers in range, enum symbols known. Fields beside the contract are
///           ignored. Without one, numbers are JSON numbers or numeric CSV cells. An empty CSV cell is a missing value.
/// JSON      The whole record must be valid. Of a name that occurs twice the last value counts.
/// Keys      Text as it is, integers in decimal without leading zeros, true or false. In composite keys '|' and '\'
///           inside a part get a '\' before them. An empty text is a value; a missing one makes the key Key{hash 0}.
/// Text      A line becomes fields by EventsSpec::line; they are read like CSV cells. One that does not fit is
/// kMalformed. Template  A template part of a key is the message without its parameters (mask_message()) until the
/// templates are
///           mined, which needs all messages in their order and is not done here.
/// Private   "h:" and 32 hex digits wherever the value would appear; messages do not show it.
/// Id        The id field's text. Without an id field, or where the contract lets it be null, "FILE:OFFSET" or
///           "pPARTITION:OFFSET" with id_hash 0. Events of one wide record share the id and differ in id_hash.
/// Wide      EventHeader::part is the metric's place among the record's metrics. One bad cell refuses the record.
/// Threads   decode() is const and may run on several threads, each with its own Scratch, its own rows and its own
///           arena index. open_partition() needs the decoder to itself.
/// Cost      about 2 ns a byte; no allocation once warm, except for rejected records.
class Decoder {
 public:
  static constexpr std::size_t kRecordBytesMax = 1 << 20;  // a record of this size or more is kTooLong

  /// Reads EventsSpec::contract_path if set. `secret` keys the hashes of private fields (SipHash-2-4, 128 bits).
  /// Errors: kNotFound, kInvalidArgument, each naming the file, the field and the nearest name that exists.
  static Result<Decoder> create(const EventsSpec& spec, std::array<std::uint8_t, 16> secret);

  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  const EventLayout& layout() const;
  /// Most events one record can become (1 unless wide). Valid once every partition so far has been opened.
  std::size_t events_per_record_max() const;

  /// Before a partition's first record. `first_row` is the number that TimeUnit::kRow gives to the record with offset
  /// 0. Errors: kInvalidArgument: a column that the pipeline needs is not there, with the nearest name.
  Result<> open_partition(std::int32_t partition, const PartitionInfo& info, std::int64_t first_row = 0);

  class Scratch {
   public:
    Scratch();
    Scratch(Scratch&&) noexcept;
    ~Scratch();

   private:
    friend class Decoder;
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

  /// Decodes record `i` of `raw` (padded) into rows [first_row, first_row + events_per_record_max()) of `out`, text
  /// into arena `arena`. Writes header (all but sequence and the late flag), numbers and keys of each row. The text
  /// outlives `raw`. The record's partition must be open: else it is a bug.
  Decoded decode(const RawBatch& raw, std::size_t i, EventBatch& out, std::size_t first_row, std::size_t arena,
                 Scratch& scratch) const;

  /// Names of the label types seen so far: label value kFirstLabelType + index. With only label_field the one type is
  /// "anomaly". Decoders that run in parallel can number them differently in each run: names are what counts. At most
  /// 1000, the last of them "other".
  std::vector<std::string> label_types() const;

 private:
  struct Impl;
  explicit Decoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace alcedo::contract
