// lab_quantize: the classes that a colour model predicts, from images in one pass.
//
//   images  (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1]; contiguous
//   -> lightness (B, h, w) int64 in [0, 100), color (B, h, w) int64 in [0, 100): 10 * bin of a + bin of b
//
// 1 <= h <= H, 1 <= w <= W. A cell of the target has the mean Lab colour of its pixels: rows floor(i H / h) to
// ceil((i + 1) H / h), columns alike, so that cells share pixels where the sizes do not divide. A channel's range is
// cut into bins of equal width, 100 for L and 10 each for a and b; a bin holds its lower edge, the last one both.
//
//   grid      L from 0 to 100, a and b from -128 to 127 (gray, 0, lies inside of a bin)
//   rescaled  each channel from its least to its greatest cell of the same image; where they differ by no more than
//             0.01, the accuracy of the conversion, every cell is in bin 0
//
// A cell with a NaN is in bin 0 and widens no range.
#pragma once

#include <cstdint>

#include "csrc/stable/check.h"

namespace sslfast {

struct LabQuantizeArgs {
  const void* images;
  ScalarType dtype;
  int64_t* lightness;
  int64_t* color;
  int64_t count;
  int height, width;            // of an image
  int cell_rows, cell_columns;  // of its target
  bool rescaled;
};

}  // namespace sslfast
