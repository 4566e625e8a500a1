// Finds the bins of lab_gamut_math.h; on the host, once.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "csrc/ops/common/lab_gamut_math.h"
#include "csrc/ops/common/lab_math.h"

namespace sslfast {

struct AbPoint {
  double a, b;
};

// Corners of the convex hull in order (Andrew's monotone chain).
inline std::vector<AbPoint> convex_hull(std::vector<AbPoint> points) {
  std::sort(points.begin(), points.end(), [](AbPoint p, AbPoint q) { return p.a != q.a ? p.a < q.a : p.b < q.b; });
  std::vector<AbPoint> hull;
  for (int side = 0; side < 2; ++side) {
    const size_t begin = hull.size();
    for (const AbPoint p : points) {
      while (hull.size() >= begin + 2) {
        const AbPoint q = hull[hull.size() - 2], r = hull.back();
        if ((r.a - q.a) * (p.b - q.b) - (r.b - q.b) * (p.a - q.a) > 0) break;
        hull.pop_back();
      }
      hull.push_back(p);
    }
    hull.pop_back();  // it begins the other side
    std::reverse(points.begin(), points.end());
  }
  return hull;
}

// ab of sRGB colours on a lattice, whose hull is that of all colours but for thousandths.
inline std::vector<AbPoint> srgb_hull() {
  constexpr int steps = 32;
  float light[steps + 1];
  for (int i = 0; i <= steps; ++i) light[i] = lab_linear(static_cast<float>(i) / steps);
  std::vector<AbPoint> points;
  for (const float red : light) {
    for (const float green : light) {
      for (const float blue : light) {
        float l, a, b;
        lab_from_linear(red, green, blue, l, a, b);
        points.push_back({a, b});
      }
    }
  }
  return convex_hull(std::move(points));
}

inline LabGamut make_lab_gamut() {
  const std::vector<AbPoint> hull = srgb_hull();
  // Rows of the corners around the part of the hull that lies between each column and the next.
  int begin[lab_gamut_columns], end[lab_gamut_columns];
  for (int c = 0; c < lab_gamut_columns; ++c) {
    const double left = lab_gamut_step * (c - lab_gamut_reach), right = left + lab_gamut_step;
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < hull.size(); ++i) {
      AbPoint p = hull[i], q = hull[(i + 1) % hull.size()];
      if (p.a > q.a) std::swap(p, q);
      if (q.a <= left || p.a >= right) continue;
      for (const double a : {std::max(p.a, left), std::min(q.a, right)}) {
        const double b = p.b + (q.b - p.b) * (q.a > p.a ? (a - p.a) / (q.a - p.a) : 0.0);
        low = std::min(low, b);
        high = std::max(high, b);
      }
    }
    begin[c] = low < high ? static_cast<int>(std::floor(low / lab_gamut_step)) : lab_gamut_reach;
    end[c] = low < high ? static_cast<int>(std::ceil(high / lab_gamut_step)) : -lab_gamut_reach;
  }
  LabGamut gamut{};
  for (int c = 1, number = 0; c < lab_gamut_columns; ++c) {
    gamut.row[c] = std::min(begin[c - 1], begin[c]);
    gamut.count[c] = std::max(0, std::max(end[c - 1], end[c]) - gamut.row[c] + 1);
    gamut.first[c] = number;
    number += gamut.count[c];
  }
  return gamut;
}

inline const LabGamut& lab_gamut() {
  static const LabGamut gamut = make_lab_gamut();
  return gamut;
}

}  // namespace sslfast
