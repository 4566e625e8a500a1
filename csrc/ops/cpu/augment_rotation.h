// Rotation of a view about its centre: quarter turns move pixels, other angles blend four of them.
#pragma once

#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

// Whether every pixel of the result is one pixel of the view, or none; the first comes from (x, y).
inline bool moves_pixels(const Rotation& rotation, float& x, float& y) {
  x = rotation.center_x - rotation.cosine * rotation.center_x + rotation.sine * rotation.center_y;
  y = rotation.center_y - rotation.sine * rotation.center_x - rotation.cosine * rotation.center_y;
  const bool quarter_turn = rotation.cosine * rotation.sine == 0.0f && fabsf(rotation.cosine + rotation.sine) == 1.0f;
  return quarter_turn && x == floorf(x) && y == floorf(y);
}

inline void move_pixels(const Planes& in, const Planes& out, const Rotation& rotation, int first_x, int first_y) {
  const int cosine = static_cast<int>(rotation.cosine), sine = static_cast<int>(rotation.sine);
  const int64_t step = static_cast<int64_t>(sine) * in.width + cosine;
  for (int y = 0; y < in.height; ++y) {
    // Pixel x of the row comes from (from_x + cosine x, from_y + sine x). One coordinate moves: it is inside for x in
    // [begin, end), where the other one is inside.
    const int from_x = first_x - sine * y, from_y = first_y + cosine * y;
    const int moving = sine == 0 ? from_x : from_y, size = sine == 0 ? in.width : in.height;
    const int fixed = sine == 0 ? from_y : from_x, fixed_size = sine == 0 ? in.height : in.width;
    const bool up = cosine + sine > 0;
    int begin = smaller(larger(up ? -moving : moving - size + 1, 0), in.width);
    int end = smaller(larger(up ? size - moving : moving + 1, begin), in.width);
    if (fixed < 0 || fixed >= fixed_size) begin = end = 0;
    for (int c = 0; c < in.channels; ++c) {
      const float* __restrict from = in.channel(c);
      float* __restrict row = out.row(c, y);
      const int64_t at = static_cast<int64_t>(from_y) * in.width + from_x;
      for (int x = 0; x < begin; ++x) row[x] = 0.0f;
      for (int x = begin; x < end; ++x) row[x] = from[at + x * step];
      for (int x = end; x < in.width; ++x) row[x] = 0.0f;
    }
  }
}

inline void blend_pixels(const Planes& in, const Planes& out, const Rotation& rotation) {
  constexpr int run = 256;
  int32_t at[4][run];
  float weight[4][run];
  for (int y = 0; y < in.height; ++y) {
    for (int begin = 0; begin < in.width; begin += run) {
      const int n = smaller(run, in.width - begin);
#pragma omp simd
      for (int i = 0; i < n; ++i) {
        const RotatedTaps taps = rotated_taps(in.height, in.width, rotation, begin + i, y);
        for (int k = 0; k < 4; ++k) {
          at[k][i] = taps.y(k) * in.width + taps.x(k);
          weight[k][i] = taps.weight(k);
        }
      }
      for (int c = 0; c < in.channels; ++c) {
        const float* __restrict from = in.channel(c);
        float* __restrict row = out.row(c, y) + begin;
#pragma omp simd
        for (int i = 0; i < n; ++i) {
          float sum = weight[0][i] * from[at[0][i]];
          for (int k = 1; k < 4; ++k) sum += weight[k][i] * from[at[k][i]];
          row[i] = sum;
        }
      }
    }
  }
}

inline void rotate(const AugmentParams& params, const Planes& in, const Planes& out) {
  const Rotation rotation = rotation_of(params, in.height, in.width);
  float x, y;
  if (moves_pixels(rotation, x, y)) {
    move_pixels(in, out, rotation, static_cast<int>(x), static_cast<int>(y));
  } else {
    blend_pixels(in, out, rotation);
  }
}

}  // namespace
}  // namespace sslfast
