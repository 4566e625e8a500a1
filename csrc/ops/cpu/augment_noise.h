// Noise and dropped channels, a run of pixels at a time: four neighbours share one call of Philox, and the loops are
// vectorised.
#pragma once

#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

// The random words of up to `block_pixels` neighbouring elements of a stream.
class NoiseWords {
 public:
  // Entry i of the result belongs to element first + i.
  const uint32_t* draw(int64_t key, NoiseStream stream, uint32_t first, int64_t n) {
    fill(key, stream, first, n);
    return words_ + (first & 3u);
  }

  // The same with standard normal numbers.
  const float* draw_normal(int64_t key, uint32_t first, int64_t n) {
    fill(key, noise_gaussian, first, n);
    const int64_t pairs = ((first & 3u) + n + 1) / 2;
#pragma omp simd
    for (int64_t i = 0; i < pairs; ++i) {
      normal_pair(words_[2 * i], words_[2 * i + 1], normal_[2 * i], normal_[2 * i + 1]);
    }
    return normal_ + (first & 3u);
  }

 private:
  static constexpr uint32_t last_group = 0x3FFFFFFF;  // elements are numbered modulo 2^32

  void fill(int64_t key, NoiseStream stream, uint32_t first, int64_t n) {
    const uint32_t begin = first >> 2;
    const int64_t groups = ((first & 3u) + n + 3) / 4;
#pragma omp simd
    for (int64_t i = 0; i < groups; ++i) {
      const Philox drawn =
          philox(static_cast<uint64_t>(key), (begin + static_cast<uint32_t>(i)) & last_group, stream, 0, 0);
      for (int k = 0; k < 4; ++k) words_[4 * i + k] = drawn.word[k];
    }
  }

  uint32_t words_[block_pixels + 8];
  float normal_[block_pixels + 8];
};

inline bool is_spoiled(const AugmentParams& params) {
  return params.noise_gaussian > 0.0f || params.noise_salt_pepper > 0.0f || params.noise_masking > 0.0f ||
         params.channel_drop != 0.0f;
}

// Solarizes, adds the noise and drops channels, in place. Pixel `first` of a view of `pixels` is the block's first.
inline void spoil(const AugmentParams& params, int64_t key, uint32_t pixels, const Block& block, int64_t first) {
  NoiseWords words;
  for_each_piece(block, [&](const Block& piece) {
    const int64_t n = piece.n;
    const uint32_t pixel = static_cast<uint32_t>(first + (piece.data - block.data));
    for (int c = 0; c < piece.channels; ++c) {
      float* __restrict value = piece.channel(c);
      const float threshold = params.solarize_threshold, sigma = params.noise_gaussian;
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) value[i] = solarize(value[i], threshold);
      if (!(sigma > 0.0f)) continue;
      const float* __restrict normal = words.draw_normal(key, static_cast<uint32_t>(c) * pixels + pixel, n);
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) value[i] = clamp01(value[i] + sigma * normal[i]);
    }
    const auto each_channel = [&](NoiseStream stream, const auto& change) {
      const uint32_t* __restrict word = words.draw(key, stream, pixel, n);
      for (int c = 0; c < piece.channels; ++c) {
        float* __restrict value = piece.channel(c);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) value[i] = change(value[i], uniform_of(word[i]));
      }
    };
    const float spoilt = params.noise_salt_pepper, masked = params.noise_masking;
    if (spoilt > 0.0f) {
      each_channel(noise_salt_pepper, [=](float value, float u) { return salt_and_pepper(value, spoilt, u); });
    }
    if (masked > 0.0f) each_channel(noise_masking, [=](float value, float u) { return u < masked ? 0.0f : value; });
    for (int c = 0; c < piece.channels; ++c) {
      if (channel_dropped(params, c)) std::memset(piece.channel(c), 0, sizeof(float) * static_cast<size_t>(n));
    }
  });
}

}  // namespace
}  // namespace sslfast
