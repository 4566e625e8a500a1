// The mathematics of the views, shared by the CPU and the CUDA kernels. Values are float32 in [0, 1].
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/ops/common/augment_noise_math.h"
#include "csrc/ops/common/view_fields.h"
#include "csrc/stable/host_device.h"

namespace sslfast {

template <class T>
SSLFAST_SHARED T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
SSLFAST_SHARED T larger(T a, T b) {
  return a > b ? a : b;
}
#if defined(__CUDA_ARCH__)
// One instruction each on a GPU, where the comparisons above take two; they differ for NaN only.
SSLFAST_SHARED float smaller(float a, float b) { return fminf(a, b); }
SSLFAST_SHARED float larger(float a, float b) { return fmaxf(a, b); }
SSLFAST_SHARED float clamp01(float x) { return __saturatef(x); }
SSLFAST_SHARED float reciprocal(float x) { return __fdividef(1.0f, x); }
#else
// By bits, which from 0 on have the order of the values: compilers vectorise min and max of integers, but not of
// floats, which might be NaN.
SSLFAST_SHARED float clamp01(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits = smaller(larger(bits, 0), 0x3F800000);
  std::memcpy(&x, &bits, sizeof(bits));
  return x;
}
SSLFAST_SHARED float reciprocal(float x) { return 1.0f / x; }
#endif

// --- crop and resize -------------------------------------------------------------------------------------------------

struct Crop {
  int top, left, height, width;
};

// The crop of a row, cut to the image so that no table can make a kernel read outside of it.
SSLFAST_SHARED Crop crop_of(const AugmentParams& params, int image_height, int image_width) {
  Crop crop;
  crop.top = static_cast<int>(smaller(larger(params.crop_top, 0.0f), static_cast<float>(image_height - 1)));
  crop.left = static_cast<int>(smaller(larger(params.crop_left, 0.0f), static_cast<float>(image_width - 1)));
  crop.height =
      static_cast<int>(smaller(larger(params.crop_height, 1.0f), static_cast<float>(image_height - crop.top)));
  crop.width = static_cast<int>(smaller(larger(params.crop_width, 1.0f), static_cast<float>(image_width - crop.left)));
  return crop;
}

// Resize with antialiasing along one axis: output pixel i is the weighted mean of the inputs in [begin, end), under a
// triangle (bilinear) or Keys' cubic with a = -0.5 (bicubic), both stretched by max(scale, 1): as in
// torch.nn.functional.interpolate(antialias=True). What bicubic overshoots is cut to [0, 1].
struct ResizeAxis {
  float scale, support, inverse_stretch;
  int input;
  bool bicubic;
};

SSLFAST_SHARED ResizeAxis resize_axis(int input, int output, bool bicubic) {
  ResizeAxis axis;
  axis.scale = static_cast<float>(input) / static_cast<float>(output);
  const float stretch = larger(axis.scale, 1.0f);
  axis.support = bicubic ? 2.0f * stretch : stretch;
  axis.inverse_stretch = 1.0f / stretch;
  axis.input = input;
  axis.bicubic = bicubic;
  return axis;
}

struct ResizeWindow {
  int begin, end;
  float center, inverse_sum;
};

SSLFAST_SHARED float resize_weight(const ResizeAxis& axis, float center, int j) {
  const float x = fabsf((static_cast<float>(j) - center + 0.5f) * axis.inverse_stretch);
  if (!axis.bicubic) return larger(1.0f - x, 0.0f);
  if (x < 1.0f) return (1.5f * x - 2.5f) * x * x + 1.0f;
  return x < 2.0f ? ((-0.5f * x + 2.5f) * x - 4.0f) * x + 2.0f : 0.0f;
}

SSLFAST_SHARED ResizeWindow resize_window(const ResizeAxis& axis, int i) {
  ResizeWindow window;
  window.center = axis.scale * (static_cast<float>(i) + 0.5f);
  window.begin = larger(static_cast<int>(window.center - axis.support + 0.5f), 0);
  window.end = smaller(static_cast<int>(window.center + axis.support + 0.5f), axis.input);
  window.end = larger(window.end, smaller(window.begin + 1, axis.input));
  float sum = 0.0f;
  for (int j = window.begin; j < window.end; ++j) sum += resize_weight(axis, window.center, j);
  window.inverse_sum = 1.0f / sum;
  return window;
}

// --- rotation --------------------------------------------------------------------------------------------------------

// Rotation about the centre of a view: where pixel (x, y) of the result comes from.
struct Rotation {
  float cosine, sine, center_x, center_y;
};

SSLFAST_SHARED Rotation rotation_of(const AugmentParams& params, int height, int width) {
  // Multiples of 90 degrees are exact, so that they move pixels without blending them.
  const float turns = params.rotation / 90.0f;
  const float quarter = rintf(turns);
  float cosine, sine;
  if (turns == quarter) {
    const int k = static_cast<int>(quarter) & 3;
    cosine = k == 0 ? 1.0f : (k == 2 ? -1.0f : 0.0f);
    sine = k == 1 ? 1.0f : (k == 3 ? -1.0f : 0.0f);
  } else {
    cosine = cosine_of_turns(params.rotation / 360.0f);
    sine = sine_of_turns(params.rotation / 360.0f);
  }
  const float shrink = 1.0f / params.rotation_zoom;
  return {cosine * shrink, sine * shrink, 0.5f * static_cast<float>(width - 1), 0.5f * static_cast<float>(height - 1)};
}

SSLFAST_SHARED bool has_rotation(const AugmentParams& params) {
  return params.rotation != 0.0f || params.rotation_zoom != 1.0f;
}

// What a pixel of a rotated view is the weighted sum of: bilinear between two columns and two rows, which are cut to
// the view; nothing outside of it counts. Branch-free, so that compilers vectorise it; by name, not in arrays, which a
// loop on a GPU would keep in local memory.
struct RotatedTaps {
  int left, right, top, bottom;
  float at_left, at_right, at_top, at_bottom;  // weights

