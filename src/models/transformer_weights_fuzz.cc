// Fuzzes model files of transformers: whatever reads as one must score tokens with finite numbers, and be written as it
// was read.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/check.h"
#include "models/test_sequences.h"
#include "models/transformer.h"
#include "models/transformer_cache.h"
#include "models/transformer_weights.h"

// The input is edits of a whole model, five bytes each: a model is too large to be found byte by byte.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace alcedo::models;
  static const std::string kWhole =
      TransformerWeights::random(testing::plan_with_bins({4, 20, 3}), 1, true).to_file().serialize();
  std::string bytes = kWhole;
  for (std::size_t i = 0; i + 5 <= size; i += 5) {
    std::uint32_t at;
    std::memcpy(&at, data + i, sizeof at);
    // Half of the edits go to the header, where lengths and names are.
    const std::size_t range = (at & 1U) != 0 ? 4096 : bytes.size();
    bytes[(at >> 1U) % range] = static_cast<char>(data[i + 4]);
  }
  const auto file = TensorFile::parse(bytes, "fuzz");
  if (!file) return 0;
  const auto weights = TransformerWeights::from_file(*file);
  if (!weights) return 0;
  const auto again = TransformerWeights::from_file(weights->to_file());
  CHECK(again.has_value() && again->to_file().serialize() == weights->to_file().serialize());
  const auto model = Transformer::create(*weights, {});
  CHECK(model.has_value());
  auto cache = TransformerCache::create(*model, 100'000);
  CHECK(cache.has_value());
  const auto tokens = testing::random_tokens(model->plan(), 40, 1);
  testing::OwnedHistory history(model->plan().fields());
  for (std::size_t i = 0; i < 40; ++i) {
    TransformerCache::Visit visit{1, history.view(),
                                  std::span(tokens).subspan(i * history.view().fields(), history.view().fields()), 1};
    cache->step(std::span(&visit, 1));
    CHECK(std::isfinite(visit.score.surprise));
    CHECK(std::isnan(visit.score.label_logit) == !model->has_label());
  }
  return 0;
}
