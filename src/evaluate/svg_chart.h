// The few charts that a report needs, drawn as SVG text so that the page needs no script and no network.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "evaluate/report.h"

namespace alcedo::evaluate {

/// Safe inside an element and inside a quoted attribute. Control characters and invalid UTF-8 become U+FFFD.
std::string escape_html(std::string_view text);

struct ChartLine {
  std::string name;
  int colour = 0;                                 // class c0 .. c7 of the page's style sheet
  bool strong = false;                            // drawn thicker and on top
  std::vector<std::pair<double, double>> points;  // by x; a point that is not finite is left out
};

struct LineChart {
  std::string title;
  std::string x_title, y_title;
  double x_low = 0, x_high = 1;  // with x_log both positive; points outside are clamped
  bool x_log = false;
  bool steps = false;            // the value holds until the next point
  std::vector<double> x_marks;   // vertical guides, labelled
  std::vector<ChartLine> lines;  // y from 0 to 1
};

/// 520 x 360 units, scales with its container.
std::string line_chart(const LineChart& chart);

/// Two outlines over equal bins, each as a share of its own class, the share's axis logarithmic; 340 x 220 units.
std::string histogram_chart(std::string_view title, const Histogram& histogram);

/// A bar of `share` (0 to 1) of a cell, for tables.
std::string share_bar(double share, int colour);

}  // namespace alcedo::evaluate
