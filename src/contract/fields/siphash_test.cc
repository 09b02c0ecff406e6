// The reference vectors: key 00 01 .. 0f, message 00 01 .. n-1.
#include "contract/fields/siphash.h"

#include <gtest/gtest.h>

#include <string>

namespace alcedo::contract {
namespace {

TEST(SipHashTest, ReferenceVectors) {
  std::array<std::uint8_t, 16> secret;
  for (std::uint8_t i = 0; i < 16; ++i) secret[i] = i;
  const std::pair<std::size_t, std::string> vectors[] = {
      {0, "h:a3817f04ba25a8e66df67214c7550293"},  {1, "h:da87c1d86b99af44347659119b22fc45"},
      {7, "h:a1f1ebbed8dbc153c0b84aa61ff08239"},  {8, "h:3b62a9ba6258f5610f83e264f31497b4"},
      {15, "h:5493e99933b0a8117e08ec0f97cfc3d9"}, {16, "h:6ee2a4ca67b054bbfd3315bf85230577"},
      {32, "h:7c3956ca5eeafc3e363e9d556546eb68"}, {63, "h:5150d1772f50834a503e069a973fbd7c"}};
  for (const auto& [size, expected] : vectors) {
    std::string message;
    for (std::size_t i = 0; i < size; ++i) message.push_back(static_cast<char>(i));
    std::string text(kPrivateTextBytes, '?');
    write_private_text(secret, message, text.data());
    EXPECT_EQ(text, expected) << size;
  }
}

TEST(SipHashTest, TheSecretMatters) {
  EXPECT_NE(siphash128({1}, "4111111111111111"), siphash128({2}, "4111111111111111"));
}

}  // namespace
}  // namespace alcedo::contract
