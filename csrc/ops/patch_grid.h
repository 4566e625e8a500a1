// patch_grid: patches cut out of every image, and the gradient of that.
//
//   images   (B, C, H, W) uint8, float16, bfloat16, float32 or float64, contiguous
//   order    (B, K) int64   which patch of the grid result k shows, counted row by row from 0; absent: K is the number
//                           of patches in the grid and result k shows patch k
//   offsets  (B, K, 2) int32   pixels by which result k is moved down and to the right; absent: 0
//   dropped  (B, K) int32   where bit c is set, channel c of result k is 0; absent: none; up to 32 channels
//   grid     rows and columns; patch: height and width; stride: pixels down and to the right from one patch to the
//   next;
//            the grid without offsets lies inside the image
//
//   patch_grid -> (B, K, C, patch height, patch width) of the images' dtype:
//     result[b, k, c, y, x] = images[b, c, row * stride[0] + offsets[b, k, 0] + y,
//                                          column * stride[1] + offsets[b, k, 1] + x]
//     with row and column of the patch order[b, k]. It is 0 in a dropped channel, where the pixel lies outside of the
//     image, and in the whole patch where the grid has no patch order[b, k].
//   patch_grid_backward (grad of the result, not uint8) -> gradient by images (B, C, H, W): every pixel sums the
//   patches
//     that show it in the order of k, in float32 (float64 for float64), and rounds once: equal bits on every device.
#pragma once

#include "csrc/ops/common/patch_grid_math.h"
#include "csrc/stable/check.h"

namespace sslfast {

struct PatchGridArgs {
  PatchGrid grid;
  const void* images;
  void* patches;
  int element_bytes;  // values are moved, never looked at
};

struct PatchGridBackwardArgs {
  PatchGrid grid;
  const void* grad_patches;
  void* grad_images;
  ScalarType dtype;
};

}  // namespace sslfast
