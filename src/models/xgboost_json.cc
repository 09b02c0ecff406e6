// XGBoost's arrays by node become nodes; only what the root reaches is taken, since pruned nodes stay in the file.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "core/json.h"
#include "models/boosted_import.h"

namespace alcedo::models {
namespace {

namespace dom = simdjson::dom;

struct Objective {
  std::string_view name;
  TreeTransform transform;
  bool logit_base;  // base_score is a probability
  bool log_base;    // base_score is a positive mean
};
constexpr Objective kObjectives[] = {
    {"binary:logistic", TreeTransform::kLogistic, true, false},
    {"reg:logistic", TreeTransform::kLogistic, true, false},
    {"binary:logitraw", TreeTransform::kIdentity, true, false},
    {"multi:softprob", TreeTransform::kSoftmax, false, false},
    {"multi:softmax", TreeTransform::kSoftmax, false, false},
    {"count:poisson", TreeTransform::kExponential, false, true},
    {"reg:gamma", TreeTransform::kExponential, false, true},
    {"reg:tweedie", TreeTransform::kExponential, false, true},
    {"reg:squarederror", TreeTransform::kIdentity, false, false},
    {"reg:squaredlogerror", TreeTransform::kIdentity, false, false},
    {"reg:pseudohubererror", TreeTransform::kIdentity, false, false},
    {"reg:absoluteerror", TreeTransform::kIdentity, false, false},
    {"rank:pairwise", TreeTransform::kIdentity, false, false},
    {"rank:ndcg", TreeTransform::kIdentity, false, false},
    {"rank:map", TreeTransform::kIdentity, false, false},
};

constexpr std::int64_t kCategoryMax = 1 << 24;  // XGBoost takes none beyond

std::string shown(std::string_view text) {
  std::string quoted;
  append_json_string(quoted, text.substr(0, 60));
  return quoted;
}

// The parameters of a model are numbers within texts, since 2.1 perhaps within brackets: "[5E-1]".
bool to_number(dom::element element, double& number) {
  std::string_view text;
  if (element.get(number) == simdjson::SUCCESS) return std::isfinite(number);
  if (element.get(text) != simdjson::SUCCESS) return false;
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  return fault == std::errc() && end == text.data() + text.size() && std::isfinite(number);
}

// XGBoost writes NaN, which no JSON has, where a categorical node has no threshold.
std::string without_nan(std::string_view json) {
  std::string text;
  text.reserve(json.size() + json.size() / 16);
  bool quoted = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (json[i] == '"') quoted = !quoted;
    if (quoted && json[i] == '\\' && i + 1 < json.size()) text += json[i++];
    if (!quoted && json.substr(i, 3) == "NaN") {
      text += "null";
      i += 2;
    } else {
      text += json[i];
    }
  }
  return text;
}

class XgboostReader {
 public:
  explicit XgboostReader(std::string_view name) : name_(name) {}

