// Separable gaussian blur: rows of the planes -> planes, then columns of the planes -> planes or result.
//
// Whole rows, and whole columns, are staged as float32 in the work memory with their reflected margins, as many as it
// holds, so that a pass may write over what it has read. A thread sums eight neighbours along the blur at once from
// registers: a value is loaded once for up to eight products.
//
//   work, rows      | weights | line (row, channel): margin, width values, margin | next line …
//   work, columns   | weights | margin, height rows of `columns` values, margin |
//
// Rows: a lane's eight neighbours are two 16-byte loads from the next lane's, so a warp takes the shortest time that
// 16-byte loads of this distance have (two for one). Columns: lanes hold neighbouring pairs: no bank is met twice.
// Radii up to 12 (all that sigma <= 2 has) run unrolled for 4, 8 or 12. Larger ones, which no recipe has, and views of
// which the work memory does not hold a row or four columns take augment_long_blur.cuh.
#pragma once

#include "csrc/ops/cuda/augment_long_blur.cuh"

namespace sslfast {
namespace {

constexpr int blur_run = 8;

// Floats of a staged line of `size` values.
__host__ __device__ inline int blur_line(int size, int margin) {
  return (size + blur_run - 1) / blur_run * blur_run + 2 * margin;
}

// sums[o] += weight(i - o) * value for a run whose first window begins with i = 0.
template <int margin>
__device__ inline void spread(float (&sums)[blur_run], const float (&weights)[margin + 1], int i, float value) {
#pragma unroll
  for (int o = 0; o < blur_run; ++o) {
    const int distance = i - o - margin;
    if (distance >= -margin && distance <= margin) sums[o] += weights[distance < 0 ? -distance : distance] * value;
  }
}

template <int margin>
__device__ inline void load_weights(const Blur& blur, float (&weights)[margin + 1]) {
#pragma unroll
  for (int k = 0; k <= margin; ++k) weights[k] = blur.weights[k];
}

// Fills what lies beyond the values of `lines` staged lines; neighbours along a line are `step` apart, lines `pitch`.
__device__ inline void fill_margins(const Blur& blur, int lines, int size, int step, int pitch) {
  const int beyond = blur_line(size, blur.margin) - size;
  if (beyond == 0) return;
  const Divider by(step == 1 ? beyond : lines);
  for (int item = threadIdx.x; item < lines * beyond; item += blockDim.x) {
    const int quotient = by.quotient(item);
    const int rest = item - quotient * static_cast<int>(by.divisor);
    const int k = step == 1 ? rest : quotient;
    float* const line = blur.stage + (step == 1 ? quotient : rest) * pitch + blur.margin * step;
    const int position = k < blur.margin ? k - blur.margin : size + k - blur.margin;
    line[position * step] = line[reflect(position, size) * step];
  }
}

// --- rows ------------------------------------------------------------------------------------------------------------

template <class V>
__device__ void store_row_run(const V& view, int channel, int y, int x, const float (&sums)[blur_run]) {
  const int pixel = y * view.args.width + x;
  const int at = view.at(channel, pixel);
  if (view.wide && view.contiguous()) {
    store_four<PlaneCode>(view.planes + at, {sums[0], sums[1], sums[2], sums[3]});
    if (x + 4 < view.args.width) store_four<PlaneCode>(view.planes + at + 4, {sums[4], sums[5], sums[6], sums[7]});
    return;
  }
#pragma unroll
  for (int o = 0; o < blur_run; ++o) {
    if (x + o < view.args.width)
      store_one<PlaneCode>(view.planes + at + o * static_cast<int>(view.args.stride_pixel), sums[o]);
  }
}

template <int margin, class V>
__device__ void run_rows(const V& view, const Blur& blur, int y, int rows) {
  const int width = view.args.width, pitch = blur_line(width, margin), channels = view.channels();
  const int runs = (width + blur_run - 1) / blur_run;
  const Divider by_runs(runs), by_channels(channels);
  float weights[margin + 1];
  load_weights<margin>(blur, weights);
  for (int item = threadIdx.x; item < rows * channels * runs; item += blockDim.x) {
    const int line = by_runs.quotient(item);
    const int x = (item - line * runs) * blur_run;
    const float* const values = blur.stage + line * pitch + x;
    float sums[blur_run] = {};
#pragma unroll
    for (int i = 0; i < blur_run + 2 * margin; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(values + i);
      spread<margin>(sums, weights, i, four.x);
      spread<margin>(sums, weights, i + 1, four.y);
      spread<margin>(sums, weights, i + 2, four.z);
      spread<margin>(sums, weights, i + 3, four.w);
    }
    const int row = by_channels.quotient(line);
    store_row_run(view, line - row * channels, y + row, x, sums);
  }
}

// Colour from contrast on, and the blur along the rows.
template <class V>
__device__ void blur_rows(const V& view, const Blur& blur, const ColorPlan& plan, float gray_mean) {
  constexpr int group = V::group;
  const int width = view.args.width, channels = view.channels();
  const int pitch = blur_line(width, blur.margin);
  const int stage_rows = smaller(blur.stage_size / (pitch * channels), view.args.height);
  const int groups = (width + group - 1) / group;
  const Divider by_groups(groups);
  for (int y = 0; y < view.args.height; y += stage_rows) {
    const int rows = smaller(stage_rows, view.args.height - y);
    __syncthreads();  // the weights are complete, and the stage is used up
    for (int item = threadIdx.x; item < rows * groups; item += blockDim.x) {
      const int row = by_groups.quotient(item);
      const int x = (item - row * groups) * group;
      const int count = smaller(group, width - x);
      Pixel<V::pixel_width> pixels[group] = {};
      load_pixels(view, (y + row) * width + x, count, pixels);
      finish_color(pixels, view.params, plan, channels, gray_mean);
      SSLFAST_EACH_CHANNEL(c, V::pixel_width, channels) {
        float* const line = blur.stage + (row * channels + c) * pitch + blur.margin + x;
        if constexpr (group == 4) {
          // Behind the last pixel of a row this fills the margin, which is filled anew below.
          store_four<PlaneCode>(line, {pixels[0].value[c], pixels[1].value[c], pixels[2].value[c], pixels[3].value[c]});
        } else {
          *line = pixels[0].value[c];
        }
      }
    }
    __syncthreads();  // lines are complete
    fill_margins(blur, rows * channels, width, 1, pitch);
    __syncthreads();  // and their margins
    switch (blur.margin) {
      case 4: run_rows<4>(view, blur, y, rows); break;
      case 8: run_rows<8>(view, blur, y, rows); break;
      default: run_rows<12>(view, blur, y, rows);
    }
  }
}

// --- columns ---------------------------------------------------------------------------------------------------------

// Columns of a view are counted as its rows lie in memory: all of channel 0, all of channel 1 …, or interleaved.
struct Column {
  int channel;
  int at;  // its value in row 0
};

template <class V>
__device__ Column column_of(const V& view, int index, const Divider& by_width) {
  if (!view.contiguous()) return {index % view.channels(), index};
  int channel = by_width.quotient(index);
  if (channel * view.args.width > index) --channel;  // 16 planes of 20,000 columns are more than it is right for
  return {channel, view.at(channel, index - channel * view.args.width)};
}

template <int margin, class V>
__device__ void run_columns(const V& view, const Blur& blur, int first, int count, int pitch, bool last) {
  const int height = view.args.height;
  const int row_step = view.args.width * static_cast<int>(view.args.stride_pixel);
  const int pairs = (count + 1) / 2;
  const Divider by_pairs(pairs), by_width(view.args.width);
  const float threshold = view.params.solarize_threshold;
  const bool solarized = last && threshold <= 1.0f;
  float weights[margin + 1];
  load_weights<margin>(blur, weights);
  for (int item = threadIdx.x; item < (height + blur_run - 1) / blur_run * pairs; item += blockDim.x) {
    const int run = by_pairs.quotient(item);
    const int pair = item - run * pairs, y = run * blur_run;
    const bool both = 2 * pair + 1 < count;
    const Column low = column_of(view, first + 2 * pair, by_width);
    const Column high = column_of(view, first + 2 * pair + (both ? 1 : 0), by_width);
    const float* const values = blur.stage + 2 * pair + y * pitch;
    float sums[2][blur_run] = {};
#pragma unroll
    for (int i = 0; i < blur_run + 2 * margin; ++i) {
      const float2 two = *reinterpret_cast<const float2*>(values + i * pitch);
      spread<margin>(sums[0], weights, i, two.x);
      spread<margin>(sums[1], weights, i, two.y);
    }
    if (view.wide && solarized) {
#pragma unroll
      for (int o = 0; o < 2 * blur_run; ++o) sums[o % 2][o / 2] = solarize(sums[o % 2][o / 2], threshold);
    }
#pragma unroll
    for (int o = 0; o < blur_run; ++o) {
      if (y + o >= height) break;
      const int step = (y + o) * row_step;
      if (!view.wide) {
        store_value(view, low.at + step, sums[0][o], low.channel, last);
        if (both) store_value(view, high.at + step, sums[1][o], high.channel, last);
      } else if (last) {
        store_two<ResultCode<typename V::Result>>(view.out + low.at + step, normalised(view, sums[0][o], low.channel),
                                                  normalised(view, sums[1][o], high.channel));
      } else {
        store_two<PlaneCode>(view.planes + low.at + step, sums[0][o], sums[1][o]);
      }
    }
  }
}

template <class V>
__device__ void blur_columns(const V& view, const Blur& blur, bool last) {
  const int height = view.args.height, total = view.args.width * view.channels();
  const int row_step = view.args.width * static_cast<int>(view.args.stride_pixel);
  const int most = smaller((total + 3) / 4, static_cast<int>(blockDim.x));
  const int columns = smaller(blur.stage_size / blur_line(height, blur.margin) / 4, most) * 4;
  const Divider by_width(view.args.width);
  for (int first = 0; first < total; first += columns) {
    const int count = smaller(columns, total - first);
    const int fours = (count + 3) / 4;
    const int stage_rows = static_cast<int>(blockDim.x) / fours;  // that the block fills at once
    const int row = static_cast<int>(threadIdx.x) / fours;
    const int column = 4 * (static_cast<int>(threadIdx.x) - row * fours);
    const int at = column_of(view, first + column, by_width).at;
    __syncthreads();  // the planes are complete, and the stage is used up
    for (int y = row; row < stage_rows && y < height; y += stage_rows) {
      float v[4] = {};
      if (view.wide) {
        load_four(view.planes + at + y * row_step, v);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (column + i >= count) break;
          v[i] = decode(view.planes[column_of(view, first + column + i, by_width).at + y * row_step]);
        }
      }
      store_four<PlaneCode>(blur.stage + (blur.margin + y) * columns + column, v);
    }
    __syncthreads();  // columns are complete
    fill_margins(blur, 4 * fours, height, columns, 1);
    __syncthreads();  // columns have their margins
    switch (blur.margin) {
      case 4: run_columns<4>(view, blur, first, count, columns, last); break;
      case 8: run_columns<8>(view, blur, first, count, columns, last); break;
      default: run_columns<12>(view, blur, first, count, columns, last);
    }
  }
}

// Whether the passes above take rows or columns: those of large radii and of long lines they do not.
template <class V>
__device__ bool takes_rows(const V& view, int margin, int stage_size) {
  return margin > 0 && blur_line(view.args.width, margin) * view.channels() <= stage_size;
}
template <class V>
__device__ bool takes_columns(const V& view, int margin, int stage_size) {
  return margin > 0 && blur_line(view.args.height, margin) * 4 <= stage_size;
}

template <class V>
__device__ Blur blur_of(const V& view, int radius) {
  Blur blur{radius, 0, 0.0f, view.work, view.work + blur_weight_count, view.work_size - blur_weight_count};
  if (radius <= max_blur_margin) blur.margin = (radius + 3) / 4 * 4;
  return blur;
}

// Whether the blur begins with the colour from contrast on; else that has to be done before.
template <class V>
__device__ bool blur_has_color(const V& view, int radius) {
  if constexpr (V::tensor_blur) {
    if (has_strips(view, radius)) return true;
  }
  const Blur blur = blur_of(view, radius);
  return takes_rows(view, blur.margin, blur.stage_size);
}

template <class V>
__device__ void blur_view(const V& view, const ColorPlan& plan, float gray_mean, int radius, bool last) {
  Blur blur = blur_of(view, radius);
  float sum = 0.0f;
  for (int k = -radius; k <= radius; ++k) sum += blur_weight(view.params, k);
  blur.inverse_sum = 1.0f / sum;
  bool strips = false;
  if constexpr (V::tensor_blur) strips = has_strips(view, radius);
  if (threadIdx.x <= max_blur_margin) {
    const int k = static_cast<int>(threadIdx.x);
    const float weight = k <= radius ? blur_weight(view.params, k) * blur.inverse_sum : 0.0f;
    view.work[k] = strips ? __half2float(__float2half_rn(weight)) : weight;
  }
  if constexpr (V::tensor_blur) {
    if (strips) return blur_strips(view, plan, gray_mean, last);
  }
#pragma unroll 1  // one copy of blur_lines, which few views need
  for (int axis = 0; axis < 2; ++axis) {
    if (axis == 0 && takes_rows(view, blur.margin, blur.stage_size)) {
      blur_rows(view, blur, plan, gray_mean);
    } else if (axis == 1 && takes_columns(view, blur.margin, blur.stage_size)) {
      blur_columns(view, blur, last);
    } else {
      blur_lines(view, blur, axis == 1, axis == 1 && last);
    }
  }
}

}  // namespace
}  // namespace sslfast
