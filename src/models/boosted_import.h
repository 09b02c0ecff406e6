// Boosted trees that others trained: files of XGBoost and LightGBM become a TreeEnsemble that scores as they do.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "models/tree_ensemble.h"

namespace alcedo::models {

struct BoostedModel {
  TreeEnsemble trees;
  std::vector<std::string> feature_names;  // one a column, or none
};

/// XGBoost's JSON (save_model("x.json"), as versions 1.6 and later write it). Scores are those of predict() over all
/// trees.
///
/// Takes    booster gbtree; objectives binary:logistic, binary:logitraw, reg:logistic, multi:softprob, multi:softmax
///          (probabilities too), count:poisson, reg:gamma, reg:tweedie, and reg:squarederror and the others whose
///          prediction is the raw sum; categorical splits, several trees a round.
/// Source   github.com/dmlc/xgboost, doc/model.schema.
/// Differs  Sums are in double, XGBoost's in float. Categories between -1 and 0, which nobody has, count as 0.
/// Errors   kInvalidArgument: something of the above that it is not; kCorrupt: no such model, or a damaged one. Both
/// say
///          which tree. Bytes may be anything, up to 1 GB.
Result<BoostedModel> import_xgboost(std::string_view json, std::string_view name);

/// LightGBM's text (save_model("x.txt"), versions v2 to v4). Scores are those of predict() over all trees.
///
/// Takes    objectives binary, multiclass, multiclassova, cross_entropy, poisson, gamma, tweedie, and regression, the
///          ranking ones and others whose prediction is the raw sum; categorical splits; missing_type None, Zero and
///          NaN; random forests (average_output).
/// Source   github.com/microsoft/LightGBM, src/io/tree.cpp and include/LightGBM/tree.h (NumericalDecision,
///          CategoricalDecision).
/// Differs  Rows and leaves are floats. x <= T with a double T is asked as x < t with the one float t for which both
/// are
///          the same for every float x.
/// Errors   As above; linear trees and regression with sqrt are refused.
Result<BoostedModel> import_lightgbm(std::string_view text, std::string_view name);

/// Reads a file of either kind, told by its first bytes. Errors: kNotFound, kIo, and as above.
Result<BoostedModel> import_boosted(const std::string& path);

/// The smallest float that is larger than every float x with x <= threshold: x <= threshold is x < this. threshold must
/// not be NaN or +infinity.
float float_bound(double threshold);

}  // namespace alcedo::models
