// A model trusts that a column holds what it held in training, so columns travel with their meaning.
#include "pipeline/pipeline_bundle.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/hash.h"
#include "features/state/segment.h"

namespace alcedo::pipeline {
namespace {

// All that the scores of a detector depend on besides the state of its features.
std::uint64_t meaning_of(const models::DetectorSpec& spec, const features::FeatureOptions& options) {
  std::string meaning =
      fmt::format("{}|{}|{}", static_cast<int>(spec.kind), static_cast<int>(spec.side), spec.min_change);
  if (models::is_learned(spec.kind)) meaning += "|" + spec.output;
  if (spec.kind == models::DetectorKind::kSum) {
    for (const std::string& column : spec.features) {
      const auto of =
          std::ranges::find(options.features, column.substr(0, column.find('.')), &features::FeatureSpec::name);
      meaning += fmt::format("|{}|{}", column.substr(column.find('.') + 1),
                             of == options.features.end() ? 0 : features::feature_fingerprint(*of, options.layout));
    }
  }
  for (const std::uint32_t index : spec.requests) {
    const features::DeviationRequest& request = options.deviations[index];
    meaning +=
        fmt::format("|{}|{}|{}", features::feature_fingerprint(options.features[request.feature], options.layout),
                    request.column, static_cast<int>(request.method));
  }
  return hash64(meaning);
}

}  // namespace

Result<> attach_bundle(Pipeline& pipeline, const std::string& path) {
  std::error_code code;
  std::string from = path.empty() ? pipeline.bundle_path : path;
  if (from.empty()) {
    from = (std::filesystem::path(pipeline.path).parent_path() / "bundle").string();
    if (!std::filesystem::exists(std::filesystem::path(from) / models::Bundle::kManifest, code)) return {};
  }
  auto bundle = models::Bundle::load(from);
  if (!bundle) {
    if (bundle.error().code != ErrorCode::kNotFound) return std::unexpected(bundle.error());
    return error(ErrorCode::kNotFound,
                 fmt::format("{}: no bundle there (`alcedo train` makes one): {}", from, bundle.error().message));
  }
  if (bundle->pipeline != pipeline.name) {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: was trained for the pipeline '{}', not for '{}'", from,
                                                          bundle->pipeline, pipeline.name));
  }
  for (auto& anomaly : pipeline.anomalies) {
    std::vector<decide::VoteSpec> votes;
    bool learnt = false;
    for (decide::VoteSpec vote : anomaly.votes) {
      const auto found = std::ranges::find_if(bundle->votes, [&](const models::Bundle::Vote& one) {
        return one.anomaly == anomaly.name && one.detector == pipeline.detectors[vote.detector].name;
      });
      if (found != bundle->votes.end()) {
        learnt = true;
        vote.weight = found->weight;
      }
      if (vote.weight > 0) votes.push_back(vote);
    }
    if (!learnt || votes.empty()) continue;
    anomaly.votes = std::move(votes);
    anomaly.weights_learnt = true;
  }
  pipeline.bundle = std::make_shared<const models::Bundle>(std::move(*bundle));
  return {};
}

std::vector<std::string> bundle_notes(const Pipeline& pipeline) {
  std::string abstaining;
  for (const auto& detector : pipeline.detectors) {
    if (!models::is_learned(detector.kind)) continue;
    const std::string& model = detector.model.empty() ? detector.name : detector.model;
    bool there = false;
    if (pipeline.bundle != nullptr) {
      const auto found = pipeline.bundle->models.find(model);
      there = found != pipeline.bundle->models.end() && found->second.kind == detector.kind &&
              (detector.output.empty() ||
               std::ranges::find(found->second.types, detector.output) != found->second.types.end());
    }
    if (!there) abstaining += (abstaining.empty() ? "" : ", ") + detector.name;
  }
  if (abstaining.empty()) return {};
  return {
      fmt::format("{}: no trained model of {}{}; until there is one they abstain: `alcedo train {} --events FILE... "
                  "--out {}` trains what the labels allow",
                  pipeline.name, abstaining, pipeline.bundle ? " in " + pipeline.bundle->directory : "", pipeline.path,
                  (std::filesystem::path(pipeline.path).parent_path() / "bundle").string())};
}

decide::Decider::Options decider_options(const Pipeline& pipeline) {
  decide::Decider::Options options{pipeline.anomalies, {}, pipeline.calibrate_events, pipeline.rate_max, {}, 0};
  for (const auto& spec : pipeline.detectors)
    options.detectors.push_back({spec.name, meaning_of(spec, pipeline.features)});
  // What a bundle calibrated belongs to it: with another one its own calibration holds.
  if (pipeline.bundle) options.edition = hash64(pipeline.bundle->version);
  for (const auto& anomaly : pipeline.anomalies) options.entities.push_back(pipeline.features.layout.keys[anomaly.by]);
  return options;
}

std::vector<models::PlanColumn> plan_columns(const features::FeaturePlan& plan) {
  const auto& options = plan.options();
  std::vector<std::uint64_t> meanings;
  for (const auto& spec : options.features) meanings.push_back(features::feature_fingerprint(spec, options.layout));
  std::vector<models::PlanColumn> columns;
  for (const auto& column : plan.columns())
    columns.push_back({column.name, hash64(fmt::format("{}|{:016x}", column.name, meanings[column.feature]))});
  return columns;
}

std::string learned_mistake(const Pipeline& pipeline, const features::FeaturePlan& plan) {
  std::vector<models::PlanColumn> columns;
  for (const auto& detector : pipeline.detectors) {
    if (!models::is_learned(detector.kind)) continue;
    if (columns.empty()) columns = plan_columns(plan);
    if (auto mistake = models::columns_mistake(detector, columns); !mistake.empty()) return mistake;
  }
  return {};
}

std::uint64_t plan_hash(const features::FeaturePlan& plan) {
  std::string all;
  for (const auto& column : plan_columns(plan)) all += fmt::format("{:016x}", column.meaning);
  return hash64(all);
}

}  // namespace alcedo::pipeline
