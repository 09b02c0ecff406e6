// The pipeline language: one YAML file that says everything about one stream, read with all its mistakes reported at
// once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alert/route.h"
#include "contract/events_spec.h"
#include "core/result.h"
#include "core/time.h"
#include "decide/anomaly.h"
#include "features/plan.h"
#include "models/bundle.h"
#include "models/detector.h"

namespace alcedo::pipeline {

/// One mistake in a pipeline file.
struct Mistake {
  int line = 0;         // from 1
  int column = 0;       // from 1
  std::string message;  // what is wrong, what was expected, the nearest valid name
};

/// How labels reach the events: the `labels:` section (the command line's --labels overrides `from`).
struct LabelsSpec {
  std::string from;        // URI or path; "field:NAME" means a column of the events themselves; empty: none
  std::string join;        // the events' field that the file's `join` column names
  std::string type_field;  // column with the type
  bool complete = false;   // what is not labelled is normal
  // Features learn an event's label so long after the event; unset: only `evaluate` reads labels.
  std::optional<std::int64_t> delay_ms;
  std::string known_field;             // of a file: its column with the time at which a label became known
  std::int64_t keep_ms = 30 * kDayMs;  // of a file: an event is remembered so long for its label

  bool in_file() const { return !from.empty() && !from.starts_with("field:"); }
};

struct ScoreSpec {
  std::uint32_t by = 0;  // key slot
};

/// A pipeline as its file says it, names resolved to slots. Everything else is made from this.
struct Pipeline {
  std::string path;
  std::string name;
  contract::EventsSpec events;  // keys: one slot an entity, then one "ENTITY/currency" a money-keyed entity
  LabelsSpec labels;
  std::vector<std::string> entities;  // names, in key slot order; money slots follow and are not listed
  ScoreSpec score;
  features::FeatureOptions features;  // layout, features, and the deviations that the detectors ask for
  std::vector<models::DetectorSpec> detectors;
  std::vector<decide::AnomalySpec> anomalies;
  std::vector<alert::RouteSpec> routes;
  std::string bundle_path;                       // `models: {live: …}`, or "bundle" beside the file
  std::shared_ptr<const models::Bundle> bundle;  // once attach_bundle() has loaded it
  std::uint64_t calibrate_events = 20'000;       // scores until the sketches freeze
  double rate_max = 0;                           // caps the sum of all types' rates; 0: no cap
  std::uint64_t duplicates = 1'000'000;          // horizon, in events, within which an id seen again is dropped; 0: off
};

struct LoadedPipeline {
  Pipeline pipeline;              // usable only if mistakes is empty
  std::vector<Mistake> mistakes;  // in file order
  std::string text;               // the file's, for format_mistakes
};

/// Reads and checks a pipeline. Paths inside are relative to the file. `path` may be the folder.
/// Errors: kNotFound or kIo if the file itself cannot be read; everything in it is a Mistake.
Result<LoadedPipeline> load_pipeline(const std::string& path);

/// The same for text; `path` is for messages and relative files.
LoadedPipeline parse_pipeline(std::string_view yaml, const std::string& path);

/// "FILE:LINE:COLUMN: message" a mistake, each followed by the line and a caret.
std::string format_mistakes(const std::string& path, std::string_view yaml, const std::vector<Mistake>& mistakes);

}  // namespace alcedo::pipeline
