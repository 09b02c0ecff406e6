// Reads a training file, orders it by entity, and packs stretches of entities into rows of one length.
#include "training_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "core/hash.h"
#include "core/state_stream.h"
#include "models/tensor_file.h"
#include "models/token_history.h"

namespace alcedo::training {
namespace {

// What the oldest of a stretch's events has to look back at.
constexpr std::size_t kContext = models::TokenHistory::kKept;
// A row's end is not worth a piece that would mostly be context.
constexpr std::size_t kTargetsMin = 16;

template <typename T>
void keep_rows(std::vector<T>& values, const std::vector<std::uint8_t>& keep, std::size_t width) {
  if (values.empty()) return;
  std::size_t to = 0;
  for (std::size_t row = 0; row < keep.size(); ++row) {
    if (keep[row] == 0) continue;
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * width), width,
                values.begin() + static_cast<std::ptrdiff_t>(to * width));
    ++to;
  }
  values.resize(to * width);
}

}  // namespace

Result<EventTable> EventTable::read(const std::string& path) {
  auto file = models::TensorFile::read(path);
  if (!file) return std::unexpected(file.error());
  EventTable table;
  const auto names = file->text("columns");
  if (!names) return std::unexpected(names.error());
  for (std::string_view left = *names; !left.empty();) {
    const std::size_t end = std::min(left.find('\n'), left.size());
    table.names.emplace_back(left.substr(0, end));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  const std::uint64_t any[] = {models::TensorFile::kAnySize};
  const auto entity = file->get<std::int64_t>("entity", any);
  if (!entity) return std::unexpected(entity.error());
  const std::uint64_t rows[] = {entity->size()};
  const auto time_ms = file->get<std::int64_t>("time_ms", rows);
  if (!time_ms) return std::unexpected(time_ms.error());
  const std::uint64_t matrix[] = {entity->size(), table.names.size()};
  const auto columns = file->get<float>("columns", matrix, models::FloatPolicy::kAny);
  if (!columns) return std::unexpected(columns.error());
  if (entity->empty()) return error(ErrorCode::kInvalidArgument, path + " holds no rows");
  if (entity->size() > std::numeric_limits<std::uint32_t>::max())
    return error(ErrorCode::kInvalidArgument, path + " has too many rows");
  table.entity.assign(entity->begin(), entity->end());
  table.time_ms.assign(time_ms->begin(), time_ms->end());
  table.columns.assign(columns->begin(), columns->end());
  for (std::size_t i = 0; i < table.rows(); ++i) {
    if (table.time_ms[i] < -StateReader::kTimeLimitMs || table.time_ms[i] > StateReader::kTimeLimitMs) {
      return error(ErrorCode::kInvalidArgument, fmt::format("{}: row {} has a time that no event can have", path, i));
    }
  }
  if (file->tensors().contains("label")) {
    const auto label = file->get<std::int8_t>("label", rows);
    if (!label) return std::unexpected(label.error());
    table.label.assign(label->begin(), label->end());
    for (std::size_t i = 0; i < table.rows(); ++i) {
      if (table.label[i] < -1 || table.label[i] > 1) {
        return error(ErrorCode::kInvalidArgument,
                     fmt::format("{}: row {} has label {}; expected 1, 0 or -1", path, i, table.label[i]));
      }
    }
  }
  return table;
}

void EventTable::subsample(std::size_t rows_max, std::uint64_t seed) {
  if (rows() <= rows_max) return;
  const Sequences sequences(*this);
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t e = 0; e < sequences.entities(); ++e) {
    const auto id = static_cast<std::uint64_t>(entity[sequences.row[sequences.begin[e]]]);
    order.emplace_back(mix64(id ^ mix64(seed)), e);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::uint8_t> keep(rows(), 0);
  std::size_t left = rows_max;
  for (const auto& [hash, e] : order) {
    const std::size_t count = std::min(sequences.begin[e + 1] - sequences.begin[e], left);
    for (std::size_t i = 0; i < count; ++i) keep[sequences.row[sequences.begin[e + 1] - 1 - i]] = 1;
    left -= count;
    if (left == 0) break;
  }
  keep_rows(columns, keep, names.size());
  keep_rows(entity, keep, 1);
  keep_rows(time_ms, keep, 1);
  keep_rows(label, keep, 1);
}

Sequences::Sequences(const EventTable& table) : row(table.rows()) {
  std::iota(row.begin(), row.end(), 0U);
  std::sort(row.begin(), row.end(), [&](std::uint32_t a, std::uint32_t b) {
    return table.entity[a] != table.entity[b] ? table.entity[a] < table.entity[b] : a < b;
  });
  gap_ms.reserve(row.size());
  std::int64_t newest = 0;
  for (std::size_t p = 0; p < row.size(); ++p) {
    const std::int64_t now = table.time_ms[row[p]];
    if (p == 0 || table.entity[row[p]] != table.entity[row[p - 1]]) {
      begin.push_back(p);
      gap_ms.push_back(models::TokenPlan::kNoGap);
      newest = now;
    } else {
      gap_ms.push_back(std::max<std::int64_t>(now - newest, 0));
      newest = std::max(newest, now);
    }
    label.push_back(table.label.empty() ? std::int8_t{-1} : table.label[row[p]]);
  }
  begin.push_back(row.size());
}

void Sequences::tokenize(const EventTable& table, const models::TokenPlan& plan) {
  fields = plan.fields();
  tokens.resize(row.size() * fields);
  const std::span<const float> columns(table.columns);
  for (std::size_t p = 0; p < row.size(); ++p) {
    plan.tokenize(columns.subspan(row[p] * plan.columns(), plan.columns()), gap_ms[p],
                  std::span(tokens).subspan(p * fields, fields));
  }
}

std::vector<PackedRow> pack(const Sequences& sequences, std::size_t from, std::size_t to, std::size_t length,
                            Prng* prng) {
  std::vector<std::size_t> order(sequences.entities());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto shuffle = [&](auto& items) {
    for (std::size_t i = items.size(); prng != nullptr && i > 1; --i) std::swap(items[i - 1], items[prng->below(i)]);
  };
  shuffle(order);
  std::vector<PackedRow> rows(1);
  std::size_t used = 0;
  for (const std::size_t e : order) {
    const std::size_t begin = sequences.begin[e];
    std::size_t next = begin, end = sequences.begin[e + 1];
    while (next < end && sequences.row[next] < from) ++next;
    while (end > next && sequences.row[end - 1] >= to) --end;
    while (next < end) {
      const std::size_t context = std::min(next - begin, kContext);
      if (used + context + std::min(kTargetsMin, end - next) > length) {
        rows.emplace_back();
        used = 0;
      }
      const std::size_t take = std::min(end - next, length - used - context);
      rows.back().push_back({next - context, next, next + take});
      used += context + take;
      next += take;
    }
  }
  if (rows.back().empty()) rows.pop_back();
  shuffle(rows);
  return rows;
}

Batch::Batch(const Sequences& sequences, std::span<const PackedRow> packed, std::size_t row_length)
    : rows(packed.size()),
      length(row_length),
      fields(sequences.fields),
      tokens(rows * length * fields, 0),
      piece(rows * length, 0),
      first(rows * length, 0) {
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t at = r * length;
    std::int32_t number = 0;
    for (const Piece& stretch : packed[r]) {
      ++number;
      for (std::size_t p = stretch.begin; p < stretch.end; ++p, ++at) {
        std::copy_n(sequences.tokens.begin() + static_cast<std::ptrdiff_t>(p * fields), fields,
                    tokens.begin() + static_cast<std::ptrdiff_t>(at * fields));
        piece[at] = number;
        first[at] = sequences.gap_ms[p] == models::TokenPlan::kNoGap ? 1 : 0;
        if (p < stretch.first) continue;
        scored.push_back(static_cast<std::int64_t>(at));
        position.push_back(p);
        label.push_back(sequences.label[p]);
      }
    }
  }
}

}  // namespace alcedo::training
