// What goes into a tensor file comes out, others read it, and a hostile one is refused by name.
#include "models/tensor_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "models/tensor_file_invariants.h"

namespace alcedo::models {
namespace {

using ::testing::HasSubstr;

std::string with_header(std::string_view header, std::string_view data = "") {
  const std::uint64_t size = header.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  return bytes.append(header).append(data);
}

std::string refusal(const std::string& bytes) {
  const auto file = TensorFile::parse(bytes, "x");
  if (file) return "accepted";
  EXPECT_EQ(file.error().code, ErrorCode::kCorrupt);
  return file.error().message;
}

TEST(TensorFileTest, GivesBackWhatWasPut) {
  TensorFile file;
  const std::vector<float> weights = {1, 2, 3, 4, 5, -0.5F};
  const std::vector<double> bias = {0.1};
  const std::vector<std::uint8_t> flags = {1, 0, 255};
  file.put<float>("layer.weight", {2, 3}, weights);
  file.put<double>("bias", {}, bias);
  file.put<std::uint8_t>("flags", {3}, flags);
  file.put<std::int32_t>("none", {0, 7}, {});
  file.put_text("kind", "say \"so\"\n\xC3\xA4");
  const std::string bytes = file.serialize();
  const auto read = TensorFile::parse(bytes, "x");
  ASSERT_TRUE(read) << read.error().message;
  const std::uint64_t shape[] = {2, TensorFile::kAnySize};
  const auto got = read->get<float>("layer.weight", shape);
  ASSERT_TRUE(got);
  EXPECT_THAT(*got, ::testing::ElementsAreArray(weights));
  EXPECT_EQ((*read->get<double>("bias", {}))[0], 0.1);
  const std::uint64_t three[] = {3};
  EXPECT_THAT(*read->get<std::uint8_t>("flags", three), ::testing::ElementsAreArray(flags));
  const std::uint64_t none[] = {0, 7};
  EXPECT_TRUE(read->get<std::int32_t>("none", none)->empty());
  EXPECT_EQ(*read->text("kind"), "say \"so\"\n\xC3\xA4");
  EXPECT_EQ(read->serialize(), bytes);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0U) << "data is aligned";
}

TEST(TensorFileTest, IsTheFormatThatOthersWrite) {
  // As the reference implementation writes {"a": float32 [1.5, -2]} with metadata {"format": "pt"}.
  const float values[] = {1.5F, -2};
  const std::string bytes =
      with_header(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}      )",
                  {reinterpret_cast<const char*>(values), 8});
  const auto file = TensorFile::parse(bytes, "x");
  ASSERT_TRUE(file) << file.error().message;
  const std::uint64_t two[] = {2};
  EXPECT_THAT(*file->get<float>("a", two), ::testing::ElementsAre(1.5F, -2));
  EXPECT_EQ(*file->text("format"), "pt");
}

TEST(TensorFileTest, RefusesWhatIsWrongByName) {
  const auto one = [](std::string_view fields, std::size_t bytes) {
    return refusal(with_header("{\"a\":{" + std::string(fields) + "}}", std::string(bytes, '\0')));
  };
  EXPECT_EQ(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])", 8), "accepted");
  EXPECT_THAT(refusal("1234"), HasSubstr("shorter than 8"));
  EXPECT_THAT(refusal(std::string(8, '\xFF')), HasSubstr("a header of 18446744073709551615 bytes"));
  EXPECT_THAT(refusal(with_header("{}").substr(0, 9)), HasSubstr("ends within its header"));
  EXPECT_THAT(refusal(with_header("[]")), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(refusal(with_header("{\"a\":")), HasSubstr("no JSON"));
  EXPECT_THAT(refusal(with_header("{\"a\":" + std::string(50, '[') + std::string(50, ']') + "}")),
              HasSubstr("no JSON"));
  EXPECT_THAT(one(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])", 8), HasSubstr("unknown dtype \"F31\""));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])", 8), HasSubstr("values of shape [3] do not"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16])", 16), HasSubstr("do not"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])", 8), HasSubstr("no whole number"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])", 8), HasSubstr("but there are 8"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])", 8), HasSubstr("lies at bytes 8 to 0"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])", 8), HasSubstr("hole"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])", 8), HasSubstr("4 bytes behind"));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1)", 8), HasSubstr("unknown field \"x\""));
  EXPECT_THAT(one(R"("dtype":"F32","shape":[2])", 8), HasSubstr("lacks one of"));
  EXPECT_THAT(one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])", 1), HasSubstr("dimensions"));
  EXPECT_THAT(refusal(with_header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                  R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                                  "123456")),
              HasSubstr("tensor \"b\" begins at byte 2 of the data where 4 is due: it overlaps another"));
  EXPECT_THAT(refusal(with_header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                  R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                  "12")),
              HasSubstr("\"a\" comes twice"));
  EXPECT_THAT(refusal(with_header(R"({"__metadata__":{"k":1}})")), HasSubstr("text \"k\" is no text"));
}

