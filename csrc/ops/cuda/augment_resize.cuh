// Crop, resize, flips, rotation and the colour steps in front of contrast: the stored image -> working planes.
//
// The resize is separable. Rows of a view are made in groups, as many as the block's work memory holds:
//
//   work   | rows of the group, resized vertically, interleaved | spans and weights of the columns, of the rows |
//
// Vertical pass (augment_rows.cuh): a thread owns twelve bytes of a row, as weighted sums of source rows.
// Then horizontal pass: a thread owns one column of four rows, so that a weight serves 12 products; lanes of a warp
// read neighbouring pixels, whose distance of three numbers meets every bank once. Wide views are made tile by tile.
#pragma once

#include "csrc/ops/cuda/augment_color.cuh"
#include "csrc/ops/cuda/augment_rows.cuh"

namespace sslfast {
namespace {

// The inputs that one output is summed from: at least one.
struct Span {
  int begin, count;
};

// Fills a span and its weights, which lie `step` apart.
__device__ inline void fill_span(const ResizeAxis& axis, int i, float scale, Span* span, float* weights, int step) {
  const ResizeWindow window = resize_window(axis, i);
  *span = {window.begin, window.end - window.begin};
#pragma unroll 1
  for (int j = window.begin; j < window.end; ++j, weights += step) {
    *weights = resize_weight(axis, window.center, j) * (window.inverse_sum * scale);
  }
}

constexpr float fits_nowhere = 1 << 20;  // inputs

// An upper bound of the inputs of `count` neighbouring outputs, up to a number that fits nowhere.
__device__ inline int span_bound(const ResizeAxis& axis, int count) {
  const float reach = static_cast<float>(count - 1) * axis.scale + 2.0f * axis.support;
  return smaller(static_cast<int>(smaller(reach, fits_nowhere)) + 3, axis.input);
}

constexpr int max_tile = 512;

// Columns [first, first + count) of the view before its flip, and where the work memory holds what.
struct Tile {
  int first, count;
  int rows;  // of the view in a group; 0 when not even one fits
  int row_taps;
  float* middle;
  Span* columns;
  Span* row_spans;
  float* column_weights;  // number k of column u: k * count + u
  float* row_weights;     // number k of row r: r * row_taps + k
};

template <class V>
__device__ Tile tile_at(const V& view, const Source& source, int first) {
  constexpr int span_size = sizeof(Span) / sizeof(float);
  Tile tile{first, smaller(view.args.width - first, max_tile), 0, span_bound(source.vertical, 1)};
  const int column_size = span_size + span_bound(source.horizontal, 1);
  int pitch;
  for (;; tile.count /= 2) {
    pitch = (span_bound(source.horizontal, tile.count) * view.channels() + unit - 1) / unit * unit;
    tile.rows = (view.work_size - tile.count * column_size) / (pitch + span_size + tile.row_taps);
    tile.rows = smaller(larger(tile.rows, 0), view.args.height);
    if (tile.rows > V::group) tile.rows = tile.rows / V::group * V::group;
    if (tile.rows >= V::group || tile.rows == view.args.height || tile.count == 1) break;
  }
  tile.middle = view.work;
  tile.columns = reinterpret_cast<Span*>(view.work + tile.rows * pitch);
  tile.row_spans = tile.columns + tile.count;
  tile.column_weights = reinterpret_cast<float*>(tile.row_spans + tile.rows);
  tile.row_weights = tile.column_weights + tile.count * (column_size - span_size);
  return tile;
}

// `units` of each of `rows` rows, from source column `column` on.
template <class V>
__device__ void vertical_pass(const V& view, const Source& source, const Tile& tile, int rows, int column, int units) {
  const Divider by_units(units);
  const int left = column * view.channels();
  const unsigned first = static_cast<unsigned>(source.crop - source.base) + left;
  for (int item = threadIdx.x; item < rows * units; item += blockDim.x) {
    const int row = by_units.quotient(item);
    const int at = unit * (item - row * units);
    const Span span = tile.row_spans[row];
    const float* const weights = tile.row_weights + row * tile.row_taps;
    float sum[unit];
    if (source.words) {
      const unsigned stride = static_cast<unsigned>(source.stride);
      const unsigned place = first + at + span.begin * stride;
      sum_rows<V>([&](int k) { return load_words(source, place + k * stride); }, weights, span.count, sum);
    } else {
      const uint8_t* const in = source.crop + left + at + span.begin * source.stride;
      sum_rows<V>([&](int k) { return load_bytes(source, in + k * source.stride); }, weights, span.count, sum);
    }
    float4* const out = reinterpret_cast<float4*>(tile.middle) + unit / 4 * item;
#pragma unroll
    for (int i = 0; i < unit; i += 4) out[i / 4] = make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
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
    const int pixel = (y + i) * view.args.width + x;
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
    const Span span = tile.columns[u];
    const float* weights = tile.column_weights + u;
    const float* in[count];
    Pixel<width> pixels[count] = {};
#pragma unroll
    for (int i = 0; i < count; ++i) {
      in[i] = tile.middle + smaller(first + i, rows - 1) * pitch + (span.begin - column) * channels;
      SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] = *weights * in[i][c];
    }
#pragma unroll 1
    for (int k = 1; k < span.count; ++k) {
      weights += tile.count;
      const float weight = *weights;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        in[i] += channels;
        SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] += weight * in[i][c];
      }
    }
    if (source.horizontal.bicubic) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        SSLFAST_EACH_CHANNEL(c, width, channels) pixels[i].value[c] = clamp01(pixels[i].value[c]);
      }
    }
    const int x = source.flip ? view.args.width - 1 - (tile.first + u) : tile.first + u;
    gray += deposit(view, plan, pixels, x, y + first, rows - first);
  }
  return gray;
}

