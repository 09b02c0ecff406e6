// One pass over time: models see the past, calibration sees what they have not seen.
#include "training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "core/check.h"
#include "core/time.h"
#include "evaluate/curves.h"
#include "models/isolation_forest.h"
#include "training/boosted_training.h"
#include "training/vote_weights.h"

namespace alcedo::training {
namespace {

using models::DetectorKind;
using models::DetectorSpec;
using models::LearnedModel;

constexpr std::size_t kRowsMin = 200;
// With fewer labelled anomalies than this a tree learns their noise.
constexpr std::size_t kAnomaliesMin = 20;
// Weights are few numbers, and none below zero.
constexpr std::size_t kAnomaliesToWeighMin = 10;
constexpr std::size_t kForestRowsMax = 1 << 18;
constexpr double kLearningRate = 0.08;
constexpr std::size_t kMedianRowsMax = 20'001;

// Margins say more than probabilities: they do not saturate.
Result<models::TreeEnsemble> with_margins(models::TreeEnsemble trees) {
  models::TreeEnsembleSpec spec = trees.spec();
  spec.transform = models::TreeTransform::kIdentity;
  return models::TreeEnsemble::create(std::move(spec));
}

class Trainer {
 public:
  Trainer(const TrainingTask& task, TrainingRows& rows, const TrainingOptions& options, std::vector<std::string>& notes)
      : task_(task), rows_(rows), options_(options), notes_(notes) {}

  Result<models::Bundle> run() {
    if (rows_.size() < kRowsMin) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("{} rows to train on; expected at least {}", rows_.size(), kRowsMin));
    }
    split();
    bundle_.pipeline = task_.pipeline;
    bundle_.plan_hash = task_.plan_hash;
    for (const DetectorSpec& spec : task_.detectors) {
      if (!models::is_learned(spec.kind) || !spec.model.empty()) continue;
      auto trained = train_detector(spec);
      if (!trained) return std::unexpected(trained.error());
    }
    if (auto scored = score_learned(); !scored) return std::unexpected(scored.error());
    calibrate();
    describe();
    return std::move(bundle_);
  }

 private:
  void progress(std::string_view what, double share) const {
    if (options_.on_progress) options_.on_progress(what, share);
  }

