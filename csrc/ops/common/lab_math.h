// The mathematics of CIE-Lab, shared by the CPU and the CUDA kernels: float32, without branches or library calls, so
// that compilers vectorise it. Constants are scikit-image's (sRGB primaries, white D65 at 2 degrees).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/stable/host_device.h"

namespace sslfast {

SSLFAST_SHARED float lab_unit(uint8_t value) { return static_cast<float>(value) * (1.0f / 255.0f); }
// Cut to [0, 1]; NaN stays NaN.
SSLFAST_SHARED float lab_unit(float value) { return value < 0.0f ? 0.0f : (value > 1.0f ? 1.0f : value); }

// Linear light of an sRGB value x in [0, 1]: ((x + 0.055) / 1.055)^2.4 above 0.04045, as a polynomial in z, which runs
// from -1 to 1 there; its error changes the roots of the Lab formulas by 1.3e-6 at most.
SSLFAST_SHARED float lab_linear(float x) {
  const float z = x * 2.08431035f - 1.08431035f;
  float power = -3.910133820e-4f;
  power = power * z + 2.405846820e-4f;
  power = power * z + 1.421459820e-4f;
  power = power * z + 0.00100746764f;
  power = power * z - 0.0040668313f;
  power = power * z + 0.0302878963f;
  power = power * z + 0.27263955f;
  power = power * z + 0.466896646f;
  power = power * z + 0.233239715f;
  return x > 0.04045f ? power : x * (1.0f / 12.92f);
}

// Cube root of a normal t > 0, relative error below 2e-6: a first guess of the inverse root from a third of the
// exponent, then the series of (1 - h)^(-1/3) for what remains, where |h| stays below 0.103.
SSLFAST_SHARED float lab_cube_root(float t) {
  int32_t bits;
  memcpy(&bits, &t, sizeof(bits));
  bits = static_cast<int32_t>(1419900000.0f - static_cast<float>(bits) * (1.0f / 3.0f));
  float inverse;
  memcpy(&inverse, &bits, sizeof(inverse));
  const float h = 1.0f - t * inverse * inverse * inverse;
  float series = 0.14403292f;         // 35 / 243
  series = series * h + 0.17283951f;  // 14 / 81
  series = series * h + 0.22222222f;  // 2 / 9
  series = series * h + 0.33333333f;  // 1 / 3
  inverse = inverse + inverse * h * series;
  return t * inverse * inverse;
}

// The cube root of the Lab formulas, with its straight part near black, and what undoes it.
SSLFAST_SHARED float lab_root(float t) { return t > 0.008856f ? lab_cube_root(t) : 7.787f * t + 16.0f / 116.0f; }
SSLFAST_SHARED float lab_cube(float f) { return f > 0.2068966f ? f * f * f : (f - 16.0f / 116.0f) * (1.0f / 7.787f); }

// Linear light to Lab. The rows of the matrix are divided by the white.
SSLFAST_SHARED void lab_from_linear(float red, float green, float blue, float& l, float& a, float& b) {
  constexpr float x_red = 0.412453 / 0.95047, x_green = 0.357580 / 0.95047, x_blue = 0.180423 / 0.95047;
  constexpr float z_red = 0.019334 / 1.08883, z_green = 0.119193 / 1.08883, z_blue = 0.950227 / 1.08883;
  const float x = lab_root(x_red * red + x_green * green + x_blue * blue);
  const float y = lab_root(0.212671f * red + 0.715160f * green + 0.072169f * blue);
  const float z = lab_root(z_red * red + z_green * green + z_blue * blue);
  l = 116.0f * y - 16.0f;
  a = 500.0f * (x - y);
  b = 200.0f * (y - z);
}

// sRGB value of linear light, cut to [0, 1]: 1.055 t^(1 / 2.4) - 0.055 above 0.0031308. With c the cube root of t, the
// power is c^(5 / 4).
SSLFAST_SHARED float lab_gamma(float t) {
  const float root = lab_cube_root(t);
  const float power = 1.055f * (root * sqrtf(sqrtf(root))) - 0.055f;
  return lab_unit(t > 0.0031308f ? power : 12.92f * t);
}

// Lab to sRGB in [0, 1].
SSLFAST_SHARED void lab_to_srgb(float l, float a, float b, float& red, float& green, float& blue) {
  const float y = (l + 16.0f) * (1.0f / 116.0f);
  const float depth = y - b * (1.0f / 200.0f);
  const float light_x = lab_cube(y + a * (1.0f / 500.0f));
  const float light_y = lab_cube(y);
  const float light_z = lab_cube(depth < 0.0f ? 0.0f : depth);  // no light is negative
  // The columns of the inverse matrix are multiplied by the white.
  red = lab_gamma(3.0799803f * light_x - 1.53715152f * light_y - 0.54282131f * light_z);
  green = lab_gamma(-0.92124775f * light_x + 1.87599f * light_y + 0.04524734f * light_z);
  blue = lab_gamma(0.05289046f * light_x - 0.20404134f * light_y + 1.15123201f * light_z);
}

SSLFAST_SHARED uint8_t lab_byte(float value) {
  return static_cast<uint8_t>(static_cast<int32_t>(value > 0.0f ? value * 255.0f + 0.5f : 0.0f));  // NaN is 0
}

// --- classes ---------------------------------------------------------------------------------------------------------

inline constexpr int lab_lightness_bins = 100;
inline constexpr int lab_color_bins = 10;  // of a, and of b

// Value of an sRGB channel in units of a byte, so that the sums of bytes are exact.
SSLFAST_SHARED float lab_level(uint8_t value) { return static_cast<float>(value); }
SSLFAST_SHARED float lab_level(float value) { return lab_unit(value) * 255.0f; }

// Bins of equal width from `low` on; without a range all values are in bin 0.
struct LabBins {
  float low, range;
};

SSLFAST_SHARED LabBins lab_bins(float low, float high) {
  const float range = high - low;
  return {low, range > 0.01f ? range : 0.0f};
}

// The bins of all images: of L, a and b, or of R, G and B as levels.
SSLFAST_SHARED LabBins lab_grid(bool rgb, int channel) {
  if (rgb) return {0.0f, 255.0f};
  return channel == 0 ? LabBins{0.0f, 100.0f} : LabBins{-128.0f, 255.0f};
}

// Least and greatest value of the bins, in Lab or in RGB from 0 to 1; an image of nothing but NaN has 0 and 0.
SSLFAST_SHARED void lab_store_range(LabBins bins, bool rgb, float* range) {
  const float low = bins.low < INFINITY ? bins.low : 0.0f;
  range[0] = rgb ? low / 255.0f : low;
  range[1] = rgb ? (low + bins.range) / 255.0f : low + bins.range;
}

// The bin of a value, cut to the `count` bins there are. It divides, so that a value on an edge is in the bin above.
SSLFAST_SHARED int lab_bin(LabBins bins, float value, int count) {
  if (!(bins.range > 0.0f)) return 0;
  const float position = (value - bins.low) * static_cast<float>(count) / bins.range;
  if (!(position > 0.0f)) return 0;  // NaN too
  return position < static_cast<float>(count) ? static_cast<int>(position) : count - 1;
}

// First pixel of cell i when `pixels` are spread over `cells`, both at most 32768, and the pixel after its last.
SSLFAST_SHARED int lab_cell_begin(int i, int pixels, int cells) { return i * pixels / cells; }
SSLFAST_SHARED int lab_cell_end(int i, int pixels, int cells) { return ((i + 1) * pixels + cells - 1) / cells; }

}  // namespace sslfast