// One pixel straight from the image, for views that are rotated, windows wider than the work memory, and the widest
// crops.
template <class V>
__device__ void add_resized(const V& view, const Source& source, float factor, int x, int y,
                            Pixel<V::pixel_width>& pixel) {
  const int channels = view.channels();
  const ResizeWindow rows = resize_window(source.vertical, source.mirror ? view.args.height - 1 - y : y);
  const ResizeWindow columns = resize_window(source.horizontal, source.flip ? view.args.width - 1 - x : x);
  Pixel<V::pixel_width> sum = {};
#pragma unroll 1
  for (int i = rows.begin; i < rows.end; ++i) {
    const float row_weight = resize_weight(source.vertical, rows.center, i);
    const uint8_t* in = source.crop + i * source.stride + static_cast<int64_t>(columns.begin) * channels;
#pragma unroll 1
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
    if (first > 0) __syncthreads();  // the spans of the last tile are used up
    for (int u = threadIdx.x; u < tile.count; u += blockDim.x) {
      fill_span(source.horizontal, first + u, column_scale<V>, tile.columns + u, tile.column_weights + u, tile.count);
    }
    for (int y = 0; y < args.height; y += tile.rows) {
      const int rows = smaller(tile.rows, args.height - y);
      // By the last threads first: the first ones are at the columns.
      for (int r = static_cast<int>(blockDim.x - 1 - threadIdx.x); r < rows; r += static_cast<int>(blockDim.x)) {
        float* const weights = tile.row_weights + r * tile.row_taps;
        fill_span(source.vertical, source.mirror ? args.height - 1 - y - r : y + r, 1.0f, tile.row_spans + r, weights,
                  1);
        if constexpr (V::fixed_point) pair_weights(weights, tile.row_spans[r].count);
      }
      __syncthreads();  // spans are complete, and the rows of the last group are used up
      const int column = tile.columns[0].begin;
      const Span end = tile.columns[tile.count - 1];
      const int units = ((end.begin + end.count - column) * view.channels() + unit - 1) / unit;
      vertical_pass(view, source, tile, rows, column, units);
      __syncthreads();  // the group is resized vertically
      gray += horizontal_pass(view, source, tile, plan, y, rows, column, unit * units);
    }
    first += tile.count;
  }
  return gray;
}

}  // namespace
}  // namespace sslfast
