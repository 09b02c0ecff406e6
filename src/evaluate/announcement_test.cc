// What a person hears of, and what it is worth to them after they have heard as much before.
#include "evaluate/announcement.h"

#include <gtest/gtest.h>

#include <cmath>

namespace alcedo::evaluate {
namespace {

constexpr float kNotAnnounced = std::numeric_limits<float>::quiet_NaN();

TEST(AnnouncementTest, WhatGoesOnIsNotAnnouncedAgain) {
  Announcement announcement(100);
  EXPECT_EQ(announcement.keep(1, 0, 3), 3);
  EXPECT_TRUE(std::isnan(announcement.keep(1, 50, 3)));
  EXPECT_EQ(announcement.keep(1, 60, 4), 4) << "it became worse";
  EXPECT_EQ(announcement.keep(2, 60, 3), 3) << "another entity";
  EXPECT_TRUE(std::isnan(announcement.keep(1, 160, 3.5F)));
  EXPECT_EQ(announcement.keep(1, 261, 2), 2) << "it was quiet";
}

TEST(DiscountTest, WhoCriesOftenIsBelievedLess) {
  Discount discount(100);
  EXPECT_EQ(discount.of(1, 0, 3), 3);
  EXPECT_TRUE(std::isnan(discount.of(1, 10, kNotAnnounced)));
  EXPECT_FLOAT_EQ(discount.of(1, 100, 3), static_cast<float>(3 - std::log10(1.5)));
  EXPECT_FLOAT_EQ(discount.of(1, 100, 4), 4) << "stronger than ever";
  EXPECT_FLOAT_EQ(discount.of(1, 200, 2), static_cast<float>(2 - std::log10(1 + 0.25 + 0.5 + 0.5)));
  EXPECT_FLOAT_EQ(discount.of(2, 200, 2), 2) << "another entity";
  EXPECT_FLOAT_EQ(discount.of(1, 5000, 2), 2) << "long ago";
}

}  // namespace
}  // namespace alcedo::evaluate
