// The vertical pass of the resize: twelve neighbouring bytes of a row of the view as weighted sums of source rows.
//
// A thread cuts its twelve bytes from four words of each source row. For float32 results it adds up floats. For 16-bit
// results it takes two rows at a time: bytes of both side by side, times a pair of weights in fixed point (2^-14,
// an error of 3e-5 at most for two rows, of 1e-5 sqrt(rows) or so for more), are one integer instruction for two
// products. The sums begin with
// the bits of 2^23 + 2^21, and so are floats as they stand: no conversion, and room for what bicubic undershoots.
#pragma once

#include "csrc/ops/cuda/augment_planes.cuh"
#include "csrc/stable/tensor_core.h"

namespace sslfast {
namespace {

struct Source {
  const uint8_t* crop;
  const uint8_t* end;  // of the storage
  int64_t stride;
  ResizeAxis vertical, horizontal;
  bool flip, mirror;
  // Whether all words that hold bytes of the crop, and three more, lie inside the storage and within 2^31 bytes. Then
  // `base` is the first of them, and 32 bits name a byte by its distance from there.
  bool words;
  const uint8_t* base;
};

template <class V>
__device__ Source source_of(const V& view) {
  const AugmentArgs& args = view.args;
  const int image_width = args.sizes[2 * view.image + 1];
  const Crop crop = crop_of(view.params, args.sizes[2 * view.image], image_width);
  Source source;
  source.stride = static_cast<int64_t>(image_width) * args.channels;
  source.crop = args.storage + args.offsets[view.image] + crop.top * source.stride +
                static_cast<int64_t>(crop.left) * args.channels;
  source.end = args.storage + args.storage_bytes;
  const bool bicubic = view.params.bicubic != 0.0f;
  source.vertical = resize_axis(crop.height, args.height, bicubic);
  source.horizontal = resize_axis(crop.width, args.width, bicubic);
  source.flip = view.params.hflip != 0.0f;
  source.mirror = view.params.vflip != 0.0f;
  source.base = source.crop - reinterpret_cast<uintptr_t>(source.crop) % 4;
  const uint8_t* const last =
      source.crop + (crop.height - 1) * source.stride + static_cast<int64_t>(crop.width) * args.channels;
  source.words = source.base >= args.storage && last + 16 <= source.end && last - source.base < int64_t{1} << 31;
  return source;
}

constexpr int unit = 12;                // bytes of a row that a thread resizes at once
constexpr float weight_one = 16384.0f;  // of fixed-point weights
constexpr float sum_zero = 8388608.0f + 2097152.0f;

// What weights of columns are multiplied by, so that sums become values in [0, 1].
template <class V>
constexpr float column_scale = V::fixed_point ? 1.0f / (255.0f * weight_one) : 1.0f / 255.0f;

struct Unit {
  uint32_t words[unit / 4];
};

// `place` is the distance of the first byte from the base.
__device__ inline Unit load_words(const Source& source, unsigned place) {
  const uint32_t* const in = reinterpret_cast<const uint32_t*>(source.base + (place & ~3u));
  const uint32_t words[4] = {__ldg(in), __ldg(in + 1), __ldg(in + 2), __ldg(in + 3)};
  return {__funnelshift_r(words[0], words[1], 8 * place), __funnelshift_r(words[1], words[2], 8 * place),
          __funnelshift_r(words[2], words[3], 8 * place)};
}

// The same at the ends of the storage; what lies behind the storage counts as 0.
__device__ inline Unit load_bytes(const Source& source, const uint8_t* in) {
  Unit bytes = {};
#pragma unroll
  for (int i = 0; i < unit; ++i) {
    if (in + i < source.end) bytes.words[i / 4] |= static_cast<uint32_t>(__ldg(in + i)) << i % 4 * 8;
  }
  return bytes;
}

// Turns weights into pairs of fixed-point numbers, in place. What rounding leaves goes to the next weight, so that the
// sum of all stays what it is.
__device__ inline void pair_weights(float* weights, int count) {
  float total = 0.0f;
  int given = 0;
  const auto next = [&](int k) {
    if (k < count) total += weights[k];
    const int sum = __float2int_rn(total * weight_one);
    const int weight = sum - given;
    given = sum;
    return static_cast<uint32_t>(weight) & 0xFFFFu;
  };
#pragma unroll 1
  for (int k = 0; k < count; k += 2) {
    const uint32_t low = next(k), high = next(k + 1);
    weights[k / 2] = __uint_as_float(high << 16 | low);
  }
}

// Sums of a unit over rows 0 … count - 1 of `load`, times their weights.
template <class V, class Load>
__device__ void sum_rows(const Load& load, const float* weights, int count, float (&sum)[unit]) {
  if constexpr (V::fixed_point) {
    uint32_t bits[unit];
#pragma unroll
    for (int i = 0; i < unit; ++i) bits[i] = __float_as_uint(sum_zero);
    int k = 0;
#pragma unroll 1
    do {
      const Unit even = load(k), odd = load(smaller(k + 1, count - 1));
      const uint32_t pair = __float_as_uint(weights[k / 2]);
#pragma unroll
      for (int w = 0; w < unit / 4; ++w) {
        const uint32_t low = __byte_perm(even.words[w], odd.words[w], 0x5140);
        const uint32_t high = __byte_perm(even.words[w], odd.words[w], 0x7362);
        bits[4 * w] = dot_pair<false>(pair, low, bits[4 * w]);
        bits[4 * w + 1] = dot_pair<true>(pair, low, bits[4 * w + 1]);
        bits[4 * w + 2] = dot_pair<false>(pair, high, bits[4 * w + 2]);
        bits[4 * w + 3] = dot_pair<true>(pair, high, bits[4 * w + 3]);
      }
      k += 2;
    } while (k < count);
#pragma unroll
    for (int i = 0; i < unit; ++i) sum[i] = __uint_as_float(bits[i]) - sum_zero;
  } else {
#pragma unroll
    for (int i = 0; i < unit; ++i) sum[i] = 0.0f;
    int k = 0;
#pragma unroll 2
    do {
      const Unit row = load(k);
      const float weight = weights[k];
#pragma unroll
      for (int i = 0; i < unit; ++i) sum[i] += weight * of_bytes(row.words[i / 4], 0x7650 + i % 4);
    } while (++k < count);
  }
}

}  // namespace
}  // namespace sslfast
