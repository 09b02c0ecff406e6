// The rows that a sequence model learns from, as tokens in the order of their entities.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/prng.h"
#include "core/result.h"
#include "models/token_plan.h"

namespace alcedo::training {

/// A training file's rows, in stream order.
///
/// File     safetensors. `entity` I64 [N], `time_ms` I64 [N], `columns` F32 [N, K] (NaN: missing), optionally `label`
/// I8 [N] (1: positive,
///          0: negative, -1: nobody knows); text `columns`: K names, a line each.
struct EventTable {
  std::vector<std::int64_t> entity, time_ms;
  std::vector<float> columns;
  std::vector<std::int8_t> label;  // empty: no labels
  std::vector<std::string> names;

  std::size_t rows() const { return entity.size(); }

  /// Errors: as TensorFile; kInvalidArgument for no rows, a label that is none, a time that no event can have.
  static Result<EventTable> read(const std::string& path);

  /// Whole entities, chosen by seed, until there are about rows_max rows; an entity that is longer by itself keeps its
  /// newest.
  void subsample(std::size_t rows_max, std::uint64_t seed);
};

/// Positions are events, one entity after another, each in stream order.
struct Sequences {
  std::vector<std::uint32_t> row;    // of the table, by position
  std::vector<std::size_t> begin;    // where each entity begins, and the end
  std::vector<std::int64_t> gap_ms;  // by position; TokenPlan::kNoGap at each begin
  std::vector<std::uint8_t> tokens;  // by position; filled by tokenize()
  std::vector<std::int8_t> label;    // by position; -1 where unknown
  std::size_t fields = 0;

  explicit Sequences(const EventTable& table);
  void tokenize(const EventTable& table, const models::TokenPlan& plan);
  std::size_t entities() const { return begin.size() - 1; }
};

/// A stretch of one entity: positions [begin, end), of which those from `first` on are scored; the ones before are what
/// they look back at.
struct Piece {
  std::size_t begin, first, end;
};

/// Rows of `length` tokens that pieces fill one after another.
using PackedRow = std::vector<Piece>;

/// What to score of each entity: positions whose row of the table is in [from, to).
/// prng shuffles entities and rows; without it they stay in order.
std::vector<PackedRow> pack(const Sequences& sequences, std::size_t from, std::size_t to, std::size_t length,
                            Prng* prng);

/// Rows side by side as numbers.
struct Batch {
  std::size_t rows = 0, length = 0, fields = 0;
  std::vector<std::uint8_t> tokens;   // [rows][length][fields]
  std::vector<std::int32_t> piece;    // [rows][length]: which piece of its row, from 1; 0: nothing
  std::vector<std::uint8_t> first;    // [rows][length]: an entity's first event
  std::vector<std::int64_t> scored;   // flat positions that are scored
  std::vector<std::size_t> position;  // in Sequences, of each of `scored`
  std::vector<std::int8_t> label;     // of each of `scored`

  Batch(const Sequences& sequences, std::span<const PackedRow> packed, std::size_t row_length);
};

}  // namespace alcedo::training
