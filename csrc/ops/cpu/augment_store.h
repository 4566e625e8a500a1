// What is left to do when a view is stored: solarize, noise, channel drop, normalisation, cutout, and the result's
// dtype and layout.
#pragma once

#include <cstring>
#include <type_traits>

#include "csrc/ops/augment.h"
#include "csrc/ops/cpu/augment_noise.h"
#include "csrc/ops/cpu/augment_pack.h"
#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

inline void copy(const Block& block, const Planes& planes, int64_t first) {
  for (int c = 0; c < block.channels; ++c) {
    std::memcpy(planes.channel(c) + first, block.channel(c), sizeof(float) * static_cast<size_t>(block.n));
  }
}

// From this size on, a result would push everything else out of the caches and then itself.
constexpr uint64_t least_streamed_bytes = uint64_t{16} << 20;

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
        streams_(args.count * args.channels * pixels_ * sizeof(T) >= least_streamed_bytes),
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

  // What is moved about: gcc does not vectorise moves of _Float16.
  typedef std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t> Bits __attribute__((may_alias));

  T* at(int c, int64_t pixel) const { return view_ + c * args_.stride_channel + pixel * args_.stride_pixel; }

  T normal(float value, int c) const {
    return convert<T>((solarize(value, threshold_) - args_.mean[c]) * args_.inverse_std[c]);
  }

  // Solarize and normalisation of n values of channel c.
  template <bool stream>
  void normalise(const float* __restrict in, int c, int64_t n, T* __restrict out) const {
    const float threshold = threshold_, mean = args_.mean[c], inverse_std = args_.inverse_std[c];
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const Lanes value = load_lanes(in + i);
      const Lanes normal = ((value >= threshold ? 1.0f - value : value) - mean) * inverse_std;
      stream ? stream_lanes(out + i, normal) : store_lanes(out + i, normal);
    }
    for (; i < n; ++i) out[i] = convert<T>((solarize(in[i], threshold) - mean) * inverse_std);
  }

  void planar(const Block& block, int64_t first) const {
    for (int c = 0; c < block.channels; ++c) {
      T* out = at(c, first);
      if (streams_ && reinterpret_cast<uintptr_t>(out) % (sizeof(T) * lanes) == 0) {
        normalise<true>(block.channel(c), c, block.n, out);
      } else {
        normalise<false>(block.channel(c), c, block.n, out);
      }
    }
  }

  void interleaved_rgb(const Block& block, int64_t first) const {
    for_each_piece(block, [&](const Block& piece) {
      Bits values[3][block_pixels];
      for (int c = 0; c < 3; ++c) normalise<false>(piece.channel(c), c, piece.n, reinterpret_cast<T*>(values[c]));
      Bits* __restrict out = reinterpret_cast<Bits*>(at(0, first + (piece.data - block.data)));
#pragma omp simd
      for (int64_t i = 0; i < piece.n; ++i) {
        out[3 * i] = values[0][i];
        out[3 * i + 1] = values[1][i];
        out[3 * i + 2] = values[2][i];
      }
    });
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
  bool streams_;
  T* view_;
};

}  // namespace
}  // namespace sslfast
