// What is left to do when a view is stored: solarize, noise, channel drop, normalisation, cutout, and the result's
// dtype and layout.
#pragma once

#include <cstring>

#include "csrc/ops/augment.h"
#include "csrc/ops/cpu/augment_noise.h"
#include "csrc/ops/cpu/augment_planes.h"
#include "csrc/ops/cpu/convert.h"

namespace sslfast {
namespace {

inline void copy(const Block& block, const Planes& planes, int64_t first) {
  for (int c = 0; c < block.channels; ++c) {
    std::memcpy(planes.channel(c) + first, block.channel(c), sizeof(float) * static_cast<size_t>(block.n));
  }
}

template <class T>
class ViewStore {
 public:
  ViewStore(const AugmentArgs& args, int64_t b)
      : args_(args),
        params_(args.params[b]),
        key_(args.noise_key[b]),
        spoiled_(is_spoiled(params_)),
        threshold_(spoiled_ ? never : params_.solarize_threshold),
        pixels_(static_cast<uint32_t>(args.height) * static_cast<uint32_t>(args.width)),
        view_(static_cast<T*>(args.out) + b * args.channels * static_cast<int64_t>(pixels_)) {}

  // A block of which `first` is the number of its first pixel in the view. What it holds may change.
  void operator()(const Block& block, int64_t first) const {
    if (spoiled_) spoil(params_, key_, pixels_, block, first);
    if (args_.stride_pixel == 1) {
      planar(block, first);
    } else if (args_.channels == 3) {
      interleaved_rgb(block, first);
    } else {
      strided(block, first);
    }
  }

  void cutout() const {
    const Cutout cut = cutout_of(params_, args_.height, args_.width);
    for (int c = 0; c < args_.channels; ++c) {
      for (int y = cut.top; y < cut.bottom; ++y) {
        for (int x = cut.left; x < cut.right; ++x) {
          *at(c, static_cast<int64_t>(y) * args_.width + x) = convert<T>(0.0f);
        }
      }
    }
  }

 private:
  static constexpr float never = 2.0f;  // no value is as large

  T* at(int c, int64_t pixel) const { return view_ + c * args_.stride_channel + pixel * args_.stride_pixel; }

  T normal(float value, int c) const {
    return convert<T>((solarize(value, threshold_) - args_.mean[c]) * args_.inverse_std[c]);
  }

  void planar(const Block& block, int64_t first) const {
    for (int c = 0; c < block.channels; ++c) {
      const float* __restrict in = block.channel(c);
      T* __restrict out = at(c, first);
      const float threshold = threshold_, mean = args_.mean[c], inverse_std = args_.inverse_std[c];
#pragma omp simd
      for (int64_t i = 0; i < block.n; ++i) out[i] = convert<T>((solarize(in[i], threshold) - mean) * inverse_std);
    }
  }

  void interleaved_rgb(const Block& block, int64_t first) const {
    const float* __restrict r = block.channel(0), * __restrict g = block.channel(1), * __restrict b = block.channel(2);
    T* __restrict out = at(0, first);
    const float threshold = threshold_;
    const float mean[3] = {args_.mean[0], args_.mean[1], args_.mean[2]};
    const float inverse_std[3] = {args_.inverse_std[0], args_.inverse_std[1], args_.inverse_std[2]};
#pragma omp simd
    for (int64_t i = 0; i < block.n; ++i) {
      out[3 * i] = convert<T>((solarize(r[i], threshold) - mean[0]) * inverse_std[0]);
      out[3 * i + 1] = convert<T>((solarize(g[i], threshold) - mean[1]) * inverse_std[1]);
      out[3 * i + 2] = convert<T>((solarize(b[i], threshold) - mean[2]) * inverse_std[2]);
    }
  }

  void strided(const Block& block, int64_t first) const {
    for (int c = 0; c < block.channels; ++c) {
      for (int64_t i = 0; i < block.n; ++i) *at(c, first + i) = normal(block.channel(c)[i], c);
    }
  }

  const AugmentArgs& args_;
  const AugmentParams& params_;
  int64_t key_;
  bool spoiled_;
  float threshold_;  // of what is left to solarize
  uint32_t pixels_;
  T* view_;
};

}  // namespace
}  // namespace sslfast
