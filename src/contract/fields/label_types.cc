// Anomalies are rare and types few: a linear search under a shared lock is enough.
#include "contract/fields/label_types.h"

#include <algorithm>

#include "contract/fields/number_text.h"

namespace alcedo::contract {

bool says_normal(std::string_view value) {
  if (value.empty()) return true;
  for (const std::string_view word : {"false", "no", "normal"}) {
    if (std::ranges::equal(value, word,
                           [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; })) {
      return true;
    }
  }
  NumberText number;
  return scan_csv_number(value, number) && number.digits == 0;
}

Label LabelTypes::label_of(std::string_view type) {
  const auto find = [&](std::string_view name) -> Label {
    const auto at = std::ranges::find(names_, name);
    return at == names_.end() ? kUnlabelled : static_cast<Label>(kFirstLabelType + (at - names_.begin()));
  };
  {
    const std::shared_lock lock(mutex_);
    if (const Label label = find(type); label != kUnlabelled) return label;
  }
  const std::unique_lock lock(mutex_);
  if (names_.size() >= kTypesMax - 1 && find(type) == kUnlabelled) type = "other";
  if (const Label label = find(type); label != kUnlabelled) return label;
  names_.emplace_back(type);
  return static_cast<Label>(kFirstLabelType + names_.size() - 1);
}

std::vector<std::string> LabelTypes::names() const {
  const std::shared_lock lock(mutex_);
  return names_;
}

}  // namespace alcedo::contract
