// The working planes of a view, and runs of their pixels small enough for the first-level cache.
#pragma once

#include <cstdint>

#include "csrc/ops/common/augment_math.h"
#include "csrc/ops/cpu/augment_lanes.h"

namespace sslfast {
namespace {

constexpr int block_pixels = 1024;

// n pixels of all channels; channel c begins at data + c * stride.
struct Block {
  float* data;
  int64_t stride, n;
  int channels;

  float* channel(int c) const { return data + c * stride; }
};

// A view's planes, pixel after pixel.
struct Planes {
  float* data;
  int64_t stride;
  int height, width, channels;

  int64_t pixels() const { return static_cast<int64_t>(height) * width; }
  float* channel(int c) const { return data + c * stride; }
  float* row(int c, int y) const { return channel(c) + static_cast<int64_t>(y) * width; }
  Block rows(int begin, int end) const {
    return {row(0, begin), stride, static_cast<int64_t>(end - begin) * width, channels};
  }
};

// Floats from plane to plane. Not a multiple of 4 KiB (as 224 x 224 pixels are), because then a load of one plane would
// wait for a store to another at the same address modulo 4 KiB.
inline int64_t plane_stride(int64_t pixels) {
  const int64_t floats = whole_cache_lines(pixels);
  return floats % 1024 == 0 ? floats + 8 * cache_line_floats : floats;
}

// Rows that make about a block.
inline int strip_rows(const Planes& planes) { return larger(block_pixels / planes.width, 1); }

// Calls body(first row, last row + 1) on strips that cover a view.
template <class Body>
inline void for_each_strip(const Planes& planes, const Body& body) {
  const int rows = strip_rows(planes);
  for (int y = 0; y < planes.height; y += rows) body(y, smaller(y + rows, planes.height));
}

// Calls body on pieces of a block of at most `block_pixels`.
template <class Body>
inline void for_each_piece(const Block& block, const Body& body) {
  for (int64_t begin = 0; begin < block.n; begin += block_pixels) {
    body(Block{block.data + begin, block.stride, smaller<int64_t>(block_pixels, block.n - begin), block.channels});
  }
}

}  // namespace
}  // namespace sslfast
