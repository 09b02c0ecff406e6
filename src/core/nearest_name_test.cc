// What people type and what they meant.
#include "core/nearest_name.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace alcedo {
namespace {

TEST(NearestNameTest, FindsWhatWasMeant) {
  const std::vector<std::string> known{"card", "merchant", "device", "merchant_id", "amount", "by"};
  const std::vector<std::pair<std::string, std::string>> cases{
      {"crad", "card"},
      {"Card", "card"},
      {"merchnat", "merchant"},
      {"merchantid", "merchant_id"},
      {"amonut", "amount"},
      {"devcie", "device"},
      {"bY", "by"},
      {"b", "by"},
      {"x", ""},
      {"amount", "amount"},
      {"", ""},
      {"spend_total", ""},
      {"carrrd", "card"},
      {"camt", ""},
      {std::string(300, 'c'), ""},
  };
  for (const auto& [given, meant] : cases) EXPECT_EQ(nearest_name(given, known), meant) << given;
}

TEST(NearestNameTest, FailingThatOneWithTheSameBeginning) {
  const std::vector<std::string> known{"card_id", "merchant_id", "at", "gap_s"};
  EXPECT_EQ(nearest_name("card", known), "card_id");
  EXPECT_EQ(nearest_name("merchant", known), "merchant_id");
  EXPECT_EQ(nearest_name("merchant_id_of_the_shop", known), "merchant_id");
  EXPECT_EQ(nearest_name("gap", known), "gap_s");
  EXPECT_EQ(nearest_name("attribute", known), "");
  EXPECT_EQ(nearest_name("id", known), "");
}

TEST(NearestNameTest, TheFirstOfEqualsAndNothingFromNothing) {
  EXPECT_EQ(nearest_name("bat", std::vector<std::string>{"cat", "hat"}), "cat");
  EXPECT_EQ(nearest_name("bat", std::vector<std::string>{"hat", "cat"}), "hat");
  EXPECT_EQ(nearest_name("bat", {}), "");
}

}  // namespace
}  // namespace alcedo
