// Key groups must be Flink's to the bit; hashes must never change, since state is keyed by them.
#include "core/hash.h"

#include <gtest/gtest.h>

#include "core/time.h"

namespace alcedo {
namespace {

TEST(HashTest, KeyIdentityIsStable) {
  EXPECT_NE(hash64(""), 0U);
  EXPECT_EQ(hash64(std::string_view()), hash64(""));
  EXPECT_NE(hash64("a"), hash64(std::string_view("a\0", 2)));
  EXPECT_EQ(hash64("card-0000001"), hash64(std::string("card-") + "0000001"));
}

TEST(TimeTest, ReadsIsoTimes) {
  EXPECT_EQ(parse_iso_time_ms("1970-01-01"), 0);
  EXPECT_EQ(parse_iso_time_ms("2014-07-01 00:30:00"), 1404174600000);
  EXPECT_EQ(parse_iso_time_ms("2014-07-01T00:30:00.250+02:00"), 1404167400250);
  EXPECT_EQ(parse_iso_time_ms("2014-04-10 07:15:00.000000"), 1397114100000);
  for (const char* bad :
       {"", "2014", "2014-13-01", "2014-02-30", "2014-02-01 25:00", "2014-02-01T10:00:00x", "2014-02-01T10:00:00."}) {
    EXPECT_FALSE(parse_iso_time_ms(bad)) << bad;
  }
  EXPECT_EQ(format_iso_time(1404174600250), "2014-07-01T00:30:00.250Z");
}

TEST(TimeTest, ReadsAndWritesDurations) {
  EXPECT_EQ(*parse_duration_ms("250ms"), 250);
  EXPECT_EQ(*parse_duration_ms("1.5h"), 5'400'000);
  EXPECT_EQ(*parse_duration_ms("14d"), 14 * kDayMs);
  EXPECT_FALSE(parse_duration_ms("5 minutes"));
  EXPECT_FALSE(parse_duration_ms("-5m"));
  EXPECT_EQ(format_duration(60'000), "1m");
  EXPECT_EQ(format_duration(90'000), "90s");
  EXPECT_EQ(format_duration(kHourMs), "1h");
}

}  // namespace
}  // namespace alcedo
