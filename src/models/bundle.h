// A trained bundle: a directory that says what is in it and proves it, so that what scores is what was trained.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "models/learned_model.h"

namespace alcedo::models {

/// manifest.json beside the files that it names, each with its SHA-256. No code, nothing that is run.
///
///   NAME.safetensors   a LearnedModel, by the detector's name
///   calibration.state  what decide::Decider::save() wrote: tail probabilities and thresholds
///   card.md            for people
///
/// Threads  immutable once loaded.
struct Bundle {
  static constexpr std::string_view kManifest = "manifest.json";
  static constexpr std::string_view kCalibration = "calibration.state";
  static constexpr std::string_view kCard = "card.md";
  static constexpr int kFormat = 1;

  struct Trained {
    std::uint64_t events = 0;  // rows that training saw
    std::uint64_t labelled = 0;
    std::uint64_t anomalous = 0;
    std::int64_t first_ms = 0, last_ms = 0;  // event time
    std::int64_t held_out_from_ms = 0;       // what comes later calibrated
    std::uint64_t seed = 0;
  };
  struct Vote {
    std::string anomaly;
    std::string detector;
    double weight = 0;
  };

  std::string directory;  // where it was loaded from; for messages
  std::string pipeline;
  std::string version;          // 16 hex digits of what it holds
  std::uint64_t plan_hash = 0;  // of the features that it was trained on
  Trained trained;
  std::vector<Vote> votes;                // weights learnt from labels; empty: the pipeline's own
  std::map<std::string, double> metrics;  // of the held-out part
  std::map<std::string, LearnedModel, std::less<>> models;
  std::string calibration;  // empty: it calibrates on the stream
  std::string card;

  /// Whether write() would take the directory: it is not there, is empty, or is a bundle. Errors: kInvalidArgument.
  static Result<> check_place(const std::string& to_directory);

  /// Writes a directory that must not exist or be a bundle; sets `version`. Files first, the manifest last, all synced.
  /// Errors: kInvalidArgument: something else is there; kIo.
  Result<> write(const std::string& to_directory);

  /// Reads and verifies everything. Errors: kNotFound: no manifest; kCorrupt, naming the file: another format, a file
  /// that is missing, is no regular file, or is not what the manifest says; a name that leaves the directory; a model
  /// that does not hold together.
  static Result<Bundle> load(const std::string& from_directory);
};

}  // namespace alcedo::models
