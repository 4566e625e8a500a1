// Crop, flips and antialiased resize: bytes of any size to the planes of a view.
//
// Row by row of the result: the vertical pass sums source rows (interleaved bytes) into one row of floats, the
// horizontal pass sums that row's pixels into the planes.
#pragma once

#include <vector>

#include "csrc/ops/augment.h"
#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

// The horizontal pass: column x is the sum over j < taps of a weight times source pixel first[x] + j. Where the pixels
// of `lanes` neighbouring columns lie within two registers, those columns are a group (the last one overlaps the one
// before it) and are picked out of the registers; `weight` then holds [group][tap][lane], otherwise [column][tap].
struct ColumnTable {
  int taps;
  bool grouped;
  std::vector<ResizeWindow> windows;
  std::vector<int> first;  // per column
  std::vector<int> base;   // per group: its first source pixel
  Scratch<int32_t> index;  // per group and lane: the column's first source pixel, from `base` on
  Scratch<float> weight;
};

struct ResizeWork {
  ColumnTable columns;
  Scratch<float> row;                // one source row after the vertical pass, channels interleaved
  Scratch<float> split;              // the same, one channel after another
  std::vector<const uint8_t*> rows;  // the source rows of one row of the result, and their weights
  std::vector<float> weights;
};

inline int group_begin(int group, int width) { return smaller(group * lanes, width - lanes); }

inline float column_weight(const ResizeAxis& axis, const ResizeWindow& window, int pixel) {
  if (pixel < window.begin || pixel >= window.end) return 0.0f;
  return resize_weight(axis, window.center, pixel) * (window.inverse_sum * (1.0f / 255.0f));
}

// Fills base and index; false where the pixels of some group do not fit two registers.
inline bool group_columns(int width, ColumnTable& table) {
  const int groups = (width + lanes - 1) / lanes;
  table.base.resize(groups);
  int32_t* index = table.index.get(static_cast<int64_t>(groups) * lanes);
  for (int g = 0; g < groups; ++g) {
    const int* first = table.first.data() + group_begin(g, width);
    const int low = smaller(first[0], first[lanes - 1]), high = larger(first[0], first[lanes - 1]);
    if (high + table.taps - low > 2 * lanes) return false;
    table.base[g] = low;
    for (int i = 0; i < lanes; ++i) index[g * lanes + i] = first[i] - low;
  }
  return true;
}

inline void fill_columns(const ResizeAxis& axis, int width, int channels, bool flip, ColumnTable& table) {
  table.windows.resize(width);
  table.first.resize(width);
  table.taps = 1;
  for (int x = 0; x < width; ++x) {
    const ResizeWindow window = resize_window(axis, flip ? width - 1 - x : x);
    table.windows[x] = window;
    table.taps = larger(table.taps, window.end - window.begin);
  }
  // Windows at the right border begin earlier, so that no tap lies outside of the row.
  const int taps = table.taps;
  for (int x = 0; x < width; ++x) table.first[x] = smaller(table.windows[x].begin, axis.input - taps);
  table.grouped = (channels == 1 || channels == 3) && width >= lanes && group_columns(width, table);
  const int width_of_group = table.grouped ? lanes : 1;
  const int groups = (width + width_of_group - 1) / width_of_group;
  float* weight = table.weight.get(static_cast<int64_t>(groups) * width_of_group * taps);
  for (int g = 0; g < groups; ++g) {
    const int begin = table.grouped ? group_begin(g, width) : g;
    for (int j = 0; j < taps; ++j) {
      for (int x = begin; x < begin + width_of_group; ++x) {
        *weight++ = column_weight(axis, table.windows[x], table.first[x] + j);
      }
    }
  }
}

// `in`: one plane a channel, 2 * lanes floats readable from every group's base on.
template <int channels>
void horizontal_pass_grouped(const float* const* in, int width, ColumnTable& table, float* const* out) {
  const int groups = static_cast<int>(table.base.size()), taps = table.taps;
  const int32_t* index = table.index.data();
  const float* weight = table.weight.data();
  for (int g = 0; g < groups; ++g) {
    Lanes low[channels], high[channels], sum[channels] = {};
    for (int c = 0; c < channels; ++c) {
      low[c] = load_lanes(in[c] + table.base[g]);
      high[c] = load_lanes(in[c] + table.base[g] + lanes);
    }
    LaneIndices pixel = load_lanes(index + g * lanes);
    for (int j = 0; j < taps; ++j, ++pixel, weight += lanes) {
      for (int c = 0; c < channels; ++c) sum[c] += load_lanes(weight) * pick_lanes(low[c], high[c], pixel);
    }
    const int x = group_begin(g, width);
    for (int c = 0; c < channels; ++c) store_lanes(out[c] + x, sum[c]);
  }
}

