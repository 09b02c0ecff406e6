// Rows are gathered in blocks that stay in the cache: a model reads some columns of a wide matrix.
#include "models/learned_scorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "core/check.h"

namespace alcedo::models {
namespace {

constexpr std::size_t kBlockRows = 256;

bool is_of(std::string_view column, std::string_view feature) {
  return column == feature || (column.starts_with(feature) && column[feature.size()] == '.');
}

// What grows with the stream or drifts with a level makes every later row look stranger than training's.
bool drifts(std::string_view column) {
  const std::string_view last = column.substr(column.rfind('.') + 1);
  return last == "history" || last == "of" || last == "expected" || last == "spread";
}

}  // namespace

std::vector<std::uint32_t> columns_of(const DetectorSpec& spec, std::span<const PlanColumn> columns) {
  std::vector<std::uint32_t> chosen;
  for (std::uint32_t c = 0; c < columns.size(); ++c) {
    const auto names_it = [&](const std::string& feature) { return is_of(columns[c].name, feature); };
    if (!spec.features.empty() && std::ranges::none_of(spec.features, names_it)) continue;
    const bool by_name = std::ranges::find(spec.features, columns[c].name) != spec.features.end();
    if (spec.kind == DetectorKind::kForest && drifts(columns[c].name) && !by_name) continue;
    chosen.push_back(c);
  }
  return chosen;
}

std::string columns_mistake(const DetectorSpec& spec, std::span<const PlanColumn> columns) {
  for (const std::string& feature : spec.features) {
    const auto is = [&](const PlanColumn& column) { return is_of(column.name, feature); };
    if (std::ranges::any_of(columns, is)) continue;
    std::string known;
    const std::string_view prefix = std::string_view(feature).substr(0, feature.find('.'));
    for (const PlanColumn& column : columns) {
      if (is_of(column.name, prefix)) known += (known.empty() ? "" : ", ") + column.name;
    }
    return fmt::format("detector '{}': no column '{}'; {} has {}", spec.name, feature, prefix,
                       known.empty() ? "none" : known);
  }
  return {};
}

Result<LearnedScorer> LearnedScorer::create(const Bundle& bundle, std::span<const DetectorSpec> detectors,
                                            std::span<const PlanColumn> columns) {
  std::unordered_map<std::string_view, std::uint32_t> at;
  for (std::uint32_t c = 0; c < columns.size(); ++c) at.emplace(columns[c].name, c);
  LearnedScorer scorer;
  scorer.slots_.resize(detectors.size());
  scorer.used_.reserve(detectors.size());
  for (std::uint32_t d = 0; d < detectors.size(); ++d) {
    const DetectorSpec& spec = detectors[d];
    if (!is_learned(spec.kind)) continue;
    const auto found = bundle.models.find(spec.model.empty() ? spec.name : spec.model);
    if (found == bundle.models.end() || found->second.kind != spec.kind) continue;
    const LearnedModel& model = found->second;
    std::size_t which = 0;
    if (!spec.output.empty()) {
      const auto type = std::ranges::find(model.types, spec.output);
      if (type == model.types.end()) continue;
      which = 1 + static_cast<std::size_t>(type - model.types.begin());
    }
    auto used = std::ranges::find(scorer.used_, &model, &Used::model);
    if (used == scorer.used_.end()) {
      Used fresh{&model, {}, {}};
      for (std::size_t c = 0; c < model.columns.size(); ++c) {
        const auto place = at.find(model.columns[c]);
        const auto wrong = [&](std::string_view what) {
          return error(ErrorCode::kInvalidArgument,
                       fmt::format("{}: model '{}' reads {}, {}. Train it anew with `alcedo train`, or give the bundle "
                                   "of this pipeline",
                                   bundle.directory, found->first, model.columns[c], what));
        };
        if (place == at.end()) return wrong("which the pipeline does not measure");
        if (columns[place->second].meaning != model.meanings[c]) return wrong("whose feature has changed since");
        fresh.columns.push_back(place->second);
      }
      used = scorer.used_.insert(scorer.used_.end(), std::move(fresh));
    }
    used->detectors.emplace_back(d, which);
    scorer.slots_[d] = {&model, which};
  }
  return scorer;
}

const LearnedScorer::Used& LearnedScorer::used_by(const LearnedModel* model) const {
  const auto used = std::ranges::find(used_, model, &Used::model);
  CHECK(used != used_.end());
  return *used;
}

void LearnedScorer::score(const FeatureMatrix& features, std::span<const std::uint32_t> rows, std::size_t detectors,
                          std::span<float> raw) const {
  thread_local std::vector<float> gathered;
  thread_local std::vector<float> scores;
  for (const Used& used : used_) {
    const std::size_t columns = used.columns.size();
    const std::size_t outputs = used.model->scores();
    for (std::size_t first = 0; first < rows.size(); first += kBlockRows) {
      const std::size_t count = std::min(kBlockRows, rows.size() - first);
      gathered.resize(count * columns);
      scores.resize(count * outputs);
      for (std::size_t i = 0; i < count; ++i) {
        const auto row = features.row(rows[first + i]);
        for (std::size_t c = 0; c < columns; ++c) gathered[i * columns + c] = row[used.columns[c]];
      }
      used.model->score(gathered, scores);
      for (std::size_t i = 0; i < count; ++i) {
        for (const auto& [detector, which] : used.detectors)
          raw[rows[first + i] * detectors + detector] = scores[i * outputs + which];
      }
    }
  }
}

double LearnedScorer::explain(std::size_t detector, std::span<const float> row, std::vector<Contribution>& most,
                              std::size_t most_max) const {
  most.clear();
  if (!has(detector)) return 0;
  const Slot& slot = slots_[detector];
  const Used& used = used_by(slot.model);
  std::vector<float> values;
  for (const std::uint32_t column : used.columns) values.push_back(row[column]);
  std::vector<float> moved(values.size());
  double rest = slot.model->contributions(values, slot.which, moved);
  for (std::uint32_t c = 0; c < moved.size(); ++c) {
    most.push_back({used.columns[c], moved[c], slot.model->usual[c]});
  }
  std::ranges::stable_sort(
      most, [](const Contribution& a, const Contribution& b) { return std::fabs(a.moved) > std::fabs(b.moved); });
  for (std::size_t i = most_max; i < most.size(); ++i) rest += static_cast<double>(most[i].moved);
  most.resize(std::min(most.size(), most_max));
  return rest;
}

}  // namespace alcedo::models
