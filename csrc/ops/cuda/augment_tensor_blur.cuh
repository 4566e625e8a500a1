// Separable gaussian blur of bfloat16 results on tensor cores, with the colour from contrast on in front of it.
//
// The view goes down in strips of 16 rows through a ring of three strips in the work memory, as float16, so that it may
// be written over its own planes: strip s is blurred when strip s + 1 has been read. The products are of 16 x 16 tiles,
//
//   down     blurred rows (16) x columns = row weights (16 x 48) times strips s - 1, s, s + 1
//   across   result = what was blurred down (16 rows x 48 columns) times column weights (48 x 16)
//
// and what `down` sums up in registers is, rounded to float16, the operand of `across`: nothing in between is stored.
// Reflected borders are part of the weights: those of the first and of the last two tiles of an axis, of which the last
// may have one row only, differ from the others.
//
//   work   | weights of distances | weights as fragments | ring: row, channel, column | strip, laid out as the result |
//
// Precision: values, weights and what is blurred down are rounded to float16, 2^-12 of each at most, and summed up in
// float32; the sum of the weights is restored afterwards. That is below the rounding of a bfloat16 result, 2^-9, but
// not below that of float16: results of float16 and float32 do not come here. (Emulated, float16 results would be off
// by 3.1 times what this op allows at sigma 0.3, and by 1.3 times with values centred at zero.)
#pragma once

#include "csrc/ops/cuda/augment_store.cuh"
#include "csrc/stable/tensor_core.h"

namespace sslfast {
namespace {

constexpr int max_blur_margin = 12;
constexpr int blur_weight_count = 16;  // floats that the weights take

constexpr int strip_rows = 16, tile_columns = 16, ring_strips = 3;
constexpr int places = 4;  // the first tile of an axis, any in the middle, the last but one, the last
constexpr int fragment_count = 2 * places * 3;  // of two axes: of these tiles: of three operands

// Where the work memory holds what, and what is the same for all strips.
struct Strips {
  const float* weights;
  uint4* fragments;  // of 32 lanes: number ((axis * places + place) * 3 + operand) * 32 + lane
  __half* ring;
  uint16_t* result;
  int tiles, count;      // tiles of a row, strips of the view
  int pitch, row_pitch;  // of the ring: from channel to channel, from row to row

