// Small models for tests: trees written by hand, so that every score can be computed on paper.
#pragma once

#include <array>
#include <utility>
#include <vector>

#include "core/check.h"
#include "models/learned_model.h"

namespace alcedo::models::testing {

/// A tree of one cut: rows with x[column] < threshold get `below`, all others `above`, missing ones too.
inline TreeEnsemble stumps(std::size_t columns, std::size_t outputs, TreeTransform transform,
                           const std::vector<std::array<double, 5>>& cuts) {
  TreeEnsembleSpec spec;
  spec.columns = columns;
  spec.outputs = outputs;
  spec.base.assign(outputs, 0);
  spec.transform = transform;
  for (const auto& [output, column, threshold, below, above] : cuts) {
    spec.trees.push_back({static_cast<std::uint32_t>(spec.nodes.size()), static_cast<std::uint32_t>(output)});
    TreeNode root;
    root.column = static_cast<std::uint32_t>(column);
    root.threshold = static_cast<float>(threshold);
    root.left = 1;
    root.right = 2;
    root.cover = 2;
    TreeNode left;
    left.value = static_cast<float>(below);
    left.cover = 1;
    TreeNode right = left;
    right.value = static_cast<float>(above);
    spec.nodes.insert(spec.nodes.end(), {root, left, right});
  }
  auto trees = TreeEnsemble::create(std::move(spec));
  CHECK(trees);
  return std::move(*trees);
}

/// Boosted trees of two columns "a" and "b": margin 2 where a >= 10, else -2; plus 1 where b >= 5.
inline LearnedModel boosted() {
  return {DetectorKind::kBoosted,
          {"f.a", "f.b"},
          {11, 22},
          {1, 2},
          {},
          {0.5},
          stumps(2, 1, TreeTransform::kIdentity, {{0, 0, 10, -2, 2}, {0, 1, 5, 0, 1}})};
}

/// The same of two types: what a says is "theft", what b says is "testing".
inline LearnedModel boosted_by_type() {
  return {DetectorKind::kBoosted,
          {"f.a", "f.b"},
          {11, 22},
          {1, 2},
          {"theft", "testing"},
          {0.1, 0.2},
          stumps(2, 3, TreeTransform::kIdentity, {{0, 0, 10, 1, 0}, {1, 0, 10, 0, 3}, {2, 1, 5, 0, 2}})};
}

inline LearnedModel forest() {
  return {DetectorKind::kForest,
          {"f.a", "f.b"},
          {11, 22},
          {1, 2},
          {},
          {},
          stumps(2, 1, TreeTransform::kPathLength, {{0, 0, 10, 3, 1}})};
}

}  // namespace alcedo::models::testing