  Result<BoostedModel> read(std::string_view json) {
    dom::parser parser;
    dom::element root;
    const simdjson::padded_string padded(without_nan(json));
    if (const auto fault = parser.parse(padded).get(root)) return refuse(simdjson::error_message(fault));
    dom::object learner;
    if (root["learner"].get(learner) != simdjson::SUCCESS)
      return refuse("no model of XGBoost: there is no \"learner\"");
    std::string_view booster, objective_name;
    if (learner["gradient_booster"]["name"].get(booster) != simdjson::SUCCESS) return refuse("there is no booster");
    if (booster != "gbtree") return unsupported(fmt::format("the booster {}; gbtree can be imported", shown(booster)));
    if (learner["objective"]["name"].get(objective_name) != simdjson::SUCCESS) return refuse("there is no objective");
    const auto* objective = std::ranges::find(kObjectives, objective_name, &Objective::name);
    if (objective == std::end(kObjectives))
      return unsupported(fmt::format("the objective {} is not known", shown(objective_name)));

    double base = 0, classes = 0, targets = 1, columns = 0;
    const auto parameter = [&](const char* key, double& value) {
      dom::element element;
      return learner["learner_model_param"][key].get(element) == simdjson::SUCCESS && to_number(element, value);
    };
    if (!parameter("base_score", base) || !parameter("num_class", classes) || !parameter("num_feature", columns))
      return refuse("learner_model_param lacks base_score, num_class or num_feature");
    if (!(columns >= 1 && columns <= TreeEnsemble::kColumnsMax)) return refuse(fmt::format("{} features", columns));
    if (!(classes >= 0 && classes <= TreeEnsemble::kOutputsMax)) return refuse(fmt::format("{} classes", classes));
    if (parameter("num_target", targets) && targets != 1)
      return unsupported(fmt::format("{} targets; one can be imported", targets));
    if (objective->logit_base && !(base > 0 && base < 1))
      return refuse(fmt::format("base_score {} is no probability", base));
    if (objective->log_base && !(base > 0)) return refuse(fmt::format("base_score {} is no mean", base));
    const auto narrow = static_cast<double>(static_cast<float>(base));
    const double margin = objective->logit_base ? -std::log(1 / narrow - 1)
                          : objective->log_base ? std::log(narrow)
                                                : narrow;
    spec_.columns = static_cast<std::size_t>(columns);
    spec_.outputs = std::max<std::size_t>(1, static_cast<std::size_t>(classes));
    spec_.base.assign(spec_.outputs, margin);
    spec_.transform = objective->transform;

    dom::element model;
    dom::array trees, outputs;
    if (learner["gradient_booster"]["model"].get(model) != simdjson::SUCCESS ||
        model["trees"].get(trees) != simdjson::SUCCESS || model["tree_info"].get(outputs) != simdjson::SUCCESS)
      return refuse("the booster lacks trees or tree_info");
    if (trees.size() != outputs.size()) return refuse("tree_info has not one entry a tree");
    auto output = outputs.begin();
    for (const dom::element tree : trees) {
      std::uint64_t to = 0;
      if ((*output).get(to) != simdjson::SUCCESS || to >= spec_.outputs)
        return refuse(fmt::format("tree {} adds to no class that there is", spec_.trees.size()));
      ++output;
      if (auto ok = add_tree(tree, static_cast<std::uint32_t>(to)); !ok) return std::unexpected(std::move(ok.error()));
    }
    std::vector<std::string> names;
    dom::array feature_names;
    if (learner["feature_names"].get(feature_names) == simdjson::SUCCESS) {
      for (const dom::element feature : feature_names) {
        std::string_view text;
        if (feature.get(text) != simdjson::SUCCESS) return refuse("a feature's name is no text");
        names.emplace_back(text);
      }
      if (!names.empty() && names.size() != spec_.columns)
        return refuse(fmt::format("{} names for {} features", names.size(), spec_.columns));
    }
    auto ensemble = TreeEnsemble::create(std::move(spec_));
    if (!ensemble) return refuse(ensemble.error().message);
    return BoostedModel{std::move(*ensemble), std::move(names)};
  }

 private:
  std::unexpected<Error> refuse(std::string_view what) const {
    return error(ErrorCode::kCorrupt, fmt::format("{}: {}", name_, what));
  }
  std::unexpected<Error> unsupported(std::string_view what) const {
    return error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", name_, what));
  }

  template <typename T>
  static bool values(dom::element tree, const char* key, std::vector<T>& out) {
    dom::array array;
    out.clear();
    if (tree[key].get(array) != simdjson::SUCCESS) return false;
    for (const dom::element element : array) {
      bool flag = false;
      std::int64_t integer = 0;
      double number = 0;
      if (element.get(flag) == simdjson::SUCCESS) {
        out.push_back(static_cast<T>(flag));
      } else if constexpr (std::is_integral_v<T>) {
        if (element.get(integer) != simdjson::SUCCESS) return false;
        out.push_back(integer);
      } else if (element.get(number) == simdjson::SUCCESS) {
        out.push_back(number);
      } else if (element.is_null()) {
        out.push_back(std::numeric_limits<T>::quiet_NaN());
      } else {
        return false;
      }
    }
    return true;
  }

