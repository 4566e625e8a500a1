// Crop, resize, flips, rotation and the colour steps in front of contrast: the stored image -> working planes.
//
// The resize is separable. Rows of a view are made in groups, as many as the block's work memory holds:
//
//   work   | windows of the columns | windows of the rows | rows 0 … of the group, resized vertically, interleaved |
//
// Vertical pass: a thread owns four bytes of a row, which it reads as one word from each source row that counts. Then
// horizontal pass: a thread owns one column of four rows, so that a weight serves 12 products; lanes of a warp read
// neighbouring pixels, whose distance of three numbers meets every bank once. Wide views are made tile by tile.
#pragma once

#include "csrc/ops/cuda/augment_color.cuh"

namespace sslfast {
namespace {

struct Source {
  const uint8_t* crop;
  const uint8_t* end;  // of the storage
  int64_t stride;
  ResizeAxis vertical, horizontal;
  bool flip, mirror;
  bool words;  // all words that hold bytes of the crop, and one more, lie inside the storage
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
  const uint8_t* const last = source.crop + (crop.height - 1) * source.stride + crop.width * args.channels;
  source.words = source.crop - reinterpret_cast<uintptr_t>(source.crop) % 4 >= args.storage && last + 8 <= source.end;
  return source;
}

// Four bytes from any address; what lies behind `end` reads as 0 where words are not safe.
__device__ inline uint32_t load_bytes(const uint8_t* address, const uint8_t* end, bool words) {
  if (words) {
    const unsigned shift = static_cast<unsigned>(reinterpret_cast<uintptr_t>(address)) % 4;
    const uint32_t* const word = reinterpret_cast<const uint32_t*>(address - shift);
    const uint32_t low = __ldg(word);
    return shift == 0 ? low : __funnelshift_r(low, __ldg(word + 1), 8 * shift);
  }
  uint32_t bytes = 0;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (address + k < end) bytes |= static_cast<uint32_t>(__ldg(address + k)) << 8 * k;
  }
  return bytes;
}

constexpr int max_tile = 512;

// Columns [first, first + count) of the view before its flip, and where the work memory holds what.
struct Tile {
  int first, count;
  int rows;  // of the view in a group; 0 when not even one fits
  ResizeWindow* column_windows;
  ResizeWindow* row_windows;
  float* middle;
};

template <class V>
__device__ Tile tile_at(const V& view, const Source& source, int first) {
  constexpr int window_size = sizeof(ResizeWindow) / sizeof(float);
  Tile tile{first, smaller(view.args.width - first, max_tile), 0, nullptr, nullptr, nullptr};
  for (;; tile.count /= 2) {
    const float reach = static_cast<float>(tile.count - 1) * source.horizontal.scale;
    const int columns =
        smaller(static_cast<int>(reach + 2.0f * source.horizontal.support) + 3, source.horizontal.input);
    const int row_size = (columns * view.channels() + 3) / 4 * 4 + window_size;
    tile.rows = smaller((view.work_size - tile.count * window_size) / row_size, view.args.height);
    if (tile.rows > V::group) tile.rows = tile.rows / V::group * V::group;
    if (tile.rows >= V::group || tile.rows == view.args.height || tile.count == 1) break;
  }
  tile.rows = larger(tile.rows, 0);
  tile.column_windows = reinterpret_cast<ResizeWindow*>(view.work);
  tile.row_windows = tile.column_windows + tile.count;
  tile.middle = reinterpret_cast<float*>(tile.row_windows + tile.rows);
  return tile;
}

// `words` words of each of `rows` rows, from source column `column` on.
template <class V>
__device__ void vertical_pass(const V& view, const Source& source, const Tile& tile, int rows, int column, int words) {
  const Divider by_words(words);
  const uint8_t* const origin = source.crop + static_cast<int64_t>(column) * view.channels();
  for (int item = threadIdx.x; item < rows * words; item += blockDim.x) {
    const int row = by_words.quotient(item);
    const ResizeWindow window = tile.row_windows[row];
    const uint8_t* in = origin + window.begin * source.stride + 4 * (item - row * words);
    float sum[4] = {};
    for (int i = window.begin; i < window.end; ++i, in += source.stride) {
      const float weight = resize_weight(source.vertical, window.center, i);
      const uint32_t bytes = load_bytes(in, source.end, source.words);
      sum[0] += weight * of_bytes(bytes, 0x7650);
      sum[1] += weight * of_bytes(bytes, 0x7651);
      sum[2] += weight * of_bytes(bytes, 0x7652);
      sum[3] += weight * of_bytes(bytes, 0x7653);
    }
    const float scale = window.inverse_sum * (1.0f / 255.0f);
    reinterpret_cast<float4*>(tile.middle)[item] =
        make_float4(sum[0] * scale, sum[1] * scale, sum[2] * scale, sum[3] * scale);
  }
}

// Colour in front of contrast, then pixels (x, y), (x, y + 1) … go to the planes; returns the sum of their gray.
template <class V, int width, int count>
__device__ float deposit(const V& view, const ColorPlan& plan, Pixel<width> (&pixels)[count], int x, int y, int rows) {
  const int channels = view.channels();
  color_steps(pixels, view.params, plan, 0, plan.before, channels, 0.0f);
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < count; ++i) {
    if (i >= rows) break;
    if (plan.contrast) sum += gray_of_pixel(pixels[i], channels);
    const int64_t pixel = static_cast<int64_t>(y + i) * view.args.width + x;
    SSLFAST_EACH_CHANNEL(c, width, channels) {
      store_one<PlaneCode>(view.planes + view.at(c, pixel), pixels[i].value[c]);
    }
  }
  return sum;
}

