// A block of pixels from sRGB to Lab. Each channel becomes linear light on its own first: in one loop over three kinds
// of bytes and floats the registers would not suffice.
#pragma once

#include <cstdint>

#include "csrc/ops/common/lab_math.h"

namespace sslfast {
namespace {

constexpr int lab_block = 256;  // pixels; six rows of floats stay in the first-level cache

template <class T>
inline void linear_block(const T* __restrict in, int n, float* __restrict out) {
#pragma omp simd
  for (int i = 0; i < n; ++i) out[i] = lab_linear(lab_unit(in[i]));
}

// n <= lab_block pixels; the channels of `in` and `out` are `in_plane` and `out_plane` apart.
template <class T>
inline void rgb_to_lab_block(const T* in, int64_t in_plane, int n, float* out, int64_t out_plane) {
  float linear[3][lab_block];
  for (int c = 0; c < 3; ++c) linear_block(in + c * in_plane, n, linear[c]);
  float* __restrict l = out;
  float* __restrict a = out + out_plane;
  float* __restrict b = out + 2 * out_plane;
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    float lightness, green_red, blue_yellow;
    lab_from_linear(linear[0][i], linear[1][i], linear[2][i], lightness, green_red, blue_yellow);
    l[i] = lightness;
    a[i] = green_red;
    b[i] = blue_yellow;
  }
}

}  // namespace
}  // namespace sslfast