TEST(TensorFileTest, TakesNanOnlyWhereTheCallerSaysSo) {
  TensorFile file;
  const std::vector<float> values = {1, std::numeric_limits<float>::quiet_NaN()};
  const std::vector<double> infinite = {-std::numeric_limits<double>::infinity()};
  const std::uint16_t bf16[] = {0x3F80, 0x7FC0}, f16[] = {0x3C00, 0x7C00};
  file.put<float>("nan", {2}, values);
  file.put<double>("inf", {1}, infinite);
  file.put("bf16", TensorType::kBF16, {2}, std::as_bytes(std::span(bf16)));
  file.put("f16", TensorType::kF16, {2}, std::as_bytes(std::span(f16)));
  const std::uint64_t one[] = {1}, two[] = {2};
  EXPECT_FALSE(file.get<float>("nan", two));
  EXPECT_FALSE(file.get<float>("nan", two, FloatPolicy::kNotNan));
  EXPECT_TRUE(file.get<float>("nan", two, FloatPolicy::kAny));
  EXPECT_THAT(file.get<double>("inf", one).error().message, HasSubstr("\"inf\" holds a value that is not finite"));
  EXPECT_TRUE(file.get<double>("inf", one, FloatPolicy::kNotNan));
  EXPECT_FALSE(file.get("bf16", TensorType::kBF16, two, FloatPolicy::kNotNan));
  EXPECT_TRUE(file.get("f16", TensorType::kF16, two, FloatPolicy::kNotNan));
  EXPECT_FALSE(file.get("f16", TensorType::kF16, two));
  EXPECT_EQ(file.get<float>("inf", one).error().message, "tensor file: tensor \"inf\" is F64; F32 is expected");
  EXPECT_THAT(file.get<double>("inf", two).error().message, HasSubstr("has the shape [1]; [2] is expected"));
  EXPECT_EQ(file.get<double>("absent", two).error().code, ErrorCode::kNotFound);
}

TEST(TensorFileTest, WritesAndReadsAFile) {
  const auto folder = std::filesystem::temp_directory_path() / ("alcedo_tensors_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = folder / "model.safetensors";
  TensorFile file;
  const std::vector<std::uint32_t> values = {7};
  file.put<std::uint32_t>("a", {1}, values);
  ASSERT_TRUE(file.write(path));
  const auto read = TensorFile::read(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->serialize(), file.serialize());
  EXPECT_EQ(TensorFile::read(path + "x").error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(file.write((folder / "absent" / "x").string()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
  std::filesystem::remove_all(folder);
}

TEST(TensorFileTest, HoldsOnTheCorpusOfItsFuzzer) {
  std::size_t inputs = 0, accepted = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(ALCEDO_SOURCE_DIR) + "/tests/fuzz_corpus/tensor_file")) {
    std::stringstream bytes;
    bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    ++inputs;
    if (check_tensor_file(bytes.str())) ++accepted;
  }
  EXPECT_GE(inputs, 4U);
  EXPECT_GE(accepted, 2U) << "the corpus needs files that are read";
}

}  // namespace
}  // namespace alcedo::models