  __device__ __half* strip(int s) const { return ring + s % ring_strips * strip_rows * row_pitch; }
};

template <class V>
__device__ Strips strips_of(const V& view) {
  Strips strips;
  strips.weights = view.work;
  strips.fragments = reinterpret_cast<uint4*>(view.work + blur_weight_count);
  strips.ring = reinterpret_cast<__half*>(strips.fragments + fragment_count * 32);
  strips.tiles = (view.args.width + tile_columns - 1) / tile_columns;
  strips.count = (view.args.height + strip_rows - 1) / strip_rows;
  // Rows are an odd number of 16 bytes apart: ldmatrix meets every bank once.
  strips.pitch = strips.tiles * tile_columns + 8;
  strips.row_pitch = 3 * strips.pitch;
  strips.result = reinterpret_cast<uint16_t*>(strips.ring + ring_strips * strip_rows * strips.row_pitch);
  return strips;
}

// Whether the view can be blurred in this way: 16 bytes of its result begin at every eighth column, no reflection is
// reflected again, and the work memory is large enough.
template <class V>
__device__ bool has_strips(const V& view, int radius) {
  const uint16_t* const end = strips_of(view).result + strip_rows * 3 * view.args.width;
  return view.args.width % 8 == 0 && radius <= max_blur_margin && radius < smaller(view.args.width, view.args.height) &&
         reinterpret_cast<const char*>(end) <= reinterpret_cast<const char*>(view.work + view.work_size);
}

// How much row or column `from` of `size` counts in row or column `to`, with what it is the reflection of.
__device__ inline float folded_weight(const float* weights, int to, int from, int size) {
  if (from < 0 || from >= size) return 0.0f;
  const auto weight = [weights](int distance) {
    return static_cast<unsigned>(distance) <= max_blur_margin ? weights[distance] : 0.0f;
  };
  float sum = weight(from < to ? to - from : from - to);
  if (from > 0) sum += weight(to + from);
  if (from < size - 1) sum += weight(2 * (size - 1) - to - from);
  return sum;
}

__device__ inline int place_of(int tile, int count) {
  if (tile == 0 || tile + 2 < count) return tile == 0 ? 0 : 1;
  return tile + 1 < count ? 2 : 3;
}
// A tile of that place, where there is one.
__device__ inline int tile_of(int place, int count) { return place < 2 ? place : count + place - places; }

// Row weights are operands A; column weights pairs of operands B, whose columns are ordered so that a lane's four sums
// of a row are neighbours: column n of operand j is column n / 2 * 4 + 2 j + n % 2 of the tile.
template <class V>
__device__ void fill_fragments(const V& view, const Strips& strips) {
  uint32_t* const registers = reinterpret_cast<uint32_t*>(strips.fragments);
  for (int item = threadIdx.x; item < fragment_count * 32 * 4; item += blockDim.x) {
    const int r = item % 4, lane = item / 4 % 32, operand = item / 128 % 3, place = item / 384 % places;
    const int g = lane / 4, t = lane % 4;
    const bool across = item >= fragment_count / 2 * 128;
    const int size = across ? view.args.width : view.args.height;
    const int tile = tile_of(place, across ? strips.tiles : strips.count);
    const int to = across ? g / 2 * 4 + r / 2 * 2 + g % 2 : g + r % 2 * 8;
    const int from = (tile + operand - 1) * 16 + 2 * t + (across ? r % 2 : r / 2) * 8;
    registers[item] = pack_floats<__half>(folded_weight(strips.weights, tile * 16 + to, from, size),
                                          folded_weight(strips.weights, tile * 16 + to, from + 1, size));
  }
}

// Colour from contrast on: planes -> ring. What lies behind the last row or column is 0.
template <class V>
__device__ void stage_strip(const V& view, const Strips& strips, const ColorPlan& plan, float gray_mean, int s) {
  const int width = view.args.width, groups = strips.tiles * tile_columns / 4;
  const Divider by_groups(groups);
  for (int item = threadIdx.x; item < strip_rows * groups; item += blockDim.x) {
    const int row = by_groups.quotient(item);
    const int x = 4 * (item - row * groups), y = s * strip_rows + row;
    Pixel<3> pixels[4] = {};
    if (y < view.args.height && x < width) {
      load_pixels(view, y * width + x, 4, pixels);
      finish_color(pixels, view.params, plan, 3, gray_mean);
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      *reinterpret_cast<uint2*>(strips.strip(s) + row * strips.row_pitch + c * strips.pitch + x) =
          make_uint2(pack_floats<__half>(pixels[0].value[c], pixels[1].value[c]),
                     pack_floats<__half>(pixels[2].value[c], pixels[3].value[c]));
    }
  }
}

__device__ inline void load_fragment(const Strips& strips, int axis, int place, int operand, uint32_t (&registers)[4]) {
  const uint4 four = strips.fragments[((axis * places + place) * 3 + operand) * 32 + threadIdx.x % 32];
  registers[0] = four.x;
  registers[1] = four.y;
  registers[2] = four.z;
  registers[3] = four.w;
}

// A tile of strip s, blurred along its columns, as operand A. `first` is its first value in row 0 of a strip.
__device__ inline void blur_down(const Strips& strips, const uint32_t (&weights)[3][4], int s, int first,
                                 uint32_t (&tile)[4]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  float sums[2][4] = {};
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    if (s + k < 1 || s + k > strips.count) continue;
    uint32_t b[4];
    load_matrices<true>(b, strips.strip(s + k - 1) + lane % 16 * strips.row_pitch + first + lane / 16 * 8);
    mma_m16n8k16<__half>(sums[0], weights[k], {b[0], b[1]});
    mma_m16n8k16<__half>(sums[1], weights[k], {b[2], b[3]});
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) tile[r] = pack_floats<__half>(sums[r / 2][r % 2 * 2], sums[r / 2][r % 2 * 2 + 1]);
}

// Tile `tile` of a row of three neighbours, blurred along its rows: sums[j] are columns 4 t + 2 j, 4 t + 2 j + 1.
__device__ inline void blur_across(const Strips& strips, int tile, const uint32_t (&neighbours)[3][4],
                                   float (&sums)[2][4]) {
  const int place = place_of(tile, strips.tiles);
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    uint32_t weights[4];
    load_fragment(strips, 1, place, k, weights);
    mma_m16n8k16<__half>(sums[0], neighbours[k], {weights[0], weights[1]});
    mma_m16n8k16<__half>(sums[1], neighbours[k], {weights[2], weights[3]});
  }
}

// From sums to results, or to planes where more steps follow. `gain` restores the sum of the rounded weights.
template <class V>
__device__ void finish_sums(const V& view, int channel, float gain, bool last, float (&sums)[2][4]) {
  const float threshold = view.params.solarize_threshold;
  const bool solarized = last && threshold <= 1.0f;
  const float factor = gain * view.args.inverse_std[channel];
  const float offset = -view.args.mean[channel] * view.args.inverse_std[channel];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float& value = sums[i / 4][i % 4];
    if (!last) {
      value = clamp01(value * gain);
    } else if (solarized) {
      value = normalised(view, solarize(value * gain, threshold), channel);
    } else {
      value = fmaf(value, factor, offset);
    }
  }
}