// Three interleaved channels: a pixel is one vector of four floats, of which the last belongs to the next pixel.
typedef float Pixel __attribute__((vector_size(16), aligned(4)));

inline void horizontal_pass_rgb(const float* row, int width, ColumnTable& table, float* const* out) {
  constexpr int batch = 16;  // pixels that are summed before they are spread over the planes
  const int taps = table.taps;
  const float* weight = table.weight.data();
  for (int x0 = 0; x0 < width; x0 += batch) {
    float sums[4 * batch];
    const int n = smaller(batch, width - x0);
    for (int i = 0; i < n; ++i, weight += taps) {
      const float* in = row + 3 * static_cast<int64_t>(table.first[x0 + i]);
      Pixel sum = {};
      for (int j = 0; j < taps; ++j) sum += weight[j] * *reinterpret_cast<const Pixel*>(in + 3 * j);
      *reinterpret_cast<Pixel*>(sums + 4 * i) = sum;
    }
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < n; ++i) out[c][x0 + i] = sums[4 * i + c];
    }
  }
}

inline void horizontal_pass(const float* row, int width, int channels, ColumnTable& table, float* const* out) {
  const int taps = table.taps;
  const float* weight = table.weight.data();
  for (int x = 0; x < width; ++x, weight += taps) {
    const float* in = row + static_cast<int64_t>(table.first[x]) * channels;
    for (int c = 0; c < channels; ++c) {
      float sum = 0.0f;
      for (int j = 0; j < taps; ++j) sum += weight[j] * in[j * channels + c];
      out[c][x] = sum;
    }
  }
}

// One row after the vertical pass, `pixels` long, to a row of the planes.
inline void resize_row(const float* row, int pixels, int width, int channels, ResizeWork& work, float* const* out) {
  if (!work.columns.grouped) {
    if (channels == 3) return horizontal_pass_rgb(row, width, work.columns, out);
    return horizontal_pass(row, width, channels, work.columns, out);
  }
  if (channels == 1) return horizontal_pass_grouped<1>(&row, width, work.columns, out);
  const int64_t stride = whole_cache_lines(pixels + 2 * lanes);
  float* __restrict split = work.split.get(3 * stride);
#pragma omp simd
  for (int x = 0; x < pixels; ++x) {
    split[x] = row[3 * x];
    split[x + stride] = row[3 * x + 1];
    split[x + 2 * stride] = row[3 * x + 2];
  }
  const float* in[3] = {split, split + stride, split + 2 * stride};
  horizontal_pass_grouped<3>(in, width, work.columns, out);
}

// Calls done(first row, last row + 1) after each strip of the view's planes.
template <class Done>
void resize(const AugmentArgs& args, int64_t b, const Planes& view, ResizeWork& work, const Done& done) {
  const AugmentParams& params = args.params[b];
  const int image_width = args.sizes[2 * b + 1], channels = args.channels;
  const Crop crop = crop_of(params, args.sizes[2 * b], image_width);
  const bool bicubic = params.bicubic != 0.0f;
  const ResizeAxis vertical = resize_axis(crop.height, view.height, bicubic);
  fill_columns(resize_axis(crop.width, view.width, bicubic), view.width, channels, params.hflip != 0.0f, work.columns);
  const int64_t stride = static_cast<int64_t>(image_width) * channels;
  const uint8_t* source =
      args.storage + args.offsets[b] + crop.top * stride + static_cast<int64_t>(crop.left) * channels;

  work.rows.resize(static_cast<size_t>(2.0f * vertical.support) + 2);
  work.weights.resize(work.rows.size());
  const int64_t values = static_cast<int64_t>(crop.width) * channels;
  float* row = work.row.get(values + 2 * lanes);
  const auto resize_to = [&](int y) {
    const ResizeWindow window = resize_window(vertical, params.vflip != 0.0f ? view.height - 1 - y : y);
    for (int j = window.begin; j < window.end; ++j) {
      work.rows[j - window.begin] = source + j * stride;
      work.weights[j - window.begin] = resize_weight(vertical, window.center, j) * window.inverse_sum;
    }
    weighted_sum(work.rows.data(), work.weights.data(), window.end - window.begin, row, values);
    float* out[max_channels];
    for (int c = 0; c < channels; ++c) out[c] = view.row(c, y);
    resize_row(row, crop.width, view.width, channels, work, out);
    for (int c = 0; bicubic && c < channels; ++c) {
      for (int x = 0; x < view.width; ++x) out[c][x] = clamp01(out[c][x]);
    }
  };
  for_each_strip(view, [&](int begin, int end) {
    for (int y = begin; y < end; ++y) resize_to(y);
    done(begin, end);
  });
}

}  // namespace
}  // namespace sslfast
