// What is known of the truth of offline events, wherever it comes from: a label file, a field, or the events' source.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "evaluate/labels.h"
#include "offline.h"

namespace alcedo::cli {

class Truth {
 public:
  struct Arguments {
    std::string labels;     // file; empty: the pipeline's own, or what the events carry
    bool complete = false;  // what the file does not address is normal
    bool required = false;
  };
  /// nullptr after having complained; `exit_code` is then set.
  static std::unique_ptr<Truth> open(const Offline& offline, const Arguments& arguments, int& exit_code);

  evaluate::RowLabel of(const pipeline::Runner::BatchView& view, std::uint32_t row) const;
  /// Names of the label types: label kFirstLabelType + index. Those of a field are known once the rows were read.
  std::vector<std::string> types() const;
  /// Null where the labels are in no file.
  const evaluate::LabelSet* file() const { return labels_.get(); }
  /// Where it comes from, for people.
  const std::string& origin() const { return origin_; }
  bool from_field() const { return from_field_; }
  bool known() const { return labels_ || carried_ || from_field_; }

 private:
  explicit Truth(const Offline& offline) : offline_(offline) {}

  const Offline& offline_;
  std::unique_ptr<evaluate::LabelSet> labels_;
  std::string origin_;
  bool from_field_ = false;
  bool carried_ = false;
};

}  // namespace alcedo::cli
