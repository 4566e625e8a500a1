// reduce_resolution: images that show less than their size: down by a factor, and up again.
//
//   images   (N, C, H, W) uint8, float16, bfloat16, float32 or float64, contiguous, W <= 8192
//   factors  (N,) int32; 1 or less leaves an image as it is
//   -> same shape and dtype. With f the image's factor, each block of f x f pixels, counted from the top left, shows
//   its
//      mean; the last blocks of a row or column may be smaller. Sums are in float32 (float64 for float64), rows first,
//      and round once, uint8 to the nearest: equal bits on every device.
//
// The map is linear and its own adjoint: the gradient is the same op on the gradient.
#pragma once

#include <cstdint>

#include "csrc/stable/check.h"

namespace sslfast {

struct ReduceResolutionArgs {
  const void* images;
  const int32_t* factors;
  void* out;
  ScalarType dtype;
  int64_t count, channels;
  int height, width;
};

}  // namespace sslfast
