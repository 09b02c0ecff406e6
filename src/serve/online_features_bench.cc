// What an answer costs without the network: 40 features of one entity, as bench/feature_reads.py asks for them.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "core/check.h"
#include "serve/online_features.h"

namespace {

using namespace alcedo;

void answer_forty_features(benchmark::State& state) {
  features::FeatureOptions options;
  options.layout.numbers = {{"amount", false}};
  options.layout.keys = {"card"};
  features::FeatureSpec spend;
  spend.name = "spend";
  spend.number = 0;
  spend.key = 0;
  spend.stats = {features::Stat::kCount, features::Stat::kSum, features::Stat::kMean,
                 features::Stat::kStd,   features::Stat::kMin, features::Stat::kMax};
  spend.windows_ms = {60'000, 300'000, 600'000, 900'000, 1'800'000, 3'600'000, 7'200'000};
  options.features = {spend};
  const auto plan = features::FeaturePlan::compile(options);
  CHECK(plan.has_value());
  features::VectorStore store(*plan);
  EventBatch batch(options.layout);
  batch.reset(1, 1);
  batch.keys(0)[0] = make_key("c1");
  batch.header(0).time_ms = 1'700'000'000'000;
  FeatureMatrix matrix;
  matrix.reset(1, plan->columns().size());
  float value = 1.1F;
  for (float& column : matrix.row(0)) column = value *= 1.3F;
  const std::uint32_t row = 0;
  store.write(0, batch, {&row, 1}, matrix);
  serve::ServedPipeline pipeline;
  pipeline.name = "payments";
  pipeline.plan = &*plan;
  pipeline.vectors = &store;
  pipeline.keys = {{"card", "", false, false}};
  serve::OnlineFeatures features({pipeline});
  std::string names;
  for (std::size_t i = 0; i < 40; ++i) {
    names += fmt::format(R"({}"spend:{}")", i == 0 ? "" : ", ", plan->columns()[i].name.substr(6));
  }
  const std::string body =
      fmt::format(R"({{"features": [{}], "full_feature_names": true, "entities": {{"card": ["c1"]}}}})", names);
  for (auto _ : state) {
    auto answer = features.answer(body, 0);
    CHECK(answer.status == 200);
    benchmark::DoNotOptimize(answer);
  }
}
BENCHMARK(answer_forty_features);

void write_a_vector(benchmark::State& state) {
  features::FeatureOptions options;
  options.layout.keys = {"card"};
  features::FeatureSpec pace;
  pace.name = "pace";
  pace.kind = features::FeatureKind::kVelocity;
  pace.key = 0;
  for (int i = 1; i <= 20; ++i) pace.windows_ms.push_back(i * 60'000);
  options.features = {pace};
  const auto plan = features::FeaturePlan::compile(options);
  CHECK(plan.has_value());
  features::VectorStore store(*plan);
  constexpr std::size_t kRows = 100'000;
  EventBatch batch(options.layout);
  batch.reset(kRows, 1);
  FeatureMatrix matrix;
  matrix.reset(kRows, plan->columns().size());
  std::vector<std::uint32_t> rows(kRows);
  for (std::uint32_t r = 0; r < kRows; ++r) {
    rows[r] = r;
    batch.header(r).time_ms = 1;
    batch.keys(r)[0] = make_key(batch.arena(0).copy(fmt::format("card{}", r * 7919 % kRows)));
  }
  store.write(0, batch, rows, matrix);
  for (auto _ : state) store.write(0, batch, rows, matrix);
  state.SetItemsProcessed(static_cast<std::int64_t>(kRows * state.iterations()));
}
BENCHMARK(write_a_vector)->Unit(benchmark::kMillisecond);

}  // namespace
