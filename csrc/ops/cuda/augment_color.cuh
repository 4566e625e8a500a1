// Colour jitter and grayscale on the pixels that a thread holds in registers.
#pragma once

#include "csrc/ops/cuda/augment_planes.cuh"
#include "csrc/stable/tensor_core.h"

namespace sslfast {
namespace {

template <int width>
struct Pixel {
  float value[width];
};

// Loops over the channels that exist; `width` of them are in registers.
#define SSLFAST_EACH_CHANNEL(c, width, channels) \
  _Pragma("unroll") for (int c = 0; c < (width); ++c) if ((width) == 3 || c < (channels))

// The weighted sum of three channels, else their mean.
template <int width>
__device__ float gray_of_pixel(const Pixel<width>& pixel, int channels) {
  if constexpr (width == 3) return gray_of(pixel.value[0], pixel.value[1], pixel.value[2]);
  float sum = 0.0f;
  SSLFAST_EACH_CHANNEL(c, width, channels) sum += pixel.value[c];
  return sum / static_cast<float>(channels);
}

// Contrast needs the mean gray of the whole view at its place in the order: the `before` steps in front of it are done
// when the view is resized, the rest after its gray is summed up. Without contrast all steps belong to the rest.
struct ColorPlan {
  int steps;  // two bits a step
  int before;
  bool contrast;
};

__device__ inline ColorPlan color_plan(const AugmentParams& params) {
  ColorPlan plan{jitter_steps(jitter_order(params)), 0, params.contrast != 1.0f};
  if (plan.contrast) {
    while ((plan.steps >> 2 * plan.before & 3) != step_contrast) ++plan.before;
  }
  return plan;
}

template <int width, int count>
__device__ void blend_pixels(Pixel<width> (&pixels)[count], int channels, float other, float factor) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
    SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] = blend(pixels[i].value[c], other, factor);
  }
}

// shift_hue for a GPU, whose comparisons cost as much as sums: the shift is part of the hue's six offsets, and channels
// are distances from their hues, red 3 (outside of), green 2 and blue 4 (within), instead of a remainder each.
__device__ inline void turn_hue(float& r, float& g, float& b, float shift) {
  float turned = 6.0f * shift;
  turned = turned < 0.0f ? turned + 6.0f : turned;
  turned = turned >= 6.0f ? turned - 6.0f : turned;
  const float value = fmaxf(r, fmaxf(g, b)), least = fminf(r, fminf(g, b));
  const float chroma = value - least;
  const float inverse = fast_reciprocal(fmaxf(chroma, 1e-30f));
  float h6 = fmaf(r - g, inverse, turned + 4.0f);
  if (value == g) h6 = fmaf(b - r, inverse, turned + 2.0f);
  if (value == r) h6 = fmaf(g - b, inverse, turned);
  h6 = h6 < 0.0f ? h6 + 6.0f : h6;
  h6 = h6 >= 6.0f ? h6 - 6.0f : h6;
  r = fmaf(chroma, clamp01(fabsf(h6 - 3.0f) - 1.0f), least);
  g = fmaf(chroma, clamp01(2.0f - fabsf(h6 - 2.0f)), least);
  b = fmaf(chroma, clamp01(2.0f - fabsf(h6 - 4.0f)), least);
}

template <int width, int count>
__device__ void color_steps(Pixel<width> (&pixels)[count], const AugmentParams& params, const ColorPlan& plan,
                            int begin, int end, int channels, float gray_mean) {
#pragma unroll 1
  for (int k = begin; k < end; ++k) {
    const int step = plan.steps >> 2 * k & 3;
    if (step == step_brightness) {
      if (params.brightness != 1.0f) blend_pixels(pixels, channels, 0.0f, params.brightness);
    } else if (step == step_contrast) {
      if (params.contrast != 1.0f) blend_pixels(pixels, channels, gray_mean, params.contrast);
    } else if (step == step_saturation) {
      if (params.saturation == 1.0f) continue;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const float gray = gray_of_pixel(pixels[i], channels);
        SSLFAST_EACH_CHANNEL(c, width, channels) {
          pixels[i].value[c] = blend(pixels[i].value[c], gray, params.saturation);
        }
      }
    } else if (width == 3 && params.hue != 0.0f) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        turn_hue(pixels[i].value[0], pixels[i].value[1], pixels[i].value[2], params.hue);
      }
    }
  }
}

// The rest of the steps, and grayscale.
template <int width, int count>
__device__ void finish_color(Pixel<width> (&pixels)[count], const AugmentParams& params, const ColorPlan& plan,
                             int channels, float gray_mean) {
  color_steps(pixels, params, plan, plan.before, 4, channels, gray_mean);
  if (params.grayscale == 0.0f) return;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const float gray = gray_of_pixel(pixels[i], channels);
    SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] = gray;
  }
}

}  // namespace
}  // namespace sslfast
