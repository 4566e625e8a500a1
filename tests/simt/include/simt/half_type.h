// A 16-bit floating-point type and a pair of it, for both CUDA formats.
#pragma once

#include <cmath>
#include <cstdint>

#include "../cuda_runtime.h"

namespace simt {

template <class Format>
struct Float16 {
  uint16_t bits;

  Float16() = default;
  Float16(float value) : bits(Format::narrow(value)) {}  // NOLINT: implicit, as CUDA's is
  Float16(double value) : Float16(static_cast<float>(value)) {}
  Float16(int value) : Float16(static_cast<float>(value)) {}
  Float16(typename Format::Torch value) : bits(value.x) {}
  operator float() const { return Format::widen(bits); }
  operator typename Format::Torch() const { return {bits, Format::Torch::from_bits()}; }
  static Float16 from_bits(uint16_t bits) {
    Float16 value;
    value.bits = bits;
    return value;
  }
};

template <class Format>
struct alignas(4) Float16Pair {
  Float16<Format> x, y;
};

#define SIMT_FLOAT16_OPERATOR(symbol)                                         \
  template <class F>                                                          \
  inline Float16<F> operator symbol(Float16<F> a, Float16<F> b) {             \
    return Float16<F>(static_cast<float>(a) symbol static_cast<float>(b));    \
  }                                                                           \
  template <class F>                                                          \
  inline Float16<F>& operator symbol## = (Float16<F> & a, Float16<F> b) {     \
    return a = a symbol b;                                                    \
  }                                                                           \
  template <class F>                                                          \
  inline Float16Pair<F> operator symbol(Float16Pair<F> a, Float16Pair<F> b) { \
    return {a.x symbol b.x, a.y symbol b.y};                                  \
  }
SIMT_FLOAT16_OPERATOR(+)
SIMT_FLOAT16_OPERATOR(-)
SIMT_FLOAT16_OPERATOR(*)
SIMT_FLOAT16_OPERATOR(/)

}  // namespace simt

// The named arithmetic of both formats.
#define SIMT_FLOAT16_FUNCTION(name, symbol)                                             \
  template <class F>                                                                    \
  inline simt::Float16<F> name(simt::Float16<F> a, simt::Float16<F> b) {                \
    return a symbol b;                                                                  \
  }                                                                                     \
  template <class F>                                                                    \
  inline simt::Float16Pair<F> name##2(simt::Float16Pair<F> a, simt::Float16Pair<F> b) { \
    return a symbol b;                                                                  \
  }
SIMT_FLOAT16_FUNCTION(__hadd, +)
SIMT_FLOAT16_FUNCTION(__hsub, -)
SIMT_FLOAT16_FUNCTION(__hmul, *)

template <class F>
inline simt::Float16<F> __hfma(simt::Float16<F> a, simt::Float16<F> b, simt::Float16<F> c) {
  return simt::Float16<F>(std::fma(static_cast<float>(a), static_cast<float>(b), static_cast<float>(c)));
}
template <class F>
inline simt::Float16Pair<F> __hfma2(simt::Float16Pair<F> a, simt::Float16Pair<F> b, simt::Float16Pair<F> c) {
  return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
template <class F>
inline simt::Float16<F> __hmax(simt::Float16<F> a, simt::Float16<F> b) {
  return simt::Float16<F>(std::fmax(static_cast<float>(a), static_cast<float>(b)));
}
template <class F>
inline simt::Float16<F> __hmin(simt::Float16<F> a, simt::Float16<F> b) {
  return simt::Float16<F>(std::fmin(static_cast<float>(a), static_cast<float>(b)));
}
