// Colour jitter and grayscale on planes, a block of pixels at a time so that the steps meet in the first-level cache.
#pragma once

#include <cstdint>

#include "csrc/ops/common/augment_math.h"

namespace sslfast {
namespace {

constexpr int color_block = 1024;

// The pixels [begin, begin + n) of all planes.
struct ColorBlock {
  float* planes;
  int64_t pixels;
  int64_t begin;
  int n, channels;

  float* channel(int c) const { return planes + c * pixels + begin; }
};

inline void block_gray(const ColorBlock& block, float* __restrict gray) {
  if (block.channels == 3) {
    const float* __restrict r = block.channel(0), * __restrict g = block.channel(1), * __restrict b = block.channel(2);
#pragma omp simd
    for (int i = 0; i < block.n; ++i) gray[i] = gray_of(r[i], g[i], b[i]);
    return;
  }
  for (int i = 0; i < block.n; ++i) gray[i] = 0.0f;
  for (int c = 0; c < block.channels; ++c) {
    const float* __restrict in = block.channel(c);
    for (int i = 0; i < block.n; ++i) gray[i] += in[i];
  }
  const float scale = 1.0f / static_cast<float>(block.channels);
  for (int i = 0; i < block.n; ++i) gray[i] *= scale;
}

// Every channel becomes factor * value + (1 - factor) * other, cut to [0, 1].
inline void block_blend_constant(const ColorBlock& block, float other, float factor) {
  for (int c = 0; c < block.channels; ++c) {
    float* __restrict value = block.channel(c);
#pragma omp simd
    for (int i = 0; i < block.n; ++i) value[i] = blend(value[i], other, factor);
  }
}

inline void block_blend_gray(const ColorBlock& block, float factor) {
  float gray[color_block];
  block_gray(block, gray);
  for (int c = 0; c < block.channels; ++c) {
    float* __restrict value = block.channel(c);
#pragma omp simd
    for (int i = 0; i < block.n; ++i) value[i] = blend(value[i], gray[i], factor);
  }
}

inline void block_hue(const ColorBlock& block, float shift) {
  if (block.channels != 3) return;
  float* __restrict r = block.channel(0), * __restrict g = block.channel(1), * __restrict b = block.channel(2);
#pragma omp simd
  for (int i = 0; i < block.n; ++i) {
    float red = r[i], green = g[i], blue = b[i];
    shift_hue(red, green, blue, shift);
    r[i] = red;
    g[i] = green;
    b[i] = blue;
  }
}

inline void block_grayscale(const ColorBlock& block) {
  float gray[color_block];
  block_gray(block, gray);
  for (int c = 0; c < block.channels; ++c) {
    float* __restrict value = block.channel(c);
    for (int i = 0; i < block.n; ++i) value[i] = gray[i];
  }
}

inline void block_step(const ColorBlock& block, int step, const AugmentParams& params, float gray_mean) {
  switch (step) {
    case step_brightness:
      if (params.brightness != 1.0f) block_blend_constant(block, 0.0f, params.brightness);
      return;
    case step_contrast:
      if (params.contrast != 1.0f) block_blend_constant(block, gray_mean, params.contrast);
      return;
    case step_saturation:
      if (params.saturation != 1.0f) block_blend_gray(block, params.saturation);
      return;
    default:
      if (params.hue != 0.0f) block_hue(block, params.hue);
  }
}

template <class Body>
inline void for_each_block(float* planes, int64_t pixels, int channels, const Body& body) {
  for (int64_t begin = 0; begin < pixels; begin += color_block) {
    body(ColorBlock{planes, pixels, begin, static_cast<int>(smaller<int64_t>(color_block, pixels - begin)), channels});
  }
}

// Contrast needs the mean gray of the whole view at its place in the order: what comes before it is a pass of its own.
inline void jitter_colors(float* planes, int64_t pixels, int channels, const AugmentParams& params) {
  const int order = jitter_order(params);
  int contrast_position = 0;
  while (jitter_step(order, contrast_position) != step_contrast) ++contrast_position;
  int done = 0;
  float gray_mean = 0.0f;
  if (params.contrast != 1.0f) {
    done = contrast_position;
    double sum = 0.0;
    for_each_block(planes, pixels, channels, [&](const ColorBlock& block) {
      for (int k = 0; k < contrast_position; ++k) block_step(block, jitter_step(order, k), params, 0.0f);
      float gray[color_block];
      block_gray(block, gray);
      float block_sum = 0.0f;
#pragma omp simd reduction(+ : block_sum)
      for (int i = 0; i < block.n; ++i) block_sum += gray[i];
      sum += block_sum;
    });
    gray_mean = static_cast<float>(sum / static_cast<double>(pixels));
  }
  const bool jitter =
      params.brightness != 1.0f || params.contrast != 1.0f || params.saturation != 1.0f || params.hue != 0.0f;
  const bool gray = params.grayscale != 0.0f;
  if (!jitter && !gray) return;
  for_each_block(planes, pixels, channels, [&](const ColorBlock& block) {
    if (jitter) {
      for (int k = done; k < 4; ++k) block_step(block, jitter_step(order, k), params, gray_mean);
    }
    if (gray) block_grayscale(block);
  });
}

}  // namespace
}  // namespace sslfast
