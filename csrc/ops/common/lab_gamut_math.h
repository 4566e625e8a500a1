// The 313 bins of the ab plane (Zhang et al. 2016): those points of a grid of 10 that are corners of a 10 x 10 cell
// which the convex hull of all sRGB colours enters. A mean of colours lies in that hull, so that all four corners
// around it are bins. Numbered by a, then b; the bins of one a are neighbours without a gap.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/stable/host_device.h"

namespace sslfast {

inline constexpr int lab_gamut_bins = 313;
inline constexpr float lab_gamut_step = 10.0f;
inline constexpr int lab_gamut_reach = 18;  // columns and rows run from -reach to reach, the outer ones without bins
inline constexpr int lab_gamut_columns = 2 * lab_gamut_reach + 1;

// The nearest `lab_most_neighbours` bins of a point in the hull lie in a window that begins 2 columns and rows before
// the point's own and ends 4 behind it.
inline constexpr int lab_most_neighbours = 10;
inline constexpr int lab_window_begin = -2, lab_window_end = 5;

// By column (a / 10 + reach): its first row (b / 10), its number of bins, and the number of its first bin.
struct LabGamut {
  int32_t row[lab_gamut_columns], count[lab_gamut_columns], first[lab_gamut_columns];
};

// Column or row of the cell that holds a value; NaN is in 0, and the window around the result stays in the table.
SSLFAST_SHARED int lab_gamut_cell(float value) {
  const float position = value * (1.0f / lab_gamut_step);
  if (!(position > -14.0f)) return position <= -14.0f ? -14 : 0;
  return position < 13.0f ? static_cast<int>(position + 32.0f) - 32 : 13;
}

// Number of the bin at (column, row), and -1 where there is none.
SSLFAST_SHARED int lab_gamut_bin(const LabGamut& gamut, int column, int row) {
  const int c = column + lab_gamut_reach;
  const int place = row - gamut.row[c];
  return place >= 0 && place < gamut.count[c] ? gamut.first[c] + place : -1;
}

// Number of the nearest bin to a point in the hull: the corner that is nearest. NaN is in bin 0.
SSLFAST_SHARED int lab_nearest_bin(const LabGamut& gamut, float a, float b) {
  constexpr float half = lab_gamut_step / 2;
  const int bin = a == a && b == b ? lab_gamut_bin(gamut, lab_gamut_cell(a + half), lab_gamut_cell(b + half)) : 0;
  return bin < 0 ? 0 : bin;
}

SSLFAST_SHARED float lab_square_distance(float a, float b, int column, int row) {
  const float across = a - lab_gamut_step * static_cast<float>(column);
  const float along = b - lab_gamut_step * static_cast<float>(row);
  return across * across + along * along;
}

// Of a neighbour at a squared distance, in units of the nearest neighbour's: no weight underflows for want of scale.
SSLFAST_SHARED float lab_weight(float square_distance, float nearest, float falloff) {
  return expf((square_distance - nearest) * falloff);
}

}  // namespace sslfast
