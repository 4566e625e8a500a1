// lab_quantize and lab_soft_encode: the classes that a colour model predicts, from images in one pass.
//
//   images  (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1]; contiguous
//
// 1 <= h <= H, 1 <= w <= W. A cell of the target has the mean colour of its pixels: rows floor(i H / h) to
// ceil((i + 1) H / h), columns alike, so that cells share pixels where the sizes do not divide.
//
//   lab_quantize(images, h, w, kind, rgb)
//     -> first (B, h, w) int64 in [0, 100): bin of L; rest (B, h, w) int64: bin of (a, b);
//        ranges (B, 3, 2) float32: least and greatest value that the bins of each channel divide
//   With `rgb` the channels are R, G and B in [0, 1] in place of L, a and b. A channel's range is cut into bins of
//   equal width, 100 of the first and 10 each of the others: rest is 10 * bin of the second + bin of the third, in [0,
//   100). A bin holds its lower edge, the last one both.
//
//     grid      L from 0 to 100, a and b from -128 to 127 (gray, 0, lies inside of a bin); R, G and B from 0 to 1
//     rescaled  each channel from its least to its greatest cell of the same image; where they differ by no more than
//               0.01 (of RGB 0.01 / 255), the accuracy of the conversion, every cell is in bin 0
//     ab313     L as in the grid; (a, b) in the nearest of the 313 bins of lab_gamut_math.h, rest in [0, 313)
//
//   A cell with a NaN is in bin 0 and widens no range. An image with no other cells has the range 0 to 0.
//
//   lab_soft_encode(images, h, w, neighbours, sigma)
//     -> indices (B, K, h, w) int64: the K nearest of the 313 bins, the nearest first
//        weights (B, K, h, w) float32: exp(-distance^2 / (2 sigma^2)), divided by their sum
//
//   1 <= K = neighbours <= 10, sigma > 0. A cell with a NaN has the indices 0 and the weights NaN.
#pragma once

#include <cstdint>

#include "csrc/ops/common/lab_gamut_math.h"
#include "csrc/stable/check.h"

namespace sslfast {

enum class LabKind : int { grid = 0, rescaled = 1, ab313 = 2 };

// Images, and the cells that they are averaged to.
struct LabCells {
  const void* images;
  ScalarType dtype;
  int64_t count;
  int height, width;            // of an image
  int cell_rows, cell_columns;  // of its target
  bool rgb;
};

struct LabQuantizeArgs {
  LabCells cells;
  LabKind kind;
  LabGamut gamut;
  int64_t* first;
  int64_t* rest;
  float* ranges;
};

struct LabSoftEncodeArgs {
  LabCells cells;
  LabGamut gamut;
  int neighbours;
  float falloff;  // -1 / (2 sigma^2)
  int64_t* indices;
  float* weights;
};

}  // namespace sslfast
