// Compares the sphere's own sines and arc sines with the mathematical library's in more bits.
#include "features/operators/sphere.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/prng.h"

namespace alcedo::features {
namespace {

TEST(SphereTest, UnitVectorsAreThoseOfTheLibrary) {
  Prng random(5);
  const auto check = [](double latitude, double longitude) {
    const long double degree = std::numbers::pi_v<long double> / 180;
    const long double lat = static_cast<long double>(latitude) * degree;
    const long double lon = static_cast<long double>(longitude) * degree;
    const UnitVector got = unit_vector(latitude, longitude);
    ASSERT_NEAR(static_cast<double>(static_cast<long double>(got.x) - std::cos(lat) * std::cos(lon)), 0, 3e-16)
        << latitude << ' ' << longitude;
    ASSERT_NEAR(static_cast<double>(static_cast<long double>(got.y) - std::cos(lat) * std::sin(lon)), 0, 3e-16)
        << latitude << ' ' << longitude;
    ASSERT_NEAR(static_cast<double>(static_cast<long double>(got.z) - std::sin(lat)), 0, 3e-16) << latitude;
  };
  for (int i = 0; i < 200'000; ++i) check(180 * random.uniform() - 90, 360 * random.uniform() - 180);
  // Poles, the date line, and where quarter turns change.
  for (int lat = -90; lat <= 90; lat += 15) {
    for (int lon = -180; lon <= 180; lon += 15) {
      check(lat, lon);
      check(std::nextafter(lat, 0.0), std::nextafter(lon, 0.0));
    }
  }
}

TEST(SphereTest, ArcSinesAreThoseOfTheLibrary) {
  Prng random(6);
  const auto check = [](double x) {
    const long double expected = std::asin(static_cast<long double>(x));
    const long double off = std::fabs(static_cast<long double>(arc_sine(x)) - expected);
    ASSERT_LE(static_cast<double>(off), 5e-16 * static_cast<double>(expected)) << x;
  };
  for (int i = 0; i < 200'000; ++i) {
    check(random.uniform());
    check(0.2 * random.uniform());
    check(std::exp(-30 * random.uniform()));
  }
  for (const double x :
       {0.0, 1e-300, 0.1, std::nextafter(0.1, 0.0), 0.5, std::nextafter(0.5, 0.0), 1.0, std::nextafter(1.0, 0.0)}) {
    check(x);
  }
}

TEST(SphereTest, QuarterOfTheGlobe) {
  EXPECT_DOUBLE_EQ(angle_between(unit_vector(0, 0), unit_vector(0, 90)), std::numbers::pi / 2);
  EXPECT_DOUBLE_EQ(angle_between(unit_vector(90, 12), unit_vector(0, -170)), std::numbers::pi / 2);
  EXPECT_DOUBLE_EQ(angle_between(unit_vector(0, 180), unit_vector(0, -180)), 0);
  EXPECT_NEAR(angle_between(unit_vector(10, 20), unit_vector(-10, -160)), std::numbers::pi, 4e-8);
}

}  // namespace
}  // namespace alcedo::features
