// Colour jitter and grayscale on planes, a block of pixels at a time so that the steps meet in the first-level cache.
#pragma once

#include <cstdint>

#include "csrc/ops/common/augment_math.h"
#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

inline void block_gray(const Block& block, float* __restrict gray) {
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
inline void block_blend_constant(const Block& block, float other, float factor) {
  for (int c = 0; c < block.channels; ++c) {
    float* __restrict value = block.channel(c);
#pragma omp simd
    for (int i = 0; i < block.n; ++i) value[i] = blend(value[i], other, factor);
  }
}

inline void block_blend_gray(const Block& block, float factor) {
  if (block.channels == 3) {
    float* __restrict r = block.channel(0), * __restrict g = block.channel(1), * __restrict b = block.channel(2);
#pragma omp simd
    for (int i = 0; i < block.n; ++i) {
      const float gray = gray_of(r[i], g[i], b[i]);
      r[i] = blend(r[i], gray, factor);
      g[i] = blend(g[i], gray, factor);
      b[i] = blend(b[i], gray, factor);
    }
    return;
  }
  float gray[block_pixels];
  block_gray(block, gray);
  for (int c = 0; c < block.channels; ++c) {
    float* __restrict value = block.channel(c);
#pragma omp simd
    for (int i = 0; i < block.n; ++i) value[i] = blend(value[i], gray[i], factor);
  }
}

inline void block_hue(const Block& block, float shift) {
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

inline void block_grayscale(const Block& block) {
  float gray[block_pixels];
  block_gray(block, gray);
  for (int c = 0; c < block.channels; ++c) {
    float* __restrict value = block.channel(c);
    for (int i = 0; i < block.n; ++i) value[i] = gray[i];
  }
}

inline float block_gray_sum(const Block& block) {
  float gray[block_pixels], sum = 0.0f;
  block_gray(block, gray);
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < block.n; ++i) sum += gray[i];
  return sum;
}

// The colour steps of a view that change it, in their order. Contrast needs the mean gray of the whole view at its
// place: the view must have gone through `before_contrast`, block by block, when the first block enters `the_rest`.
class ColorSteps {
 public:
  ColorSteps(const AugmentParams& params, int64_t pixels) : params_(params), pixels_(pixels) {
    const int order = jitter_order(params);
    const bool changes[4] = {params.brightness != 1.0f, params.contrast != 1.0f, params.saturation != 1.0f,
                             params.hue != 0.0f};
    for (int k = 0; k < 4; ++k) {
      const int step = jitter_step(order, k);
      if (step == step_contrast && changes[step]) contrast_ = count_;
      if (changes[step]) steps_[count_++] = step;
    }
  }

  bool has_contrast() const { return contrast_ != none; }

  void before_contrast(const Block& view) {
    if (contrast_ == none) return;
    for_each_piece(view, [&](const Block& block) {
      for (int k = 0; k < contrast_; ++k) apply(block, steps_[k]);
      gray_sum_ += block_gray_sum(block);
    });
  }

  void the_rest(const Block& view) const {
    if (count_ == 0 && params_.grayscale == 0.0f) return;
    for_each_piece(view, [&](const Block& block) {
      for (int k = contrast_ == none ? 0 : contrast_; k < count_; ++k) apply(block, steps_[k]);
      if (params_.grayscale != 0.0f) block_grayscale(block);
    });
  }

 private:
  void apply(const Block& block, int step) const {
    switch (step) {
      case step_brightness: return block_blend_constant(block, 0.0f, params_.brightness);
      case step_contrast:
        return block_blend_constant(block, static_cast<float>(gray_sum_ / static_cast<double>(pixels_)),
                                    params_.contrast);
      case step_saturation: return block_blend_gray(block, params_.saturation);
      default: return block_hue(block, params_.hue);
    }
  }

  static constexpr int none = -1;
  const AugmentParams& params_;
  int64_t pixels_;
  double gray_sum_ = 0.0;
  int steps_[4];
  int count_ = 0, contrast_ = none;  // position of contrast among the steps
};

}  // namespace
}  // namespace sslfast
