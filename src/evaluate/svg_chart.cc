// Coordinates are written with one decimal: a tenth of a unit is below what a screen shows, and it halves the page.
#include "evaluate/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/json.h"

namespace alcedo::evaluate {
namespace {

struct Frame {
  double left, top, right, bottom;
  double x(double share) const { return left + (right - left) * std::clamp(share, 0.0, 1.0); }
  double y(double share) const { return bottom - (bottom - top) * std::clamp(share, 0.0, 1.0); }
};

std::string tick_text(double value) {
  if (value != 0 && std::fabs(value) < 1e-4) return fmt::format("{:.0e}", value);
  if (std::fabs(value) >= 1e9) return fmt::format("{:.0e}", value);
  if (std::fabs(value) >= 1e6) return fmt::format("{:.3g}M", value / 1e6);
  if (std::fabs(value) >= 10'000) return fmt::format("{:.3g}k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

std::string percent_tick(double share) { return fmt::format("{:.4g} %", share * 100); }

// A round step that gives about `count` of them.
double round_step(double span, int count) {
  const double rough = span / count;
  const double scale = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (step * scale >= rough) return step * scale;
  }
  return 10 * scale;
}

void text(std::string& out, double x, double y, std::string_view anchor, std::string_view content,
          std::string_view more = "") {
  fmt::format_to(std::back_inserter(out), "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>", x, y,
                 anchor, more, escape_html(content));
}

void line(std::string& out, double x1, double y1, double x2, double y2, std::string_view kind) {
  fmt::format_to(std::back_inserter(out),
                 "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>", x1, y1, x2, y2, kind);
}

}  // namespace

std::string escape_html(std::string_view raw) {
  // The JSON writer already knows what valid UTF-8 is; its escapes are undone except for the replacement.
  std::string valid;
  append_json_string(valid, raw);
  std::string out;
  for (std::size_t i = 1; i + 1 < valid.size(); ++i) {
    char c = valid[i];
    if (c == '\\') {
      c = valid[++i];
      if (c == 'u') {
        out += "\xEF\xBF\xBD";
        i += 4;
        continue;
      }
      if (c == 'n' || c == 'r' || c == 't') c = ' ';
    }
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

std::string line_chart(const LineChart& chart) {
  constexpr double kWidth = 520, kHeight = 360;
  const Frame frame{52, 30, kWidth - 24, kHeight - 48};
  const auto x_share = [&](double x) {
    if (!chart.x_log) return (x - chart.x_low) / (chart.x_high - chart.x_low);
    return std::log10(std::max(x, chart.x_low) / chart.x_low) / std::log10(chart.x_high / chart.x_low);
  };
  std::string out = fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight,
                                escape_html(chart.title));
  text(out, frame.left, 16, "start", chart.title, " class=\"chart-title\"");
  for (int i = 0; i <= 5; ++i) {
    const double share = i / 5.0, y = frame.y(share);
    line(out, frame.left, y, frame.right, y, "grid");
    text(out, frame.left - 7, y + 4, "end", fmt::format("{:.1f}", share));
  }
  const auto x_tick = [&](double value, const std::string& label) {
    const double x = frame.x(x_share(value));
    line(out, x, frame.top, x, frame.bottom, "grid");
    text(out, x, frame.bottom + 17, "middle", label);
  };
  if (chart.x_log) {
    for (double decade = chart.x_low; decade <= chart.x_high * 1.0001; decade *= 10)
      x_tick(decade, percent_tick(decade));
  } else {
    for (int i = 0; i <= 5; ++i) {
      const double value = chart.x_low + (chart.x_high - chart.x_low) * i / 5;
      x_tick(value, tick_text(value));
    }
  }
  for (const double mark : chart.x_marks) {
    const double x = frame.x(x_share(mark));
    line(out, x, frame.top, x, frame.bottom, "mark");
    text(out, x, frame.top - 4, "middle", percent_tick(mark), " class=\"mark-text\"");
  }
  text(out, (frame.left + frame.right) / 2, kHeight - 10, "middle", chart.x_title, " class=\"axis-title\"");
  text(out, 0, 0, "middle", chart.y_title,
       fmt::format(" class=\"axis-title\" transform=\"translate(13 {:.0f}) rotate(-90)\"",
                   (frame.top + frame.bottom) / 2));
  for (const bool strong : {false, true}) {
    for (const ChartLine& one : chart.lines) {
      if (one.strong != strong) continue;
      std::string path;
      double y_before = 0;
      for (const auto& [px, py] : one.points) {
        if (!std::isfinite(px) || !std::isfinite(py)) continue;
        const double x = frame.x(x_share(px)), y = frame.y(py);
        if (path.empty()) {
          fmt::format_to(std::back_inserter(path), "M{:.1f} {:.1f}", x, y);
        } else if (chart.steps) {
          fmt::format_to(std::back_inserter(path), "H{:.1f}", x);
          if (y != y_before) fmt::format_to(std::back_inserter(path), "V{:.1f}", y);
        } else {
          fmt::format_to(std::back_inserter(path), "L{:.1f} {:.1f}", x, y);
        }
        y_before = y;
      }
      if (path.empty()) continue;
      fmt::format_to(std::back_inserter(out), "<path d=\"{}\" class=\"curve c{}{}\"><title>{}</title></path>", path,
                     one.colour, strong ? " strong" : "", escape_html(one.name));
    }
  }
  return out + "</svg>";
}

std::string histogram_chart(std::string_view title, const Histogram& histogram) {
  constexpr double kWidth = 340, kHeight = 220;
  const Frame frame{52, 26, kWidth - 12, kHeight - 32};
  std::string out = fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight,
                                escape_html(title));
  text(out, frame.left, 14, "start", title, " class=\"chart-title\"");
  constexpr double kDecades = 5;  // from 0.001 % to all
  for (int i = 0; i <= 5; ++i) {
    const double y = frame.y(i / kDecades);
    line(out, frame.left, y, frame.right, y, "grid");
    if (i % 2 == 1) text(out, frame.left - 6, y + 4, "end", percent_tick(std::pow(10.0, i - kDecades)));
  }
  const auto outline = [&](const std::vector<std::uint64_t>& bins, std::string_view kind) {
    double all = 0;
    for (const std::uint64_t count : bins) all += static_cast<double>(count);
    if (all == 0) return;
    std::string path = fmt::format("M{:.1f} {:.1f}", frame.left, frame.bottom);
    for (std::size_t i = 0; i < bins.size(); ++i) {
      const double share = static_cast<double>(bins[i]) / all;
      const double height = share > 0 ? (std::log10(share) + kDecades) / kDecades : 0;
      fmt::format_to(std::back_inserter(path), "V{:.1f}H{:.1f}", frame.y(height),
                     frame.x(static_cast<double>(i + 1) / static_cast<double>(bins.size())));
    }
    fmt::format_to(std::back_inserter(out), "<path d=\"{}V{:.1f}Z\" class=\"{}\"/>", path, frame.bottom, kind);
  };
  outline(histogram.normal, "hist-normal");
  outline(histogram.anomalous, "hist-anomalous");
  line(out, frame.left, frame.bottom, frame.right, frame.bottom, "axis");
  const auto x_tick = [&](double value) {
    const double placed = histogram.logarithmic ? std::log1p(value) : value;
    const double share = (placed - histogram.low) / (histogram.high - histogram.low);
    if (share < -0.001 || share > 1.001) return;
    // A label at the right edge would be cut off.
    text(out, frame.x(share), frame.bottom + 16, share > 0.97 ? "end" : "middle", tick_text(value));
  };
  if (histogram.logarithmic) {
    double shown = -1;
    for (const double value : {0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e8, 1e10}) {
      const double share = (std::log1p(value) - histogram.low) / (histogram.high - histogram.low);
      if (share - shown < 0.12) continue;
      x_tick(value);
      shown = share;
    }
  } else if (histogram.high > histogram.low) {
    const double step = round_step(histogram.high - histogram.low, 5);
    for (int i = 0; i < 12; ++i) {
      const double value = (std::ceil(histogram.low / step) + i) * step;
      if (value <= histogram.high + step / 100) x_tick(value == 0 ? 0 : value);
    }
  }
  return out + "</svg>";
}

std::string share_bar(double share, int colour) {
  if (!std::isfinite(share)) return {};
  return fmt::format("<span class=\"bar\"><span class=\"b{}\" style=\"width:{:.1f}%\"></span></span>", colour,
                     std::clamp(share, 0.0, 1.0) * 100);
}

}  // namespace alcedo::evaluate