  // Of the four where they meet: columns change first.
  SSLFAST_HOST_DEVICE int x(int k) const { return (k & 1) != 0 ? right : left; }
  SSLFAST_HOST_DEVICE int y(int k) const { return (k & 2) != 0 ? bottom : top; }
  SSLFAST_HOST_DEVICE float weight(int k) const {
    return ((k & 1) != 0 ? at_right : at_left) * ((k & 2) != 0 ? at_bottom : at_top);
  }
};

SSLFAST_SHARED RotatedTaps rotated_taps(int height, int width, const Rotation& rotation, int x, int y) {
  const float dx = static_cast<float>(x) - rotation.center_x, dy = static_cast<float>(y) - rotation.center_y;
  const float source_x = rotation.cosine * dx - rotation.sine * dy + rotation.center_x;
  const float source_y = rotation.sine * dx + rotation.cosine * dy + rotation.center_y;
  const float left = floorf(source_x), top = floorf(source_y);
  const bool inside =
      left >= -1.0f && top >= -1.0f && left < static_cast<float>(width) && top < static_cast<float>(height);
  const int x0 = static_cast<int>(inside ? left : 0.0f), y0 = static_cast<int>(inside ? top : 0.0f);
  const float fx = inside ? source_x - left : 0.0f, fy = inside ? source_y - top : 0.0f;
  return {larger(x0, 0),
          smaller(x0 + 1, width - 1),
          larger(y0, 0),
          smaller(y0 + 1, height - 1),
          inside && x0 >= 0 ? 1.0f - fx : 0.0f,
          x0 + 1 < width ? fx : 0.0f,
          y0 >= 0 ? 1.0f - fy : 0.0f,
          y0 + 1 < height ? fy : 0.0f};
}

// Calls add(weight, x, y) for each of them that counts.
template <class Add>
SSLFAST_SHARED void for_each_rotated(int height, int width, const Rotation& rotation, int x, int y, const Add& add) {
  const RotatedTaps taps = rotated_taps(height, width, rotation, x, y);
  for (int k = 0; k < 4; ++k) {
    const float weight = taps.weight(k);
    if (weight > 0.0f) add(weight, taps.x(k), taps.y(k));
  }
}

// --- colour ----------------------------------------------------------------------------------------------------------

enum ColorStep : int { step_brightness = 0, step_contrast = 1, step_saturation = 2, step_hue = 3 };

// Eight permutations of the four steps, from number `first` in lexicographic order: a byte each, two bits a step.
constexpr uint64_t packed_orders(int first) {
  uint64_t packed = 0;
  for (int k = 0; k < 8; ++k) {
    int steps[4] = {0, 1, 2, 3};
    int rest = first + k;
    int factorial = 6;
    for (int i = 0; i < 3; ++i) {
      const int pick = rest / factorial;
      rest %= factorial;
      factorial /= 3 - i > 1 ? 3 - i : 1;
      const int chosen = steps[i + pick];
      for (int j = i + pick; j > i; --j) steps[j] = steps[j - 1];
      steps[i] = chosen;
    }
    for (int i = 0; i < 4; ++i) packed |= static_cast<uint64_t>(steps[i]) << (8 * k + 2 * i);
  }
  return packed;
}

// The four steps of permutation `order` (0 … 23), two bits each, the first lowest.
SSLFAST_SHARED int jitter_steps(int order) {
  constexpr uint64_t first = packed_orders(0), second = packed_orders(8), third = packed_orders(16);
  const uint64_t packed = order < 8 ? first : (order < 16 ? second : third);
  return static_cast<int>(packed >> 8 * (order & 7)) & 0xFF;
}

// Step `position` (0 … 3) of permutation `order` (0 … 23).
SSLFAST_SHARED int jitter_step(int order, int position) { return jitter_steps(order) >> 2 * position & 3; }

SSLFAST_SHARED int jitter_order(const AugmentParams& params) {
  return static_cast<int>(smaller(larger(params.jitter_order, 0.0f), 23.0f));
}

SSLFAST_SHARED float gray_of(float r, float g, float b) { return 0.2989f * r + 0.587f * g + 0.114f * b; }

SSLFAST_SHARED float blend(float value, float other, float factor) {
  return clamp01(factor * value + (1.0f - factor) * other);
}

// One channel of HSV -> RGB: v - v s max(0, min(1, k, 4 - k)) with k = (n + 6 h) mod 6; n = 5, 3, 1 for R, G, B.
SSLFAST_SHARED float hsv_channel(float n, float h6, float value, float chroma) {
  float k = n + h6;
  k = k >= 6.0f ? k - 6.0f : k;
  return value - chroma * clamp01(smaller(k, 4.0f - k));
}

// Turns the hue of one RGB pixel by `shift` turns in [-1, 1]. Branch-free, so that compilers vectorise it.
SSLFAST_SHARED void shift_hue(float& r, float& g, float& b, float shift) {
  const float value = larger(r, larger(g, b));
  const float chroma = value - smaller(r, smaller(g, b));
  const float inverse = reciprocal(chroma > 0.0f ? chroma : 1.0f);
  const float from_r = (g - b) * inverse;
  const float from_g = 2.0f + (b - r) * inverse;
  const float from_b = 4.0f + (r - g) * inverse;
  float h6 = value == r ? from_r : (value == g ? from_g : from_b);
  h6 += 6.0f * shift;
  h6 = h6 < 0.0f ? h6 + 6.0f : h6;
  h6 = h6 < 0.0f ? h6 + 6.0f : h6;
  h6 = h6 >= 6.0f ? h6 - 6.0f : h6;
  r = hsv_channel(5.0f, h6, value, chroma);
  g = hsv_channel(3.0f, h6, value, chroma);
  b = hsv_channel(1.0f, h6, value, chroma);
}

// --- blur ------------------------------------------------------------------------------------------------------------

constexpr int max_blur_radius = 4096;

// Half width of the gaussian that can be felt: what lies beyond 4 sigma is 6e-5 of it, a sixtieth of one level of 8
// bits.
SSLFAST_SHARED int blur_radius(const AugmentParams& params) {
  if (!(params.blur_sigma > 0.0f)) return 0;
  const float half = larger(params.blur_kernel - 1.0f, 0.0f) * 0.5f;
  return static_cast<int>(smaller(smaller(half, ceilf(4.0f * params.blur_sigma)), float{max_blur_radius}));
}

SSLFAST_SHARED float blur_weight(const AugmentParams& params, int distance) {
  const float x = static_cast<float>(distance) / params.blur_sigma;
  return expf(-0.5f * x * x);
}

// Reflection without repeating the edge (… 2 1 0 1 2 …), as often as it takes.
SSLFAST_SHARED int reflect(int i, int size) {
  if (size == 1) return 0;
  while (i < 0 || i >= size) i = i < 0 ? -i : 2 * (size - 1) - i;
  return i;
}

// --- sobel -----------------------------------------------------------------------------------------------------------

// Magnitude of the gradient by Sobel's 3x3 kernels over 8, from the differences across the three rows (right - left)
// and down the three columns (below - above).
SSLFAST_SHARED float sobel_of(float up, float here, float down, float left, float middle, float right) {
  const float gx = up + 2.0f * here + down, gy = left + 2.0f * middle + right;
  return 0.125f * sqrtf(gx * gx + gy * gy);
}

// The same in the middle of three rows of three values.
SSLFAST_SHARED float sobel_of(const float (&up)[3], const float (&here)[3], const float (&down)[3]) {
  return sobel_of(up[2] - up[0], here[2] - here[0], down[2] - down[0], down[0] - up[0], down[1] - up[1],
                  down[2] - up[2]);
}

// The same at (x, y) of a plane, with repeated edges.
SSLFAST_SHARED float sobel_at(const float* plane, int height, int width, int x, int y) {
  const int left = larger(x - 1, 0), right = smaller(x + 1, width - 1);
  const float* up = plane + static_cast<int64_t>(larger(y - 1, 0)) * width;
  const float* here = plane + static_cast<int64_t>(y) * width;
  const float* down = plane + static_cast<int64_t>(smaller(y + 1, height - 1)) * width;
  return sobel_of({up[left], up[x], up[right]}, {here[left], here[x], here[right]}, {down[left], down[x], down[right]});
}

// --- the end of a view -----------------------------------------------------------------------------------------------

SSLFAST_SHARED float solarize(float value, float threshold) { return value >= threshold ? 1.0f - value : value; }

// Value of a pixel after salt-and-pepper and masking noise, which hit all its channels alike.
SSLFAST_SHARED float pixel_noise(float value, const AugmentParams& params, int64_t key, uint32_t pixel) {
  if (params.noise_salt_pepper > 0.0f) {
    value = salt_and_pepper(value, params.noise_salt_pepper, uniform_of(noise_word(key, noise_salt_pepper, pixel)));
  }
  if (params.noise_masking > 0.0f) {
    if (uniform_of(noise_word(key, noise_masking, pixel)) < params.noise_masking) value = 0.0f;
  }
  return value;
}

SSLFAST_SHARED bool channel_dropped(const AugmentParams& params, int channel) {
  return (static_cast<uint32_t>(smaller(larger(params.channel_drop, 0.0f), 65535.0f)) >> channel & 1u) != 0;
}

// The cutout of a row in pixels, cut to the view; it becomes 0 after normalisation: the mean of the data set.
struct Cutout {
  int top, left, bottom, right;
};

SSLFAST_SHARED Cutout cutout_of(const AugmentParams& params, int height, int width) {
  const float top = smaller(larger(params.cutout_top, 0.0f), static_cast<float>(height));
  const float left = smaller(larger(params.cutout_left, 0.0f), static_cast<float>(width));
  const float bottom = smaller(larger(top + params.cutout_height, top), static_cast<float>(height));
  const float right = smaller(larger(left + params.cutout_width, left), static_cast<float>(width));
  return {static_cast<int>(top), static_cast<int>(left), static_cast<int>(bottom), static_cast<int>(right)};
}

// Solarize, noise, channel drop and normalisation of one value: what is left to do when a view is stored.
SSLFAST_SHARED float finish(float value, const AugmentParams& params, int64_t key, uint32_t pixel, uint32_t pixels,
                            int channel, float mean, float inverse_std) {
  value = solarize(value, params.solarize_threshold);
  if (params.noise_gaussian > 0.0f) {
    value = clamp01(value + params.noise_gaussian * normal_noise(key, static_cast<uint32_t>(channel) * pixels + pixel));
  }
  value = pixel_noise(value, params, key, pixel);
  if (channel_dropped(params, channel)) value = 0.0f;
  return (value - mean) * inverse_std;
}

// Whether an image lies inside the storage; no sum or product here overflows, whatever the numbers.
SSLFAST_SHARED bool inside_storage(int64_t offset, int height, int width, int channels, int64_t storage_bytes) {
  return height > 0 && width > 0 && offset >= 0 && offset <= storage_bytes &&
         static_cast<int64_t>(height) * width <= (storage_bytes - offset) / channels;
}

}  // namespace sslfast
