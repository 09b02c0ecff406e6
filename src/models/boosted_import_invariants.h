// What must hold of importing models whatever their text is: one list for the fuzzer and the replay of its corpus.
#pragma once

#include <cmath>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "models/boosted_import.h"

namespace alcedo::models {

/// Aborts where an invariant is broken. True: one of the readers took the text.
inline bool check_boosted_import(std::string_view text) {
  bool taken = false;
  for (const auto import : {import_xgboost, import_lightgbm}) {
    const auto model = import(text, "fuzzed");
    if (!model) {
      CHECK(model.error().code == ErrorCode::kCorrupt || model.error().code == ErrorCode::kInvalidArgument);
      CHECK(model.error().message.starts_with("fuzzed: ") && model.error().message.size() < 1000);
      continue;
    }
    taken = true;
    const TreeEnsemble& trees = model->trees;
    CHECK(model->feature_names.empty() || model->feature_names.size() == trees.columns());
    if (trees.columns() > 1000 || trees.spec().nodes.size() > 100'000) continue;
    std::vector<float> rows(30 * trees.columns());
    constexpr float kValues[] = {0, -1, 1, 2.5F, 1e30F, -0.0F, NAN};
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = kValues[i % std::size(kValues)];
    std::vector<float> fast(30 * trees.outputs()), scalar(fast.size());
    trees.score(rows, trees.columns(), fast);
    trees.score_scalar(rows, trees.columns(), scalar);
    CHECK(std::memcmp(fast.data(), scalar.data(), fast.size() * sizeof(float)) == 0);
  }
  return taken;
}

}  // namespace alcedo::models