  // By node, its categories as a set; nothing if a list is not what it should be.
  bool read_categories(dom::element tree, std::map<std::int64_t, std::uint32_t>& sets) {
    std::vector<std::int64_t> nodes, begins, sizes, categories;
    if (!values(tree, "categories_nodes", nodes)) return true;  // versions before 1.3 have none
    if (!values(tree, "categories_segments", begins) || !values(tree, "categories_sizes", sizes) ||
        !values(tree, "categories", categories) || begins.size() != nodes.size() || sizes.size() != nodes.size())
      return false;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const auto total = static_cast<std::int64_t>(categories.size());
      if (begins[i] < 0 || sizes[i] < 0 || begins[i] > total || sizes[i] > total - begins[i]) return false;
      std::int64_t largest = -1;
      for (std::int64_t c = begins[i]; c < begins[i] + sizes[i]; ++c) {
        if (categories[c] < 0 || categories[c] >= kCategoryMax) return false;
        largest = std::max(largest, categories[c]);
      }
      const CategorySet set{static_cast<std::uint32_t>(spec_.category_words.size()),
                            static_cast<std::uint32_t>((largest + 32) / 32)};
      // Sets of one huge category each must not make gigabytes of words.
      if (spec_.category_words.size() + set.words > kWordsMax) return false;
      spec_.category_words.resize(spec_.category_words.size() + set.words, 0);
      for (std::int64_t c = begins[i]; c < begins[i] + sizes[i]; ++c)
        spec_.category_words[set.first_word + static_cast<std::size_t>(categories[c] / 32)] |= 1U
                                                                                               << (categories[c] % 32);
      if (!sets.emplace(nodes[i], static_cast<std::uint32_t>(spec_.category_sets.size())).second) return false;
      spec_.category_sets.push_back(set);
    }
    return true;
  }

  Result<> add_tree(dom::element tree, std::uint32_t output) {
    const std::size_t number = spec_.trees.size();
    const auto bad = [&](std::string_view what) { return refuse(fmt::format("tree {}: {}", number, what)); };
    std::vector<std::int64_t> left, right, column, default_left, type;
    std::vector<double> condition, cover;
    if (!values(tree, "left_children", left) || !values(tree, "right_children", right) ||
        !values(tree, "split_indices", column) || !values(tree, "default_left", default_left) ||
        !values(tree, "split_conditions", condition) || !values(tree, "sum_hessian", cover))
      return bad("a list of its nodes is missing or holds what is no number");
    const std::size_t nodes = left.size();
    for (const std::size_t size : {right.size(), column.size(), default_left.size(), condition.size(), cover.size()}) {
      if (size != nodes || nodes == 0) return bad("its lists have different lengths, or none");
    }
    if (values(tree, "split_type", type) && !type.empty() && type.size() != nodes)
      return bad("split_type has another length");
    std::map<std::int64_t, std::uint32_t> sets;
    if (!read_categories(tree, sets)) return bad("its categories are damaged");

    const std::size_t first = spec_.nodes.size();
    if (nodes > TreeEnsemble::kNodesMax - first) return bad("too many nodes");
    spec_.trees.push_back({static_cast<std::uint32_t>(first), output});
    std::vector<std::int64_t> order = {0};
    // A file whose nodes share children, or go round, would never end: no tree has more nodes than its lists.
    for (std::size_t i = 0; i < order.size(); ++i) {
      const auto at = static_cast<std::size_t>(order[i]);
      TreeNode node;
      node.cover = static_cast<float>(cover[at]);
      if (left[at] == -1) {
        node.value = static_cast<float>(condition[at]);
      } else {
        if (left[at] < 0 || right[at] < 0 || left[at] >= static_cast<std::int64_t>(nodes) ||
            right[at] >= static_cast<std::int64_t>(nodes) || order.size() + 2 > nodes)
          return bad(fmt::format("node {} has children that no tree has", at));
        if (column[at] < 0 || column[at] >= static_cast<std::int64_t>(spec_.columns))
          return bad(fmt::format("node {} asks for feature {} of {}", at, column[at], spec_.columns));
        node.column = static_cast<std::uint32_t>(column[at]);
        node.default_left = default_left[at] != 0;
        node.left = static_cast<std::int32_t>(order.size());
        node.right = node.left + 1;
        order.push_back(left[at]);
        order.push_back(right[at]);
        if (!type.empty() && type[at] == 1) {
          const auto set = sets.find(order[i]);
          if (set == sets.end()) return bad(fmt::format("node {} has no categories", at));
          node.category_set = set->second;
          node.set_left = false;
        } else {
          node.threshold = static_cast<float>(condition[at]);
        }
      }
      spec_.nodes.push_back(node);
    }
    return {};
  }

  static constexpr std::size_t kWordsMax = 1U << 26;
  std::string_view name_;
  TreeEnsembleSpec spec_;
};

}  // namespace

Result<BoostedModel> import_xgboost(std::string_view json, std::string_view name) {
  return XgboostReader(name).read(json);
}

}  // namespace alcedo::models
