// A model file is bytes from somewhere: what does not fit in name, shape or number is refused with its name.
#include "models/transformer_weights.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "models/test_sequences.h"

namespace alcedo::models {
namespace {

using testing::plan_with_bins;

TEST(TransformerWeightsTest, WrittenAndReadTheyAreTheSame) {
  for (const bool with_label : {false, true}) {
    const auto weights = TransformerWeights::random(plan_with_bins({16, 3, 32}), 1, with_label);
    const std::string bytes = weights.to_file().serialize();
    const auto read = TransformerWeights::from_file(*TensorFile::parse(bytes, "model"));
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_EQ(read->plan.fingerprint(), weights.plan.fingerprint());
    EXPECT_EQ(read->label.size(), with_label ? 32U : 0U);
    EXPECT_EQ(read->to_file().serialize(), bytes);
  }
}

TEST(TransformerWeightsTest, RefusesAFileThatIsNoModel) {
  const auto weights = TransformerWeights::random(plan_with_bins({16, 3, 32}), 1, true);
  const auto refused = [&](const std::function<void(TensorFile&)>& damage, const std::string& what) {
    TensorFile file = weights.to_file();
    damage(file);
    const auto read = TransformerWeights::from_file(file);
    ASSERT_FALSE(read.has_value()) << what;
    EXPECT_NE(read.error().message.find(what), std::string::npos) << read.error().message;
  };
  refused([](TensorFile& f) { f.put_text("alcedo.kind", "forest 1"); }, "forest 1");
  refused([](TensorFile& f) { f = TensorFile(); }, "alcedo.kind");
  refused([](TensorFile& f) { f.put_text("plan.columns", "a\n"); }, "plan");
  refused([](TensorFile& f) { f.put_text("plan.columns", "a\na\n"); }, "name of its own");
  refused([](TensorFile& f) { f.put_text("plan.columns", "a\nb\nc\n"); }, "plan");
  refused([](TensorFile& f) { f.put<std::int32_t>("plan.edge_counts", {3}, std::vector<std::int32_t>{14, -1, 32}); },
          "plan");
  refused([](TensorFile& f) { f.put<std::int32_t>("plan.edge_counts", {3}, std::vector<std::int32_t>{14, 1, 1000}); },
          "plan");
  refused([](TensorFile& f) { f.put<std::int32_t>("plan.edge_counts", {0}, std::vector<std::int32_t>{}); }, "plan");
  refused([](TensorFile& f) { f.put<float>("plan.edges", {45}, std::vector<float>(45, 1.0F)); }, "ascend");
  refused([](TensorFile& f) { f.put<float>("start", {31}, std::vector<float>(31, 0.0F)); }, "start");
  refused([](TensorFile& f) { f.put<double>("start", {32}, std::vector<double>(32, 0.0)); }, "start");
  refused([](TensorFile& f) { f.put<float>("label.bias", {2}, std::vector<float>(2, 0.0F)); }, "label.bias");
  refused([](TensorFile& f) { f.put<float>("layers.1.norm2.bias", {32}, std::vector<float>(32, 2e6F)); },
          "layers.1.norm2.bias");
  TransformerWeights::for_each(
      weights, [&](const std::string& name, const std::vector<std::uint64_t>& shape, const auto& values) {
        for (const float hostile : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
          auto changed = values;
          changed.back() = hostile;
          refused([&](TensorFile& f) { f.template put<float>(name, shape, changed); }, name);
        }
        if (shape.size() == 2 && shape[0] != shape[1]) {
          refused([&](TensorFile& f) { f.template put<float>(name, {shape[1], shape[0]}, values); }, name);
        }
      });
}

TEST(TransformerWeightsTest, RefusesAFileThatLacksATensor) {
  const auto weights = TransformerWeights::random(plan_with_bins({16, 3, 32}), 1, true);
  const TensorFile whole = weights.to_file();
  for (const auto& [missing, ignored] : whole.tensors()) {
    TensorFile file;
    for (const auto& [name, text] : whole.texts()) file.put_text(name, text);
    for (const auto& [name, tensor] : whole.tensors()) {
      if (name != missing) file.put(name, tensor.type, tensor.shape, tensor.data);
    }
    const auto read = TransformerWeights::from_file(file);
    // Without the weights of a label head there is none.
    ASSERT_EQ(read.has_value(), missing == "label.weight") << missing;
    if (!read) {
      EXPECT_NE(read.error().message.find(missing), std::string::npos) << read.error().message;
    }
  }
}

}  // namespace
}  // namespace alcedo::models