// Rows y … y + rows - 1 of the view from the group's rows, which begin at source column `column`.
template <class V>
__device__ float horizontal_pass(const V& view, const Source& source, const Tile& tile, const ColorPlan& plan, int y,
                                 int rows, int column, int pitch) {
  constexpr int width = V::pixel_width, count = V::group;
  const int channels = view.channels();
  const Divider by_columns(tile.count);
  float gray = 0.0f;
  for (int item = threadIdx.x; item < (rows + count - 1) / count * tile.count; item += blockDim.x) {
    const int first = by_columns.quotient(item) * count;
    const int u = item - first / count * tile.count;
    const ResizeWindow window = tile.column_windows[u];
    const float* in[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      in[i] = tile.middle + smaller(first + i, rows - 1) * pitch + (window.begin - column) * channels;
    }
    Pixel<width> pixels[count] = {};
    for (int j = window.begin; j < window.end; ++j) {
      const float weight = resize_weight(source.horizontal, window.center, j);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] += weight * in[i][c];
        in[i] += channels;
      }
    }
#pragma unroll
    for (int i = 0; i < count; ++i) {
      SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] = clamp01(pixels[i].value[c] * window.inverse_sum);
    }
    const int x = source.flip ? view.args.width - 1 - (tile.first + u) : tile.first + u;
    gray += deposit(view, plan, pixels, x, y + first, rows - first);
  }
  return gray;
}

// One pixel straight from the image, for views that are rotated and for windows wider than the work memory.
template <class V>
__device__ void add_resized(const V& view, const Source& source, float factor, int x, int y,
                            Pixel<V::pixel_width>& pixel) {
  const int channels = view.channels();
  const ResizeWindow rows = resize_window(source.vertical, source.mirror ? view.args.height - 1 - y : y);
  const ResizeWindow columns = resize_window(source.horizontal, source.flip ? view.args.width - 1 - x : x);
  Pixel<V::pixel_width> sum = {};
  for (int i = rows.begin; i < rows.end; ++i) {
    const float row_weight = resize_weight(source.vertical, rows.center, i);
    const uint8_t* in = source.crop + i * source.stride + static_cast<int64_t>(columns.begin) * channels;
    for (int j = columns.begin; j < columns.end; ++j, in += channels) {
      const float weight = row_weight * resize_weight(source.horizontal, columns.center, j);
      SSLFAST_EACH_CHANNEL(c, V::pixel_width, channels) sum.value[c] += weight * static_cast<float>(__ldg(in + c));
    }
  }
  const float scale = rows.inverse_sum * columns.inverse_sum * (1.0f / 255.0f);
  SSLFAST_EACH_CHANNEL(c, V::pixel_width, channels) pixel.value[c] += factor * clamp01(sum.value[c] * scale);
}

// Columns from `first` on, before the flip.
template <class V>
__device__ float resize_directly(const V& view, const Source& source, const ColorPlan& plan, int first) {
  const bool rotated = has_rotation(view.params);
  const Rotation rotation = rotation_of(view.params, view.args.height, view.args.width);
  const int count = view.args.width - first;
  float gray = 0.0f;
  for (int64_t item = threadIdx.x; item < static_cast<int64_t>(count) * view.args.height; item += blockDim.x) {
    const int y = static_cast<int>(item / count);
    const int u = first + static_cast<int>(item - static_cast<int64_t>(y) * count);
    const int x = source.flip && !rotated ? view.args.width - 1 - u : u;
    Pixel<V::pixel_width> pixel[1] = {};
    if (rotated) {
      for_each_rotated(view.args.height, view.args.width, rotation, x, y, [&](float weight, int from_x, int from_y) {
        add_resized(view, source, weight, from_x, from_y, pixel[0]);
      });
    } else {
      add_resized(view, source, 1.0f, x, y, pixel[0]);
    }
    gray += deposit(view, plan, pixel, x, y, 1);
  }
  return gray;
}

// Fills the working planes; returns this thread's share of the sum of gray where the plan has contrast.
template <class V>
__device__ float make_planes(const V& view, const ColorPlan& plan) {
  const AugmentArgs& args = view.args;
  const Source source = source_of(view);
  if (has_rotation(view.params)) return resize_directly(view, source, plan, 0);
  float gray = 0.0f;
  for (int first = 0; first < args.width;) {
    const Tile tile = tile_at(view, source, first);
    if (tile.rows == 0) return gray + resize_directly(view, source, plan, first);
    if (first > 0) __syncthreads();  // the windows of the last tile are used up
    for (int u = threadIdx.x; u < tile.count; u += blockDim.x) {
      tile.column_windows[u] = resize_window(source.horizontal, first + u);
    }
    for (int y = 0; y < args.height; y += tile.rows) {
      const int rows = smaller(tile.rows, args.height - y);
      for (int r = threadIdx.x; r < rows; r += blockDim.x) {
        tile.row_windows[r] = resize_window(source.vertical, source.mirror ? args.height - 1 - y - r : y + r);
      }
      __syncthreads();  // windows are complete, and the rows of the last group are used up
      const int column = tile.column_windows[0].begin;
      const int words = ((tile.column_windows[tile.count - 1].end - column) * view.channels() + 3) / 4;
      vertical_pass(view, source, tile, rows, column, words);
      __syncthreads();  // the group is resized vertically
      gray += horizontal_pass(view, source, tile, plan, y, rows, column, 4 * words);
    }
    first += tile.count;
  }
  return gray;
}

}  // namespace
}  // namespace sslfast
