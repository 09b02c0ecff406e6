// The trained bundle that belongs to a pipeline: where it is, and whether it fits.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "decide/decider.h"
#include "features/plan.h"
#include "models/learned_scorer.h"
#include "pipeline/pipeline_file.h"

namespace alcedo::pipeline {

/// Loads the bundle at `path` into the pipeline; an empty `path` means its own, which may be missing unless the
/// pipeline names it. What the bundle learnt about votes replaces the pipeline's weights.
/// Errors: those of models::Bundle::load(); kInvalidArgument: it is another pipeline's.
Result<> attach_bundle(Pipeline& pipeline, const std::string& path);

/// What a person should know: learned detectors that no bundle serves and that therefore abstain. Empty: nothing.
std::vector<std::string> bundle_notes(const Pipeline& pipeline);

/// "" if each learned detector finds what it looks at in the plan, else what is wrong with which.
std::string learned_mistake(const Pipeline& pipeline, const features::FeaturePlan& plan);

/// The plan's columns with what they mean, for models.
std::vector<models::PlanColumn> plan_columns(const features::FeaturePlan& plan);

/// How the pipeline's decisions are made; its bundle is their edition.
decide::Decider::Options decider_options(const Pipeline& pipeline);

/// One number for all of them.
std::uint64_t plan_hash(const features::FeaturePlan& plan);

}  // namespace alcedo::pipeline