  void split() {
    const auto held = static_cast<std::size_t>(static_cast<double>(rows_.size()) * options_.held_out);
    held_from_ = rows_.size() - std::clamp<std::size_t>(held, kRowsMin / 4, rows_.size() / 2);
    models::Bundle::Trained& trained = bundle_.trained;
    trained.events = rows_.seen();
    trained.seed = options_.seed;
    trained.first_ms = INT64_MAX;
    trained.last_ms = INT64_MIN;
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      trained.labelled += rows_.label(row) == kUnlabelled ? 0 : rows_.weight(row);
      trained.anomalous += rows_.is_anomalous(row) ? 1 : 0;
      trained.first_ms = std::min(trained.first_ms, rows_.time_ms(row));
      trained.last_ms = std::max(trained.last_ms, rows_.time_ms(row));
      knows_normal_ = knows_normal_ || rows_.label(row) == kNormal;
    }
    trained.held_out_from_ms = rows_.time_ms(held_from_);
  }

  // Whether the row may teach from labels.
  bool speaks(std::size_t row) const { return rows_.label(row) != kUnlabelled || !knows_normal_; }

  std::vector<float> gather(const std::vector<std::size_t>& chosen, const std::vector<std::uint32_t>& columns) const {
    std::vector<float> out;
    out.reserve(chosen.size() * columns.size());
    for (const std::size_t row : chosen) {
      const auto features = rows_.features(row);
      for (const std::uint32_t column : columns) out.push_back(features[column]);
    }
    return out;
  }

  LearnedModel frame(const DetectorSpec& spec, const std::vector<std::uint32_t>& columns, models::TreeEnsemble trees) {
    LearnedModel model{spec.kind, {}, {}, {}, {}, {}, std::move(trees)};
    const std::size_t step = held_from_ / kMedianRowsMax + 1;
    std::vector<float> values;
    for (const std::uint32_t column : columns) {
      model.columns.push_back(task_.columns[column].name);
      model.meanings.push_back(task_.columns[column].meaning);
      values.clear();
      for (std::size_t row = 0; row < held_from_; row += step) {
        const float value = rows_.features(row)[column];
        if (!std::isnan(value)) values.push_back(value);
      }
      if (values.empty()) {
        model.usual.push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
      std::nth_element(values.begin(), middle, values.end());
      model.usual.push_back(*middle);
    }
    return model;
  }

  Result<> train_detector(const DetectorSpec& spec) {
    const auto columns = models::columns_of(spec, task_.columns);
    if (columns.empty())
      return error(ErrorCode::kInvalidArgument, fmt::format("detector {}: no column to look at", spec.name));
    return spec.kind == DetectorKind::kForest ? train_forest(spec, columns) : train_boosted_trees(spec, columns);
  }

  Result<> train_forest(const DetectorSpec& spec, const std::vector<std::uint32_t>& columns) {
    progress("forest " + spec.name, 0);
    // A forest draws few rows a tree; more than this would only fill memory.
    models::RowReservoir normal(kForestRowsMax, columns.size(), options_.seed);
    std::vector<float> row_values(columns.size());
    for (std::size_t row = 0; row < held_from_; ++row) {
      if (rows_.is_anomalous(row)) continue;
      const auto features = rows_.features(row);
      for (std::size_t c = 0; c < columns.size(); ++c) row_values[c] = features[columns[c]];
      normal.add(row_values);
    }
    auto trees = models::IsolationForest::train(normal.rows(), columns.size(),
                                                {options_.forest_trees, options_.forest_rows, options_.seed});
    if (!trees) return error(trees.error().code, fmt::format("forest {}: {}", spec.name, trees.error().message));
    bundle_.models.emplace(spec.name, frame(spec, columns, std::move(*trees)));
    return {};
  }

  Result<> train_boosted_trees(const DetectorSpec& spec, const std::vector<std::uint32_t>& columns) {
    // Classes: 0 normal, then the labelled types, or one for all of them.
    std::map<Label, std::size_t> counts;
    for (std::size_t row = 0; row < held_from_; ++row) {
      if (rows_.is_anomalous(row)) ++counts[rows_.label(row)];
    }
    std::map<Label, std::uint32_t> class_of;
    std::vector<std::string> types;
    std::size_t anomalies = 0;
    for (const auto& [label, count] : counts) {
      if (spec.by_type && count < kAnomaliesMin) {
        notes_.push_back(fmt::format("{}: only {} labelled {}; at least {} are needed to learn a type", spec.name,
                                     count, type_name(label), kAnomaliesMin));
        continue;
      }
      anomalies += count;
      if (spec.by_type) types.push_back(type_name(label));
      class_of[label] = spec.by_type ? static_cast<std::uint32_t>(types.size()) : 1;
    }
    if (anomalies < kAnomaliesMin) {
      notes_.push_back(
          fmt::format("{}: not trained, it abstains: {} labelled anomalies before the held-out part; at "
                      "least {} are needed",
                      spec.name, anomalies, kAnomaliesMin));
      return {};
    }
    std::vector<std::size_t> chosen;
    std::vector<std::uint32_t> classes;
    std::vector<float> weights;
    const auto take = [&](std::size_t from, std::size_t to) {
      for (std::size_t row = from; row < to; ++row) {
        if (!speaks(row)) continue;
        std::uint32_t label = 0;
        if (rows_.is_anomalous(row)) {
          const auto found = class_of.find(rows_.label(row));
          if (found == class_of.end()) continue;
          label = found->second;
        }
        chosen.push_back(row);
        classes.push_back(label);
        weights.push_back(static_cast<float>(rows_.weight(row)));
      }
    };
    take(0, held_from_);
    const std::size_t fit_rows = chosen.size();
    take(held_from_, rows_.size());

    BoostedOptions how;
    how.classes = spec.by_type ? static_cast<std::uint32_t>(1 + types.size()) : 0;
    how.rounds_max = options_.rounds_max;
    how.row_share = 0.8;
    how.column_share = 0.8;
    how.learning_rate = kLearningRate;
    how.validation_share = static_cast<double>(chosen.size() - fit_rows) / static_cast<double>(chosen.size());
    how.seed = static_cast<std::uint32_t>(options_.seed);
    how.threads = options_.threads;
    how.progress = [&](const BoostedProgress& progress_now) {
      progress("boosted " + spec.name,
               static_cast<double>(progress_now.round) / static_cast<double>(progress_now.rounds_max));
      return true;
    };
    auto trained = train_boosted(gather(chosen, columns), columns.size(), classes, weights, how);
    if (!trained) return error(trained.error().code, fmt::format("boosted {}: {}", spec.name, trained.error().message));
    auto trees = with_margins(std::move(trained->trees));
    if (!trees) return std::unexpected(trees.error());
    LearnedModel model = frame(spec, columns, std::move(*trees));
    model.types = types;
    std::vector<double> shares(types.empty() ? 1 : types.size());
    double all = 0;
    for (std::size_t i = 0; i < fit_rows; ++i) {
      all += static_cast<double>(weights[i]);
      if (classes[i] > 0) shares[classes[i] - 1] += static_cast<double>(weights[i]);
    }
    for (const double share : shares) model.base_rates.push_back(share / all);
    bundle_.models.emplace(spec.name, std::move(model));
    return {};
  }

  std::string type_name(Label label) const {
    const std::size_t type = label - kFirstLabelType;
    return type < task_.label_types.size() ? task_.label_types[type] : fmt::format("type {}", type);
  }

  // From here on the rows' raw scores are what the engine will give with this bundle.
  Result<> score_learned() {
    auto scorer = models::LearnedScorer::create(bundle_, task_.detectors, task_.columns);
    if (!scorer) return std::unexpected(scorer.error());
    constexpr std::size_t kBlock = 4096;
    FeatureMatrix block;
    std::vector<std::uint32_t> order(kBlock);
    std::iota(order.begin(), order.end(), 0U);
    std::vector<float> raw;
    const std::size_t detectors = task_.detectors.size();
    for (std::size_t first = held_from_; first < rows_.size(); first += kBlock) {
      const std::size_t count = std::min(kBlock, rows_.size() - first);
      block.reset(count, rows_.columns());
      raw.assign(count * detectors, std::numeric_limits<float>::quiet_NaN());
      for (std::size_t i = 0; i < count; ++i) std::ranges::copy(rows_.features(first + i), block.row(i).begin());
      scorer->score(block, std::span(order).first(count), detectors, raw);
      for (std::size_t i = 0; i < count; ++i) {
        const auto to = rows_.raw(first + i);
        for (std::size_t d = 0; d < detectors; ++d) {
          if (models::is_learned(task_.detectors[d].kind)) to[d] = raw[i * detectors + d];
        }
      }
    }
    return {};
  }

  // Held-out rows that are not known to be anomalous go through a Decider as the stream would: first the detectors'
  // tails, then those of the votes.
  void calibrate() {
    std::vector<std::size_t> normal;
    std::uint64_t weighted = 0;
    for (std::size_t row = held_from_; row < rows_.size(); ++row) {
      if (rows_.is_anomalous(row)) continue;
      normal.push_back(row);
      weighted += rows_.weight(row);
    }
    decide::Decider::Options options = task_.decisions;
    options.calibrate_events = 2 * weighted;
    const std::size_t detectors = options.detectors.size();
    const std::size_t types = options.anomalies.size();
    std::vector<float> surprises(detectors);
    std::vector<decide::TypeVerdict> verdicts(types);
    std::vector<std::uint64_t> keys(types);
    const auto decide_row = [&](decide::Decider& decider, std::size_t row, std::int64_t shift_ms) {
      for (std::size_t t = 0; t < types; ++t) keys[t] = rows_.has_key(row, t) ? 1 : 0;
      decider.decide(rows_.time_ms(row) + shift_ms, rows_.raw(row), keys, surprises, verdicts);
    };
    const auto pass = [&](decide::Decider& decider, std::int64_t shift_ms) {
      std::int64_t last_ms = INT64_MIN;
      for (const std::size_t row : normal) {
        for (std::uint32_t i = 0; i < rows_.weight(row); ++i) decide_row(decider, row, shift_ms);
        last_ms = std::max(last_ms, rows_.time_ms(row) + shift_ms);
      }
      decider.tick(last_ms);
    };
    const std::int64_t span_ms = rows_.time_ms(rows_.size() - 1) - rows_.time_ms(held_from_);

    // The weights are learnt on the surprises, which do not depend on them.
    {
      decide::Decider decider(options);
      progress("calibration", 0);
      pass(decider, 0);
      learn_weights(options, [&](std::size_t row) -> const std::vector<float>& {
        decide_row(decider, row, 0);
        return surprises;
      });
    }
    decide::Decider decider(options);
    progress("calibration", 0.4);
    pass(decider, 0);
    pass(decider, span_ms + 1);
    CHECK(decider.frozen() || normal.empty());
    StateWriter writer(bundle_.calibration);
    decider.save(writer);
    measure(decider, options, decide_row, surprises, verdicts);
  }

  // Which labels speak for a type: those of its name; of all labels where no type has a label's name.
  bool labels_of(std::size_t type, std::size_t row) const {
    if (!rows_.is_anomalous(row)) return false;
    return !named_ || type_name(rows_.label(row)) == task_.decisions.anomalies[type].name;
  }

  template <typename Surprises>
  void learn_weights(decide::Decider::Options& options, Surprises surprises_of) {
    named_ = std::ranges::any_of(options.anomalies, [&](const auto& anomaly) {
      return std::ranges::find(task_.label_types, anomaly.name) != task_.label_types.end();
    });
    std::vector<VoteExamples> examples(options.anomalies.size());
    for (std::size_t row = held_from_; row < rows_.size(); ++row) {
      if (!speaks(row)) continue;
      const bool anomalous = rows_.is_anomalous(row);
      const auto& surprises = surprises_of(row);
      for (std::size_t t = 0; t < options.anomalies.size(); ++t) {
        if (!rows_.has_key(row, t) || (anomalous && !labels_of(t, row))) continue;
        for (const auto& vote : options.anomalies[t].votes) examples[t].surprises.push_back(surprises[vote.detector]);
        examples[t].positive.push_back(anomalous ? 1 : 0);
      }
    }
    for (std::size_t t = 0; t < options.anomalies.size(); ++t) {
      auto& anomaly = options.anomalies[t];
      const auto positives = static_cast<std::size_t>(std::ranges::count(examples[t].positive, 1));
      if (anomaly.votes.size() < 2 || positives < kAnomaliesToWeighMin) continue;
      const auto weights = learn_vote_weights(examples[t], anomaly.votes.size());
      std::vector<decide::VoteSpec> votes;
      for (std::size_t v = 0; v < weights.size(); ++v) {
        const std::string& detector = task_.detectors[anomaly.votes[v].detector].name;
        bundle_.votes.push_back({anomaly.name, detector, weights[v]});
        if (weights[v] > 0) votes.push_back({anomaly.votes[v].detector, weights[v]});
      }
      anomaly.votes = std::move(votes);
      anomaly.weights_learnt = true;
    }
  }

  template <typename DecideRow>
  void measure(decide::Decider& decider, const decide::Decider::Options& options, DecideRow decide_row,
               const std::vector<float>& surprises, const std::vector<decide::TypeVerdict>& verdicts) {
    const std::size_t detectors = options.detectors.size();
    std::vector<std::vector<float>> columns(detectors + 1);
    std::vector<std::uint8_t> positive;
    std::uint64_t fired_normal = 0, normal = 0, fired_anomalous = 0;
    for (std::size_t row = held_from_; row < rows_.size(); ++row) {
      decide_row(decider, row, 0);
      float ensemble = std::numeric_limits<float>::quiet_NaN();
      bool fired = false;
      for (const auto& verdict : verdicts) {
        if (!std::isnan(verdict.score) && !(ensemble >= verdict.surprise)) ensemble = verdict.surprise;
        fired = fired || verdict.fired;
      }
      const bool anomalous = rows_.is_anomalous(row);
      if (!anomalous) {
        normal += rows_.weight(row);
        fired_normal += fired ? rows_.weight(row) : 0;
      } else {
        fired_anomalous += fired ? 1 : 0;
      }
      if (!speaks(row)) continue;
      for (std::size_t d = 0; d < detectors; ++d) columns[d].push_back(surprises[d]);
      columns[detectors].push_back(ensemble);
      positive.push_back(anomalous ? 1 : 0);
    }
    if (normal > 0)
      bundle_.metrics["fired_share_of_normal"] = static_cast<double>(fired_normal) / static_cast<double>(normal);
    const auto positives = std::ranges::count(positive, 1);
    if (positives == 0) return;
    bundle_.metrics["fired_share_of_anomalous"] = static_cast<double>(fired_anomalous) / static_cast<double>(positives);
    for (std::size_t d = 0; d <= detectors; ++d) {
      const std::string name = d < detectors ? task_.detectors[d].name : "ensemble";
      const auto curves = evaluate::compute_curves(columns[d], positive, {.resamples = 0});
      bundle_.metrics[name + ".pr_auc"] = curves.pr_auc;
      bundle_.metrics[name + ".tpr_at_0.3%"] = curves.at_fpr[evaluate::kMainFpr].tpr;
    }
  }

  void describe() {
    const models::Bundle::Trained& t = bundle_.trained;
    std::string card = fmt::format(
        "# Model card: {}\n\n"
        "Trained on {} events from {} to {}, of which {} carried a label and {} were labelled anomalous.\n"
        "Models saw those before {}; the later ones calibrated the tail probabilities and thresholds.\n"
        "Seed {}. Scores are comparable only between events of this pipeline, measured with the same features.\n\n",
        task_.pipeline, t.events, format_iso_time(t.first_ms), format_iso_time(t.last_ms), t.labelled, t.anomalous,
        format_iso_time(t.held_out_from_ms), t.seed);
    card += "| model | kind | trees | columns | types |\n|---|---|---|---|---|\n";
    for (const auto& [name, model] : bundle_.models) {
      card += fmt::format("| {} | {} | {} | {} | {} |\n", name,
                          model.kind == DetectorKind::kForest ? "isolation forest" : "boosted trees",
                          model.trees.trees(), model.columns.size(), fmt::join(model.types, ", "));
    }
    card +=
        "\nOn the held-out part (early stopping and the weights of votes saw it too, so the future will be "
        "harder):\n\n";
    card += "| figure | value |\n|---|---|\n";
    for (const auto& [name, value] : bundle_.metrics) card += fmt::format("| {} | {:.4g} |\n", name, value);
    for (const std::string& note : notes_) card += fmt::format("\nNote: {}\n", note);
    bundle_.card = std::move(card);
  }

  const TrainingTask& task_;
  TrainingRows& rows_;
  const TrainingOptions& options_;
  std::vector<std::string>& notes_;
  models::Bundle bundle_;
  std::size_t held_from_ = 0;
  bool knows_normal_ = false;
  bool named_ = false;
};

}  // namespace

Result<models::Bundle> train(const TrainingTask& task, TrainingRows& rows, const TrainingOptions& options,
                             std::vector<std::string>& notes) {
  return Trainer(task, rows, options, notes).run();
}

}  // namespace alcedo::training
