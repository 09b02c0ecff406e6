// What must hold for any bytes that come as the state of decisions: the fuzzer, the replay of its corpus and the tests
// ask the same questions.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/prng.h"
#include "decide/decider.h"
#include "decide/incident_folder.h"
#include "decide/silence.h"

namespace alcedo::decide {

namespace testing {

/// Four types of all kinds of rule over three detectors; calibration ends early.
inline Decider::Options state_options() {
  const auto type = [](std::string name, std::vector<VoteSpec> votes, FireRule fire, std::int64_t for_ms = 0) {
    AnomalySpec anomaly;
    anomaly.name = std::move(name);
    anomaly.votes = std::move(votes);
    anomaly.fire = fire;
    anomaly.for_ms = for_ms;
    anomaly.quiet_ms = 5000;
    return anomaly;
  };
  return {{type("takeover", {{0, 1}, {2, 3}}, {FireRule::Kind::kRate, 0.05}),
           type("testing", {{0, 1}, {1, 1}, {2, 0.5}}, {FireRule::Kind::kBudget, 20'000}),
           type("stuck", {{1, 2}}, {FireRule::Kind::kThreshold, 0.6}, 700),
           type("rule", {{2, 1}}, {FireRule::Kind::kAlways})},
          {{"habit_z", 11}, {"spend_iqr", 12}, {"fan_z", 13}},
          1200,
          0.06,
          {"card", "card", "device", "card"}};
}

inline IncidentFolder::Names state_names() { return {"payments", {"card", "card", "device", "card"}}; }

template <typename T>
std::string saved(const T& state) {
  std::string bytes;
  StateWriter writer(bytes);
  state.save(writer);
  return bytes;
}

template <typename T>
bool loaded(T& state, std::string_view bytes) {
  StateReader reader(bytes);
  state.load(reader);
  return reader.complete();
}

/// One event of a random stream for state_options(): everything that a verdict can depend on.
struct StateEvent {
  std::int64_t time_ms = 0;
  std::array<float, 3> raw{};
  std::array<std::uint64_t, 4> keys{};
};

inline StateEvent state_event(Prng& random, std::int64_t time_ms) {
  StateEvent event;
  event.time_ms = time_ms - static_cast<std::int64_t>(random.below(300));
  for (float& raw : event.raw) {
    raw = random.below(5) == 0   ? std::numeric_limits<float>::quiet_NaN()
          : random.below(6) == 0 ? 0.0F
                                 : static_cast<float>(random.exponential() * (random.below(40) == 0 ? 9 : 1));
  }
  for (std::uint64_t& key : event.keys) key = random.below(8);  // 0: no such entity
  return event;
}

}  // namespace testing

/// Returns how many of the four kinds of state took the bytes. Those work on, and can be saved and loaded again with
/// the same bytes.
inline int check_decide_state(std::string_view bytes) {
  const auto options = testing::state_options();
  int accepted = 0;
  // Only a refused sketch is thrown away; the others must be fit to work on.
  if (TailSketch sketch; testing::loaded(sketch, bytes)) {
    ++accepted;
    TailSketch again;
    CHECK(testing::loaded(again, testing::saved(sketch)));
    CHECK(testing::saved(again) == testing::saved(sketch));
    for (int i = 0; i < 50; ++i) {
      sketch.add(static_cast<float>(i));
      again.add(static_cast<float>(i));
      CHECK(sketch.surprise(static_cast<float>(i) / 3) == again.surprise(static_cast<float>(i) / 3));
    }
    sketch.publish(true);
    again.fade(2);
  }
  if (Decider decider(options); !testing::loaded(decider, bytes)) {
    // What goes on after its end was taken over; all else has left no trace.
    Decider again(options);
    CHECK(testing::loaded(again, testing::saved(decider)));
  } else {
    ++accepted;
    Decider again(options);
    CHECK(testing::loaded(again, testing::saved(decider)));
    CHECK(testing::saved(again) == testing::saved(decider));
    Prng random(1);
    std::array<float, 3> surprises{};
    std::array<TypeVerdict, 4> verdicts{};
    for (int i = 0; i < 10; ++i) {
      const auto event = testing::state_event(random, 1000 * i);
      decider.decide(event.time_ms, event.raw, event.keys, surprises, verdicts);
    }
    decider.tick(9000);
  }
  {
    IncidentFolder folder(testing::state_names(), options.anomalies);
    const bool complete = testing::loaded(folder, bytes);
    IncidentFolder again(testing::state_names(), options.anomalies);
    CHECK(testing::loaded(again, testing::saved(folder)));
    CHECK(testing::saved(again) == testing::saved(folder));
    if (complete) ++accepted;
    std::vector<IncidentChange> changes;
    Evidence evidence;
    evidence.key = "k1";
    evidence.score = 2;
    folder.add(evidence, [] { return Explanation{}; }, changes);
    for (std::uint32_t type = 0; type < 4; ++type) folder.unpin(type);
    folder.tick({1, 0}, StateReader::kTimeLimitMs * 2, changes);
    CHECK(folder.open() == 0 && !changes.empty());
  }
  {
    SilenceWatch watch(2000, 9000);
    const bool complete = testing::loaded(watch, bytes);
    SilenceWatch again(2000, 9000);
    CHECK(testing::loaded(again, testing::saved(watch)));
    CHECK(testing::saved(again) == testing::saved(watch));
    if (complete) ++accepted;
    watch.seen(1, "k1", "", 5000);
    std::vector<SilenceWatch::Silent> alarms, forgotten;
    watch.tick(StateReader::kTimeLimitMs * 2, alarms, forgotten);
    CHECK(watch.entities() == 0 && !forgotten.empty());
  }
  return accepted;
}

}  // namespace alcedo::decide
