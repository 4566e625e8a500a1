// rgb_to_lab and lab_to_rgb: sRGB to CIE-Lab and back, white D65 at 2 degrees, with scikit-image's constants.
//
//   images  (B, 3, H, W) uint8 in [0, 255], or float32, which is cut to [0, 1]
//   lab     (B, 3, H, W) float32: L in [0, 100], a and b in [-128, 127]
//
//   rgb_to_lab(images)     -> lab, within 0.01 of the formula in float64 for every colour
//   lab_to_rgb(lab, dtype) -> images, within 1e-4 of it and cut to sRGB; uint8 is rounded to the nearest
//
// Tensors are contiguous. NaN in any channel of a pixel makes that pixel NaN, or 0 in uint8.
#pragma once

#include <cstdint>

#include "csrc/stable/check.h"

namespace sslfast {

struct RgbToLabArgs {
  const void* images;
  ScalarType dtype;  // of the images
  float* lab;
  int64_t count;
  int64_t plane;  // pixels of an image
};

struct LabToRgbArgs {
  const float* lab;
  void* images;
  ScalarType dtype;  // of the images
  int64_t count;
  int64_t plane;
};

}  // namespace sslfast
