// Built-in vector types with CUDA's alignments.
#pragma once

#include <cstdint>

#define SIMT_VECTOR_TYPE(name, T, alignment2, alignment4)            \
  struct name##1 { T x; };                                           \
  struct alignas(alignment2) name##2 { T x, y; };                    \
  struct name##3 { T x, y, z; };                                     \
  struct alignas(alignment4) name##4 { T x, y, z, w; };              \
  inline name##1 make_##name##1(T x) { return {x}; }                 \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

SIMT_VECTOR_TYPE(char, signed char, 2, 4)
SIMT_VECTOR_TYPE(uchar, unsigned char, 2, 4)
SIMT_VECTOR_TYPE(short, short, 4, 8)
SIMT_VECTOR_TYPE(ushort, unsigned short, 4, 8)
SIMT_VECTOR_TYPE(int, int, 8, 16)
SIMT_VECTOR_TYPE(uint, unsigned, 8, 16)
SIMT_VECTOR_TYPE(longlong, long long, 16, 16)
SIMT_VECTOR_TYPE(ulonglong, unsigned long long, 16, 16)
SIMT_VECTOR_TYPE(float, float, 8, 16)
SIMT_VECTOR_TYPE(double, double, 16, 16)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
