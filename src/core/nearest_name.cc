// Optimal string alignment distance, three rows at a time: names are short, and this runs only when somebody misspelt
// one.
#include "core/nearest_name.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace alcedo {
namespace {

constexpr std::size_t kNameBytesMax = 256;
constexpr std::size_t kBeginningBytesMin = 3;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1])) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view given, std::span<const std::string> known) {
  if (given.empty() || given.size() > kNameBytesMax) return {};
  std::size_t best = std::max<std::size_t>(1, given.size() / 3) + 1;
  std::string nearest;
  for (const std::string& name : known) {
    const std::size_t gap = name.size() > given.size() ? name.size() - given.size() : given.size() - name.size();
    if (gap >= best) continue;
    const std::size_t distance = edit_distance(given, name);
    if (distance < best) {
      best = distance;
      nearest = name;
    }
  }
  if (!nearest.empty() || given.size() < kBeginningBytesMin) return nearest;
  for (const std::string& name : known) {
    const bool begins = name.size() >= kBeginningBytesMin && (name.starts_with(given) || given.starts_with(name));
    if (begins) return name;
  }
  return {};
}

}  // namespace alcedo
