// LightGBM's lines become nodes: its leaves are numbers of their own, its rules for missing values a side of each node.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "core/json.h"
#include "models/boosted_import.h"

namespace alcedo::models {
namespace {

constexpr std::uint32_t kCategorical = 1, kDefaultLeft = 2;
enum class Missing : std::uint8_t { kNone, kZero, kNan };  // bits 2 and 3 of a decision_type

std::string shown(std::string_view text) {
  std::string quoted;
  append_json_string(quoted, text.substr(0, 60));
  return quoted;
}

template <typename T>
bool to_number(std::string_view text, T& number) {
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  return fault == std::errc() && end == text.data() + text.size();
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const std::size_t space = std::min(text.find(' '), text.size());
    if (space > 0) words.push_back(text.substr(0, space));
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return words;
}

class LightgbmReader {
 public:
  LightgbmReader(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  Result<BoostedModel> read() {
    if (auto ok = read_header(); !ok) return std::unexpected(std::move(ok.error()));
    while (in_tree_) {
      if (auto ok = read_tree(); !ok) return std::unexpected(std::move(ok.error()));
    }
    if (!ended_) return refuse("ends before \"end of trees\"");
    const std::size_t trees = spec_.trees.size();
    if (average_ && trees > 0) {
      if (trees % spec_.outputs != 0) return refuse(fmt::format("{} trees for {} classes", trees, spec_.outputs));
      const std::size_t rounds = trees / spec_.outputs;
      for (TreeNode& node : spec_.nodes) node.value = static_cast<float>(node.value / static_cast<double>(rounds));
    }
    for (std::size_t c = 0; c < spec_.columns; ++c) {
      if (kinds_[c] == kZeroKind) {
        spec_.zero_is_missing.resize(spec_.columns, 0);
        spec_.zero_is_missing[c] = 1;
      }
    }
    auto ensemble = TreeEnsemble::create(std::move(spec_));
    if (!ensemble) return refuse(ensemble.error().message);
    return BoostedModel{std::move(*ensemble), std::move(names_)};
  }

 private:
  using Fields = std::map<std::string_view, std::string_view>;
  // How the nodes of a column read it: they must agree, or one reading of the row would not do.
  enum Kind : std::uint8_t { kUnused, kPlainKind, kZeroKind, kCategoryKind };

  std::unexpected<Error> refuse(std::string_view what) const {
    return error(ErrorCode::kCorrupt, fmt::format("{}: {}", name_, what));
  }
  std::unexpected<Error> unsupported(std::string_view what) const {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", name_, what));
  }

  // The fields up to the next tree or the end of trees.
  Result<Fields> read_fields() {
    Fields fields;
    in_tree_ = false;
    while (!text_.empty()) {
      const std::size_t end = std::min(text_.find('\n'), text_.size());
      std::string_view line = text_.substr(0, end);
      text_.remove_prefix(std::min(end + 1, text_.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line == "end of trees") {
        ended_ = true;
        break;
      }
      if (line.starts_with("Tree=")) {
        in_tree_ = true;
        break;
      }
      if (line.empty()) continue;
      const std::size_t equals = std::min(line.find('='), line.size());
      const std::string_view value = equals < line.size() ? line.substr(equals + 1) : std::string_view();
      if (!fields.emplace(line.substr(0, equals), value).second)
        return refuse(fmt::format("{} comes twice", shown(line.substr(0, equals))));
    }
    return fields;
  }

  template <typename T>
  static bool values(const Fields& fields, std::string_view key, std::size_t count, std::vector<T>& out) {
    const auto found = fields.find(key);
    if (found == fields.end()) return false;
    const auto words = words_of(found->second);
    if (words.size() != count) return false;
    out.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (!to_number(words[i], out[i])) return false;
    }
    return true;
  }

  template <typename T>
  static bool value(const Fields& fields, std::string_view key, T& out) {
    const auto found = fields.find(key);
    return found != fields.end() && to_number(found->second, out);
  }

  Result<> read_header() {
    auto fields = read_fields();
    if (!fields) return std::unexpected(std::move(fields.error()));
    if (!fields->contains("tree")) return refuse("no model of LightGBM: its first line is not \"tree\"");
    const std::string_view version = fields->contains("version") ? fields->at("version") : "";
    if (version != "v2" && version != "v3" && version != "v4")
      return unsupported(fmt::format("version {}; v2 to v4 can be imported", shown(version)));
    std::uint32_t outputs = 0, largest = 0;
    if (!value(*fields, "num_tree_per_iteration", outputs) || !value(*fields, "max_feature_idx", largest))
      return refuse("num_tree_per_iteration or max_feature_idx is missing or no number");
    if (outputs == 0 || outputs > TreeEnsemble::kOutputsMax) return refuse(fmt::format("{} classes", outputs));
    if (largest >= TreeEnsemble::kColumnsMax) return refuse(fmt::format("feature {}", largest));
    spec_.outputs = outputs;
    spec_.columns = std::size_t{largest} + 1;
    spec_.base.assign(outputs, 0);
    kinds_.assign(spec_.columns, kUnused);
    average_ = fields->contains("average_output");
    if (fields->contains("feature_names")) {
      for (const std::string_view word : words_of(fields->at("feature_names"))) names_.emplace_back(word);
      if (names_.size() != spec_.columns)
        return refuse(fmt::format("{} names for {} features", names_.size(), spec_.columns));
    }
    return read_objective(fields->contains("objective") ? fields->at("objective") : "");
  }

  // "binary sigmoid:1"; a model of an objective of one's own has none, and its scores are the sums.
  Result<> read_objective(std::string_view text) {
    const auto words = words_of(text);
    const std::string_view objective = words.empty() ? "" : words[0];
    const auto is = [&](std::initializer_list<std::string_view> names) {
      return std::ranges::count(names, objective) > 0;
    };
    for (std::size_t i = 1; i < words.size(); ++i) {
      if (words[i].starts_with("sigmoid:")) {
        if (!to_number(words[i].substr(8), spec_.factor) || !std::isfinite(spec_.factor) || !(spec_.factor > 0))
          return refuse(fmt::format("the objective {}", shown(text)));
      } else if (words[i] == "sqrt") {
        return unsupported("regression with sqrt cannot be imported");
      }
    }
    if (is({"binary", "multiclassova", "multiclass_ova", "ova", "ovr"})) {
      spec_.transform = TreeTransform::kLogistic;
    } else if (is({"cross_entropy", "xentropy"})) {
      spec_.transform = TreeTransform::kLogistic;
      spec_.factor = 1;
    } else if (is({"multiclass", "softmax"})) {
      spec_.transform = TreeTransform::kSoftmax;
    } else if (is({"poisson", "gamma", "tweedie"})) {
      spec_.transform = TreeTransform::kExponential;
    } else if (!is({"", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg",
                    "custom"})) {
      return unsupported(fmt::format("the objective {} is not known", shown(objective)));
    }
    return {};
  }

  Result<> read_tree() {
    const std::size_t number = spec_.trees.size();
    const auto bad = [&](std::string_view what) { return refuse(fmt::format("tree {}: {}", number, what)); };
    auto fields = read_fields();
    if (!fields) return std::unexpected(std::move(fields.error()));
    std::uint32_t leaves = 0, linear = 0;
    if (!value(*fields, "num_leaves", leaves) || leaves == 0 || leaves > text_limit_)
      return bad("num_leaves is missing or out of range");
    if (value(*fields, "is_linear", linear) && linear != 0) return unsupported("linear trees cannot be imported");
    std::vector<double> leaf_values;
    if (!values(*fields, "leaf_value", leaves, leaf_values))
      return bad(fmt::format("leaf_value has not {} numbers", leaves));
    const std::size_t first = spec_.nodes.size();
    if (2 * std::size_t{leaves} > TreeEnsemble::kNodesMax - first) return bad("too many nodes");
    spec_.trees.push_back({static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(number % spec_.outputs)});
    const std::size_t inner = leaves - 1;
    // Inner nodes as they come, then the leaves; node 0 is the root in both.
    spec_.nodes.resize(first + inner + leaves);
    // Weights are there in trees of every version that has counts; where a part is missing, sides weigh the same.
    std::vector<double> leaf_counts, inner_counts;
    const bool weighed = inner > 0 && values(*fields, "leaf_count", leaves, leaf_counts) &&
                         values(*fields, "internal_count", inner, inner_counts);
    for (std::size_t i = 0; i < leaves; ++i) {
      TreeNode& node = spec_.nodes[first + inner + i];
      node.value = static_cast<float>(leaf_values[i]);
      if (weighed) node.cover = static_cast<float>(leaf_counts[i]);
    }
    if (inner == 0) return {};
    std::vector<std::uint32_t> columns, decisions;
    std::vector<double> thresholds;
    std::vector<std::int32_t> left, right;
    if (!values(*fields, "split_feature", inner, columns) || !values(*fields, "threshold", inner, thresholds) ||
        !values(*fields, "decision_type", inner, decisions) || !values(*fields, "left_child", inner, left) ||
        !values(*fields, "right_child", inner, right))
      return bad(fmt::format("a list of its nodes has not {} numbers", inner));
    const std::size_t first_set = spec_.category_sets.size();
    if (auto ok = read_categories(*fields, number); !ok) return ok;
    const auto child = [&](std::int32_t c) -> std::optional<std::int32_t> {
      const std::int64_t index = c >= 0 ? std::int64_t{c} : static_cast<std::int64_t>(inner) - c - 1;
      if (c >= static_cast<std::int64_t>(inner) || index >= static_cast<std::int64_t>(inner + leaves))
        return std::nullopt;
      return static_cast<std::int32_t>(index);
    };
    for (std::size_t i = 0; i < inner; ++i) {
      const auto node_left = child(left[i]), node_right = child(right[i]);
      if (!node_left || !node_right) return bad(fmt::format("node {} has children that no tree has", i));
      if (columns[i] >= spec_.columns)
        return bad(fmt::format("node {} asks for feature {} of {}", i, columns[i], spec_.columns));
      TreeNode& node = spec_.nodes[first + i];
      node.left = *node_left;
      node.right = *node_right;
      node.column = columns[i];
      if (weighed) node.cover = static_cast<float>(inner_counts[i]);
      const std::uint32_t missing = decisions[i] >> 2U;
      if (missing > static_cast<std::uint32_t>(Missing::kNan))
        return bad(fmt::format("node {} has the decision_type {}", i, decisions[i]));
      Kind kind = kPlainKind;
      if ((decisions[i] & kCategorical) != 0) {
        // What is in no set, NaN too, goes right.
        kind = kCategoryKind;
        const double set = thresholds[i];
        if (!(set >= 0 && set < static_cast<double>(spec_.category_sets.size() - first_set)))
          return bad(fmt::format("node {} has no categories", i));
        node.category_set = static_cast<std::uint32_t>(first_set + static_cast<std::size_t>(set));
        node.set_left = true;
        node.default_left = false;
      } else {
        if (std::isnan(thresholds[i])) return bad(fmt::format("node {} has a threshold that is NaN", i));
        if (static_cast<Missing>(missing) == Missing::kZero) kind = kZeroKind;
        // Where missing values are nothing of their own, NaN is read as 0.
        const bool by_zero = static_cast<Missing>(missing) == Missing::kNone;
        node.default_left = by_zero ? thresholds[i] >= 0 : (decisions[i] & kDefaultLeft) != 0;
        set_threshold(node, thresholds[i]);
      }
      if (kinds_[node.column] == kUnused) kinds_[node.column] = kind;
      if (kinds_[node.column] != kind)
        return unsupported(fmt::format("tree {}: node {} reads feature {} in another way than those before it", number,
                                       i, node.column));
    }
    return {};
  }

  // x <= threshold goes left, as x < t. LightGBM's interface drops values of up to 1e-35 from a row, which reads them
  // as 0: so all of them are on the side of 0.
  static void set_threshold(TreeNode& node, double threshold) {
    constexpr float kZeroMax = 1e-35F;
    if (std::fabs(threshold) <= static_cast<double>(kZeroMax)) {
      node.threshold = threshold < 0 ? -kZeroMax : float_bound(kZeroMax);
    } else if (threshold < std::numeric_limits<double>::infinity()) {
      node.threshold = float_bound(threshold);
    } else {
      // All that is present goes left. No x < t says so of infinity; that none is less than -infinity does, with the
      // sides exchanged.
      node.threshold = -std::numeric_limits<float>::infinity();
      std::swap(node.left, node.right);
      node.default_left = !node.default_left;
    }
  }

  Result<> read_categories(const Fields& fields, std::size_t number) {
    const auto bad = [&] { return refuse(fmt::format("tree {}: its categories are damaged", number)); };
    std::uint32_t sets = 0;
    if (!value(fields, "num_cat", sets) || sets == 0) return {};
    std::vector<std::uint32_t> boundaries, words;
    if (sets > text_limit_ || !values(fields, "cat_boundaries", std::size_t{sets} + 1, boundaries) ||
        boundaries[0] != 0)
      return bad();
    if (boundaries[sets] > text_limit_ || !values(fields, "cat_threshold", boundaries[sets], words)) return bad();
    for (std::size_t i = 0; i < sets; ++i) {
      if (boundaries[i] > boundaries[i + 1] || boundaries[i + 1] > boundaries[sets]) return bad();
      spec_.category_sets.push_back(
          {static_cast<std::uint32_t>(spec_.category_words.size() + boundaries[i]), boundaries[i + 1] - boundaries[i]});
    }
    spec_.category_words.insert(spec_.category_words.end(), words.begin(), words.end());
    return {};
  }

  std::string_view text_;
  std::string_view name_;
  std::size_t text_limit_ = text_.size();  // no list has more numbers than the text has bytes
  bool in_tree_ = false, ended_ = false, average_ = false;
  TreeEnsembleSpec spec_;
  std::vector<std::string> names_;
  std::vector<Kind> kinds_;  // by column
};

}  // namespace

Result<BoostedModel> import_lightgbm(std::string_view text, std::string_view name) {
  return LightgbmReader(text, name).read();
}

}  // namespace alcedo::models
