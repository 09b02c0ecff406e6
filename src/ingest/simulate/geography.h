// The simulated world's fixed tables: cities, currencies and merchant categories.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace alcedo::ingest::simulate {

struct Country {
  std::string_view code;   // ISO 3166-1
  std::uint8_t currency;   // kCurrencies: what its cards are billed in
  std::uint8_t utc_hours;  // standard time all year: the simulated world has no daylight saving
};

struct City {
  std::string_view name;
  std::uint8_t country;  // kCountries
  double latitude_deg;
  double longitude_deg;
  double people_millions;  // weight for homes and merchants
};

struct Currency {
  std::string_view code;  // ISO 4217; all have two decimals
  double scale_log;       // added to log amounts: natural log of units an EUR
};

struct Category {
  std::string_view name;
  double amount_log;     // added to a card's mean log amount
  double shop_weight;    // share among shops
  double online_weight;  // share among web shops
  bool resale;           // sells things of value that sell on: large purchases, account takeovers
};

inline constexpr std::array<Currency, 5> kCurrencies = {
    {{"EUR", 0.0}, {"GBP", -0.16}, {"CHF", -0.05}, {"SEK", 2.43}, {"PLN", 1.46}}};

inline constexpr std::array<Country, 14> kCountries = {{{"DE", 0, 1},
                                                        {"FR", 0, 1},
                                                        {"ES", 0, 1},
                                                        {"IT", 0, 1},
                                                        {"NL", 0, 1},
                                                        {"BE", 0, 1},
                                                        {"AT", 0, 1},
                                                        {"PT", 0, 0},
                                                        {"IE", 0, 0},
                                                        {"GB", 1, 0},
                                                        {"CH", 2, 1},
                                                        {"SE", 3, 1},
                                                        {"PL", 4, 1},
                                                        {"GR", 0, 2}}};

inline constexpr std::array<City, 40> kCities = {
    {{"Berlin", 0, 52.52, 13.41, 3.7},     {"Hamburg", 0, 53.55, 9.99, 1.9},
     {"Munich", 0, 48.14, 11.58, 1.5},     {"Cologne", 0, 50.94, 6.96, 1.1},
     {"Frankfurt", 0, 50.11, 8.68, 0.8},   {"Leipzig", 0, 51.34, 12.37, 0.6},
     {"Paris", 1, 48.86, 2.35, 5.0},       {"Marseille", 1, 43.30, 5.37, 0.9},
     {"Lyon", 1, 45.76, 4.84, 0.9},        {"Toulouse", 1, 43.60, 1.44, 0.5},
     {"Bordeaux", 1, 44.84, -0.58, 0.4},   {"Lille", 1, 50.63, 3.06, 0.4},
     {"Madrid", 2, 40.42, -3.70, 3.3},     {"Barcelona", 2, 41.39, 2.17, 1.6},
     {"Valencia", 2, 39.47, -0.38, 0.8},   {"Seville", 2, 37.39, -5.98, 0.7},
     {"Rome", 3, 41.90, 12.50, 2.8},       {"Milan", 3, 45.46, 9.19, 1.4},
     {"Naples", 3, 40.85, 14.27, 0.9},     {"Turin", 3, 45.07, 7.69, 0.8},
     {"Amsterdam", 4, 52.37, 4.90, 0.9},   {"Groningen", 4, 53.22, 6.57, 0.3},
     {"Brussels", 5, 50.85, 4.35, 1.2},    {"Vienna", 6, 48.21, 16.37, 1.9},
     {"Innsbruck", 6, 47.27, 11.39, 0.3},  {"Lisbon", 7, 38.72, -9.14, 0.9},
     {"Porto", 7, 41.15, -8.61, 0.4},      {"Dublin", 8, 53.35, -6.26, 0.8},
     {"London", 9, 51.51, -0.13, 5.0},     {"Birmingham", 9, 52.48, -1.90, 1.1},
     {"Manchester", 9, 53.48, -2.24, 0.8}, {"Glasgow", 9, 55.86, -4.25, 0.6},
     {"Zurich", 10, 47.38, 8.54, 0.5},     {"Geneva", 10, 46.20, 6.15, 0.3},
     {"Stockholm", 11, 59.33, 18.07, 1.0}, {"Gothenburg", 11, 57.71, 11.97, 0.6},
     {"Warsaw", 12, 52.23, 21.01, 1.8},    {"Krakow", 12, 50.06, 19.94, 0.8},
     {"Athens", 13, 37.98, 23.73, 0.8},    {"Thessaloniki", 13, 40.64, 22.94, 0.4}}};
inline constexpr int kNumCities = static_cast<int>(kCities.size());

inline constexpr std::array<Category, 13> kCategories = {{{"grocery", 0.0, 0.26, 0.05, false},
                                                          {"restaurant", 0.1, 0.18, 0.08, false},
                                                          {"cafe", -0.9, 0.12, 0.0, false},
                                                          {"fuel", 0.6, 0.07, 0.0, false},
                                                          {"transport", -0.6, 0.06, 0.08, false},
                                                          {"pharmacy", -0.2, 0.07, 0.04, false},
                                                          {"clothing", 0.6, 0.11, 0.22, false},
                                                          {"digital", -0.6, 0.0, 0.25, false},
                                                          {"electronics", 1.1, 0.04, 0.12, true},
                                                          {"furniture", 1.2, 0.03, 0.05, true},
                                                          {"jewellery", 1.3, 0.03, 0.03, true},
                                                          {"travel", 1.2, 0.03, 0.08, true},
                                                          {"cash", 0.8, 0.0, 0.0, false}}};
inline constexpr std::uint8_t kCashCategory = 12;

}  // namespace alcedo::ingest::simulate
