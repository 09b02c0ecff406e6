// alcedo check: reads pipelines and shows the plan that they compile to.
#include <fmt/format.h>

#include "commands.h"
#include "contract/decoder.h"
#include "core/json.h"
#include "core/time.h"
#include "features/plan.h"
#include "pipeline/check_state.h"
#include "pipeline/pipeline_bundle.h"
#include "terminal.h"

namespace alcedo::cli {
namespace {

std::string describe(const decide::FireRule& fire) {
  switch (fire.kind) {
    case decide::FireRule::Kind::kThreshold:
      return fmt::format("score >= {}", fire.value);
    case decide::FireRule::Kind::kRate:
      return fmt::format("{:.3g} % of normal events", 100 * fire.value);
    case decide::FireRule::Kind::kBudget:
      return fmt::format("{:g} events a day", fire.value);
    case decide::FireRule::Kind::kAlways:
      return "always";
  }
  return "";
}

/// Prints what would become of the state in `data`.
bool check_state_of(const pipeline::Pipeline& pipeline, const std::string& data, bool json) {
  const auto checked = pipeline::check_state(pipeline, data);
  if (!checked) {
    complain(checked.error().message);
    return false;
  }
  if (json) {
    JsonWriter out;
    out.begin_object().field("pipeline", pipeline.name).field("directory", checked->directory);
    out.field("checkpoint", checked->epoch).field("events", checked->events);
    out.key("damaged").begin_array();
    for (const auto& refused : checked->refused) out.value(refused);
    out.end_array().key("stages").begin_array();
    for (const auto& stage : checked->stages) {
      out.begin_object().field("key", stage.key).field("dropped", stage.dropped).key("features").begin_object();
      for (const auto& feature : stage.report.features) out.field(feature.name, to_string(feature.fate));
      out.end_object().end_object();
    }
    for (const auto& key : checked->new_keys) out.begin_object().field("key", key).field("new", true).end_object();
    out.end_array().end_object();
    fmt::print("{}\n", out.text());
    return true;
  }
  if (checked->epoch == 0) {
    fmt::print("  state        {}: no checkpoint yet\n", checked->directory);
    return true;
  }
  fmt::print("  state        {}: checkpoint {}, after {}\n", checked->directory, checked->epoch,
             counted(checked->events, "event"));
  for (const auto& refused : checked->refused) fmt::print("    {}\n", refused);
  for (const auto& stage : checked->stages) {
    fmt::print("    {:24} {}\n", stage.key,
               stage.dropped ? "dropped: no feature is of this entity any more" : features::describe(stage.report));
  }
  for (const auto& key : checked->new_keys) fmt::print("    {:24} begins anew: the checkpoint does not know it\n", key);
  return true;
}

bool check_one(const std::string& path, const std::string& state, bool json) {
  const auto pipeline = load_or_report(path);
  if (!pipeline) return false;
  const auto plan = features::FeaturePlan::compile(pipeline->features);
  if (!plan) {
    complain(fmt::format("{}: {}", path, plan.error().message));
    return false;
  }
  if (const auto mistake = pipeline::learned_mistake(*pipeline, *plan); !mistake.empty()) {
    complain(fmt::format("{}: {}", path, mistake));
    return false;
  }
  if (auto decoder = contract::Decoder::create(pipeline->events, {}); !decoder) {
    complain(decoder.error().message);
    return false;
  }
  std::size_t bytes = 0;
  for (std::size_t s = 0; s < plan->stages().size(); ++s) bytes += plan->state_bytes_per_entity(s);
  if (json && !state.empty()) return check_state_of(*pipeline, state, true);
  if (json) {
    JsonWriter out;
    out.begin_object().field("pipeline", pipeline->name).field("path", pipeline->path);
    out.key("columns").begin_array();
    for (const auto& column : plan->columns()) out.value(column.name);
    out.end_array().key("detectors").begin_array();
    for (const auto& detector : pipeline->detectors) out.value(detector.name);
    out.end_array().key("anomalies").begin_array();
    for (const auto& anomaly : pipeline->anomalies) out.value(anomaly.name);
    out.end_array().end_object();
    fmt::print("{}\n", out.text());
    return true;
  }
  const auto& keys = pipeline->features.layout.keys;
  fmt::print("pipeline {} ({})\n", pipeline->name, pipeline->path);
  fmt::print("  entities   ");
  for (const auto& name : pipeline->entities) fmt::print(" {}", name);
  fmt::print("\n  stages\n");
  for (std::size_t s = 0; s < plan->stages().size(); ++s) {
    fmt::print("    {:24} about {} bytes an entity\n", keys[plan->stages()[s]], plan->state_bytes_per_entity(s));
  }
  fmt::print("  features     {} columns\n", plan->columns().size());
  for (std::size_t f = 0; f < plan->options().features.size(); ++f) {
    fmt::print("    {:16}", plan->options().features[f].name);
    for (const auto& column : plan->columns()) {
      if (column.feature == f) fmt::print(" {}", column.name.substr(column.name.find('.') + 1));
    }
    fmt::print("\n");
  }
  fmt::print("  detectors\n");
  for (const auto& detector : pipeline->detectors) {
    fmt::print("    {:16} {}", detector.name, to_string(detector.kind));
    for (const auto& feature : detector.features) fmt::print(" {}", feature);
    if (detector.kind == models::DetectorKind::kAbsent) fmt::print(" {}", format_duration(detector.absent_ms));
    fmt::print("\n");
  }
  if (pipeline->bundle) {
    const auto& bundle = *pipeline->bundle;
    fmt::print("  bundle       {} (version {}), trained on {} until {}\n", bundle.directory, bundle.version,
               counted(bundle.trained.events, "event"), format_iso_time(bundle.trained.last_ms));
  }
  fmt::print("  anomalies\n");
  for (const auto& anomaly : pipeline->anomalies) {
    fmt::print("    {:20} by {}, fires {}, impact {}, votes", anomaly.name, keys[anomaly.by], describe(anomaly.fire),
               to_string(anomaly.impact));
    for (const auto& vote : anomaly.votes)
      fmt::print(" {} x {:g}", pipeline->detectors[vote.detector].name, vote.weight);
    fmt::print("\n");
  }
  fmt::print("  routes\n");
  for (const auto& route : pipeline->routes) {
    fmt::print("    {:16} {}{}\n", route.name, route.kind == alert::RouteSpec::Kind::kPagerDuty ? "PagerDuty" : "file",
               route.is_default ? ", default" : "");
  }
  if (!state.empty() && !check_state_of(*pipeline, state, false)) return false;
  fmt::print("no mistakes\n");
  return true;
}

}  // namespace

void add_check(CLI::App& app, int& exit_code) {
  auto* command =
      app.add_subcommand("check", "Read pipelines, say all their mistakes at once, and show what they compile to");
  auto paths = std::make_shared<std::vector<std::string>>();
  auto json = std::make_shared<bool>(false);
  command->add_option("PIPELINE", *paths, "pipeline.yaml, or the folder that holds it")->required();
  auto state = std::make_shared<std::string>();
  command->add_option(
      "--state", *state,
      "--data directory of `alcedo run`: say what of its state is kept, added and reset; changes nothing");
  command->add_flag("--json", *json, "print one JSON object a pipeline; with --state, of its state");
  command->footer(
      "Examples:\n"
      "  alcedo check pipelines/payments pipelines/infrastructure\n"
      "  alcedo check pipelines/payments --state alcedo-data");
  command->callback([=, &exit_code] {
    for (const auto& path : *paths) {
      if (!check_one(path, *state, *json)) exit_code = kUsage;
    }
  });
}

}  // namespace alcedo::cli
