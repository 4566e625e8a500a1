// How a view lies in memory while it is made, and how blocks read and write it.
//
// A view's working planes have the layout of its result, and its size: the value of channel c of pixel p is number
// c * stride_channel + p * stride_pixel. For float32 results they hold float32. For 16-bit results they hold
// fixed point, round(value * 32768), whose error of 1.5e-5 is a sixteenth of float16's own next to 1. So the memory of
// a result can hold its own working planes, and no other device memory is needed.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <type_traits>

#include "csrc/ops/augment.h"
#include "csrc/ops/common/augment_math.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

template <class T>
struct StoredAs {
  using type = uint16_t;
};
template <>
struct StoredAs<float> {
  using type = float;
};
template <class T>
using Stored = typename StoredAs<T>::type;

// 2^23 + n has the integer n in its lowest bits: conversions without the slow conversion unit.
constexpr float shifted_one = 8388608.0f;
constexpr uint32_t shifted_bits = 0x4B000000u;
constexpr float plane_one = 32768.0f;  // a power of two: codes become values in one exact instruction

__device__ inline float of_bytes(uint32_t word, uint32_t selector) {
  return __uint_as_float(__byte_perm(word, shifted_bits, selector)) - shifted_one;
}

__device__ inline float decode(float value) { return value; }
__device__ inline float decode_half(uint32_t word, uint32_t selector) {
  return fmaf(__uint_as_float(__byte_perm(word, shifted_bits, selector)), 1.0f / plane_one, -shifted_one / plane_one);
}
__device__ inline float decode(uint16_t code) { return decode_half(code, 0x7610); }

// The two codes of 16 bits: working planes and results.
struct PlaneCode {
  static __device__ uint32_t one(float value) { return __float_as_uint(fmaf(value, plane_one, shifted_one)); }
  static __device__ uint32_t two(float low, float high) { return __byte_perm(one(low), one(high), 0x5410); }
};
template <class T>
struct ResultCode {};  // float32 has no code
template <>
struct ResultCode<__half> {
  static __device__ uint32_t two(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
  }
  static __device__ uint32_t one(float value) { return two(value, 0.0f); }
};
template <>
struct ResultCode<__nv_bfloat16> {
  static __device__ uint32_t two(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
  }
  static __device__ uint32_t one(float value) { return two(value, 0.0f); }
};

template <class Code>
__device__ inline void store_one(uint16_t* out, float value) {
  *out = static_cast<uint16_t>(Code::one(value));
}
template <class Code>
__device__ inline void store_one(float* out, float value) {
  *out = value;
}
template <class Code>
__device__ inline void store_two(uint16_t* out, float low, float high) {
  *reinterpret_cast<uint32_t*>(out) = Code::two(low, high);
}
template <class Code>
__device__ inline void store_two(float* out, float low, float high) {
  *reinterpret_cast<float2*>(out) = make_float2(low, high);
}
template <class Code>
__device__ inline void store_four(uint16_t* out, const float (&v)[4]) {
  *reinterpret_cast<uint2*>(out) = make_uint2(Code::two(v[0], v[1]), Code::two(v[2], v[3]));
}
template <class Code>
__device__ inline void store_four(float* out, const float (&v)[4]) {
  *reinterpret_cast<float4*>(out) = make_float4(v[0], v[1], v[2], v[3]);
}

__device__ inline void load_four(const uint16_t* in, float (&v)[4]) {
  const uint2 words = *reinterpret_cast<const uint2*>(in);
  v[0] = decode_half(words.x, 0x7610);
  v[1] = decode_half(words.x, 0x7632);
  v[2] = decode_half(words.y, 0x7610);
  v[3] = decode_half(words.y, 0x7632);
}
__device__ inline void load_four(const float* in, float (&v)[4]) {
  const float4 four = *reinterpret_cast<const float4*>(in);
  v[0] = four.x;
  v[1] = four.y;
  v[2] = four.z;
  v[3] = four.w;
}

// Quotients by a number that is known at run time only; right for n * divisor < 2^32, beyond that at most one too much.
struct Divider {
  unsigned divisor, multiplier;

  explicit __device__ Divider(int by)
      : divisor(static_cast<unsigned>(by)), multiplier(by == 1 ? 0u : 0xFFFFFFFFu / static_cast<unsigned>(by) + 1u) {}
  __device__ int quotient(int n) const {
    return divisor == 1 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), multiplier));
  }
};

// One view in the making. `width` is the channels that a thread holds of a pixel: 3, or max_channels for any number;
// `resident` says that its planes lie in shared memory.
template <class T, int width, bool resident>
struct View {
  using Result = T;
  using Value = Stored<T>;
  static constexpr int pixel_width = width;
  static constexpr int group = width == 3 ? 4 : 1;         // pixels that a thread works on together
  static constexpr bool fixed_point = sizeof(Value) == 2;  // its planes, and weights that rows are summed with
  // Tensor cores round to float16, which is fine enough for bfloat16; small views have no memory for what they need.
  static constexpr bool tensor_blur = std::is_same<T, __nv_bfloat16>::value && width == 3 && !resident;

  const AugmentArgs& args;
  const AugmentParams& params;  // in shared memory
  int64_t image;
  int pixels;
  Value* planes;  // shared memory, or the same as out
  Value* out;
  float* work;  // shared memory
  int work_size;
  bool wide;  // four neighbours of a row begin at a multiple of four values

  __device__ int channels() const { return width == 3 ? 3 : args.channels; }
  // Within 32 bits, which bound the values of a view.
  __device__ int at(int channel, int pixel) const {
    return channel * static_cast<int>(args.stride_channel) + pixel * static_cast<int>(args.stride_pixel);
  }
  __device__ bool contiguous() const { return args.stride_pixel == 1; }
};

// Normalisation in one instruction: its second constant is the same for many values.
template <class V>
__device__ float normalised(const V& view, float value, int channel) {
  return fmaf(value, view.args.inverse_std[channel], -view.args.mean[channel] * view.args.inverse_std[channel]);
}

}  // namespace
}  // namespace sslfast
