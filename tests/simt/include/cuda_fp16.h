// __half and __half2: storage is 16 bits, arithmetic goes through float32 and rounds once, as the chip's does.
#pragma once

#include <torch/headeronly/util/Half.h>

#include "simt/half_type.h"

struct SimtHalfFormat {
  static float widen(uint16_t bits) { return c10::detail::fp16_ieee_to_fp32_value(bits); }
  static uint16_t narrow(float value) { return c10::detail::fp16_ieee_from_fp32_value(value); }
  using Torch = c10::Half;
};
using __half = simt::Float16<SimtHalfFormat>;
using __half2 = simt::Float16Pair<SimtHalfFormat>;
using half = __half;
using half2 = __half2;

inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline float __half2float(__half x) { return static_cast<float>(x); }
inline __half2 __float2half2_rn(float x) { return {__half(x), __half(x)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 x) { return {__half(x.x), __half(x.y)}; }
inline float2 __half22float2(__half2 x) { return {static_cast<float>(x.x), static_cast<float>(x.y)}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 x) { return x.x; }
inline __half __high2half(__half2 x) { return x.y; }
inline __half __ushort_as_half(unsigned short x) { return __half::from_bits(x); }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
