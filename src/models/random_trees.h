// Tree ensembles and rows by chance, for tests and benchmarks: any shape, any special value.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/prng.h"
#include "models/tree_ensemble.h"

namespace alcedo::models {

struct RandomTreeOptions {
  std::size_t columns = 8, outputs = 1, trees = 10, leaves = 31;
  std::uint32_t depth_max = 100;
  double categorical = 0;  // share of inner nodes
  bool zero_is_missing = false;
  bool special_values = true;  // in rows: NaN, infinities, values equal to thresholds
};

/// Splits a leaf at random until the tree has its leaves or no leaf may be split.
inline TreeEnsembleSpec random_trees(const RandomTreeOptions& options, std::uint64_t seed) {
  Prng random(seed);
  TreeEnsembleSpec spec;
  spec.columns = options.columns;
  spec.outputs = options.outputs;
  for (std::size_t o = 0; o < options.outputs; ++o) spec.base.push_back(random.normal());
  if (options.zero_is_missing) {
    for (std::size_t c = 0; c < options.columns; ++c) spec.zero_is_missing.push_back(random.below(2) != 0 ? 1 : 0);
  }
  for (std::size_t t = 0; t < options.trees; ++t) {
    const auto first = static_cast<std::uint32_t>(spec.nodes.size());
    spec.trees.push_back({first, static_cast<std::uint32_t>(t % options.outputs)});
    spec.nodes.emplace_back();
    std::vector<std::pair<std::uint32_t, std::uint32_t>> open = {{0, 0}};  // leaves that may be split, their depths
    for (std::size_t leaves = 1; leaves < options.leaves && !open.empty(); ++leaves) {
      const std::size_t pick = random.below(open.size());
      const auto [index, depth] = open[pick];
      open[pick] = open.back();
      open.pop_back();
      const auto child = static_cast<std::int32_t>(spec.nodes.size() - first);
      TreeNode& node = spec.nodes[first + index];
      node.left = child;
      node.right = child + 1;
      node.column = static_cast<std::uint32_t>(random.below(options.columns));
      // A coarse grid, so that rows meet thresholds exactly.
      node.threshold = static_cast<float>(std::round(random.normal() * 8) / 8);
      node.default_left = random.below(2) != 0;
      if (random.uniform() < options.categorical) {
        node.category_set = static_cast<std::uint32_t>(spec.category_sets.size());
        node.set_left = random.below(2) != 0;
        const auto words = static_cast<std::uint32_t>(random.below(3));
        spec.category_sets.push_back({static_cast<std::uint32_t>(spec.category_words.size()), words});
        for (std::uint32_t w = 0; w < words; ++w)
          spec.category_words.push_back(static_cast<std::uint32_t>(random.next()));
      }
      spec.nodes.resize(spec.nodes.size() + 2);
      if (depth + 1 < options.depth_max) {
        open.emplace_back(child, depth + 1);
        open.emplace_back(child + 1, depth + 1);
      }
    }
    for (std::size_t i = first; i < spec.nodes.size(); ++i) {
      spec.nodes[i].cover = static_cast<float>(1 + random.below(100));
      if (spec.nodes[i].is_leaf()) spec.nodes[i].value = static_cast<float>(random.normal());
    }
  }
  return spec;
}

inline std::vector<float> random_rows(const RandomTreeOptions& options, std::size_t rows, std::uint64_t seed) {
  Prng random(seed);
  std::vector<float> values(rows * options.columns);
  for (float& value : values) {
    const std::uint64_t kind = options.special_values ? random.below(10) : 9;
    if (kind == 0) {
      value = std::numeric_limits<float>::quiet_NaN();
    } else if (kind == 1) {
      value = (random.below(2) != 0 ? 1 : -1) * std::numeric_limits<float>::infinity();
    } else if (kind < 5) {
      value = static_cast<float>(std::round(random.normal() * 8) / 8);
    } else if (kind == 5 && options.categorical > 0) {
      value = static_cast<float>(random.below(80));
    } else if (kind == 6) {
      value = random.below(2) != 0 ? 1e-36F : -0.0F;
    } else {
      value = static_cast<float>(random.normal());
    }
  }
  return values;
}

}  // namespace alcedo::models