// A lane's four neighbours of rows g and g + 8 go to the strip of the result.
template <class V>
__device__ void store_sums(const V& view, const Strips& strips, int channel, int tile, bool last,
                           const float (&sums)[2][4]) {
  const int lane = static_cast<int>(threadIdx.x % 32), width = view.args.width;
  const int x = tile * tile_columns + lane % 4 * 4;
  if (x >= width) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    const float four[4] = {sums[0][2 * i], sums[0][2 * i + 1], sums[1][2 * i], sums[1][2 * i + 1]};
    if (view.contiguous()) {
      uint16_t* const out = strips.result + (channel * strip_rows + row) * width + x;
      last ? store_four<ResultCode<typename V::Result>>(out, four) : store_four<PlaneCode>(out, four);
    } else {
      uint16_t* const out = strips.result + (row * width + x) * 3 + channel;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        last ? store_one<ResultCode<typename V::Result>>(out + 3 * k, four[k])
             : store_one<PlaneCode>(out + 3 * k, four[k]);
      }
    }
  }
}

// Strip s: ring -> strip of the result. A warp goes along some tiles of one channel, and blurs the one to the left and
// the one to the right of them down as well.
template <class V>
__device__ void blur_strip(const V& view, const Strips& strips, int s, float gain, bool last) {
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int parts = static_cast<int>(blockDim.x) / 32 / 3;
  const int channel = warp / parts;
  if (channel > 2) return;
  const int part_tiles = (strips.tiles + parts - 1) / parts;
  const int first = (warp - channel * parts) * part_tiles;
  const int end = smaller(first + part_tiles, strips.tiles);
  uint32_t weights[3][4];
#pragma unroll
  for (int k = 0; k < 3; ++k) load_fragment(strips, 0, place_of(s, strips.count), k, weights[k]);
  uint32_t neighbours[3][4] = {};
#pragma unroll 1
  for (int tile = first - 1; tile <= end; ++tile) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      neighbours[0][r] = neighbours[1][r];
      neighbours[1][r] = neighbours[2][r];
    }
    if (tile >= 0 && tile < strips.tiles) {
      blur_down(strips, weights, s, channel * strips.pitch + tile * tile_columns, neighbours[2]);
    }
    if (tile <= first) continue;
    float sums[2][4] = {};
    blur_across(strips, tile - 1, neighbours, sums);
    finish_sums(view, channel, gain, last, sums);
    store_sums(view, strips, channel, tile - 1, last, sums);
  }
}

// The strip of the result, 16 bytes at a time: to the result, or to the planes where more steps follow.
template <class V>
__device__ void copy_strip(const V& view, const Strips& strips, int s, bool last) {
  const int width = view.args.width;
  const int rows = smaller(strip_rows, view.args.height - s * strip_rows);
  const int lines = view.contiguous() ? 3 : 1, row_size = 3 / lines * width;
  const int units = rows * row_size / 8;
  const Divider by_units(units);
  uint16_t* const out = (last ? view.out : view.planes) + s * strip_rows * row_size;
  for (int item = threadIdx.x; item < lines * units; item += blockDim.x) {
    const int line = by_units.quotient(item);
    const int at = 8 * (item - line * units);
    *reinterpret_cast<uint4*>(out + line * static_cast<int>(view.args.stride_channel) + at) =
        *reinterpret_cast<const uint4*>(strips.result + line * strip_rows * width + at);
  }
}

// Needs the weights of distances 0 … max_blur_margin, rounded to float16, at the beginning of the work memory.
template <class V>
__device__ void blur_strips(const V& view, const ColorPlan& plan, float gray_mean, bool last) {
  const Strips strips = strips_of(view);
  __syncthreads();  // the weights of distances are complete
  float sum = strips.weights[0];
  for (int k = 1; k <= max_blur_margin; ++k) sum += 2.0f * strips.weights[k];
  const float gain = 1.0f / (sum * sum);
  fill_fragments(view, strips);
  stage_strip(view, strips, plan, gray_mean, 0);
  for (int s = 0; s < strips.count; ++s) {
    if (s > 0) copy_strip(view, strips, s - 1, last);
    if (s + 1 < strips.count) stage_strip(view, strips, plan, gray_mean, s + 1);
    __syncthreads();  // the next strip is staged, and the last one copied
    blur_strip(view, strips, s, gain, last);
    __syncthreads();  // this strip is blurred
  }
  copy_strip(view, strips, strips.count - 1, last);
}

}  // namespace
}  // namespace sslfast
